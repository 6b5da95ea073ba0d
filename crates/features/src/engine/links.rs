//! Who is who, as the states of users say it: a person's key holds either a state or a pointer to another person.

use std::sync::Arc;

use tidemill_core::event::PersonKey;
use tidemill_core::{Event, Timestamp};

use super::cache::Slot;
use super::{Engine, count};
use crate::FeatureError;
use crate::accumulate::EntityState;
use crate::identity::{self, Links};
use crate::set::USER;

/// Who is who, as the user's slots in the cache say it.
pub(super) struct CacheLinks<'e> {
    pub(super) engine: &'e Engine,
    pub(super) now: Timestamp,
    /// Who became part of whom.
    pub(super) merges: Vec<(PersonKey, PersonKey)>,
}

impl Links for CacheLinks<'_> {
    type Error = FeatureError;

    fn parent(&mut self, key: &PersonKey) -> Result<Option<PersonKey>, FeatureError> {
        Ok(match self.engine.states.get(USER, key.as_str())? {
            Some(Slot::Link(parent)) => Some(parent),
            Some(Slot::State(_)) | None => None,
        })
    }

    fn point(
        &mut self,
        key: &PersonKey,
        parent: &PersonKey,
        merge: bool,
    ) -> Result<(), FeatureError> {
        let states = &self.engine.states;
        let own = states.get(USER, key.as_str())?;
        states.put(USER, &Arc::from(key.as_str()), Slot::Link(parent.clone()));
        if !merge {
            return Ok(());
        }
        if let Some(Slot::State(own)) = own {
            let plan = &self.engine.set.entities()[USER].plan;
            let (own, now) = (EntityState::clone(&own), self.now);
            states.update(USER, &Arc::from(parent.as_str()), |state| {
                state.merge(plan, own, now);
            })?;
            count(&self.engine.counters.merges, 1);
            self.merges.push((key.clone(), parent.clone()));
        }
        Ok(())
    }
}

/// Who became part of whom by an event that the states have seen already.
pub(super) fn joined_earlier(
    links: &mut CacheLinks<'_>,
    event: &Event,
) -> Result<Vec<(PersonKey, PersonKey)>, FeatureError> {
    let mut merges = Vec::new();
    for from in identity::keys_joined(event) {
        let into = identity::canonical(links, &from)?;
        if into != from {
            merges.push((from, into));
        }
    }
    Ok(merges)
}
