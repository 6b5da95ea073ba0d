//! What a version is served beside what it was trained on.

use serde::Serialize;
use tidemill_features::dataset::{ColumnStatistics, DatasetRecord, HISTOGRAM_BARS};

use super::sketch::AnswerDay;
use crate::days::{PropertyDay, VALUES_MIN};

/// A feature is skewed when at least this share of its values lies elsewhere than in training, beyond what chance explains and what is usual of a
/// fortnight of training.
pub const SKEWED_FROM: f64 = 0.25;
/// Numbers are told apart from a border beyond this share of it: sketches are off by less (ADR 15).
const BORDER_OFF: f64 = 0.02;
/// How often chance alone may exceed the noise that is allowed for, over all features of a version.
const BY_CHANCE: f64 = 0.001;

/// Features as they are served beside those that a version was trained on, the farthest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Skew {
    /// Answers that were looked at.
    pub answers: u64,
    /// Rows that it was trained on.
    pub rows: u64,
    /// Its features.
    pub features: Vec<SkewedFeature>,
}

/// A feature as it is served beside training.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SkewedFeature {
    /// The feature.
    pub name: String,
    /// The share of rows without a value in training.
    pub missing_trained: f64,
    /// The share of answers without a value.
    pub missing_served: f64,
    /// The share of values that lies elsewhere: of numbers the largest difference between the shares below a number (Kolmogorov and Smirnov, at
    /// the borders of the histogram of training and at zero), of texts half the sum of the differences between their shares (total
    /// variation), or the difference of what is missing where that is larger. From 0 to 1.
    pub distance: f64,
    /// What of that may be chance: exceeded by one version in a thousand, of all its features together.
    pub noise: f64,
    /// What of that is usual: as far as nine of ten fortnights of training lie from all of it at most. What grows, what has seasons and what
    /// everybody shares at a moment is farther. Unknown where training has fewer than four fortnights of 200 rows; then nothing is skewed.
    pub usual: Option<f64>,
    /// What of both may be compared no further because there are fewer than ten values; their distance is that of what is missing alone.
    pub too_few: bool,
}

impl SkewedFeature {
    /// Whether it is farther from training than may be.
    pub fn is_skewed(&self) -> bool {
        let usual = self.usual.unwrap_or(1.0);
        self.distance > SKEWED_FROM + self.noise + usual
    }
}

/// Compares what was served with the dataset that a version was trained on. Features that only one side has are left out.
pub fn skew(served: &AnswerDay, trained: &DatasetRecord) -> Skew {
    let columns = trained.columns.iter().filter_map(|column| {
        let values = served.features.get(&column.name)?;
        (values.count() > 0).then_some((column, values))
    });
    let count = columns.clone().count();
    let mut features: Vec<SkewedFeature> = columns
        .map(|(column, values)| compare(column, trained.rows, values, count))
        .collect();
    features.sort_by(|one, other| {
        let beyond = |feature: &SkewedFeature| {
            feature.distance - feature.noise - feature.usual.unwrap_or(0.0)
        };
        beyond(other).total_cmp(&beyond(one))
    });
    Skew {
        answers: served.count,
        rows: trained.rows,
        features,
    }
}

fn compare(
    column: &ColumnStatistics,
    rows: u64,
    values: &PropertyDay,
    features: usize,
) -> SkewedFeature {
    let share = |part: u64, of: u64| part as f64 / of.max(1) as f64;
    let missing_trained = share(column.missing, rows);
    let missing_served = share(values.nulls, values.count());
    let present = rows.saturating_sub(column.missing);
    let too_few = values.present() < VALUES_MIN || present < VALUES_MIN;
    let of_missing = (missing_trained - missing_served).abs();
    let of_values = match too_few {
        true => 0.0,
        false => numbers(column, present, values)
            .or_else(|| texts(column, present, values))
            .unwrap_or(0.0),
    };
    let (smaller, larger) = match of_values > of_missing {
        true => (values.present().min(present), values.present().max(present)),
        false => (values.count().min(rows), values.count().max(rows)),
    };
    SkewedFeature {
        name: column.name.clone(),
        missing_trained,
        missing_served,
        distance: of_values.max(of_missing),
        noise: noise(smaller, larger, features),
        usual: column.varies,
        too_few,
    }
}

