//! What can go wrong in the feature engine.

use tidemill_core::project::ProjectError;
use tidemill_store::StoreError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum FeatureError {
    /// The state store failed; nothing was committed.
    #[error("use the state store")]
    Store(#[from] StoreError),
    /// The log of events could not be read.
    #[error("read events")]
    Events(#[source] StoreError),
    /// Stored bytes are not what this crate writes.
    #[error("decode {what}: {detail}")]
    Damaged {
        /// Which part.
        what: String,
        /// How it was noticed.
        detail: String,
    },
    /// The stored states belong to other definitions: they must be built again from the events.
    #[error("open states of definitions {stored} with definitions {wanted}: rebuild them first")]
    NeedsRebuild {
        /// The hash of the definitions that made the states.
        stored: String,
        /// The hash of the definitions that were to be opened.
        wanted: String,
    },
    /// A selection of features was made from other definitions than those of the engine.
    #[error("read features that were selected from other definitions")]
    OtherSet,
    /// Features that the definitions do not have.
    #[error("find the features {}", .0.join(", "))]
    UnknownFeatures(Vec<String>),
    /// Something in the project file does not compile.
    #[error("compile the project's definitions")]
    Project(#[from] ProjectError),
    /// An event was applied in part because the store failed: what is in memory is not right any more.
    #[error("go on with an engine that failed in the middle of an event: open it again")]
    Broken,
    /// Events came in another order than that of the log.
    #[error("apply event {found} after event {last}: events come in the order of the log")]
    OutOfOrder {
        /// The last event that had been taken.
        last: u64,
        /// The event that came then.
        found: u64,
    },
    /// A model observes so often that its dataset would not be usable.
    #[error(
        "observe model {model} at more than {limit} moments: lengthen its period or shorten its history"
    )]
    TooManyObservations {
        /// The model.
        model: String,
        /// The largest number.
        limit: usize,
    },
    /// A dataset's table does not have the columns that datasets have.
    #[error("read a dataset's table: {0}")]
    DatasetTable(String),
    /// A thread ended unexpectedly.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
    /// The query engine failed.
    #[error("evaluate on record batches")]
    Query(#[from] datafusion::error::DataFusionError),
}

impl FeatureError {
    pub(crate) fn damaged(what: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            detail: detail.into(),
        }
    }
}
