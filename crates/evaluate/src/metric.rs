//! The measures of quality, each with its name, direction and task.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::prepared::{Clusters, Prepared, Scratch};
use crate::{EvaluateError, Rows, ScoresView, TaskKind};

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Larger values.
    Higher,
    /// Smaller values.
    Lower,
    /// Values closer to zero.
    Zero,
}

/// A measure of quality. All are weighted by the rows' weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Metric {
    /// Area under the ROC curve: the probability that a positive row scores higher than a negative one, ties one half.
    Auc,
    /// Average precision: Σ (recallᵢ − recallᵢ₋₁) · precisionᵢ over falling score thresholds.
    AveragePrecision,
    /// Mean of −ln of the probability given to what happened, kept 10⁻¹⁵ away from 0 and 1.
    LogLoss,
    /// Mean squared difference between probability and outcome (Brier 1950).
    Brier,
    /// Expected calibration error over 12 bins of equal weight: the mean distance between the mean probability and
    /// the share of outcomes (Naeini et al. 2015). For several classes, of the most probable class (Guo et al. 2017).
    CalibrationError,
    /// The largest such distance of any bin.
    CalibrationErrorMax,
    /// The share of positives among the 10 % with the highest scores, as a multiple of the overall share.
    Lift10,
    /// As `Lift10` for 20 %.
    Lift20,
    /// The share of rows whose most probable class happened.
    Accuracy,
    /// The share of rows where one of the three most probable classes happened.
    AccuracyAt3,
    /// Mean absolute error.
    Mae,
    /// Root of the mean squared error.
    Rmse,
    /// Spearman's rank correlation, ties with their mean rank.
    Spearman,
    /// 1 − squared error / variance of the targets.
    R2,
    /// Mean of score − target.
    Bias,
}

impl Metric {
    /// All of them, in the order in which reports show them.
    pub const ALL: [Metric; 15] = [
        Self::Auc,
        Self::AveragePrecision,
        Self::LogLoss,
        Self::Brier,
        Self::CalibrationError,
        Self::CalibrationErrorMax,
        Self::Lift10,
        Self::Lift20,
        Self::Accuracy,
        Self::AccuracyAt3,
        Self::Mae,
        Self::Rmse,
        Self::Spearman,
        Self::R2,
        Self::Bias,
    ];

    /// As it is written in project files: `auc`, `average_precision`, …
    pub fn name(self) -> &'static str {
        match self {
            Self::Auc => "auc",
            Self::AveragePrecision => "average_precision",
            Self::LogLoss => "log_loss",
            Self::Brier => "brier",
            Self::CalibrationError => "calibration_error",
            Self::CalibrationErrorMax => "calibration_error_max",
            Self::Lift10 => "lift_10",
            Self::Lift20 => "lift_20",
            Self::Accuracy => "accuracy",
            Self::AccuracyAt3 => "accuracy_at_3",
            Self::Mae => "mae",
            Self::Rmse => "rmse",
            Self::Spearman => "spearman",
            Self::R2 => "r2",
            Self::Bias => "bias",
        }
    }

    /// As it is said in sentences: `AUC`, `average precision`, …
    pub fn label(self) -> &'static str {
        match self {
            Self::Auc => "AUC",
            Self::AveragePrecision => "average precision",
            Self::LogLoss => "log-loss",
            Self::Brier => "Brier score",
            Self::CalibrationError => "calibration error",
            Self::CalibrationErrorMax => "largest calibration error",
            Self::Lift10 => "lift in the top 10 %",
            Self::Lift20 => "lift in the top 20 %",
            Self::Accuracy => "accuracy",
            Self::AccuracyAt3 => "accuracy among the top 3",
            Self::Mae => "mean absolute error",
            Self::Rmse => "root mean squared error",
            Self::Spearman => "rank correlation",
            Self::R2 => "R²",
            Self::Bias => "bias",
        }
    }

    /// Which way is better.
    pub fn direction(self) -> Direction {
        match self {
            Self::Auc
            | Self::AveragePrecision
            | Self::Lift10
            | Self::Lift20
            | Self::Accuracy
            | Self::AccuracyAt3
            | Self::Spearman
            | Self::R2 => Direction::Higher,
            Self::LogLoss
            | Self::Brier
            | Self::CalibrationError
            | Self::CalibrationErrorMax
            | Self::Mae
            | Self::Rmse => Direction::Lower,
            Self::Bias => Direction::Zero,
        }
    }

    /// Whether it can be computed for that task.
    pub fn fits(self, task: TaskKind) -> bool {
        match task {
            TaskKind::Binary => matches!(
                self,
                Self::Auc
                    | Self::AveragePrecision
                    | Self::LogLoss
                    | Self::Brier
                    | Self::CalibrationError
                    | Self::CalibrationErrorMax
                    | Self::Lift10
                    | Self::Lift20
            ),
            TaskKind::Regression => {
                matches!(
                    self,
                    Self::Mae | Self::Rmse | Self::Spearman | Self::R2 | Self::Bias
                )
            }
            TaskKind::Multiclass { .. } => matches!(
                self,
                Self::Accuracy
                    | Self::AccuracyAt3
                    | Self::LogLoss
                    | Self::CalibrationError
                    | Self::CalibrationErrorMax
            ),
        }
    }

    /// All metrics of a task, in the order in which reports show them.
    pub fn of(task: TaskKind) -> Vec<Metric> {
        Self::ALL
            .into_iter()
            .filter(|metric| metric.fits(task))
            .collect()
    }

    /// What a model of the task is compared by unless the project says otherwise: AUC, log-loss, and for values the mean absolute error, which speaks in the units of the target
    /// and is not decided by a few large ones.
    pub fn primary(task: TaskKind) -> Metric {
        match task {
            TaskKind::Binary => Self::Auc,
            TaskKind::Regression => Self::Mae,
            TaskKind::Multiclass { .. } => Self::LogLoss,
        }
    }

    /// How much better `value` is than `other`: above 0 is better.
    pub fn improvement(self, value: f64, other: f64) -> f64 {
        match self.direction() {
            Direction::Higher => value - other,
            Direction::Lower => other - value,
            Direction::Zero => other.abs() - value.abs(),
        }
    }

    /// The value over all rows; `None` where it is not defined (AUC of one class, correlation of a constant).
    ///
    /// # Errors
    /// When the metric is of another task, or the scores do not fit the rows.
    pub fn compute(
        self,
        rows: &Rows<'_>,
        scores: &ScoresView<'_>,
    ) -> Result<Option<f64>, EvaluateError> {
        let clusters = Clusters::one();
        let prepared = Prepared::new(self, rows, scores, &clusters)?;
        Ok(prepared.value(&[1], &mut Scratch::default()))
    }

    /// The metric, if it fits the task.
    pub(crate) fn check(self, task: TaskKind) -> Result<(), EvaluateError> {
        if self.fits(task) {
            return Ok(());
        }
        Err(EvaluateError::WrongTask {
            metric: self,
            task,
            known: names(&Self::of(task)),
        })
    }
}

