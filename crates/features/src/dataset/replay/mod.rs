//! The offline engine: a plan whose operators run the same accumulators as the online engine, by person and by key, in the order of
//! the log.
//!
//! ```text
//! StepsExec(user) ─► ReplayExec(user) ─► RepartitionExec(key) ─┐
//!                                               StepsExec(item) ─► ReplayExec(item) ─► … rows
//! ```
//!
//! Rows are read of the person first, which also says what item, country, … they last had; then those add their columns, one entity
//! after the other. The result does not depend on how the work is divided: each person and each key is replayed alone.

mod buckets;
mod codec;
mod exec;
mod keys;
mod persons;
mod recipe;
pub(super) mod rows;
mod steps_exec;
pub(super) mod values;

use std::path::PathBuf;
use std::sync::Arc;

use datafusion::error::Result;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::display::DisplayableExecutionPlan;
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ExecutionPlan, Partitioning, execute_stream};
use datafusion::prelude::SessionConfig;
use tidemill_store::EventTable;

pub use self::codec::ReplayCodec;
use self::exec::ReplayExec;
pub use self::recipe::{PlanRecipe, RecipeModel};
use self::rows::key_column;
use self::steps_exec::StepsExec;
use super::asked::Asked;
use crate::set::USER;

/// How the offline engine runs.
#[derive(Debug, Clone)]
pub struct ReplayOptions {
    /// How many persons or keys are replayed at the same time: one for each core that may be used.
    pub partitions: usize,
    /// How much memory steps may take before they go to disk, in bytes.
    pub memory_bytes_max: usize,
    /// Where they go; the system's folder for temporary files where absent.
    pub spill_folder: Option<PathBuf>,
}

impl Default for ReplayOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            partitions: cores,
            memory_bytes_max: 1 << 30,
            spill_folder: None,
        }
    }
}

/// The plan that reads the rows of all models that are asked for.
pub(super) fn plan(
    asked: &Arc<Asked>,
    events: &Arc<dyn EventTable>,
    partitions: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let steps = |entity| -> Arc<dyn ExecutionPlan> {
        let (asked, events) = (asked.clone(), events.clone());
        Arc::new(StepsExec::new(asked, entity, events, partitions))
    };
    let mut plan: Arc<dyn ExecutionPlan> =
        Arc::new(ReplayExec::persons(asked.clone(), steps(USER)));
    for (other, (place, read)) in asked.others().enumerate() {
        let keys = key_column(asked, other);
        let name = plan.schema().field(keys).name().clone();
        let by_key = Partitioning::Hash(vec![Arc::new(Column::new(&name, keys))], partitions);
        let rows = Arc::new(RepartitionExec::try_new(plan, by_key)?);
        let steps = steps(read.entity);
        plan = Arc::new(ReplayExec::keys(asked.clone(), (place, other), steps, rows));
    }
    Ok(plan)
}

/// The rows of a plan, in no order, as they come.
pub(super) fn rows(
    plan: &Arc<dyn ExecutionPlan>,
    options: &ReplayOptions,
) -> Result<SendableRecordBatchStream> {
    let mut runtime = RuntimeEnvBuilder::new().with_memory_limit(options.memory_bytes_max, 1.0);
    if let Some(folder) = &options.spill_folder {
        runtime = runtime.with_temp_file_path(folder);
    }
    let context = TaskContext::default()
        .with_session_config(SessionConfig::new().with_target_partitions(options.partitions))
        .with_runtime(runtime.build_arc()?);
    execute_stream(plan.clone(), Arc::new(context))
}

/// A plan with what was measured.
pub(super) fn explained(plan: &Arc<dyn ExecutionPlan>) -> String {
    let plan = DisplayableExecutionPlan::with_metrics(plan.as_ref());
    plan.indent(true).to_string()
}
