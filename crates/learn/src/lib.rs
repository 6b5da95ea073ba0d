//! Stage 3 of the loop: learners. Pure: a [`TrainingSet`] goes in, a [`Model`] comes out.
//!
//! A [`Learner`] is a plain struct of parameters; [`Learner::fit`] keeps no data. What it returns, a [`Model`],
//! is the heart of the packaged artifact: it is serialised with serde, answers one row in microseconds without
//! a thread pool, and says how much each feature contributed ([`Model::contributions`]), which [`mod@reasons`]
//! turns into words. [`calibration`] maps scores to probabilities that can be believed.
//!
//! This crate is *not* a place for files, sockets, clocks, logging or metrics: those are other stages. Every
//! learner passes the same public suite, [`conformance::check`].
//!
//! ```
//! use tidemill_core::feature::{FeatureColumn, FeatureTable, FeatureType, FeatureValue, Unit};
//! use tidemill_learn::{Learner, Linear, Task, TrainingSet};
//!
//! let mut features = FeatureTable::new(vec![FeatureColumn {
//!     name: "user.orders_30d".into(),
//!     feature_type: FeatureType::Number,
//!     label: "orders in the last 30 days".into(),
//!     unit: Unit::Plain,
//! }]);
//! for orders in 0..40 {
//!     features.push(&[FeatureValue::Number(f64::from(orders))]);
//! }
//! let targets = (0..40).map(|orders| f64::from(u8::from(orders % 20 + orders > 30))).collect();
//! let set = TrainingSet::unweighted(features, targets)?;
//! let model = Linear::default().fit(&Task::Binary, &set, 1)?;
//! let score = |orders: f64| model.predict_row(&[FeatureValue::Number(orders)])[0];
//! assert!(score(1.0) < 0.5 && score(39.0) > 0.5);
//! # Ok::<(), tidemill_learn::LearnError>(())
//! ```

pub mod blend;
pub mod boosted;
pub mod calibration;
pub mod conformance;
pub mod constant;
pub mod encoder;
pub mod linear;
mod link;
mod model;
pub mod reasons;
pub mod recency_frequency;
pub mod recommend;
mod scores;
mod target;
mod training;

pub use blend::Blend;
pub use boosted::Boosted;
pub use calibration::Calibrator;
pub use constant::Constant;
pub use linear::Linear;
pub use model::{LearnError, Learner, Model};
pub use reasons::{Reason, reasons};
pub use recency_frequency::RecencyFrequency;
pub use scores::Scores;
pub use training::{Task, TrainingSet};
