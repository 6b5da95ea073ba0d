//! The pass over the events for the persons.

use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int64Array, RecordBatch, StringBuilder, UInt8Array, UInt32Array, UInt64Array,
};
use datafusion::arrow::datatypes::SchemaRef;
use tidemill_core::event::PersonKey;
use tidemill_core::{Offset, Span, Timestamp};
use tidemill_store::{EventTable, StoreError};

use super::narrow::Narrow;
use super::prepare::{Named, Prepared};
use super::values::Values;
use super::{
    BATCH_ROWS, Bits, EVENT, Emit, MERGE, OBSERVE, Place, batch, number, person_schema, taken,
};
use crate::FeatureError;
use crate::dataset::asked::Asked;
use crate::dataset::counts::Counts;
use crate::dataset::division::{BUCKETS, GroupBuckets};
use crate::dataset::items::ItemHistory;
use crate::dataset::observe::Observer;
use crate::dataset::people::{People, Person};
use crate::dataset::sampling::Drawn;
use crate::identity::{JOINING, learn};
use crate::set::USER;
use crate::value::Value;

/// Steps of persons that are being gathered, of one bucket.
struct PersonRows {
    group: Vec<u32>,
    person: Vec<u32>,
    what: Vec<u8>,
    offset: Vec<u64>,
    now: Vec<i64>,
    timestamp: Vec<i64>,
    steps: Narrow,
    passed: Narrow,
    matters: Narrow,
    models: Narrow,
    number: Vec<u32>,
    key: StringBuilder,
    values: Values,
}

/// The fixed columns of one step of a person.
struct PersonRow {
    group: Person,
    person: Person,
    what: u8,
    offset: Offset,
    now: Timestamp,
    timestamp: i64,
    steps: usize,
    passed: u64,
    matters: u32,
    models: u32,
    number: u32,
}

impl PersonRows {
    fn new(asked: &Asked) -> Self {
        let bits = Bits::of(asked, USER);
        Self {
            group: Vec::new(),
            person: Vec::new(),
            what: Vec::new(),
            offset: Vec::new(),
            now: Vec::new(),
            timestamp: Vec::new(),
            steps: Narrow::new(bits.steps),
            passed: Narrow::new(bits.passed),
            matters: Narrow::new(bits.models),
            models: Narrow::new(bits.models),
            number: Vec::new(),
            key: StringBuilder::with_capacity(0, 0),
            values: Values::new(&asked.layouts[USER]),
        }
    }

    /// Adds the fixed columns; the values follow. The key is that of the row's person.
    fn push(&mut self, row: &PersonRow, key: &PersonKey) {
        if self.group.is_empty() {
            self.reserve();
        }
        self.group.push(row.group);
        self.person.push(row.person);
        self.what.push(row.what);
        self.offset.push(row.offset.0);
        self.now.push(row.now.micros());
        self.timestamp.push(row.timestamp);
        self.steps.push(row.steps as u64);
        self.passed.push(row.passed);
        self.matters.push(u64::from(row.matters));
        self.models.push(u64::from(row.models));
        self.number.push(row.number);
        if row.models == 0 {
            self.key.append_null();
        } else {
            self.key.append_value(key.as_str());
        }
    }

    /// Makes room for a whole batch at once.
    fn reserve(&mut self) {
        self.group.reserve_exact(BATCH_ROWS);
        self.person.reserve_exact(BATCH_ROWS);
        self.what.reserve_exact(BATCH_ROWS);
        self.offset.reserve_exact(BATCH_ROWS);
        self.now.reserve_exact(BATCH_ROWS);
        self.timestamp.reserve_exact(BATCH_ROWS);
        for column in [
            &mut self.steps,
            &mut self.passed,
            &mut self.matters,
            &mut self.models,
        ] {
            column.reserve(BATCH_ROWS);
        }
        self.number.reserve_exact(BATCH_ROWS);
        self.values.reserve();
    }

    fn take(&mut self, schema: &SchemaRef) -> Result<RecordBatch, FeatureError> {
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(taken(&mut self.group))),
            Arc::new(UInt32Array::from(taken(&mut self.person))),
            Arc::new(UInt8Array::from(taken(&mut self.what))),
            Arc::new(UInt64Array::from(taken(&mut self.offset))),
            Arc::new(Int64Array::from(taken(&mut self.now))),
            Arc::new(Int64Array::from(taken(&mut self.timestamp))),
            self.steps.take(),
            self.passed.take(),
            self.matters.take(),
            self.models.take(),
            Arc::new(UInt32Array::from(taken(&mut self.number))),
            Arc::new(self.key.finish()),
        ];
        columns.extend(self.values.take());
        batch(schema, columns)
    }
}

struct PersonPass<'a> {
    asked: &'a Asked,
    people: People,
    observer: Observer,
    /// The items as they are at this place of the log, where they matter.
    items: Option<ItemHistory<'a>>,
    /// What an event's items bring to it, by column.
    of_items: Vec<(usize, Value)>,
    place: Place,
    /// How many rows are read.
    observed: u32,
    /// How many of the places at which something was served have been passed.
    served: usize,
    schema: SchemaRef,
    division: GroupBuckets,
    /// The buckets of all partitions.
    buckets: Vec<PersonRows>,
    emit: &'a mut Emit<'a>,
    is_wanted: bool,
}

