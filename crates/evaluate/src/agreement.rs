//! How the scores of two versions for the same questions agree, without knowing what is right.

use serde::{Deserialize, Serialize};

use crate::{Metric, Rows, ScoresView, TaskKind};

/// Into how many parts the scores of the first are cut for the stability index.
const PARTS: usize = 10;
/// With how many standard errors a rank correlation is surely below something. Four, since it is looked at again and again: by chance a
/// single look is wrong in one of 30,000 cases.
const STANDARD_ERRORS: f64 = 4.0;

/// How two versions agree.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Agreement {
    /// How many questions both answered.
    pub pairs: usize,
    /// The population stability index of the second's scores against the first's, over tenths of the first: 0 where both are
    /// distributed alike.
    pub stability_index: f64,
    /// How much of that chance alone brings about among so many questions, at most.
    pub stability_noise: f64,
    /// Spearman's rank correlation; `None` where one of them says the same about everybody.
    pub rank_correlation: Option<f64>,
    /// The mean score of the first.
    pub mean_first: f64,
    /// The mean score of the second.
    pub mean_second: f64,
    /// The mean absolute difference.
    pub mean_difference: f64,
    /// Whether the second says the same about everybody although the first does not.
    pub is_constant: bool,
}

impl Agreement {
    /// Compares pairs of scores; `None` where there are fewer than two.
    pub fn of(pairs: &[(f64, f64)]) -> Option<Self> {
        if pairs.len() < 2 {
            return None;
        }
        let n = pairs.len() as f64;
        let first: Vec<f64> = pairs.iter().map(|pair| pair.0).collect();
        let second: Vec<f64> = pairs.iter().map(|pair| pair.1).collect();
        let is_constant = |scores: &[f64]| scores.iter().all(|score| *score == scores[0]);
        let edges = edges(&first);
        Some(Self {
            pairs: pairs.len(),
            stability_index: stability_index(&counts(&first, &edges), &counts(&second, &edges)),
            // the index is about chi-square distributed with (parts - 1) degrees of freedom over n / 2 (Yurdakul 2018); its mean and
            // four deviations
            stability_noise: {
                let freedom = edges.len() as f64;
                2.0 * (freedom + STANDARD_ERRORS * (2.0 * freedom).sqrt()) / n
            },
            rank_correlation: rank_correlation(&first, &second),
            mean_first: first.iter().sum::<f64>() / n,
            mean_second: second.iter().sum::<f64>() / n,
            mean_difference: pairs.iter().map(|(a, b)| (a - b).abs()).sum::<f64>() / n,
            is_constant: is_constant(&second) && !is_constant(&first),
        })
    }

    /// Whether the rank correlation is surely below `least` (Fisher's transformation, four standard errors).
    pub fn is_surely_below(&self, least: f64) -> bool {
        const MOST: f64 = 0.999_999;
        let Some(correlation) = self.rank_correlation else {
            return false;
        };
        if self.pairs < 10 {
            return false;
        }
        // 1.03 is the correction of the variance for ranks (Fieller, Hartley, Pearson 1957)
        let error = 1.03 / (self.pairs as f64 - 3.0).sqrt();
        let z = correlation.clamp(-MOST, MOST).atanh();
        z + STANDARD_ERRORS * error < least.clamp(-MOST, MOST).atanh()
    }

    /// Whether the scores are surely distributed otherwise than a stability index of `most` allows.
    pub fn is_surely_shifted(&self, most: f64) -> bool {
        self.stability_index > most + self.stability_noise
    }
}

/// The scores at which the parts end; fewer where many are equal.
pub(crate) fn edges(scores: &[f64]) -> Vec<f64> {
    let mut sorted = scores.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut edges: Vec<f64> = (1..PARTS)
        .filter_map(|part| sorted.get(part * sorted.len() / PARTS).copied())
        .collect();
    edges.dedup();
    edges
}

/// How many scores lie in each part.
fn counts(scores: &[f64], edges: &[f64]) -> Vec<f64> {
    let mut counts = vec![0.0; edges.len() + 1];
    for score in scores {
        counts[part_of(*score, edges)] += 1.0;
    }
    counts
}

/// The part that a score lies in; the end of a part belongs to it.
pub(crate) fn part_of(score: f64, edges: &[f64]) -> usize {
    edges.partition_point(|edge| *edge < score)
}

/// `Σ (b − a) ln(b / a)` over the shares of the parts. An empty part counts as half a score, so that it stays finite.
fn stability_index(first: &[f64], second: &[f64]) -> f64 {
    let total = |counts: &[f64]| counts.iter().sum::<f64>();
    let (all_first, all_second) = (total(first), total(second));
    let parts = first.iter().zip(second).filter(|(a, b)| **a + **b > 0.0);
    parts
        .map(|(a, b)| {
            let (a, b) = (a.max(0.5) / all_first, b.max(0.5) / all_second);
            (b - a) * (b / a).ln()
        })
        .sum()
}

/// Spearman's rank correlation; `None` where one of them does not vary.
pub(crate) fn rank_correlation(first: &[f64], second: &[f64]) -> Option<f64> {
    let entities: Vec<u64> = (0..first.len() as u64).collect();
    let weights = vec![1.0; first.len()];
    let rows = Rows::new(TaskKind::Regression, first, &weights, &entities).ok()?;
    let scores = ScoresView::new(1, second).ok()?;
    Metric::Spearman.compute(&rows, &scores).ok().flatten()
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    fn check(second: impl Fn(f64, f64) -> f64) -> Agreement {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        let pairs: Vec<(f64, f64)> = (0..500)
            .map(|_| {
                let first: f64 = random.random();
                (first, second(first, random.random()))
            })
            .collect();
        Agreement::of(&pairs).unwrap()
    }

    #[test]
    fn the_same_scores_agree() {
        let same = check(|first, _| first);
        assert_eq!((same.stability_index, same.mean_difference), (0.0, 0.0));
        assert!((same.rank_correlation.unwrap() - 1.0).abs() < 1e-12);
        assert!(!same.is_constant && !same.is_surely_below(0.9) && !same.is_surely_shifted(0.01));
        assert_eq!(Agreement::of(&[(0.1, 0.2)]), None);
    }

    #[test]
    fn what_is_inverted_shifted_constant_or_random_is_told_apart() {
        let inverted = check(|first, _| 1.0 - first);
        assert!(inverted.is_surely_below(0.3), "{inverted:?}");
        assert!(!inverted.is_surely_shifted(0.25), "{inverted:?}");
        let shifted = check(|first, _| first * 0.5);
        assert!(shifted.is_surely_shifted(0.25) && !shifted.is_surely_below(0.9));
        let constant = check(|_, _| 0.3);
        assert!(constant.is_constant && constant.rank_correlation.is_none());
        assert!(constant.is_surely_shifted(0.25));
        let random = check(|_, random| random);
        assert!(random.is_surely_below(0.3), "{random:?}");
        assert!(
            !random.is_surely_shifted(0.1),
            "noise is not a shift: {random:?}"
        );
    }
}
