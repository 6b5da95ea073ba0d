//! Live quality: how good the answers were, now that their outcomes are known.

use serde::{Deserialize, Serialize};
use tidemill_core::Timestamp;
use tidemill_evaluate::report::MetricValue;
use tidemill_evaluate::{Bootstrap, EvaluateError, Metric, Rows, ScoresView, TaskKind};

/// Decisions of one model with their outcomes, and what the baselines of the version that answered would have
/// said to the very same logged features.
#[derive(Debug, Clone, PartialEq)]
pub struct LiveRows {
    /// The kind of question.
    pub task: TaskKind,
    /// What happened.
    pub targets: Vec<f64>,
    /// What was answered, row by row.
    pub scores: Vec<f64>,
    /// A hash of whom each answer was about.
    pub entities: Vec<u64>,
    /// The baselines by name, each with scores row by row.
    pub baselines: Vec<(String, Vec<f64>)>,
}

/// How a baseline would have done on the same decisions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveBaseline {
    /// `constant`, `recency_frequency`, `linear`.
    pub name: String,
    /// Its metric.
    pub value: Option<f64>,
    /// By how much the answers that were given are better, in the metric's good direction.
    pub improvement: Option<f64>,
    /// The 95 % interval of the improvement.
    pub interval: Option<(f64, f64)>,
}

/// The quality of the answers that were given in a period, as far as their outcomes are certain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LiveQuality {
    /// The beginning of the period in which the answers were given.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// The metric that the model is judged by.
    pub metric: Metric,
    /// Answers of versions whose outcome is known.
    pub answers: usize,
    /// Answers of the fallback whose outcome is known; they are not in the metrics.
    pub fallbacks: usize,
    /// Answers of versions whose decision is not in the decision log any more (`decisions_keep`); they are not in the metrics.
    #[serde(default)]
    pub not_kept: usize,
    /// The versions that answered.
    pub versions: Vec<u32>,
    /// The mean outcome: the base rate.
    pub base: Option<f64>,
    /// The mean score.
    pub mean_score: Option<f64>,
    /// Every metric with its 95 % interval; empty while there are no answers.
    pub metrics: Vec<MetricValue>,
    /// What the probabilities of these very answers said of the metric that the model is judged by; see [`expected`]. Absent where nobody asked.
    #[serde(default)]
    pub expected: Option<MetricValue>,
    /// The simple rules on the same decisions.
    pub baselines: Vec<LiveBaseline>,
}

impl LiveQuality {
    /// The value and interval of the metric that the model is judged by.
    pub fn primary(&self) -> Option<&MetricValue> {
        self.metrics
            .iter()
            .find(|value| value.metric == self.metric)
    }
}

/// What is said about the period of some rows, beside the rows themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct Period {
    /// The beginning of the period in which the answers were given.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// Answers of the fallback whose outcome is known.
    pub fallbacks: usize,
    /// Answers of versions whose decision is not kept any more.
    pub not_kept: usize,
    /// The versions that answered.
    pub versions: Vec<u32>,
}

/// Computes live quality.
///
/// # Errors
/// When the metric is of another task, or scores and targets do not fit each other.
pub fn live_quality(
    rows: &LiveRows,
    period: Period,
    metric: Metric,
    bootstrap: &Bootstrap,
) -> Result<LiveQuality, EvaluateError> {
    let mut quality = LiveQuality {
        from: period.from,
        until: period.until,
        metric,
        answers: rows.targets.len(),
        fallbacks: period.fallbacks,
        not_kept: period.not_kept,
        versions: period.versions,
        base: None,
        mean_score: None,
        metrics: Vec::new(),
        expected: None,
        baselines: Vec::new(),
    };
    if rows.targets.is_empty() {
        return Ok(quality);
    }
    let weights = vec![1.0; rows.targets.len()];
    let joined = Rows::new(rows.task, &rows.targets, &weights, &rows.entities)?;
    let width = rows.task.width();
    let scores = ScoresView::new(width, &rows.scores)?;
    if width == 1 {
        let mean = |values: &[f64]| Some(values.iter().sum::<f64>() / values.len() as f64);
        quality.base = mean(&rows.targets);
        quality.mean_score = mean(&rows.scores);
    }
    let metrics = Metric::of(rows.task);
    let estimates = bootstrap.estimates(&joined, &metrics, &scores)?;
    quality.metrics = metrics
        .into_iter()
        .zip(estimates)
        .map(|(metric, estimate)| MetricValue {
            metric,
            value: estimate.value,
            interval: estimate.interval,
        })
        .collect();
    let others = rows
        .baselines
        .iter()
        .map(|(_, scores)| ScoresView::new(width, scores))
        .collect::<Result<Vec<_>, _>>()?;
    let differences = bootstrap.paired(&joined, metric, &scores, &others)?;
    quality.baselines = rows
        .baselines
        .iter()
        .zip(differences)
        .map(|((name, _), difference)| LiveBaseline {
            name: name.clone(),
            value: difference.other,
            improvement: difference.improvement,
            interval: difference.interval,
        })
        .collect();
    Ok(quality)
}

