//! A state store in memory, and events and projects for the tests of this crate.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tidemill_core::{Event, Offset, Project, ProjectName, Timestamp};
use tidemill_store::state::StateEntry;
use tidemill_store::{LoggedEvent, StateBatch, StateStore, StoreError};

/// By table and key.
type Rows = BTreeMap<(&'static str, Vec<u8>), Vec<u8>>;

/// Tables of one project; a commit is atomic because the whole store is locked.
#[derive(Default)]
pub(crate) struct MemoryStore {
    rows: Mutex<Rows>,
    /// Fails every commit while set.
    pub(crate) full: Mutex<bool>,
}

impl MemoryStore {
    pub(crate) fn rows(&self, table: &str) -> usize {
        self.rows
            .lock()
            .keys()
            .filter(|(of, _)| *of == table)
            .count()
    }

    pub(crate) fn value_bytes_max(&self, table: &str) -> usize {
        self.rows
            .lock()
            .iter()
            .filter(|((of, _), _)| *of == table)
            .map(|(_, value)| value.len())
            .max()
            .unwrap_or(0)
    }
}

impl StateStore for MemoryStore {
    fn get(
        &self,
        _: &ProjectName,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.lock().get(&(table, key.to_vec())).cloned())
    }

    fn scan(
        &self,
        _: &ProjectName,
        table: &'static str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StoreError> {
        let rows = self.rows.lock();
        let from = rows.range((table, prefix.to_vec())..);
        let fitting = from.take_while(|((of, key), _)| *of == table && key.starts_with(prefix));
        let later =
            fitting.filter(|((_, key), _)| after.is_none_or(|after| key.as_slice() > after));
        Ok(later
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&self, _: &ProjectName, batch: StateBatch) -> Result<(), StoreError> {
        if *self.full.lock() {
            return Err(StoreError::Full {
                action: "commit a batch",
            });
        }
        let mut rows = self.rows.lock();
        for (table, key, value) in batch.changes {
            match value {
                Some(value) => rows.insert((table, key), value),
                None => rows.remove(&(table, key)),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

pub(crate) fn store() -> Arc<MemoryStore> {
    Arc::new(MemoryStore::default())
}

pub(crate) fn project(text: &str) -> Project {
    Project::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) const START: i64 = 1_300_000_000_000_000;

/// The instant that many seconds after the beginning of the tests' time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(START + seconds * 1_000_000)
}

/// An event received when it happened, by fields that replace these.
pub(crate) fn event(offset: u64, seconds: i64, fields: Value) -> LoggedEvent {
    let mut json = json!({
        "message_id": format!("m{offset}"), "kind": "track", "name": "Open", "timestamp": at(seconds), "received_at": at(seconds),
    });
    let (Value::Object(all), Value::Object(fields)) = (&mut json, fields) else {
        panic!("fields are an object")
    };
    all.extend(fields);
    let event: Event = serde_json::from_value(json).unwrap();
    LoggedEvent {
        offset: Offset(offset),
        event,
    }
}
