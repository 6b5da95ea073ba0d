//! The decision log: every answer in the order in which it was given, until it has landed and its outcome is
//! known.

use std::collections::HashSet;
use std::sync::Arc;

use tidemill_core::sync::Mutex;
use tidemill_core::{Decision, DecisionId, ProjectName};
use tidemill_store::lake::Sequenced;
use tidemill_store::{StateBatch, StateStore, StoreError};

/// Decisions by their place in the order.
const DECISIONS: &str = "decisions";
/// Places by decision id.
const IDS: &str = "decision_ids";
/// The last place, under the key `last`.
const META: &str = "decision_meta";
const LAST: &[u8] = b"last";
/// How many decisions are looked at at a time.
const PAGE: usize = 1_000;
/// The first byte of a stored decision.
const FORMAT: u8 = 1;

/// The answers of one project. Appending is a write to the state store without an fsync: an answer does not
/// wait for the disk, and a power cut may lose the newest decisions, never an event.
pub struct DecisionLog {
    project: ProjectName,
    state: Arc<dyn StateStore>,
    last: Mutex<u64>,
}

impl DecisionLog {
    /// Opens the log and finds its end.
    ///
    /// # Errors
    /// When the state store fails or holds something else.
    pub fn open(project: ProjectName, state: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let last = match state.get(&project, META, LAST)? {
            Some(bytes) => sequence_of(&bytes)?,
            None => 0,
        };
        Ok(Self {
            project,
            state,
            last: Mutex::new(last),
        })
    }

    /// Adds a decision and returns its place.
    ///
    /// # Errors
    /// When the state store fails; the decision is then not logged and must not be answered with.
    pub fn append(&self, decision: &Decision) -> Result<u64, StoreError> {
        let mut bytes = vec![FORMAT];
        serde_json::to_writer(&mut bytes, decision).map_err(|source| StoreError::Backend {
            action: "encode a decision",
            source: source.into(),
        })?;
        // the lock makes the places gapless and readable in order: what follows the last place is complete
        let mut last = self.last.lock();
        let sequence = *last + 1;
        let mut batch = StateBatch::default();
        batch.put(DECISIONS, sequence.to_be_bytes(), bytes);
        batch.put(IDS, *decision.id.as_bytes(), sequence.to_be_bytes());
        batch.put(META, LAST, sequence.to_be_bytes());
        self.state.commit(&self.project, batch)?;
        *last = sequence;
        Ok(sequence)
    }

    /// The place of the newest decision; 0 while there is none.
    pub fn last(&self) -> u64 {
        *self.last.lock()
    }

    /// Up to `limit` decisions after a place, in order.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn read(&self, after: u64, limit: usize) -> Result<Vec<Sequenced<Decision>>, StoreError> {
        let entries = self.state.scan(
            &self.project,
            DECISIONS,
            &[],
            Some(&after.to_be_bytes()),
            limit,
        )?;
        entries
            .into_iter()
            .map(|(key, value)| {
                Ok(Sequenced {
                    sequence: sequence_of(&key)?,
                    value: decode(&value)?,
                })
            })
            .collect()
    }

    /// The newest `limit` decisions that are still here, newest first, before a place where given.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn newest(
        &self,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Sequenced<Decision>>, StoreError> {
        let mut end = before.map_or_else(|| self.last(), |before| before.saturating_sub(1));
        let mut newest = Vec::new();
        let mut places = limit as u64;
        while end > 0 && newest.len() < limit {
            let after = end.saturating_sub(places);
            // where some are gone, as many entries reach beyond the end
            let mut page = self.read(after, (end - after) as usize)?;
            page.retain(|decision| decision.sequence <= end);
            newest.extend(page.into_iter().rev());
            (end, places) = (after, places.saturating_mul(2));
        }
        newest.truncate(limit);
        Ok(newest)
    }

    /// One decision, if it is still here; older ones are in the lake.
    ///
    /// # Errors
    /// When the state store fails or the entry is damaged.
    pub fn get(&self, id: DecisionId) -> Result<Option<Decision>, StoreError> {
        let Some(sequence) = self.state.get(&self.project, IDS, id.as_bytes())? else {
            return Ok(None);
        };
        let bytes = self.state.get(&self.project, DECISIONS, &sequence)?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }

    /// Removes the decisions about some persons, and returns how many there were.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn erase(&self, keys: &HashSet<String>) -> Result<usize, StoreError> {
        let (mut after, mut erased) = (Vec::new(), 0);
        loop {
            let page = self
                .state
                .scan(&self.project, DECISIONS, &[], Some(&after), PAGE)?;
            let mut batch = StateBatch::default();
            for (key, value) in &page {
                let decision = decode(value)?;
                if keys.contains(&decision.entity) {
                    batch.remove(IDS, *decision.id.as_bytes());
                    batch.remove(DECISIONS, key.clone());
                    erased += 1;
                }
            }
            if !batch.is_empty() {
                self.state.commit(&self.project, batch)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok(erased),
            }
        }
    }

    /// Forgets up to `limit` of the decisions up to and including a place, and returns how many. They have
    /// landed.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn forget(&self, up_to: u64, limit: usize) -> Result<usize, StoreError> {
        let mut batch = StateBatch::default();
        let mut forgotten = 0;
        for (key, value) in self
            .state
            .scan(&self.project, DECISIONS, &[], None, limit)?
        {
            if sequence_of(&key)? > up_to {
                break;
            }
            batch.remove(IDS, *decode(&value)?.id.as_bytes());
            batch.remove(DECISIONS, key);
            forgotten += 1;
        }
        if forgotten > 0 {
            self.state.commit(&self.project, batch)?;
        }
        Ok(forgotten)
    }
}

