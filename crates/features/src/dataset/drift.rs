//! What differs between two datasets of a model.

use std::collections::HashMap;

use datafusion::arrow::array::UInt32Array;
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::DataFusionError;
use serde::Serialize;
use tidemill_core::Timestamp;
use tidemill_core::feature::ColumnValues;

use super::{Dataset, DatasetRecord};
use crate::FeatureError;

/// The rows of each dataset that are compared: evenly spread where there are more.
pub const DRIFT_ROWS_MAX: u64 = 50_000;
/// Into how many parts numbers are cut, each holding as much of the first dataset.
const PARTS: usize = 10;
/// The most categories that are told apart; the others are one.
const CATEGORIES_MAX: usize = 20;

/// The same of both datasets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair<T> {
    /// Of the first.
    pub a: T,
    /// Of the second.
    pub b: T,
}

/// What differs between two datasets.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DatasetDiff {
    /// Rows.
    pub rows: Pair<u64>,
    /// Up to when everything was known.
    pub known_until: Pair<Timestamp>,
    /// The hashes of the definitions of features.
    pub definition_hash: Pair<String>,
    /// The mean of the target: for yes/no questions the share of yes.
    pub target_mean: Pair<f64>,
    /// How far the target has moved.
    pub target: FeatureDrift,
    /// Features that only the second has.
    pub added: Vec<String>,
    /// Features that only the first has.
    pub removed: Vec<String>,
    /// How far each feature of both has moved, the farthest first.
    pub features: Vec<FeatureDrift>,
}

/// How far a feature has moved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FeatureDrift {
    /// The feature.
    pub name: String,
    /// The population stability index: the sum of (b − a) · ln(b / a) over the parts that the first dataset is cut into,
    /// what is missing being one more (Siddiqi, *Credit Risk Scorecards*, 2006). Below 0.1 little has moved, above
    /// 0.25 much.
    pub psi: f64,
    /// The largest distance between the shares below a number (Kolmogorov and Smirnov), 0 to 1; absent for categories
    /// and where one side has no number.
    pub ks: Option<f64>,
    /// The share of rows without a value.
    pub missing: Pair<f64>,
    /// The mean of the numbers.
    pub mean: Pair<Option<f64>>,
}

/// Takes the rows of a dataset that are compared, batch by batch.
pub struct DriftRows {
    record: DatasetRecord,
    every: u64,
    seen: u64,
    batches: Vec<RecordBatch>,
}

impl DriftRows {
    /// Of the dataset with this record.
    pub fn new(record: DatasetRecord) -> Self {
        Self {
            every: record.rows.div_ceil(DRIFT_ROWS_MAX).max(1),
            record,
            seen: 0,
            batches: Vec::new(),
        }
    }

    /// Takes the next rows.
    ///
    /// # Errors
    /// Never for batches of a dataset.
    pub fn push(&mut self, rows: &RecordBatch) -> Result<(), FeatureError> {
        let wanted = (0..rows.num_rows() as u64)
            .filter(|row| (self.seen + row).is_multiple_of(self.every))
            .map(|row| u32::try_from(row).unwrap_or(u32::MAX));
        let wanted = UInt32Array::from_iter_values(wanted);
        let taken = take_record_batch(rows, &wanted).map_err(DataFusionError::from)?;
        self.seen += rows.num_rows() as u64;
        self.batches.push(taken);
        Ok(())
    }

    /// What differs from these rows to those of another dataset.
    ///
    /// # Errors
    /// When the rows are not those that the records speak of.
    pub fn diff(self, other: Self) -> Result<DatasetDiff, FeatureError> {
        let (a, b) = (self.finish()?, other.finish()?);
        Ok(diff(&a, &b))
    }

    /// A dataset of the rows taken, with the record of all.
    fn finish(self) -> Result<(Dataset, DatasetRecord), FeatureError> {
        if self.seen != self.record.rows {
            let message = format!("{} rows, the record says {}", self.seen, self.record.rows);
            return Err(FeatureError::DatasetTable(message));
        }
        let taken = self
            .batches
            .iter()
            .map(RecordBatch::num_rows)
            .sum::<usize>();
        let record = DatasetRecord {
            rows: taken as u64,
            ..self.record.clone()
        };
        Ok((Dataset::from_batches(&self.batches, record)?, self.record))
    }
}

