//! Columns as the tables have them: writing and reading what they have in common.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, TimeUnit, TimestampMicrosecondType,
};
use tidemill_core::Timestamp;

use crate::StoreError;

/// The days that a date can have: 0001-01-01 to 9999-12-31. A time outside is filed under the nearest.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

pub(super) fn text(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Utf8, nullable)
}

pub(super) fn long(name: &str, nullable: bool) -> Field {
    Field::new(name, DataType::Int64, nullable)
}

pub(super) fn double(name: &str) -> Field {
    Field::new(name, DataType::Float64, false)
}

pub(super) fn time(name: &str) -> Field {
    Field::new(
        name,
        DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        false,
    )
}

pub(super) fn date() -> Field {
    Field::new(super::table::DATE, DataType::Date32, false)
}

pub(super) fn texts<S: AsRef<str>>(values: impl Iterator<Item = S>) -> ArrayRef {
    Arc::new(StringArray::from_iter_values(values))
}

pub(super) fn optional_texts<S: AsRef<str>>(values: impl Iterator<Item = Option<S>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(super) fn booleans(values: impl Iterator<Item = bool>) -> ArrayRef {
    Arc::new(values.map(Some).collect::<BooleanArray>())
}

pub(super) fn times(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    Arc::new(
        TimestampMicrosecondArray::from_iter_values(values.map(Timestamp::micros))
            .with_timezone("UTC"),
    )
}

pub(super) fn dates(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    let day = |time: Timestamp| {
        i32::try_from(time.day().clamp(*DAYS.start(), *DAYS.end()))
            .expect("the days of a date fit 32 bits")
    };
    Arc::new(Date32Array::from_iter_values(values.map(day)))
}

/// Places in an order, or other counts that stay far below 2^63.
pub(super) fn places(values: impl Iterator<Item = u64>) -> Result<ArrayRef, StoreError> {
    let values: Result<Vec<i64>, _> = values.map(super::table::place_to_long).collect();
    Ok(Arc::new(Int64Array::from(values?)))
}

/// The columns of a batch by name, in the types that they were written with (another writer of the same table may have
/// chosen another layout for them).
pub(super) struct Columns<'b>(pub(super) &'b RecordBatch);

impl Columns<'_> {
    fn column(&self, name: &str, wanted: &DataType) -> Result<ArrayRef, StoreError> {
        let column = self
            .0
            .column_by_name(name)
            .ok_or_else(|| StoreError::corrupt("the table", format!("it has no column {name}")))?;
        if column.data_type() == wanted {
            return Ok(Arc::clone(column));
        }
        cast(column, wanted)
            .map_err(|e| StoreError::corrupt("the table", format!("column {name}: {e}")))
    }

    fn complete(&self, name: &str, column: &dyn Array) -> Result<(), StoreError> {
        if column.null_count() == 0 {
            Ok(())
        } else {
            Err(StoreError::corrupt(
                "the table",
                format!("column {name} has rows without a value"),
            ))
        }
    }

    pub(super) fn optional_texts(&self, name: &str) -> Result<StringArray, StoreError> {
        Ok(self.column(name, &DataType::Utf8)?.as_string().clone())
    }

    pub(super) fn texts(&self, name: &str) -> Result<StringArray, StoreError> {
        let column = self.optional_texts(name)?;
        self.complete(name, &column)?;
        Ok(column)
    }

    pub(super) fn booleans(&self, name: &str) -> Result<BooleanArray, StoreError> {
        let column = self.column(name, &DataType::Boolean)?.as_boolean().clone();
        self.complete(name, &column)?;
        Ok(column)
    }

    pub(super) fn times(&self, name: &str) -> Result<Vec<Timestamp>, StoreError> {
        let wanted = time(name);
        let column = self.column(name, wanted.data_type())?;
        self.complete(name, &column)?;
        let column = column.as_primitive::<TimestampMicrosecondType>();
        Ok(column
            .values()
            .iter()
            .map(|micros| Timestamp::from_micros(*micros))
            .collect())
    }

    pub(super) fn places(&self, name: &str) -> Result<Vec<u64>, StoreError> {
        let column = self.column(name, &DataType::Int64)?;
        self.complete(name, &column)?;
        let column = column.as_primitive::<Int64Type>();
        let places: Result<Vec<u64>, _> = column
            .values()
            .iter()
            .map(|place| u64::try_from(*place))
            .collect();
        places.map_err(|e| StoreError::corrupt("the table", format!("column {name}: {e}")))
    }
}
