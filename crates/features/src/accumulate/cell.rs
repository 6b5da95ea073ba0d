//! A cell: the events of one stretch of time, summed up by one operation. Every cell is a monoid: cells of
//! neighbouring stretches merge to the cell of both.

use tidemill_core::project::Operation;

use super::distinct::Distinct;
use super::latest::Latest;
use super::quantile::Sketch;
use super::spread::Spread;
use super::top::Top;
use crate::codec::{DecodeError, Reader, Writer};
use crate::value::Value;

/// Where an event stands in time; the offset decides between equal timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Microseconds since the epoch.
    pub timestamp: i64,
    /// The offset in the log.
    pub offset: u64,
}

/// The events of one stretch of time, summed up.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// How many.
    Count(u64),
    /// The sum of their numbers, limited to finite numbers.
    Sum(f64),
    /// The sum and how many, for the mean.
    Mean(f64, u64),
    /// How their numbers spread.
    Spread(Spread),
    /// The smallest number.
    Min(f64),
    /// The largest number.
    Max(f64),
    /// Their numbers, for quantiles.
    Quantile(Sketch),
    /// The oldest value.
    First(Box<(Place, Value)>),
    /// The newest values: one for `last`, several for `recent`.
    Latest(Latest),
    /// The oldest timestamp.
    Oldest(i64),
    /// The newest timestamp.
    Newest(i64),
    /// The different values.
    Distinct(Distinct),
    /// The most frequent values.
    Top(Top),
}

/// Adds without ever leaving the finite numbers, so that no NaN can come out of ∞ − ∞ later.
pub(super) fn add(a: f64, b: f64) -> f64 {
    (a + b).clamp(f64::MIN, f64::MAX)
}

/// The smaller number; the first where they are equal, since of 0 and −0 `f64::min` may give either.
pub(super) fn smaller(a: f64, b: f64) -> f64 {
    if b < a { b } else { a }
}

/// The larger number; the first where they are equal.
pub(super) fn larger(a: f64, b: f64) -> f64 {
    if b > a { b } else { a }
}

impl Cell {
    /// The cell of one event; `None` where the event brings nothing to the operation. `Decayed` has no cells.
    pub fn of(operation: Operation, place: Place, value: &Value) -> Option<Self> {
        Some(match (operation, value) {
            (Operation::Count, _) => Self::Count(1),
            (Operation::SinceFirst, _) => Self::Oldest(place.timestamp),
            (Operation::SinceLast, _) => Self::Newest(place.timestamp),
            (Operation::Sum, Value::Number(number)) => Self::Sum(*number),
            (Operation::Mean, Value::Number(number)) => Self::Mean(*number, 1),
            (Operation::Stddev, Value::Number(number)) => Self::Spread(Spread::of(*number)),
            (Operation::Min, Value::Number(number)) => Self::Min(*number),
            (Operation::Max, Value::Number(number)) => Self::Max(*number),
            (Operation::Quantile { .. }, Value::Number(number)) => {
                Self::Quantile(Sketch::of(*number))
            }
            (Operation::First(_), Value::Number(_) | Value::Category(_)) => {
                Self::First(Box::new((place, value.clone())))
            }
            (
                Operation::Last(_) | Operation::Recent { .. },
                Value::Number(_) | Value::Category(_),
            ) => Self::Latest(Latest::of(place, value.clone())),
            (Operation::Distinct, Value::Number(_) | Value::Category(_)) => {
                Self::Distinct(Distinct::of(value))
            }
            (Operation::Top { .. }, Value::Category(text)) => Self::Top(Top::of(text.clone())),
            _ => return None,
        })
    }

