//! What has been imported already, so that an interrupted import goes on and a finished one adds nothing.
//!
//! The log remembers message ids for a limited time, and history is old. So progress is kept here, by the content of
//! the file: its rows, in the order in which they are stored, are counted off. The record follows the append, so after a
//! crash the last rows may be offered again; the log recognises those by their message ids.

use serde::{Deserialize, Serialize};
use tidemill_core::{ProjectName, Timestamp};
use tidemill_store::{StateBatch, StateStore, StoreError};

/// The table of the state store.
const TABLE: &str = "imports";
const PAGE: usize = 1_000;

/// How far the import of one file is. Stored as JSON (format 1); fields are only ever added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) format: u32,
    /// The source.
    pub(super) source: String,
    /// The name of the file when it was last seen.
    pub(super) file: String,
    /// What the rows were read with, hashed: with another mapping, the rows come in another order.
    pub(super) plan: String,
    /// How many rows are done, in the order of their times.
    pub(super) done: u64,
    pub(super) finished: bool,
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) quarantined: u64,
    pub(super) updated_at: Timestamp,
}

/// An import that was begun and not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The source.
    pub source: String,
    /// The file.
    pub file: String,
    /// How many of its rows are done.
    pub rows_done: u64,
    /// When it last went on.
    pub updated_at: Timestamp,
}

fn key(source: &str, content: &str) -> Vec<u8> {
    [source.as_bytes(), &[0], content.as_bytes()].concat()
}

pub(super) fn get(
    state: &dyn StateStore,
    project: &ProjectName,
    source: &str,
    content: &str,
) -> Result<Option<Entry>, StoreError> {
    state
        .get(project, TABLE, &key(source, content))?
        .map(|bytes| decode(&bytes))
        .transpose()
}

/// Puts entries, each with the hash of the file's content, and makes them durable.
pub(super) fn put<'e>(
    state: &dyn StateStore,
    project: &ProjectName,
    entries: impl Iterator<Item = (&'e str, &'e Entry)>,
) -> Result<(), StoreError> {
    let mut batch = StateBatch::default();
    for (content, entry) in entries {
        let bytes = serde_json::to_vec(entry).map_err(|source| StoreError::Backend {
            action: "encode the progress of an import",
            source: source.into(),
        })?;
        batch.put(TABLE, key(&entry.source, content), bytes);
    }
    state.commit(project, batch)?;
    state.flush()
}

/// Imports of a project that were begun and not finished. While there is one, message ids must not be swept from the
/// log, or rows that were stored just before an interruption could be stored twice.
///
/// # Errors
/// When the state cannot be read.
pub fn unfinished(
    state: &dyn StateStore,
    project: &ProjectName,
) -> Result<Vec<Unfinished>, StoreError> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(project, TABLE, &[], after.as_deref(), PAGE)?;
        for (_, bytes) in &page {
            let entry = decode(bytes)?;
            if !entry.finished {
                found.push(Unfinished {
                    source: entry.source,
                    file: entry.file,
                    rows_done: entry.done,
                    updated_at: entry.updated_at,
                });
            }
        }
        match page.last() {
            Some((key, _)) if page.len() == PAGE => after = Some(key.clone()),
            _ => return Ok(found),
        }
    }
}

fn decode(bytes: &[u8]) -> Result<Entry, StoreError> {
    serde_json::from_slice(bytes).map_err(|error| StoreError::Corrupt {
        what: "the progress of an import".to_owned(),
        detail: error.to_string(),
    })
}