/// The distance of Kolmogorov and Smirnov that chance exceeds in [`BY_CHANCE`] of all versions (Smirnov, *Table for estimating the goodness
/// of fit of empirical distributions*, 1948).
fn noise(one: u64, other: u64, features: usize) -> f64 {
    let (one, other) = (one.max(1) as f64, other.max(1) as f64);
    let each = BY_CHANCE / features.max(1) as f64;
    ((-(each / 2.0).ln() / 2.0) * (one + other) / (one * other)).sqrt()
}

/// `None` where the feature is no number, or nothing is known of where its numbers lay.
fn numbers(column: &ColumnStatistics, present: u64, values: &PropertyDay) -> Option<f64> {
    let (quantiles, served) = (column.quantiles.as_ref()?, values.numbers.as_ref()?);
    let weighted = served.sketch.weighted();
    let total: u64 = weighted.iter().map(|(_, count)| count).sum();
    let share_of = |is_in: &dyn Fn(f64) -> bool| {
        let inside = weighted.iter().filter(|(number, _)| is_in(*number));
        inside.map(|(_, count)| count).sum::<u64>() as f64 / total.max(1) as f64
    };
    let zeros = column.zeros.unwrap_or(0) as f64 / present.max(1) as f64;
    let mut distance = (zeros - share_of(&|number| number == 0.0)).abs();
    let bars: u64 = column.histogram.iter().sum();
    if bars == 0 {
        // nearly all numbers were the same
        let same = quantiles.p50;
        let off = share_of(&|number| (number - same).abs() > BORDER_OFF * same.abs());
        return Some(distance.max(off - 0.02));
    }
    let width = (quantiles.p99 - quantiles.p01) / HISTOGRAM_BARS as f64;
    let mut below = 0;
    for (place, bar) in column.histogram.iter().enumerate().take(HISTOGRAM_BARS - 1) {
        below += bar;
        let trained = below as f64 / bars as f64;
        let border = quantiles.p01 + width * (place + 1) as f64;
        let off = BORDER_OFF * border.abs();
        let low = share_of(&|number| number < border - off);
        let high = share_of(&|number| number < border + off);
        distance = distance.max(low - trained).max(trained - high);
    }
    Some(distance)
}