fn names(metrics: &[Metric]) -> String {
    metrics
        .iter()
        .map(|metric| metric.name())
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Metric {
    type Err = EvaluateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|metric| metric.name() == text)
            .ok_or_else(|| EvaluateError::UnknownMetric {
                name: text.chars().take(64).collect(),
                known: names(&Self::ALL),
            })
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> Self {
        metric.name().to_owned()
    }
}

impl TryFrom<String> for Metric {
    type Error = EvaluateError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(task: TaskKind, metric: Metric, rows: &[(f64, f64, &[f64])], expected: f64) {
        let targets: Vec<f64> = rows.iter().map(|row| row.0).collect();
        let weights: Vec<f64> = rows.iter().map(|row| row.1).collect();
        let scores: Vec<f64> = rows.iter().flat_map(|row| row.2.to_vec()).collect();
        let entities: Vec<u64> = (0..rows.len() as u64).collect();
        let rows = Rows::new(task, &targets, &weights, &entities).unwrap();
        let found = metric
            .compute(&rows, &ScoresView::new(task.width(), &scores).unwrap())
            .unwrap()
            .unwrap();
        assert!(
            (found - expected).abs() < 1e-12,
            "{metric} is {found}, not {expected}"
        );
    }

    /// Four rows; the numbers are worked out by hand.
    const BINARY: [(f64, f64, &[f64]); 4] = [
        (1.0, 1.0, &[0.8]),
        (0.0, 1.0, &[0.6]),
        (1.0, 2.0, &[0.6]),
        (0.0, 3.0, &[0.1]),
    ];

    #[test]
    fn binary_metrics() {
        // Pairs: (1·1 + 1·3) + 2·(½·1 + 3) = 11 of 3·4 = 12.
        check(TaskKind::Binary, Metric::Auc, &BINARY, 11.0 / 12.0);
        // Precision 1 at recall ⅓, then ¾ at recall 1.
        check(
            TaskKind::Binary,
            Metric::AveragePrecision,
            &BINARY,
            1.0 / 3.0 + 2.0 / 3.0 * 0.75,
        );
        let loss = -(0.8_f64.ln() + 0.4_f64.ln() + 2.0 * 0.6_f64.ln() + 3.0 * 0.9_f64.ln()) / 7.0;
        check(TaskKind::Binary, Metric::LogLoss, &BINARY, loss);
        check(
            TaskKind::Binary,
            Metric::Brier,
            &BINARY,
            (0.04 + 0.36 + 2.0 * 0.16 + 3.0 * 0.01) / 7.0,
        );
        // The top 10 % are 0.7 of the first row's weight: all positive, against 3/7.
        check(TaskKind::Binary, Metric::Lift10, &BINARY, 7.0 / 3.0);
        // The top 20 % are the first row and 0.4 of the tie, two thirds positive.
        check(
            TaskKind::Binary,
            Metric::Lift20,
            &BINARY,
            (1.0 + 0.4 * 2.0 / 3.0) / 1.4 * 7.0 / 3.0,
        );
    }

