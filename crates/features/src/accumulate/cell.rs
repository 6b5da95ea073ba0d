//! A cell: the events of one stretch of time, summed up by one operation. Every cell is a monoid: cells of
//! neighbouring stretches merge to the cell of both.

use std::sync::Arc;

use tidemill_core::FeatureValue;
use tidemill_core::project::Operation;

use crate::codec::{DecodeError, Reader, Writer};
use crate::value::Value;

/// A `distinct` cell is exact while it holds fewer different values than this. From there on it keeps this many of the smallest
/// hashes and estimates, with a relative standard error of 1/√(k−2) ≈ 9 % (k-minimum-values: Bar-Yossef et al., *Counting
/// distinct elements in a data stream*, 2002). A window is exact while none of its tiles is full.
pub const DISTINCT_EXACT_BELOW: usize = 128;

/// A `top` cell counts this many different values exactly. Beyond that the rarest gives way to the newcomer, which takes over
/// its count (Space-Saving: Metwally, Agrawal, El Abbadi 2005), so that frequent values stay.
pub const TOP_PER_CELL_MAX: usize = 32;

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
    /// The smallest number.
    Min(f64),
    /// The largest number.
    Max(f64),
    /// The newest value.
    Last(Box<(Place, Value)>),
    /// The newest timestamp.
    Newest(i64),
    /// The smallest hashes of the values, ascending.
    Distinct(Vec<u64>),
    /// Values and how often, in the order of the values.
    Top(Vec<(Arc<str>, u64)>),
}

/// Adds without ever leaving the finite numbers, so that no NaN can come out of ∞ − ∞ later.
pub(super) fn add(a: f64, b: f64) -> f64 {
    (a + b).clamp(f64::MIN, f64::MAX)
}

