//! The port for tables: events, decisions, outcomes and datasets, in an open format.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use futures::stream::BoxStream;
use serde::{Deserialize, Serialize};
use tidemill_core::event::PersonKey;
use tidemill_core::{Decision, DecisionId, ModelName, Offset, Outcome, ProjectName};

use crate::event_rows::EventTable;
use crate::query::{QueryAnswer, QueryError, QueryLimits, QueryTable};
use crate::{LoggedEvent, StoreError};

/// A state of one table that can be read again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TableVersion(pub u64);

/// A snapshot of a project's events: what a dataset is built from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsSnapshot {
    /// The table's version; absent while the table is empty.
    pub version: Option<TableVersion>,
    /// The last event in it.
    pub last: Offset,
}

/// A thing with the place in the order in which it is landed: the decision log's or the outcome log's sequence,
/// counting from 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Sequenced<T> {
    /// Its place.
    pub sequence: u64,
    /// The thing.
    pub value: T,
}

/// Rows, batch by batch.
pub type RecordBatches = BoxStream<'static, Result<RecordBatch, StoreError>>;

/// A dataset as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredDataset {
    /// Its version.
    pub version: TableVersion,
    /// What was written down with it.
    pub note: String,
    /// Whether its rows are there still.
    pub has_rows: bool,
}

/// What compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Compacted {
    /// Small files that were replaced.
    pub files_removed: u64,
    /// Files that replaced them.
    pub files_added: u64,
}

/// What was removed of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Erased {
    /// Events.
    pub events: u64,
    /// Decisions.
    pub decisions: u64,
    /// Outcomes.
    pub outcomes: u64,
    /// Datasets that lost their rows, the person's among them.
    pub datasets: u64,
}

/// What is stored about somebody, in the order in which it came.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct About {
    /// Their events.
    pub events: Vec<LoggedEvent>,
    /// What was answered about them.
    pub decisions: Vec<Decision>,
    /// What became of that; without the lists that were taken from.
    pub outcomes: Vec<Outcome>,
}

/// Tables per project. Landing is exactly-once: the last place landed is committed with the data, in the same
/// transaction, and what is at or before it is skipped when it is offered again.
///
/// Reading at a version gives the same rows in the same order for ever (until a person is erased).
#[async_trait]
pub trait Lake: Send + Sync {
    /// Appends events in offset order and returns the last place landed. Those already there are skipped.
    async fn land_events(
        &self,
        project: &ProjectName,
        events: &[LoggedEvent],
    ) -> Result<Offset, StoreError>;

    /// The newest snapshot.
    async fn events_snapshot(&self, project: &ProjectName) -> Result<EventsSnapshot, StoreError>;

    /// The events of a snapshot in offset order, in batches, with bounded memory.
    async fn read_events(
        &self,
        project: &ProjectName,
        snapshot: EventsSnapshot,
    ) -> Result<BoxStream<'static, Result<Vec<LoggedEvent>, StoreError>>, StoreError>;

    /// The events of a snapshot as a table of which only the columns that are asked for are read.
    async fn event_table(
        &self,
        project: &ProjectName,
        snapshot: EventsSnapshot,
    ) -> Result<Arc<dyn EventTable>, StoreError>;

    /// Appends decisions and returns the last sequence landed.
    async fn land_decisions(
        &self,
        project: &ProjectName,
        decisions: &[Sequenced<Decision>],
    ) -> Result<u64, StoreError>;

    /// The last sequence of a landed decision; 0 while there is none.
    async fn decisions_landed(&self, project: &ProjectName) -> Result<u64, StoreError>;

    /// One landed decision.
    async fn decision(
        &self,
        project: &ProjectName,
        id: DecisionId,
    ) -> Result<Option<Decision>, StoreError>;

    /// Appends outcomes and returns the last sequence landed.
    async fn land_outcomes(
        &self,
        project: &ProjectName,
        outcomes: &[Sequenced<Outcome>],
    ) -> Result<u64, StoreError>;

    /// The last sequence of a landed outcome; 0 while there is none.
    async fn outcomes_landed(&self, project: &ProjectName) -> Result<u64, StoreError>;

    /// Replaces a model's dataset table and writes a note down with it, in one commit; earlier datasets stay readable by
    /// their version until they are [removed](Lake::remove_datasets).
    async fn write_dataset(
        &self,
        project: &ProjectName,
        model: &ModelName,
        rows: Vec<RecordBatch>,
        note: &str,
    ) -> Result<TableVersion, StoreError>;

    /// A model's datasets, newest first, older than `before` where given; those whose rows were removed too.
    async fn datasets(
        &self,
        project: &ProjectName,
        model: &ModelName,
        before: Option<TableVersion>,
        limit: usize,
    ) -> Result<Vec<StoredDataset>, StoreError>;

    /// The rows of a model's dataset at a version, in the order in which they were written, in batches; at least one,
    /// for the columns. `NotFound` where there is no such version or its rows were removed.
    async fn read_dataset(
        &self,
        project: &ProjectName,
        model: &ModelName,
        version: TableVersion,
    ) -> Result<RecordBatches, StoreError>;

    /// Removes the rows of all datasets of a model but those of `keep` and the newest; the notes stay. Returns how many
    /// datasets lost their rows.
    async fn remove_datasets(
        &self,
        project: &ProjectName,
        model: &ModelName,
        keep: &[TableVersion],
    ) -> Result<u64, StoreError>;

    /// Everything that is about some persons, by all keys that they were ever named with: the first `limit` of each kind.
    async fn about(
        &self,
        project: &ProjectName,
        persons: &[PersonKey],
        limit: usize,
    ) -> Result<About, StoreError>;

    /// Removes everything that is about some persons, by all keys that they were ever named with: their events, decisions and
    /// outcomes, and the rows of all datasets, which others may be in too (their notes stay). What is removed is gone from the disk
    /// when this returns; who is reading it meanwhile may fail.
    async fn erase(
        &self,
        project: &ProjectName,
        persons: &[PersonKey],
    ) -> Result<Erased, StoreError>;

    /// The tables that can be asked with [`query`](Lake::query): those that have rows, and the newest dataset of each of
    /// `models` as `dataset_<model>`.
    async fn query_tables(
        &self,
        project: &ProjectName,
        models: &[ModelName],
    ) -> Result<Vec<QueryTable>, StoreError>;

    /// Answers a question in SQL over the [tables](Lake::query_tables) as they are now. Nothing can be changed, and no
    /// file outside of them read. `column ->> 'key'` takes a value out of a column that holds JSON, as text; `->` as JSON.
    async fn query(
        &self,
        project: &ProjectName,
        models: &[ModelName],
        sql: &str,
        limits: &QueryLimits,
    ) -> Result<QueryAnswer, QueryError>;

    /// Merges small files of a project's tables where there are many; readers and landing go on meanwhile.
    async fn compact(&self, project: &ProjectName) -> Result<Compacted, StoreError>;
}
