//! What each event does to which state, and where rows are read, as rows in the order of the log.
//!
//! - [`prepare`](self::prepare): what can be said of an event alone (its values, conditions, whether it is an occasion), on another
//!   thread, ahead of the pass.
//! - [`persons`](self::persons), [`keys`](self::keys): the sequential pass. It knows who is who, what time it is and who is observed;
//!   that takes one place after the other.
//!
//! What costs (states, windows) is left to those who take the rows, by person or by key. Rows are divided here already, by what they
//! are about: all rows of a batch are of one bucket, and the batches of a bucket come in the order of the log.

mod keys;
mod narrow;
mod persons;
mod prepare;
mod values;

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::error::DataFusionError;
use tidemill_core::{FeatureType, Offset, Timestamp};

use super::asked::{Asked, Layout};
use crate::FeatureError;
use crate::set::USER;
pub(super) use keys::key_steps;
pub(super) use narrow::NarrowValues;
pub(super) use persons::person_steps;
pub(super) use prepare::Preparation;

/// An event of a person; where it is observed, the row is read after it.
pub(super) const EVENT: u8 = 0;
/// What another person has seen becomes part of this one.
pub(super) const MERGE: u8 = 1;
/// A row is read between two events.
pub(super) const OBSERVE: u8 = 2;

/// The fixed columns of a person's steps, before their values.
pub(super) const PERSON_COLUMNS: usize = 12;
/// The fixed columns of a key's steps, before their values.
pub(super) const KEY_COLUMNS: usize = 6;

/// Rows of a batch.
const BATCH_ROWS: usize = 1_024;

/// Where finished batches go, with their partition; it says whether anybody still wants them.
pub(super) type Emit<'e> = dyn FnMut(usize, RecordBatch) -> bool + 'e;

/// How many bits the small numbers of an entity's steps need.
#[derive(Debug, Clone, Copy)]
struct Bits {
    /// Which steps an event takes.
    steps: u32,
    /// Which conditions hold.
    passed: u32,
    /// Models, a bit each.
    models: u32,
}

impl Bits {
    fn of(asked: &Asked, entity: usize) -> Self {
        let inputs = &asked.set.entities()[entity].inputs;
        let conditions = inputs.iter().map(|inputs| inputs.conditions.len());
        Self {
            steps: usize::BITS - inputs.len().leading_zeros(),
            passed: conditions.max().map_or(0, |most| most as u32), // at most 64 of them
            models: (asked.models.len() as u32).max(1),
        }
    }
}

/// The columns of persons' steps: `group` (who become one in the end), `person`, `what`; the place of the event, the engine's time,
/// the event's own; which steps it takes and which conditions hold; the models to whose targets it matters, and those for which a
/// row is read, a bit each; the number of that row, or for a merge who is taken over; where a row is read, the person's key.
pub(super) fn person_schema(asked: &Asked) -> SchemaRef {
    let bits = Bits::of(asked, USER);
    let mut fields = vec![
        Field::new("group", DataType::UInt32, false),
        Field::new("person", DataType::UInt32, false),
        Field::new("what", DataType::UInt8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("now", DataType::Int64, false),
        Field::new("timestamp", DataType::Int64, false),
        Field::new("steps", narrow::data_type(bits.steps), false),
        Field::new("passed", narrow::data_type(bits.passed), false),
        Field::new("matters", narrow::data_type(bits.models), false),
        Field::new("models", narrow::data_type(bits.models), false),
        Field::new("number", DataType::UInt32, false),
        Field::new("key", DataType::Utf8, true),
    ];
    fields.extend(value_fields(&asked.layouts[USER]));
    Arc::new(Schema::new(fields))
}

/// The columns of the steps of another entity's keys.
pub(super) fn key_schema(asked: &Asked, entity: usize) -> SchemaRef {
    let bits = Bits::of(asked, entity);
    let mut fields = vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("offset", DataType::UInt64, false),
        Field::new("now", DataType::Int64, false),
        Field::new("timestamp", DataType::Int64, false),
        Field::new("steps", narrow::data_type(bits.steps), false),
        Field::new("passed", narrow::data_type(bits.passed), false),
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

/// The values, for a column, without the memory that was not needed.
fn taken<T>(values: &mut Vec<T>) -> Vec<T> {
    let mut values = std::mem::take(values);
    values.shrink_to_fit();
    values
}

fn batch(schema: &SchemaRef, columns: Vec<ArrayRef>) -> Result<RecordBatch, FeatureError> {
    Ok(RecordBatch::try_new(Arc::clone(schema), columns).map_err(DataFusionError::from)?)
}

/// Where a pass is in the log, and what time it is there.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    last: Offset,
    /// The newest `received_at` so far.
    now: Option<Timestamp>,
}

impl Place {
    /// Goes on to the next event.
    fn next(self, offset: Offset, received: i64) -> Result<(Self, Timestamp), FeatureError> {
        if offset <= self.last {
            return Err(FeatureError::OutOfOrder {
                last: self.last.0,
                found: offset.0,
            });
        }
        let received = Timestamp::from_micros(received);
        let now = self.now.map_or(received, |now| now.max(received));
        let (last, at) = (offset, Some(now));
        Ok((Self { last, now: at }, now))
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("there are fewer than 2^32 rows")
}
