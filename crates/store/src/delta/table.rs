//! One Delta table: opening, exactly-once appending, its files, and compaction.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use deltalake_core::kernel::engine::arrow_conversion::TryIntoKernel;
use deltalake_core::kernel::transaction::{CommitBuilder, CommitProperties};
use deltalake_core::kernel::{Action, Add, LogicalFileView, Remove, StructType, Transaction};
use deltalake_core::logstore::LogStoreRef;
use deltalake_core::operations::create::CreateBuilder;
use deltalake_core::protocol::{DeltaOperation, SaveMode};
use deltalake_core::writer::{DeltaWriter, RecordBatchWriter};
use deltalake_core::{DeltaResult, DeltaTable, DeltaTableBuilder, ensure_table_uri};
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::DeltaOptions;
use super::disk::SyncedDisk;
use crate::{StoreError, durable};

/// The column by which the tables of the loop are partitioned: a day in UTC.
pub(super) const DATE: &str = "date";

/// What sets one table apart from another.
#[derive(Debug, Clone)]
pub(super) struct TableSpec {
    /// The name by which its landings are told from others in the Delta log.
    pub(super) application: String,
    pub(super) schema: SchemaRef,
    /// Whether it is partitioned by [`DATE`].
    pub(super) by_date: bool,
    /// The column that counts the rows in the order in which they landed.
    pub(super) order: Option<&'static str>,
    /// The columns whose smallest and largest value is kept for each file, separated by commas.
    pub(super) statistics: &'static str,
}

/// One Delta table in a folder.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) spec: TableSpec,
    folder: PathBuf,
    pub(super) options: DeltaOptions,
    /// Held while something is committed; `None` until it is first used and after something went wrong.
    current: Arc<Mutex<Option<Open>>>,
    /// Held while files are merged, so that they are merged once.
    pub(super) compaction: Mutex<()>,
}

/// A table as it was after its last commit.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) table: DeltaTable,
    /// The last place that has landed.
    pub(super) landed: u64,
}

/// One data file of a table.
#[derive(Debug, Clone)]
pub(super) struct DataFile {
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    pub(super) date: Option<String>,
    /// The statistics of the Delta log: `minValues`, `maxValues`, `numRecords`.
    statistics: Value,
    pub(super) remove: Remove,
}

impl DataFile {
    fn new(folder: &Path, view: &LogicalFileView) -> Result<Self, StoreError> {
        let path = view.path();
        let statistics = view
            .stats()
            .map(|text| serde_json::from_str(&text))
            .transpose();
        Ok(Self {
            path: folder.join(path.as_ref()),
            bytes: u64::try_from(view.size()).unwrap_or(0),
            date: view.partition_values_map().remove(DATE).flatten(),
            statistics: statistics
                .map_err(|e| StoreError::corrupt(format!("the statistics of {path}"), e))?
                .unwrap_or(Value::Null),
            // The rows stay in the table: only their file changes.
            remove: view.remove_action(false),
        })
    }

    /// The smallest value of a column, where it is known. Long texts are cut off.
    pub(super) fn least(&self, column: &str) -> Option<&Value> {
        self.statistics.get("minValues")?.get(column)
    }

    /// The largest value of a column, where it is known. Long texts are cut off.
    pub(super) fn greatest(&self, column: &str) -> Option<&Value> {
        self.statistics.get("maxValues")?.get(column)
    }
}

impl Table {
    pub(super) fn new(folder: PathBuf, spec: TableSpec, options: DeltaOptions) -> Self {
        Self {
            spec,
            folder,
            options,
            current: Arc::default(),
            compaction: Mutex::default(),
        }
    }

    /// The table, kept from being changed by others until the guard is dropped. `None` in it while nothing was written.
    pub(super) async fn lock(&self) -> Result<OwnedMutexGuard<Option<Open>>, StoreError> {
        let mut current = Arc::clone(&self.current).lock_owned().await;
        if current.is_none() && self.exists()? {
            let (log_store, application) = (self.log_store()?, self.spec.application.clone());
            *current =
                Some(off_executor(async move { open(log_store, &application).await }).await?);
        }
        Ok(current)
    }

