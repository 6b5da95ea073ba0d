//! Rows in the order of their times, in bounded memory.
//!
//! A file whose rows stand in order is streamed. Another one is sorted through temporary files: runs of bounded size are sorted
//! in memory, written, and merged. Several files are merged by time; a file is opened when its first row is due. Rows
//! of the same instant keep the order of the files and of the rows in a file.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidemill_core::{Event, Timestamp};
use tidemill_store::Quarantined;

use super::ImportError;

/// The most runs that are merged at once; more are first merged into one.
const RUNS_MAX: usize = 128;
/// What an entry costs in memory beside its bytes.
const ENTRY_OVERHEAD_BYTES: usize = 64;

/// What a row became.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Imported {
    /// An event.
    Event(Box<Event>),
    /// No event: the row and the reason.
    Quarantined(Box<Quarantined>),
}

/// A row in its place.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    /// By which rows are ordered.
    #[serde(skip)]
    pub(super) order: Timestamp,
    /// The row's content, hashed: for its message id.
    pub(super) hash: [u8; 16],
    /// The bytes of the row.
    pub(super) bytes: usize,
    pub(super) imported: Imported,
}

/// Records in order, or what stopped them.
pub(super) type Records = Box<dyn Iterator<Item = Result<Record, ImportError>> + Send>;

/// Sorts records by their order; equal ones stay in the order in which they came.
pub(super) struct Sorter {
    folder: PathBuf,
    memory_bytes_max: usize,
    entries: Vec<Entry>,
    bytes: usize,
    next_place: u64,
    runs: Vec<File>,
}

/// A record as bytes, with what it is sorted by.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    order: i64,
    place: u64,
    bytes: Vec<u8>,
}

impl Sorter {
    pub(super) fn new(folder: &Path, memory_bytes_max: usize) -> Self {
        Self {
            folder: folder.to_owned(),
            memory_bytes_max,
            entries: Vec::new(),
            bytes: 0,
            next_place: 0,
            runs: Vec::new(),
        }
    }

    pub(super) fn push(&mut self, record: &Record) -> Result<(), ImportError> {
        let bytes = serde_json::to_vec(record).map_err(|error| self.failed(error.into()))?;
        self.bytes += bytes.len() + ENTRY_OVERHEAD_BYTES;
        self.entries.push(Entry {
            order: record.order.micros(),
            place: self.next_place,
            bytes,
        });
        self.next_place += 1;
        if self.bytes > self.memory_bytes_max {
            self.write_run()?;
        }
        Ok(())
    }

    /// The records in order. What never left memory is not written at all.
    pub(super) fn finish(mut self) -> Result<Records, ImportError> {
        if self.runs.is_empty() {
            self.entries.sort_unstable();
            let folder = self.folder;
            return Ok(Box::new(
                self.entries
                    .into_iter()
                    .map(move |entry| decode(entry, &folder)),
            ));
        }
        self.write_run()?;
        let folder = self.folder.clone();
        let merge = Merge::open(self.runs).map_err(|source| ImportError::Sort {
            folder: folder.clone(),
            source,
        })?;
        Ok(Box::new(merge.map(move |entry| match entry {
            Ok(entry) => decode(entry, &folder),
            Err(source) => Err(ImportError::Sort {
                folder: folder.clone(),
                source,
            }),
        })))
    }

    fn write_run(&mut self) -> Result<(), ImportError> {
        self.entries.sort_unstable();
        let entries = std::mem::take(&mut self.entries);
        self.bytes = 0;
        let run = write_entries(&self.folder, entries.into_iter().map(Ok))
            .map_err(|error| self.failed(error))?;
        self.runs.push(run);
        if self.runs.len() >= RUNS_MAX {
            let merge =
                Merge::open(std::mem::take(&mut self.runs)).map_err(|error| self.failed(error))?;
            let run = write_entries(&self.folder, merge).map_err(|error| self.failed(error))?;
            self.runs.push(run);
        }
        Ok(())
    }

    fn failed(&self, source: std::io::Error) -> ImportError {
        ImportError::Sort {
            folder: self.folder.clone(),
            source,
        }
    }
}

fn decode(entry: Entry, folder: &Path) -> Result<Record, ImportError> {
    let mut record: Record =
        serde_json::from_slice(&entry.bytes).map_err(|error| ImportError::Sort {
            folder: folder.to_owned(),
            source: error.into(),
        })?;
    record.order = Timestamp::from_micros(entry.order);
    Ok(record)
}

