//! How good rankings are: one number per case, so that means, intervals and slices can be taken of any of them.
//!
//! A case is a ranking without repetition and the set of items that were taken. With `hit_r` 1 where the item at rank *r*
//! (from 1) was taken and `n` taken items:
//!
//! - recall at k: `Σ_{r≤k} hit_r / n`; hit rate at k: whether that sum is above 0; precision at k: the sum over `k`
//! - NDCG at k: `Σ_{r≤k} hit_r / log2(r + 1)` over the same sum for an ideal ranking, `Σ_{r≤min(k,n)} 1 / log2(r + 1)`
//!   (Järvelin and Kekäläinen 2002, with binary gains)
//! - MRR at k: `1 / r` of the first hit within k, else 0 (Voorhees 1999)
//! - MAP at k: the mean over cases of `Σ_{r≤k} hit_r · precision(r) / min(k, n)`
//!
//! Rankings are over the whole catalogue: sampled negatives can order models wrongly (Krichene and Rendle, KDD 2020).

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Bootstrap, Estimate};

/// What is measured of a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RankingMetric {
    /// The share of the taken items within the first k.
    Recall,
    /// Whether any taken item is within the first k.
    HitRate,
    /// The share of the first k that were taken.
    Precision,
    /// Discounted gain over the ideal one.
    Ndcg,
    /// The reciprocal rank of the first taken item.
    Mrr,
    /// The mean precision at the ranks of taken items.
    Map,
}

impl RankingMetric {
    /// All of them, in the order of tables.
    pub const ALL: [Self; 6] = [
        Self::Recall,
        Self::HitRate,
        Self::Precision,
        Self::Ndcg,
        Self::Mrr,
        Self::Map,
    ];

    /// The short name that tables use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Recall => "recall",
            Self::HitRate => "hit rate",
            Self::Precision => "precision",
            Self::Ndcg => "NDCG",
            Self::Mrr => "MRR",
            Self::Map => "MAP",
        }
    }

    /// The name in records: `hit_rate`.
    pub fn key(self) -> String {
        self.name().to_lowercase().replace(' ', "_")
    }

    /// The metric at `k` of a ranking (best first, no item twice) for the items that were taken (none twice). `None` if
    /// nothing was taken.
    pub fn at(self, k: usize, ranking: &[u32], taken: &[u32]) -> Option<f64> {
        if taken.is_empty() || k == 0 {
            return None;
        }
        let hits: Vec<usize> = ranking
            .iter()
            .take(k)
            .enumerate()
            .filter(|(_, item)| taken.contains(item))
            .map(|(place, _)| place + 1)
            .collect();
        let ideal = k.min(taken.len());
        Some(match self {
            Self::Recall => hits.len() as f64 / taken.len() as f64,
            Self::HitRate => f64::from(u8::from(!hits.is_empty())),
            Self::Precision => hits.len() as f64 / k as f64,
            Self::Ndcg => {
                let gain = |rank: usize| 1.0 / ((rank + 1) as f64).log2();
                let found: f64 = hits.iter().map(|rank| gain(*rank)).sum();
                found / (1..=ideal).map(gain).sum::<f64>()
            }
            Self::Mrr => hits.first().map_or(0.0, |rank| 1.0 / *rank as f64),
            Self::Map => {
                let precisions = hits.iter().enumerate();
                let sum: f64 = precisions
                    .map(|(before, rank)| (before + 1) as f64 / *rank as f64)
                    .sum();
                sum / ideal as f64
            }
        })
    }
}

impl Bootstrap {
    /// The mean of one value per case with its interval: cases (people, sessions) are drawn with replacement.
    pub fn mean(&self, values: &[f64]) -> Estimate {
        let mean = |sum: f64| sum / values.len() as f64;
        let value = (!values.is_empty()).then(|| mean(values.iter().sum()));
        let means = self.resampled(values.len(), |draw| values[draw]);
        Estimate {
            value,
            interval: self.middle(means),
            undefined: 0,
        }
    }

    /// The mean difference of two models on the same cases with its interval, on paired draws.
    ///
    /// # Panics
    /// When there are not as many values of one as of the other.
    pub fn mean_difference(&self, values: &[f64], others: &[f64]) -> Estimate {
        assert_eq!(values.len(), others.len(), "values are paired by case");
        let pairs = values.iter().zip(others);
        let differences: Vec<f64> = pairs.map(|(value, other)| value - other).collect();
        self.mean(&differences)
    }

