//! What windows say: the cells of a window, read from the newest to the oldest.

use tidemill_core::FeatureValue;
use tidemill_core::project::Operation;

use super::cell::{Cell, Place, add, larger, smaller};
use super::distinct::Union;
use super::quantile::Pool;
use super::spread::Spread;
use super::top::Top;
use crate::value::Value;

/// Reads the cells of a window, from the newest to the oldest; between two cells it can say what the window up to there says.
pub(super) struct Reading<'c> {
    operation: Operation,
    so_far: SoFar<'c>,
}

/// What the cells say so far.
enum SoFar<'c> {
    Nothing,
    Count(u64),
    Sum(f64),
    Mean(f64, u64),
    Spread(Spread),
    Number(f64),
    Time(i64),
    First(&'c (Place, Value)),
    Latest(&'c [(Place, Value)]),
    Quantile(Pool),
    Distinct(Union),
    Top(Vec<&'c Top>),
}

impl<'c> Reading<'c> {
    pub(super) fn new(operation: Operation) -> Self {
        Self {
            operation,
            so_far: SoFar::Nothing,
        }
    }

    /// Takes the next older cell.
    pub(super) fn add(&mut self, cell: &'c Cell) {
        match (&mut self.so_far, cell) {
            (SoFar::Count(count), Cell::Count(more)) => *count = count.saturating_add(*more),
            (SoFar::Sum(sum), Cell::Sum(more)) => *sum = add(*sum, *more),
            (SoFar::Mean(sum, count), Cell::Mean(more, of)) => {
                *sum = add(*sum, *more);
                *count = count.saturating_add(*of);
            }
            (SoFar::Spread(spread), Cell::Spread(more)) => spread.merge(more),
            (SoFar::Number(smallest), Cell::Min(number)) => *smallest = smaller(*smallest, *number),
            (SoFar::Number(largest), Cell::Max(number)) => *largest = larger(*largest, *number),
            (SoFar::Time(oldest), Cell::Oldest(time)) => *oldest = (*oldest).min(*time),
            (SoFar::First(first), Cell::First(other)) => {
                if other.0 < first.0 {
                    *first = other;
                }
            }
            (SoFar::Quantile(pool), Cell::Quantile(sketch)) => pool.add(sketch),
            (SoFar::Distinct(union), Cell::Distinct(distinct)) => union.add(distinct),
            (SoFar::Top(cells), Cell::Top(top)) => cells.push(top),
            (so_far @ SoFar::Nothing, cell) => *so_far = SoFar::of(cell),
            _ => debug_assert!(false, "cells of one window have one operation"),
        }
    }

    /// Takes the only cell of an operation that looks at the newest events; of it only what is not older than `start`.
    pub(super) fn add_since(&mut self, cell: &'c Cell, start: i64) {
        match cell {
            Cell::Latest(latest) => self.so_far = SoFar::Latest(latest.since(start)),
            Cell::Newest(time) if *time < start => {}
            cell => self.add(cell),
        }
    }

    /// Appends what the window says at `moment`: one value, for `top` and `recent` their `k`.
    pub(super) fn finish(&self, moment: i64, row: &mut Vec<FeatureValue>) {
        let number = match (self.operation, &self.so_far) {
            (Operation::Top { k }, SoFar::Top(cells)) => return Top::read(cells, k, row),
            (operation, SoFar::Latest(values)) => {
                let values = values.iter().map(|(_, value)| feature(value));
                let missing = std::iter::repeat(FeatureValue::Missing);
                return row.extend(values.chain(missing).take(operation.width()));
            }
            (_, SoFar::First(first)) => return row.push(feature(&first.1)),
            (Operation::Count | Operation::Sum | Operation::Distinct, SoFar::Nothing) => Some(0.0),
            (Operation::Quantile { q }, SoFar::Quantile(pool)) => pool.quantile(q),
            (_, SoFar::Count(count)) => Some(*count as f64),
            (_, SoFar::Sum(number) | SoFar::Number(number)) => Some(*number),
            (_, SoFar::Mean(sum, count)) => Some(sum / *count as f64),
            (_, SoFar::Spread(spread)) => spread.stddev(),
            (_, SoFar::Time(time)) => Some(moment.saturating_sub(*time) as f64 / 1e6),
            (_, SoFar::Distinct(union)) => Some(union.count()),
            (operation, _) => {
                let missing = std::iter::repeat_n(FeatureValue::Missing, operation.width());
                return row.extend(missing);
            }
        };
        row.push(number.map_or(FeatureValue::Missing, FeatureValue::number));
    }
}

impl<'c> SoFar<'c> {
    fn of(cell: &'c Cell) -> Self {
        match cell {
            Cell::Count(count) => Self::Count(*count),
            Cell::Sum(sum) => Self::Sum(*sum),
            Cell::Mean(sum, count) => Self::Mean(*sum, *count),
            Cell::Spread(spread) => Self::Spread(*spread),
            Cell::Min(number) | Cell::Max(number) => Self::Number(*number),
            Cell::Oldest(time) | Cell::Newest(time) => Self::Time(*time),
            Cell::First(first) => Self::First(first),
            Cell::Latest(latest) => Self::Latest(latest.since(i64::MIN)),
            Cell::Quantile(sketch) => {
                let mut pool = Pool::default();
                pool.add(sketch);
                Self::Quantile(pool)
            }
            Cell::Distinct(distinct) => {
                let mut union = Union::default();
                union.add(distinct);
                Self::Distinct(union)
            }
            Cell::Top(top) => Self::Top(vec![top]),
        }
    }
}

pub(super) fn feature(value: &Value) -> FeatureValue {
    match value {
        Value::Number(number) => FeatureValue::number(*number),
        Value::Category(text) => FeatureValue::Category(text.clone()),
        Value::Missing => FeatureValue::Missing,
    }
}