/// A hash that never changes: FNV-1a over the bytes, then the finaliser of MurmurHash3 (64 bits), which spreads it evenly.
fn hash(value: &Value) -> u64 {
    finish_hash(match value {
        Value::Missing => FNV_START,
        Value::Number(number) => fnv(FNV_START ^ 1, &number.to_bits().to_le_bytes()),
        Value::Category(text) => fnv(FNV_START, text.as_bytes()),
    })
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(seed: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(seed, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

fn finish_hash(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The hash of a text, as `distinct` counts it.
pub(crate) fn hash_text(text: &str) -> u64 {
    finish_hash(fnv(FNV_START, text.as_bytes()))
}

/// How many different values the smallest hashes of a full set say there are.
pub(crate) fn count_distinct(hashes: &[u64]) -> u64 {
    read_distinct(std::iter::once(&Cell::Distinct(hashes.to_vec()))) as u64
}

impl Cell {
    /// The cell of one event; `None` where the event brings nothing to the operation. `Decayed` has no cells.
    pub fn of(operation: Operation, place: Place, value: &Value) -> Option<Self> {
        Some(match (operation, value) {
            (Operation::Count, _) => Self::Count(1),
            (Operation::SinceLast, _) => Self::Newest(place.timestamp),
            (Operation::Sum, Value::Number(number)) => Self::Sum(*number),
            (Operation::Mean, Value::Number(number)) => Self::Mean(*number, 1),
            (Operation::Min, Value::Number(number)) => Self::Min(*number),
            (Operation::Max, Value::Number(number)) => Self::Max(*number),
            (Operation::Last(_), Value::Number(_) | Value::Category(_)) => {
                Self::Last(Box::new((place, value.clone())))
            }
            (Operation::Distinct, Value::Number(_) | Value::Category(_)) => {
                Self::Distinct(vec![hash(value)])
            }
            (Operation::Top { .. }, Value::Category(text)) => Self::Top(vec![(text.clone(), 1)]),
            _ => return None,
        })
    }

    /// Adds one event that came later in the log.
    pub fn add(&mut self, operation: Operation, place: Place, value: &Value) {
        match (self, value) {
            (Self::Count(count), _) => *count += 1,
            (Self::Newest(newest), _) => *newest = (*newest).max(place.timestamp),
            (Self::Sum(sum), Value::Number(number)) => *sum = add(*sum, *number),
            (Self::Mean(sum, count), Value::Number(number)) => {
                *sum = add(*sum, *number);
                *count += 1;
            }
            (Self::Top(counts), Value::Category(text)) => add_top(counts, text),
            (cell, _) => {
                if let Some(other) = Self::of(operation, place, value) {
                    cell.merge(&other);
                }
            }
        }
    }

    /// Adds the events of another cell of the same operation, whose stretch of time is the same or comes after.
    pub fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::Count(a), Self::Count(b)) => *a = a.saturating_add(*b),
            (Self::Sum(a), Self::Sum(b)) => *a = add(*a, *b),
            (Self::Mean(sum, count), Self::Mean(b_sum, b_count)) => {
                *sum = add(*sum, *b_sum);
                *count = count.saturating_add(*b_count);
            }
            (Self::Min(a), Self::Min(b)) => *a = a.min(*b),
            (Self::Max(a), Self::Max(b)) => *a = a.max(*b),
            (Self::Newest(a), Self::Newest(b)) => *a = (*a).max(*b),
            (Self::Last(a), Self::Last(b)) => {
                if b.0 > a.0 {
                    *a = b.clone();
                }
            }
            (Self::Distinct(a), Self::Distinct(b)) => {
                for hash in b {
                    insert_hash(a, *hash);
                }
            }
            (Self::Top(a), Self::Top(b)) => merge_top(a, b),
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
            Self::Newest(timestamp) => writer.signed(reference.wrapping_sub(*timestamp)),
            Self::Last(last) => {
                writer.signed(reference.wrapping_sub(last.0.timestamp));
                writer.unsigned(last.0.offset);
                encode_value(&last.1, writer);
            }
            Self::Distinct(hashes) => {
                writer.unsigned(hashes.len() as u64);
                hashes.iter().for_each(|hash| writer.fixed(*hash));
            }
            Self::Top(counts) => {
                writer.unsigned(counts.len() as u64);
                for (text, count) in counts {
                    writer.text(text);
                    writer.unsigned(*count);
                }
            }
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
            Operation::SinceLast => Self::Newest(reader.time(reference)?),
            Operation::Last(_) => {
                let timestamp = reader.time(reference)?;
                let place = Place {
                    timestamp,
                    offset: reader.unsigned()?,
                };
                Self::Last(Box::new((place, decode_value(reader)?)))
            }
            Operation::Distinct => {
                let hashes = (0..reader.count()?)
                    .map(|_| reader.fixed())
                    .collect::<Result<Vec<_>, _>>()?;
                if hashes.len() > DISTINCT_EXACT_BELOW || !hashes.is_sorted_by(|a, b| a < b) {
                    return Err(DecodeError("hashes are not in order"));
                }
                Self::Distinct(hashes)
            }
            Operation::Top { .. } => {
                let counts = (0..reader.count()?)
                    .map(|_| Ok((reader.text()?, reader.amount()?)))
                    .collect::<Result<Vec<_>, DecodeError>>()?;
                if counts.len() > TOP_PER_CELL_MAX || !counts.is_sorted_by(|a, b| a.0 < b.0) {
                    return Err(DecodeError("counted values are not in order"));
                }
                Self::Top(counts)
            }
            Operation::Decayed { .. } => return Err(DecodeError("a decaying number has no cells")),
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

fn insert_hash(hashes: &mut Vec<u64>, hash: u64) {
    if let Err(index) = hashes.binary_search(&hash)
        && index < DISTINCT_EXACT_BELOW
    {
        hashes.truncate(DISTINCT_EXACT_BELOW - 1);
        hashes.insert(index.min(hashes.len()), hash);
    }
}

fn add_top(counts: &mut Vec<(Arc<str>, u64)>, text: &Arc<str>) {
    match counts.binary_search_by(|(known, _)| known.as_ref().cmp(text)) {
        Ok(index) => counts[index].1 += 1,
        Err(index) if counts.len() < TOP_PER_CELL_MAX => counts.insert(index, (text.clone(), 1)),
        Err(_) => {
            // Of the rarest, the last in the order of values gives way.
            let rarest =
                (0..counts.len()).min_by_key(|&index| (counts[index].1, std::cmp::Reverse(index)));
            if let Some(rarest) = rarest {
                let (_, count) = counts.remove(rarest);
                let index = counts.partition_point(|(known, _)| known.as_ref() < text.as_ref());
                counts.insert(index, (text.clone(), count.saturating_add(1)));
            }
        }
    }
}

fn merge_top(counts: &mut Vec<(Arc<str>, u64)>, other: &[(Arc<str>, u64)]) {
    for (text, count) in other {
        match counts.binary_search_by(|(known, _)| known.cmp(text)) {
            Ok(index) => counts[index].1 = counts[index].1.saturating_add(*count),
            Err(index) => counts.insert(index, (text.clone(), *count)),
        }
    }
    if counts.len() > TOP_PER_CELL_MAX {
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        counts.truncate(TOP_PER_CELL_MAX);
        counts.sort_by(|a, b| a.0.cmp(&b.0));
    }
}

/// Reads the cells of a window, from the newest to the oldest; between two cells it can say what the window up to there says.
pub(super) struct Reading<'c> {
    operation: Operation,
    count: u64,
    amount: f64,
    newest: Option<i64>,
    last: Option<&'c (Place, Value)>,
    /// For `distinct` and `top`, which need all cells at once.
    cells: Vec<&'c Cell>,
}

impl<'c> Reading<'c> {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            count: 0,
            amount: 0.0,
            newest: None,
            last: None,
            cells: Vec::new(),
        }
    }

    /// Takes the next older cell.
    pub(super) fn add(&mut self, cell: &'c Cell) {
        match cell {
            Cell::Count(count) => self.count = self.count.saturating_add(*count),
            Cell::Sum(amount) => self.amount = add(self.amount, *amount),
            Cell::Mean(amount, count) => {
                self.amount = add(self.amount, *amount);
                self.count = self.count.saturating_add(*count);
            }
            Cell::Min(amount) if self.count == 0 || *amount < self.amount => {
                (self.amount, self.count) = (*amount, 1);
            }
            Cell::Max(amount) if self.count == 0 || *amount > self.amount => {
                (self.amount, self.count) = (*amount, 1);
            }
            Cell::Min(_) | Cell::Max(_) => {}
            Cell::Newest(newest) => self.newest = self.newest.max(Some(*newest)),
            Cell::Last(last) if self.last.is_none_or(|newest| last.0 > newest.0) => {
                self.last = Some(last.as_ref());
            }
            Cell::Last(_) => {}
            Cell::Distinct(_) | Cell::Top(_) => self.cells.push(cell),
        }
    }

    /// Appends what the window says at `moment`: one value, for `top` its `k`.
    pub(super) fn finish(&self, moment: i64, row: &mut Vec<FeatureValue>) {
        let known = |number: f64| (self.count > 0).then_some(number);
        let value = match self.operation {
            Operation::Top { k } => return read_top(k, self.cells.iter().copied(), row),
            Operation::Distinct => Some(read_distinct(self.cells.iter().copied())),
            Operation::Count => Some(self.count as f64),
            Operation::Sum => Some(self.amount),
            Operation::Mean => known(self.amount / self.count as f64),
            Operation::Min | Operation::Max => known(self.amount),
            Operation::SinceLast => self
                .newest
                .map(|newest| moment.saturating_sub(newest) as f64 / 1e6),
            Operation::Last(_) => {
                row.push(match self.last.map(|last| &last.1) {
                    Some(Value::Number(number)) => FeatureValue::number(*number),
                    Some(Value::Category(text)) => FeatureValue::Category(text.clone()),
                    Some(Value::Missing) | None => FeatureValue::Missing,
                });
                return;
            }
            Operation::Decayed { .. } => None,
        };
        row.push(value.map_or(FeatureValue::Missing, FeatureValue::number));
    }
}

fn read_distinct<'c>(cells: impl Iterator<Item = &'c Cell>) -> f64 {
    let mut hashes: Vec<u64> = Vec::new();
    // Full cells know nothing above their largest hash, so neither does the window.
    let mut threshold = None::<u64>;
    for cell in cells {
        if let Cell::Distinct(cell) = cell {
            if cell.len() == DISTINCT_EXACT_BELOW {
                threshold = threshold.into_iter().chain(cell.last().copied()).min();
            }
            hashes.extend_from_slice(cell);
        }
    }
    hashes.sort_unstable();
    hashes.dedup();
    match threshold {
        None => hashes.len() as f64,
        Some(threshold) => {
            let below = hashes.partition_point(|hash| *hash < threshold);
            (below as f64 / (threshold as f64 / 2f64.powi(64))).round()
        }
    }
}

