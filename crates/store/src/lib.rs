//! The ports: what the stages need of storage, and the embedded backends that are the default.
//!
//! | port | holds | embedded backend |
//! |---|---|---|
//! | [`EventLog`] | every accepted event in one order per project, until it has landed; what was quarantined | [`fjall`](fjall_store) |
//! | [`StateStore`] | online feature state, open decisions, checkpoints | [`fjall`](fjall_store) |
//! | [`Catalog`] | projects, keys, versions, runs, audit | SQLite ([`sqlite`]) |
//! | [`Lake`] | events, decisions, outcomes, datasets as tables | Delta Lake on local files ([`delta`]) |
//! | [`Artifacts`] | model files, by content hash | local files ([`local`]) |
//! | [`Moments`] | nothing: copies all of them as they were at one moment | the embedded ones together ([`local_moment`]) |
//!
//! Stages know the traits only; the `tidemill` binary is the only crate that names a backend. Each port has a
//! [conformance suite](conformance) that every backend of it passes. This crate is *not* a place for behaviour
//! of the loop: it knows no features, models or HTTP.

pub mod artifacts;
pub mod catalog;
pub mod conformance;
pub mod delta;
mod durable;
pub mod error;
pub mod event_log;
pub mod event_rows;
pub mod fjall_store;
pub mod folder;
pub mod keys;
pub mod lake;
pub mod local;
pub mod local_moment;
pub mod memory;
pub mod moment;
pub mod priority;
pub mod query;
pub mod sqlite;
pub mod state;
pub mod users;

pub use artifacts::{ArtifactHash, Artifacts};
pub use catalog::Catalog;
pub use error::StoreError;
pub use event_log::{Appended, EventLog, LoggedEvent, QuarantineReason, Quarantined};
pub use event_rows::{EventColumns, EventRow, EventRows, EventScan, EventTable, Texts};
pub use folder::DataFolder;
pub use lake::Lake;
pub use moment::Moments;
pub use state::{StateBatch, StateStore};
pub use users::Users;

use std::sync::Arc;

/// One backend of every port: what the stages are given.
#[derive(Clone)]
pub struct Stores {
    /// The durable, ordered log.
    pub log: Arc<dyn EventLog>,
    /// Online state.
    pub state: Arc<dyn StateStore>,
    /// Projects, keys, versions, runs, audit.
    pub catalog: Arc<dyn Catalog>,
    /// Tables.
    pub lake: Arc<dyn Lake>,
    /// Model files.
    pub artifacts: Arc<dyn Artifacts>,
    /// Copies of all of them as they were at one moment.
    pub moments: Arc<dyn Moments>,
}
