//! How a dataset came about: enough to judge it, and to build it again bit for bit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill_core::feature::ColumnValues;
use tidemill_core::project::{PredictModel, Target};
use tidemill_core::{FeatureColumn, FeatureTable, ModelName, Offset, Timestamp};
use tidemill_store::lake::EventsSnapshot;

use crate::FeatureSet;

/// Why an observation is not in the dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Drop {
    /// Its event is about nobody.
    NoPerson,
    /// Its event arrived more than a day after it happened.
    Late,
    /// It is before the history that the model learns from.
    BeforeStart,
    /// Its horizon has not passed.
    Censored,
}

/// How a dataset came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DatasetRecord {
    /// The model.
    pub model: ModelName,
    /// The hash of the feature definitions.
    pub definition_hash: String,
    /// The snapshot of the events, where the caller built it from one.
    #[serde(default)]
    pub events: Option<EventsSnapshot>,
    /// The last event that was read.
    pub last_offset: Offset,
    /// Up to when everything that happened was known.
    pub known_until: Timestamp,
    /// The earliest moment that was asked for.
    #[serde(default)]
    pub from: Option<Timestamp>,
    /// Observations before anything was dropped.
    pub observed: u64,
    /// How many were dropped, and why.
    pub dropped: BTreeMap<Drop, u64>,
    /// Rows.
    pub rows: u64,
    /// Conditions and expressions that failed on a row, which counts as not fulfilled or missing.
    pub expression_failures: u64,
    /// The columns of the features.
    pub features: Vec<FeatureColumn>,
    /// The classes of a next-action model, by the index that is their target.
    #[serde(default)]
    pub classes: Option<Vec<String>>,
    /// What the targets are like.
    pub target: TargetStatistics,
    /// What each feature is like.
    pub columns: Vec<ColumnStatistics>,
    /// Features that alone nearly decide the target.
    pub suspicious: Vec<SuspiciousFeature>,
}

/// What the targets are like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetStatistics {
    /// The mean: for yes/no questions the share of yes.
    pub mean: f64,
    /// The standard deviation.
    pub std: f64,
    /// The smallest; absent without rows.
    pub min: Option<f64>,
    /// The largest; absent without rows.
    pub max: Option<f64>,
    /// How many rows each class has.
    pub classes: BTreeMap<String, u64>,
}

/// What a feature is like.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// The feature.
    pub name: String,
    /// Rows without a value.
    pub missing: u64,
    /// The mean of a number; absent without values, like the others.
    pub mean: Option<f64>,
    /// The standard deviation of a number.
    pub std: Option<f64>,
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// How many different categories.
    pub distinct: Option<u64>,
    /// The most frequent categories, at most [`TOP_MAX`], and how many rows have them.
    pub top: Vec<(String, u64)>,
}

/// A feature that alone nearly decides the target: probably it knows what it should not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspiciousFeature {
    /// The feature.
    pub name: String,
    /// How it was measured: `auc` or `correlation`.
    pub measure: String,
    /// Between [`SUSPICIOUS_FROM`] and 1.
    pub value: f64,
    /// The class that it decides, for a next-action model.
    #[serde(default)]
    pub class: Option<String>,
}

/// The most frequent categories that are recorded.
pub const TOP_MAX: usize = 20;
/// From this AUC or absolute correlation on, a feature is suspicious.
pub const SUSPICIOUS_FROM: f64 = 0.98;
/// The rows of each class, and the rows with a value, that it takes to suspect a feature.
const SUSPICIOUS_ROWS_MIN: usize = 20;
/// The rows on which features are suspected: evenly spread where there are more.
const SUSPICIOUS_ROWS_MAX: usize = 20_000;

/// What is known about a dataset beside its rows.
pub(super) struct Asked<'a> {
    pub(super) set: &'a FeatureSet,
    pub(super) model: &'a PredictModel,
    pub(super) classes: Option<&'a [String]>,
    pub(super) from: Option<Timestamp>,
    pub(super) known_until: Timestamp,
    pub(super) last_offset: Offset,
    pub(super) observed: u64,
    pub(super) dropped: &'a BTreeMap<Drop, u64>,
    pub(super) expression_failures: u64,
}

pub(super) fn record(asked: &Asked<'_>, features: &FeatureTable, targets: &[f64]) -> DatasetRecord {
    let classes = asked.classes;
    let columns: Vec<usize> = (0..features.columns().len()).collect();
    let statistics = columns
        .par_iter()
        .map(|&column| statistics(features, column))
        .collect();
    let is_sum = matches!(asked.model.target, Target::Sum { .. });
    let suspect = |&column: &usize| suspect(features, column, targets, classes, is_sum);
    let suspicious = columns.par_iter().filter_map(suspect).collect();
    DatasetRecord {
        model: asked.model.name.clone(),
        definition_hash: asked.set.hash().to_owned(),
        events: None,
        last_offset: asked.last_offset,
        known_until: asked.known_until,
        from: asked.from,
        observed: asked.observed,
        dropped: asked.dropped.clone(),
        rows: targets.len() as u64,
        expression_failures: asked.expression_failures,
        features: features.columns().to_vec(),
        target: target_statistics(targets, classes),
        classes: classes.map(<[String]>::to_vec),
        columns: statistics,
        suspicious,
    }
}

