//! Trees and a line together: their mean on the scale of log-odds.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureColumn, FeatureValue};

use crate::boosted::BoostedModel;
use crate::linear::LinearModel;
use crate::link::sigmoid;
use crate::{Boosted, LearnError, Learner, Linear, Model, Task, TrainingSet};

/// For yes/no questions the mean log-odds of [`Boosted`] and [`Linear`]: their errors differ, so the mean has fewer (an
/// opinion pool; Genest and Zidek 1986). On a few thousand rows this is worth more than a larger forest. For other
/// questions it is [`Boosted`] alone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Blend {
    /// The trees.
    pub boosted: Boosted,
    /// The line.
    pub linear: Linear,
}

/// A fitted [`Blend`] for a yes/no question.
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
        if *task != Task::Binary {
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

    pub(crate) fn predict_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        self.raw_row(row).into_iter().map(sigmoid).collect()
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
