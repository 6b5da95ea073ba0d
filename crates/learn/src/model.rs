//! The seam between learners and everyone else: [`Learner`] and [`Model`].

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureColumn, FeatureTable, FeatureType, FeatureValue};

use crate::blend::BlendModel;
use crate::boosted::BoostedModel;
use crate::constant::ConstantModel;
use crate::linear::LinearModel;
use crate::recency_frequency::RecencyFrequencyModel;
use crate::{Scores, Task, TrainingSet};

/// Why a model could not be made or used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LearnError {
    /// Nothing to learn from.
    #[error("learn from no rows: the training set is empty, or all its weights are zero")]
    NoRows,
    /// One list is longer or shorter than the table.
    #[error("read the training set: {rows} rows of features but {found} {what}")]
    Length {
        /// Which list.
        what: &'static str,
        /// Rows of the table.
        rows: usize,
        /// Entries of the list.
        found: usize,
    },
    /// A target does not fit the task.
    #[error(
        "read target {target} of row {row}: binary targets are 0 or 1, values are finite, classes are whole numbers below their count"
    )]
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
    /// A choice needs alternatives.
    #[error("learn to choose among {0} classes: name at least two")]
    Classes(usize),
    /// A learner or model needs a column that is not there.
    #[error("find the feature '{name}' among: {known}")]
    Column {
        /// What was looked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The table has other columns than the model was trained on.
    #[error("match feature {place}: the model was trained on {expected}, the table has {found}")]
    Columns {
        /// Which column, from 0.
        place: usize,
        /// Name and type in training.
        expected: String,
        /// Name and type now.
        found: String,
    },
    /// A parameter is out of its range.
    #[error("use parameter {name} = {value}: {allowed}")]
    Parameter {
        /// Which parameter.
        name: &'static str,
        /// What was given.
        value: f64,
        /// What it may be.
        allowed: &'static str,
    },
    /// The boosting library failed or made trees that cannot be read.
    #[error("grow trees: {0}")]
    Boosting(String),
}

/// A way to make a model from data. Implementations are plain parameter structs with defaults; `fit` keeps
/// nothing, so one learner can be used for many models at the same time.
pub trait Learner: Send + Sync {
    /// One word in `snake_case`, used in reports: `boosted`, `linear`.
    fn name(&self) -> &str;

    /// Makes a model. The same inputs and seed give the same serialised bytes.
    ///
    /// # Errors
    /// When the training set fails [`TrainingSet::check`], a parameter is out of range, or a needed column is absent.
    fn fit(&self, task: &Task, train: &TrainingSet, seed: u64) -> Result<Model, LearnError>;
}

/// A trained answerer. Serialised, it is the heart of the packaged artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Model {
    /// The same answer for everyone.
    Constant(ConstantModel),
    /// The rule that needs no machine learning: how recently, how often.
    RecencyFrequency(RecencyFrequencyModel),
    /// Logistic, ridge or multinomial logistic regression.
    Linear(LinearModel),
    /// Gradient-boosted trees.
    Boosted(BoostedModel),
    /// The mean of trees and logistic regression.
    Blend(Box<BlendModel>),
}