fn damaged(detail: impl Into<String>) -> StoreError {
    StoreError::Corrupt {
        what: "the decision log".to_owned(),
        detail: detail.into(),
    }
}

fn sequence_of(bytes: &[u8]) -> Result<u64, StoreError> {
    bytes
        .try_into()
        .map(u64::from_be_bytes)
        .map_err(|_| damaged("a place does not have 8 bytes"))
}

fn decode(bytes: &[u8]) -> Result<Decision, StoreError> {
    match bytes.split_first() {
        Some((&FORMAT, json)) => {
            serde_json::from_slice(json).map_err(|error| damaged(error.to_string()))
        }
        Some((format, _)) => Err(damaged(format!(
            "an entry has format {format}, this version reads {FORMAT}"
        ))),
        None => Err(damaged("an entry is empty")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_store::memory::MemoryState;

    use super::*;

    /// Decisions 1 to 40 about four persons in turn.
    fn log() -> DecisionLog {
        let state = Arc::new(MemoryState::default());
        let log = DecisionLog::open("shop".parse().unwrap(), state).unwrap();
        for number in 1..=40_u8 {
            let decision = json!({
                "id": DecisionId::new(tidemill_core::Timestamp::EPOCH, [number; 10]), "model": "m", "version": 1,
                "entity": format!("user:u{}", number % 4), "moment": "2026-01-01T00:00:00Z", "offset": 1, "features": [],
                "answer": { "score": 0.5 }, "latency_us": 1,
            });
            log.append(&serde_json::from_value(decision).unwrap())
                .unwrap();
        }
        log
    }

    #[track_caller]
    fn check(log: &DecisionLog, before: Option<u64>, limit: usize, expected: &[u64]) {
        let newest = log.newest(before, limit).unwrap();
        let places: Vec<u64> = newest.iter().map(|decision| decision.sequence).collect();
        assert_eq!(places, expected);
    }

    #[test]
    fn the_newest_come_before_a_place_also_where_some_are_gone() {
        let log = log();
        check(&log, None, 3, &[40, 39, 38]);
        check(&log, Some(38), 2, &[37, 36]);
        check(&log, Some(3), 5, &[2, 1]);
        check(&log, Some(1), 5, &[]);
        let gone = [1, 2, 3].map(|person| format!("user:u{person}"));
        assert_eq!(log.erase(&HashSet::from(gone)).unwrap(), 30);
        check(&log, None, 3, &[40, 36, 32]);
        check(&log, Some(32), 2, &[28, 24]);
        check(&log, Some(9), 5, &[8, 4]);
        assert_eq!(log.forget(20, 100).unwrap(), 5);
        check(&log, Some(29), 5, &[28, 24]);
    }
}
