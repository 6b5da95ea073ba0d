//! Rows of comma-separated files. The separator (`,` `;` tab or `|`) is told by the header.

use std::io::{BufRead, Read};
use std::path::{Path, PathBuf};

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::ImportError;
use super::cell::{self, Inference};
use super::files::{self, ByteCount, TextReader};
use super::mapping::{Mapping, Moment, order_of_table};
use super::plan::Plan;
use super::table::{COLUMNS_MAX, Cells, Column, OrderCheck, ROW_BYTES_MAX, Row, Rows, Survey};
use crate::rejection::Rejection;

const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// The rows of a file.
pub(super) struct CsvRows {
    file: CsvFile,
    columns: Vec<Column>,
    record: ByteRecord,
}

impl CsvRows {
    pub(super) fn open(path: &Path, plan: &Plan, count: &ByteCount) -> Result<Self, ImportError> {
        Ok(Self {
            file: CsvFile::open(path, count)?,
            columns: plan.columns.clone(),
            record: ByteRecord::new(),
        })
    }

    fn cells(&self) -> Result<Cells, Rejection> {
        self.file.check_width(&self.record)?;
        let mut cells = Vec::with_capacity(self.columns.len());
        for (field, column) in self.record.iter().zip(&self.columns) {
            let text = std::str::from_utf8(field).map_err(|_| {
                Rejection::unreadable(format!(
                    "column '{}' is not UTF-8: convert the file",
                    column.name
                ))
            })?;
            cells.push(cell::of_text(text, column.cell_type));
        }
        Ok(Cells::Table(cells))
    }
}

impl Rows for CsvRows {
    fn next_row(&mut self) -> Result<Option<Row>, ImportError> {
        if !self.file.read(&mut self.record)? {
            return Ok(None);
        }
        let place = self.record.position().map_or(0, csv::Position::line);
        Ok(Some(Row {
            place,
            cells: self.cells(),
            text: line(&self.record, self.file.separator),
        }))
    }
}

/// Reads a file through once.
pub(super) fn survey_csv(
    path: &Path,
    mapping: &Mapping,
    count: &ByteCount,
) -> Result<Survey, ImportError> {
    let mut file = CsvFile::open(path, count)?;
    let column = |name: &String| Column {
        name: name.clone(),
        cell_type: super::table::CellType::Text,
        type_name: "text".to_owned(),
    };
    let mut columns: Vec<Column> = file.header.iter().map(column).collect();
    let places = mapping.order().places(&columns);
    let mut inferences = vec![Inference::default(); columns.len()];
    let mut order = OrderCheck::default();
    let mut rows = 0;
    let mut record = ByteRecord::new();
    while file.read(&mut record)? {
        rows += 1;
        let readable = file.check_width(&record).is_ok();
        let texts = || {
            record
                .iter()
                .map(|field| std::str::from_utf8(field).map(str::trim))
        };
        let readable = readable && texts().all(|text| text.is_ok());
        if !readable {
            order.next(None);
            continue;
        }
        for (text, inference) in texts().flatten().zip(&mut inferences) {
            inference.see(text);
        }
        let text_at = |index: usize| {
            record
                .get(index)
                .and_then(|field| std::str::from_utf8(field).ok())
        };
        order.next(order_of_table(&places, |index, steps| {
            match text_at(index) {
                Some(text) if steps.is_empty() => Moment::of_text(text),
                _ => Moment::Absent,
            }
        }));
    }
    for (column, inference) in columns.iter_mut().zip(&inferences) {
        column.cell_type = inference.cell_type();
    }
    Ok(Survey {
        columns,
        rows,
        sorted: order.is_sorted(),
        first: order.first(),
        calls: false,
    })
}

/// An open file behind its header.
struct CsvFile {
    path: PathBuf,
    reader: Reader<BoundedRows>,
    header: Vec<String>,
    separator: u8,
}

