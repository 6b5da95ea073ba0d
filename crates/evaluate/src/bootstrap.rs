//! How sure a number is: percentile intervals by resampling entities.
//!
//! Rows of one entity are not independent, so whole entities are drawn with replacement, as many as there are (the
//! cluster bootstrap: Efron and Tibshirani, *An Introduction to the Bootstrap*, 1993, chapters 8 and 13; Field and Welsh
//! 2007). Two models are compared on the same draws, which cancels what the rows have in common.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::prepared::{Clusters, Prepared, Scratch};
use crate::{EvaluateError, Metric, Rows, ScoresView};

/// How to resample. The same parameters and inputs give the same intervals, bit for bit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// How often. Default 500: the ends of a 95 % interval then rest on 12 draws each.
    pub resamples: usize,
    /// The share of draws inside the interval, between 0 and 1. Default 0.95.
    pub level: f64,
    /// Where the random numbers start. Default 0.
    pub seed: u64,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self {
            resamples: 500,
            level: 0.95,
            seed: 0,
        }
    }
}

/// A metric and how sure it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// Over all rows; `None` where it is not defined.
    pub value: Option<f64>,
    /// Low and high; `None` with fewer than two entities, or when it is defined in fewer than half of the resamples.
    pub interval: Option<(f64, f64)>,
    /// Resamples in which the metric was not defined (no positives drawn, say); they are left out of the interval.
    pub undefined: usize,
}

/// How much better one model is than another on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The metric of the model.
    pub value: Option<f64>,
    /// The metric of the other.
    pub other: Option<f64>,
    /// [`Metric::improvement`] of the model over the other: above 0 is better.
    pub improvement: Option<f64>,
    /// Low and high of the improvement; as in [`Estimate`].
    pub interval: Option<(f64, f64)>,
    /// As in [`Estimate`].
    pub undefined: usize,
}

impl Bootstrap {
    /// A metric with its interval.
    ///
    /// # Errors
    /// When the metric is of another task, or the scores do not fit the rows.
    pub fn estimate(
        &self,
        rows: &Rows<'_>,
        metric: Metric,
        scores: &ScoresView<'_>,
    ) -> Result<Estimate, EvaluateError> {
        Ok(self.estimates(rows, &[metric], scores)?[0])
    }

    /// Several metrics with their intervals, on the same draws.
    ///
    /// # Errors
    /// As [`Bootstrap::estimate`].
    pub fn estimates(
        &self,
        rows: &Rows<'_>,
        metrics: &[Metric],
        scores: &ScoresView<'_>,
    ) -> Result<Vec<Estimate>, EvaluateError> {
        let clusters = Clusters::new(rows.entities());
        let prepared = metrics
            .iter()
            .map(|metric| Prepared::new(*metric, rows, scores, &clusters))
            .collect::<Result<Vec<_>, _>>()?;
        let draws = self.draws(&clusters, &prepared);
        Ok(draws
            .iter()
            .map(|draws| {
                let (interval, undefined) = self.interval(&draws.resampled, clusters.count());
                Estimate {
                    value: draws.value,
                    interval,
                    undefined,
                }
            })
            .collect())
    }

    /// How much better `scores` is than each of `others`, on the same draws.
    ///
    /// # Errors
    /// As [`Bootstrap::estimate`].
    pub fn paired(
        &self,
        rows: &Rows<'_>,
        metric: Metric,
        scores: &ScoresView<'_>,
        others: &[ScoresView<'_>],
    ) -> Result<Vec<Difference>, EvaluateError> {
        let clusters = Clusters::new(rows.entities());
        let prepared = std::iter::once(scores)
            .chain(others)
            .map(|scores| Prepared::new(metric, rows, scores, &clusters))
            .collect::<Result<Vec<_>, _>>()?;
        let draws = self.draws(&clusters, &prepared);
        let improvement =
            |value: Option<f64>, other: Option<f64>| Some(metric.improvement(value?, other?));
        Ok(draws[1..]
            .iter()
            .map(|other| {
                let resampled: Vec<Option<f64>> = draws[0]
                    .resampled
                    .iter()
                    .zip(&other.resampled)
                    .map(|(value, other)| improvement(*value, *other))
                    .collect();
                let (interval, undefined) = self.interval(&resampled, clusters.count());
                Difference {
                    value: draws[0].value,
                    other: other.value,
                    improvement: improvement(draws[0].value, other.value),
                    interval,
                    undefined,
                }
            })
            .collect())
    }

    fn draws(&self, clusters: &Clusters, prepared: &[Prepared]) -> Vec<Draws> {
        let mut scratch = Scratch::default();
        let count = clusters.count();
        let mut multiplicities = vec![1_u32; count];
        let mut draws: Vec<Draws> = prepared
            .iter()
            .map(|prepared| Draws {
                value: prepared.value(&multiplicities, &mut scratch),
                resampled: Vec::with_capacity(self.resamples),
            })
            .collect();
        if count < 2 {
            return draws;
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        for _ in 0..self.resamples {
            multiplicities.fill(0);
            for _ in 0..count {
                multiplicities[random.random_range(0..count as u32) as usize] += 1;
            }
            for (draws, prepared) in draws.iter_mut().zip(prepared) {
                draws
                    .resampled
                    .push(prepared.value(&multiplicities, &mut scratch));
            }
        }
        draws
    }

    pub(crate) fn interval(
        &self,
        resampled: &[Option<f64>],
        clusters: usize,
    ) -> (Option<(f64, f64)>, usize) {
        let mut defined: Vec<f64> = resampled.iter().flatten().copied().collect();
        let undefined = resampled.len() - defined.len();
        if clusters < 2 || defined.is_empty() || undefined > defined.len() {
            return (None, undefined);
        }
        defined.sort_unstable_by(f64::total_cmp);
        let tail = (1.0 - self.level).clamp(0.0, 1.0) / 2.0;
        (
            Some((quantile(&defined, tail), quantile(&defined, 1.0 - tail))),
            undefined,
        )
    }
}

struct Draws {
    value: Option<f64>,
    resampled: Vec<Option<f64>>,
}

/// The quantile of sorted values, with straight lines between them (Hyndman and Fan 1996, type 7).
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = share * (sorted.len() - 1) as f64;
    let (below, above) = (place.floor() as usize, place.ceil() as usize);
    sorted[below] + (place - place.floor()) * (sorted[above] - sorted[below])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskKind;

    fn random_rows(seed: u64, count: usize) -> (Vec<f64>, Vec<f64>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..count)
            .map(|_| {
                let target = f64::from(u8::from(random.random::<f64>() < 0.3));
                (target, 0.3 * target + random.random::<f64>())
            })
            .unzip()
    }

