//! What features cost: the state that is kept for them, on a sample of entities.

use tidemill_core::event::PersonKey;

use super::Engine;
use super::cache::{KEY_PREFIX_BYTES, STATES, key_prefix};
use crate::FeatureError;
use crate::accumulate::EntityState;
use crate::set::USER;

/// What features cost, on a sample of entities.
#[derive(Debug, Clone, PartialEq)]
pub struct StateCosts {
    /// For each column of the set the mean bytes of the state that it is read from, which the windows of one definition
    /// share; absent where no such entity was stored yet.
    pub bytes: Vec<Option<f64>>,
    /// The median bytes of all that is stored of a person.
    pub person_bytes: Option<f64>,
    /// The persons of the sample.
    pub persons: Vec<PersonKey>,
}

impl Engine {
    /// Looks at the stored states of at most `limit` entities of each kind: the first ones by their keys, as of the last
    /// commit.
    ///
    /// # Errors
    /// When the store fails or a state is damaged.
    pub fn state_costs(&self, limit: usize) -> Result<StateCosts, FeatureError> {
        let generation = self.writer.lock().checkpoint.generation;
        let (mut sizes, mut costs) = (
            Vec::new(),
            StateCosts {
                bytes: Vec::new(),
                person_bytes: None,
                persons: Vec::new(),
            },
        );
        for (entity, definition) in self.set.entities().iter().enumerate() {
            let prefix = key_prefix(generation, entity);
            let rows = self
                .store
                .scan(&self.project, STATES, &prefix, None, limit)?;
            let (mut count, mut all) = (0u64, Vec::new());
            let mut sums = vec![0usize; definition.plan.aggregates.len()];
            for (key, bytes) in rows {
                // a pointer to another person is no state
                if bytes.starts_with(b"@") {
                    continue;
                }
                let key = String::from_utf8_lossy(&key[KEY_PREFIX_BYTES..]).into_owned();
                let state = EntityState::decode(&definition.plan, &bytes).map_err(|error| {
                    FeatureError::damaged(format!("the state of {key}"), error.to_string())
                })?;
                let of_state = state.sizes(&definition.plan);
                sums.iter_mut()
                    .zip(of_state)
                    .for_each(|(sum, size)| *sum += size);
                count += 1;
                all.push(bytes.len());
                if entity == USER
                    && let Ok(person) = serde_json::from_value(key.into())
                {
                    costs.persons.push(person);
                }
            }
            let mean = |sum: usize| (count > 0).then(|| sum as f64 / count as f64);
            if entity == USER {
                all.sort_unstable();
                costs.person_bytes = all.get(all.len() / 2).map(|bytes| *bytes as f64);
            }
            sizes.push(sums.into_iter().map(mean).collect::<Vec<_>>());
        }
        for sources in self.set.sources() {
            let of_entity = &sizes[sources.entity];
            let aggregates = sources.aggregates.iter();
            costs
                .bytes
                .push(aggregates.map(|&aggregate| of_entity[aggregate]).sum());
        }
        Ok(costs)
    }
}