    /// Whether anything was ever committed. Creating the table may have failed after its folder was there.
    fn exists(&self) -> Result<bool, StoreError> {
        let log = self.folder.join("_delta_log");
        let entries = match std::fs::read_dir(&log) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(e) => return Err(StoreError::file("list", &log, e)),
        };
        for entry in entries {
            let path = entry.map_err(|e| StoreError::file("list", &log, e))?.path();
            // A commit or a checkpoint; what is only staged has another ending.
            if path
                .extension()
                .is_some_and(|extension| extension == "json" || extension == "parquet")
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The last place that has landed; 0 while there is none.
    pub(super) async fn landed(&self) -> Result<u64, StoreError> {
        Ok(self.lock().await?.as_ref().map_or(0, |open| open.landed))
    }

    /// Appends rows and notes the last place landed, in one commit. An error leaves the table as it was.
    pub(super) async fn append(
        &self,
        mut current: OwnedMutexGuard<Option<Open>>,
        rows: Vec<RecordBatch>,
        landed: u64,
    ) -> Result<(), StoreError> {
        let (log_store, spec) = (self.log_store()?, self.spec.clone());
        // The lock goes along, so that it is held to the end though nobody should wait for the answer any more.
        off_executor(async move {
            // On an error it stays empty, and is read again: the commit may have gone through in spite of it.
            let before = match current.take() {
                Some(open) => open.table,
                None => create(log_store, &spec)
                    .await
                    .map_err(|e| failed("create the table", e))?,
            };
            let adds = write_files(&before, rows)
                .await
                .map_err(|e| failed("write the table", e))?;
            let properties = CommitProperties::default().with_application_transaction(
                Transaction::new(&spec.application, place_to_long(landed)?),
            );
            let write = DeltaOperation::Write {
                mode: SaveMode::Append,
                partition_by: spec.by_date.then(|| vec![DATE.to_owned()]),
                predicate: None,
            };
            let adds = adds.into_iter().map(Action::Add).collect();
            let table = commit(before, properties, adds, write)
                .await
                .map_err(|e| failed("commit to the table", e))?;
            *current = Some(Open { table, landed });
            Ok(())
        })
        .await
    }

    /// The table as it is now; `None` while nothing was written.
    pub(super) async fn opened(&self) -> Result<Option<DeltaTable>, StoreError> {
        Ok(self.lock().await?.as_ref().map(|open| open.table.clone()))
    }

    /// The table's version and its files; `None` while nothing was written.
    pub(super) async fn files(&self) -> Result<Option<(u64, Vec<DataFile>)>, StoreError> {
        let current = self.lock().await?;
        let Some(open) = current.as_ref() else {
            return Ok(None);
        };
        Ok(Some((
            open.table.version().unwrap_or(0),
            self.files_of(&open.table)?,
        )))
    }

    pub(super) fn files_of(&self, table: &DeltaTable) -> Result<Vec<DataFile>, StoreError> {
        let state = table.snapshot().map_err(|e| failed("read the table", e))?;
        state
            .log_data()
            .iter()
            .map(|view| DataFile::new(&self.folder, &view))
            .collect()
    }

    /// The columns and the files of the table as it was at a version.
    pub(super) async fn files_at(
        &self,
        version: u64,
    ) -> Result<(SchemaRef, Vec<DataFile>), StoreError> {
        let log_store = self.log_store()?;
        let mut table = DeltaTable::new(log_store);
        let table = off_executor(async move {
            table
                .load_version(version)
                .await
                .map_err(|e| failed("read the table at a version", e))?;
            Ok(table)
        })
        .await?;
        let schema = table
            .snapshot()
            .map_err(|e| failed("read the table", e))?
            .snapshot()
            .arrow_schema();
        Ok((schema, self.files_of(&table)?))
    }

    /// Replaces all rows, and the columns where they changed, with a note in the same commit; returns the new version.
    pub(super) async fn replace(
        &self,
        rows: Vec<RecordBatch>,
        note: &str,
    ) -> Result<u64, StoreError> {
        let mut current = self.lock().await?;
        let files = current
            .as_ref()
            .map(|open| self.files_of(&open.table))
            .transpose()?
            .unwrap_or_default();
        let (log_store, spec) = (self.log_store()?, self.spec.clone());
        let noted = CommitProperties::default()
            .with_metadata([("userMetadata".to_owned(), Value::from(note))]);
        off_executor(async move {
            let replaced = replace_rows(current.take(), log_store, spec, files, rows, noted)
                .await
                .map_err(|e| failed("write the table", e))?;
            let version = replaced.version().unwrap_or(0);
            *current = Some(Open {
                table: replaced,
                landed: 0,
            });
            Ok(version)
        })
        .await
    }

    fn log_store(&self) -> Result<LogStoreRef, StoreError> {
        durable::create_folder(&self.folder)
            .map_err(|e| StoreError::file("create the folder", &self.folder, e))?;
        let folder = self.folder.to_str().ok_or_else(|| {
            StoreError::backend(
                "open the table",
                format!("the path {} is not Unicode", self.folder.display()),
            )
        })?;
        let url = ensure_table_uri(folder).map_err(|e| failed("open the table", e))?;
        DeltaTableBuilder::from_url(url.clone())
            .map(|builder| builder.with_storage_backend(Arc::new(SyncedDisk::default()), url))
            .and_then(|builder| builder.build_storage())
            .map_err(|e| failed("open the table", e))
    }
}

/// Runs what encodes, decodes or waits for the disk where it does not hold up the executor.
pub(super) async fn off_executor<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let executor = tokio::runtime::Handle::current();
    crate::local::blocking(move || executor.block_on(work)).await
}

