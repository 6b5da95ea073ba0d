//! The port for the durable log: every accepted event in one order per project.

use std::fmt;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tidemill_core::{Event, Offset, ProjectName, Timestamp};
use tokio::sync::watch;

use crate::StoreError;

/// An event in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct LoggedEvent {
    /// Its place in the project's log.
    pub offset: Offset,
    /// The event.
    pub event: Event,
}

/// What became of an appended event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It is on disk, in this place.
    Stored(Offset),
    /// An event with this message id is on disk already (or stands earlier in the same call).
    Duplicate,
}

/// Something that was sent and is not an event: kept with its bytes so that it can be looked at, mended and replayed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quarantined {
    /// The bytes as they were sent (UTF-8, lossy where they are not).
    pub body: String,
    /// Why.
    pub reason: QuarantineReason,
    /// In words, naming the field and the remedy.
    pub detail: String,
    /// Where it came from: `http`, or the name of an import source.
    pub source: String,
    /// When.
    pub received_at: Timestamp,
}

/// Why something was quarantined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QuarantineReason {
    /// It is not readable as an event at all.
    Unreadable,
    /// A required field is absent.
    MissingField,
    /// A field has the wrong type or an impossible value.
    InvalidField,
    /// Larger than one event may be.
    TooLarge,
    /// The timestamp is more than a day ahead, or before 1970.
    BadTime,
    /// A property is not as the project file declares it.
    SchemaMismatch,
}

impl fmt::Display for QuarantineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "unreadable",
            Self::MissingField => "missing_field",
            Self::InvalidField => "invalid_field",
            Self::TooLarge => "too_large",
            Self::BadTime => "bad_time",
            Self::SchemaMismatch => "schema_mismatch",
        })
    }
}

/// Every accepted event in one order per project, until it has landed in the lake.
///
/// Invariants: `append` returns only after everything it reports as stored or quarantined has been fsynced;
/// offsets of a project are 1, 2, 3, … without gaps; an event whose message id was stored within the
/// deduplication time is not stored again, across restarts too; projects do not see each other.
#[async_trait]
pub trait EventLog: Send + Sync {
    /// Stores events and what was quarantined with them, in order, deduplicated by message id; many concurrent callers
    /// share an fsync. The answer has one entry per event, in order.
    ///
    /// All or nothing: an error acknowledges nothing. Where the disk failed after it was written, what was in the call
    /// may be found stored all the same, as a whole; sent again, it counts once.
    async fn append(
        &self,
        project: &ProjectName,
        events: Vec<Event>,
        quarantined: Vec<Quarantined>,
    ) -> Result<Vec<Appended>, StoreError>;

    /// Up to `limit` events after `after`, in order. Events before the truncation point are gone.
    fn read(
        &self,
        project: &ProjectName,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError>;

    /// The last offset on disk; [`Offset::ZERO`] for an empty log.
    fn last(&self, project: &ProjectName) -> Result<Offset, StoreError>;

    /// Follows the last offset: readers of the tail wait for it to change.
    fn watch(&self, project: &ProjectName) -> Result<watch::Receiver<Offset>, StoreError>;

    /// Forgets events up to and including `up_to`, which have landed and been applied. Offsets go on counting.
    fn truncate(&self, project: &ProjectName, up_to: Offset) -> Result<(), StoreError>;

    /// Forgets the message ids of events received before `before`, for all projects; returns how many.
    fn forget_message_ids(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// What was quarantined, newest first, at most `limit`, with ids smaller than `before` where given.
    fn quarantined(
        &self,
        project: &ProjectName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Quarantined)>, StoreError>;

    /// Forgets quarantined pieces by their ids, on disk when it returns; they stay counted. Returns how many there were.
    fn forget_quarantined(&self, project: &ProjectName, ids: &[u64]) -> Result<u64, StoreError>;

    /// How many events are stored and how many pieces are quarantined, since the beginning of the project.
    fn counts(&self, project: &ProjectName) -> Result<LogCounts, StoreError>;
}

/// Counts of a project's log since its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LogCounts {
    /// Events that were stored.
    pub stored: u64,
    /// Events that were sent again and not stored again.
    pub duplicates: u64,
    /// Pieces that were quarantined.
    pub quarantined: u64,
}
