//! The leaves of the plan: the steps of persons, and of the keys of another entity, out of the events.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties,
};
use tidemill_store::EventTable;

use crate::dataset::asked::Asked;
use crate::dataset::steps::{key_schema, key_steps, person_schema, person_steps};
use crate::set::USER;

/// How many batches are made before they are asked for.
const BATCHES_AHEAD: usize = 4;

/// Reads the events once, in the order of the log, and gives out what they do to the states of one entity. One partition.
#[derive(Debug)]
pub(crate) struct StepsExec {
    asked: Arc<Asked>,
    entity: usize,
    events: Arc<dyn EventTable>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl StepsExec {
    pub(crate) fn new(asked: Arc<Asked>, entity: usize, events: Arc<dyn EventTable>) -> Self {
        let schema = if entity == USER {
            person_schema(&asked)
        } else {
            key_schema(&asked, entity)
        };
        Self {
            asked,
            entity,
            events,
            properties: properties(schema, Partitioning::UnknownPartitioning(1)),
            metrics: ExecutionPlanMetricsSet::new(),
        }
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

impl DisplayAs for StepsExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.asked.event_columns(self.entity).names().join(", ");
        let entity = self.asked.set.entity_name(self.entity);
        write!(f, "StepsExec: entity={entity}, columns=[{columns}]")
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
        let rows = MetricBuilder::new(&self.metrics).output_rows(partition);
        let time = MetricBuilder::new(&self.metrics).elapsed_compute(partition);
        let mut builder = RecordBatchReceiverStream::builder(self.schema(), BATCHES_AHEAD);
        let sender = builder.tx();
        let (asked, events, entity) = (self.asked.clone(), self.events.clone(), self.entity);
        builder.spawn_blocking(move || {
            let mut timer = time.timer();
            let mut emit = |batch: datafusion::arrow::record_batch::RecordBatch| {
                timer.stop();
                rows.add(batch.num_rows());
                let is_wanted = sender.blocking_send(Ok(batch)).is_ok();
                timer.restart();
                is_wanted
            };
            let done = if entity == USER {
                person_steps(&asked, &*events, &mut emit)
            } else {
                key_steps(&asked, entity, &*events, &mut emit)
            };
            done.map_err(|error| DataFusionError::External(Box::new(error)))
        });
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
