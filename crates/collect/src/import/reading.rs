//! From files to events in the order of their times.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidemill_core::project::{Source, SourceFormat};
use tidemill_core::{Project, Timestamp};
use tidemill_store::Quarantined;

use super::files::{self, ByteCount};
use super::mapping::Mapping;
use super::order::{Imported, MergedFiles, Pending, Record, Records, Sorter};
use super::plan::{Plan, Reading};
use super::table::{self, BEFORE_ALL, Row, Rows};
use super::{ImportError, ImportOptions};
use crate::limits::Limits;
use crate::message_id;
use crate::rejection::Rejection;

/// The longest part of the source's name in a message id, in bytes.
const SOURCE_BYTES_IN_ID: usize = 40;
/// The most bytes of a bad row that are kept.
const BAD_ROW_BYTES_MAX: usize = 1 << 20;

/// What all rows of an import are read with.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) source: Arc<str>,
    pub(super) project: Arc<Project>,
    pub(super) limits: Limits,
    pub(super) now: Timestamp,
    pub(super) options: ImportOptions,
}

/// A file that was read through once.
pub(super) struct SurveyedFile {
    pub(super) path: PathBuf,
    pub(super) format: SourceFormat,
    pub(super) bytes: u64,
    pub(super) rows: u64,
    pub(super) sorted: bool,
    /// The smallest order key of its rows.
    pub(super) first: Timestamp,
    pub(super) plan: Arc<Plan>,
}

/// Reads a file through once and resolves the mapping against its columns.
pub(super) fn survey(
    job: &Job,
    mapping: &Mapping,
    declared: Option<SourceFormat>,
    path: &Path,
    bytes: u64,
    count: &ByteCount,
) -> Result<SurveyedFile, ImportError> {
    let format = files::format(path, declared)?;
    let survey = table::survey(path, format, mapping, count)?;
    let plan = Plan::new(mapping, survey.columns, survey.calls, &job.project, path)?;
    Ok(SurveyedFile {
        path: path.to_owned(),
        format,
        bytes,
        rows: survey.rows,
        sorted: survey.sorted,
        first: survey.first,
        plan: Arc::new(plan),
    })
}

/// The rows of files as events, in the order of their times.
///
/// # Errors
/// As [`run`](super::run): every mistake of the mapping is found before the first row is given.
pub fn rows(
    project: &Project,
    name: &str,
    source: &Source,
    paths: &[PathBuf],
    limits: &Limits,
    now: Timestamp,
    options: &ImportOptions,
) -> Result<ImportedRows, ImportError> {
    let job = Job {
        source: name.into(),
        project: Arc::new(project.clone()),
        limits: *limits,
        now,
        options: options.clone(),
    };
    let mapping = Mapping::of(source)?;
    let mut surveyed = Vec::with_capacity(paths.len());
    for path in paths {
        surveyed.push(survey(
            &job,
            &mapping,
            source.format,
            path,
            0,
            &ByteCount::default(),
        )?);
    }
    Ok(ImportedRows {
        rows: OrderedRows::open(&job, surveyed, &ByteCount::default()),
    })
}

/// Rows as events, in the order of their times; see [`rows`].
pub struct ImportedRows {
    rows: OrderedRows,
}

impl Iterator for ImportedRows {
    type Item = Result<Imported, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.rows.next()?.map(|(_, record)| record.imported))
    }
}

/// The rows of several files in order, with their message ids, each with the number of its file.
pub(super) struct OrderedRows {
    merged: MergedFiles,
    ids: RowIds,
}

impl OrderedRows {
    pub(super) fn open(job: &Job, surveyed: Vec<SurveyedFile>, count: &ByteCount) -> Self {
        let mut pending = Vec::with_capacity(surveyed.len());
        // all files that have to be sorted may be open at once, and share the memory
        let sorted_here = surveyed.iter().filter(|file| !file.sorted).count();
        let memory_bytes_max = job.options.memory_bytes_max / sorted_here.max(1);
        for file in surveyed {
            let mut job = job.clone();
            job.options.memory_bytes_max = memory_bytes_max;
            let count = count.clone();
            pending.push(Pending {
                first: file.first,
                open: Box::new(move || open_in_order(&job, &file, &count)),
            });
        }
        Self {
            merged: MergedFiles::new(pending),
            ids: RowIds {
                source: id_prefix(&job.source),
                ..RowIds::default()
            },
        }
    }
}