    /// Adds one event that came later in the log.
    pub fn add(&mut self, operation: Operation, place: Place, value: &Value) {
        match (self, value) {
            (Self::Count(count), _) => *count += 1,
            (Self::Oldest(oldest), _) => *oldest = (*oldest).min(place.timestamp),
            (Self::Newest(newest), _) => *newest = (*newest).max(place.timestamp),
            (Self::Sum(sum), Value::Number(number)) => *sum = add(*sum, *number),
            (Self::Mean(sum, count), Value::Number(number)) => {
                *sum = add(*sum, *number);
                *count += 1;
            }
            (Self::Quantile(sketch), Value::Number(number)) => sketch.add(*number),
            (Self::Latest(latest), Value::Number(_) | Value::Category(_)) => {
                latest.add(operation.width(), place, value);
            }
            (Self::Distinct(distinct), Value::Number(_) | Value::Category(_)) => {
                distinct.add(value);
            }
            (Self::Top(top), Value::Category(text)) => top.add(text),
            (cell, _) => {
                if let Some(other) = Self::of(operation, place, value) {
                    cell.merge(operation, &other);
                }
            }
        }
    }

    /// Adds the events of another cell of the same operation, whose stretch of time is the same or comes after.
    pub fn merge(&mut self, operation: Operation, other: &Self) {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => *a = a.saturating_add(*b),
            (Self::Sum(a), Self::Sum(b)) => *a = add(*a, *b),
            (Self::Mean(sum, count), Self::Mean(b_sum, b_count)) => {
                *sum = add(*sum, *b_sum);
                *count = count.saturating_add(*b_count);
            }
            (Self::Spread(a), Self::Spread(b)) => a.merge(b),
            (Self::Min(a), Self::Min(b)) => *a = smaller(*a, *b),
            (Self::Max(a), Self::Max(b)) => *a = larger(*a, *b),
            (Self::Quantile(a), Self::Quantile(b)) => a.merge(b),
            (Self::First(a), Self::First(b)) => {
                if b.0 < a.0 {
                    *a = b.clone();
                }
            }
            (Self::Latest(a), Self::Latest(b)) => a.merge(operation.width(), b),
            (Self::Oldest(a), Self::Oldest(b)) => *a = (*a).min(*b),
            (Self::Newest(a), Self::Newest(b)) => *a = (*a).max(*b),
            (Self::Distinct(a), Self::Distinct(b)) => a.merge(b),
            (Self::Top(a), Self::Top(b)) => a.merge(b),
            _ => debug_assert!(false, "cells of one accumulator have one operation"),
        }
    }

    pub(super) fn encode(&self, writer: &mut Writer, reference: i64) {
        match self {
            Self::Count(count) => writer.unsigned(*count),
            Self::Sum(number) | Self::Min(number) | Self::Max(number) => writer.float(*number),
            Self::Mean(sum, count) => {
                writer.float(*sum);
                writer.unsigned(*count);
            }
            Self::Spread(spread) => spread.encode(writer),
            Self::Quantile(sketch) => sketch.encode(writer),
            Self::Oldest(timestamp) | Self::Newest(timestamp) => {
                writer.signed(reference.wrapping_sub(*timestamp));
            }
            Self::First(first) => {
                writer.signed(reference.wrapping_sub(first.0.timestamp));
                writer.unsigned(first.0.offset);
                encode_value(&first.1, writer);
            }
            Self::Latest(latest) => latest.encode(writer, reference),
            Self::Distinct(distinct) => distinct.encode(writer),
            Self::Top(top) => top.encode(writer),
        }
    }

    pub(super) fn decode(
        operation: Operation,
        reader: &mut Reader<'_>,
        reference: i64,
    ) -> Result<Self, DecodeError> {
        Ok(match operation {
            Operation::Count => Self::Count(reader.amount()?),
            Operation::Sum => Self::Sum(reader.float()?),
            Operation::Min => Self::Min(reader.float()?),
            Operation::Max => Self::Max(reader.float()?),
            Operation::Mean => Self::Mean(reader.float()?, reader.amount()?.max(1)),
            Operation::Stddev => Self::Spread(Spread::decode(reader)?),
            Operation::Quantile { .. } => Self::Quantile(Sketch::decode(reader)?),
            Operation::SinceFirst => Self::Oldest(reader.time(reference)?),
            Operation::SinceLast => Self::Newest(reader.time(reference)?),
            Operation::First(_) => {
                let timestamp = reader.time(reference)?;
                let place = Place {
                    timestamp,
                    offset: reader.unsigned()?,
                };
                Self::First(Box::new((place, decode_value(reader)?)))
            }
            Operation::Last(_) | Operation::Recent { .. } => {
                Self::Latest(Latest::decode(operation.width(), reader, reference)?)
            }
            Operation::Distinct => Self::Distinct(Distinct::decode(reader)?),
            Operation::Top { .. } => Self::Top(Top::decode(reader)?),
            Operation::Decayed { .. } => return Err(DecodeError("a decaying number has no cells")),
            Operation::Attribute(_) => return Err(DecodeError("an attribute has no cells")),
        })
    }
}

