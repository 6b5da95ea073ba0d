//! The import itself: rows of files in order, chunk by chunk into the log, with the progress on record.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_core::project::{Source, SourceFormat};
use tidemill_core::{Event, Project, ProjectName, Timestamp};
use tidemill_store::{Appended, Quarantined, StateStore};
use tokio::sync::mpsc;

use super::files::{self, ByteCount};
use super::ledger::{self, Entry};
use super::mapping::Mapping;
use super::order::Imported;
use super::reading::{self, Job, OrderedRows, SurveyedFile};
use super::{FileReport, ImportError, ImportOptions, ImportReport, Phase, Progress};
use crate::intake::Intake;
use crate::message_id;

/// How many chunks the reader may be ahead of the log.
const CHUNKS_AHEAD: usize = 4;
/// The most bytes of rows in a chunk.
const CHUNK_BYTES_MAX: usize = 4 << 20;
/// After how many chunks the progress is put on record; so many may be offered to the log a second time after a crash.
const CHUNKS_PER_RECORD: usize = 8;
const LEDGER_FORMAT: u32 = 1;

/// Imports files of a source.
///
/// Every mistake of the mapping is found before anything is stored. Bad rows are quarantined with their line. One chunk is
/// appended at a time, because the order in the log is the order of history. After an error or a crash the same call
/// goes on where it stopped; after success it adds nothing.
///
/// # Errors
/// When a file cannot be read, the mapping does not fit, or the log or the state cannot be written.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing, and there is one caller"
)]
pub async fn run(
    intake: &Intake,
    state: &dyn StateStore,
    project: &Project,
    name: &str,
    source: &Source,
    paths: &[PathBuf],
    options: &ImportOptions,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<ImportReport, ImportError> {
    let mapping = Mapping::of(source)?;
    let job = Job {
        source: name.into(),
        project: Arc::new(project.clone()),
        limits: *intake.limits(),
        now: intake.clock().now(),
        options: options.clone(),
    };
    let plan =
        message_id::of_parts(&[format!("{:?} {:?}", mapping.order(), source.format).as_bytes()]);
    let hashed = blocking(&job, paths, |_, path| files::content_hash(path)).await?;
    let mut ledger = Ledger {
        state,
        project: &project.name,
        source: name,
        plan,
        now: job.now,
    };
    let mut files = Vec::with_capacity(paths.len());
    for (path, content) in paths.iter().zip(hashed) {
        let twice = files
            .iter()
            .any(|file: &ImportFile| file.content == content.0);
        let mut file = ledger.look_up(path, content, options.again)?;
        file.report.finished_before |= twice;
        files.push(file);
    }
    let surveyed = survey(&job, &mapping, source.format, &files, progress).await?;
    let mut open: Vec<&mut ImportFile> = files.iter_mut().filter(|file| file.is_new()).collect();
    for (file, surveyed) in open.iter_mut().zip(&surveyed) {
        file.survey(surveyed);
    }
    if !open.is_empty() {
        ledger.write(open.iter().map(|file| &**file))?;
    }
    let mut store = Storing {
        intake,
        ledger,
        progress,
        report: ImportReport::default(),
        chunks: 0,
    };
    let outcome = store.all(&job, surveyed, &mut open).await;
    let recorded = if open.is_empty() {
        Ok(())
    } else {
        store.ledger.write(open.iter().map(|file| &**file))
    };
    let mut report = store.report;
    outcome?;
    recorded?;
    report.files = files.into_iter().map(|file| file.report).collect();
    Ok(report)
}

/// Does something with each path, away from the threads that serve.
async fn blocking<T: Send + 'static>(
    job: &Job,
    paths: &[PathBuf],
    each: impl Fn(&Job, &Path) -> Result<T, ImportError> + Send + 'static,
) -> Result<Vec<T>, ImportError> {
    let (job, paths) = (job.clone(), paths.to_vec());
    let work = move || paths.iter().map(|path| each(&job, path)).collect();
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| ImportError::Stopped)?
}

