//! The datasets of a model: a Delta table whose every version replaces all rows.
//!
//! The files of a dataset are therefore exactly those that its own commit adds, and what is noted down with it stands in
//! the same commit (`userMetadata`, which other readers show as the history of the table). The log is never cleaned up,
//! so that notes stay where rows were removed.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::StreamExt;
use futures::stream;
use serde::Deserialize;
use tokio::sync::mpsc;

use super::DeltaOptions;
use super::table::{Table, TableSpec};
use crate::StoreError;
use crate::lake::{RecordBatches, StoredDataset, TableVersion};

/// How many rows a reader gets at a time.
const ROWS_PER_BATCH: usize = 8_192;
/// How many batches are decoded ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// The datasets of one model.
pub(super) struct Datasets {
    /// For messages.
    pub(super) called: String,
    pub(super) folder: PathBuf,
    pub(super) options: DeltaOptions,
}

/// What is read of a line of a commit.
#[derive(Deserialize)]
struct Line {
    #[serde(rename = "commitInfo")]
    info: Option<CommitInfo>,
    add: Option<Added>,
}

#[derive(Deserialize)]
struct CommitInfo {
    #[serde(rename = "userMetadata")]
    note: Option<String>,
}

#[derive(Deserialize)]
struct Added {
    path: String,
}

/// A commit that wrote a dataset.
struct Commit {
    note: String,
    files: Vec<PathBuf>,
}

impl Datasets {
    /// The table, for reading what was written, whatever its columns are.
    pub(super) fn table(&self) -> Table {
        let spec = TableSpec {
            application: String::new(),
            schema: Arc::new(Schema::empty()),
            by_date: false,
            order: None,
            statistics: "",
        };
        Table::new(self.folder.clone(), spec, self.options.clone())
    }

    /// Replaces all rows.
    pub(super) async fn write(
        &self,
        rows: Vec<RecordBatch>,
        note: &str,
    ) -> Result<TableVersion, StoreError> {
        let Some(schema) = rows.first().map(RecordBatch::schema) else {
            return Err(StoreError::backend(
                "write a dataset",
                "it has no batch, and so no columns",
            ));
        };
        // Not kept open: a dataset is written once in a while, and its columns may be others each time.
        let spec = TableSpec {
            application: "tidemill/datasets".to_owned(),
            schema,
            by_date: false,
            order: None,
            statistics: "",
        };
        let table = Table::new(self.folder.clone(), spec, self.options.clone());
        table.replace(rows, note).await.map(TableVersion)
    }

    /// The datasets, newest first.
    pub(super) fn list(
        &self,
        before: Option<TableVersion>,
        limit: usize,
    ) -> Result<Vec<StoredDataset>, StoreError> {
        let mut datasets = Vec::new();
        for version in self.versions()?.into_iter().rev() {
            if datasets.len() >= limit {
                break;
            }
            let listed = before.is_none_or(|before| version < before.0);
            if listed && let Some(commit) = self.commit(version)? {
                datasets.push(StoredDataset {
                    version: TableVersion(version),
                    has_rows: commit.files.iter().all(|file| file.is_file()),
                    note: commit.note,
                });
            }
        }
        Ok(datasets)
    }

    /// The rows of a version.
    pub(super) async fn read(&self, version: TableVersion) -> Result<RecordBatches, StoreError> {
        let missing = || StoreError::NotFound(format!("version {} of {}", version.0, self.called));
        let commit = self.commit(version.0)?.ok_or_else(missing)?;
        if !commit.files.iter().all(|file| file.is_file()) {
            return Err(missing());
        }
        let (schema, files) = self.table().files_at(version.0).await?;
        let (sender, receiver) = mpsc::channel(BATCHES_AHEAD);
        tokio::task::spawn_blocking(move || {
            let mut any = false;
            for file in files {
                for batch in batches(file.path) {
                    any = true;
                    let broken = batch.is_err();
                    // A reader that has gone away does not need to know.
                    if sender.blocking_send(batch).is_err() || broken {
                        return;
                    }
                }
            }
            if !any {
                let _ = sender.blocking_send(Ok(RecordBatch::new_empty(schema)));
            }
        });
        let batches = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        Ok(batches.boxed())
    }

    /// Removes the rows of all versions but the newest and those of `keep`.
    pub(super) fn remove(&self, keep: &[TableVersion]) -> Result<u64, StoreError> {
        self.remove_but(true, keep)
    }