    #[test]
    fn the_interval_of_a_mean_is_the_textbook_one() {
        let (targets, _) = random_rows(1, 2_000);
        let zeros = vec![0.0; targets.len()];
        let entities: Vec<u64> = (0..targets.len() as u64).collect();
        let rows = Rows::new(TaskKind::Regression, &targets, &[1.0; 2_000], &entities).unwrap();
        let bootstrap = Bootstrap {
            resamples: 2_000,
            ..Bootstrap::default()
        };
        let estimate = bootstrap
            .estimate(&rows, Metric::Mae, &ScoresView::new(1, &zeros).unwrap())
            .unwrap();
        let p = estimate.value.unwrap();
        let half = 1.96 * (p * (1.0 - p) / 2_000.0).sqrt();
        let (low, high) = estimate.interval.unwrap();
        assert!((low - (p - half)).abs() < 0.15 * half, "{low}");
        assert!((high - (p + half)).abs() < 0.15 * half, "{high}");
    }

    #[test]
    fn ten_copies_of_each_row_do_not_make_it_surer() {
        let (targets, scores) = random_rows(2, 300);
        let width = |copies: usize| {
            let repeat = |list: &[f64]| list.repeat(copies);
            let (targets, scores) = (repeat(&targets), repeat(&scores));
            let entities: Vec<u64> = (0..300).collect::<Vec<u64>>().repeat(copies);
            let weights = vec![1.0; targets.len()];
            let rows = Rows::new(TaskKind::Binary, &targets, &weights, &entities).unwrap();
            let scores = ScoresView::new(1, &scores).unwrap();
            let (low, high) = Bootstrap::default()
                .estimate(&rows, Metric::Auc, &scores)
                .unwrap()
                .interval
                .unwrap();
            high - low
        };
        assert!((width(1) - width(10)).abs() < 1e-9);
    }

    #[test]
    fn a_model_is_exactly_as_good_as_itself_and_better_than_a_worse_one() {
        let (targets, scores) = random_rows(3, 500);
        let entities: Vec<u64> = (0..500).collect();
        let rows = Rows::new(TaskKind::Binary, &targets, &[1.0; 500], &entities).unwrap();
        let (_, noise) = random_rows(4, 500);
        let view = |values| ScoresView::new(1, values).unwrap();
        let differences = Bootstrap::default()
            .paired(
                &rows,
                Metric::Auc,
                &view(&scores),
                &[view(&scores), view(&noise)],
            )
            .unwrap();
        assert_eq!(differences[0].interval, Some((0.0, 0.0)));
        assert!(
            differences[1].interval.unwrap().0 > 0.0,
            "{:?}",
            differences[1]
        );
        let again = Bootstrap::default()
            .paired(
                &rows,
                Metric::Auc,
                &view(&scores),
                &[view(&scores), view(&noise)],
            )
            .unwrap();
        assert_eq!(differences, again);
    }

    #[test]
    fn an_error_metric_improves_when_it_falls() {
        let targets = [1.0, 2.0, 3.0];
        let rows = Rows::new(TaskKind::Regression, &targets, &[1.0; 3], &[1, 2, 3]).unwrap();
        let view = |values| ScoresView::new(1, values).unwrap();
        let difference = Bootstrap::default()
            .paired(
                &rows,
                Metric::Mae,
                &view(&[1.0, 2.0, 3.5]),
                &[view(&[2.0, 3.0, 4.0])],
            )
            .unwrap()[0];
        assert!((difference.improvement.unwrap() - 5.0 / 6.0).abs() < 1e-12);
    }

    #[test]
    fn what_cannot_be_known_is_none() {
        let rows = Rows::new(TaskKind::Binary, &[1.0, 0.0], &[1.0; 2], &[7, 7]).unwrap();
        let scores = ScoresView::new(1, &[0.9, 0.1]).unwrap();
        let estimate = Bootstrap::default()
            .estimate(&rows, Metric::Auc, &scores)
            .unwrap();
        assert_eq!(
            estimate,
            Estimate {
                value: Some(1.0),
                interval: None,
                undefined: 0
            }
        );
        let rows = Rows::new(TaskKind::Binary, &[1.0; 3], &[1.0; 3], &[1, 2, 3]).unwrap();
        let scores = ScoresView::new(1, &[0.9, 0.1, 0.2]).unwrap();
        let estimate = Bootstrap::default()
            .estimate(&rows, Metric::Auc, &scores)
            .unwrap();
        assert_eq!(
            estimate,
            Estimate {
                value: None,
                interval: None,
                undefined: 500
            }
        );
    }
}
