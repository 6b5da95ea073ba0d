//! The sequential pass: what each event does to which state, and where rows are read, as rows in the order of the log.
//!
//! It knows who is who, what time it is and who is observed; that takes one place after the other. What costs (states, windows) is
//! left to those who take the rows, by person or by key. Rows are divided here already, by what they are about: all rows of a batch
//! are of one bucket, and the batches of a bucket come in the order of the log.

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

use super::asked::{Asked, Layout};
use super::division::{
    BUCKETS, GroupPartitions, bucket_of_group, bucket_of_key, partitions_of_keys,
};
use super::items::ItemHistory;
use super::observe::Observer;
use super::people::{People, Person};
use super::sampling::Drawn;
use crate::FeatureError;
use crate::identity::{JOINING, learn};
use crate::set::{Conditions, Entity, Origin, USER};
use crate::value::Value;

/// An event of a person; where it is observed, the row is read after it.
pub(super) const EVENT: u8 = 0;
/// What another person has seen becomes part of this one.
pub(super) const MERGE: u8 = 1;
/// A row is read between two events.
pub(super) const OBSERVE: u8 = 2;

/// The fixed columns of a person's steps, before their values.
pub(super) const PERSON_COLUMNS: usize = 11;
/// The fixed columns of a key's steps, before their values.
pub(super) const KEY_COLUMNS: usize = 6;

/// Rows of a batch.
const BATCH_ROWS: usize = 1_024;

