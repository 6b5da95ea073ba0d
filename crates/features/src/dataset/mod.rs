//! Datasets: observations, the features that were known at them, and what became of them.
//!
//! One pass over the events in the order of the log serves several models at once. The pass itself is sequential and keeps of each
//! event only what the definitions need; then the states are replayed by key, in parallel, with the same accumulators that the
//! online engine uses.
//!
//! - An observation *at an event* is made after the event has been seen, at the engine's time there: the newest `received_at` so far.
//!   An event that arrives more than [`LATE_MAX`] after it happened is not observed: nobody would have asked then.
//! - An observation *every period* is made at each multiple of the period, for persons whose newest event is not older than
//!   `active_within`; it sees the events received up to then.
//! - Targets are the events of `(moment, moment + within]` of the same person, as known at the end. Where the horizon has not passed
//!   at `known_until`, the observation is dropped, whatever has happened already: dropping only the undecided ones would
//!   favour one class.

mod collect;
mod drift;
mod export;
mod leaks;
mod people;
mod record;
mod replay;
mod sampling;
mod statistics;
mod table;

use tidemill_core::event::PersonKey;
use tidemill_core::project::PredictModel;
use tidemill_core::{FeatureTable, Offset, Span, Timestamp};
use tidemill_store::{LoggedEvent, StoreError};

use crate::{FeatureError, FeatureSet, ModelFeatures};
use collect::Collector;
pub use drift::{DRIFT_ROWS_MAX, DatasetDiff, DriftRows, FeatureDrift, Pair};
pub use export::{Export, ExportFormat};
pub use leaks::{Alone, SUSPICIOUS_FROM, SuspiciousFeature};
pub use record::{DatasetRecord, Drop};
pub use statistics::{ColumnStatistics, HISTOGRAM_BARS, Quantiles, TOP_MAX, TargetStatistics};

/// How long after it happened an event may arrive and still be an occasion to observe.
pub const LATE_MAX: Span = Span::from_days(1);

/// The most observations of one dataset.
pub const OBSERVATIONS_MAX: usize = 20_000_000;

/// A dataset that is asked for.
#[derive(Debug, Clone)]
pub struct DatasetRequest<'m> {
    /// The model: its observations and its target.
    pub model: &'m PredictModel,
    /// The features of each row.
    pub features: ModelFeatures,
    /// Observations before this moment are left out.
    pub from: Option<Timestamp>,
}

/// Rows to learn from: features, targets and what they are about, in the order of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct Dataset {
    /// The features.
    pub features: FeatureTable,
    /// Whom each row is about: the canonical person at its moment.
    pub entities: Vec<PersonKey>,
    /// The moments of the observations.
    pub moments: Vec<Timestamp>,
    /// The last event that each row has seen.
    pub offsets: Vec<Offset>,
    /// What became of them: 1 or 0, an amount, or the index of a class of [`DatasetRecord::classes`].
    pub targets: Vec<f64>,
    /// How much each row counts: the inverse of the probability with which it was sampled; 1 where nothing was.
    pub weights: Vec<f64>,
    /// How it came about.
    pub record: DatasetRecord,
}

impl Dataset {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.targets.len()
    }
}

/// Builds datasets from events that are pushed in the order of the log.
pub struct DatasetBuilder<'m> {
    set: FeatureSet,
    collector: Collector<'m>,
}

impl<'m> DatasetBuilder<'m> {
    /// For these datasets; `known_until` is the time up to which everything that happened is in the events.
    ///
    /// # Errors
    /// When features were selected from other definitions, or the condition of an observation does not compile.
    pub fn new(
        set: &FeatureSet,
        requests: &[DatasetRequest<'m>],
        known_until: Timestamp,
    ) -> Result<Self, FeatureError> {
        Ok(Self {
            set: set.clone(),
            collector: Collector::new(set, requests, known_until)?,
        })
    }

    /// Takes the next events.
    ///
    /// # Errors
    /// When they are not in the order of the log, or there are too many observations.
    pub fn push(&mut self, events: &[LoggedEvent]) -> Result<(), FeatureError> {
        self.collector.push(events)
    }

    /// The datasets, in the order of the requests.
    ///
    /// # Errors
    /// When there are too many observations.
    pub fn finish(self) -> Result<Vec<Dataset>, FeatureError> {
        replay::datasets(&self.set, self.collector.finish()?)
    }
}

/// Builds datasets from batches of events in the order of the log.
///
/// # Errors
/// As [`DatasetBuilder`], and when the events cannot be read.
pub fn build(
    set: &FeatureSet,
    requests: &[DatasetRequest<'_>],
    events: impl IntoIterator<Item = Result<Vec<LoggedEvent>, StoreError>>,
    known_until: Timestamp,
) -> Result<Vec<Dataset>, FeatureError> {
    let mut builder = DatasetBuilder::new(set, requests, known_until)?;
    for batch in events {
        builder.push(&batch.map_err(FeatureError::Events)?)?;
    }
    builder.finish()
}