/// Goes through the events in the order of the log and gives out the steps of persons.
pub(in crate::dataset) fn person_steps<'a>(
    asked: &'a Asked,
    events: &dyn EventTable,
    prepared: impl Iterator<Item = Result<Prepared, StoreError>>,
    partitions: usize,
    emit: &'a mut Emit<'a>,
) -> Result<Counts, FeatureError> {
    let people = People::read_ahead(events).map_err(FeatureError::Events)?;
    let mut pass = PersonPass {
        asked,
        people,
        observer: Observer::new(asked),
        items: asked.looked_up_items(USER).map(ItemHistory::new),
        of_items: Vec::new(),
        place: Place::default(),
        observed: 0,
        served: 0,
        schema: person_schema(asked),
        division: GroupBuckets::new(partitions),
        buckets: (0..partitions * BUCKETS)
            .map(|_| PersonRows::new(asked))
            .collect(),
        emit,
        is_wanted: true,
    };
    for chunk in prepared {
        pass.take(&chunk.map_err(FeatureError::Events)?)?;
        if !pass.is_wanted {
            return Ok(Counts::default());
        }
    }
    pass.read_served(Offset(u64::MAX))?;
    if pass.place.now.is_some() {
        pass.observe_periods(asked.known_until + Span::from_micros(1))?;
    }
    for bucket in 0..pass.buckets.len() {
        pass.give(bucket)?;
    }
    Ok(Counts {
        last_offset: pass.place.last,
        models: pass.observer.counts,
        failures: 0,
    })
}

impl PersonPass<'_> {
    fn take(&mut self, chunk: &Prepared) -> Result<(), FeatureError> {
        self.observer.failed(&chunk.failures);
        let rows = &chunk.rows;
        let (received, timestamps) = (rows.received(), rows.timestamps());
        for index in 0..rows.len() {
            let offset = rows.offset(index);
            let (place, now) = self.place.next(offset, received[index])?;
            self.read_served(offset)?;
            self.observe_periods(now)?;
            self.place = place;
            if JOINING.contains(&rows.kind(index)) {
                self.join(chunk, index, now)?;
            }
            let person = self.people.of_row(rows, index);
            let timestamp = Timestamp::from_micros(timestamps[index]);
            let mut models = chunk.occasions[index];
            if models != 0 {
                let observed = person.map(|person| Drawn {
                    person: &self.people.keys[person as usize],
                    moment: now,
                    offset,
                });
                let occasions = models;
                models = self
                    .observer
                    .at_event(self.asked, occasions, timestamp, observed, now)?;
            }
            if let Some(person) = person {
                let named = rows.names().which(index).map(|name| chunk.names[name]);
                if let Some(named) = named {
                    self.event(person, chunk, (index, named), now, models)?;
                    if !named.is_system {
                        self.observer.saw(person, timestamp.min(now));
                    }
                }
            }
            if let Some(items) = &mut self.items {
                items.take(&rows.row(index), offset, (index, &chunk.conditions));
            }
        }
        Ok(())
    }

    /// Applies what an event says about who is who.
    fn join(&mut self, chunk: &Prepared, index: usize, now: Timestamp) -> Result<(), FeatureError> {
        let Ok(()) = learn(&mut self.people, &chunk.rows.row(index));
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
            offset: self.place.last,
            now,
            timestamp: now.micros(),
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
        chunk: &Prepared,
        (index, named): (usize, Named),
        now: Timestamp,
        models: u32,
    ) -> Result<(), FeatureError> {
        let user = &self.asked.set.entities()[USER];
        let row = PersonRow {
            what: EVENT,
            timestamp: chunk.rows.timestamps()[index],
            steps: named.steps,
            passed: user.passed(named.steps, index, &chunk.conditions),
            matters: named.matters,
            models,
            number: self.observed,
            ..self.between(person, now)
        };
        self.observed += u32::from(models != 0);
        let mut of_items = std::mem::take(&mut self.of_items);
        if let Some(items) = &self.items {
            let columns = &self.asked.layouts[USER].of_steps[named.steps];
            let found = user.inputs[named.steps].of_items();
            of_items.clear();
            of_items.extend(found.map(|(place, aggregate)| {
                let event = chunk.rows.row(index);
                (columns[place], items.attribute(&event, aggregate))
            }));
        }
        let pushed = self.push(&row, |values| {
            values.push_row(&chunk.values, index, &of_items);
        });
        self.of_items = of_items;
        pushed
    }

    /// Reads the rows that were served before an event had been applied.
    fn read_served(&mut self, before: Offset) -> Result<(), FeatureError> {
        let asked = self.asked;
        while let Some(served) = asked.served.get(self.served)
            && served.offset < before
        {
            let person = self.people.of_key(&served.person);
            let now = self.place.now;
            let moment = now.map_or(served.moment, |now| now.max(served.moment));
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
                    offset: self.place.last,
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
        let bucket = self.division.of(row.group)?;
        let rows = &mut self.buckets[bucket];
        rows.push(row, &self.people.keys[row.person as usize]);
        values(&mut rows.values);
        let count = rows.group.len();
        if row.what != EVENT {
            rows.values.fill(count);
        }
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