/// Mean, standard deviation, smallest and largest of numbers; `None` without any.
fn moments(numbers: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64, f64, f64)> {
    let (count, sum) = numbers.clone().fold((0u64, 0.0), |(count, sum), number| {
        (count + 1, sum + number)
    });
    if count == 0 {
        return None;
    }
    let mean = sum / count as f64;
    let (squares, min, max) = numbers.fold(
        (0.0, f64::INFINITY, f64::NEG_INFINITY),
        |(squares, min, max), number| {
            (
                squares + (number - mean).powi(2),
                number.min(min),
                number.max(max),
            )
        },
    );
    Some((mean, (squares / count as f64).sqrt(), min, max))
}

fn target_statistics(targets: &[f64], classes: Option<&[String]>) -> TargetStatistics {
    let Some((mean, std, min, max)) = moments(targets.iter().copied()) else {
        return TargetStatistics::default();
    };
    let mut counts = BTreeMap::new();
    for (index, class) in classes.into_iter().flatten().enumerate() {
        let count = targets
            .iter()
            .filter(|&&target| target == index as f64)
            .count();
        counts.insert(class.clone(), count as u64);
    }
    TargetStatistics {
        mean,
        std,
        min: Some(min),
        max: Some(max),
        classes: counts,
    }
}

fn statistics(features: &FeatureTable, column: usize) -> ColumnStatistics {
    let mut statistics = ColumnStatistics {
        name: features.columns()[column].name.clone(),
        missing: 0,
        mean: None,
        std: None,
        min: None,
        max: None,
        distinct: None,
        top: Vec::new(),
    };
    match features.values(column) {
        ColumnValues::Number(numbers) => {
            let present = numbers.iter().copied().filter(|number| !number.is_nan());
            statistics.missing = (numbers.len() - present.clone().count()) as u64;
            if let Some((mean, std, min, max)) = moments(present) {
                (statistics.mean, statistics.std) = (Some(mean), Some(std));
                (statistics.min, statistics.max) = (Some(min), Some(max));
            }
        }
        ColumnValues::Category(texts) => {
            let mut counts: HashMap<&Arc<str>, u64> = HashMap::new();
            for text in texts.iter().flatten() {
                *counts.entry(text).or_insert(0) += 1;
            }
            statistics.missing = texts.iter().filter(|text| text.is_none()).count() as u64;
            statistics.distinct = Some(counts.len() as u64);
            let mut top: Vec<(String, u64)> = counts
                .into_iter()
                .map(|(text, count)| (text.to_string(), count))
                .collect();
            top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            top.truncate(TOP_MAX);
            statistics.top = top;
        }
    }
    statistics
}

/// A feature as numbers: categories by the mean of the target, where there are few.
fn as_numbers(values: &ColumnValues, rows: &[usize], targets: &[f64]) -> Option<Vec<(f64, f64)>> {
    match values {
        ColumnValues::Number(numbers) => {
            let pairs = rows.iter().map(|&row| (numbers[row], targets[row]));
            Some(pairs.filter(|(number, _)| !number.is_nan()).collect())
        }
        ColumnValues::Category(texts) => {
            let mut means: HashMap<&str, (f64, f64)> = HashMap::new();
            for &row in rows {
                if let Some(text) = &texts[row] {
                    let mean = means.entry(text).or_insert((0.0, 0.0));
                    *mean = (mean.0 + targets[row], mean.1 + 1.0);
                }
            }
            // With many categories, each with a few rows, the means would just repeat the targets.
            if means.len() * SUSPICIOUS_ROWS_MIN > rows.len() {
                return None;
            }
            let mean = |text: &Arc<str>| {
                means
                    .get(&**text)
                    .map_or(f64::NAN, |(sum, count)| sum / count)
            };
            Some(
                rows.iter()
                    .filter_map(|&row| Some((mean(texts[row].as_ref()?), targets[row])))
                    .collect(),
            )
        }
    }
}

fn suspect(
    features: &FeatureTable,
    column: usize,
    targets: &[f64],
    classes: Option<&[String]>,
    is_sum: bool,
) -> Option<SuspiciousFeature> {
    let step = targets.len().div_ceil(SUSPICIOUS_ROWS_MAX).max(1);
    let rows: Vec<usize> = (0..targets.len()).step_by(step).collect();
    let name = features.columns()[column].name.clone();
    let found = |measure: &str, value: f64, class: Option<String>| {
        let measure = measure.to_owned();
        (value >= SUSPICIOUS_FROM).then(|| SuspiciousFeature {
            name: name.clone(),
            measure,
            value,
            class,
        })
    };
    if is_sum {
        let pairs = as_numbers(features.values(column), &rows, targets)?;
        return found("correlation", correlation(&pairs)?.abs(), None);
    }
    let questions: Vec<(f64, Option<String>)> = match classes {
        None => vec![(1.0, None)],
        Some(classes) => classes
            .iter()
            .enumerate()
            .map(|(index, class)| (index as f64, Some(class.clone())))
            .collect(),
    };
    questions.into_iter().find_map(|(class, label)| {
        let is_class: Vec<f64> = targets
            .iter()
            .map(|&target| f64::from(u8::from(target == class)))
            .collect();
        let auc = auc(as_numbers(features.values(column), &rows, &is_class)?)?;
        found("auc", auc.max(1.0 - auc), label)
    })
}

/// Pearson's correlation of pairs; `None` where there are too few or one side does not vary.
fn correlation(pairs: &[(f64, f64)]) -> Option<f64> {
    if pairs.len() < SUSPICIOUS_ROWS_MIN {
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
    if positives < SUSPICIOUS_ROWS_MIN || negatives < SUSPICIOUS_ROWS_MIN {
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
