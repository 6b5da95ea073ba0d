//! The embedded event log and state store, on the key-value store fjall.
//!
//! They are two fjall databases, because a database has one journal: an fsync of the log must not carry the
//! writes of the online state, which may be lost and are rebuilt from the log.
//!
//! A fjall database refuses every write after one that failed. [`Reopenable`](database) closes such a database and
//! opens it again, so that writing heals when space returns.

mod database;
mod journal;
mod keys;
mod log;
mod received;
mod state;
mod tables;
mod writeback;
mod writer;

pub use log::FjallLog;
pub use state::FjallState;

use crate::{DataFolder, StoreError};

/// Limits of the embedded event log and state store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FjallOptions {
    /// How many calls of `append` may wait for the writer; further ones wait to be let in.
    pub queue_max: usize,
    /// After how many bytes of events one fsync is due, though more are waiting.
    pub batch_bytes_max: usize,
    /// How many of the newest quarantined pieces are kept per project; older ones are forgotten (and stay counted).
    pub quarantined_max: u64,
    /// Memory for blocks read from the log, in bytes.
    pub log_cache_bytes: u64,
    /// Memory for blocks read from the state, in bytes.
    pub state_cache_bytes: u64,
}

impl Default for FjallOptions {
    fn default() -> Self {
        Self {
            queue_max: 1_024,
            batch_bytes_max: 8 << 20,
            quarantined_max: 100_000,
            log_cache_bytes: 32 << 20,
            state_cache_bytes: 128 << 20,
        }
    }
}

/// The event log and the state store of a data folder.
#[derive(Debug)]
pub struct FjallStore {
    /// The event log.
    pub log: FjallLog,
    /// Online state.
    pub state: FjallState,
}

impl FjallStore {
    /// Opens both, or creates them.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where what is stored does not read back as it was written,
    /// [`StoreError::Full`], and those of the file system.
    pub fn open(folder: &DataFolder, options: &FjallOptions) -> Result<Self, StoreError> {
        Ok(Self {
            log: FjallLog::open(folder, options)?,
            state: FjallState::open(folder, options)?,
        })
    }
}
