//! The sequential pass: what each event does to which state, and where rows are read, as batches of rows in the order of the log.
//!
//! It knows who is who, what time it is and who is observed; that takes one place after the other. What costs (states, windows) is
//! left to those who take the rows, by person or by key.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::arrow::array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringBuilder, UInt8Array, UInt32Array,
    UInt64Array,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use tidemill_core::event::EventView;
use tidemill_core::{FeatureType, Offset, Span, Timestamp};
use tidemill_store::{EventRow, EventRows, EventTable};

use super::asked::{Asked, Layout, ValueSource};
use super::observe::Observer;
use super::people::{People, Person};
use crate::FeatureError;
use crate::identity::{JOINING, learn};
use crate::set::{Conditions, USER};
use crate::value::Value;

/// An event of a person.
pub(super) const EVENT: u8 = 0;
/// What another person has seen becomes part of this one.
pub(super) const MERGE: u8 = 1;
/// A row is read.
pub(super) const OBSERVE: u8 = 2;

/// In the column `steps` of an observation: it was made at the event of its offset.
pub(super) const AT_EVENT: u32 = 1;

/// The fixed columns of a person's steps, before their values.
pub(super) const PERSON_COLUMNS: usize = 10;
/// The fixed columns of a key's steps, before their values.
pub(super) const KEY_COLUMNS: usize = 6;

/// Rows of a batch.
const BATCH_ROWS: usize = 8_192;

/// The columns of persons' steps: `group` (who become one in the end), `person`, `what`, then the place of the event, the engine's
/// time, the event's own, which steps it takes, and, for an event, the conditions that hold and the models to whose targets it
/// matters; for a merge in `number` who is taken over; for an observation in `bits` the models and in `number` its own place.
pub(super) fn person_schema(asked: &Asked) -> SchemaRef {
    let mut fields = vec![
        Field::new("group", DataType::UInt32, false),
        Field::new("person", DataType::UInt32, false),
        Field::new("what", DataType::UInt8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("now", DataType::Int64, false),
        Field::new("timestamp", DataType::Int64, false),
        Field::new("steps", DataType::UInt32, false),
        Field::new("bits", DataType::UInt64, false),
        Field::new("number", DataType::UInt64, false),
        Field::new("entity", DataType::Utf8, true),
    ];
    fields.extend(value_fields(&asked.layouts[USER]));
    Arc::new(Schema::new(fields))
}

/// The columns of the steps of another entity's keys.
pub(super) fn key_schema(asked: &Asked, entity: usize) -> SchemaRef {
    let mut fields = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("now", DataType::Int64, false),
        Field::new("timestamp", DataType::Int64, false),
        Field::new("steps", DataType::UInt32, false),
        Field::new("bits", DataType::UInt64, false),
    ];
    fields.extend(value_fields(&asked.layouts[entity]));
    Arc::new(Schema::new(fields))
}

fn value_fields(layout: &Layout) -> impl Iterator<Item = Field> {
    let columns = layout.columns.iter().enumerate();
    columns.map(|(place, source)| {
        let data_type = match source.feature_type() {
            FeatureType::Number => DataType::Float64,
            FeatureType::Category => DataType::Utf8,
        };
        Field::new(format!("value_{place}"), data_type, true)
    })
}

/// Where finished batches go; it says whether anybody still wants them.
pub(super) type Emit<'e> = dyn FnMut(RecordBatch) -> bool + 'e;

/// The values of steps, column by column.
struct Values(Vec<ValueColumn>);

enum ValueColumn {
    /// NaN is missing.
    Number(Vec<f64>),
    Text(StringBuilder),
}

impl Values {
    fn new(layout: &Layout) -> Self {
        let column = |source: &ValueSource| match source.feature_type() {
            FeatureType::Number => ValueColumn::Number(Vec::with_capacity(BATCH_ROWS)),
            FeatureType::Category => ValueColumn::Text(StringBuilder::new()),
        };
        Self(layout.columns.iter().map(column).collect())
    }