    #[test]
    fn calibration_error_of_one_and_of_several_bins() {
        let constant: [(f64, f64, &[f64]); 4] = [
            (1.0, 1.0, &[0.5]),
            (0.0, 1.0, &[0.5]),
            (0.0, 1.0, &[0.5]),
            (0.0, 1.0, &[0.5]),
        ];
        check(TaskKind::Binary, Metric::CalibrationError, &constant, 0.25);
        check(
            TaskKind::Binary,
            Metric::CalibrationErrorMax,
            &constant,
            0.25,
        );
        let apart: [(f64, f64, &[f64]); 2] = [(0.0, 1.0, &[0.1]), (1.0, 3.0, &[0.7])];
        check(
            TaskKind::Binary,
            Metric::CalibrationError,
            &apart,
            (0.1 + 3.0 * 0.3) / 4.0,
        );
        check(TaskKind::Binary, Metric::CalibrationErrorMax, &apart, 0.3);
    }

    #[test]
    fn regression_metrics() {
        let rows: [(f64, f64, &[f64]); 4] = [
            (1.0, 1.0, &[2.0]),
            (2.0, 1.0, &[1.0]),
            (3.0, 1.0, &[3.0]),
            (4.0, 1.0, &[6.0]),
        ];
        check(TaskKind::Regression, Metric::Mae, &rows, 1.0);
        check(
            TaskKind::Regression,
            Metric::Rmse,
            &rows,
            (6.0_f64 / 4.0).sqrt(),
        );
        check(TaskKind::Regression, Metric::Bias, &rows, 0.5);
        check(TaskKind::Regression, Metric::R2, &rows, 1.0 - 6.0 / 5.0);
        check(TaskKind::Regression, Metric::Spearman, &rows, 0.8);
    }

    #[test]
    fn multiclass_metrics() {
        let task = TaskKind::Multiclass { classes: 4 };
        let rows: [(f64, f64, &[f64]); 2] = [
            (0.0, 1.0, &[0.7, 0.1, 0.1, 0.1]),
            (3.0, 3.0, &[0.4, 0.3, 0.2, 0.1]),
        ];
        check(task, Metric::Accuracy, &rows, 0.25);
        check(task, Metric::AccuracyAt3, &rows, 0.25);
        check(
            task,
            Metric::LogLoss,
            &rows,
            -(0.7_f64.ln() + 3.0 * 0.1_f64.ln()) / 4.0,
        );
        check(
            task,
            Metric::CalibrationError,
            &rows,
            (0.3 + 3.0 * 0.4) / 4.0,
        );
    }

    #[test]
    fn a_weight_of_two_is_a_row_twice() {
        let once: [(f64, f64, &[f64]); 5] = [
            (1.0, 2.0, &[0.8]),
            (0.0, 1.0, &[0.6]),
            (1.0, 1.0, &[0.6]),
            (0.0, 2.0, &[0.1]),
            (1.0, 1.0, &[0.05]),
        ];
        let twice: Vec<(f64, f64, &[f64])> = once
            .iter()
            .flat_map(|row| vec![(row.0, 1.0, row.2); row.1 as usize])
            .collect();
        for (task, metrics) in [
            (TaskKind::Binary, Metric::of(TaskKind::Binary)),
            (TaskKind::Regression, Metric::of(TaskKind::Regression)),
        ] {
            for metric in metrics {
                let targets: Vec<f64> = twice.iter().map(|row| row.0).collect();
                let scores: Vec<f64> = twice.iter().map(|row| row.2[0]).collect();
                let ones = vec![1.0; twice.len()];
                let entities = vec![0; twice.len()];
                let rows = Rows::new(task, &targets, &ones, &entities).unwrap();
                let expected = metric
                    .compute(&rows, &ScoresView::new(1, &scores).unwrap())
                    .unwrap()
                    .unwrap();
                check(task, metric, &once, expected);
            }
        }
    }

    #[test]
    fn what_is_not_defined_is_none() {
        let rows = Rows::new(TaskKind::Binary, &[1.0, 1.0], &[1.0; 2], &[1, 2]).unwrap();
        let scores = ScoresView::new(1, &[0.3, 0.4]).unwrap();
        assert_eq!(Metric::Auc.compute(&rows, &scores), Ok(None));
        let rows = Rows::new(TaskKind::Regression, &[1.0, 2.0], &[1.0; 2], &[1, 2]).unwrap();
        let scores = ScoresView::new(1, &[0.3, 0.3]).unwrap();
        assert_eq!(Metric::Spearman.compute(&rows, &scores), Ok(None));
    }

    #[test]
    fn names_are_read_and_mistakes_are_told_what_there_is() {
        for metric in Metric::ALL {
            assert_eq!(metric.name().parse::<Metric>(), Ok(metric));
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("\"{}\"", metric.name()));
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
        }
        let error = "acc".parse::<Metric>().unwrap_err().to_string();
        assert!(
            error.starts_with("find the metric 'acc': the metrics are auc, average_precision"),
            "{error}"
        );
        let error = Metric::Auc
            .check(TaskKind::Regression)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "compute auc of a Regression task: its metrics are mae, rmse, spearman, r2, bias"
        );
    }
}
