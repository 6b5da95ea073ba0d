//! The rows that were read become datasets.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array, UInt64Array};
use datafusion::arrow::compute::{concat_batches, take_record_batch};
use datafusion::arrow::datatypes::{Float64Type, Int64Type, UInt32Type, UInt64Type};
use datafusion::error::{DataFusionError, Result};
use tidemill_core::event::PersonKey;
use tidemill_core::feature::ColumnValues;
use tidemill_core::{FeatureTable, FeatureType, Offset, Timestamp};

use super::Dataset;
use super::asked::Asked;
use super::counts::Counts;
use super::record::{self, Drop};
use super::replay::rows::{MODELS, MOMENT, NUMBER, OFFSET, PERSON, TARGETS, feature_name};
use super::replay::values::shared;
use super::sampling::{Drawn, Sampler};
use crate::{FeatureError, ModelFeatures};

/// The dataset of each model, out of the rows of all of them.
pub(super) fn datasets(
    asked: &Asked,
    counts: &Counts,
    rows: &[RecordBatch],
) -> std::result::Result<Vec<Dataset>, FeatureError> {
    (0..asked.models.len())
        .map(|model| dataset(asked, counts, rows, model))
        .collect()
}

fn dataset(
    asked: &Asked,
    counts: &Counts,
    batches: &[RecordBatch],
    model: usize,
) -> std::result::Result<Dataset, FeatureError> {
    let rows = rows_of(batches, model)?;
    let column = |place: usize| rows.as_ref().map(|rows| rows.column(place));
    let longs = |place: usize| {
        column(place).map_or(Vec::new(), |longs| {
            longs.as_primitive::<Int64Type>().values().to_vec()
        })
    };
    let offsets = column(OFFSET).map_or(Vec::new(), |offsets| {
        offsets.as_primitive::<UInt64Type>().values().to_vec()
    });
    let entities = column(PERSON).map_or(Vec::new(), |keys| {
        let keys = keys.as_string::<i32>().iter().flatten();
        keys.filter_map(PersonKey::written).collect()
    });
    let targets: Vec<f64> = column(TARGETS + model).map_or(Vec::new(), |targets| {
        targets.as_primitive::<Float64Type>().values().to_vec()
    });
    let (features, failures) = features(asked, &rows, &asked.models[model].features)?;
    let mut dataset = Dataset {
        features,
        entities,
        moments: longs(MOMENT)
            .into_iter()
            .map(Timestamp::from_micros)
            .collect(),
        offsets: offsets.into_iter().map(Offset).collect(),
        weights: vec![1.0; targets.len()],
        targets,
        record: record::begin(asked, counts, model),
    };
    dataset.record.expression_failures += failures;
    let of_model = &asked.models[model];
    dataset.sample(&of_model.sampler);
    dataset.describe(&of_model.model.target);
    Ok(dataset)
}

impl Dataset {
    /// Leaves the share of the rows that is learnt from, now that it is known what became of them; the others are counted as
    /// dropped.
    fn sample(&mut self, sampler: &Sampler) {
        let weight = |row: usize| {
            let drawn = Drawn {
                person: &self.entities[row],
                moment: self.moments[row],
                offset: self.offsets[row],
            };
            sampler.weight(drawn, self.targets[row])
        };
        let taken: Vec<(usize, f64)> = (0..self.rows())
            .filter_map(|row| Some((row, weight(row)?)))
            .collect();
        let left_out = self.rows() - taken.len();
        let rows: Vec<usize> = taken.iter().map(|(row, _)| *row).collect();
        self.weights = taken.into_iter().map(|(_, weight)| weight).collect();
        if left_out == 0 {
            return;
        }
        *self.record.dropped.entry(Drop::Sampled).or_insert(0) += left_out as u64;
        self.features = self.features.take(&rows);
        self.entities = rows.iter().map(|&row| self.entities[row].clone()).collect();
        self.moments = rows.iter().map(|&row| self.moments[row]).collect();
        self.offsets = rows.iter().map(|&row| self.offsets[row]).collect();
        self.targets = rows.iter().map(|&row| self.targets[row]).collect();
    }
}

