//! How well each feature alone tells the target. One that nearly decides it probably knows what it should not.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{ColumnValues, TOO_TELLING_FROM};
use tidemill_core::project::Target;

use super::statistics::{ColumnStatistics, moments};

/// The rows of each class, and the rows with a value, that it takes to say anything.
const ROWS_MIN: usize = 20;
/// The rows that are looked at: evenly spread where there are more.
const ROWS_MAX: usize = 20_000;

/// How well a feature alone tells the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Alone {
    /// How it was measured: `auc` (0.5 to 1, whichever way it points) or `correlation` (0 to 1).
    pub measure: String,
    /// How well.
    pub value: f64,
    /// The class that it tells best, for a next-action model.
    #[serde(default)]
    pub class: Option<String>,
}

/// A feature that alone nearly decides the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspiciousFeature {
    /// The feature.
    pub name: String,
    /// How it was measured: `auc` or `correlation`.
    pub measure: String,
    /// Between [`TOO_TELLING_FROM`] and 1.
    pub value: f64,
    /// The class that it decides, for a next-action model.
    #[serde(default)]
    pub class: Option<String>,
}

impl SuspiciousFeature {
    /// The suspicion against a feature, where there is one.
    pub(super) fn of(column: &ColumnStatistics) -> Option<Self> {
        let alone = column.alone.clone()?;
        (alone.value >= TOO_TELLING_FROM).then(|| Self {
            name: column.name.clone(),
            measure: alone.measure,
            value: alone.value,
            class: alone.class,
        })
    }
}

/// What there is to tell, on the rows that are looked at.
pub(super) struct Telling {
    rows: Vec<usize>,
    /// An amount, or for each class whether it is that one: 1 or 0.
    questions: Vec<(Option<String>, Vec<f64>)>,
    is_amount: bool,
}

impl Telling {
    pub(super) fn new(target: &Target, classes: Option<&[String]>, targets: &[f64]) -> Self {
        let step = targets.len().div_ceil(ROWS_MAX).max(1);
        let rows: Vec<usize> = (0..targets.len()).step_by(step).collect();
        let is = |class: f64| {
            let is = |&row: &usize| f64::from(u8::from(targets[row] == class));
            rows.iter().map(is).collect::<Vec<f64>>()
        };
        let is_amount = matches!(target, Target::Sum { .. });
        let questions = match classes {
            Some(classes) => classes
                .iter()
                .enumerate()
                .map(|(index, class)| (Some(class.clone()), is(index as f64)))
                .collect(),
            None if is_amount => vec![(None, rows.iter().map(|&row| targets[row]).collect())],
            None => vec![(None, is(1.0))],
        };
        Self {
            rows,
            questions,
            is_amount,
        }
    }

    /// How well a feature alone answers the question that it answers best.
    pub(super) fn alone(&self, values: &ColumnValues) -> Option<Alone> {
        let answers = self.questions.iter().filter_map(|(class, answers)| {
            let pairs = self.pairs(values, answers)?;
            let value = if self.is_amount {
                correlation(&pairs)?.abs()
            } else {
                let auc = auc(pairs)?;
                auc.max(1.0 - auc)
            };
            Some((value, class))
        });
        let (value, class) = answers.max_by(|a, b| a.0.total_cmp(&b.0))?;
        let measure = if self.is_amount { "correlation" } else { "auc" };
        Some(Alone {
            measure: measure.to_owned(),
            value,
            class: class.clone(),
        })
    }

    /// A feature as numbers, beside the answers: categories by the mean of the answers, where there are few.
    fn pairs(&self, values: &ColumnValues, answers: &[f64]) -> Option<Vec<(f64, f64)>> {
        let rows = || self.rows.iter().copied().zip(answers.iter().copied());
        match values {
            ColumnValues::Number(numbers) => {
                let pairs = rows().map(|(row, answer)| (numbers[row], answer));
                Some(pairs.filter(|(number, _)| !number.is_nan()).collect())
            }
            ColumnValues::Category(texts) => {
                let mut means: HashMap<&str, (f64, f64)> = HashMap::new();
                for (row, answer) in rows() {
                    if let Some(text) = &texts[row] {
                        let mean = means.entry(text).or_insert((0.0, 0.0));
                        *mean = (mean.0 + answer, mean.1 + 1.0);
                    }
                }
                // With many categories, each with a few rows, the means would just repeat the answers.
                if means.len() * ROWS_MIN > self.rows.len() {
                    return None;
                }
                let mean = |text: &Arc<str>| {
                    let mean = means.get(&**text);
                    mean.map_or(f64::NAN, |(sum, count)| sum / count)
                };
                let pairs =
                    rows().filter_map(|(row, answer)| Some((mean(texts[row].as_ref()?), answer)));
                Some(pairs.collect())
            }
        }
    }
}

