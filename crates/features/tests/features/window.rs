//! Every operation by its definition: what a window says, computed from all the events in it.

use std::collections::BTreeMap;

use tidemill_core::FeatureValue;
use tidemill_core::project::{Aggregate, Operation};
use tidemill_features::value::{self, Value};
use tidemill_store::LoggedEvent;

/// What an aggregate reads of the events in a window, in the order of time.
pub(crate) struct Window {
    /// With offsets, which decide between equal timestamps.
    times: Vec<(i64, u64)>,
    pub(crate) values: Vec<Value>,
    moment: i64,
}

impl Window {
    pub(crate) fn new(
        aggregate: &Aggregate,
        events: &[&LoggedEvent],
        start: i64,
        moment: i64,
    ) -> Self {
        let number = |logged: &LoggedEvent| {
            logged
                .event
                .properties
                .get("seconds")
                .and_then(value::number)
        };
        let mut chosen: Vec<&&LoggedEvent> = events
            .iter()
            .filter(|logged| {
                let happened = logged.event.timestamp.micros();
                let named =
                    aggregate.events.is_empty() || aggregate.events.contains(&logged.event.name);
                let fulfilled = aggregate.condition.is_none() || number(logged) > Some(3.0);
                (start..=moment).contains(&happened)
                    && named
                    && fulfilled
                    && !logged.event.name.starts_with('$')
            })
            .collect();
        chosen.sort_by_key(|logged| (logged.event.timestamp, logged.offset));
        let value = |logged: &&&LoggedEvent| match &aggregate.value {
            None => Value::Number(1.0),
            Some(field) => logged.event.field(field).map_or(Value::Missing, |json| {
                Value::read(&json, aggregate.operation.value_type())
            }),
        };
        let (values, times): (Vec<_>, Vec<_>) = chosen
            .iter()
            .map(|logged| {
                (
                    value(logged),
                    (logged.event.timestamp.micros(), logged.offset.0),
                )
            })
            .filter(|(value, _)| *value != Value::Missing)
            .unzip();
        Self {
            times,
            values,
            moment,
        }
    }

    fn numbers(&self) -> Vec<f64> {
        let number = |value: &Value| match value {
            Value::Number(number) => *number,
            other => panic!("{other:?} is not a number"),
        };
        self.values.iter().map(number).collect()
    }

    /// How often each value comes.
    pub(crate) fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for value in &self.values {
            *counts.entry(format!("{value:?}")).or_default() += 1;
        }
        counts
    }

    /// What the operation is defined to be, and how far from it rounding or a sketch may be.
    pub(crate) fn expected(&self, operation: Operation) -> (Vec<FeatureValue>, f64) {
        let number =
            |number: Option<f64>| vec![number.map_or(FeatureValue::Missing, FeatureValue::Number)];
        let ago = |time: Option<&(i64, u64)>| {
            number(time.map(|(time, _)| (self.moment - time) as f64 / 1e6))
        };
        let count = self.values.len();
        match operation {
            Operation::Count => (number(Some(count as f64)), 0.0),
            Operation::SinceFirst => (ago(self.times.first()), 0.0),
            Operation::SinceLast => (ago(self.times.last()), 0.0),
            Operation::Distinct => (number(Some(self.counts().len() as f64)), 0.0),
            Operation::First(_) => (self.several(1, false), 0.0),
            Operation::Last(_) => (self.several(1, true), 0.0),
            Operation::Recent { k, .. } => (self.several(k, true), 0.0),
            Operation::Top { k } => (self.top(k), 0.0),
            Operation::Quantile { q } => self.quantile(q),
            Operation::Attribute(_) => panic!("attributes have no windows"),
            Operation::Decayed { half_life } => {
                let weight = |(time, _): &(i64, u64)| {
                    (-((self.moment - time) as f64) / half_life.micros() as f64).exp2()
                };
                let weighted = self.numbers().into_iter().zip(&self.times);
                let sum = weighted.map(|(number, time)| number * weight(time)).sum();
                (number(Some(sum)), self.rounding())
            }
            Operation::Sum
            | Operation::Mean
            | Operation::Stddev
            | Operation::Min
            | Operation::Max => {
                let numbers = self.numbers();
                let sum: f64 = numbers.iter().sum();
                let mean = sum / count as f64;
                let squares: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
                let known = |least: usize, value: f64| number((count >= least).then_some(value));
                match operation {
                    Operation::Sum => (known(0, sum), self.rounding()),
                    Operation::Mean => (known(1, mean), self.rounding()),
                    Operation::Stddev => (
                        known(2, (squares / (count as f64 - 1.0)).sqrt()),
                        self.rounding(),
                    ),
                    Operation::Min => (number(numbers.into_iter().reduce(f64::min)), 0.0),
                    _ => (number(numbers.into_iter().reduce(f64::max)), 0.0),
                }
            }
        }
    }

    /// What adding in another order may change.
    fn rounding(&self) -> f64 {
        1e-12 * self.numbers().into_iter().map(f64::abs).sum::<f64>()
    }

    fn several(&self, k: usize, newest_first: bool) -> Vec<FeatureValue> {
        let mut values: Vec<FeatureValue> = self
            .values
            .iter()
            .map(|value| match value {
                Value::Number(number) => FeatureValue::Number(*number),
                Value::Category(text) => FeatureValue::Category(text.clone()),
                Value::Missing => FeatureValue::Missing,
            })
            .collect();
        if newest_first {
            values.reverse();
        }
        values.resize(values.len().max(k), FeatureValue::Missing);
        values.truncate(k);
        values
    }

    fn top(&self, k: usize) -> Vec<FeatureValue> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for value in &self.values {
            if let Value::Category(text) = value {
                *counts.entry(text).or_default() -= 1;
            }
        }
        let mut ranked: Vec<(i64, &str)> = counts
            .into_iter()
            .map(|(text, count)| (count, text))
            .collect();
        ranked.sort_unstable();
        let texts = ranked
            .iter()
            .map(|(_, text)| FeatureValue::Category((*text).into()));
        let missing = std::iter::repeat(FeatureValue::Missing);
        texts.chain(missing).take(k).collect()
    }

    pub(crate) fn quantile(&self, q: f64) -> (Vec<FeatureValue>, f64) {
        let mut numbers = self.numbers();
        numbers.sort_by(f64::total_cmp);
        let Some(last) = numbers.len().checked_sub(1) else {
            return (vec![FeatureValue::Missing], 0.0);
        };
        let rank = last as f64 * q;
        let (low, high) = (
            numbers[rank.floor() as usize],
            numbers[rank.ceil() as usize],
        );
        let between = low + (high - low) * rank.fract();
        // Exact while there are fewer than 16 numbers; the bins of so few are as narrow as can be.
        let off = if numbers.len() < 16 {
            self.rounding()
        } else {
            0.0078 * low.abs().max(high.abs())
        };
        (vec![FeatureValue::Number(between)], off)
    }
}
