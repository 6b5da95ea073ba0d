//! The embedded lake: Delta Lake tables on local files, which DuckDB, Spark, Trino and pandas read as they are.
//!
//! ```text
//! lake/<project>/events/date=2011-12-09/part-….parquet      partitioned by the day of the timestamp
//! lake/<project>/decisions/…                                by the day of the moment
//! lake/<project>/outcomes/…                                 by the day on which they became certain
//! lake/<project>/datasets/<model>/…                         not partitioned: the rows stand in their order
//! ```
//!
//! What has landed is noted in the Delta log itself, as the version of an application transaction
//! (`tidemill/events` …) in the commit that adds the rows: so that landing is exactly-once.
//!
//! Rows of events are never changed, only ever appended in offset order, and merged into larger files. A snapshot of
//! events is therefore "the rows up to an offset", and is read from the newest files.

mod about;
mod columns;
mod compaction;
mod datasets;
mod decisions;
mod disk;
mod events;
mod ordered;
mod outcomes;
mod query;
mod table;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::record_batch::RecordBatch;
use deltalake_core::DeltaTable;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::sync::Mutex;
use tidemill_core::{Decision, DecisionId, EventKind, ModelName, Offset, Outcome, ProjectName};
use tokio::sync::{OwnedMutexGuard, Semaphore, mpsc};

use self::datasets::Datasets;
pub(crate) use self::events::encode as encode_events;
use self::ordered::{OrderedRows, Selection};
use self::table::{DataFile, Open, Table, TableSpec};
use crate::event_rows::{EventColumns, EventRows, EventScan, EventTable};
use crate::lake::{
    About, Compacted, Erased, EventsSnapshot, RecordBatches, Sequenced, StoredDataset, TableVersion,
};
use crate::local::blocking;
use crate::query::{QueryAnswer, QueryError, QueryLimits, QueryTable};
use crate::{DataFolder, Lake, LoggedEvent, StoreError};

/// How many rows are encoded before other tasks of the executor get their turn.
const ROWS_PER_TURN: usize = 512;

/// How many events a reader gets at a time, about.
const EVENTS_PER_CHUNK: usize = 4_096;

/// How many chunks of events are decoded ahead of the reader.
const CHUNKS_AHEAD: usize = 4;

/// How many questions in SQL are answered at one time; others wait.
const QUESTIONS_MAX: usize = 2;

/// Limits of the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeltaOptions {
    /// How large a file may become by merging, in bytes.
    pub file_bytes_max: u64,
    /// From how many small files (below half of `file_bytes_max`) of one day on they are merged; at least 2.
    pub small_files_min: usize,
}

impl Default for DeltaOptions {
    fn default() -> Self {
        Self {
            file_bytes_max: 128 << 20,
            small_files_min: 8,
        }
    }
}

/// [`Lake`] on Delta tables in local files.
#[derive(Debug)]
pub struct DeltaLake {
    folder: DataFolder,
    options: DeltaOptions,
    /// By their folder below the lake.
    tables: Mutex<HashMap<String, Arc<Table>>>,
    /// Held while a dataset is written or removed.
    datasets: tokio::sync::Mutex<()>,
    /// The questions that may be answered at one time: each may hold memory.
    questions: Semaphore,
}

/// A lake whose tables nobody changes until this is dropped.
pub(crate) struct Unchanged<'l> {
    _datasets: tokio::sync::MutexGuard<'l, ()>,
    _tables: Vec<OwnedMutexGuard<Option<Open>>>,
}

impl DeltaLake {
    /// The lake of a data folder. Tables come into being when first written.
    pub fn open(folder: &DataFolder, options: &DeltaOptions) -> Self {
        Self {
            folder: folder.clone(),
            options: options.clone(),
            tables: Mutex::default(),
            datasets: tokio::sync::Mutex::default(),
            questions: Semaphore::new(QUESTIONS_MAX),
        }
    }