    fn push(&mut self, column: usize, value: &Value) {
        match (&mut self.0[column], value) {
            (ValueColumn::Number(column), Value::Number(number)) => column.push(*number),
            (ValueColumn::Number(column), _) => column.push(f64::NAN),
            (ValueColumn::Text(column), Value::Category(text)) => column.append_value(text),
            (ValueColumn::Text(column), _) => column.append_null(),
        }
    }

    fn push_missing(&mut self) {
        for column in 0..self.0.len() {
            self.push(column, &Value::Missing);
        }
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        let take = |column: &mut ValueColumn| -> ArrayRef {
            match column {
                ValueColumn::Number(numbers) => {
                    Arc::new(Float64Array::from(std::mem::take(numbers)))
                }
                ValueColumn::Text(texts) => Arc::new(texts.finish()),
            }
        };
        self.0.iter_mut().map(take).collect()
    }
}

/// Steps of persons that are being gathered.
struct PersonRows {
    schema: SchemaRef,
    group: Vec<u32>,
    person: Vec<u32>,
    what: Vec<u8>,
    offset: Vec<u64>,
    now: Vec<i64>,
    timestamp: Vec<i64>,
    steps: Vec<u32>,
    bits: Vec<u64>,
    number: Vec<u64>,
    entity: StringBuilder,
    values: Values,
}

/// The fixed columns of one step of a person.
struct PersonRow<'e> {
    group: Person,
    person: Person,
    what: u8,
    offset: Offset,
    now: Timestamp,
    timestamp: Timestamp,
    steps: u32,
    bits: u64,
    number: u64,
    entity: Option<&'e str>,
}

impl PersonRows {
    fn new(asked: &Asked) -> Self {
        Self {
            schema: person_schema(asked),
            group: Vec::new(),
            person: Vec::new(),
            what: Vec::new(),
            offset: Vec::new(),
            now: Vec::new(),
            timestamp: Vec::new(),
            steps: Vec::new(),
            bits: Vec::new(),
            number: Vec::new(),
            entity: StringBuilder::new(),
            values: Values::new(&asked.layouts[USER]),
        }
    }

    /// Adds the fixed columns; the values follow.
    fn push(&mut self, row: &PersonRow<'_>) {
        self.group.push(row.group);
        self.person.push(row.person);
        self.what.push(row.what);
        self.offset.push(row.offset.0);
        self.now.push(row.now.micros());
        self.timestamp.push(row.timestamp.micros());
        self.steps.push(row.steps);
        self.bits.push(row.bits);
        self.number.push(row.number);
        self.entity.append_option(row.entity);
    }

    fn take(&mut self) -> Result<RecordBatch, FeatureError> {
        use std::mem::take;
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(take(&mut self.group))),
            Arc::new(UInt32Array::from(take(&mut self.person))),
            Arc::new(UInt8Array::from(take(&mut self.what))),
            Arc::new(UInt64Array::from(take(&mut self.offset))),
            Arc::new(Int64Array::from(take(&mut self.now))),
            Arc::new(Int64Array::from(take(&mut self.timestamp))),
            Arc::new(UInt32Array::from(take(&mut self.steps))),
            Arc::new(UInt64Array::from(take(&mut self.bits))),
            Arc::new(UInt64Array::from(take(&mut self.number))),
            Arc::new(self.entity.finish()),
        ];
        columns.extend(self.values.take());
        batch(&self.schema, columns)
    }
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, FeatureError> {
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).map_err(DataFusionError::from)?)
}

/// The pass over the events for the persons.
struct PersonPass<'a> {
    asked: &'a Asked,
    people: People,
    observer: Observer,
    now: Option<Timestamp>,
    last: Offset,
    /// How many observations were made.
    observed: u64,
    rows: PersonRows,
}

