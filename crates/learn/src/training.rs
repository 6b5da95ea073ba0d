//! What a learner is given.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::FeatureTable;

use crate::LearnError;

/// The kind of question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Will it happen? Targets are 0 or 1, scores are probabilities.
    Binary,
    /// How much? Targets and scores are finite numbers.
    Regression,
    /// Which one? Targets are places in `classes`, scores are one probability per class.
    Multiclass {
        /// What the answers are called; at least two.
        classes: Vec<String>,
    },
}

impl Task {
    /// How many values one row of scores has.
    pub fn width(&self) -> usize {
        match self {
            Self::Binary | Self::Regression => 1,
            Self::Multiclass { classes } => classes.len(),
        }
    }
}

/// Observations with their targets, **in the order of their moments**: learners that choose something on inner
/// validation data take the newest rows for it, as life will.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainingSet {
    /// What was known.
    pub features: FeatureTable,
    /// 0 or 1, a value, or the place of the class; one per row.
    pub targets: Vec<f64>,
    /// How much a row counts, ≥ 0; one per row.
    pub weights: Vec<f64>,
    /// A hash of the entity that the row is about: rows of one entity are not independent.
    pub entities: Vec<u64>,
}

impl TrainingSet {
    /// Rows that all count the same and are each about another entity.
    ///
    /// # Errors
    /// When there is not one target per row.
    pub fn unweighted(features: FeatureTable, targets: Vec<f64>) -> Result<Self, LearnError> {
        let rows = features.rows();
        if targets.len() != rows {
            return Err(LearnError::Length {
                what: "targets",
                rows,
                found: targets.len(),
            });
        }
        Ok(Self {
            features,
            targets,
            weights: vec![1.0; rows],
            entities: (0..rows as u64).collect(),
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.features.rows()
    }

    /// The rows with these indices, in that order.
    pub fn take(&self, rows: &[usize]) -> Self {
        Self {
            features: self.features.take(rows),
            targets: rows.iter().map(|&row| self.targets[row]).collect(),
            weights: rows.iter().map(|&row| self.weights[row]).collect(),
            entities: rows.iter().map(|&row| self.entities[row]).collect(),
        }
    }

    /// Checks that a learner can start: there are rows, every list has one entry per row, targets fit the task,
    /// and weights are finite, not negative and not all zero.
    ///
    /// # Errors
    /// Says which of these does not hold, and where.
    pub fn check(&self, task: &Task) -> Result<(), LearnError> {
        let rows = self.rows();
        for (what, found) in [
            ("targets", self.targets.len()),
            ("weights", self.weights.len()),
            ("entities", self.entities.len()),
        ] {
            if found != rows {
                return Err(LearnError::Length { what, rows, found });
            }
        }
        if rows == 0 {
            return Err(LearnError::NoRows);
        }
        if let Task::Multiclass { classes } = task
            && classes.len() < 2
        {
            return Err(LearnError::Classes(classes.len()));
        }
        let fits = |target: f64| match task {
            Task::Binary => target == 0.0 || target == 1.0,
            Task::Regression => target.is_finite(),
            Task::Multiclass { classes } => {
                target >= 0.0 && target.fract() == 0.0 && target < classes.len() as f64
            }
        };
        if let Some(row) = self.targets.iter().position(|&target| !fits(target)) {
            return Err(LearnError::Target {
                row,
                target: self.targets[row],
            });
        }
        if let Some(row) = self
            .weights
            .iter()
            .position(|weight| !weight.is_finite() || *weight < 0.0)
        {
            return Err(LearnError::Weight {
                row,
                weight: self.weights[row],
            });
        }
        if self.weights.iter().all(|&weight| weight == 0.0) {
            return Err(LearnError::NoRows);
        }
        Ok(())
    }

    /// Indices of the older `1 − share` and of the newer `share` of the rows; both hold at least one row when
    /// there are two.
    pub(crate) fn older_and_newer(&self, share: f64) -> (Vec<usize>, Vec<usize>) {
        let rows = self.rows();
        let newer =
            ((rows as f64 * share).round() as usize).clamp(1, rows.saturating_sub(1).max(1));
        ((0..rows - newer).collect(), (rows - newer..rows).collect())
    }
}
