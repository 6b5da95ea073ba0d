//! Rows of Parquet files.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Date32Type, Date64Type, Decimal128Type, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType, UInt8Type,
    UInt16Type, UInt32Type, UInt64Type,
};
use datafusion::parquet::arrow::ProjectionMask;
use datafusion::parquet::arrow::arrow_reader::{
    ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use serde_json::{Map, Value};
use tidemill_core::Timestamp;

use super::ImportError;
use super::files::ByteCount;
use super::mapping::{Mapping, Moment, OrderPlace, find_steps, order_of_table};
use super::plan::Plan;
use super::table::{COLUMNS_MAX, CellType, Cells, Column, OrderCheck, Row, Rows, Survey};

const BATCH_ROWS: usize = 4_096;
const MICROS_PER_DAY: i64 = 86_400_000_000;

/// The rows of a file.
pub(super) struct ParquetRows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    columns: Vec<Column>,
    batch: Vec<ArrayRef>,
    batch_rows: usize,
    next: usize,
    place: u64,
    bytes_per_row: u64,
    count: ByteCount,
}

impl ParquetRows {
    pub(super) fn open(path: &Path, plan: &Plan, count: &ByteCount) -> Result<Self, ImportError> {
        let builder = builder(path)?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        let bytes = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        let reader = builder
            .with_batch_size(BATCH_ROWS)
            .build()
            .map_err(|error| bad(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            reader,
            columns: plan.columns.clone(),
            batch: Vec::new(),
            batch_rows: 0,
            next: 0,
            place: 0,
            // the file is read in pieces of columns, so progress is told in rows, as a share of the bytes
            bytes_per_row: bytes / rows.max(1),
            count: count.clone(),
        })
    }
}

impl Rows for ParquetRows {
    fn next_row(&mut self) -> Result<Option<Row>, ImportError> {
        while self.next == self.batch_rows {
            let Some(batch) = self.reader.next() else {
                return Ok(None);
            };
            let batch = batch.map_err(|error| bad(&self.path, &error))?;
            self.batch_rows = batch.num_rows();
            self.batch = plain_columns(&batch).map_err(|error| bad(&self.path, &error))?;
            self.next = 0;
            self.count.add(self.bytes_per_row * self.batch_rows as u64);
        }
        let cells: Vec<Value> = self
            .batch
            .iter()
            .map(|column| value(column, self.next))
            .collect();
        self.next += 1;
        self.place += 1;
        let named: Map<String, Value> = self
            .columns
            .iter()
            .zip(&cells)
            .filter(|(_, value)| !value.is_null())
            .map(|(column, value)| (column.name.clone(), value.clone()))
            .collect();
        Ok(Some(Row {
            place: self.place,
            cells: Ok(Cells::Table(cells)),
            text: Value::Object(named).to_string(),
        }))
    }
}

/// Reads the columns that order the rows through once.
pub(super) fn survey_parquet(
    path: &Path,
    mapping: &Mapping,
    count: &ByteCount,
) -> Result<Survey, ImportError> {
    let builder = builder(path)?;
    let columns = columns(builder.schema());
    if columns.len() > COLUMNS_MAX {
        let detail = format!("the file has more than {COLUMNS_MAX} columns");
        return Err(ImportError::Read {
            path: path.to_owned(),
            detail,
        });
    }
    for (_, from) in &mapping.fields {
        if let super::mapping::Origin::Column(name) = from {
            let found = super::mapping::locate(name, &columns).map(|(index, _)| &columns[index]);
            if let Some(column) = found.filter(|column| column.cell_type == CellType::Unsupported) {
                return Err(ImportError::UnsupportedColumn {
                    path: path.to_owned(),
                    column: column.name.clone(),
                    data_type: column.type_name.clone(),
                });
            }
        }
    }
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
    let places = mapping.order().places(&columns);
    let mut roots: Vec<usize> = places.iter().filter_map(OrderPlace::column).collect();
    roots.sort_unstable();
    roots.dedup();
    let mask = ProjectionMask::roots(builder.parquet_schema(), roots.iter().copied());
    let reader = builder
        .with_projection(mask)
        .with_batch_size(BATCH_ROWS)
        .build()
        .map_err(|error| bad(path, &error))?;
    let mut order = OrderCheck::default();
    for batch in reader {
        let batch = batch.map_err(|error| bad(path, &error))?;
        let arrays = plain_columns(&batch).map_err(|error| bad(path, &error))?;
        for row in 0..batch.num_rows() {
            order.next(order_of_table(&places, |index, steps| {
                let Ok(at) = roots.binary_search(&index) else {
                    return Moment::Absent;
                };
                find_steps(&value(&arrays[at], row), steps).map_or(Moment::Absent, Moment::of_value)
            }));
        }
    }
    count.add(std::fs::metadata(path).map_or(0, |metadata| metadata.len()));
    Ok(Survey {
        columns,
        rows,
        sorted: order.is_sorted(),
        first: order.first(),
        calls: false,
    })
}