fn diff(a: &(Dataset, DatasetRecord), b: &(Dataset, DatasetRecord)) -> DatasetDiff {
    let places = |dataset: &Dataset| {
        let columns = dataset.features.columns().iter().enumerate();
        columns
            .map(|(place, column)| (column.name.clone(), place))
            .collect::<HashMap<String, usize>>()
    };
    let (in_a, in_b) = (places(&a.0), places(&b.0));
    let only = |columns: &Dataset, other: &HashMap<String, usize>| {
        let names = columns.features.columns().iter().map(|column| &column.name);
        names
            .filter(|name| !other.contains_key(*name))
            .cloned()
            .collect::<Vec<_>>()
    };
    let mut features: Vec<FeatureDrift> =
        a.0.features
            .columns()
            .iter()
            .filter_map(|column| {
                let (a_place, b_place) = (in_a.get(&column.name)?, in_b.get(&column.name)?);
                let values = (a.0.features.values(*a_place), b.0.features.values(*b_place));
                Some(drift(&column.name, values.0, values.1))
            })
            .collect();
    features.sort_by(|a, b| b.psi.total_cmp(&a.psi).then_with(|| a.name.cmp(&b.name)));
    let targets = |dataset: &Dataset| ColumnValues::Number(dataset.targets.clone());
    let of = |record: &DatasetRecord| record.target.weighted_mean.unwrap_or(record.target.mean);
    DatasetDiff {
        rows: Pair {
            a: a.1.rows,
            b: b.1.rows,
        },
        known_until: Pair {
            a: a.1.known_until,
            b: b.1.known_until,
        },
        definition_hash: Pair {
            a: a.1.definition_hash.clone(),
            b: b.1.definition_hash.clone(),
        },
        target_mean: Pair {
            a: of(&a.1),
            b: of(&b.1),
        },
        target: drift("target", &targets(&a.0), &targets(&b.0)),
        added: only(&b.0, &in_a),
        removed: only(&a.0, &in_b),
        features,
    }
}

fn drift(name: &str, a: &ColumnValues, b: &ColumnValues) -> FeatureDrift {
    let (psi, ks, mean) = match (a, b) {
        (ColumnValues::Number(a), ColumnValues::Number(b)) => {
            let (sorted_a, sorted_b) = (sorted(a), sorted(b));
            let edges = edges(&sorted_a);
            let counts = |sorted: &[f64], all: usize| {
                let mut counts = number_counts(sorted, &edges);
                counts.push(all - sorted.len());
                counts
            };
            let psi = psi(&counts(&sorted_a, a.len()), &counts(&sorted_b, b.len()));
            let mean = |sorted: &[f64]| {
                let sum: f64 = sorted.iter().sum();
                (!sorted.is_empty()).then(|| sum / sorted.len() as f64)
            };
            let mean = Pair {
                a: mean(&sorted_a),
                b: mean(&sorted_b),
            };
            (psi, ks(&sorted_a, &sorted_b), mean)
        }
        (a, b) => {
            let (a, b) = category_counts(a, b);
            (psi(&a, &b), None, Pair { a: None, b: None })
        }
    };
    FeatureDrift {
        name: name.to_owned(),
        psi,
        ks,
        missing: Pair {
            a: missing(a),
            b: missing(b),
        },
        mean,
    }
}

fn missing(values: &ColumnValues) -> f64 {
    let missing = match values {
        ColumnValues::Number(numbers) => numbers.iter().filter(|number| number.is_nan()).count(),
        ColumnValues::Category(texts) => texts.iter().filter(|text| text.is_none()).count(),
    };
    missing as f64 / values.len().max(1) as f64
}

