//! Persons of one bucket: their states follow the steps, rows are read where they are observed, and targets are found in what
//! happened afterwards.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringBuilder, UInt32Array,
    UInt64Array,
};
use datafusion::arrow::datatypes::{SchemaRef, UInt8Type};
use datafusion::error::Result;
use datafusion::physical_plan::metrics::Count;
use hashbrown::HashMap;
use tidemill_core::feature::ColumnValues;
use tidemill_core::{FeatureValue, Offset, Timestamp};

use super::rows::{self, longs, numbers, places};
use super::values::{EventPlace, Extracting, ValueColumns};
use crate::accumulate::EntityState;
use crate::dataset::asked::Asked;
use crate::dataset::people::Person;
use crate::dataset::steps::{EVENT, MERGE, NarrowValues, PERSON_COLUMNS};
use crate::set::{USER, key_last_had};
use crate::target::Happened;

/// The persons of one bucket.
pub(super) struct Persons<'a> {
    asked: &'a Asked,
    failures: Count,
    extracting: Extracting,
    states: HashMap<Person, EntityState>,
    /// Memory to read a row in.
    values: Vec<FeatureValue>,
    rows: Rows,
    /// For each model the events that can decide its targets.
    target_events: Vec<Vec<TargetEvent>>,
}

/// Rows that were read.
struct Rows {
    number: Vec<u32>,
    moment: Vec<i64>,
    offset: Vec<u64>,
    models: Vec<u32>,
    key: StringBuilder,
    /// The group, for the target.
    group: Vec<Person>,
    at_event: Vec<bool>,
    /// For each read of another entity the key that the person last had.
    keys: Vec<StringBuilder>,
    /// For each read of the person's state its columns.
    features: Vec<Vec<ColumnValues>>,
}

struct TargetEvent {
    group: Person,
    timestamp: Timestamp,
    offset: Offset,
    happened: Happened,
}