/// Goes through the events in the order of the log and gives out the steps of persons.
pub(super) fn person_steps(
    asked: &Asked,
    events: &dyn EventTable,
    emit: &mut Emit<'_>,
) -> Result<(), FeatureError> {
    let people = People::read_ahead(events).map_err(FeatureError::Events)?;
    let mut pass = PersonPass {
        asked,
        people,
        observer: Observer::new(asked),
        now: None,
        last: Offset::ZERO,
        observed: 0,
        rows: PersonRows::new(asked),
    };
    for rows in events.scan(asked.event_columns(USER), None) {
        pass.take(&rows.map_err(FeatureError::Events)?)?;
        if pass.rows.group.len() >= BATCH_ROWS && !emit(pass.rows.take()?) {
            return Ok(());
        }
    }
    if pass.now.is_some() {
        pass.observe_periods(asked.known_until + Span::from_micros(1))?;
    }
    emit(pass.rows.take()?);
    let mut counts = asked.counts.lock();
    counts.last_offset = pass.last;
    counts.models = pass.observer.counts;
    Ok(())
}

impl PersonPass<'_> {
    fn take(&mut self, rows: &EventRows) -> Result<(), FeatureError> {
        let events: Vec<EventRow<'_>> = rows.rows().collect();
        let conditions = self.asked.set.conditions(&events);
        self.asked
            .failures
            .fetch_add(conditions.failures, Ordering::Relaxed);
        let occasions = self.observer.occasions(self.asked, &events);
        for (index, event) in events.iter().enumerate() {
            let offset = rows.offset(index);
            let now = next_now(&mut self.last, offset, self.now, event)?;
            self.observe_periods(now)?;
            self.now = Some(now);
            self.last = offset;
            if JOINING.contains(&event.kind()) {
                self.join(event, now);
            }
            let person = self.people.of(event);
            if let Some(person) = person {
                self.event(person, event, index, &conditions, now);
                self.observer.saw(person, event, now);
            }
            let is_occasion = |model: usize| occasions[model][index];
            let models = self
                .observer
                .at_event(self.asked, event, person, now, is_occasion)?;
            if let (Some(person), true) = (person, models != 0) {
                self.observe(person, now, models, AT_EVENT);
            }
        }
        Ok(())
    }

    /// Applies what an event says about who is who.
    fn join(&mut self, event: &EventRow<'_>, now: Timestamp) {
        let Ok(()) = learn(&mut self.people, event);
        for (from, into) in std::mem::take(&mut self.people.merges) {
            self.rows.push(&PersonRow {
                group: self.people.group(into),
                person: into,
                what: MERGE,
                offset: self.last,
                now,
                timestamp: now,
                steps: 0,
                bits: 0,
                number: u64::from(from),
                entity: None,
            });
            self.rows.values.push_missing();
            self.observer.merge(from, into);
        }
    }

    fn event(
        &mut self,
        person: Person,
        event: &EventRow<'_>,
        index: usize,
        conditions: &Conditions,
        now: Timestamp,
    ) {
        let user = &self.asked.set.entities()[USER];
        let steps = user.steps_of(event);
        let models = self.asked.models.iter().enumerate();
        let matters = models
            .filter(|(_, asked)| asked.tracker.is_relevant(event.name()))
            .fold(0, |bits, (model, _)| bits | 1u64 << model);
        self.rows.push(&PersonRow {
            group: self.people.group(person),
            person,
            what: EVENT,
            offset: self.last,
            now,
            timestamp: event.timestamp(),
            steps: number(steps),
            bits: user.passed(steps, index, conditions),
            number: matters,
            entity: None,
        });
        let layout = &self.asked.layouts[USER];
        for (column, source) in layout.columns.iter().enumerate() {
            let value = match source {
                ValueSource::Field(field, kind) if layout.of_steps[steps].contains(&column) => {
                    Value::of(event, field, *kind)
                }
                ValueSource::Amount(model) if matters >> model & 1 == 1 => {
                    Value::Number(self.asked.models[*model].tracker.read(event).amount)
                }
                ValueSource::Class(model) if matters >> model & 1 == 1 => {
                    Value::Number(self.asked.models[*model].tracker.read(event).class as f64)
                }
                _ => Value::Missing,
            };
            self.rows.values.push(column, &value);
        }
    }

    fn observe_periods(&mut self, until: Timestamp) -> Result<(), FeatureError> {
        for due in self.observer.periods(self.asked, until) {
            for person in due.persons {
                if self.observer.at_period(self.asked, due.model, due.moment)? {
                    self.observe(person, due.moment, 1 << due.model, 0);
                }
            }
        }
        Ok(())
    }

    fn observe(&mut self, person: Person, moment: Timestamp, models: u64, at_event: u32) {
        self.rows.push(&PersonRow {
            group: self.people.group(person),
            person,
            what: OBSERVE,
            offset: self.last,
            now: moment,
            timestamp: moment,
            steps: at_event,
            bits: models,
            number: self.observed,
            entity: Some(self.people.keys[person as usize].as_str()),
        });
        self.rows.values.push_missing();
        self.observed += 1;
    }
}