pub(super) fn encode_value(value: &Value, writer: &mut Writer) {
    match value {
        Value::Missing => writer.byte(0),
        Value::Number(number) => {
            writer.byte(1);
            writer.float(*number);
        }
        Value::Category(text) => {
            writer.byte(2);
            writer.text(text);
        }
    }
}

pub(super) fn decode_value(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    match reader.byte()? {
        0 => Ok(Value::Missing),
        1 => reader.float().map(Value::Number),
        2 => reader.text().map(Value::Category),
        _ => Err(DecodeError("a value has an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tidemill_core::FeatureType;

    use super::*;

    /// Those whose cells are the same however they are merged; the mean and the squares of `stddev` are rounded, and `top` is exact
    /// for as few values as there are here.
    const OPERATIONS: [Operation; 13] = [
        Operation::Count,
        Operation::Sum,
        Operation::Mean,
        Operation::Min,
        Operation::Max,
        Operation::Quantile { q: 0.5 },
        Operation::First(FeatureType::Number),
        Operation::Last(FeatureType::Number),
        Operation::SinceFirst,
        Operation::SinceLast,
        Operation::Distinct,
        Operation::Top { k: 3 },
        Operation::Recent {
            k: 4,
            kind: FeatureType::Number,
        },
    ];

    fn cell(operation: Operation, first_offset: usize, numbers: &[u8]) -> Option<Cell> {
        let mut cell: Option<Cell> = None;
        for (index, number) in numbers.iter().enumerate() {
            let place = Place {
                timestamp: i64::from(*number),
                offset: (first_offset + index) as u64,
            };
            let value = match operation {
                Operation::Top { .. } => Value::Category(format!("c{}", number % 5).into()),
                _ => Value::Number(f64::from(*number)),
            };
            match &mut cell {
                Some(cell) => cell.add(operation, place, &value),
                None => cell = Cell::of(operation, place, &value),
            }
        }
        cell
    }

    fn merged(operation: Operation, a: &Option<Cell>, b: &Option<Cell>) -> Option<Cell> {
        match (a.clone(), b) {
            (Some(mut a), Some(b)) => {
                a.merge(operation, b);
                Some(a)
            }
            (a, b) => a.or_else(|| b.clone()),
        }
    }

    proptest! {
        #[test]
        fn merging_is_associative_for_whole_numbers(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            for operation in OPERATIONS {
                let [one, two, three] = [(0, &a), (1_000, &b), (2_000, &c)]
                    .map(|(first, numbers)| cell(operation, first, numbers));
                let left = merged(operation, &merged(operation, &one, &two), &three);
                let right = merged(operation, &one, &merged(operation, &two, &three));
                prop_assert_eq!(&left, &right, "{:?}", operation);
                let whole: Vec<u8> = [&a[..], &b, &c].concat();
                if a.len() + b.len() == 0 || !matches!(operation, Operation::First(_) | Operation::Last(_) | Operation::Recent { .. }) {
                    let first = if a.len() + b.len() == 0 { 2_000 } else { 0 };
                    prop_assert_eq!(&left, &cell(operation, first, &whole), "{:?}", operation);
                }
            }
        }
    }

    #[test]
    fn sums_stay_finite() {
        let mut cell = Cell::Sum(f64::MAX);
        cell.merge(Operation::Sum, &Cell::Sum(f64::MAX));
        cell.merge(Operation::Sum, &Cell::Sum(f64::MIN));
        assert_eq!(cell, Cell::Sum(0.0));
    }

    #[test]
    fn a_cell_is_small() {
        assert!(size_of::<Cell>() <= 32);
    }
}
