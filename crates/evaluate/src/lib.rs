//! Stage 4 of the loop: how good a model is, how sure that is, and whether it may serve.
//!
//! Pure functions over targets and scores: time [`split`]s with a gap, [`Metric`]s, [`bootstrap`] intervals over
//! entities, a [`report`] per model, worst [`slices`], and the [`gate`] that a challenger passes or does not, each check
//! with its number and a sentence.
//!
//! This crate knows no models, files, clocks or random state: seeds are parameters. Scores come from anywhere.
//!
//! ```
//! use tidemill_evaluate::{Bootstrap, Metric, Rows, ScoresView, TaskKind};
//!
//! let targets = [0.0, 0.0, 1.0, 1.0, 0.0, 1.0];
//! let rows = Rows::new(TaskKind::Binary, &targets, &[1.0; 6], &[1, 2, 3, 4, 5, 6])?;
//! let scores = ScoresView::new(1, &[0.1, 0.4, 0.35, 0.8, 0.2, 0.9])?;
//! assert!((Metric::Auc.compute(&rows, &scores)?.unwrap() - 8.0 / 9.0).abs() < 1e-12);
//! let estimate = Bootstrap::default().estimate(&rows, Metric::Auc, &scores)?;
//! assert!(estimate.interval.unwrap().0 <= 8.0 / 9.0);
//! # Ok::<(), tidemill_evaluate::EvaluateError>(())
//! ```

pub mod agreement;
pub mod bootstrap;
pub mod difference;
mod expected;
pub mod experiment;
pub mod gate;
pub mod lists;
pub mod metric;
mod prepared;
pub mod ranking;
pub mod report;
mod rows;
pub mod slices;
pub mod split;
pub mod staleness;
mod usual;

pub use agreement::Agreement;
pub use bootstrap::{Bootstrap, Difference, Estimate};
pub use difference::{AnswerDifference, ListDifference};
pub use gate::{Check, Verdict};
pub use lists::ListMeasures;
pub use metric::Metric;
pub use ranking::RankingMetric;
pub use report::Report;
pub use rows::{EvaluateError, Rows, ScoresView, TaskKind};