/// The columns of persons' steps: `group` (who become one in the end), `person`, `what`; the place of the event, the engine's time,
/// the event's own; which steps it takes and which conditions hold; the models to whose targets it matters, and those for which a
/// row is read, a bit each; the number of that row, or for a merge who is taken over.
pub(super) fn person_schema(asked: &Asked) -> SchemaRef {
    let mut fields = vec![
        Field::new("group", DataType::UInt32, false),
        Field::new("person", DataType::UInt32, false),
        Field::new("what", DataType::UInt8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("now", DataType::Int64, false),
        Field::new("timestamp", DataType::Int64, false),
        Field::new("steps", DataType::UInt32, false),
        Field::new("passed", DataType::UInt64, false),
        Field::new("matters", DataType::UInt32, false),
        Field::new("models", DataType::UInt32, false),
        Field::new("number", DataType::UInt32, false),
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
        Field::new("passed", DataType::UInt64, false),
    ];
    fields.extend(value_fields(&asked.layouts[entity]));
    Arc::new(Schema::new(fields))
}

fn value_fields(layout: &Layout) -> impl Iterator<Item = Field> {
    let columns = layout.columns.iter().enumerate();
    columns.map(|(place, kind)| {
        let data_type = match kind {
            FeatureType::Number => DataType::Float64,
            FeatureType::Category => DataType::Utf8,
        };
        Field::new(format!("value_{place}"), data_type, true)
    })
}

/// Where finished batches go, with their partition; it says whether anybody still wants them.
pub(super) type Emit<'e> = dyn FnMut(usize, RecordBatch) -> bool + 'e;

/// The values of steps, column by column.
struct Values(Vec<ValueColumn>);

enum ValueColumn {
    /// NaN is missing.
    Number(Vec<f64>),
    Text(StringBuilder),
}

impl Values {
    fn new(layout: &Layout) -> Self {
        let column = |kind: &FeatureType| match kind {
            FeatureType::Number => ValueColumn::Number(Vec::new()),
            FeatureType::Category => ValueColumn::Text(StringBuilder::with_capacity(0, 0)),
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

    /// Adds what an event brings, itself or with the item that it is about, and nothing to the other columns.
    fn push_event(
        &mut self,
        entity: &Entity,
        layout: &Layout,
        steps: usize,
        event: &EventRow<'_>,
        items: Option<&ItemHistory<'_>>,
    ) {
        let values = entity.inputs[steps].values.iter();
        for ((origin, kind), &column) in values.zip(&layout.of_steps[steps]) {
            let value = match origin {
                Origin::Field(field) => Value::of(event, field, *kind),
                Origin::OfItem(aggregate) => {
                    items.map_or(Value::Missing, |items| items.attribute(event, *aggregate))
                }
            };
            self.push(column, &value);
        }
    }

    /// Makes all columns as long as the rows are.
    fn fill(&mut self, rows: usize) {
        for column in &mut self.0 {
            match column {
                ValueColumn::Number(numbers) if numbers.len() < rows => numbers.push(f64::NAN),
                ValueColumn::Text(texts)
                    if datafusion::arrow::array::ArrayBuilder::len(texts) < rows =>
                {
                    texts.append_null();
                }
                ValueColumn::Number(_) | ValueColumn::Text(_) => {}
            }
        }
    }

    fn take(&mut self) -> Vec<ArrayRef> {
        let take = |column: &mut ValueColumn| -> ArrayRef {
            match column {
                ValueColumn::Number(numbers) => numbers_of(numbers),
                ValueColumn::Text(texts) => Arc::new(texts.finish()),
            }
        };
        self.0.iter_mut().map(take).collect()
    }
}

fn numbers_of(numbers: &mut Vec<f64>) -> ArrayRef {
    Arc::new(Float64Array::from(taken(numbers)))
}

/// The values, without the memory that was not needed.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let mut values = std::mem::take(values);
    values.shrink_to_fit();
    values
}

/// Steps of persons that are being gathered, of one bucket.
struct PersonRows {
    group: Vec<u32>,
    person: Vec<u32>,
    what: Vec<u8>,
    offset: Vec<u64>,
    now: Vec<i64>,
    timestamp: Vec<i64>,
    steps: Vec<u32>,
    passed: Vec<u64>,
    matters: Vec<u32>,
    models: Vec<u32>,
    number: Vec<u32>,
    values: Values,
}

/// The fixed columns of one step of a person.
struct PersonRow {
    group: Person,
    person: Person,
    what: u8,
    offset: Offset,
    now: Timestamp,
    timestamp: Timestamp,
    steps: u32,
    passed: u64,
    matters: u32,
    models: u32,
    number: u32,
}

impl PersonRows {
    fn new(layout: &Layout) -> Self {
        Self {
            group: Vec::new(),
            person: Vec::new(),
            what: Vec::new(),
            offset: Vec::new(),
            now: Vec::new(),
            timestamp: Vec::new(),
            steps: Vec::new(),
            passed: Vec::new(),
            matters: Vec::new(),
            models: Vec::new(),
            number: Vec::new(),
            values: Values::new(layout),
        }
    }

    /// Adds the fixed columns; the values follow.
    fn push(&mut self, row: &PersonRow) {
        if self.group.is_empty() {
            self.reserve();
        }
        self.group.push(row.group);
        self.person.push(row.person);
        self.what.push(row.what);
        self.offset.push(row.offset.0);
        self.now.push(row.now.micros());
        self.timestamp.push(row.timestamp.micros());
        self.steps.push(row.steps);
        self.passed.push(row.passed);
        self.matters.push(row.matters);
        self.models.push(row.models);
        self.number.push(row.number);
    }

    /// Makes room for a whole batch at once.
    fn reserve(&mut self) {
        self.group.reserve_exact(BATCH_ROWS);
        self.person.reserve_exact(BATCH_ROWS);
        self.what.reserve_exact(BATCH_ROWS);
        self.offset.reserve_exact(BATCH_ROWS);
        self.now.reserve_exact(BATCH_ROWS);
        self.timestamp.reserve_exact(BATCH_ROWS);
        self.steps.reserve_exact(BATCH_ROWS);
        self.passed.reserve_exact(BATCH_ROWS);
        self.matters.reserve_exact(BATCH_ROWS);
        self.models.reserve_exact(BATCH_ROWS);
        self.number.reserve_exact(BATCH_ROWS);
        for column in &mut self.values.0 {
            if let ValueColumn::Number(numbers) = column {
                numbers.reserve_exact(BATCH_ROWS);
            }
        }
    }

    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch, FeatureError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(taken(&mut self.group))),
            Arc::new(UInt32Array::from(taken(&mut self.person))),
            Arc::new(UInt8Array::from(taken(&mut self.what))),
            Arc::new(UInt64Array::from(taken(&mut self.offset))),
            Arc::new(Int64Array::from(taken(&mut self.now))),
            Arc::new(Int64Array::from(taken(&mut self.timestamp))),
            Arc::new(UInt32Array::from(taken(&mut self.steps))),
            Arc::new(UInt64Array::from(taken(&mut self.passed))),
            Arc::new(UInt32Array::from(taken(&mut self.matters))),
            Arc::new(UInt32Array::from(taken(&mut self.models))),
            Arc::new(UInt32Array::from(taken(&mut self.number))),
        ];
        columns.extend(self.values.take());
        batch(schema, columns)
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
    /// The items as they are at this place of the log, where they matter.
    items: Option<ItemHistory<'a>>,
    now: Option<Timestamp>,
    last: Offset,
    /// How many rows are read.
    observed: u32,
    /// How many of the places at which something was served have been passed.
    served: usize,
    schema: SchemaRef,
    partitions: GroupPartitions,
    /// The buckets of all partitions.
    buckets: Vec<PersonRows>,
    emit: &'a mut Emit<'a>,
    is_wanted: bool,
}

