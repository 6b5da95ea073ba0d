//! Datasets as Arrow record batches: how they are kept in the lake.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, Field, Float64Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType,
};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use tidemill_core::event::PersonKey;
use tidemill_core::feature::ColumnValues;
use tidemill_core::{FeatureColumn, FeatureTable, FeatureType, Offset, Timestamp};

use super::{Dataset, DatasetRecord};
use crate::FeatureError;
use crate::expression::to_array;

/// The rows of one record batch.
const BATCH_ROWS: usize = 8_192;

/// The columns beside the features, in front of them.
const ENTITY: &str = "entity";
const MOMENT: &str = "moment";
const OFFSET: &str = "offset";
pub(super) const TARGET: &str = "target";
const WEIGHT: &str = "weight";

fn time_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

impl Dataset {
    /// The rows as record batches, at least one: `entity`, `moment`, `offset`, `target`, `weight`, then the features by their
    /// names. The [record](Dataset::record) is kept apart, as JSON.
    ///
    /// # Errors
    /// Never for a dataset that was built here.
    pub fn to_batches(&self) -> Result<Vec<RecordBatch>, FeatureError> {
        let mut fields = vec![
            Field::new(ENTITY, DataType::Utf8, false),
            Field::new(MOMENT, time_type(), false),
            Field::new(OFFSET, DataType::Int64, false),
            Field::new(TARGET, DataType::Float64, false),
            Field::new(WEIGHT, DataType::Float64, false),
        ];
        let moments = self.moments.iter().map(|moment| moment.micros());
        let offsets = self
            .offsets
            .iter()
            .map(|offset| i64::try_from(offset.0).unwrap_or(i64::MAX));
        let mut arrays: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(
                self.entities.iter().map(PersonKey::as_str),
            )),
            Arc::new(TimestampMicrosecondArray::from_iter_values(moments).with_timezone("UTC")),
            Arc::new(Int64Array::from_iter_values(offsets)),
            Arc::new(Float64Array::from_iter_values(self.targets.iter().copied())),
            Arc::new(Float64Array::from_iter_values(self.weights.iter().copied())),
        ];
        for (index, column) in self.features.columns().iter().enumerate() {
            let data_type = match column.feature_type {
                FeatureType::Number => DataType::Float64,
                FeatureType::Category => DataType::Utf8,
            };
            fields.push(Field::new(&column.name, data_type, true));
            arrays.push(to_array(self.features.values(index)));
        }
        let all = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
            .map_err(DataFusionError::from)?;
        // without rows there are columns all the same
        let starts = (0..self.rows().max(1)).step_by(BATCH_ROWS);
        Ok(starts
            .map(|start| all.slice(start, BATCH_ROWS.min(self.rows() - start)))
            .collect())
    }

    /// A dataset from its record batches, in their order, and its record.
    ///
    /// # Errors
    /// When a column that the record names is not there or has another type.
    pub fn from_batches(
        batches: &[RecordBatch],
        record: DatasetRecord,
    ) -> Result<Self, FeatureError> {
        let mut dataset = Self {
            features: FeatureTable::new(record.features.clone()),
            entities: Vec::new(),
            moments: Vec::new(),
            offsets: Vec::new(),
            targets: Vec::new(),
            weights: Vec::new(),
            record,
        };
        for batch in batches {
            let entities = column(batch, ENTITY, &DataType::Utf8)?;
            for entity in entities.as_string::<i32>().iter().flatten() {
                let key = serde_json::from_value(entity.into());
                dataset
                    .entities
                    .push(key.map_err(|error| FeatureError::DatasetTable(error.to_string()))?);
            }
            let moments = column(batch, MOMENT, &time_type())?;
            let moments = moments
                .as_primitive::<TimestampMicrosecondType>()
                .values()
                .iter();
            dataset
                .moments
                .extend(moments.map(|&micros| Timestamp::from_micros(micros)));
            let offsets = column(batch, OFFSET, &DataType::Int64)?;
            let offsets = offsets.as_primitive::<Int64Type>().values().iter();
            dataset
                .offsets
                .extend(offsets.map(|&offset| Offset(offset.unsigned_abs())));
            let numbers = |name: &str| column(batch, name, &DataType::Float64);
            dataset
                .targets
                .extend(numbers(TARGET)?.as_primitive::<Float64Type>().values());
            dataset
                .weights
                .extend(numbers(WEIGHT)?.as_primitive::<Float64Type>().values());
            let values = dataset.record.features.iter();
            let values = values
                .map(|feature| feature_values(batch, feature))
                .collect::<Result<Vec<_>, _>>()?;
            let columns = dataset.record.features.clone();
            if !columns.is_empty() {
                dataset
                    .features
                    .append(FeatureTable::from_columns(columns, values));
            }
        }
        let rows = dataset.targets.len();
        if dataset.entities.len() != rows || dataset.record.rows != rows as u64 {
            let message = format!("{rows} rows, the record says {}", dataset.record.rows);
            return Err(FeatureError::DatasetTable(message));
        }
        Ok(dataset)
    }
}

/// The values of one feature in a batch.
fn feature_values(
    batch: &RecordBatch,
    feature: &FeatureColumn,
) -> Result<ColumnValues, FeatureError> {
    Ok(match feature.feature_type {
        FeatureType::Number => {
            let numbers = column(batch, &feature.name, &DataType::Float64)?;
            let numbers = numbers.as_primitive::<Float64Type>().iter();
            ColumnValues::Number(numbers.map(|number| number.unwrap_or(f64::NAN)).collect())
        }
        FeatureType::Category => {
            let texts = column(batch, &feature.name, &DataType::Utf8)?;
            let texts = texts.as_string::<i32>().iter();
            ColumnValues::Category(texts.map(|text| text.map(Arc::from)).collect())
        }
    })
}

/// A column in the type in which it was written; tables may give texts and times in other encodings.
fn column(batch: &RecordBatch, name: &str, data_type: &DataType) -> Result<ArrayRef, FeatureError> {
    let column = batch.column_by_name(name);
    let column = column
        .ok_or_else(|| FeatureError::DatasetTable(format!("the column '{name}' is not there")))?;
    if column.data_type() == data_type {
        return Ok(column.clone());
    }
    let cast =
        datafusion::arrow::compute::cast(column, data_type).map_err(DataFusionError::from)?;
    if cast.null_count() > column.null_count() {
        let message = format!(
            "the column '{name}' is {}, not {data_type}",
            column.data_type()
        );
        return Err(FeatureError::DatasetTable(message));
    }
    Ok(cast)
}
