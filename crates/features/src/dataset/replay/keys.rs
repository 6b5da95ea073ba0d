//! Keys of another entity than persons, of one bucket: their states follow the steps, and each row looks up the key that its person
//! last had, as it was at the row's place in the log.

use datafusion::arrow::array::{Array, AsArray, RecordBatch, UInt64Array};
use datafusion::arrow::compute::{sort_to_indices, take_record_batch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::error::Result;
use datafusion::physical_plan::metrics::Count;
use hashbrown::HashMap;
use tidemill_core::feature::ColumnValues;
use tidemill_core::{FeatureValue, Timestamp};

use super::rows::{self, longs, places};
use super::values::{EventPlace, Extracting, ValueColumns};
use crate::accumulate::EntityState;
use crate::dataset::asked::Asked;
use crate::dataset::steps::{KEY_COLUMNS, NarrowValues};
use crate::set::EntityRead;

/// The keys of one bucket.
pub(super) struct Keys<'a> {
    asked: &'a Asked,
    failures: Count,
    read: &'a EntityRead,
    /// Which column of a row has its key.
    key_column: usize,
    extracting: Extracting,
    states: HashMap<String, EntityState>,
    /// The rows of the bucket in the order of their places, and the next one that was not read yet.
    rows: RecordBatch,
    places: UInt64Array,
    next: usize,
    features: Vec<ColumnValues>,
    /// Memory to read a row in.
    values: Vec<FeatureValue>,
}

impl<'a> Keys<'a> {
    /// The keys that these rows look up. It counts expressions that fail on a row.
    pub(super) fn new(
        asked: &'a Asked,
        read: &'a EntityRead,
        key_column: usize,
        rows: &RecordBatch,
        failures: Count,
    ) -> Result<Self> {
        let order = sort_to_indices(rows.column(rows::OFFSET), None, None)?;
        let rows = take_record_batch(rows, &order)?;
        Ok(Self {
            asked,
            failures,
            read,
            key_column,
            extracting: Extracting::new(&asked.layouts[read.entity]),
            states: HashMap::new(),
            places: rows.column(rows::OFFSET).as_primitive().clone(),
            rows,
            next: 0,
            features: rows::start(read),
            values: Vec::new(),
        })
    }

    /// Takes the next steps, in the columns of [`key_schema`](crate::dataset::steps::key_schema).
    pub(super) fn push(&mut self, batch: &RecordBatch) {
        let plan = &self.asked.set.entities()[self.read.entity].plan;
        let layout = &self.asked.layouts[self.read.entity];
        let keys = batch.column(0).as_string::<i32>();
        let (offset, now, timestamp) = (places(batch, 1), longs(batch, 2), longs(batch, 3));
        let [steps, passed] = [4, 5].map(|column| NarrowValues::of(batch.column(column)));
        let values = ValueColumns::of(layout, batch, KEY_COLUMNS);
        for row in 0..batch.num_rows() {
            self.read_before(offset[row]);
            let key = keys.value(row);
            if !self.states.contains_key(key) {
                self.states.insert(key.to_owned(), EntityState::new(plan));
            }
            if let Some(state) = self.states.get_mut(key) {
                let place = EventPlace {
                    row,
                    steps: steps.get(row) as usize,
                    passed: passed.get(row),
                    timestamp: timestamp[row],
                    offset: offset[row],
                };
                let event = self.extracting.event(layout, &values, &place);
                state.update(plan, event, Timestamp::from_micros(now[row]));
            }
        }
    }

    /// Reads the rows whose place is before that of a step.
    fn read_before(&mut self, offset: u64) {
        while self.next < self.places.len() && self.places.value(self.next) < offset {
            self.read_row(self.next);
            self.next += 1;
        }
    }

    fn read_row(&mut self, row: usize) {
        let entity = &self.asked.set.entities()[self.read.entity];
        let keys = self.rows.column(self.key_column).as_string::<i32>();
        let moment = Timestamp::from_micros(longs(&self.rows, rows::MOMENT)[row]);
        // Keys that no event of this entity names (only a condition or another event did) have states without events.
        let unseen;
        let state = if keys.is_null(row) {
            None
        } else if let Some(state) = self.states.get(keys.value(row)) {
            Some(state)
        } else {
            unseen = EntityState::new(&entity.plan);
            Some(&unseen)
        };
        let (values, columns) = (&mut self.values, &mut self.features);
        self.read
            .read_row_into(&entity.plan, state, moment, values, columns);
    }

    /// The rows with the features of their keys.
    pub(super) fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        self.read_before(u64::MAX);
        let failures = self.read.derive(&mut self.features, self.rows.num_rows());
        self.failures
            .add(usize::try_from(failures).unwrap_or(usize::MAX));
        let mut columns = self.rows.columns().to_vec();
        columns.extend(rows::arrays(&self.features));
        Ok(RecordBatch::try_new(schema.clone(), columns)?)
    }
}
