//! Who there is.

use tidemill_core::Timestamp;
use tidemill_core::event::PersonKey;
use tidemill_store::StateBatch;

use super::Engine;
use super::cache::{STATES, key_prefix};
use crate::FeatureError;
use crate::accumulate::EntityState;
use crate::set::USER;

/// How many states are looked at at a time.
const PAGE: usize = 10_000;

/// Some persons, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users {
    /// Each with when something was last heard of them.
    pub found: Vec<(PersonKey, Timestamp)>,
    /// After whom to go on; absent at the end.
    pub next: Option<PersonKey>,
}

impl Engine {
    /// All keys that stand for the same person as one of them, as of the last commit, that one included.
    ///
    /// # Errors
    /// When the store fails.
    pub fn keys_of(&self, person: &PersonKey) -> Result<Vec<PersonKey>, FeatureError> {
        let canonical = self.canonical(person)?;
        let prefix = key_prefix(self.states.generation(), USER);
        let mut links = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let rows = self
                .store
                .scan(&self.project, STATES, &prefix, after.as_deref(), PAGE)?;
            for (key, bytes) in &rows {
                let from = std::str::from_utf8(&key[prefix.len()..]).unwrap_or_default();
                let to = bytes.strip_prefix(b"@").map(String::from_utf8_lossy);
                let ends = to.map(|to| (PersonKey::written(from), PersonKey::written(&to)));
                if let Some((Some(from), Some(to))) = ends {
                    links.push((from, to));
                }
            }
            match rows.last() {
                Some((key, _)) if rows.len() == PAGE => after = Some(key.clone()),
                _ => break,
            }
        }
        let mut keys = vec![canonical];
        if !keys.contains(person) {
            keys.push(person.clone());
        }
        // links may lead over others
        loop {
            let more = links
                .iter()
                .filter(|(from, to)| keys.contains(to) && !keys.contains(from));
            let more: Vec<PersonKey> = more.map(|(from, _)| from.clone()).collect();
            if more.is_empty() {
                return Ok(keys);
            }
            keys.extend(more);
        }
    }

    /// Forgets the newest events of a person. Their states go when the states are made anew.
    ///
    /// # Errors
    /// When the store fails.
    pub fn forget_timeline(&self, keys: &[PersonKey]) -> Result<(), FeatureError> {
        let Some(shared) = &self.shared else {
            return Ok(());
        };
        let mut batch = StateBatch::default();
        shared.write().timelines.forget(&mut batch, keys)?;
        Ok(self.store.commit(&self.project, batch)?)
    }

    /// Up to `limit` of those whom the product knows, as of the last commit, after one of them. Those who became part of another
    /// are not among them.
    ///
    /// # Errors
    /// When the store fails or a state is damaged.
    pub fn users(&self, after: Option<&PersonKey>, limit: usize) -> Result<Users, FeatureError> {
        self.people_whose_key_begins(PersonKey::user("").as_str(), after, limit)
    }

    /// The same of everybody, known to the product or not.
    ///
    /// # Errors
    /// As [`users`](Self::users).
    pub fn people(&self, after: Option<&PersonKey>, limit: usize) -> Result<Users, FeatureError> {
        self.people_whose_key_begins("", after, limit)
    }

    fn people_whose_key_begins(
        &self,
        begin: &str,
        after: Option<&PersonKey>,
        limit: usize,
    ) -> Result<Users, FeatureError> {
        let states = key_prefix(self.states.generation(), USER);
        let key_of = |person: &str| [states.as_slice(), person.as_bytes()].concat();
        let prefix = key_of(begin);
        let after = after.map(|person| key_of(person.as_str()));
        let rows = self
            .store
            .scan(&self.project, STATES, &prefix, after.as_deref(), limit)?;
        let mut users = Users::default();
        for (key, bytes) in &rows {
            let written = String::from_utf8_lossy(&key[states.len()..]);
            let Some(person) = PersonKey::written(&written) else {
                return Err(FeatureError::damaged(
                    format!("the state of {written}"),
                    "that is no person's key".to_owned(),
                ));
            };
            if !bytes.starts_with(b"@") {
                let heard = EntityState::updated(bytes).map_err(|error| {
                    FeatureError::damaged(format!("the state of {person}"), error.to_string())
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
