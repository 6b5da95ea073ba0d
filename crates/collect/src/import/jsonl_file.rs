//! Rows of files with one JSON object a line: calls of the tracking API, or objects of any shape.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::ImportError;
use super::files::{self, ByteCount, TextReader};
use super::mapping::Mapping;
use super::table::{
    COLUMNS_MAX, CellType, Cells, Column, OrderCheck, ROW_BYTES_MAX, Row, Rows, Survey,
};
use crate::rejection::Rejection;
use crate::segment;

/// The rows of a file.
pub(super) struct JsonlRows {
    path: PathBuf,
    reader: TextReader,
    line: u64,
    /// Whether a mapping holds: then no line is taken for a call.
    mapped: bool,
    buffer: Vec<u8>,
}

impl JsonlRows {
    pub(super) fn open(path: &Path, mapped: bool, count: &ByteCount) -> Result<Self, ImportError> {
        let reader = files::open(path, count)?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            line: 0,
            mapped,
            buffer: Vec::new(),
        })
    }

    /// Reads the next line that is not blank into the buffer.
    fn read_line(&mut self) -> Result<bool, ImportError> {
        loop {
            self.buffer.clear();
            self.line += 1;
            let failed = |detail: String| ImportError::Read {
                path: self.path.clone(),
                detail,
            };
            let mut bounded = std::io::Read::take(&mut self.reader, ROW_BYTES_MAX + 1);
            let read = bounded
                .read_until(b'\n', &mut self.buffer)
                .map_err(|error| failed(format!("line {}: {error}", self.line)))?;
            if read == 0 {
                return Ok(false);
            }
            if self.buffer.len() as u64 > ROW_BYTES_MAX {
                return Err(failed(format!(
                    "line {} is longer than {ROW_BYTES_MAX} bytes",
                    self.line
                )));
            }
            if !self.buffer.iter().all(u8::is_ascii_whitespace) {
                return Ok(true);
            }
        }
    }

    fn cells(&self, text: &str) -> Result<Cells, Rejection> {
        let object: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| segment::unreadable(&error))?;
        Ok(if !self.mapped && is_call(&object) {
            Cells::Call(object)
        } else {
            Cells::Named(object)
        })
    }
}

impl Rows for JsonlRows {
    fn next_row(&mut self) -> Result<Option<Row>, ImportError> {
        if !self.read_line()? {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&self.buffer);
        let text = text.trim().trim_start_matches('\u{feff}');
        let cells = match std::str::from_utf8(&self.buffer) {
            Ok(_) => self.cells(text),
            Err(_) => Err(Rejection::unreadable(
                "the line is not UTF-8: convert the file",
            )),
        };
        Ok(Some(Row {
            place: self.line,
            cells,
            text: text.to_owned(),
        }))
    }
}

/// Whether an object is a call of the tracking API: it has a `type` of that API, or an `event` with an object of
/// `properties`. Objects that only have an `event` are read by the names of their members, so that none is lost.
fn is_call(object: &Map<String, Value>) -> bool {
    match object.get("type") {
        Some(Value::String(kind)) => {
            matches!(
                kind.as_str(),
                "track" | "identify" | "page" | "screen" | "group" | "alias"
            )
        }
        Some(_) => false,
        None => {
            object.get("event").is_some_and(Value::is_string)
                && object.get("properties").is_some_and(Value::is_object)
                && ["userId", "anonymousId"]
                    .iter()
                    .any(|id| object.contains_key(*id))
        }
    }
}

/// Reads a file through once.
pub(super) fn survey_jsonl(
    path: &Path,
    mapping: &Mapping,
    count: &ByteCount,
) -> Result<Survey, ImportError> {
    let mut reader = JsonlRows::open(path, !mapping.fields.is_empty(), count)?;
    let order_by = mapping.order();
    let mut order = OrderCheck::default();
    let mut columns: Vec<Column> = Vec::new();
    let mut known = std::collections::HashSet::new();
    let mut calls = false;
    let mut full = false;
    let mut rows = 0;
    while let Some(row) = reader.next_row()? {
        rows += 1;
        let Ok(cells) = row.cells else {
            order.next(None);
            continue;
        };
        order.next(cells.order(&order_by, &[]));
        match cells {
            Cells::Named(object) => {
                for name in object.keys() {
                    let room = columns.len() < COLUMNS_MAX;
                    if known.contains(name) || !(room || reader.mapped && mapping.reads(name)) {
                        full |= !room && !known.contains(name);
                        continue;
                    }
                    known.insert(name.clone());
                    columns.push(Column {
                        name: name.clone(),
                        cell_type: CellType::Typed,
                        type_name: "json".to_owned(),
                    });
                }
            }
            Cells::Call(_) => calls = true,
            Cells::Table(_) => {}
        }
    }
    if full && !reader.mapped {
        let detail = format!(
            "its objects have more than {COLUMNS_MAX} different members: map the ones that are wanted"
        );
        return Err(ImportError::Read {
            path: path.to_owned(),
            detail,
        });
    }
    Ok(Survey {
        columns,
        rows,
        sorted: order.is_sorted(),
        first: order.first(),
        calls,
    })
}
