//! Rows of several data files in the order of one column, with bounded memory.
//!
//! The rows of a file stand in order already, because they landed in order; files overlap, because a landing that
//! spans midnight, or brings history, writes one file for each day. So the files are merged, and each is opened
//! only when the merge reaches its first row.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;

use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, BooleanArray, RecordBatch, RecordBatchReader};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder, RowFilter,
};
use datafusion::parquet::errors::ParquetError;

use super::table::DataFile;
use crate::StoreError;

/// How many rows of each open file are decoded at a time.
const ROWS_PER_BATCH: usize = 4_096;

/// What is read of each file.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    /// The columns, that of the order among them; all of them where empty.
    pub(super) columns: Vec<&'static str>,
    /// Columns of texts that are read as dictionaries, since rows share them.
    pub(super) repeated: &'static [&'static str],
    /// A column of texts, and the texts of the rows that are read; all rows where absent.
    pub(super) only: Option<(&'static str, Vec<&'static str>)>,
}

impl Selection {
    /// A reader of that much of a file.
    fn open(&self, file: File) -> Result<ParquetRecordBatchReader, ParquetError> {
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::default())?;
        let options = ArrowReaderOptions::new().with_schema(Arc::new(self.schema(&metadata)));
        let metadata = ArrowReaderMetadata::try_new(metadata.metadata().clone(), options)?;
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
            .with_batch_size(ROWS_PER_BATCH);
        let schema = builder.parquet_schema().clone();
        if let Some((column, texts)) = &self.only {
            let mask = ProjectionMask::columns(&schema, [*column]);
            let texts = texts.clone();
            let is_one = move |batch: RecordBatch| {
                let column = cast(batch.column(0), &DataType::Utf8)?;
                let known = column.as_string::<i32>().iter();
                let known = known.map(|text| Some(text.is_some_and(|text| texts.contains(&text))));
                Ok(known.collect::<BooleanArray>())
            };
            let predicate = ArrowPredicateFn::new(mask, is_one);
            builder = builder.with_row_filter(RowFilter::new(vec![Box::new(predicate)]));
        }
        if !self.columns.is_empty() {
            let mask = ProjectionMask::columns(&schema, self.columns.iter().copied());
            builder = builder.with_projection(mask);
        }
        builder.build()
    }

    /// The schema of a file with dictionaries for the columns that repeat.
    fn schema(&self, file: &ArrowReaderMetadata) -> Schema {
        let fields = file.schema().fields().iter().map(|field| {
            if !self.repeated.contains(&field.name().as_str()) {
                return Field::clone(field);
            }
            let texts = Box::new(field.data_type().clone());
            let repeated = DataType::Dictionary(Box::new(DataType::Int32), texts);
            Field::clone(field).with_data_type(repeated)
        });
        Schema::new(fields.collect::<Vec<_>>())
    }
}

/// Files with the smallest place of each; 0, so that it is opened at once, where that is not known.
pub(super) fn places(files: Vec<DataFile>, order: &str) -> Vec<(u64, PathBuf)> {
    let place = |file: DataFile| {
        let least = file.least(order).and_then(serde_json::Value::as_u64);
        (least.unwrap_or(0), file.path)
    };
    files.into_iter().map(place).collect()
}

/// The rows of files, merged: an iterator over slices of their batches.
pub(super) struct OrderedRows {
    order: &'static str,
    selection: Selection,
    /// Rows after this place are left out.
    last: u64,
    /// Those that were not reached yet, by their smallest place.
    waiting: VecDeque<(u64, PathBuf)>,
    /// By the place of the next row, and the index in `cursors`.
    next: BinaryHeap<Reverse<(u64, usize)>>,
    cursors: Vec<Option<Cursor>>,
    /// The place of the last row that was given out.
    given: Option<u64>,
    failed: bool,
}

/// A file that is being read.
struct Cursor {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    batch: RecordBatch,
    places: Vec<u64>,
    /// The next row of the batch.
    row: usize,
}

impl OrderedRows {
    /// The rows of these files up to a place in the order.
    pub(super) fn new(
        files: Vec<DataFile>,
        order: &'static str,
        last: u64,
        selection: Selection,
    ) -> Self {
        Self::of(places(files, order), order, last, selection)
    }