impl<'a> Persons<'a> {
    /// It counts expressions that fail on a row.
    pub(super) fn new(asked: &'a Asked, failures: Count) -> Self {
        Self {
            asked,
            failures,
            extracting: Extracting::new(&asked.layouts[USER]),
            states: HashMap::new(),
            values: Vec::new(),
            rows: Rows {
                number: Vec::new(),
                moment: Vec::new(),
                offset: Vec::new(),
                models: Vec::new(),
                key: StringBuilder::new(),
                group: Vec::new(),
                at_event: Vec::new(),
                keys: asked.others().map(|_| StringBuilder::new()).collect(),
                features: asked
                    .of_person()
                    .map(|(_, read)| rows::start(read))
                    .collect(),
            },
            target_events: asked.models.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// Takes the next steps, in the columns of [`person_schema`](crate::dataset::steps::person_schema).
    pub(super) fn push(&mut self, batch: &RecordBatch) {
        let user = &self.asked.set.entities()[USER];
        let layout = &self.asked.layouts[USER];
        let (group, person) = (numbers(batch, 0), numbers(batch, 1));
        let what = batch.column(2).as_primitive::<UInt8Type>().values();
        let (offset, now, timestamp) = (places(batch, 3), longs(batch, 4), longs(batch, 5));
        let [steps, passed, matters, models] =
            [6, 7, 8, 9].map(|column| NarrowValues::of(batch.column(column)));
        let (number, key) = (numbers(batch, 10), batch.column(11).as_string::<i32>());
        let values = ValueColumns::of(layout, batch, PERSON_COLUMNS);
        for row in 0..batch.num_rows() {
            let moment = Timestamp::from_micros(now[row]);
            match what[row] {
                EVENT => {
                    let place = EventPlace {
                        row,
                        steps: steps.get(row) as usize,
                        passed: passed.get(row),
                        timestamp: timestamp[row],
                        offset: offset[row],
                    };
                    let event = self.extracting.event(layout, &values, &place);
                    let state = self
                        .states
                        .entry(person[row])
                        .or_insert_with(|| EntityState::new(&user.plan));
                    state.update(&user.plan, event, moment);
                    let matters = matters.get(row) as u32; // a bit for each model
                    if matters != 0 {
                        self.may_decide(&values, &place, group[row], matters);
                    }
                }
                MERGE => {
                    if let Some(from) = self.states.remove(&number[row]) {
                        let state = self
                            .states
                            .entry(person[row])
                            .or_insert_with(|| EntityState::new(&user.plan));
                        state.merge(&user.plan, from, moment);
                    }
                }
                _ => {}
            }
            let models = models.get(row) as u32;
            if models != 0 {
                self.rows.number.push(number[row]);
                self.rows.moment.push(now[row]);
                self.rows.offset.push(offset[row]);
                self.rows.models.push(models);
                self.rows.key.append_value(key.value(row));
                self.rows.group.push(group[row]);
                self.rows.at_event.push(what[row] == EVENT);
                self.read(person[row], moment);
            }
        }
    }

    /// Keeps an event that can decide the targets of some models, a bit each.
    fn may_decide(
        &mut self,
        values: &ValueColumns<'_>,
        place: &EventPlace,
        group: Person,
        models: u32,
    ) {
        let columns = &self.asked.layouts[USER].of_targets;
        for (model, events) in self.target_events.iter_mut().enumerate() {
            if models >> model & 1 == 1 {
                let brought = columns[model].map_or(0.0, |column| values.number(column, place.row));
                events.push(TargetEvent {
                    group,
                    timestamp: Timestamp::from_micros(place.timestamp),
                    offset: Offset(place.offset),
                    happened: self.asked.models[model].tracker.happened(brought),
                });
            }
        }
    }

    /// Reads a person's features.
    fn read(&mut self, person: Person, moment: Timestamp) {
        let user = &self.asked.set.entities()[USER];
        let state = self
            .states
            .entry(person)
            .or_insert_with(|| EntityState::new(&user.plan));
        for (columns, (_, read)) in self.rows.features.iter_mut().zip(self.asked.of_person()) {
            read.read_row_into(&user.plan, Some(state), moment, &mut self.values, columns);
        }
        for (keys, (_, read)) in self.rows.keys.iter_mut().zip(self.asked.others()) {
            keys.append_option(key_last_had(&self.asked.set, read.entity, state, moment));
        }
    }

    /// The rows, in the columns of [`person_rows_schema`](rows::person_rows_schema).
    pub(super) fn finish(mut self, schema: &SchemaRef) -> Result<RecordBatch> {
        let count = self.rows.number.len();
        for (columns, (_, read)) in self.rows.features.iter_mut().zip(self.asked.of_person()) {
            let failures = read.derive(columns, count);
            self.failures
                .add(usize::try_from(failures).unwrap_or(usize::MAX));
        }
        let targets: Vec<ArrayRef> = (0..self.asked.models.len())
            .map(|model| Arc::new(Float64Array::from(self.targets(model))) as ArrayRef)
            .collect();
        let mut rows = self.rows;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(rows.number)),
            Arc::new(Int64Array::from(rows.moment)),
            Arc::new(UInt64Array::from(rows.offset)),
            Arc::new(UInt32Array::from(rows.models)),
            Arc::new(rows.key.finish()),
        ];
        columns.extend(targets);
        for mut keys in rows.keys {
            columns.push(Arc::new(keys.finish()));
        }
        for features in &rows.features {
            columns.extend(rows::arrays(features));
        }
        Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
    }

    /// What became of each row by a model; NaN for the rows of other models.
    fn targets(&mut self, model: usize) -> Vec<f64> {
        let events = &mut self.target_events[model];
        events.sort_unstable_by_key(|event| (event.group, event.timestamp, event.offset));
        let (events, rows) = (&*events, &self.rows);
        let tracker = &self.asked.models[model].tracker;
        let target = |row: usize| {
            if rows.models[row] >> model & 1 == 0 {
                return f64::NAN;
            }
            let (group, moment) = (rows.group[row], Timestamp::from_micros(rows.moment[row]));
            let first =
                events.partition_point(|event| (event.group, event.timestamp) <= (group, moment));
            let end = moment + tracker.within();
            let except = rows.at_event[row].then(|| Offset(rows.offset[row]));
            let mut pending = tracker.pending(moment, except);
            let after = events[first..]
                .iter()
                .take_while(|event| event.group == group && event.timestamp <= end);
            for event in after {
                let (timestamp, offset) = (event.timestamp, event.offset);
                let resolved = tracker.take(&mut pending, timestamp, offset, event.happened);
                if let Some(resolved) = resolved {
                    return resolved.value;
                }
            }
            // Observations whose horizon has not passed were dropped.
            let resolved = tracker.expire(&pending, end);
            resolved.map_or(f64::NAN, |resolved| resolved.value)
        };
        (0..rows.number.len()).map(target).collect()
    }
}
