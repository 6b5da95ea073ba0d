//! The leaves of the plan: the steps of persons, and of the keys of another entity, out of the events.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use futures::stream;
use tidemill_core::sync::Mutex;
use tidemill_store::EventTable;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::dataset::asked::Asked;
use crate::dataset::counts::failures;
use crate::dataset::steps::{Preparation, key_schema, key_steps, person_schema, person_steps};
use crate::set::USER;

/// How many batches of a partition are made before they are asked for.
const BATCHES_AHEAD: usize = 64;
/// How many chunks of events are decoded, and prepared, before they are asked for.
const CHUNKS_AHEAD: usize = 8;

/// Reads the events once, in the order of the log, and gives out what they do to the states of one entity, divided by who or what
/// it is about. All partitions have to be read at the same time, since one pass makes them all.
#[derive(Debug)]
pub(crate) struct StepsExec {
    pub(super) asked: Arc<Asked>,
    pub(super) entity: usize,
    pub(super) events: Arc<dyn EventTable>,
    pub(super) partitions: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
    /// Absent before the pass has begun.
    started: Mutex<Option<Vec<Outlet>>>,
}

/// What comes out of the pass for one partition; absent once somebody reads it.
type Outlet = Option<Receiver<Result<RecordBatch>>>;

impl StepsExec {
    pub(crate) fn new(
        asked: Arc<Asked>,
        entity: usize,
        events: Arc<dyn EventTable>,
        partitions: usize,
    ) -> Self {
        let schema = if entity == USER {
            person_schema(&asked)
        } else {
            key_schema(&asked, entity)
        };
        let column = Column::new(schema.field(0).name(), 0);
        let partitioning = Partitioning::Hash(vec![Arc::new(column)], partitions);
        Self {
            asked,
            entity,
            events,
            partitions,
            properties: properties(schema, partitioning),
            metrics: ExecutionPlanMetricsSet::new(),
            started: Mutex::default(),
        }
    }

    /// Begins the pass.
    fn start(&self) -> Vec<Outlet> {
        let partitions = self.partitions;
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..partitions).map(|_| channel(BATCHES_AHEAD)).unzip();
        let rows = MetricBuilder::new(&self.metrics).output_rows(0);
        let time = MetricBuilder::new(&self.metrics).elapsed_compute(0);
        let (asked, entity) = (self.asked.clone(), self.entity);
        let preparing = MetricBuilder::new(&self.metrics).subset_time("preparing_time", 0);
        let columns = asked.event_columns(entity);
        let decoded = ahead(self.events.scan(columns, None));
        let mut preparation = Preparation::new(asked.clone(), entity, failures(&self.metrics, 0));
        let prepared = ahead(decoded.map(move |rows| {
            let _timer = preparing.timer();
            rows.map(|rows| preparation.prepare(rows))
        }));
        let (events, metrics) = (self.events.clone(), self.metrics.clone());
        tokio::task::spawn_blocking(move || {
            let mut timer = time.timer();
            let mut is_wanted = vec![true; senders.len()];
            let mut emit = |partition: usize, batch: RecordBatch| {
                timer.stop();
                rows.add(batch.num_rows());
                is_wanted[partition] &= senders[partition].blocking_send(Ok(batch)).is_ok();
                timer.restart();
                is_wanted.contains(&true)
            };
            let done = if entity == USER {
                person_steps(&asked, events.as_ref(), prepared, partitions, &mut emit)
                    .map(|counts| counts.publish(&asked, &metrics))
            } else {
                key_steps(&asked, entity, prepared, partitions, &mut emit)
            };
            if let Err(error) = done {
                fail(&senders, error.into());
            }
        });
        receivers.into_iter().map(Some).collect()
    }
}

/// Lets every partition know that the pass failed.
fn fail(senders: &[Sender<Result<RecordBatch>>], error: Box<crate::FeatureError>) {
    let error = Arc::new(DataFusionError::External(error));
    for sender in senders {
        // those who do not want to know have gone
        let _ = sender.blocking_send(Err(DataFusionError::Shared(error.clone())));
    }
}

/// What the operators of a replay have in common: they end, and give out rows once they have read enough.
pub(super) fn properties(schema: SchemaRef, partitioning: Partitioning) -> Arc<PlanProperties> {
    Arc::new(PlanProperties::new(
        EquivalenceProperties::new(schema),
        partitioning,
        EmissionType::Final,
        Boundedness::Bounded,
    ))
}

/// What an iterator gives, worked out on a thread of its own, ahead of who reads it.
fn ahead<T: Send + 'static>(
    from: impl Iterator<Item = T> + Send + 'static,
) -> impl Iterator<Item = T> + Send {
    let (sender, receiver) = sync_channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        for chunk in from {
            if sender.send(chunk).is_err() {
                break; // nobody reads on
            }
        }
    });
    receiver.into_iter()
}

impl DisplayAs for StepsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.asked.event_columns(self.entity).names().join(", ");
        let entity = self.asked.set.entity_name(self.entity);
        let partitions = self.partitions;
        write!(
            f,
            "StepsExec: entity={entity}, partitions={partitions}, columns=[{columns}]"
        )
    }
}

impl ExecutionPlan for StepsExec {
    fn name(&self) -> &'static str {
        "StepsExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let mut started = self.started.lock();
        let receivers = started.get_or_insert_with(|| self.start());
        let receiver = receivers.get_mut(partition).and_then(Option::take);
        let receiver = receiver.ok_or_else(|| {
            DataFusionError::Internal(format!("partition {partition} of steps is read twice"))
        })?;
        let batches = stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|batch| (batch, receiver))
        });
        let schema = self.schema();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