impl Model {
    /// `constant`, `recency_frequency`, `linear`, `boosted` or `blend`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Constant(_) => "constant",
            Self::RecencyFrequency(_) => "recency_frequency",
            Self::Linear(_) => "linear",
            Self::Boosted(_) => "boosted",
            Self::Blend(_) => "blend",
        }
    }

    /// What was asked.
    pub fn task(&self) -> &Task {
        match self {
            Self::Constant(model) => &model.task,
            Self::RecencyFrequency(model) => &model.task,
            Self::Linear(model) => &model.task,
            Self::Boosted(model) => &model.task,
            Self::Blend(model) => model.task(),
        }
    }

    /// The columns that every row must have, in that order: those of the training table.
    pub fn columns(&self) -> &[FeatureColumn] {
        match self {
            Self::Constant(model) => &model.columns,
            Self::RecencyFrequency(model) => &model.columns,
            Self::Linear(model) => model.columns(),
            Self::Boosted(model) => model.columns(),
            Self::Blend(model) => model.columns(),
        }
    }

    /// Checks names and types of a table's columns against those of the training table. To be called once, when a
    /// model meets a feature definition; labels and units may differ.
    ///
    /// # Errors
    /// Names the first column that differs.
    pub fn check_columns(&self, columns: &[FeatureColumn]) -> Result<(), LearnError> {
        let name = |column: Option<&FeatureColumn>| match column {
            None => "nothing".to_owned(),
            Some(FeatureColumn {
                name,
                feature_type: FeatureType::Number,
                ..
            }) => format!("number {name}"),
            Some(FeatureColumn {
                name,
                feature_type: FeatureType::Category,
                ..
            }) => format!("category {name}"),
        };
        for place in 0..self.columns().len().max(columns.len()) {
            let (expected, found) = (name(self.columns().get(place)), name(columns.get(place)));
            if expected != found {
                return Err(LearnError::Columns {
                    place,
                    expected,
                    found,
                });
            }
        }
        Ok(())
    }

    /// Scores of a whole table; each row is bit for bit what [`Model::predict_row`] says about it.
    ///
    /// # Panics
    /// When the table has another number of columns than the training table; see [`Model::check_columns`].
    pub fn predict(&self, table: &FeatureTable) -> Scores {
        assert_eq!(
            table.columns().len(),
            self.columns().len(),
            "a table with the model's columns"
        );
        let mut values = Vec::with_capacity(table.rows() * self.task().width());
        match self {
            // These read many values per row: encoding column by column is several times faster.
            Self::Linear(model) => model.predict_table(table, &mut values),
            Self::Boosted(model) => model.predict_table(table, &mut values),
            Self::Constant(_) | Self::RecencyFrequency(_) | Self::Blend(_) => {
                for row in 0..table.rows() {
                    values.extend(self.predict_row(&table.row(row)));
                }
            }
        }
        Scores::new(self.task().width(), values)
    }

    /// The answer for one row: a probability, a value, or one probability per class.
    ///
    /// # Panics
    /// When the row has another number of values than the training table had columns.
    pub fn predict_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        assert_eq!(
            row.len(),
            self.columns().len(),
            "a row with the model's columns"
        );
        match self {
            Self::Constant(model) => model.scores.clone(),
            Self::RecencyFrequency(model) => model.predict_row(row),
            Self::Linear(model) => model.predict_row(row),
            Self::Boosted(model) => model.predict_row(row),
            Self::Blend(model) => model.predict_row(row),
        }
    }

    /// The score on the scale on which contributions add up, one per output: log-odds for probabilities, the
    /// value or its logarithm for regression; the answer itself for the constant and the recency/frequency rule.
    ///
    /// # Panics
    /// As [`Model::predict_row`].
    pub fn raw_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        assert_eq!(
            row.len(),
            self.columns().len(),
            "a row with the model's columns"
        );
        match self {
            Self::Constant(model) => model.scores.clone(),
            Self::RecencyFrequency(model) => model.predict_row(row),
            Self::Linear(model) => model.raw_row(row),
            Self::Boosted(model) => model.raw_row(row),
            Self::Blend(model) => model.raw_row(row),
        }
    }

    /// How much each feature moved the answer of this row: one number per column and the bias last; they sum to
    /// [`Model::raw_row`]. For several classes, those of the most probable one.
    ///
    /// Shapley values: path-dependent TreeSHAP for trees (Lundberg et al. 2018), exact for the others.
    ///
    /// # Panics
    /// As [`Model::predict_row`].
    pub fn contributions(&self, row: &[FeatureValue]) -> Vec<f64> {
        self.contributions_to(row, largest(&self.predict_row(row)))
    }

    /// As [`Model::contributions`], for a given output: 0, or the place of a class.
    ///
    /// # Panics
    /// As [`Model::predict_row`], and when there is no such output.
    pub fn contributions_to(&self, row: &[FeatureValue], output: usize) -> Vec<f64> {
        assert_eq!(
            row.len(),
            self.columns().len(),
            "a row with the model's columns"
        );
        assert!(output < self.task().width(), "an output of the model");
        match self {
            Self::Constant(model) => {
                let mut contributions = vec![0.0; row.len()];
                contributions.push(model.scores[output]);
                contributions
            }
            Self::RecencyFrequency(model) => model.contributions(row, output),
            Self::Linear(model) => model.contributions(row, output),
            Self::Boosted(model) => model.contributions(row, output),
            Self::Blend(model) => model.contributions(row, output),
        }
    }
}

/// The place of the largest value; the first of equal ones.
fn largest(values: &[f64]) -> usize {
    let mut best = 0;
    for (place, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Constant, Learner};
    use tidemill_core::feature::Unit;

    fn column(name: &str, feature_type: FeatureType) -> FeatureColumn {
        FeatureColumn {
            name: name.into(),
            feature_type,
            label: name.into(),
            unit: Unit::Plain,
        }
    }

    #[test]
    fn a_table_with_other_columns_is_refused_with_both_names() {
        let columns = vec![
            column("a", FeatureType::Number),
            column("b", FeatureType::Number),
        ];
        let mut features = FeatureTable::new(columns.clone());
        features.push(&[FeatureValue::Missing, FeatureValue::Missing]);
        let set = TrainingSet::unweighted(features, vec![1.0]).unwrap();
        let model = Constant.fit(&Task::Binary, &set, 0).unwrap();
        assert_eq!(model.check_columns(&columns), Ok(()));
        let error = model
            .check_columns(&[columns[0].clone(), column("b", FeatureType::Category)])
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "match feature 1: the model was trained on number b, the table has category b"
        );
        assert!(
            model
                .check_columns(&columns[..1])
                .unwrap_err()
                .to_string()
                .ends_with("the table has nothing")
        );
    }
}
