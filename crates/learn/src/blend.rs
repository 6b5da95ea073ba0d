//! Trees and a line together: their mean on the scale of logarithms.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureColumn, FeatureValue};

use crate::boosted::BoostedModel;
use crate::linear::LinearModel;
use crate::link::sigmoid;
use crate::{Boosted, LearnError, Learner, Linear, Model, Task, TrainingSet};

/// For yes/no questions the mean log-odds of [`Boosted`] and [`Linear`], for several classes the geometric mean of their probabilities, scaled
/// to sum 1: their errors differ, so the mean has fewer (a logarithmic opinion pool; Genest and Zidek 1986). On a few thousand rows this is
/// worth more than a larger forest. For amounts it is [`Boosted`] alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Blend {
    /// The trees.
    pub boosted: Boosted,
    /// The line.
    pub linear: Linear,
}

/// A fitted [`Blend`] for a yes/no question or several classes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlendModel {
    boosted: BoostedModel,
    linear: LinearModel,
}

impl Learner for Blend {
    fn name(&self) -> &str {
        "blend"
    }

    fn fit(&self, task: &Task, train: &TrainingSet, seed: u64) -> Result<Model, LearnError> {
        let boosted = self.boosted.fit(task, train, seed)?;
        if *task == Task::Regression {
            return Ok(boosted);
        }
        match (boosted, self.linear.fit(task, train, seed)?) {
            (Model::Boosted(boosted), Model::Linear(linear)) => {
                Ok(Model::Blend(Box::new(BlendModel { boosted, linear })))
            }
            (boosted, _) => Ok(boosted),
        }
    }
}

impl BlendModel {
    pub(crate) fn columns(&self) -> &[FeatureColumn] {
        self.boosted.columns()
    }

    pub(crate) fn task(&self) -> &Task {
        &self.boosted.task
    }

    pub(crate) fn predict_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        if *self.task() == Task::Binary {
            return self.raw_row(row).into_iter().map(sigmoid).collect();
        }
        let trees = self.boosted.predict_row(row);
        let line = self.linear.predict_row(row);
        let both = trees.iter().zip(&line);
        let pooled: Vec<f64> = both.map(|(one, other)| (one * other).sqrt()).collect();
        let sum: f64 = pooled.iter().sum();
        pooled.into_iter().map(|of_class| of_class / sum).collect()
    }

    pub(crate) fn raw_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        mean(self.boosted.raw_row(row), &self.linear.raw_row(row))
    }

    pub(crate) fn contributions(&self, row: &[FeatureValue], output: usize) -> Vec<f64> {
        mean(
            self.boosted.contributions(row, output),
            &self.linear.contributions(row, output),
        )
    }
}

fn mean(mut one: Vec<f64>, other: &[f64]) -> Vec<f64> {
    for (one, other) in one.iter_mut().zip(other) {
        *one = 0.5 * (*one + other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_conforms() {
        crate::conformance::check(&Blend::default()).unwrap();
    }
}
