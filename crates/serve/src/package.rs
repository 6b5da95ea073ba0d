//! A trained version as it is stored: everything that is needed to answer, and the proof that it answers the
//! same after it was loaded.

use serde::{Deserialize, Serialize};
use tidemill_core::decision::{Answer, ClassProbability};
use tidemill_core::feature::{FeatureColumn, FeatureValue};
use tidemill_core::project::Target;
use tidemill_core::{ModelName, ProjectName};
use tidemill_learn::calibration::Calibrator;
use tidemill_learn::{Model, Reason, Task};

/// The stored format that this version of the code writes and reads.
pub const PACKAGE_FORMAT: u32 = 1;
/// The share of yes from which the label of a yes/no question is `yes`.
const YES_FROM: f64 = 0.5;

/// Why a package is not activated.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The bytes are not a package.
    #[error("read the packaged model")]
    Unreadable(#[source] serde_json::Error),
    /// The bytes are not a packaged recommender.
    #[error("read the packaged model: {0}")]
    Damaged(String),
    /// Written by a newer version.
    #[error("the packaged model has format {found}, this version reads up to {PACKAGE_FORMAT}")]
    Newer {
        /// The format found.
        found: u32,
    },
    /// A golden row is not answered as the trainer answered it.
    #[error("golden row {row} is answered with {found:?} instead of {expected:?}")]
    Golden {
        /// Which row.
        row: usize,
        /// The trainer's scores.
        expected: Vec<f64>,
        /// The packaged model's scores.
        found: Vec<f64>,
    },
}

/// A row of features and what the trainer's model answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenRow {
    /// The features in the order of the columns.
    pub features: Vec<FeatureValue>,
    /// The calibrated scores, one per class.
    pub scores: Vec<f64>,
}

/// A simple rule beside the model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Baseline {
    /// `constant`, `recency_frequency`, `linear`.
    pub name: String,
    /// The fitted rule.
    pub fitted: Model,
}

/// A trained version. Its JSON form is the artifact (format 1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    /// [`PACKAGE_FORMAT`].
    pub format: u32,
    /// The project.
    pub project: ProjectName,
    /// The model.
    pub model: ModelName,
    /// The kind of question.
    pub task: Task,
    /// The features that it reads, in order.
    pub columns: Vec<FeatureColumn>,
    /// The hash of the feature definitions that it was trained with.
    pub definition_hash: String,
    /// The fitted model.
    pub fitted: Model,
    /// What makes its scores believable.
    pub calibrator: Calibrator,
    /// The simple rules that it had to beat, fitted on the same rows: they answer the same logged decisions, so that
    /// live quality can be compared with theirs.
    pub baselines: Vec<Baseline>,
    /// The plain answer of the same training data: the base rate, the mean, the class shares.
    pub fallback: Answer,
    /// Proof against damage and drift between trainer and server.
    pub golden: Vec<GoldenRow>,
}

