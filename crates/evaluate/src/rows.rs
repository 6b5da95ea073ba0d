//! What is evaluated: targets with weights and entities, and scores about them.

use serde::{Deserialize, Serialize};

use crate::Metric;

/// The kind of question, as far as evaluation cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskKind {
    /// Targets are 0 or 1, scores are probabilities.
    Binary,
    /// Targets and scores are values.
    Regression,
    /// Targets are places of classes, scores are one probability per class.
    Multiclass {
        /// How many classes, at least 2.
        classes: usize,
    },
}

impl TaskKind {
    /// How many values one row of scores has.
    pub fn width(self) -> usize {
        match self {
            Self::Binary | Self::Regression => 1,
            Self::Multiclass { classes } => classes,
        }
    }
}

/// Why something could not be evaluated.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EvaluateError {
    /// Nothing to evaluate.
    #[error("evaluate no rows: there are none, or all weights are zero")]
    NoRows,
    /// One list is longer or shorter than the targets.
    #[error("match {found} {what} with {rows} targets")]
    Length {
        /// Which list.
        what: &'static str,
        /// How many targets.
        rows: usize,
        /// How many entries.
        found: usize,
    },
    /// Scores have another width than the task.
    #[error("read scores of width {found}: the task has {expected}")]
    Width {
        /// Of the task.
        expected: usize,
        /// Of the scores.
        found: usize,
    },
    /// A target does not fit the task.
    #[error("read target {target} of row {row}: it does not fit the task")]
    Target {
        /// Which row.
        row: usize,
        /// What was found.
        target: f64,
    },
    /// A weight is not a finite number ≥ 0.
    #[error("read weight {weight} of row {row}: weights are finite and not negative")]
    Weight {
        /// Which row.
        row: usize,
        /// What was found.
        weight: f64,
    },
    /// A score is NaN or infinite.
    #[error("read score {score} of row {row}: scores are finite")]
    Score {
        /// Which row.
        row: usize,
        /// What was found.
        score: f64,
    },
    /// A metric of another task.
    #[error("compute {metric} of a {task:?} task: its metrics are {known}", metric = metric.name())]
    WrongTask {
        /// What was asked.
        metric: Metric,
        /// Of what.
        task: TaskKind,
        /// What can be asked.
        known: String,
    },
    /// No metric has that name.
    #[error("find the metric '{name}': the metrics are {known}")]
    UnknownMetric {
        /// What was written.
        name: String,
        /// What can be written.
        known: String,
    },
    /// A part of a split is too small.
    #[error("split by time: {0}")]
    Split(String),
}

/// Rows with their outcomes, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct Rows<'a> {
    task: TaskKind,
    targets: &'a [f64],
    weights: &'a [f64],
    entities: &'a [u64],
}

impl<'a> Rows<'a> {
    /// One target, one weight ≥ 0 and one entity hash per row.
    ///
    /// # Errors
    /// When lists differ in length, there are no rows of positive weight, a target does not fit the task, or a weight is
    /// negative or not finite.
    pub fn new(
        task: TaskKind,
        targets: &'a [f64],
        weights: &'a [f64],
        entities: &'a [u64],
    ) -> Result<Self, EvaluateError> {
        let rows = targets.len();
        for (what, found) in [("weights", weights.len()), ("entities", entities.len())] {
            if found != rows {
                return Err(EvaluateError::Length { what, rows, found });
            }
        }
        if let Some(row) = weights
            .iter()
            .position(|weight| !weight.is_finite() || *weight < 0.0)
        {
            return Err(EvaluateError::Weight {
                row,
                weight: weights[row],
            });
        }
        if weights.iter().all(|weight| *weight == 0.0) {
            return Err(EvaluateError::NoRows);
        }
        let fits = |target: f64| match task {
            TaskKind::Binary => target == 0.0 || target == 1.0,
            TaskKind::Regression => target.is_finite(),
            TaskKind::Multiclass { classes } => {
                target >= 0.0 && target.fract() == 0.0 && target < classes as f64
            }
        };
        if let Some(row) = targets.iter().position(|target| !fits(*target)) {
            return Err(EvaluateError::Target {
                row,
                target: targets[row],
            });
        }
        Ok(Self {
            task,
            targets,
            weights,
            entities,
        })
    }

    /// The kind of question.
    pub fn task(&self) -> TaskKind {
        self.task
    }

    /// The number of rows, at least 1.
    pub fn count(&self) -> usize {
        self.targets.len()
    }

    /// The number of different entities.
    pub fn entity_count(&self) -> usize {
        let mut entities = self.entities.to_vec();
        entities.sort_unstable();
        entities.dedup();
        entities.len()
    }

    /// One outcome per row.
    pub fn targets(&self) -> &'a [f64] {
        self.targets
    }

    /// How much each row counts.
    pub fn weights(&self) -> &'a [f64] {
        self.weights
    }

    /// Whom each row is about.
    pub fn entities(&self) -> &'a [u64] {
        self.entities
    }

    /// Checks that scores fit these rows.
    pub(crate) fn check(&self, scores: &ScoresView<'_>) -> Result<(), EvaluateError> {
        if scores.width != self.task.width() {
            return Err(EvaluateError::Width {
                expected: self.task.width(),
                found: scores.width,
            });
        }
        if scores.rows() != self.count() {
            return Err(EvaluateError::Length {
                what: "rows of scores",
                rows: self.count(),
                found: scores.rows(),
            });
        }
        match scores.values.iter().position(|score| !score.is_finite()) {
            Some(place) => Err(EvaluateError::Score {
                row: place / scores.width,
                score: scores.values[place],
            }),
            None => Ok(()),
        }
    }
}

/// Scores of many rows, borrowed, row by row.
#[derive(Debug, Clone, Copy)]
pub struct ScoresView<'a> {
    width: usize,
    values: &'a [f64],
}

impl<'a> ScoresView<'a> {
    /// Row-major values, `width` per row.
    ///
    /// # Errors
    /// When the values do not fill whole rows.
    pub fn new(width: usize, values: &'a [f64]) -> Result<Self, EvaluateError> {
        if width == 0 || !values.len().is_multiple_of(width) {
            return Err(EvaluateError::Length {
                what: "scores",
                rows: width,
                found: values.len(),
            });
        }
        Ok(Self { width, values })
    }

    /// Values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// The values of one row.
    pub fn row(&self, row: usize) -> &'a [f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// All values, row by row.
    pub fn values(&self) -> &'a [f64] {
        self.values
    }
}