/// Goes through the events in the order of the log and gives out the steps of another entity's keys.
pub(super) fn key_steps(
    asked: &Asked,
    entity: usize,
    events: &dyn EventTable,
    emit: &mut Emit<'_>,
) -> Result<(), FeatureError> {
    let schema = key_schema(asked, entity);
    let (definition, layout) = (&asked.set.entities()[entity], &asked.layouts[entity]);
    let (mut now, mut last) = (None, Offset::ZERO);
    for rows in events.scan(asked.event_columns(entity), None) {
        let rows = rows.map_err(FeatureError::Events)?;
        let events: Vec<EventRow<'_>> = rows.rows().collect();
        let conditions = asked.set.conditions(&events);
        let (mut key, mut values) = (StringBuilder::new(), Values::new(layout));
        let (mut offset, mut nows, mut timestamp) = (Vec::new(), Vec::new(), Vec::new());
        let (mut steps, mut bits) = (Vec::new(), Vec::new());
        for (index, event) in events.iter().enumerate() {
            let place = rows.offset(index);
            let at = next_now(&mut last, place, now, event)?;
            (now, last) = (Some(at), place);
            if !definition.reads(event) {
                continue;
            }
            let Some(of) = definition.key_of(event) else {
                continue;
            };
            let kind = definition.steps_of(event);
            key.append_value(of);
            offset.push(place.0);
            nows.push(at.micros());
            timestamp.push(event.timestamp().micros());
            steps.push(number(kind));
            bits.push(definition.passed(kind, index, &conditions));
            for (column, source) in layout.columns.iter().enumerate() {
                let value = match source {
                    ValueSource::Field(field, as_type)
                        if layout.of_steps[kind].contains(&column) =>
                    {
                        Value::of(event, field, *as_type)
                    }
                    _ => Value::Missing,
                };
                values.push(column, &value);
            }
        }
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(key.finish()),
            Arc::new(UInt64Array::from(offset)),
            Arc::new(Int64Array::from(nows)),
            Arc::new(Int64Array::from(timestamp)),
            Arc::new(UInt32Array::from(steps)),
            Arc::new(UInt64Array::from(bits)),
        ];
        columns.extend(values.take());
        if !emit(batch(&schema, columns)?) {
            return Ok(());
        }
    }
    Ok(())
}

/// The engine's time at an event: the newest `received_at` so far.
fn next_now(
    last: &mut Offset,
    offset: Offset,
    now: Option<Timestamp>,
    event: &impl EventView,
) -> Result<Timestamp, FeatureError> {
    if offset <= *last {
        return Err(FeatureError::OutOfOrder {
            last: last.0,
            found: offset.0,
        });
    }
    let received = event.received_at();
    Ok(now.map_or(received, |now| now.max(received)))
}

fn number(steps: usize) -> u32 {
    u32::try_from(steps).expect("definitions name fewer than 2^32 events")
}
