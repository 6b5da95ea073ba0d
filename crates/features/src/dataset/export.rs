//! Datasets as files for other tools: DuckDB, pandas, Polars, a spreadsheet.

use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::arrow::csv;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, Schema, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use tidemill_core::sync::Mutex;

use super::DatasetRecord;
use super::table::TARGET;
use crate::FeatureError;

/// The name of the class, beside its number in `target`.
const TARGET_CLASS: &str = "target_class";
/// RFC 3339 in UTC, always to the microsecond: readers guess the format from the first rows.
const TIME_FORMAT: &str = "%Y-%m-%dT%H:%M:%S%.6fZ";
/// The rows of a Parquet file that are encoded together: they are held in memory.
const ROW_GROUP_ROWS: usize = 32_768;

/// A kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportFormat {
    /// Apache Parquet: types stay, and it is small.
    Parquet,
    /// Text with commas: a header, times as RFC 3339, nothing for what is missing.
    Csv,
}

impl ExportFormat {
    /// The name, which is also the ending of files.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
        }
    }

    /// The media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Parquet => "application/vnd.apache.parquet",
            Self::Csv => "text/csv; charset=utf-8",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for ExportFormat {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Parquet, Self::Csv]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("'{text}' is not a format: use parquet or csv"))
    }
}

/// Turns the rows of a dataset into a file, batch by batch, with bounded memory.
///
/// The columns are those of the dataset; for next-action models `target_class` has the name of the class.
pub struct Export {
    format: ExportFormat,
    classes: Option<Vec<String>>,
    bytes: Bytes,
    writer: Option<Writer>,
}

enum Writer {
    Parquet(Box<ArrowWriter<Bytes>>),
    Csv(Box<csv::Writer<Bytes>>),
}

/// What has been written and not yet taken.
#[derive(Clone, Default)]
struct Bytes(Arc<Mutex<Vec<u8>>>);

impl Write for Bytes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Export {
    /// Of the dataset with this record.
    pub fn new(format: ExportFormat, record: &DatasetRecord) -> Self {
        Self {
            format,
            classes: record.classes.clone(),
            bytes: Bytes::default(),
            writer: None,
        }
    }

    /// Takes the next rows; returns the bytes of the file that are ready, perhaps none.
    ///
    /// # Errors
    /// When the columns are not those of a dataset, or others than before.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<Vec<u8>, FeatureError> {
        let rows = match &self.classes {
            Some(classes) => with_class(rows, classes)?,
            None => rows.clone(),
        };
        let writer = match &mut self.writer {
            Some(writer) => writer,
            empty => empty.insert(open(self.format, &rows.schema(), self.bytes.clone())?),
        };
        match writer {
            Writer::Parquet(writer) => writer.write(&rows).map_err(DataFusionError::from)?,
            Writer::Csv(writer) => writer.write(&rows).map_err(DataFusionError::from)?,
        }
        Ok(std::mem::take(&mut *self.bytes.0.lock()))
    }

    /// The last bytes of the file.
    ///
    /// # Errors
    /// As [`Export::push`].
    pub fn finish(mut self) -> Result<Vec<u8>, FeatureError> {
        if let Some(Writer::Parquet(writer)) = self.writer.take() {
            writer.close().map_err(DataFusionError::from)?;
        }
        Ok(std::mem::take(&mut *self.bytes.0.lock()))
    }
}

fn open(format: ExportFormat, schema: &SchemaRef, bytes: Bytes) -> Result<Writer, FeatureError> {
    if format == ExportFormat::Csv {
        let writer = csv::WriterBuilder::new().with_timestamp_tz_format(TIME_FORMAT.to_owned());
        return Ok(Writer::Csv(Box::new(writer.build(bytes))));
    }
    let open = || -> Result<_, ParquetError> {
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        ArrowWriter::try_new(bytes, schema.clone(), Some(properties))
    };
    let writer = open().map_err(DataFusionError::from)?;
    Ok(Writer::Parquet(Box::new(writer)))
}

/// The rows with the name of the class behind its number.
fn with_class(rows: &RecordBatch, classes: &[String]) -> Result<RecordBatch, FeatureError> {
    let schema = rows.schema();
    let targets = schema.index_of(TARGET).map_err(DataFusionError::from)?;
    let column = rows.column(targets).as_primitive_opt::<Float64Type>();
    let column = column
        .ok_or_else(|| FeatureError::DatasetTable(format!("the column '{TARGET}' is no number")))?;
    let name = |target: Option<f64>| {
        let place = target.filter(|target| *target >= 0.0)?;
        classes.get(place as usize).map(String::as_str)
    };
    let names: ArrayRef = Arc::new(column.iter().map(name).collect::<StringArray>());
    let mut fields = schema.fields().to_vec();
    let mut columns = rows.columns().to_vec();
    let field = Field::new(TARGET_CLASS, DataType::Utf8, true);
    fields.insert(targets + 1, Arc::new(field));
    columns.insert(targets + 1, names);
    let rows = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns);
    Ok(rows.map_err(DataFusionError::from)?)
}
