//! The rows that are read: what each operator adds to them.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch};
use datafusion::arrow::datatypes::{
    DataType, Field, Int64Type, Schema, SchemaRef, UInt32Type, UInt64Type,
};
use tidemill_core::FeatureType;
use tidemill_core::feature::ColumnValues;

use crate::dataset::asked::Asked;
use crate::expression::to_array;
use crate::set::EntityRead;

/// The fixed columns of rows.
pub(crate) const NUMBER: usize = 0;
pub(crate) const MOMENT: usize = 1;
pub(crate) const OFFSET: usize = 2;
/// The models that the row is for, a bit each.
pub(crate) const MODELS: usize = 3;
pub(crate) const PERSON: usize = 4;
/// From here on one target for each model.
pub(crate) const TARGETS: usize = 5;

/// Where the key of a read of another entity stands in a row: one column for each of them, after the targets.
pub(crate) fn key_column(asked: &Asked, other: usize) -> usize {
    TARGETS + asked.models.len() + other
}

/// Rows as they leave the replay of persons: `number`, `moment`, `offset`, `models`, `person`, the targets, the keys of other
/// entities, and the features that stand in the person's state.
pub(crate) fn person_rows_schema(asked: &Asked) -> SchemaRef {
    let mut fields = vec![
        Field::new("number", DataType::UInt32, false),
        Field::new("moment", DataType::Int64, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("models", DataType::UInt32, false),
        Field::new("person", DataType::Utf8, false),
    ];
    let targets = asked.models.iter();
    fields.extend(targets.map(|asked| {
        Field::new(
            format!("target_{}", asked.model.name),
            DataType::Float64,
            false,
        )
    }));
    fields.extend(
        asked
            .others()
            .map(|(place, _)| Field::new(format!("key_{place}"), DataType::Utf8, true)),
    );
    for (place, read) in asked.of_person() {
        fields.extend(feature_fields(place, read));
    }
    Arc::new(Schema::new(fields))
}

/// Rows after another entity's features were added.
pub(crate) fn key_rows_schema(rows: &Schema, place: usize, read: &EntityRead) -> SchemaRef {
    let mut fields: Vec<Field> = rows
        .fields()
        .iter()
        .map(|field| (**field).clone())
        .collect();
    fields.extend(feature_fields(place, read));
    Arc::new(Schema::new(fields))
}

fn feature_fields(place: usize, read: &EntityRead) -> Vec<Field> {
    let types = read.types().enumerate();
    types
        .map(|(column, feature_type)| {
            let data_type = match feature_type {
                FeatureType::Number => DataType::Float64,
                FeatureType::Category => DataType::Utf8,
            };
            Field::new(feature_name(place, column), data_type, true)
        })
        .collect()
}

/// What a column of a read is called.
pub(crate) fn feature_name(place: usize, column: usize) -> String {
    format!("feature_{place}_{column}")
}

/// Columns that are being filled row by row: those of one read that come from aggregates.
pub(super) fn start(read: &EntityRead) -> Vec<ColumnValues> {
    let column = |kind: &FeatureType| match kind {
        FeatureType::Number => ColumnValues::Number(Vec::new()),
        FeatureType::Category => ColumnValues::Category(Vec::new()),
    };
    read.raw_types().iter().map(column).collect()
}

/// Columns as arrays.
pub(super) fn arrays(columns: &[ColumnValues]) -> Vec<ArrayRef> {
    columns.iter().map(to_array).collect()
}

pub(super) fn longs(batch: &RecordBatch, column: usize) -> &[i64] {
    batch.column(column).as_primitive::<Int64Type>().values()
}

pub(super) fn places(batch: &RecordBatch, column: usize) -> &[u64] {
    batch.column(column).as_primitive::<UInt64Type>().values()
}

pub(super) fn numbers(batch: &RecordBatch, column: usize) -> &[u32] {
    batch.column(column).as_primitive::<UInt32Type>().values()
}
