//! The loop: what makes the stages turn by themselves.
//!
//! A [`ProjectLoop`] is one project at work. Its *consumer* follows the log: every event goes through the feature
//! engine and the outcome joiner, once and in order. Its *lander* moves what was logged into the lake. Its
//! *runs* train, examine and promote versions when a schedule, enough new targets or a person asks for it.
//! [`spawn`] drives all three on the real clock; on a virtual clock the driver calls
//! [`ProjectLoop::tick`].
//!
//! This crate is *not* a face: it knows no HTTP and prints nothing.

mod accepted;
pub mod alerting;
mod answer_report;
mod answers;
mod audit;
pub mod background;
pub mod checkup;
pub mod consistency;
pub mod consume;
mod data;
mod datasets;
mod drill;
mod erase;
pub mod examine;
mod export;
pub mod feature_report;
pub mod fit;
pub mod gain;
mod kept;
pub mod land;
mod lanes;
mod moment;
pub mod project_loop;
pub mod promote;
pub mod quality;
mod quarantine;
mod query;
pub mod recommend;
pub mod register;
pub mod rehearsal;
mod resume;
pub mod rollout;
pub mod run;
pub mod schedule;
pub mod scorecard;
pub mod service;
mod side_by_side;
mod speed;
pub mod staleness;
mod strain;
mod turn;
mod value;
pub mod version;

pub use alerting::{Courier, DELIVERY};
pub use answer_report::{AnswersReport, DayOfFeature};
pub use answers::SkewReport;
pub use background::Background;
pub use checkup::{Checkup, Promise};
pub use consistency::ConsistencyReport;
pub use data::{DataReport, EventReport, PropertyReport};
pub use datasets::{BuiltDataset, KeptDataset};
pub use drill::Drill;
pub use erase::ErasedPerson;
pub use export::{ExportedPerson, KnownFeature, PlacedEvent};
pub use feature_report::FeatureReport;
pub use project_loop::{CycleError, LoopOptions, ProjectLoop, cores};
pub use quality::ModelStatus;
pub use rehearsal::Rehearsal;
pub use rollout::RolloutStatus;
pub use scorecard::{ByHand, Scorecard};
pub use service::spawn;
pub use staleness::Staleness;
pub use turn::Turn;
pub use value::{ValueMonth, ValueReport};