/// Goes through the events in the order of the log and gives out the steps of persons.
pub(super) fn person_steps<'a>(
    asked: &'a Asked,
    events: &dyn EventTable,
    partitions: usize,
    emit: &'a mut Emit<'a>,
) -> Result<(), FeatureError> {
    let people = People::read_ahead(events).map_err(FeatureError::Events)?;
    let layout = &asked.layouts[USER];
    let mut pass = PersonPass {
        asked,
        people,
        observer: Observer::new(asked),
        items: asked.looked_up_items(USER).map(ItemHistory::new),
        now: None,
        last: Offset::ZERO,
        observed: 0,
        served: 0,
        schema: person_schema(asked),
        partitions: GroupPartitions::new(partitions),
        buckets: (0..partitions * BUCKETS)
            .map(|_| PersonRows::new(layout))
            .collect(),
        emit,
        is_wanted: true,
    };
    for rows in events.scan(asked.event_columns(USER), None) {
        pass.take(&rows.map_err(FeatureError::Events)?)?;
        if !pass.is_wanted {
            return Ok(());
        }
    }
    pass.read_served(Offset(u64::MAX))?;
    if pass.now.is_some() {
        pass.observe_periods(asked.known_until + Span::from_micros(1))?;
    }
    for bucket in 0..pass.buckets.len() {
        pass.give(bucket)?;
    }
    let mut counts = asked.counts.lock();
    counts.last_offset = pass.last;
    counts.models = pass.observer.counts;
    asked.persons.lock().keys = pass.people.keys;
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
            self.read_served(offset)?;
            self.observe_periods(now)?;
            self.now = Some(now);
            self.last = offset;
            if JOINING.contains(&event.kind()) {
                self.join(event, now)?;
            }
            let person = self.people.of(event);
            let is_occasion = |model: usize| occasions[model][index];
            let observed = person.map(|person| Drawn {
                person: &self.people.keys[person as usize],
                moment: now,
                offset,
            });
            let models = self
                .observer
                .at_event(self.asked, event, observed, now, is_occasion)?;
            if let Some(person) = person {
                self.event(person, event, (index, &conditions), now, models)?;
                self.observer.saw(person, event, now);
            }
            if let Some(items) = &mut self.items {
                items.take(event, offset, (index, &conditions));
            }
        }
        Ok(())
    }

    /// Applies what an event says about who is who.
    fn join(&mut self, event: &EventRow<'_>, now: Timestamp) -> Result<(), FeatureError> {
        let Ok(()) = learn(&mut self.people, event);
        for (from, into) in std::mem::take(&mut self.people.merges) {
            let row = PersonRow {
                what: MERGE,
                number: from,
                ..self.between(into, now)
            };
            self.push(&row, |_| {})?;
            self.observer.merge(from, into);
        }
        Ok(())
    }

    /// A step between two events, which does nothing yet.
    fn between(&self, person: Person, now: Timestamp) -> PersonRow {
        PersonRow {
            group: self.people.group(person),
            person,
            what: OBSERVE,
            offset: self.last,
            now,
            timestamp: now,
            steps: 0,
            passed: 0,
            matters: 0,
            models: 0,
            number: 0,
        }
    }

    fn event(
        &mut self,
        person: Person,
        event: &EventRow<'_>,
        (index, conditions): (usize, &Conditions),
        now: Timestamp,
        models: u32,
    ) -> Result<(), FeatureError> {
        let asked = self.asked;
        let user = &asked.set.entities()[USER];
        let steps = user.steps_of(event);
        let mut matters = 0;
        for (model, asked) in asked.models.iter().enumerate() {
            matters |= u32::from(asked.tracker.is_relevant(event.name())) << model;
        }
        let row = PersonRow {
            what: EVENT,
            timestamp: event.timestamp(),
            steps: number(steps),
            passed: user.passed(steps, index, conditions),
            matters,
            models,
            number: self.observed,
            ..self.between(person, now)
        };
        self.observed += u32::from(models != 0);
        // it goes on beside what is borrowed of the pass
        let items = self.items.take();
        let pushed = self.push(&row, |values| {
            let layout = &asked.layouts[USER];
            values.push_event(user, layout, steps, event, items.as_ref());
            for (model, column) in layout.of_targets.iter().enumerate() {
                if let (Some(column), true) = (column, matters >> model & 1 == 1) {
                    let brought = asked.models[model].tracker.brought(event);
                    values.push(*column, &Value::Number(brought));
                }
            }
        });
        self.items = items;
        pushed
    }

    /// Reads the rows that were served before an event had been applied.
    fn read_served(&mut self, before: Offset) -> Result<(), FeatureError> {
        let asked = self.asked;
        while let Some(served) = asked.served.get(self.served)
            && served.offset < before
        {
            let person = self.people.of_key(&served.person);
            let moment = self.now.map_or(served.moment, |now| now.max(served.moment));
            let row = PersonRow {
                models: 1,
                number: number(self.served),
                ..self.between(person, moment)
            };
            self.served += 1;
            self.push(&row, |_| {})?;
        }
        Ok(())
    }

    fn observe_periods(&mut self, until: Timestamp) -> Result<(), FeatureError> {
        for due in self.observer.periods(self.asked, until) {
            for person in due.persons {
                let observed = Drawn {
                    person: &self.people.keys[person as usize],
                    moment: due.moment,
                    offset: self.last,
                };
                if self.observer.at_period(self.asked, due.model, observed)? {
                    let row = PersonRow {
                        models: 1 << due.model,
                        number: self.observed,
                        ..self.between(person, due.moment)
                    };
                    self.observed += 1;
                    self.push(&row, |_| {})?;
                }
            }
        }
        Ok(())
    }

    fn push(
        &mut self,
        row: &PersonRow,
        values: impl FnOnce(&mut Values),
    ) -> Result<(), FeatureError> {
        let partition = self.partitions.of(row.group)?;
        let bucket = partition * BUCKETS + bucket_of_group(row.group);
        let rows = &mut self.buckets[bucket];
        rows.push(row);
        values(&mut rows.values);
        let count = rows.group.len();
        rows.values.fill(count);
        if count == BATCH_ROWS {
            self.give(bucket)?;
        }
        Ok(())
    }

    /// Gives out what has been gathered of a bucket.
    fn give(&mut self, bucket: usize) -> Result<(), FeatureError> {
        let rows = &mut self.buckets[bucket];
        if !rows.group.is_empty() {
            let batch = rows.take(&self.schema)?;
            self.is_wanted &= (self.emit)(bucket / BUCKETS, batch);
        }
        Ok(())
    }
}