impl CsvFile {
    fn open(path: &Path, count: &ByteCount) -> Result<Self, ImportError> {
        let mut text = files::open(path, count)?;
        let separator = separator(&mut text).map_err(|source| ImportError::Open {
            path: path.to_owned(),
            source,
        })?;
        let mut reader = ReaderBuilder::new()
            .delimiter(separator)
            .flexible(true)
            .has_headers(false)
            .from_reader(BoundedRows {
                inner: text,
                since_row: 0,
            });
        let bad = |detail: String| ImportError::Read {
            path: path.to_owned(),
            detail,
        };
        let mut record = ByteRecord::new();
        if !reader
            .read_byte_record(&mut record)
            .map_err(|error| bad(describe(&error)))?
        {
            return Err(bad(
                "the file is empty: its first line must name the columns".to_owned(),
            ));
        }
        let mut header = Vec::with_capacity(record.len());
        for field in &record {
            let name = std::str::from_utf8(field)
                .map_err(|_| bad("the header is not UTF-8: convert the file".to_owned()))?;
            header.push(name.trim().trim_start_matches('\u{feff}').to_owned());
        }
        if header.len() > COLUMNS_MAX {
            return Err(bad(format!(
                "the header names more than {COLUMNS_MAX} columns"
            )));
        }
        Ok(Self {
            path: path.to_owned(),
            reader,
            header,
            separator,
        })
    }

    fn read(&mut self, record: &mut ByteRecord) -> Result<bool, ImportError> {
        self.reader.get_mut().since_row = 0;
        self.reader
            .read_byte_record(record)
            .map_err(|error| ImportError::Read {
                path: self.path.clone(),
                detail: describe(&error),
            })
    }

    fn check_width(&self, record: &ByteRecord) -> Result<(), Rejection> {
        if record.len() == self.header.len() {
            return Ok(());
        }
        Err(Rejection::unreadable(format!(
            "the row has {} values, the header names {} columns",
            record.len(),
            self.header.len()
        )))
    }
}

/// The message of an error with its cause, which the csv crate keeps apart.
fn describe(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Io(source) => source.to_string(),
        _ => error.to_string(),
    }
}

/// Stops reading when one row goes on for too long: a quote that is not closed would swallow the whole file.
struct BoundedRows {
    inner: TextReader,
    since_row: u64,
}

impl Read for BoundedRows {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.since_row > ROW_BYTES_MAX {
            return Err(std::io::Error::other(format!(
                "a row is longer than {ROW_BYTES_MAX} bytes: is a quote not closed?"
            )));
        }
        let read = self.inner.read(buffer)?;
        self.since_row += read as u64;
        Ok(read)
    }
}

/// The separator that stands most often in the first line, outside quotes.
fn separator(text: &mut TextReader) -> std::io::Result<u8> {
    let start = text.fill_buf()?;
    let mut counts = [0_usize; SEPARATORS.len()];
    let mut quoted = false;
    for byte in start.iter().take_while(|byte| **byte != b'\n') {
        if *byte == b'"' {
            quoted = !quoted;
        }
        if let Some(index) = SEPARATORS.iter().position(|separator| separator == byte) {
            counts[index] += usize::from(!quoted);
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    // of equally frequent ones the first counts, so a single column is comma-separated
    Ok(counts
        .iter()
        .position(|count| *count == most)
        .map_or(b',', |index| SEPARATORS[index]))
}

/// A record as a line again, quoted where it must be.
fn line(record: &ByteRecord, separator: u8) -> String {
    let mut line = String::with_capacity(record.as_slice().len() + record.len());
    for (index, field) in record.iter().enumerate() {
        if index > 0 {
            line.push(char::from(separator));
        }
        let text = String::from_utf8_lossy(field);
        if text
            .bytes()
            .any(|byte| byte == separator || matches!(byte, b'"' | b'\n' | b'\r'))
        {
            line.push('"');
            line.push_str(&text.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(&text);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_separator_is_told_by_the_header() {
        let check = |header: &str, expected: u8| {
            let mut text: TextReader =
                Box::new(std::io::Cursor::new(header.to_owned().into_bytes()));
            assert_eq!(separator(&mut text).unwrap(), expected, "{header}");
        };
        check("a,b,c\n1;2;3;4;5;6", b',');
        check("a;b;c\n", b';');
        check("\"a,b,c\";d", b';');
        check("a\tb", b'\t');
        check("a|b", b'|');
        check("a", b',');
        check("", b',');
    }

    #[test]
    fn a_record_is_written_as_it_was() {
        let record = ByteRecord::from(vec!["a", "b,c", "d\"e", ""]);
        assert_eq!(line(&record, b','), "a,\"b,c\",\"d\"\"e\",");
    }
}
