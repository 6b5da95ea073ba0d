//! The vocabulary of Tidemill: what every stage of the loop speaks about.
//!
//! Ids, events, items, decisions, outcomes, features, the [`Clock`] seam and the parsed
//! [project file](project). It is *not* a place for behaviour that needs files, sockets, threads or a
//! database: there is no I/O and nothing asynchronous here, and the wall clock is read in one place only,
//! [`clock::SystemClock`].
//!
//! ```
//! use tidemill_core::time::{Span, Timestamp};
//!
//! let noon: Timestamp = "2011-12-09T12:00:00Z".parse().unwrap();
//! assert_eq!((noon + "30d".parse::<Span>().unwrap()).to_string(), "2012-01-08T12:00:00.000000Z");
//! ```

pub mod assign;
pub mod clock;
pub mod decision;
pub mod event;
pub mod feature;
pub mod id;
pub mod item;
pub mod notation;
pub mod project;
pub mod sync;
pub mod time;

pub use clock::Clock;
pub use decision::{Decision, Outcome};
pub use event::{Event, EventKind};
pub use feature::{FeatureColumn, FeatureTable, FeatureType, FeatureValue};
pub use id::{DecisionId, ModelName, Offset, ProjectName, RunId, VersionId};
pub use item::{Item, ItemChange};
pub use project::Project;
pub use time::{Span, Timestamp};