/// The quality of answers of which the outcome is not certain yet, as their probabilities have it: an estimate, which assumes that
/// they are worth what those before them were.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EstimatedQuality {
    /// The beginning of the period in which the answers were given.
    pub from: Timestamp,
    /// Its end.
    pub until: Timestamp,
    /// How many answers of versions there were; at most the newest [`EXPECTED_ROWS_MAX`].
    pub answers: usize,
    /// What came of so many answers before them says how the probabilities are to be read; 0 where they are taken as they are.
    pub recalibrated_on: usize,
    /// What the metric will come to if what the probabilities are worth holds, and between which values it will lie.
    pub expected: MetricValue,
}

/// At most so many answers say what is expected of all.
pub const EXPECTED_ROWS_MAX: usize = 5_000;

/// What the probabilities of answers say of a metric, before it is known what happened
/// ([CBPE](tidemill_evaluate::Bootstrap::expected)): what was said, and what that is worth, row by row. Of more than
/// [`EXPECTED_ROWS_MAX`] answers every so many are taken. `None` without answers and for amounts.
///
/// # Errors
/// When the metric is of another task, or scores do not fit it.
pub fn expected(
    task: TaskKind,
    (scores, probabilities): (&[f64], &[f64]),
    metric: Metric,
    bootstrap: &Bootstrap,
) -> Result<Option<MetricValue>, EvaluateError> {
    let width = task.width();
    let step = (scores.len() / width).div_ceil(EXPECTED_ROWS_MAX).max(1);
    let some = |rows: &[f64]| -> Vec<f64> {
        let rows = rows.chunks_exact(width).step_by(step);
        rows.flatten().copied().collect()
    };
    let (scores, probabilities) = (some(scores), some(probabilities));
    if scores.is_empty() {
        return Ok(None);
    }
    let scores = ScoresView::new(width, &scores)?;
    let probabilities = ScoresView::new(width, &probabilities)?;
    let estimate = bootstrap.expected(task, metric, (&scores, &probabilities))?;
    Ok(estimate.map(|estimate| MetricValue {
        metric,
        value: estimate.value,
        interval: estimate.interval,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn period() -> Period {
        Period {
            from: Timestamp::EPOCH,
            until: Timestamp::MAX,
            fallbacks: 2,
            not_kept: 0,
            versions: vec![1],
        }
    }

    #[test]
    fn a_model_that_knows_is_better_than_a_constant() {
        let targets: Vec<f64> = (0..200).map(|row| f64::from(row % 2)).collect();
        let rows = LiveRows {
            task: TaskKind::Binary,
            scores: targets.iter().map(|target| 0.2 + 0.6 * target).collect(),
            entities: (0..200).collect(),
            baselines: vec![("constant".to_owned(), vec![0.5; 200])],
            targets,
        };
        let quality = live_quality(&rows, period(), Metric::Auc, &Bootstrap::default()).unwrap();
        assert_eq!(quality.primary().unwrap().value, Some(1.0));
        assert_eq!(quality.base, Some(0.5));
        assert!(quality.baselines[0].interval.unwrap().0 > 0.4);
        // probabilities of 0.2 and 0.8 claim less than what came
        let said = (&rows.scores[..], &rows.scores[..]);
        let expected = expected(rows.task, said, Metric::Auc, &Bootstrap::default());
        let expected = expected.unwrap().unwrap();
        assert_eq!(expected.metric, Metric::Auc);
        assert!((expected.value.unwrap() - 0.8).abs() < 0.03, "{expected:?}");
    }

    #[test]
    fn no_answers_are_no_error() {
        let rows = LiveRows {
            task: TaskKind::Regression,
            targets: Vec::new(),
            scores: Vec::new(),
            entities: Vec::new(),
            baselines: Vec::new(),
        };
        let quality = live_quality(&rows, period(), Metric::Mae, &Bootstrap::default()).unwrap();
        assert_eq!(
            (quality.answers, quality.fallbacks, quality.metrics.len()),
            (0, 2, 0)
        );
    }
}