/// Steps of keys that are being gathered, of one bucket.
struct KeyRows {
    key: StringBuilder,
    offset: Vec<u64>,
    now: Vec<i64>,
    timestamp: Vec<i64>,
    steps: Vec<u32>,
    passed: Vec<u64>,
    values: Values,
}

impl KeyRows {
    fn new(layout: &Layout) -> Self {
        Self {
            key: StringBuilder::with_capacity(0, 0),
            offset: Vec::new(),
            now: Vec::new(),
            timestamp: Vec::new(),
            steps: Vec::new(),
            passed: Vec::new(),
            values: Values::new(layout),
        }
    }

    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch, FeatureError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(self.key.finish()),
            Arc::new(UInt64Array::from(taken(&mut self.offset))),
            Arc::new(Int64Array::from(taken(&mut self.now))),
            Arc::new(Int64Array::from(taken(&mut self.timestamp))),
            Arc::new(UInt32Array::from(taken(&mut self.steps))),
            Arc::new(UInt64Array::from(taken(&mut self.passed))),
        ];
        columns.extend(self.values.take());
        batch(schema, columns)
    }
}

/// The pass over the events for the keys of another entity.
struct KeyPass<'a> {
    asked: &'a Asked,
    entity: usize,
    partitions: usize,
    now: Option<Timestamp>,
    last: Offset,
    /// The buckets of all partitions.
    buckets: Vec<KeyRows>,
    schema: SchemaRef,
}

