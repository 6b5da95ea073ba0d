//! Rows of files, whatever the format: CSV, JSON lines and Parquet look alike from here on.

use std::path::Path;

use serde_json::{Map, Value};
use tidemill_core::Timestamp;
use tidemill_core::project::SourceFormat;

use super::ImportError;
use super::csv_file::{CsvRows, survey_csv};
use super::files::ByteCount;
use super::jsonl_file::{JsonlRows, survey_jsonl};
use super::mapping::Mapping;
use super::parquet_file::{ParquetRows, survey_parquet};
use super::plan::Plan;
use crate::rejection::Rejection;

/// The most different columns of a file.
pub(super) const COLUMNS_MAX: usize = 1_000;
/// The longest row that is read, in bytes. Longer ones end the import: they mean an open quote or a binary file.
pub(super) const ROW_BYTES_MAX: u64 = 64 << 20;

/// What the values of a column are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CellType {
    /// Texts; also where some values would pass for numbers.
    Text,
    /// Numbers without exception.
    Number,
    /// Whole numbers written `17850.0` without exception: ids that went through a float, as pandas exports them.
    PointZero,
    /// `true` and `false` without exception.
    Bool,
    /// Values that know their type themselves: JSON, Parquet.
    Typed,
    /// Values that an event cannot hold.
    Unsupported,
}

/// A column of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) cell_type: CellType,
    /// The type in the words of the format; for messages.
    pub(super) type_name: String,
}

/// The values of one row.
#[derive(Debug)]
pub(super) enum Cells {
    /// By the place of the column.
    Table(Vec<Value>),
    /// By the name of the column.
    Named(Map<String, Value>),
    /// The row is a call of the tracking API; its values are its text.
    Call(Map<String, Value>),
}

/// One row as it was read.
#[derive(Debug)]
pub(super) struct Row {
    /// `line 17` of a text file counts from 1 with the header, `row 17` of Parquet from 1.
    pub(super) place: u64,
    /// The values, or why they cannot be read.
    pub(super) cells: Result<Cells, Rejection>,
    /// The row as text: what is kept when it is quarantined, and what its id is made from.
    pub(super) text: String,
}

/// A reader of rows. It fails where the file cannot be read on; a single bad row is a [`Row`] with a rejection.
pub(super) trait Rows: Send {
    fn next_row(&mut self) -> Result<Option<Row>, ImportError>;
}

/// What is learnt about a file before anything of it is stored.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) columns: Vec<Column>,
    pub(super) rows: u64,
    /// Whether the rows already stand in the order of their times.
    pub(super) sorted: bool,
    /// The smallest order key of all rows.
    pub(super) first: Timestamp,
    /// Whether some rows are calls of the tracking API.
    pub(super) calls: bool,
}

/// Whether instants come in order. Rows without a readable one stand where they are, after the row before them.
#[derive(Debug)]
pub(super) struct OrderCheck {
    first: Option<Timestamp>,
    last: Timestamp,
    sorted: bool,
}

impl Default for OrderCheck {
    fn default() -> Self {
        Self {
            first: None,
            last: BEFORE_ALL,
            sorted: true,
        }
    }
}

/// The order key of rows before the first readable instant.
pub(super) const BEFORE_ALL: Timestamp = Timestamp::from_micros(i64::MIN);

impl OrderCheck {
    /// The order key of the next row.
    pub(super) fn next(&mut self, time: Option<Timestamp>) -> Timestamp {
        if let Some(time) = time {
            self.sorted &= time >= self.last;
            self.last = time;
        }
        self.first = Some(self.first.map_or(self.last, |first| first.min(self.last)));
        self.last
    }

    pub(super) fn is_sorted(&self) -> bool {
        self.sorted
    }

    /// The smallest order key of all rows.
    pub(super) fn first(&self) -> Timestamp {
        self.first.unwrap_or(BEFORE_ALL)
    }
}

/// Reads a file through once: its columns and their types, and whether its rows stand in order.
pub(super) fn survey(
    path: &Path,
    format: SourceFormat,
    mapping: &Mapping,
    count: &ByteCount,
) -> Result<Survey, ImportError> {
    match format {
        SourceFormat::Csv => survey_csv(path, mapping, count),
        SourceFormat::Jsonl => survey_jsonl(path, mapping, count),
        SourceFormat::Parquet => survey_parquet(path, mapping, count),
    }
}

/// Opens a file for reading its rows as planned.
pub(super) fn rows(
    path: &Path,
    format: SourceFormat,
    plan: &Plan,
    count: &ByteCount,
) -> Result<Box<dyn Rows>, ImportError> {
    Ok(match format {
        SourceFormat::Csv => Box::new(CsvRows::open(path, plan, count)?),
        SourceFormat::Jsonl => Box::new(JsonlRows::open(path, plan.mapped, count)?),
        SourceFormat::Parquet => Box::new(ParquetRows::open(path, plan, count)?),
    })
}
