//! What somebody took, for those who recommend.

use std::sync::Arc;

use tidemill_core::event::PersonKey;
use tidemill_core::{Offset, Timestamp};

use super::Engine;
use crate::FeatureError;
use crate::set::USER;
use crate::value::Value;

/// What somebody took up to a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The person after joining identities.
    pub person: PersonKey,
    /// Whether anything has been seen of them.
    pub known: bool,
    /// The last event that it has seen.
    pub offset: Offset,
    /// The moment at which it holds: the one that was asked for, or the engine's time if that is later.
    pub moment: Timestamp,
    /// What was taken, oldest first; the newest of each signal.
    pub taken: Vec<Taken>,
}

/// One item that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// The item.
    pub item: Arc<str>,
    /// Which of the events that were asked for.
    pub signal: usize,
    /// When it happened.
    pub timestamp: Timestamp,
    /// Its event in the log.
    pub offset: Offset,
}

impl Engine {
    /// What somebody took by some of the events that models recommend by.
    ///
    /// # Errors
    /// When the store fails.
    pub fn history(
        &self,
        person: &PersonKey,
        moment: Timestamp,
        signals: &[&str],
    ) -> Result<History, FeatureError> {
        let position = self.position.read();
        let moment = moment.max(position.now);
        let offset = position.applied;
        let person = self.canonical(person)?;
        let state = self.state(USER, person.as_str())?;
        drop(position);
        let plan = &self.set.entities()[USER].plan;
        let mut taken = Vec::new();
        if let Some(state) = &state {
            for (signal, event) in signals.iter().enumerate() {
                let Some(aggregate) = self.set.history(event) else {
                    continue;
                };
                for (place, value) in state.newest(plan, aggregate, moment) {
                    if let Value::Category(item) = value {
                        let timestamp = Timestamp::from_micros(place.timestamp);
                        let one = Taken {
                            item,
                            signal,
                            timestamp,
                            offset: Offset(place.offset),
                        };
                        taken.push((place, one));
                    }
                }
            }
        }
        taken.sort_by_key(|(place, _)| *place);
        Ok(History {
            known: state.is_some_and(|state| !state.is_forgotten(plan, moment)),
            person,
            offset,
            moment,
            taken: taken.into_iter().map(|(_, one)| one).collect(),
        })
    }

    /// All items as they are now, in the order of their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub fn items(&self) -> Result<Vec<tidemill_core::Item>, FeatureError> {
        self.shared
            .as_ref()
            .map_or(Ok(Vec::new()), |shared| shared.read().items.all())
    }
}
