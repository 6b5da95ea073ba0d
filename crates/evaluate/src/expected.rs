//! What calibrated probabilities say of their own quality, before it is known what happened.
//!
//! Confidence-based performance estimation (CBPE): where a probability of 0.7 is right, seven of ten such answers come true, so that the
//! probabilities alone say what a metric will come to. Outcomes are drawn from them many times; the mean over the draws is the estimate, and
//! their spread is what chance leaves open. It assumes that the probabilities are calibrated: what people do when they look alike has not
//! changed (no concept drift). Only a change of who is asked about shows. Where it is known from earlier answers how probabilities are to be
//! read, outcomes are drawn from what they are worth, while the metric judges what was said.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Bootstrap, Estimate, EvaluateError, Metric, Rows, ScoresView, TaskKind};

impl Bootstrap {
    /// What a metric of `scores` will come to over answers of which nobody knows the outcome yet, if every one of the `probabilities` holds,
    /// and between which values it will lie. Both have a row for each answer; where nothing else is known they are the same. `None` for
    /// amounts, which are no probabilities. Costs `resamples` times the metric.
    ///
    /// # Errors
    /// When there are no scores, they do not fit the task or the probabilities, or the metric is of another one.
    pub fn expected(
        &self,
        task: TaskKind,
        metric: Metric,
        (scores, probabilities): (&ScoresView<'_>, &ScoresView<'_>),
    ) -> Result<Option<Estimate>, EvaluateError> {
        if task == TaskKind::Regression {
            return Ok(None);
        }
        let rows = scores.rows();
        if probabilities.rows() != rows {
            return Err(EvaluateError::Length {
                what: "probabilities",
                rows,
                found: probabilities.rows(),
            });
        }
        let (weights, entities) = (vec![1.0; rows], vec![0; rows]);
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut targets = vec![0.0; rows];
        let mut drawn = Vec::with_capacity(self.resamples);
        for _ in 0..self.resamples {
            for (row, target) in targets.iter_mut().enumerate() {
                *target = draw(probabilities.row(row), random.random());
            }
            let outcomes = Rows::new(task, &targets, &weights, &entities)?;
            drawn.push(metric.compute(&outcomes, scores)?);
        }
        let (interval, undefined) = self.interval(&drawn, rows);
        let defined: Vec<f64> = drawn.into_iter().flatten().collect();
        let mean = defined.iter().sum::<f64>() / defined.len() as f64;
        Ok(Some(Estimate {
            value: (!defined.is_empty()).then_some(mean),
            interval,
            undefined,
        }))
    }
}