fn builder(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, ImportError> {
    let file = File::open(path).map_err(|source| ImportError::Open {
        path: path.to_owned(),
        source,
    })?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| bad(path, &error))
}

fn bad(path: &Path, error: &dyn std::error::Error) -> ImportError {
    ImportError::Read {
        path: path.to_owned(),
        detail: error.to_string(),
    }
}

fn columns(schema: &Arc<Schema>) -> Vec<Column> {
    let column = |field: &Arc<datafusion::arrow::datatypes::Field>| Column {
        name: field.name().clone(),
        cell_type: if is_supported(field.data_type()) {
            CellType::Typed
        } else {
            CellType::Unsupported
        },
        type_name: field.data_type().to_string(),
    };
    schema.fields().iter().map(column).collect()
}

fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Null
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Float16
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Date32
        | DataType::Date64
        | DataType::Timestamp(_, _)
        | DataType::Decimal128(_, _) => true,
        DataType::Dictionary(_, value) => is_supported(value),
        DataType::List(field) | DataType::LargeList(field) => is_supported(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        _ => false,
    }
}

/// The columns of a batch in the few types that [`value`] reads.
fn plain_columns(
    batch: &RecordBatch,
) -> Result<Vec<ArrayRef>, datafusion::arrow::error::ArrowError> {
    batch.columns().iter().map(plain).collect()
}

fn plain(array: &ArrayRef) -> Result<ArrayRef, datafusion::arrow::error::ArrowError> {
    match array.data_type() {
        DataType::Dictionary(_, value) => plain(&cast(array, value)?),
        DataType::LargeUtf8 | DataType::Utf8View => cast(array, &DataType::Utf8),
        DataType::Float16 => cast(array, &DataType::Float32),
        DataType::Timestamp(_, zone) => cast(
            array,
            &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        ),
        _ => Ok(Arc::clone(array)),
    }
}

/// One value as JSON. Instants and days become texts, decimals floats; what is not a number (NaN, infinities) is absent, because
/// that is how data frames write an absent number.
fn value(array: &ArrayRef, row: usize) -> Value {
    if array.is_null(row) {
        return Value::Null;
    }
    match array.data_type() {
        DataType::Boolean => array.as_boolean().value(row).into(),
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        DataType::Int64 => array.as_primitive::<Int64Type>().value(row).into(),
        DataType::UInt8 => array.as_primitive::<UInt8Type>().value(row).into(),
        DataType::UInt16 => array.as_primitive::<UInt16Type>().value(row).into(),
        DataType::UInt32 => array.as_primitive::<UInt32Type>().value(row).into(),
        DataType::UInt64 => array.as_primitive::<UInt64Type>().value(row).into(),
        DataType::Float32 => array.as_primitive::<Float32Type>().value(row).into(),
        DataType::Float64 => array.as_primitive::<Float64Type>().value(row).into(),
        DataType::Utf8 => array.as_string::<i32>().value(row).into(),
        DataType::Date32 => day(i64::from(array.as_primitive::<Date32Type>().value(row))),
        DataType::Date64 => day(array
            .as_primitive::<Date64Type>()
            .value(row)
            .div_euclid(86_400_000)),
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
            Timestamp::from_micros(micros).to_string().into()
        }
        DataType::Decimal128(_, scale) => {
            let units = array.as_primitive::<Decimal128Type>().value(row);
            // the text of the decimal, so that 19.99 is the float nearest to 19.99
            let text = format!("{units}e{}", -i32::from(*scale));
            text.parse::<f64>().map_or(Value::Null, Value::from)
        }
        DataType::List(_) => list(&array.as_list::<i32>().value(row)),
        DataType::LargeList(_) => list(&array.as_list::<i64>().value(row)),
        DataType::Struct(_) => {
            let group = array.as_struct();
            let members = group.column_names().into_iter().zip(group.columns());
            let member = |(name, column): (&str, &ArrayRef)| (name.to_owned(), nested(column, row));
            Value::Object(members.map(member).collect())
        }
        _ => Value::Null,
    }
}

fn day(days: i64) -> Value {
    Timestamp::from_micros(days.saturating_mul(MICROS_PER_DAY))
        .date()
        .into()
}

fn list(values: &ArrayRef) -> Value {
    (0..values.len()).map(|row| nested(values, row)).collect()
}

/// A value inside a list or struct, whose type may need the same conversion as a column's.
fn nested(array: &ArrayRef, row: usize) -> Value {
    plain(&array.slice(row, 1)).map_or(Value::Null, |plain| value(&plain, 0))
}