/// Writes entries to a temporary file that vanishes when it is closed, and rewinds it.
fn write_entries(
    folder: &Path,
    entries: impl Iterator<Item = std::io::Result<Entry>>,
) -> std::io::Result<File> {
    let mut writer = BufWriter::with_capacity(1 << 18, tempfile::tempfile_in(folder)?);
    for entry in entries {
        let entry = entry?;
        // a row is read only up to 64 MB, so its length fits
        let length = u32::try_from(entry.bytes.len()).map_err(std::io::Error::other)?;
        writer.write_all(&entry.order.to_le_bytes())?;
        writer.write_all(&entry.place.to_le_bytes())?;
        writer.write_all(&length.to_le_bytes())?;
        writer.write_all(&entry.bytes)?;
    }
    let mut file = writer
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.rewind()?;
    Ok(file)
}

/// The entries of a run.
struct Run(BufReader<File>);

impl Run {
    fn next_entry(&mut self) -> std::io::Result<Option<Entry>> {
        let mut order = [0; 8];
        if self.0.read(&mut order[..1])? == 0 {
            return Ok(None);
        }
        let mut place = [0; 8];
        let mut length = [0; 4];
        self.0.read_exact(&mut order[1..])?;
        self.0.read_exact(&mut place)?;
        self.0.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        self.0.read_exact(&mut bytes)?;
        Ok(Some(Entry {
            order: i64::from_le_bytes(order),
            place: u64::from_le_bytes(place),
            bytes,
        }))
    }
}

/// Sorted runs as one.
struct Merge {
    runs: Vec<Run>,
    heads: BinaryHeap<Reverse<(Entry, usize)>>,
}

impl Merge {
    fn open(files: Vec<File>) -> std::io::Result<Self> {
        let runs: Vec<Run> = files
            .into_iter()
            .map(|file| Run(BufReader::with_capacity(1 << 16, file)))
            .collect();
        let mut merge = Self {
            heads: BinaryHeap::with_capacity(runs.len()),
            runs,
        };
        for index in 0..merge.runs.len() {
            merge.advance(index)?;
        }
        Ok(merge)
    }

    fn advance(&mut self, run: usize) -> std::io::Result<()> {
        if let Some(entry) = self.runs[run].next_entry()? {
            self.heads.push(Reverse((entry, run)));
        }
        Ok(())
    }
}

impl Iterator for Merge {
    type Item = std::io::Result<Entry>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((entry, run)) = self.heads.pop()?;
        Some(self.advance(run).map(|()| entry))
    }
}

/// A file whose records come in order, opened when they are due.
pub(super) struct Pending {
    /// The order of its first record.
    pub(super) first: Timestamp,
    pub(super) open: Box<dyn FnOnce() -> Result<Records, ImportError> + Send>,
}

/// Several files as one, in order. Yields the number of the file with each record.
pub(super) struct MergedFiles {
    /// Not opened yet, the latest first.
    pending: Vec<(usize, Pending)>,
    open: Vec<Option<Records>>,
    heads: Vec<Option<Record>>,
    /// The order of the head of each open file.
    due: BinaryHeap<Reverse<(Timestamp, usize)>>,
}

impl MergedFiles {
    pub(super) fn new(files: Vec<Pending>) -> Self {
        let count = files.len();
        let mut pending: Vec<(usize, Pending)> = files.into_iter().enumerate().collect();
        pending.sort_by_key(|(number, file)| Reverse((file.first, *number)));
        Self {
            pending,
            open: std::iter::repeat_with(|| None).take(count).collect(),
            heads: std::iter::repeat_with(|| None).take(count).collect(),
            due: BinaryHeap::new(),
        }
    }

    fn open_due(&mut self) -> Result<(), ImportError> {
        while let Some((_, file)) = self.pending.last() {
            let waits = self
                .due
                .peek()
                .is_some_and(|Reverse((head, _))| *head < file.first);
            if waits {
                break;
            }
            if let Some((number, file)) = self.pending.pop() {
                self.open[number] = Some((file.open)()?);
                self.advance(number)?;
            }
        }
        Ok(())
    }

    fn advance(&mut self, number: usize) -> Result<(), ImportError> {
        match self.open[number]
            .as_mut()
            .and_then(Iterator::next)
            .transpose()?
        {
            Some(record) => {
                self.due.push(Reverse((record.order, number)));
                self.heads[number] = Some(record);
            }
            None => self.open[number] = None,
        }
        Ok(())
    }

    fn next_record(&mut self) -> Result<Option<(usize, Record)>, ImportError> {
        self.open_due()?;
        let Some(Reverse((_, number))) = self.due.pop() else {
            return Ok(None);
        };
        let record = self.heads[number].take();
        self.advance(number)?;
        Ok(record.map(|record| (number, record)))
    }
}

impl Iterator for MergedFiles {
    type Item = Result<(usize, Record), ImportError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_record().transpose()
    }
}