impl Iterator for OrderedRows {
    type Item = Result<(usize, Record), ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.merged.next()?.map(|(file, mut record)| {
            self.ids.give(file, &mut record);
            (file, record)
        }))
    }
}

fn open_in_order(
    job: &Job,
    file: &SurveyedFile,
    count: &ByteCount,
) -> Result<Records, ImportError> {
    let rows = table::rows(&file.path, file.format, &file.plan, count)?;
    let records = FileRecords {
        rows,
        plan: Arc::clone(&file.plan),
        job: job.clone(),
        format: file.format,
        order: BEFORE_ALL,
    };
    if file.sorted {
        return Ok(Box::new(records));
    }
    let mut sorter = Sorter::new(&job.options.temp_folder(), job.options.memory_bytes_max);
    for record in records {
        sorter.push(&record?)?;
    }
    sorter.finish()
}

/// The records of one file in the order of its rows.
struct FileRecords {
    rows: Box<dyn Rows>,
    plan: Arc<Plan>,
    job: Job,
    format: SourceFormat,
    /// The order of the row before.
    order: Timestamp,
}

impl FileRecords {
    fn record(&mut self, row: Row) -> Record {
        let order = self.plan.order_of(&row);
        self.order = order.unwrap_or(self.order);
        let Row { place, cells, text } = row;
        let hash = message_id::digest(&[self.job.source.as_bytes(), text.as_bytes()]);
        let reading = Reading {
            project: &self.job.project,
            limits: &self.job.limits,
            now: self.job.now,
        };
        let imported = match cells.and_then(|cells| self.plan.read(cells, &text, order, &reading)) {
            Ok(event) => Imported::Event(Box::new(event)),
            Err(rejection) => {
                Imported::Quarantined(Box::new(self.quarantine(place, &text, rejection)))
            }
        };
        Record {
            order: self.order,
            hash,
            bytes: text.len(),
            imported,
        }
    }

    fn quarantine(&self, place: u64, text: &str, mut rejection: Rejection) -> Quarantined {
        let unit = if self.format == SourceFormat::Parquet {
            "row"
        } else {
            "line"
        };
        rejection.detail = format!("{unit} {place}: {}", rejection.detail);
        let mut end = text.len().min(BAD_ROW_BYTES_MAX);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        if end < text.len() {
            rejection.detail.push_str(&format!(
                " (only the first {end} of its {} bytes are kept)",
                text.len()
            ));
        }
        rejection.quarantine(&text[..end], &self.job.source, self.job.now)
    }
}

impl Iterator for FileRecords {
    type Item = Result<Record, ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.rows.next_row() {
            Ok(Some(row)) => Some(Ok(self.record(row))),
            Ok(None) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

/// Gives ids to rows that have none: the source, the hash of the row, and which of several equal rows of its file it
/// is. Equal rows have equal times, so they are neighbours in the order, and counting them needs to remember one instant only.
#[derive(Default)]
struct RowIds {
    source: String,
    order: Timestamp,
    seen: HashMap<(usize, [u8; 16]), u32>,
}

impl RowIds {
    fn give(&mut self, file: usize, record: &mut Record) {
        if record.order != self.order {
            self.order = record.order;
            self.seen.clear();
        }
        let Imported::Event(event) = &mut record.imported else {
            return;
        };
        let count = self.seen.entry((file, record.hash)).or_default();
        *count += 1;
        if event.message_id.is_empty() {
            event.message_id = format!("{}:{}:{count}", self.source, message_id::hex(&record.hash));
        }
    }
}

/// The part of the source's name that fits into message ids; the hash covers all of it.
fn id_prefix(source: &str) -> String {
    let mut end = source.len().min(SOURCE_BYTES_IN_ID);
    while !source.is_char_boundary(end) {
        end -= 1;
    }
    source[..end].to_owned()
}
