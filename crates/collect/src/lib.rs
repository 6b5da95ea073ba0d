//! Stage 1, collect: from what is sent to events in the log.
//!
//! - [`segment`]: the Segment tracking API, bytes → events. Pure: no clock, no store.
//! - [`items`]: what can be recommended, bytes → events of kind `item_changed`.
//! - [`Intake`]: parse, append, count. One answer per call: how many were stored, were duplicates, were quarantined.
//! - [`import`]: history from CSV, JSON lines and Parquet files, in the order in which it happened.
//!
//! What cannot become an event is *quarantined*: kept with its bytes, a typed reason and a sentence that names the field and the
//! remedy. Every piece that was sent is counted exactly once: accepted, duplicate or quarantined.
//!
//! It is *not* a place for HTTP (that is `api`), for the joining of identities (that is `features`) or for storage: it
//! knows the ports of `store` only.
//!
//! ```
//! use tidemill_collect::segment::{self, Call};
//! use tidemill_collect::Limits;
//! use tidemill_core::{Project, Timestamp};
//!
//! let project = Project::parse("[project]\nname = 'shop'").unwrap();
//! let body = br#"{"userId": "u1", "event": "Order Completed", "properties": {"total": 12.5}}"#;
//! let batch = segment::parse_request(Call::Track, body, Timestamp::from_millis(1), &Limits::default(), &project).unwrap();
//! assert_eq!(batch.events[0].name, "Order Completed");
//! ```

pub mod import;
pub mod intake;
pub mod items;
mod lenient;
pub mod limits;
#[cfg(test)]
mod memory;
mod message_id;
pub mod moment;
mod rejection;
pub mod segment;
mod stats;
mod validate;

pub use intake::{Intake, IntakeError, Receipt, ReplayedQuarantine};
pub use limits::Limits;
pub use segment::{Batch, Call, RequestError};
pub use stats::ProjectCounts;