/// Pearson's correlation of pairs; `None` where there are too few or one side does not vary.
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < ROWS_MIN {
        return None;
    }
    let (a_mean, a_std, ..) = moments(pairs.iter().map(|pair| pair.0))?;
    let (b_mean, b_std, ..) = moments(pairs.iter().map(|pair| pair.1))?;
    let covariance = pairs
        .iter()
        .map(|(a, b)| (a - a_mean) * (b - b_mean))
        .sum::<f64>()
        / pairs.len() as f64;
    let correlation = covariance / (a_std * b_std);
    correlation.is_finite().then_some(correlation)
}

/// The area under the ROC curve of (value, 0 or 1): the share of pairs in which the 1 has the larger value, ties counting half
/// (Mann and Whitney 1947).
fn auc(mut pairs: Vec<(f64, f64)>) -> Option<f64> {
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let positives = pairs.iter().filter(|pair| pair.1 > 0.5).count();
    let negatives = pairs.len() - positives;
    if positives < ROWS_MIN || negatives < ROWS_MIN {
        return None;
    }
    let (mut below, mut wins) = (0.0, 0.0);
    for ties in pairs.chunk_by(|a, b| a.0 == b.0) {
        let ones = ties.iter().filter(|pair| pair.1 > 0.5).count() as f64;
        let zeros = ties.len() as f64 - ones;
        wins += ones * (below + zeros / 2.0);
        below += zeros;
    }
    Some(wins / (positives as f64 * negatives as f64))
}

#[cfg(test)]
mod tests {
    use tidemill_core::Span;

    use super::*;

    fn event() -> Target {
        Target::Event {
            event: "A".to_owned(),
            within: Span::from_days(1),
        }
    }

    #[test]
    fn what_decides_the_target_stands_out() {
        let targets: Vec<f64> = (0..200).map(|row| f64::from(row % 2)).collect();
        let telling = Telling::new(&event(), None, &targets);
        let alone = |value: fn(usize) -> f64| {
            let values = ColumnValues::Number((0..200).map(value).collect());
            telling.alone(&values).map(|alone| alone.value)
        };
        assert_eq!(alone(|row| -((row % 2) as f64)), Some(1.0)); // it may point the other way
        assert_eq!(alone(|_| 7.0), Some(0.5));
        assert_eq!(alone(|_| f64::NAN), None);
        let country = |row: usize| Some(Arc::from(["DE", "FR"][row % 2]));
        let countries = ColumnValues::Category((0..200).map(country).collect());
        let statistics = ColumnStatistics {
            name: "user.country".to_owned(),
            alone: telling.alone(&countries),
            ..ColumnStatistics::default()
        };
        let suspicious = SuspiciousFeature::of(&statistics).unwrap();
        assert_eq!(
            (suspicious.measure.as_str(), suspicious.value),
            ("auc", 1.0)
        );
        let ids = |row: usize| Some(Arc::from(row.to_string()));
        assert_eq!(
            telling.alone(&ColumnValues::Category((0..200).map(ids).collect())),
            None
        );
    }

    #[test]
    fn of_several_classes_the_one_that_is_told_best_counts() {
        let classes = ["a", "b", "none"].map(str::to_owned);
        let targets: Vec<f64> = (0..300).map(|row| f64::from(row % 3)).collect();
        let telling = Telling::new(&event(), Some(&classes), &targets);
        let is_b = (0..300).map(|row| f64::from(u8::from(row % 3 == 1)));
        let alone = telling
            .alone(&ColumnValues::Number(is_b.collect()))
            .unwrap();
        assert_eq!((alone.value, alone.class.as_deref()), (1.0, Some("b")));
    }

    #[test]
    fn amounts_are_told_by_correlation() {
        let target = Target::Sum {
            event: "A".to_owned(),
            value: "properties.total".parse().unwrap(),
            within: Span::from_days(1),
        };
        let targets: Vec<f64> = (0..100).map(f64::from).collect();
        let telling = Telling::new(&target, None, &targets);
        let twice = ColumnValues::Number(targets.iter().map(|target| 2.0 * target).collect());
        let alone = telling.alone(&twice).unwrap();
        assert_eq!(alone.measure, "correlation");
        assert!((alone.value - 1.0).abs() < 1e-9, "{alone:?}");
    }
}