/// Surveys the files that were not finished before, and tells how far it is.
async fn survey(
    job: &Job,
    mapping: &Mapping,
    format: Option<SourceFormat>,
    files: &[ImportFile],
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<SurveyedFile>, ImportError> {
    let new = files.iter().filter(|file| file.is_new());
    let wanted: Vec<(PathBuf, u64)> = new.map(|file| (file.path.clone(), file.bytes)).collect();
    let bytes_total = wanted.iter().map(|(_, bytes)| bytes).sum();
    let (ticks, mut ticking) = mpsc::channel(1);
    let (job, mapping) = (job.clone(), mapping.clone());
    let work = tokio::task::spawn_blocking(move || {
        let count = ByteCount::ticking(ticks);
        wanted
            .into_iter()
            .map(|(path, bytes)| reading::survey(&job, &mapping, format, &path, bytes, &count))
            .collect::<Result<Vec<_>, _>>()
    });
    while let Some(bytes_read) = ticking.recv().await {
        progress(Progress {
            phase: Phase::Surveying,
            bytes_read,
            bytes_total,
            rows: 0,
            rows_total: None,
            accepted: 0,
            duplicates: 0,
            quarantined: 0,
        });
    }
    work.await.map_err(|_| ImportError::Stopped)?
}

/// One file of the import.
struct ImportFile {
    path: PathBuf,
    content: String,
    bytes: u64,
    /// What is on record, kept up to date.
    entry: Entry,
    report: FileReport,
}

impl ImportFile {
    /// Whether there is something left to do.
    fn is_new(&self) -> bool {
        !self.report.finished_before
    }

    fn survey(&mut self, surveyed: &SurveyedFile) {
        self.report.rows = surveyed.rows;
        self.report.was_sorted = !surveyed.sorted;
        self.report
            .ignored_columns
            .clone_from(&surveyed.plan.ignored);
    }
}

/// Access to the progress on record.
struct Ledger<'i> {
    state: &'i dyn StateStore,
    project: &'i ProjectName,
    source: &'i str,
    plan: String,
    now: Timestamp,
}

impl Ledger<'_> {
    fn look_up(
        &mut self,
        path: &Path,
        content: (String, u64),
        again: bool,
    ) -> Result<ImportFile, ImportError> {
        let (content, bytes) = content;
        let known = ledger::get(self.state, self.project, self.source, &content)?;
        let fresh = || Entry {
            format: LEDGER_FORMAT,
            source: self.source.to_owned(),
            file: path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default(),
            plan: self.plan.clone(),
            done: 0,
            finished: false,
            accepted: 0,
            duplicates: 0,
            quarantined: 0,
            updated_at: self.now,
        };
        let goes_on = |entry: &Entry| entry.finished || entry.plan == self.plan;
        let entry = known
            .filter(|entry| !again && goes_on(entry))
            .unwrap_or_else(fresh);
        let report = FileReport {
            path: path.to_owned(),
            rows: 0,
            rows_done_before: entry.done,
            finished_before: entry.finished,
            was_sorted: false,
            ignored_columns: Vec::new(),
            accepted: 0,
            duplicates: 0,
            quarantined: 0,
        };
        Ok(ImportFile {
            path: path.to_owned(),
            content,
            bytes,
            entry,
            report,
        })
    }

    fn write<'f>(&self, files: impl Iterator<Item = &'f ImportFile>) -> Result<(), ImportError> {
        let entries = files.map(|file| (file.content.as_str(), &file.entry));
        Ok(ledger::put(self.state, self.project, entries)?)
    }
}

/// What is stored in one step.
#[derive(Default)]
struct Chunk {
    events: Vec<Event>,
    /// For each event, the number of its file.
    event_files: Vec<usize>,
    quarantined: Vec<Quarantined>,
    quarantined_files: Vec<usize>,
    bytes: usize,
}

impl Chunk {
    fn push(&mut self, file: usize, bytes: usize, imported: Imported) {
        self.bytes += bytes;
        match imported {
            Imported::Event(event) => {
                self.events.push(*event);
                self.event_files.push(file);
            }
            Imported::Quarantined(piece) => {
                self.quarantined.push(*piece);
                self.quarantined_files.push(file);
            }
        }
    }

    fn is_full(&self, rows_max: usize) -> bool {
        self.events.len() + self.quarantined.len() >= rows_max || self.bytes >= CHUNK_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.quarantined.is_empty()
    }
}