    fn resampled(&self, cases: usize, value: impl Fn(usize) -> f64) -> Vec<f64> {
        if cases < 2 {
            return Vec::new();
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let draws = (0..self.resamples).map(|_| {
            let drawn = (0..cases).map(|_| value(random.random_range(0..cases)));
            drawn.sum::<f64>() / cases as f64
        });
        draws.collect()
    }

    fn middle(&self, mut means: Vec<f64>) -> Option<(f64, f64)> {
        if means.is_empty() {
            return None;
        }
        means.sort_by(f64::total_cmp);
        let tail = (1.0 - self.level) / 2.0;
        let last = (means.len() - 1) as f64;
        let at = |share: f64| means[(share * last).round() as usize];
        Some((at(tail), at(1.0 - tail)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RANKING: [u32; 5] = [7, 3, 9, 1, 4];

    #[track_caller]
    fn check(metric: RankingMetric, k: usize, taken: &[u32], wanted: f64) {
        let found = metric.at(k, &RANKING, taken).unwrap();
        assert!(
            (found - wanted).abs() < 1e-12,
            "{metric:?}: {found} for {wanted}"
        );
    }

    #[test]
    fn two_of_three_taken_items_at_ranks_two_and_four() {
        let taken = [3, 1, 8];
        check(RankingMetric::Recall, 5, &taken, 2.0 / 3.0);
        check(RankingMetric::Recall, 3, &taken, 1.0 / 3.0);
        check(RankingMetric::HitRate, 1, &taken, 0.0);
        check(RankingMetric::HitRate, 2, &taken, 1.0);
        check(RankingMetric::Precision, 5, &taken, 0.4);
        check(RankingMetric::Mrr, 5, &taken, 0.5);
        check(RankingMetric::Mrr, 1, &taken, 0.0);
        // precision 1/2 at rank 2 and 2/4 at rank 4, over three items
        check(RankingMetric::Map, 5, &taken, 1.0 / 3.0);
        // over min(k, n) = 2
        check(RankingMetric::Map, 2, &taken, 0.25);
        // gains 1/log2(3) and 1/log2(5); ideal 1 + 1/log2(3) + 1/2
        check(
            RankingMetric::Ndcg,
            5,
            &taken,
            1.061_606_311_644_692 / 2.130_929_753_571_457_4,
        );
        check(
            RankingMetric::Ndcg,
            2,
            &taken,
            0.630_929_753_571_457_4 / 1.630_929_753_571_457_4,
        );
    }

    #[test]
    fn a_perfect_ranking_is_one_and_an_empty_one_zero() {
        for metric in RankingMetric::ALL {
            assert_eq!(metric.at(2, &[5, 6, 7], &[6, 5]), Some(1.0), "{metric:?}");
            assert_eq!(metric.at(2, &[], &[6, 5]), Some(0.0), "{metric:?}");
            assert_eq!(metric.at(2, &[5], &[]), None, "{metric:?}");
        }
    }

    #[test]
    fn the_interval_of_a_mean_is_that_of_the_normal_approximation() {
        let values: Vec<f64> = (0..1000)
            .map(|case| f64::from(u8::from(case % 4 == 0)))
            .collect();
        let estimate = Bootstrap::default().mean(&values);
        assert_eq!(estimate.value, Some(0.25));
        let half = 1.96 * (0.25_f64 * 0.75 / 1000.0).sqrt();
        let (low, high) = estimate.interval.unwrap();
        assert!((low - (0.25 - half)).abs() < 0.006 && (high - (0.25 + half)).abs() < 0.006);
        assert_eq!(estimate, Bootstrap::default().mean(&values));
        assert_eq!(Bootstrap::default().mean(&[]).value, None);
        assert_eq!(Bootstrap::default().mean(&[1.0]).interval, None);
    }

    #[test]
    fn a_difference_is_surer_than_its_parts() {
        let one: Vec<f64> = (0..200).map(|case| f64::from(case % 10)).collect();
        let other: Vec<f64> = one.iter().map(|value| value - 0.5).collect();
        let difference = Bootstrap::default().mean_difference(&one, &other);
        assert_eq!(difference.value, Some(0.5));
        assert_eq!(difference.interval, Some((0.5, 0.5)));
    }
}