    /// Keeps everybody from changing a table or removing rows, once who does so at the moment is done; reading goes on. A table that is
    /// first written later may come to be, and whoever wants a moment of all tables lets nothing land meanwhile.
    ///
    /// # Errors
    /// When a table cannot be opened.
    pub(crate) async fn unchanged(&self) -> Result<Unchanged<'_>, StoreError> {
        let datasets = self.datasets.lock().await;
        let tables: Vec<Arc<Table>> = self.tables.lock().values().cloned().collect();
        let mut held = Vec::with_capacity(tables.len());
        for table in tables {
            held.push(table.lock().await?);
        }
        Ok(Unchanged {
            _datasets: datasets,
            _tables: held,
        })
    }

    fn table(&self, project: &ProjectName, name: &str, spec: fn() -> TableSpec) -> Arc<Table> {
        let key = format!("{project}/{name}");
        let folder = self.folder.lake().join(&key);
        let mut tables = self.tables.lock();
        Arc::clone(
            tables
                .entry(key)
                .or_insert_with(|| Arc::new(Table::new(folder, spec(), self.options.clone()))),
        )
    }

    fn events(&self, project: &ProjectName) -> Arc<Table> {
        self.table(project, "events", events::spec)
    }

    /// The files that have the events of a snapshot, and its last event.
    async fn files_of_events(
        &self,
        project: &ProjectName,
        snapshot: EventsSnapshot,
    ) -> Result<(Vec<DataFile>, Offset), StoreError> {
        if snapshot.last == Offset::ZERO {
            return Ok((Vec::new(), Offset::ZERO));
        }
        let table = self.events(project);
        if table.landed().await? < snapshot.last.0 {
            return Err(StoreError::NotFound(format!(
                "event {} of {project} in the lake",
                snapshot.last
            )));
        }
        let (_, files) = table.files().await?.unwrap_or_default();
        Ok((files, snapshot.last))
    }

    fn decisions(&self, project: &ProjectName) -> Arc<Table> {
        self.table(project, "decisions", decisions::spec)
    }

    fn outcomes(&self, project: &ProjectName) -> Arc<Table> {
        self.table(project, "outcomes", outcomes::spec)
    }

    fn datasets_of(&self, project: &ProjectName, model: &ModelName) -> Datasets {
        let folder = self.folder.lake().join(project.as_str());
        Datasets {
            called: format!("the dataset of {model} of {project}"),
            folder: folder.join("datasets").join(model.as_str()),
            options: self.options.clone(),
        }
    }
}

impl DeltaLake {
    /// The tables that can be asked, as they are now, with their names.
    async fn queried(
        &self,
        project: &ProjectName,
        models: &[ModelName],
    ) -> Result<Vec<(String, DeltaTable)>, StoreError> {
        let logs = [
            ("events", self.events(project)),
            ("decisions", self.decisions(project)),
            ("outcomes", self.outcomes(project)),
        ];
        let logs = logs.map(|(name, table)| (name.to_owned(), table));
        let datasets = models.iter().map(|model| {
            let table = self.datasets_of(project, model).table();
            (format!("dataset_{model}"), Arc::new(table))
        });
        let mut opened = Vec::new();
        for (name, table) in logs.into_iter().chain(datasets) {
            if let Some(table) = table.opened().await? {
                opened.push((name, table));
            }
        }
        Ok(opened)
    }
}

/// The events of a snapshot, to be read column by column.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct DeltaEvents {
    /// The files with the smallest place of each.
    files: Vec<(u64, PathBuf)>,
    last: Offset,
}

/// Opens the events of a snapshot from their [description](EventTable::description), in a process that sees the same files.
///
/// # Errors
/// When the text is no such description.
pub fn open_events(description: &str) -> Result<Arc<dyn EventTable>, StoreError> {
    let events: Result<DeltaEvents, _> = serde_json::from_str(description);
    match events {
        Ok(events) => Ok(Arc::new(events)),
        Err(error) => Err(StoreError::corrupt("the description of events", error)),
    }
}

impl EventTable for DeltaEvents {
    fn scan(&self, columns: EventColumns, kinds: Option<&'static [EventKind]>) -> EventScan {
        let texts = |kinds: &[EventKind]| kinds.iter().map(|kind| kind.as_str()).collect();
        let selection = Selection {
            columns: columns.names(),
            repeated: EventColumns::REPEATED,
            only: kinds.map(|kinds| (events::KIND, texts(kinds))),
        };
        let rows = OrderedRows::of(self.files.clone(), events::OFFSET, self.last.0, selection);
        Box::new(rows.map(move |batch| EventRows::new(&batch?, columns)))
    }

    fn description(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }
}

/// What rows are, batch by batch.
fn decoded<T>(
    rows: &[RecordBatch],
    decode: fn(&RecordBatch) -> Result<Vec<T>, StoreError>,
) -> Result<Vec<T>, StoreError> {
    let batches: Vec<Vec<T>> = rows.iter().map(decode).collect::<Result<_, _>>()?;
    Ok(batches.into_iter().flatten().collect())
}

