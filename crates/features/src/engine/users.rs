//! Who there is.

use tidemill_core::Timestamp;
use tidemill_core::event::PersonKey;

use super::Engine;
use super::cache::{STATES, key_prefix};
use crate::FeatureError;
use crate::accumulate::EntityState;
use crate::set::USER;

/// Some of the users, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Each with when something was last heard of them.
    pub found: Vec<(PersonKey, Timestamp)>,
    /// After whom to go on; absent at the end.
    pub next: Option<PersonKey>,
}

impl Engine {
    /// Up to `limit` of those whom the product knows, as of the last commit, after one of them. Those who became part of another
    /// are not among them.
    ///
    /// # Errors
    /// When the store fails or a state is damaged.
    pub fn users(&self, after: Option<&PersonKey>, limit: usize) -> Result<Users, FeatureError> {
        let states = key_prefix(self.states.generation(), USER);
        let key_of = |person: &str| [states.as_slice(), person.as_bytes()].concat();
        let prefix = key_of(PersonKey::user("").as_str());
        let after = after.map(|person| key_of(person.as_str()));
        let rows = self
            .store
            .scan(&self.project, STATES, &prefix, after.as_deref(), limit)?;
        let mut users = Users::default();
        for (key, bytes) in &rows {
            let id = String::from_utf8_lossy(&key[prefix.len()..]);
            let person = PersonKey::user(&id);
            if !bytes.starts_with(b"@") {
                let heard = EntityState::updated(bytes).map_err(|error| {
                    FeatureError::damaged(format!("the state of {id}"), error.to_string())
                })?;
                users
                    .found
                    .push((person.clone(), Timestamp::from_micros(heard)));
            }
            users.next = (rows.len() == limit).then_some(person);
        }
        Ok(users)
    }
}
