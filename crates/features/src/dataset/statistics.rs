//! What the columns of a dataset are like.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::FeatureTable;
use tidemill_core::feature::ColumnValues;

use super::leaks::Alone;

/// The most frequent categories that are recorded.
pub const TOP_MAX: usize = 20;
/// The bars of a histogram.
pub const HISTOGRAM_BARS: usize = 16;
/// The values from which quantiles and histograms are made: evenly spread over the rows where there are more.
const QUANTILE_VALUES_MAX: usize = 100_000;

/// What the targets are like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetStatistics {
    /// The mean: for yes/no questions the share of yes.
    pub mean: f64,
    /// The mean of what the rows stand for, where only a share of the observations became rows.
    #[serde(default)]
    pub weighted_mean: Option<f64>,
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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColumnStatistics {
    /// The feature.
    pub name: String,
    /// Rows without a value.
    pub missing: u64,
    /// Rows in which the number is zero.
    #[serde(default)]
    pub zeros: Option<u64>,
    /// The mean of a number; absent without values, like the others.
    pub mean: Option<f64>,
    /// The standard deviation of a number.
    pub std: Option<f64>,
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// Where the numbers lie.
    #[serde(default)]
    pub quantiles: Option<Quantiles>,
    /// How many numbers lie in each of [`HISTOGRAM_BARS`] bars of the same width from the first to the last of
    /// [`Quantiles`]; what lies outside is in the outer bars. Empty where these are equal, and for categories.
    #[serde(default)]
    pub histogram: Vec<u64>,
    /// How many different categories.
    pub distinct: Option<u64>,
    /// The most frequent categories, at most [`TOP_MAX`], and how many rows have them.
    pub top: Vec<(String, u64)>,
    /// How well it alone tells the target; absent where there is too little to say.
    #[serde(default)]
    pub alone: Option<Alone>,
    /// The share of a fortnight's values that lies elsewhere than those of all rows, or of what is missing where that is more, as nine of ten
    /// fortnights do not exceed it; 0 to 1. Absent with fewer than four fortnights of 200 rows.
    #[serde(default)]
    pub varies: Option<f64>,
}

/// The numbers below which a share of all lies.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// 1 of 100.
    pub p01: f64,
    /// A quarter.
    pub p25: f64,
    /// Half: the median.
    pub p50: f64,
    /// Three quarters.
    pub p75: f64,
    /// 99 of 100.
    pub p99: f64,
}

