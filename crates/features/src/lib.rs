//! Stage 2 of the loop: the feature engine. It answers *what was known about this entity at this moment?*, with the same code for a
//! live request and for a training row from last year.
//!
//! ```text
//! project file ─► FeatureSet (compiled definitions) ─► ModelFeatures (the columns of one model)
//!
//! online:  log ─► Engine::apply ─► states ─► Engine::read ─► a row        ┐ the same accumulators,
//! offline: lake ─► dataset::build ─► states by key ─► rows with targets   ┘ identities and expressions
//! ```
//!
//! | module | is about |
//! |---|---|
//! | [`set`] | definitions → columns, and what each event does to which state |
//! | [`expression`] | SQL conditions over events, and features made of features |
//! | [`accumulate`] | what is remembered, in tiles of time that windows are made of |
//! | [`identity`] | who is who: `identify` and `alias` |
//! | [`engine`] | the states that follow the log, and their rebuilding |
//! | [`dataset`] | observations, their features as of then, and what became of them |
//! | [`target`] | what is to be predicted; also joins outcomes to live decisions |
//! | [`seen`], [`suggest`] | what events look like, and a first set of features made from that |
//!
//! It is *not* a place for learning or serving, and it reads no clock: time comes with the events and as a parameter.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use tidemill_core::{Project, Timestamp, event::PersonKey};
//! # use tidemill_features::{Engine, EngineOptions, FeatureError, FeatureSet};
//! # use tidemill_store::{LoggedEvent, StateStore};
//! fn opens(project: &Project, state: Arc<dyn StateStore>, events: &[LoggedEvent]) -> Result<(), FeatureError> {
//!     let set = FeatureSet::compile(project, &project.features)?;
//!     let features = set.select_columns(&["user.opens_7d"])?;
//!     let engine = Engine::open(project, set, state, EngineOptions::default())?;
//!     engine.apply(events)?;
//!     engine.commit()?;
//!     let row = engine.read(&PersonKey::user("17850"), Timestamp::EPOCH, &features)?;
//!     println!("{} opened {:?} times in a week, as of event {}", row.person, row.values[0], row.offset);
//!     Ok(())
//! }
//! ```

pub mod accumulate;
pub mod codec;
pub mod dataset;
pub mod engine;
pub mod error;
pub mod expression;
pub mod identity;
pub mod seen;
pub mod set;
pub mod suggest;
pub mod target;
pub mod value;

pub use engine::{
    Engine, EngineOptions, EngineStats, Expired, FeatureRow, Rebuild, StateCosts, read_seen,
};
pub use error::FeatureError;
pub use seen::SeenEvents;
pub use set::{ColumnSources, FeatureSet, ModelFeatures};
