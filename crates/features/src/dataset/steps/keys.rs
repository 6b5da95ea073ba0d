//! The pass over the events for the keys of another entity.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Int64Array, RecordBatch, StringBuilder, UInt64Array};
use datafusion::arrow::datatypes::SchemaRef;
use tidemill_store::StoreError;

use super::narrow::Narrow;
use super::prepare::Prepared;
use super::values::Values;
use super::{BATCH_ROWS, Bits, Emit, Place, batch, key_schema, taken};
use crate::FeatureError;
use crate::dataset::asked::Asked;
use crate::dataset::division::{BUCKETS, bucket_of_key, partitions_of_keys};

/// Steps of keys that are being gathered, of one bucket.
struct KeyRows {
    key: StringBuilder,
    offset: Vec<u64>,
    now: Vec<i64>,
    timestamp: Vec<i64>,
    steps: Narrow,
    passed: Narrow,
    values: Values,
}

impl KeyRows {
    fn new(asked: &Asked, entity: usize) -> Self {
        let bits = Bits::of(asked, entity);
        Self {
            key: StringBuilder::with_capacity(0, 0),
            offset: Vec::new(),
            now: Vec::new(),
            timestamp: Vec::new(),
            steps: Narrow::new(bits.steps),
            passed: Narrow::new(bits.passed),
            values: Values::new(&asked.layouts[entity]),
        }
    }

    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch, FeatureError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.key.finish()),
            Arc::new(UInt64Array::from(taken(&mut self.offset))),
            Arc::new(Int64Array::from(taken(&mut self.now))),
            Arc::new(Int64Array::from(taken(&mut self.timestamp))),
            self.steps.take(),
            self.passed.take(),
        ];
        columns.extend(self.values.take());
        batch(schema, columns)
    }
}

struct KeyPass<'a> {
    asked: &'a Asked,
    entity: usize,
    partitions: usize,
    place: Place,
    /// The buckets of all partitions.
    buckets: Vec<KeyRows>,
    schema: SchemaRef,
}

/// Goes through the events in the order of the log and gives out the steps of another entity's keys.
pub(in crate::dataset) fn key_steps(
    asked: &Asked,
    entity: usize,
    prepared: impl Iterator<Item = Result<Prepared, StoreError>>,
    partitions: usize,
    emit: &mut Emit<'_>,
) -> Result<(), FeatureError> {
    let mut pass = KeyPass {
        asked,
        entity,
        partitions,
        place: Place::default(),
        buckets: (0..partitions * BUCKETS)
            .map(|_| KeyRows::new(asked, entity))
            .collect(),
        schema: key_schema(asked, entity),
    };
    for chunk in prepared {
        if !pass.take(&chunk.map_err(FeatureError::Events)?, emit)? {
            return Ok(());
        }
    }
    for (bucket, rows) in pass.buckets.iter_mut().enumerate() {
        if !rows.offset.is_empty() && !emit(bucket / BUCKETS, rows.take(&pass.schema)?) {
            return Ok(());
        }
    }
    Ok(())
}

impl KeyPass<'_> {
    /// Takes some events; returns whether anybody wants more.
    fn take(&mut self, chunk: &Prepared, emit: &mut Emit<'_>) -> Result<bool, FeatureError> {
        let definition = &self.asked.set.entities()[self.entity];
        let rows = &chunk.rows;
        let (received, timestamps) = (rows.received(), rows.timestamps());
        let keys = chunk.keys.iter().map(Option::as_deref).collect();
        let partitions = partitions_of_keys(keys, self.partitions)?;
        for (index, key) in chunk.keys.iter().enumerate() {
            let offset = rows.offset(index);
            let (place, now) = self.place.next(offset, received[index])?;
            self.place = place;
            let (Some(key), Some(name)) = (key, rows.names().which(index)) else {
                continue;
            };
            let steps = chunk.names[name].steps;
            let passed = definition.passed(steps, index, &chunk.conditions);
            let bucket = partitions[index] * BUCKETS + bucket_of_key(key);
            let rows = &mut self.buckets[bucket];
            rows.key.append_value(key);
            rows.offset.push(offset.0);
            rows.now.push(now.micros());
            rows.timestamp.push(timestamps[index]);
            rows.steps.push(steps as u64);
            rows.passed.push(passed);
            rows.values.push_row(&chunk.values, index, &[]);
            if rows.offset.len() == BATCH_ROWS && !emit(partitions[index], rows.take(&self.schema)?)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