/// An outcome of one answer, by a number from 0 to 1: whether it comes true, or which class.
fn draw(probabilities: &[f64], at: f64) -> f64 {
    if let [probability] = probabilities {
        return f64::from(u8::from(at < *probability));
    }
    let mut below = 0.0;
    let reached = probabilities.iter().position(|probability| {
        below += probability;
        at < below
    });
    // rounding leaves a little beyond the last one
    reached.unwrap_or(probabilities.len() - 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Probabilities between 0 and 1, unevenly, and what comes of them by the same chance.
    fn answers(rows: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let scores: Vec<f64> = (0..rows)
            .map(|_| random.random_range(0.0..1.0_f64).powi(2))
            .collect();
        let happened = scores.iter().map(|score| draw(&[*score], random.random()));
        (happened.collect(), scores)
    }

    fn expected(metric: Metric, scores: &[f64]) -> Estimate {
        let view = ScoresView::new(1, scores).unwrap();
        let bootstrap = Bootstrap {
            resamples: 200,
            ..Bootstrap::default()
        };
        let found = bootstrap.expected(TaskKind::Binary, metric, (&view, &view));
        found.unwrap().unwrap()
    }

    #[test]
    fn sums_that_have_a_formula_are_met() {
        let (_, scores) = answers(4_000, 1);
        let mean = |value: &dyn Fn(f64) -> f64| {
            scores.iter().map(|score| value(*score)).sum::<f64>() / scores.len() as f64
        };
        let brier = mean(&|p| p * (1.0 - p));
        let entropy = mean(&|p| -p * p.max(1e-15).ln() - (1.0 - p) * (1.0 - p).max(1e-15).ln());
        for (metric, wanted) in [(Metric::Brier, brier), (Metric::LogLoss, entropy)] {
            let found = expected(metric, &scores);
            assert!(
                (found.value.unwrap() - wanted).abs() < 0.003,
                "{found:?} {wanted}"
            );
        }
    }

    #[test]
    fn what_comes_lies_in_the_interval_about_as_often_as_it_says() {
        let rounds = 60;
        let inside = (0..rounds).filter(|round| {
            let (happened, scores) = answers(300, 10 + round);
            let (weights, entities) = (vec![1.0; 300], vec![0; 300]);
            let rows = Rows::new(TaskKind::Binary, &happened, &weights, &entities).unwrap();
            let view = ScoresView::new(1, &scores).unwrap();
            let came = Metric::Auc.compute(&rows, &view).unwrap().unwrap();
            let (low, high) = expected(Metric::Auc, &scores).interval.unwrap();
            low <= came && came <= high
        });
        // 95 of 100, give or take three standard deviations
        assert!(inside.count() >= 52);
    }

    #[test]
    fn classes_are_drawn_by_their_shares_and_amounts_are_not_known() {
        let found: Vec<f64> = [0.0, 0.49, 0.51, 0.79, 0.81, 1.0]
            .map(|at| draw(&[0.5, 0.3, 0.2 - 1e-17], at))
            .to_vec();
        assert_eq!(found, [0.0, 0.0, 1.0, 1.0, 2.0, 2.0]);
        let scores = [0.5, 0.3, 0.2, 0.1, 0.1, 0.8];
        let view = ScoresView::new(3, &scores).unwrap();
        let bootstrap = Bootstrap::default();
        let task = TaskKind::Multiclass { classes: 3 };
        let accuracy = bootstrap.expected(task, Metric::Accuracy, (&view, &view));
        let value = accuracy.unwrap().unwrap().value.unwrap();
        assert!((value - 0.65).abs() < 0.05, "{value}");
        let view = ScoresView::new(1, &scores).unwrap();
        let amounts = bootstrap.expected(TaskKind::Regression, Metric::Mae, (&view, &view));
        assert_eq!(amounts.unwrap(), None);
    }

    #[test]
    fn what_was_said_is_judged_by_what_it_is_worth() {
        // certain of themselves where they should not be: what is said is 0.1 or 0.9, what it is worth 0.3 or 0.7
        let said: Vec<f64> = (0..2_000).map(|row| [0.1, 0.9][row % 2]).collect();
        let worth: Vec<f64> = (0..2_000).map(|row| [0.3, 0.7][row % 2]).collect();
        let (said, worth) = (
            ScoresView::new(1, &said).unwrap(),
            ScoresView::new(1, &worth).unwrap(),
        );
        let bootstrap = Bootstrap::default();
        let found = bootstrap.expected(TaskKind::Binary, Metric::Brier, (&said, &worth));
        // 0.7 × 0.1² + 0.3 × 0.9²
        let value = found.unwrap().unwrap().value.unwrap();
        assert!((value - 0.25).abs() < 0.01, "{value}");
        let few = ScoresView::new(1, &[0.5]).unwrap();
        let other = bootstrap.expected(TaskKind::Binary, Metric::Brier, (&said, &few));
        assert!(other.is_err());
    }

    #[test]
    fn no_answers_are_an_error_and_certain_ones_no_panic() {
        let none = ScoresView::new(1, &[]).unwrap();
        let bootstrap = Bootstrap::default();
        assert!(
            bootstrap
                .expected(TaskKind::Binary, Metric::Auc, (&none, &none))
                .is_err()
        );
        let certain = ScoresView::new(1, &[0.0, 0.0]).unwrap();
        let found = bootstrap.expected(TaskKind::Binary, Metric::Auc, (&certain, &certain));
        assert_eq!(
            found.unwrap().unwrap().value,
            None,
            "AUC of one class is not defined"
        );
    }
}