/// The rows of one model in the order of the log; `None` where there are none.
fn rows_of(batches: &[RecordBatch], model: usize) -> Result<Option<RecordBatch>> {
    let mut parts = Vec::new();
    for batch in batches {
        let models = batch.column(MODELS).as_primitive::<UInt32Type>().values();
        let rows: UInt32Array = (0..)
            .zip(models)
            .filter(|(_, models)| *models >> model & 1 == 1)
            .map(|(row, _)| Some(row))
            .collect();
        if !rows.is_empty() {
            parts.push(take_record_batch(batch, &rows)?);
        }
    }
    let Some(schema) = parts.first().map(RecordBatch::schema) else {
        return Ok(None);
    };
    let rows = concat_batches(&schema, &parts)?;
    let numbers = rows.column(NUMBER).as_primitive::<UInt32Type>().values();
    let mut order: Vec<u64> = (0..rows.num_rows() as u64).collect();
    order.sort_unstable_by_key(|&row| numbers[row as usize]);
    Ok(Some(take_record_batch(&rows, &UInt64Array::from(order))?))
}

/// The features at the places that were asked for, in their order.
pub(super) fn served(
    asked: &Asked,
    batches: &[RecordBatch],
) -> std::result::Result<FeatureTable, FeatureError> {
    let rows = rows_of(batches, 0)?;
    Ok(features(asked, &rows, &asked.features)?.0)
}

/// Some of the columns that were read, and how often an expression failed on a row.
fn features(
    asked: &Asked,
    rows: &Option<RecordBatch>,
    wanted: &ModelFeatures,
) -> Result<(FeatureTable, u64)> {
    let columns = wanted.columns().to_vec();
    let Some(rows) = rows else {
        return Ok((FeatureTable::new(columns), 0));
    };
    let mut reads: Vec<Vec<ArrayRef>> = Vec::new();
    for (place, read) in asked.features.reads().iter().enumerate() {
        let names = (0..read.types().count()).map(|column| feature_name(place, column));
        let arrays = names.map(|name| {
            let array = rows.column_by_name(&name).cloned();
            array.ok_or_else(|| DataFusionError::Internal(format!("no column {name}")))
        });
        reads.push(arrays.collect::<Result<_>>()?);
    }
    let moments = rows.column(MOMENT).as_primitive::<Int64Type>().values();
    let (all, failures) = asked.features.arrays(&reads, moments);
    let place = |name: &str| {
        let mut known = asked.features.columns().iter();
        known.position(|column| column.name == name)
    };
    let mut texts = HashSet::new();
    let values = columns
        .iter()
        .map(|column| match place(&column.name) {
            Some(place) => Ok(values(&all[place], column.feature_type, &mut texts)),
            None => Err(DataFusionError::Internal(format!(
                "no feature {}",
                column.name
            ))),
        })
        .collect::<Result<Vec<_>>>()?;
    if columns.is_empty() {
        return Ok((FeatureTable::new(columns), failures));
    }
    Ok((FeatureTable::from_columns(columns, values), failures))
}

fn values(
    array: &ArrayRef,
    feature_type: FeatureType,
    texts: &mut HashSet<Arc<str>>,
) -> ColumnValues {
    match feature_type {
        FeatureType::Number => {
            let numbers = array.as_primitive::<Float64Type>().iter();
            ColumnValues::Number(numbers.map(|number| number.unwrap_or(f64::NAN)).collect())
        }
        FeatureType::Category => {
            let array = array.as_string::<i32>();
            ColumnValues::Category(
                array
                    .iter()
                    .map(|text| text.map(|text| shared(texts, text)))
                    .collect(),
            )
        }
    }
}