/// Appends what has not landed yet and returns the last place landed.
async fn land<T>(
    table: &Table,
    things: &[T],
    place: fn(&T) -> u64,
    encode: fn(&[T]) -> Result<RecordBatch, StoreError>,
) -> Result<u64, StoreError> {
    if let Some(pair) = things
        .windows(2)
        .find(|pair| place(&pair[0]) >= place(&pair[1]))
    {
        let text = format!("{} stands before {}", place(&pair[0]), place(&pair[1]));
        return Err(StoreError::backend("land what is not in order", text));
    }
    let current = table.lock().await?;
    let landed = current.as_ref().map_or(0, |open| open.landed);
    let new = &things[things.partition_point(|thing| place(thing) <= landed)..];
    let Some(last) = new.last().map(place) else {
        return Ok(landed);
    };
    let mut rows = Vec::with_capacity(new.len() / ROWS_PER_TURN + 1);
    for chunk in new.chunks(ROWS_PER_TURN) {
        rows.push(encode(chunk)?);
        tokio::task::yield_now().await;
    }
    table.append(current, rows, last).await?;
    Ok(last)
}

/// Rows of events up to an offset, in chunks that a bounded number of tasks decodes ahead of the reader.
fn stream_events(
    files: Vec<DataFile>,
    last: Offset,
) -> BoxStream<'static, Result<Vec<LoggedEvent>, StoreError>> {
    let (sender, receiver) = mpsc::channel::<Result<Vec<RecordBatch>, StoreError>>(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        let (mut chunk, mut count) = (Vec::new(), 0);
        for rows in OrderedRows::new(files, events::OFFSET, last.0, Selection::default()) {
            let full = match rows {
                Ok(rows) => {
                    count += rows.num_rows();
                    chunk.push(rows);
                    count >= EVENTS_PER_CHUNK
                }
                Err(error) => {
                    // A reader that has gone away does not need to know.
                    let _ = sender.blocking_send(Ok(std::mem::take(&mut chunk)));
                    let _ = sender.blocking_send(Err(error));
                    return;
                }
            };
            if full {
                count = 0;
                if sender
                    .blocking_send(Ok(std::mem::take(&mut chunk)))
                    .is_err()
                {
                    return;
                }
            }
        }
        let _ = sender.blocking_send(Ok(chunk));
    });
    stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|chunk| (chunk, receiver))
    })
    .map(|chunk| async move {
        let chunk = chunk?;
        blocking(move || {
            let mut events = Vec::with_capacity(chunk.iter().map(RecordBatch::num_rows).sum());
            for rows in &chunk {
                events.append(&mut events::decode(rows)?);
            }
            Ok(events)
        })
        .await
    })
    .buffered(CHUNKS_AHEAD)
    .filter(|chunk| std::future::ready(!matches!(chunk, Ok(events) if events.is_empty())))
    .boxed()
}

#[async_trait]
impl Lake for DeltaLake {
    async fn land_events(
        &self,
        project: &ProjectName,
        events: &[LoggedEvent],
    ) -> Result<Offset, StoreError> {
        let table = self.events(project);
        land(&table, events, |logged| logged.offset.0, events::encode)
            .await
            .map(Offset)
    }

    async fn events_snapshot(&self, project: &ProjectName) -> Result<EventsSnapshot, StoreError> {
        let table = self.events(project);
        let current = table.lock().await?;
        Ok(current.as_ref().map_or(
            EventsSnapshot {
                version: None,
                last: Offset::ZERO,
            },
            |open| EventsSnapshot {
                version: open.table.version().map(TableVersion),
                last: Offset(open.landed),
            },
        ))
    }