fn read_top<'c>(k: usize, cells: impl Iterator<Item = &'c Cell>, row: &mut Vec<FeatureValue>) {
    let mut counts: Vec<(&Arc<str>, u64)> = Vec::new();
    for cell in cells {
        if let Cell::Top(cell) = cell {
            counts.extend(cell.iter().map(|(text, count)| (text, *count)));
        }
    }
    counts.sort_by(|a, b| a.0.cmp(b.0));
    counts.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(later.1);
        }
        same
    });
    counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
    let found = counts
        .into_iter()
        .map(|(text, _)| FeatureValue::Category(text.clone()));
    row.extend(
        found
            .chain(std::iter::repeat(FeatureValue::Missing))
            .take(k),
    );
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPERATIONS: [Operation; 9] = [
        Operation::Count,
        Operation::Sum,
        Operation::Mean,
        Operation::Min,
        Operation::Max,
        Operation::SinceLast,
        Operation::Distinct,
        Operation::Last(tidemill_core::FeatureType::Number),
        Operation::Top { k: 3 },
    ];

    fn cell(operation: Operation, numbers: &[u8]) -> Option<Cell> {
        let mut cell: Option<Cell> = None;
        for (offset, number) in numbers.iter().enumerate() {
            let place = Place {
                timestamp: i64::from(*number),
                offset: offset as u64,
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

    fn merged(a: &Option<Cell>, b: &Option<Cell>) -> Option<Cell> {
        match (a.clone(), b) {
            (Some(mut a), Some(b)) => {
                a.merge(b);
                Some(a)
            }
            (a, b) => a.or_else(|| b.clone()),
        }
    }

    proptest! {
        #[test]
        fn merging_is_associative_for_whole_numbers(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>) {
            for operation in OPERATIONS {
                let [a, b, c] = [&a, &b, &c].map(|numbers| cell(operation, numbers));
                let left = merged(&merged(&a, &b), &c);
                let right = merged(&a, &merged(&b, &c));
                prop_assert_eq!(left, right, "{:?}", operation);
            }
        }
    }

    #[test]
    fn distinct_is_exact_and_then_close() {
        let check = |values: u32, error_max: f64| {
            let mut cell = None::<Cell>;
            for number in (0..values).chain(0..values) {
                let value = Value::Category(format!("item-{number}").into());
                let place = Place {
                    timestamp: 0,
                    offset: 0,
                };
                match &mut cell {
                    Some(cell) => cell.add(Operation::Distinct, place, &value),
                    None => cell = Cell::of(Operation::Distinct, place, &value),
                }
            }
            let found = read_distinct(cell.iter());
            let error = (found - f64::from(values)).abs() / f64::from(values);
            assert!(error <= error_max, "{values}: {found}");
        };
        check(1, 0.0);
        check(127, 0.0);
        check(1_000, 0.25);
        check(100_000, 0.25);
    }

    #[test]
    fn frequent_values_survive_many_rare_ones() {
        let mut cell = Cell::Top(Vec::new());
        for number in 0..2_000 {
            let text = if number % 3 == 0 {
                "often".to_owned()
            } else {
                format!("rare-{number}")
            };
            cell.add(
                Operation::Top { k: 1 },
                Place {
                    timestamp: 0,
                    offset: 0,
                },
                &Value::Category(text.into()),
            );
        }
        let mut row = Vec::new();
        let mut reading = Reading::new(Operation::Top { k: 1 });
        reading.add(&cell);
        reading.finish(0, &mut row);
        assert_eq!(row, [FeatureValue::Category("often".into())]);
    }

    #[test]
    fn sums_stay_finite() {
        let mut cell = Cell::Sum(f64::MAX);
        cell.merge(&Cell::Sum(f64::MAX));
        cell.merge(&Cell::Sum(f64::MIN));
        assert_eq!(cell, Cell::Sum(0.0));
    }
}
