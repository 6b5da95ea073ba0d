//! Datasets: observations, the features that were known at them, and what became of them.
//!
//! One pass over the events in the order of the log serves several models at once (`steps`): it says what each event does to whose
//! state, and where rows are read. The states are replayed from that by person and by key, in parallel, with the same accumulators
//! that the online engine uses ([`replay()`]); what memory does not hold goes to disk.
//!
//! - An observation *at an event* is made after the event has been seen, at the engine's time there: the newest `received_at` so far.
//!   An event that arrives more than [`LATE_MAX`] after it happened is not observed: nobody would have asked then.
//! - An observation *every period* is made at each multiple of the period, for persons whose newest event is not older than
//!   `active_within`; it sees the events received up to then.
//! - Targets are the events of `(moment, moment + within]` of the same person, as known at the end. Where the horizon has not passed
//!   at `known_until`, the observation is dropped, whatever has happened already: dropping only the undecided ones would
//!   favour one class.

mod again;
mod amounts;
mod asked;
mod assemble;
mod catalogue;
mod counts;
mod division;
mod drift;
mod export;
mod fortnights;
mod interactions;
mod items;
mod leaks;
mod observe;
mod people;
mod record;
mod replay;
mod sampling;
mod statistics;
mod steps;
mod table;

use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use futures::TryStreamExt;
use tidemill_core::event::PersonKey;
use tidemill_core::project::PredictModel;
use tidemill_core::{FeatureTable, Offset, Span, Timestamp};
use tidemill_store::EventTable;

use crate::{FeatureError, FeatureSet, ModelFeatures};
pub use again::{Served, read_again};
pub use amounts::AmountLog;
use asked::Asked;
pub use catalogue::{ItemsById, items_at};
use counts::Counts;
pub use drift::{DRIFT_ROWS_MAX, DatasetDiff, DriftRows, FeatureDrift, Pair};
pub use export::{Export, ExportFormat};
pub use interactions::{Interaction, InteractionLog, interactions};
pub use leaks::{Alone, SuspiciousFeature};
pub use record::{DatasetRecord, Drop};
pub use replay::{PlanRecipe, RecipeModel, ReplayCodec, ReplayOptions};
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

/// The most models of one pass; more of them take several.
pub const REQUESTS_MAX: usize = 32;

/// The rows of the models that were asked for, before they become datasets.
#[derive(Debug)]
pub struct Replayed {
    passes: Vec<(Arc<Asked>, Counts, Vec<RecordBatch>)>,
    /// The plans with what was measured: rows, time, what was spilled.
    pub explained: String,
}

impl Replayed {
    /// The datasets, in the order of the requests. It computes their statistics with rayon, on the pool of the caller.
    ///
    /// # Errors
    /// When the rows are not what the plan promised.
    pub fn datasets(&self) -> Result<Vec<Dataset>, FeatureError> {
        let mut datasets = Vec::new();
        for (asked, counts, rows) in &self.passes {
            datasets.extend(assemble::datasets(asked, counts, rows)?);
        }
        Ok(datasets)
    }
}

/// The rows of some models as they are read, in no order: for those who only pass them on.
pub struct RowStream {
    asked: Arc<Asked>,
    plan: Arc<dyn ExecutionPlan>,
    rows: SendableRecordBatchStream,
}

impl RowStream {
    /// Begins to read rows; at most [`REQUESTS_MAX`] models at a time. It runs on the executor of the caller.
    ///
    /// # Errors
    /// As [`replay`].
    pub fn start(
        set: &FeatureSet,
        requests: &[DatasetRequest<'_>],
        events: Arc<dyn EventTable>,
        known_until: Timestamp,
        options: &ReplayOptions,
    ) -> Result<Self, FeatureError> {
        let asked = Arc::new(Asked::new(set, requests, known_until)?);
        let plan = replay::plan(&asked, &events, options.partitions)?;
        let rows = replay::rows(&plan, options)?;
        Ok(Self { asked, plan, rows })
    }

    /// The next rows.
    ///
    /// # Errors
    /// As [`replay`].
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, FeatureError> {
        self.rows.try_next().await.map_err(cause)
    }

    /// The plan with what was measured so far: rows, time, what was spilled.
    pub fn explained(&self) -> String {
        replay::explained(&self.plan)
    }
}

/// Reads the rows of datasets out of the events; `known_until` is the time up to which everything that happened is in them. It
/// runs on the executor of the caller.
///
/// # Errors
/// When features were selected from other definitions, the condition of an observation does not compile, the events cannot be
/// read or are not in the order of the log, there are too many observations, or memory and disk do not suffice.
pub async fn replay(
    set: &FeatureSet,
    requests: &[DatasetRequest<'_>],
    events: Arc<dyn EventTable>,
    known_until: Timestamp,
    options: &ReplayOptions,
) -> Result<Replayed, FeatureError> {
    let mut replayed = Replayed {
        passes: Vec::new(),
        explained: String::new(),
    };
    for requests in requests.chunks(REQUESTS_MAX) {
        let mut stream = RowStream::start(set, requests, events.clone(), known_until, options)?;
        let mut rows = Vec::new();
        while let Some(batch) = stream.next().await? {
            rows.push(batch);
        }
        replayed.explained.push_str(&stream.explained());
        let counts = Counts::of(stream.plan.as_ref(), &stream.asked);
        replayed.passes.push((stream.asked, counts, rows));
    }
    Ok(replayed)
}

/// An error of ours that went through the query engine, or the engine's own.
fn cause(error: datafusion::error::DataFusionError) -> FeatureError {
    use datafusion::error::DataFusionError;
    match error {
        DataFusionError::External(inner) => match inner.downcast::<FeatureError>() {
            Ok(ours) => *ours,
            Err(other) => DataFusionError::External(other).into(),
        },
        DataFusionError::Shared(shared) => match Arc::try_unwrap(shared) {
            Ok(inner) => cause(inner),
            Err(shared) => DataFusionError::Shared(shared).into(),
        },
        DataFusionError::Context(_, inner) => cause(*inner),
        other => other.into(),
    }
}
