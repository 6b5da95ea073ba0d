//! Import: history from CSV, JSON lines and Parquet files becomes events, in the order in which it happened.
//!
//! Files are read twice: once to learn their columns, types and order and to find every mistake of the mapping before
//! anything is stored, and once to store. CSV and JSON lines may be compressed with zstd or gzip.
//!
//! *Mapping*: a source of the project file says which column (or constant in single quotes) goes where. Without a mapping,
//! columns go where their names say (`user_id`, `timestamp`, `event`, `properties.…`), all others become properties. Lines
//! of JSON that are calls of the tracking API need no mapping.
//!
//! *Types*: the values of a CSV column are numbers or truth values only if all of them are; ids, the item's property and properties
//! that are declared as texts stay texts.
//!
//! *Time*: rows are stored in the order of their times, whatever the order of the file. `received_at` is the time of the
//! event unless the source has a column for it, and then that is the order.
//!
//! *Once*: a row without a message id gets one from its content, so the same row of an overlapping export is a duplicate, while
//! the second of two equal rows in one file is not. A file is known by its content: a finished one is not read
//! again, an interrupted one goes on where it stopped.

mod cell;
mod csv_file;
mod error;
mod files;
mod jsonl_file;
mod ledger;
mod mapping;
mod order;
mod parquet_file;
mod plan;
mod reading;
mod storing;
mod table;

pub use error::ImportError;
pub use files::files;
pub use ledger::{Unfinished, unfinished};
pub use order::Imported;
pub use reading::{ImportedRows, rows};
pub use storing::run;

use std::path::PathBuf;

use tidemill_core::Timestamp;

/// How an import is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportOptions {
    /// Read files again that have been imported before. What the log still remembers is a duplicate then.
    pub again: bool,
    /// The memory for sorting, in bytes; beyond it rows are sorted through temporary files.
    pub memory_bytes_max: usize,
    /// Where temporary files are written; the system's folder for them where absent.
    pub temp_folder: Option<PathBuf>,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            again: false,
            memory_bytes_max: 128 << 20,
            temp_folder: None,
        }
    }
}

impl ImportOptions {
    fn temp_folder(&self) -> PathBuf {
        self.temp_folder.clone().unwrap_or_else(std::env::temp_dir)
    }
}

/// What an import is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Reading the files through once, to learn their columns, types and order.
    Surveying,
    /// Reading them again and storing their rows.
    Storing,
}

/// How far an import is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What it is doing.
    pub phase: Phase,
    /// The bytes of the files that were read in this phase.
    pub bytes_read: u64,
    /// The bytes of all files of this phase.
    pub bytes_total: u64,
    /// The rows that were stored, as far as is known.
    pub rows: u64,
    /// The rows of all files; known once they were surveyed.
    pub rows_total: Option<u64>,
    /// Events that were stored.
    pub accepted: u64,
    /// Events that had been stored before.
    pub duplicates: u64,
    /// Rows that were quarantined.
    pub quarantined: u64,
}

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Its rows, those that earlier runs stored included; 0 for a file that was finished before and not read.
    pub rows: u64,
    /// Rows that an earlier run had done and this one did not touch.
    pub rows_done_before: u64,
    /// Whether it was not read because an earlier run had finished it, or because a file before it has the same content.
    pub finished_before: bool,
    /// Whether its rows were sorted because they did not stand in the order of their times.
    pub was_sorted: bool,
    /// Columns that were left out: not mapped, or of a type that events cannot hold.
    pub ignored_columns: Vec<String>,
    /// Events that were stored by this run.
    pub accepted: u64,
    /// Events that had been stored before.
    pub duplicates: u64,
    /// Rows that were quarantined by this run.
    pub quarantined: u64,
}

/// What became of an import. Every row of every file is in exactly one count of its file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImportReport {
    /// The files, in the order in which they were given.
    pub files: Vec<FileReport>,
    /// Events that were stored by this run.
    pub accepted: u64,
    /// Events that had been stored before.
    pub duplicates: u64,
    /// Rows that were quarantined by this run.
    pub quarantined: u64,
    /// When the first stored event happened.
    pub first: Option<Timestamp>,
    /// When the last stored event happened.
    pub last: Option<Timestamp>,
}

impl ImportReport {
    /// Whether every file had been imported before, so that nothing was done.
    pub fn nothing_new(&self) -> bool {
        self.files.iter().all(|file| file.finished_before)
    }
}

#[cfg(test)]
mod tests;