/// `None` where the feature is no text, or there are too many to know them.
fn texts(column: &ColumnStatistics, present: u64, values: &PropertyDay) -> Option<f64> {
    column.distinct?;
    let served: u64 = values.values.values().sum::<u64>() + values.other_values;
    if served == 0 || column.top.is_empty() {
        return None;
    }
    let (mut moved, mut known) = (0.0, [0.0; 2]);
    for (text, rows) in &column.top {
        let count = values.values.get(text).copied().unwrap_or(0);
        let shares = [
            *rows as f64 / present.max(1) as f64,
            count as f64 / served as f64,
        ];
        moved += (shares[0] - shares[1]).abs() / 2.0;
        known = [known[0] + shares[0], known[1] + shares[1]];
    }
    // the others are one
    Some(moved + (known[0] - known[1]).abs() / 2.0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    /// Numbers as training saw them.
    fn trained(numbers: &[f64]) -> ColumnStatistics {
        let mut sorted = numbers.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q: f64| sorted[(q * (sorted.len() - 1) as f64) as usize];
        let quantiles = tidemill_features::dataset::Quantiles {
            p01: at(0.01),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p99: at(0.99),
        };
        let width = (quantiles.p99 - quantiles.p01) / HISTOGRAM_BARS as f64;
        let mut histogram = vec![0; HISTOGRAM_BARS];
        for number in numbers.iter().filter(|_| width > 0.0) {
            let bar = ((number - quantiles.p01) / width) as usize;
            histogram[bar.min(HISTOGRAM_BARS - 1)] += 1;
        }
        ColumnStatistics {
            name: "user.x".to_owned(),
            zeros: Some(numbers.iter().filter(|number| **number == 0.0).count() as u64),
            quantiles: Some(quantiles),
            histogram: if width > 0.0 { histogram } else { Vec::new() },
            varies: Some(0.05),
            ..ColumnStatistics::default()
        }
    }

    fn served(numbers: impl Iterator<Item = Option<f64>>) -> PropertyDay {
        let mut values = PropertyDay::default();
        for number in numbers {
            match number {
                Some(number) => values.add_number(number),
                None => values.add_null(),
            }
        }
        values
    }

    fn spread(number: u64) -> f64 {
        (number * 7_919 % 1_000) as f64 / 10.0
    }

    #[track_caller]
    fn check(values: &PropertyDay, is_skewed: bool) {
        let numbers: Vec<f64> = (0..5_000).map(spread).collect();
        let found = compare(&trained(&numbers), 5_000, values, 20);
        assert_eq!(found.is_skewed(), is_skewed, "{found:?}");
    }

    #[test]
    fn what_is_served_as_in_training_is_not_skewed_and_other_units_and_nulls_are() {
        check(&served((0..800).map(|n| Some(spread(n * 3)))), false);
        check(&served((0..800).map(|n| Some(spread(n) * 100.0))), true);
        check(
            &served((0..800).map(|n| (n % 2 == 0).then(|| spread(n)))),
            true,
        );
        check(&served((0..800).map(|_| None)), true);
        check(&served((0..800).map(|n| Some(spread(n) * 1.1))), false);
        // of few answers chance explains more
        check(
            &served((0..12).map(|n| (n % 2 == 0).then(|| spread(n)))),
            false,
        );
    }

    #[test]
    fn what_varies_as_much_in_training_is_not_skewed() {
        let numbers: Vec<f64> = (0..5_000).map(spread).collect();
        let values = served((0..800).map(|n| Some(spread(n) + 40.0)));
        for (varies, is_skewed) in [(Some(0.02), true), (Some(0.3), false), (None, false)] {
            let column = ColumnStatistics {
                varies,
                ..trained(&numbers)
            };
            let found = compare(&column, 5_000, &values, 20);
            assert_eq!(found.is_skewed(), is_skewed, "{found:?}");
        }
    }

    #[test]
    fn whole_numbers_on_a_border_are_on_the_right_side() {
        let numbers: Vec<f64> = (0..5_000).map(|n| f64::from(n % 17)).collect();
        let values = served(numbers.iter().map(|number| Some(*number)));
        let found = compare(&trained(&numbers), 5_000, &values, 1);
        assert!(found.distance < 0.01, "{found:?}");
        let same = trained(&[3.0; 5_000]);
        let found = compare(&same, 5_000, &served((0..500).map(|_| Some(3.0))), 1);
        assert_eq!(found.distance, 0.0);
        let found = compare(&same, 5_000, &served((0..500).map(|_| Some(4.0))), 1);
        assert!(found.is_skewed());
    }

    #[test]
    fn texts_are_compared_by_their_shares() {
        let column = ColumnStatistics {
            distinct: Some(2),
            top: vec![("uk".to_owned(), 800), ("fr".to_owned(), 200)],
            varies: Some(0.0),
            ..ColumnStatistics::default()
        };
        let of = |text: &dyn Fn(usize) -> &'static str| {
            let mut values = PropertyDay::default();
            (0..500).for_each(|n| values.add_text(&Arc::from(text(n)) as &Arc<str>));
            compare(&column, 1_000, &values, 5)
        };
        assert!(of(&|n| if n % 5 == 0 { "fr" } else { "uk" }).distance < 0.01);
        let renamed = of(&|n| if n % 5 == 0 { "fr" } else { "UK" });
        assert!((renamed.distance - 0.8).abs() < 1e-9 && renamed.is_skewed());
    }
}
