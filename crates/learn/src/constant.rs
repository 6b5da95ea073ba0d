//! The floor under every model: the same answer for everyone.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::FeatureColumn;

use crate::{LearnError, Learner, Model, Task, TrainingSet};

/// Answers with the base rate, the mean, or the class shares of the training rows. Has no parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Constant;

/// See [`Constant`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConstantModel {
    pub(crate) task: Task,
    pub(crate) columns: Vec<FeatureColumn>,
    pub(crate) scores: Vec<f64>,
}

impl Learner for Constant {
    fn name(&self) -> &str {
        "constant"
    }

    fn fit(&self, task: &Task, train: &TrainingSet, _seed: u64) -> Result<Model, LearnError> {
        train.check(task)?;
        Ok(Model::Constant(ConstantModel {
            task: task.clone(),
            columns: train.features.columns().to_vec(),
            scores: base_scores(task, &train.targets, &train.weights),
        }))
    }
}

/// The weighted mean for values. For probabilities, the shares after half an observation was added to each class
/// (Krichevsky and Trofimov 1981), so that what was never seen is improbable, not impossible.
pub(crate) fn base_scores(task: &Task, targets: &[f64], weights: &[f64]) -> Vec<f64> {
    let total: f64 = weights.iter().sum();
    let sum: f64 = targets
        .iter()
        .zip(weights)
        .map(|(target, weight)| target * weight)
        .sum();
    match task {
        Task::Binary => vec![(sum + 0.5) / (total + 1.0)],
        Task::Regression => vec![sum / total],
        Task::Multiclass { classes } => {
            let mut shares = vec![0.5; classes.len()];
            for (&target, weight) in targets.iter().zip(weights) {
                shares[target as usize] += weight;
            }
            let total: f64 = shares.iter().sum();
            shares.iter().map(|share| share / total).collect()
        }
    }
}