impl Package {
    /// The bytes of the artifact; the same package gives the same bytes.
    ///
    /// # Errors
    /// When a number is not finite, which the gate refuses before.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PackageError> {
        serde_json::to_vec(self).map_err(PackageError::Unreadable)
    }

    /// Reads an artifact and proves that it answers every golden row to the bit.
    ///
    /// # Errors
    /// When it is unreadable, newer, or answers otherwise than the trainer did.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PackageError> {
        /// Read first, so that a newer format is named as such.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(PackageError::Unreadable)?;
        if head.format > PACKAGE_FORMAT {
            return Err(PackageError::Newer { found: head.format });
        }
        let package: Self = serde_json::from_slice(bytes).map_err(PackageError::Unreadable)?;
        package.check_golden()?;
        Ok(package)
    }

    /// Answers the golden rows.
    ///
    /// # Errors
    /// The first row that is answered otherwise.
    pub fn check_golden(&self) -> Result<(), PackageError> {
        for (row, golden) in self.golden.iter().enumerate() {
            let found = self.scores(&golden.features);
            let same = found.len() == golden.scores.len()
                && found
                    .iter()
                    .zip(&golden.scores)
                    .all(|(a, b)| a.to_bits() == b.to_bits());
            if !same {
                return Err(PackageError::Golden {
                    row,
                    expected: golden.scores.clone(),
                    found,
                });
            }
        }
        Ok(())
    }

    /// The calibrated scores of one row: a probability, a value, or one probability per class.
    pub fn scores(&self, features: &[FeatureValue]) -> Vec<f64> {
        let mut scores = self.fitted.predict_row(features);
        self.calibrator.apply_row(&mut scores);
        scores
    }

    /// The scores as an answer.
    pub fn answer(&self, scores: &[f64]) -> Answer {
        answer(&self.task, scores)
    }

    /// The `most` strongest reasons for the answer to one row, in words.
    pub fn reasons(&self, features: &[FeatureValue], most: usize) -> Vec<Reason> {
        let output = match self.task {
            Task::Binary | Task::Regression => 0,
            Task::Multiclass { .. } => largest(&self.scores(features)),
        };
        let contributions = self.fitted.contributions_to(features, output);
        tidemill_learn::reasons(&self.columns, features, &contributions, most)
    }
}

/// Scores as an answer to a question of that kind.
pub fn answer(task: &Task, scores: &[f64]) -> Answer {
    let first = scores.first().copied().unwrap_or(f64::NAN);
    match task {
        Task::Binary => {
            let label = if first >= YES_FROM { "yes" } else { "no" };
            Answer {
                score: first,
                label: Some(label.to_owned()),
                probabilities: Vec::new(),
            }
        }
        Task::Regression => Answer {
            score: first,
            label: None,
            probabilities: Vec::new(),
        },
        Task::Multiclass { classes } => {
            let best = largest(scores);
            let probabilities = classes
                .iter()
                .zip(scores)
                .map(|(class, &probability)| ClassProbability {
                    class: class.clone(),
                    probability,
                })
                .collect();
            let score = scores.get(best).copied().unwrap_or(f64::NAN);
            Answer {
                score,
                label: classes.get(best).cloned(),
                probabilities,
            }
        }
    }
}

/// What is answered before anything was learnt: even odds, nothing, or all classes alike.
pub fn ignorance(task: &Task) -> Answer {
    match task {
        Task::Binary => answer(task, &[0.5]),
        Task::Regression => answer(task, &[0.0]),
        Task::Multiclass { classes } => {
            answer(task, &vec![1.0 / classes.len() as f64; classes.len()])
        }
    }
}

/// The kind of question that a target asks.
pub fn task_of(target: &Target) -> Task {
    match target {
        Target::Event { .. } | Target::NoEvent { .. } => Task::Binary,
        Target::Sum { .. } => Task::Regression,
        Target::Next { events, .. } => Task::Multiclass {
            classes: events
                .iter()
                .cloned()
                .chain([Target::NONE.to_owned()])
                .collect(),
        },
    }
}

/// The place of the largest score; the first of equals.
fn largest(scores: &[f64]) -> usize {
    let mut best = 0;
    for (place, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = place;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_said_in_the_words_of_the_question() {
        assert_eq!(answer(&Task::Binary, &[0.7]).label.as_deref(), Some("yes"));
        assert_eq!(answer(&Task::Regression, &[12.5]).label, None);
        let task = task_of(&Target::Next {
            events: vec!["Order Completed".into(), "Order Cancelled".into()],
            within: tidemill_core::Span::from_days(30),
        });
        let next = answer(&task, &[0.2, 0.3, 0.5]);
        assert_eq!((next.label.as_deref(), next.score), (Some("none"), 0.5));
        assert_eq!(next.probabilities.len(), 3);
    }

    #[test]
    fn ignorance_prefers_nothing() {
        assert_eq!(ignorance(&Task::Binary).score, 0.5);
        let classes = vec!["a".into(), "b".into(), "c".into(), "d".into()];
        assert_eq!(ignorance(&Task::Multiclass { classes }).score, 0.25);
    }
}
