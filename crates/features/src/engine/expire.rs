//! States of those who have not done anything for so long that what is known of them begins anew: they need not be stored.

use tidemill_store::StateBatch;

use super::Engine;
use super::cache::{STATES, key_prefix};
use crate::FeatureError;
use crate::accumulate::EntityState;

/// Where the search for idle states is: an entity of the set and the last key that was looked at.
pub(super) type Search = Option<(usize, Option<Vec<u8>>)>;

/// What a step of the search did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Expired {
    /// States that were looked at.
    pub looked_at: usize,
    /// Of these, those that were removed.
    pub removed: usize,
    /// Whether all have been looked at: the next step begins from the front.
    pub finished: bool,
}

impl Engine {
    /// Looks at the next `limit` stored states and removes those that are forgotten by now, which nobody can tell from having none.
    ///
    /// # Errors
    /// When the store fails or a state is damaged.
    pub fn expire(&self, limit: usize) -> Result<Expired, FeatureError> {
        let mut writer = self.writer.lock();
        let now = self.now().micros();
        let (entity, after) = writer.search.take().unwrap_or_default();
        let Some(definition) = self.set.entities().get(entity) else {
            return Ok(Expired {
                finished: true,
                ..Expired::default()
            });
        };
        if definition.plan.forget_after.is_none() {
            writer.search = Some((entity + 1, None));
            return Ok(Expired::default());
        }
        let prefix = key_prefix(writer.checkpoint.generation, entity);
        let rows = self.store.scan(
            &self.project,
            STATES,
            &prefix,
            after.as_deref(),
            limit.max(1),
        )?;
        let mut expired = Expired {
            looked_at: rows.len(),
            ..Expired::default()
        };
        let mut batch = StateBatch::default();
        for (key, bytes) in &rows {
            // a pointer to another person stays: it says who is who
            if bytes.starts_with(b"@") {
                continue;
            }
            let id = String::from_utf8_lossy(&key[prefix.len()..]);
            let updated = EntityState::updated(bytes).map_err(|error| {
                FeatureError::damaged(format!("the state of {id}"), error.to_string())
            })?;
            if definition.plan.forgets(updated, now) && self.states.remove(entity, &id) {
                batch.remove(STATES, key.as_slice());
                expired.removed += 1;
            }
        }
        if expired.removed > 0 {
            self.store.commit(&self.project, batch)?;
        }
        writer.search = Some(match rows.last() {
            Some((key, _)) if rows.len() == limit.max(1) => (entity, Some(key.clone())),
            _ => (entity + 1, None),
        });
        Ok(expired)
    }
}