fn sorted(numbers: &[f64]) -> Vec<f64> {
    let present = numbers.iter().copied().filter(|number| !number.is_nan());
    let mut sorted: Vec<f64> = present.collect();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// The numbers at which the parts end; fewer where many numbers are equal.
fn edges(sorted: &[f64]) -> Vec<f64> {
    let mut edges: Vec<f64> = (1..PARTS)
        .filter_map(|part| sorted.get(part * sorted.len() / PARTS).copied())
        .collect();
    edges.dedup();
    edges
}

/// How many numbers lie in each part; the end of a part belongs to it.
fn number_counts(sorted: &[f64], edges: &[f64]) -> Vec<usize> {
    let mut counts = Vec::with_capacity(edges.len() + 2);
    let mut before = 0;
    for edge in edges {
        let until = sorted.partition_point(|number| number <= edge);
        counts.push(until - before);
        before = until;
    }
    counts.push(sorted.len() - before);
    counts
}

/// How many rows have each of the most frequent categories of the first, another one, or none.
fn category_counts(a: &ColumnValues, b: &ColumnValues) -> (Vec<usize>, Vec<usize>) {
    let count = |values: &ColumnValues| {
        let mut counts: HashMap<String, usize> = HashMap::new();
        if let ColumnValues::Category(texts) = values {
            for text in texts.iter().flatten() {
                *counts.entry(text.to_string()).or_insert(0) += 1;
            }
        }
        counts
    };
    let (in_a, in_b) = (count(a), count(b));
    let mut frequent: Vec<(&String, &usize)> = in_a.iter().collect();
    frequent.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    frequent.truncate(CATEGORIES_MAX);
    let parts = |counts: &HashMap<String, usize>, all: usize| {
        let mut parts: Vec<usize> = frequent
            .iter()
            .map(|(category, _)| counts.get(*category).copied().unwrap_or(0))
            .collect();
        let present: usize = counts.values().sum();
        parts.push(present - parts.iter().sum::<usize>());
        parts.push(all - present);
        parts
    };
    (parts(&in_a, a.len()), parts(&in_b, b.len()))
}

/// The population stability index of two counts of the same parts. An empty part counts as half a row, so that it stays
/// finite.
fn psi(a: &[usize], b: &[usize]) -> f64 {
    let total = |counts: &[usize]| counts.iter().sum::<usize>() as f64;
    let (a_total, b_total) = (total(a), total(b));
    if a_total == 0.0 || b_total == 0.0 {
        return 0.0;
    }
    let parts = a.iter().zip(b).filter(|(a, b)| **a + **b > 0);
    parts
        .map(|(a, b)| {
            let a = (*a as f64).max(0.5) / a_total;
            let b = (*b as f64).max(0.5) / b_total;
            (b - a) * (b / a).ln()
        })
        .sum()
}

/// The largest distance between the two empirical distributions.
fn ks(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.is_empty() || b.is_empty() {
        return None;
    }
    let (mut from_a, mut from_b, mut largest) = (0, 0, 0.0f64);
    while from_a < a.len() && from_b < b.len() {
        let number = a[from_a].min(b[from_b]);
        from_a += a[from_a..].partition_point(|other| *other <= number);
        from_b += b[from_b..].partition_point(|other| *other <= number);
        let distance = from_a as f64 / a.len() as f64 - from_b as f64 / b.len() as f64;
        largest = largest.max(distance.abs());
    }
    Some(largest)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn numbers(from: usize, to: usize) -> ColumnValues {
        ColumnValues::Number((from..to).map(|number| number as f64).collect())
    }

    #[test]
    fn the_same_has_not_moved() {
        let found = drift("x", &numbers(0, 1_000), &numbers(0, 1_000));
        assert_eq!((found.psi, found.ks), (0.0, Some(0.0)));
        let none = ColumnValues::Number(vec![f64::NAN; 10]);
        let found = drift("x", &none, &none);
        assert_eq!((found.psi, found.ks, found.missing.a), (0.0, None, 1.0));
    }

    #[test]
    fn what_has_moved_is_measured() {
        // half of the second lies beyond all of the first
        let found = drift("x", &numbers(0, 1_000), &numbers(500, 1_500));
        assert_eq!(found.ks, Some(0.5));
        assert!(found.psi > 0.25, "{found:?}");
        assert_eq!((found.mean.a, found.mean.b), (Some(499.5), Some(999.5)));
    }

    #[test]
    fn the_index_is_the_published_sum() {
        // shares 0.2/0.3/0.5 and 0.25/0.25/0.5: 0.05 ln 1.25 − 0.05 ln (0.25 / 0.3)
        let expected = 0.05 * (1.25f64).ln() - 0.05 * (0.25f64 / 0.3).ln();
        assert!((psi(&[20, 30, 50], &[25, 25, 50]) - expected).abs() < 1e-12);
    }

    #[test]
    fn missing_values_and_new_categories_count() {
        let texts = |texts: &[Option<&str>]| {
            ColumnValues::Category(texts.iter().map(|text| text.map(Arc::from)).collect())
        };
        let before = texts(&[Some("a"), Some("a"), Some("b"), None]);
        let after = texts(&[Some("a"), Some("c"), Some("c"), None]);
        let (a, b) = category_counts(&before, &after);
        assert_eq!((a, b), (vec![2, 1, 0, 1], vec![1, 0, 2, 1]));
        let many_zeros =
            ColumnValues::Number(vec![0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 5.0]);
        let more =
            ColumnValues::Number(vec![0.0, 0.0, 0.0, 0.0, 0.0, 5.0, 5.0, 5.0, 5.0, f64::NAN]);
        assert!(drift("x", &many_zeros, &more).psi > 0.25);
    }
}