/// What an error of Delta Lake means for the caller.
pub(super) fn failed(action: &'static str, error: deltalake_core::DeltaTableError) -> StoreError {
    StoreError::backend(action, error)
}

async fn open(log_store: LogStoreRef, application: &str) -> Result<Open, StoreError> {
    let mut table = DeltaTable::new(log_store);
    table
        .load()
        .await
        .map_err(|e| failed("open the table", e))?;
    let landed = table
        .snapshot()
        .map_err(|e| failed("open the table", e))?
        .transaction_version(table.log_store().as_ref(), application)
        .await
        .map_err(|e| failed("read what has landed", e))?
        .unwrap_or(0);
    let landed =
        u64::try_from(landed).map_err(|e| StoreError::corrupt("the last place landed", e))?;
    Ok(Open { table, landed })
}

async fn create(log_store: LogStoreRef, spec: &TableSpec) -> DeltaResult<DeltaTable> {
    let schema: StructType = spec.schema.as_ref().try_into_kernel()?;
    let mut configuration = vec![
        ("delta.checkpointInterval", "100"),
        // Earlier datasets stay readable, and for that the log has to reach back to them.
        (
            "delta.enableExpiredLogCleanup",
            if spec.order.is_some() {
                "true"
            } else {
                "false"
            },
        ),
    ];
    if !spec.statistics.is_empty() {
        configuration.push(("delta.dataSkippingStatsColumns", spec.statistics));
    }
    let builder = CreateBuilder::new()
        .with_log_store(log_store)
        .with_save_mode(SaveMode::Ignore)
        .with_columns(schema.fields().cloned())
        .with_configuration(
            configuration
                .into_iter()
                .map(|(key, value)| (key, Some(value))),
        );
    if spec.by_date {
        builder.with_partition_columns([DATE]).await
    } else {
        builder.await
    }
}

async fn write_files(table: &DeltaTable, rows: Vec<RecordBatch>) -> DeltaResult<Vec<Add>> {
    let mut writer = file_writer(table)?;
    for batch in rows {
        writer.write(batch).await?;
    }
    writer.flush().await
}

pub(super) fn file_writer(table: &DeltaTable) -> DeltaResult<RecordBatchWriter> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
        // A reader holds one row group's pages for each file that it merges.
        .set_max_row_group_row_count(Some(128 * 1024))
        .build();
    Ok(RecordBatchWriter::for_table(table)?.with_writer_properties(properties))
}

pub(super) async fn commit(
    mut table: DeltaTable,
    properties: CommitProperties,
    actions: Vec<Action>,
    operation: DeltaOperation,
) -> DeltaResult<DeltaTable> {
    let committed = CommitBuilder::from(properties)
        .with_actions(actions)
        .build(Some(table.snapshot()?), table.log_store(), operation)
        .await?;
    table.state = Some(committed.snapshot());
    Ok(table)
}

async fn replace_rows(
    before: Option<Open>,
    log_store: LogStoreRef,
    spec: TableSpec,
    files: Vec<DataFile>,
    rows: Vec<RecordBatch>,
    noted: CommitProperties,
) -> DeltaResult<DeltaTable> {
    use deltalake_core::kernel::MetadataExt;

    let overwrite = || DeltaOperation::Write {
        mode: SaveMode::Overwrite,
        partition_by: None,
        predicate: None,
    };
    let mut table = match before {
        Some(open) => open.table,
        None => create(log_store, &spec).await?,
    };
    let schema: StructType = spec.schema.as_ref().try_into_kernel()?;
    let mut actions: Vec<Action> = files
        .into_iter()
        .map(|file| {
            Action::Remove(Remove {
                data_change: true,
                ..file.remove
            })
        })
        .collect();
    if schema != *table.snapshot()?.schema() {
        // Files are written with the columns that the table has, so that it gets them first, and no rows.
        let metadata = table.snapshot()?.metadata().clone().with_schema(&schema)?;
        actions.push(Action::Metadata(metadata));
        table = commit(
            table,
            CommitProperties::default(),
            std::mem::take(&mut actions),
            overwrite(),
        )
        .await?;
    }
    actions.extend(
        write_files(&table, rows)
            .await?
            .into_iter()
            .map(Action::Add),
    );
    commit(table, noted, actions, overwrite()).await
}

/// A place as Delta Lake and Parquet write it.
pub(super) fn place_to_long(place: u64) -> Result<i64, StoreError> {
    i64::try_from(place).map_err(|e| StoreError::backend("write a place in the order", e))
}