/// Mean, standard deviation, smallest and largest of numbers; `None` without any.
pub(super) fn moments(numbers: impl Iterator<Item = f64> + Clone) -> Option<(f64, f64, f64, f64)> {
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

impl TargetStatistics {
    pub(super) fn of(targets: &[f64], weights: &[f64], classes: Option<&[String]>) -> Self {
        let Some((mean, std, min, max)) = moments(targets.iter().copied()) else {
            return Self::default();
        };
        let mut counts = BTreeMap::new();
        for (index, class) in classes.into_iter().flatten().enumerate() {
            let count = targets
                .iter()
                .filter(|&&target| target == index as f64)
                .count();
            counts.insert(class.clone(), count as u64);
        }
        let sampled = weights.iter().any(|&weight| weight != 1.0);
        let weighted = || {
            let sum: f64 = targets.iter().zip(weights).map(|(t, w)| t * w).sum();
            sum / weights.iter().sum::<f64>()
        };
        Self {
            mean,
            weighted_mean: sampled.then(weighted),
            std,
            min: Some(min),
            max: Some(max),
            classes: counts,
        }
    }
}

impl ColumnStatistics {
    pub(super) fn of(features: &FeatureTable, column: usize) -> Self {
        Self::of_values(&features.columns()[column].name, features.values(column))
    }

    pub(super) fn of_values(name: &str, values: &ColumnValues) -> Self {
        let statistics = Self {
            name: name.to_owned(),
            ..Self::default()
        };
        match values {
            ColumnValues::Number(numbers) => statistics.with_numbers(numbers),
            ColumnValues::Category(texts) => statistics.with_categories(texts),
        }
    }

    fn with_numbers(mut self, numbers: &[f64]) -> Self {
        let present = numbers.iter().copied().filter(|number| !number.is_nan());
        self.missing = (numbers.len() - present.clone().count()) as u64;
        self.zeros = Some(present.clone().filter(|number| *number == 0.0).count() as u64);
        if let Some((mean, std, min, max)) = moments(present) {
            (self.mean, self.std) = (Some(mean), Some(std));
            (self.min, self.max) = (Some(min), Some(max));
        }
        let step = numbers.len().div_ceil(QUANTILE_VALUES_MAX).max(1);
        let spread = numbers.iter().copied().step_by(step);
        let mut sorted: Vec<f64> = spread.filter(|number| number.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        self.quantiles = Quantiles::of(&sorted);
        self.histogram = self
            .quantiles
            .map_or(Vec::new(), |quantiles| histogram(&sorted, quantiles));
        self
    }

    fn with_categories(mut self, texts: &[Option<Arc<str>>]) -> Self {
        let mut counts: HashMap<&Arc<str>, u64> = HashMap::new();
        for text in texts.iter().flatten() {
            *counts.entry(text).or_insert(0) += 1;
        }
        self.missing = texts.iter().filter(|text| text.is_none()).count() as u64;
        self.distinct = Some(counts.len() as u64);
        let mut top: Vec<(String, u64)> = counts
            .into_iter()
            .map(|(text, count)| (text.to_string(), count))
            .collect();
        top.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        top.truncate(TOP_MAX);
        self.top = top;
        self
    }
}

impl Quantiles {
    /// Of numbers in ascending order, linear between two of them; `None` without any.
    fn of(sorted: &[f64]) -> Option<Self> {
        let last = sorted.len().checked_sub(1)?;
        let at = |share: f64| {
            let place = share * last as f64;
            let (below, above) = (sorted[place as usize], sorted[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Self {
            p01: at(0.01),
            p25: at(0.25),
            p50: at(0.5),
            p75: at(0.75),
            p99: at(0.99),
        })
    }

    fn bar_width(&self) -> f64 {
        (self.p99 - self.p01) / HISTOGRAM_BARS as f64
    }

    /// The bar that a number lies in, of those of [`ColumnStatistics::histogram`].
    pub(super) fn bar_of(&self, number: f64) -> usize {
        // a cast to a whole number stops at its ends
        let bar = ((number - self.p01) / self.bar_width()) as usize;
        bar.min(HISTOGRAM_BARS - 1)
    }
}

fn histogram(numbers: &[f64], quantiles: Quantiles) -> Vec<u64> {
    let width = quantiles.bar_width();
    if width <= 0.0 || !width.is_finite() {
        return Vec::new();
    }
    let mut bars = vec![0; HISTOGRAM_BARS];
    for number in numbers {
        bars[quantiles.bar_of(*number)] += 1;
    }
    bars
}

#[cfg(test)]
mod tests {
    use tidemill_core::feature::FeatureType;

    use super::*;

    fn of(values: ColumnValues) -> ColumnStatistics {
        ColumnStatistics::of_values("user.x", &values)
    }

    #[test]
    fn numbers_are_described() {
        let mut numbers: Vec<f64> = (0..=100).map(f64::from).collect();
        numbers.extend([f64::NAN, f64::NAN, 0.0]);
        let found = of(ColumnValues::Number(numbers));
        assert_eq!((found.missing, found.zeros), (2, Some(2)));
        assert_eq!((found.min, found.max), (Some(0.0), Some(100.0)));
        let quantiles = found.quantiles.unwrap();
        // 102 numbers: the places 25.25, 50.5 and 99.99 of 0, 0, 1, 2, …
        assert_eq!((quantiles.p25, quantiles.p50), (24.25, 49.5));
        assert!((quantiles.p99 - 98.99).abs() < 1e-9, "{quantiles:?}");
        assert_eq!(found.histogram.len(), HISTOGRAM_BARS);
        assert_eq!(found.histogram.iter().sum::<u64>(), 102);
    }

    #[test]
    fn what_does_not_vary_and_what_is_not_there_is_described() {
        let same = of(ColumnValues::Number(vec![3.0; 5]));
        assert_eq!(
            same.quantiles.map(|found| (found.p01, found.p99)),
            Some((3.0, 3.0))
        );
        assert_eq!(same.histogram, Vec::<u64>::new());
        let none = of(ColumnValues::Number(vec![f64::NAN; 5]));
        assert_eq!((none.missing, none.quantiles, none.mean), (5, None, None));
        assert_eq!(of(ColumnValues::Number(Vec::new())).zeros, Some(0));
    }

    #[test]
    fn categories_are_counted() {
        let texts = ["a", "b", "a"].map(|text| Some(Arc::from(text)));
        let found = of(ColumnValues::Category(
            texts.into_iter().chain([None]).collect(),
        ));
        assert_eq!(
            (found.missing, found.distinct, found.zeros),
            (1, Some(2), None)
        );
        assert_eq!(found.top, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert_eq!(
            FeatureType::Category,
            ColumnValues::Category(Vec::new()).feature_type()
        );
    }

    #[test]
    fn a_share_is_weighted_up_again() {
        let found = TargetStatistics::of(&[1.0, 0.0], &[1.0, 3.0], None);
        assert_eq!((found.mean, found.weighted_mean), (0.5, Some(0.25)));
        let found = TargetStatistics::of(&[1.0, 0.0], &[1.0, 1.0], None);
        assert_eq!((found.mean, found.weighted_mean), (0.5, None));
    }
}