    async fn read_events(
        &self,
        project: &ProjectName,
        snapshot: EventsSnapshot,
    ) -> Result<BoxStream<'static, Result<Vec<LoggedEvent>, StoreError>>, StoreError> {
        let (files, last) = self.files_of_events(project, snapshot).await?;
        Ok(stream_events(files, last))
    }

    async fn event_table(
        &self,
        project: &ProjectName,
        snapshot: EventsSnapshot,
    ) -> Result<Arc<dyn EventTable>, StoreError> {
        let (files, last) = self.files_of_events(project, snapshot).await?;
        let files = ordered::places(files, events::OFFSET);
        Ok(Arc::new(DeltaEvents { files, last }))
    }

    async fn land_decisions(
        &self,
        project: &ProjectName,
        decisions: &[Sequenced<Decision>],
    ) -> Result<u64, StoreError> {
        let table = self.decisions(project);
        land(
            &table,
            decisions,
            |sequenced| sequenced.sequence,
            decisions::encode,
        )
        .await
    }

    async fn decisions_landed(&self, project: &ProjectName) -> Result<u64, StoreError> {
        self.decisions(project).landed().await
    }

    async fn decision(
        &self,
        project: &ProjectName,
        id: DecisionId,
    ) -> Result<Option<Decision>, StoreError> {
        let Some((_, files)) = self.decisions(project).files().await? else {
            return Ok(None);
        };
        blocking(move || decisions::find(files, id)).await
    }

    async fn land_outcomes(
        &self,
        project: &ProjectName,
        outcomes: &[Sequenced<Outcome>],
    ) -> Result<u64, StoreError> {
        let table = self.outcomes(project);
        land(
            &table,
            outcomes,
            |sequenced| sequenced.sequence,
            outcomes::encode,
        )
        .await
    }

    async fn outcomes_landed(&self, project: &ProjectName) -> Result<u64, StoreError> {
        self.outcomes(project).landed().await
    }

    async fn write_dataset(
        &self,
        project: &ProjectName,
        model: &ModelName,
        rows: Vec<RecordBatch>,
        note: &str,
    ) -> Result<TableVersion, StoreError> {
        let _one_at_a_time = self.datasets.lock().await;
        self.datasets_of(project, model).write(rows, note).await
    }

    async fn datasets(
        &self,
        project: &ProjectName,
        model: &ModelName,
        before: Option<TableVersion>,
        limit: usize,
    ) -> Result<Vec<StoredDataset>, StoreError> {
        let datasets = self.datasets_of(project, model);
        blocking(move || datasets.list(before, limit)).await
    }

    async fn read_dataset(
        &self,
        project: &ProjectName,
        model: &ModelName,
        version: TableVersion,
    ) -> Result<RecordBatches, StoreError> {
        self.datasets_of(project, model).read(version).await
    }

    async fn remove_datasets(
        &self,
        project: &ProjectName,
        model: &ModelName,
        keep: &[TableVersion],
    ) -> Result<u64, StoreError> {
        let _one_at_a_time = self.datasets.lock().await;
        let (datasets, keep) = (self.datasets_of(project, model), keep.to_vec());
        blocking(move || datasets.remove(&keep)).await
    }

    async fn query_tables(
        &self,
        project: &ProjectName,
        models: &[ModelName],
    ) -> Result<Vec<QueryTable>, StoreError> {
        query::describe(self.queried(project, models).await?)
    }

    async fn query(
        &self,
        project: &ProjectName,
        models: &[ModelName],
        sql: &str,
        limits: &QueryLimits,
    ) -> Result<QueryAnswer, QueryError> {
        let stopwatch = Stopwatch::start();
        let turn = tokio::time::timeout(limits.time_max, self.questions.acquire());
        let Ok(_turn) = turn.await else {
            return Err(QueryError::TooSlow(limits.time_max));
        };
        let tables = self.queried(project, models).await?;
        // waiting counts too
        let waited = Duration::from_micros(stopwatch.micros());
        let left = limits.time_max.saturating_sub(waited);
        query::answer(tables, sql, (limits, left)).await
    }

    async fn about(
        &self,
        project: &ProjectName,
        persons: &[PersonKey],
        limit: usize,
    ) -> Result<About, StoreError> {
        let answers = about::answers_about(persons);
        let of_persons = about::events_of(persons);
        let events = self.events(project).rows_of(of_persons, limit).await?;
        let about = answers.clone();
        let decisions = self.decisions(project).rows_of(about, limit).await?;
        let outcomes = self.outcomes(project).rows_of(answers, limit).await?;
        Ok(About {
            events: decoded(&events, events::decode)?,
            decisions: decoded(&decisions, decisions::decode)?,
            outcomes: decoded(&outcomes, outcomes::decode)?,
        })
    }

    async fn erase(
        &self,
        project: &ProjectName,
        persons: &[PersonKey],
    ) -> Result<Erased, StoreError> {
        let about = about::answers_about(persons);
        let mut erased = Erased {
            events: self
                .events(project)
                .erase(about::events_of(persons))
                .await?,
            decisions: self.decisions(project).erase(about.clone()).await?,
            outcomes: self.outcomes(project).erase(about).await?,
            datasets: 0,
        };
        let _one_at_a_time = self.datasets.lock().await;
        let folder = self.folder.lake().join(project.as_str()).join("datasets");
        let options = self.options.clone();
        let removed = blocking(move || {
            let mut removed = 0;
            for folder in datasets::folders(&folder)? {
                let called = folder.display().to_string();
                let datasets = Datasets {
                    called,
                    folder,
                    options: options.clone(),
                };
                removed += datasets.remove_all()?;
            }
            Ok(removed)
        });
        erased.datasets = removed.await?;
        Ok(erased)
    }

    async fn compact(&self, project: &ProjectName) -> Result<Compacted, StoreError> {
        let mut done = Compacted::default();
        for table in [
            self.events(project),
            self.decisions(project),
            self.outcomes(project),
        ] {
            let compacted = table.compact().await?;
            done.files_removed += compacted.files_removed;
            done.files_added += compacted.files_added;
        }
        Ok(done)
    }
}