    /// The same of files with the smallest place of each.
    pub(super) fn of(
        mut waiting: Vec<(u64, PathBuf)>,
        order: &'static str,
        last: u64,
        selection: Selection,
    ) -> Self {
        waiting.retain(|(least, _)| *least <= last);
        waiting.sort();
        Self {
            order,
            selection,
            last,
            waiting: waiting.into(),
            next: BinaryHeap::new(),
            cursors: Vec::new(),
            given: None,
            failed: false,
        }
    }

    /// The next rows that stand together in one file.
    fn advance(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        // Every file that may hold the smallest row has to be open.
        while let Some((least, _)) = self.waiting.front() {
            if self
                .next
                .peek()
                .is_some_and(|Reverse((place, _))| place < least)
            {
                break;
            }
            if let Some((_, path)) = self.waiting.pop_front() {
                self.open(path)?;
            }
        }
        let Some(Reverse((place, index))) = self.next.pop() else {
            return Ok(None);
        };
        if place > self.last {
            return Ok(None);
        }
        let other = self
            .next
            .peek()
            .map_or(u64::MAX, |Reverse((place, _))| *place);
        let waiting = self.waiting.front().map_or(u64::MAX, |(least, _)| *least);
        let end = other.min(waiting).min(self.last.saturating_add(1));
        let Some(cursor) = self.cursors.get_mut(index).and_then(Option::as_mut) else {
            return Ok(None);
        };
        if self.given.is_some_and(|given| given >= place) || place >= end {
            return Err(StoreError::corrupt(
                cursor.path.display().to_string(),
                format!("row {place} is there twice"),
            ));
        }
        let from = cursor.row;
        let length = cursor.places[from..].partition_point(|place| *place < end);
        let rows = cursor.batch.slice(from, length);
        cursor.row += length;
        self.given = cursor.places.get(cursor.row - 1).copied();
        if cursor.row == cursor.places.len() && !cursor.read(self.order)? {
            self.cursors[index] = None;
        } else {
            self.next.push(Reverse((cursor.places[cursor.row], index)));
        }
        Ok(Some(rows))
    }

    fn open(&mut self, path: PathBuf) -> Result<(), StoreError> {
        let file = File::open(&path).map_err(|e| StoreError::file("open", &path, e))?;
        let reader = self
            .selection
            .open(file)
            .map_err(|e| StoreError::corrupt(path.display().to_string(), e))?;
        let batch = RecordBatch::new_empty(reader.schema());
        let mut cursor = Cursor {
            path,
            reader,
            batch,
            places: Vec::new(),
            row: 0,
        };
        if cursor.read(self.order)? {
            self.next
                .push(Reverse((cursor.places[0], self.cursors.len())));
            self.cursors.push(Some(cursor));
        }
        Ok(())
    }
}

impl Cursor {
    /// Decodes the next batch that is not empty; false at the end of the file.
    fn read(&mut self, order: &str) -> Result<bool, StoreError> {
        let damaged = |path: &PathBuf, detail: String| {
            StoreError::corrupt(path.display().to_string(), detail)
        };
        let before = self.places.last().copied();
        loop {
            let Some(batch) = self.reader.next() else {
                return Ok(false);
            };
            let batch = batch.map_err(|e| damaged(&self.path, e.to_string()))?;
            if batch.num_rows() == 0 {
                continue;
            }
            let places: Option<Vec<u64>> = batch
                .column_by_name(order)
                .and_then(|column| column.as_primitive_opt::<Int64Type>())
                .filter(|column| column.null_count() == 0)
                .and_then(|column| {
                    column
                        .values()
                        .iter()
                        .map(|place| u64::try_from(*place).ok())
                        .collect()
                });
            let places = places.ok_or_else(|| {
                damaged(
                    &self.path,
                    format!("column {order} is not as it was written"),
                )
            })?;
            if !places.is_sorted_by(|a, b| a < b)
                || before.is_some_and(|before| before >= places[0])
            {
                return Err(damaged(
                    &self.path,
                    "its rows do not stand in order".to_owned(),
                ));
            }
            self.places = places;
            self.batch = batch;
            self.row = 0;
            return Ok(true);
        }
    }
}

impl Iterator for OrderedRows {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let rows = self.advance().transpose();
        self.failed = matches!(rows, Some(Err(_)));
        rows
    }
}
