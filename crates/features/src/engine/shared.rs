//! What does not depend on the definitions: items, timelines, what has been seen.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidemill_core::ProjectName;
use tidemill_core::event::PersonKey;
use tidemill_store::{LoggedEvent, StateBatch, StateStore};

use super::EngineOptions;
use super::items::Items;
use super::timeline::Timelines;
use crate::FeatureError;
use crate::seen::{SeenEvent, SeenEvents};

/// The table of what has been seen: the event's name → JSON of [`SeenEvent`].
const SEEN: &str = "seen_events";

/// What does not depend on the definitions.
pub(super) struct Shared {
    pub(super) items: Items,
    pub(super) timelines: Timelines,
    pub(super) seen: SeenEvents,
    /// Names whose entry in `seen` has changed since the last commit.
    seen_changed: BTreeSet<String>,
}

impl Shared {
    pub(super) fn open(
        project: &ProjectName,
        store: &Arc<dyn StateStore>,
        options: EngineOptions,
    ) -> Result<Self, FeatureError> {
        Ok(Self {
            items: Items::new(project.clone(), store.clone()),
            timelines: Timelines::new(project.clone(), store.clone(), options.timeline_events),
            seen: read_seen(project, &**store)?,
            seen_changed: BTreeSet::new(),
        })
    }

    /// Takes an event; returns whether it changes an item that it does not name.
    pub(super) fn apply(
        &mut self,
        logged: &LoggedEvent,
        person: Option<&PersonKey>,
    ) -> Result<bool, FeatureError> {
        let without_id = self.items.apply(&logged.event)?;
        if let Some(person) = person {
            self.timelines.add(person, logged);
        }
        if self.seen.add(&logged.event) && !self.seen_changed.contains(&logged.event.name) {
            self.seen_changed.insert(logged.event.name.clone());
        }
        Ok(without_id)
    }

    pub(super) fn collect(&self, batch: &mut StateBatch) -> Result<(), FeatureError> {
        self.items.collect(batch)?;
        self.timelines.collect(batch)?;
        let damaged =
            |error: serde_json::Error| FeatureError::damaged("what was seen", error.to_string());
        for name in &self.seen_changed {
            if let Some(seen) = self.seen.events.get(name) {
                batch.put(
                    SEEN,
                    format!(".{name}"),
                    serde_json::to_vec(seen).map_err(damaged)?,
                );
            }
        }
        if self.seen.other_events > 0 {
            batch.put(SEEN, "", self.seen.other_events.to_string());
        }
        Ok(())
    }

    pub(super) fn committed(&mut self) {
        self.items.committed();
        self.timelines.committed();
        self.seen_changed.clear();
    }
}

/// What has been seen of each kind of event, as it was committed last: readable before an engine is open.
///
/// # Errors
/// When the store fails or an entry is damaged.
pub fn read_seen(
    project: &ProjectName,
    store: &dyn StateStore,
) -> Result<SeenEvents, FeatureError> {
    let mut seen = SeenEvents::default();
    for (name, bytes) in store.scan(project, SEEN, b"", None, usize::MAX)? {
        let name = String::from_utf8_lossy(&name).into_owned();
        let damaged = |error: serde_json::Error| {
            FeatureError::damaged(format!("what was seen of {name}"), error.to_string())
        };
        if name.is_empty() {
            seen.other_events = serde_json::from_slice(&bytes).map_err(damaged)?;
        } else {
            let event: SeenEvent = serde_json::from_slice(&bytes).map_err(damaged)?;
            // The key has a mark in front, so that no name is empty.
            let name = name.strip_prefix('.').unwrap_or(&name);
            seen.events.insert(name.to_owned(), event);
        }
    }
    Ok(seen)
}
