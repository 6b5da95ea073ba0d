//! Items that nobody had taken when a version was learnt get their links while it serves.

use std::collections::HashSet;

use tidemill_core::Offset;
use tidemill_core::event::PersonKey;
use tidemill_features::value;
use tidemill_serve::recommend::{CaughtUp, RecommendChampion};
use tidemill_store::LoggedEvent;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// How many persons are looked at in one step of the consumer.
const PERSONS_AT_ONCE: usize = 200;

impl ProjectLoop {
    /// Shows the versions that recommend what was taken by events that were just applied; those up to `before` had been seen. The caller
    /// is the consumer.
    pub(crate) fn observe_fresh(
        &self,
        events: &[LoggedEvent],
        before: Offset,
    ) -> Result<(), CycleError> {
        let Some(items) = &self.project.items else {
            return Ok(());
        };
        let engine = self.engine();
        for slot in self.registry.recommenders() {
            let new = events.iter().filter(|logged| logged.offset > before);
            let signals = new.filter(|logged| slot.model.signals.contains_key(&logged.event.name));
            let mut taken = Vec::new();
            for logged in signals {
                let named = logged.event.field(&items.id);
                let named = named.as_deref().and_then(value::category);
                if let (Some(person), Some(item)) = (logged.event.person(), named) {
                    taken.push((engine.canonical(&person)?, item.into_owned()));
                }
            }
            for version in slot.versions() {
                let news = taken.iter();
                let news = news.filter(|(person, item)| version.is_news(person, item));
                let persons: HashSet<&PersonKey> = news.map(|(person, _)| person).collect();
                for person in persons {
                    self.show(&version, person, before)?;
                }
            }
        }
        Ok(())
    }

    /// Shows versions that have begun to answer what the next persons have taken since they were learnt, and returns how many persons
    /// those are; 0 when everybody was shown. The caller is the consumer, so that nobody is counted twice.
    pub(crate) fn catch_up_fresh(&self) -> Result<usize, CycleError> {
        let mut looked_at = 0;
        let slots = self.registry.recommenders();
        for (slot, champion) in slots.flat_map(|slot| slot.versions().map(move |one| (slot, one))) {
            let engine = self.engine();
            let after = match champion.caught_up() {
                CaughtUp::Fully => continue,
                CaughtUp::UpTo(person) => Some(person),
                CaughtUp::Not => {
                    // persons are listed as of the last commit; those who come later are shown by their events
                    engine.commit()?;
                    None
                }
            };
            let people = engine.people(after.as_ref(), PERSONS_AT_ONCE)?;
            looked_at += people.found.len().max(1);
            let learnt_until = champion.package.learnt_until;
            let since = people
                .found
                .iter()
                .filter(|(_, heard)| *heard >= learnt_until);
            for (person, _) in since {
                // whoever cannot be read is left out: the others must not wait for it again and again
                if let Err(error) = self.show(&champion, person, engine.applied()) {
                    tracing::warn!(model = %slot.model.name, error = describe(&error), "what somebody took since is not counted");
                }
            }
            champion.set_caught_up(people.next.map_or(CaughtUp::Fully, CaughtUp::UpTo));
        }
        Ok(looked_at)
    }

    /// Shows a version what somebody has taken, of which what is after an offset is new to it.
    fn show(
        &self,
        champion: &RecommendChampion,
        person: &PersonKey,
        after: Offset,
    ) -> Result<(), CycleError> {
        let signals = champion.package.signals.iter();
        let signals: Vec<&str> = signals.map(|signal| signal.event.as_str()).collect();
        let history = self.engine().history(person, self.clock.now(), &signals)?;
        champion.observe(&history, after);
        Ok(())
    }
}