    /// Removes the rows of all versions.
    pub(super) fn remove_all(&self) -> Result<u64, StoreError> {
        self.remove_but(false, &[])
    }

    fn remove_but(&self, newest: bool, keep: &[TableVersion]) -> Result<u64, StoreError> {
        let mut there = self.data_files()?;
        let (mut newest, mut removed) = (newest, 0);
        for version in self.versions()?.into_iter().rev() {
            // what is older has lost its rows before
            if there.is_empty() {
                break;
            }
            let Some(commit) = self.commit(version)? else {
                continue;
            };
            let stays = std::mem::take(&mut newest) || keep.contains(&TableVersion(version));
            let mut had_rows = false;
            for file in &commit.files {
                had_rows |= there.remove(file);
                if !stays {
                    // A file that comes back after power loss does no harm: it is removed again next time.
                    remove_file(file)?;
                }
            }
            removed += u64::from(had_rows && !stays);
        }
        Ok(removed)
    }

    /// The data files that are there, whichever version they belong to.
    fn data_files(&self) -> Result<BTreeSet<PathBuf>, StoreError> {
        let mut files = list(&self.folder)?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| extension == "parquet")
        });
        Ok(files)
    }

    /// The versions of the table, ascending; those without rows of their own too.
    fn versions(&self) -> Result<BTreeSet<u64>, StoreError> {
        let log = list(&self.folder.join("_delta_log"))?;
        let number = |path: &PathBuf| {
            let name = path.file_name()?.to_str()?;
            name.strip_suffix(".json")?.parse::<u64>().ok()
        };
        Ok(log.iter().filter_map(number).collect())
    }

    /// What a commit has written; `None` where there is none, or it wrote no dataset: it created the table or changed
    /// its columns.
    fn commit(&self, version: u64) -> Result<Option<Commit>, StoreError> {
        let path = self
            .folder
            .join("_delta_log")
            .join(format!("{version:020}.json"));
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::file("read", &path, e)),
        };
        let (mut note, mut files) = (None, Vec::new());
        for line in text.lines().filter(|line| !line.is_empty()) {
            let line: Line = serde_json::from_str(line)
                .map_err(|e| StoreError::corrupt(path.display().to_string(), e))?;
            note = note.or(line.info.and_then(|info| info.note));
            if let Some(added) = line.add {
                files.push(self.file(&added.path)?);
            }
        }
        let wrote = note.is_some() || !files.is_empty();
        let note = note.unwrap_or_default();
        Ok(wrote.then_some(Commit { note, files }))
    }

    /// Where a data file is: beside the log, never elsewhere.
    fn file(&self, name: &str) -> Result<PathBuf, StoreError> {
        if name.contains(['/', '\\', '%']) || name == ".." {
            let detail = format!("'{name}' is not the name of a data file");
            return Err(StoreError::corrupt(
                self.folder.display().to_string(),
                detail,
            ));
        }
        Ok(self.folder.join(name))
    }
}

/// What is in a folder; nothing where there is none.
/// The folders of a project's models that have datasets.
pub(super) fn folders(datasets: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut folders = Vec::from_iter(list(datasets)?);
    folders.retain(|folder| folder.is_dir());
    Ok(folders)
}

fn list(folder: &Path) -> Result<BTreeSet<PathBuf>, StoreError> {
    let failed = |e| StoreError::file("list", folder, e);
    match std::fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|entry| Ok(entry.map_err(failed)?.path()))
            .collect(),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(e) => Err(failed(e)),
    }
}

fn remove_file(file: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(file) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(StoreError::file("remove", file, e)),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The rows of a file; the last one may be what went wrong.
fn batches(path: PathBuf) -> Box<dyn Iterator<Item = Result<RecordBatch, StoreError>>> {
    let opened = std::fs::File::open(&path).map_err(|e| StoreError::file("open", &path, e));
    let damaged = move |e: String| StoreError::corrupt(path.display().to_string(), e);
    let reader = opened.and_then(|file| {
        ParquetRecordBatchReaderBuilder::try_new(file)
            .and_then(|builder| builder.with_batch_size(ROWS_PER_BATCH).build())
            .map_err(|e| damaged(e.to_string()))
    });
    match reader {
        Ok(reader) => Box::new(reader.map(move |batch| batch.map_err(|e| damaged(e.to_string())))),
        Err(error) => Box::new(std::iter::once(Err(error))),
    }
}