/// Reads all rows, leaves out those that are done, and sends the others in chunks until nobody listens any more.
fn read_chunks(
    rows: OrderedRows,
    mut done: Vec<u64>,
    rows_max: usize,
    chunks: &mpsc::Sender<Result<Chunk, ImportError>>,
) {
    let mut chunk = Chunk::default();
    for row in rows {
        match row {
            Ok((file, _)) if done[file] > 0 => done[file] -= 1,
            Ok((file, record)) => {
                chunk.push(file, record.bytes, record.imported);
                if chunk.is_full(rows_max)
                    && chunks
                        .blocking_send(Ok(std::mem::take(&mut chunk)))
                        .is_err()
                {
                    return;
                }
            }
            Err(error) => {
                // what was read before the error is stored, so that the next run need not repeat it
                if chunk.is_empty() || chunks.blocking_send(Ok(chunk)).is_ok() {
                    let _ = chunks.blocking_send(Err(error));
                }
                return;
            }
        }
    }
    if !chunk.is_empty() {
        // when nobody listens, the import was given up and the rows are not done
        let _ = chunks.blocking_send(Ok(chunk));
    }
}

struct Storing<'i, 'p> {
    intake: &'i Intake,
    ledger: Ledger<'i>,
    progress: &'p mut (dyn FnMut(Progress) + Send),
    report: ImportReport,
    chunks: usize,
}

impl Storing<'_, '_> {
    /// Stores all rows; on an error, what was stored is counted in the files.
    async fn all(
        &mut self,
        job: &Job,
        surveyed: Vec<SurveyedFile>,
        files: &mut [&mut ImportFile],
    ) -> Result<(), ImportError> {
        let bytes_total = surveyed.iter().map(|file| file.bytes).sum();
        let rows_total: u64 = surveyed.iter().map(|file| file.rows).sum();
        let count = ByteCount::default();
        let done = files.iter().map(|file| file.entry.done).collect();
        let rows_max = self.intake.limits().batch_events_max;
        let (send, mut receive) = mpsc::channel(CHUNKS_AHEAD);
        let rows = OrderedRows::open(job, surveyed, &count);
        let reader = tokio::task::spawn_blocking(move || read_chunks(rows, done, rows_max, &send));
        while let Some(chunk) = receive.recv().await {
            self.one(chunk?, files).await?;
            (self.progress)(Progress {
                phase: Phase::Storing,
                bytes_read: count.get(),
                bytes_total,
                rows: files.iter().map(|file| file.entry.done).sum(),
                rows_total: Some(rows_total),
                accepted: self.report.accepted,
                duplicates: self.report.duplicates,
                quarantined: self.report.quarantined,
            });
        }
        reader.await.map_err(|_| ImportError::Stopped)?;
        for file in files {
            if file.entry.done != file.report.rows {
                let detail = format!(
                    "it changed while it was imported: {} rows at first, {} then",
                    file.report.rows, file.entry.done
                );
                return Err(ImportError::Read {
                    path: file.path.clone(),
                    detail,
                });
            }
            file.entry.finished = true;
        }
        Ok(())
    }

    async fn one(
        &mut self,
        chunk: Chunk,
        files: &mut [&mut ImportFile],
    ) -> Result<(), ImportError> {
        let times: Vec<Timestamp> = chunk.events.iter().map(|event| event.timestamp).collect();
        let (receipt, appended) = self
            .intake
            .append(self.ledger.project, chunk.events, chunk.quarantined)
            .await?;
        for ((outcome, file), time) in appended.iter().zip(&chunk.event_files).zip(times) {
            let file = &mut files[*file];
            file.entry.done += 1;
            match outcome {
                Appended::Stored(_) => {
                    file.entry.accepted += 1;
                    file.report.accepted += 1;
                    self.report.first =
                        Some(self.report.first.map_or(time, |first| first.min(time)));
                    self.report.last = Some(self.report.last.map_or(time, |last| last.max(time)));
                }
                Appended::Duplicate => {
                    file.entry.duplicates += 1;
                    file.report.duplicates += 1;
                }
            }
        }
        for file in chunk.quarantined_files {
            let file = &mut files[file];
            file.entry.done += 1;
            file.entry.quarantined += 1;
            file.report.quarantined += 1;
        }
        self.report.accepted += receipt.accepted;
        self.report.duplicates += receipt.duplicates;
        self.report.quarantined += receipt.quarantined;
        self.chunks += 1;
        if self.chunks.is_multiple_of(CHUNKS_PER_RECORD) {
            self.ledger.write(files.iter().map(|file| &**file))?;
        }
        Ok(())
    }
}