/// Goes through the events in the order of the log and gives out the steps of another entity's keys.
pub(super) fn key_steps(
    asked: &Asked,
    entity: usize,
    events: &dyn EventTable,
    partitions: usize,
    emit: &mut Emit<'_>,
) -> Result<(), FeatureError> {
    let layout = &asked.layouts[entity];
    let mut pass = KeyPass {
        asked,
        entity,
        partitions,
        now: None,
        last: Offset::ZERO,
        buckets: (0..partitions * BUCKETS)
            .map(|_| KeyRows::new(layout))
            .collect(),
        schema: key_schema(asked, entity),
    };
    for rows in events.scan(asked.event_columns(entity), None) {
        if !pass.take(&rows.map_err(FeatureError::Events)?, emit)? {
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
    fn take(&mut self, rows: &EventRows, emit: &mut Emit<'_>) -> Result<bool, FeatureError> {
        let definition = &self.asked.set.entities()[self.entity];
        let layout = &self.asked.layouts[self.entity];
        let events: Vec<EventRow<'_>> = rows.rows().collect();
        let conditions = self.asked.set.conditions(&events);
        let is_read = |event: &EventRow<'_>| definition.reads(event);
        let keys: Vec<Option<Arc<str>>> = events
            .iter()
            .map(|event| is_read(event).then(|| definition.key_of(event)).flatten())
            .collect();
        let partitions =
            partitions_of_keys(keys.iter().map(Option::as_deref).collect(), self.partitions)?;
        for (index, event) in events.iter().enumerate() {
            let place = rows.offset(index);
            let now = next_now(&mut self.last, place, self.now, event)?;
            (self.now, self.last) = (Some(now), place);
            let Some(key) = &keys[index] else {
                continue;
            };
            let steps = definition.steps_of(event);
            let bucket = partitions[index] * BUCKETS + bucket_of_key(key);
            let rows = &mut self.buckets[bucket];
            rows.key.append_value(key);
            rows.offset.push(place.0);
            rows.now.push(now.micros());
            rows.timestamp.push(event.timestamp().micros());
            rows.steps.push(number(steps));
            rows.passed
                .push(definition.passed(steps, index, &conditions));
            rows.values
                .push_event(definition, layout, steps, event, None);
            rows.values.fill(rows.offset.len());
            if rows.offset.len() == BATCH_ROWS && !emit(partitions[index], rows.take(&self.schema)?)
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
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

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("there are fewer than 2^32 kinds of events, and rows")
}
