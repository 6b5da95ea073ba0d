//! The operator: steps and observations in, rows with features out.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, PhysicalExpr};
use datafusion::physical_plan::expressions::Column;
use datafusion::physical_plan::metrics::{
    ExecutionPlanMetricsSet, MetricBuilder, MetricsSet, Time,
};
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, PlanProperties,
};
use futures::TryStreamExt;
use tokio::sync::mpsc::Sender;

use super::buckets::{Buckets, joined};
use super::keys::Keys;
use super::persons::Persons;
use super::rows::{key_column, key_rows_schema, person_rows_schema};
use super::steps_exec::properties;
use crate::dataset::asked::Asked;
use crate::dataset::counts::failures;
use crate::dataset::division::BUCKETS;
use crate::set::{EntityRead, USER};

/// How many batches are made before they are asked for.
const BATCHES_AHEAD: usize = 2;

/// Runs the accumulators of one kind of entity over their steps, and reads a row of features at each observation.
///
/// Persons have one input: their steps, the observations among them. Another entity has two: the steps of its keys, and the rows
/// that were read so far, to which it adds its columns. Inputs are divided by what they are about and come in the order of the
/// log within each partition (rows that look up a key may come in any order). A partition is divided into buckets, which spill
/// when memory is short; one bucket's states are in memory at a time.
#[derive(Debug)]
pub(crate) struct ReplayExec {
    pub(super) asked: Arc<Asked>,
    /// For another entity than persons its place among the reads, and that among the reads of others.
    pub(super) other: Option<(usize, usize)>,
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ReplayExec {
    /// The replay of persons.
    pub(crate) fn persons(asked: Arc<Asked>, steps: Arc<dyn ExecutionPlan>) -> Self {
        let schema = person_rows_schema(&asked);
        let partitioning = steps.output_partitioning().clone();
        Self {
            asked,
            other: None,
            inputs: vec![steps],
            properties: properties(schema, unknown(&partitioning)),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The replay of another entity's keys, for the read at `place`, the `other`-th of those of other entities.
    pub(crate) fn keys(
        asked: Arc<Asked>,
        (place, other): (usize, usize),
        steps: Arc<dyn ExecutionPlan>,
        rows: Arc<dyn ExecutionPlan>,
    ) -> Self {
        let read = &asked.features.reads()[place];
        let schema = key_rows_schema(&rows.schema(), place, read);
        let partitioning = steps.output_partitioning().clone();
        Self {
            asked,
            other: Some((place, other)),
            inputs: vec![steps, rows],
            properties: properties(schema, unknown(&partitioning)),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    /// The same with other inputs.
    pub(crate) fn with_inputs(&self, mut inputs: Vec<Arc<dyn ExecutionPlan>>) -> Result<Self> {
        let asked = self.asked.clone();
        match (self.other, inputs.pop(), inputs.pop()) {
            (None, Some(steps), None) => Ok(Self::persons(asked, steps)),
            (Some(other), Some(rows), Some(steps)) => Ok(Self::keys(asked, other, steps, rows)),
            _ => {
                let message = "a replay has as many inputs as it had".to_owned();
                Err(DataFusionError::Internal(message))
            }
        }
    }

    /// The column that each input is divided by.
    pub(crate) fn division(&self) -> Vec<Arc<dyn PhysicalExpr>> {
        let places = match self.other {
            None => vec![0],
            Some((_, other)) => vec![0, key_column(&self.asked, other)],
        };
        let inputs = self.inputs.iter().zip(places);
        inputs
            .map(|(input, place)| {
                let name = input.schema().field(place).name().clone();
                Arc::new(Column::new(&name, place)) as Arc<dyn PhysicalExpr>
            })
            .collect()
    }
}

fn unknown(
    partitioning: &datafusion::physical_plan::Partitioning,
) -> datafusion::physical_plan::Partitioning {
    let count = partitioning.partition_count();
    datafusion::physical_plan::Partitioning::UnknownPartitioning(count)
}

impl DisplayAs for ReplayExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reads: Vec<&EntityRead> = match self.other {
            Some((place, _)) => self.asked.features.reads().get(place).into_iter().collect(),
            None => self.asked.of_person().map(|(_, read)| read).collect(),
        };
        let entity = match self.other {
            Some(_) => reads.first().map_or(USER, |read| read.entity),
            None => USER,
        };
        let features: usize = reads.iter().map(|read| read.types().count()).sum();
        let name = self.asked.set.entity_name(entity);
        write!(
            f,
            "ReplayExec: entity={name}, features={features}, buckets={BUCKETS}"
        )
    }
}

impl ExecutionPlan for ReplayExec {
    fn name(&self) -> &'static str {
        "ReplayExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        let division = self.division().into_iter();
        let by_key = division.map(|column| Distribution::KeyPartitioned(vec![column]));
        InputDistributionRequirements::new(by_key.collect())
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        self.inputs.iter().collect()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(
        self: Arc<Self>,
        inputs: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(self.with_inputs(inputs)?))
    }

    fn execute(
        &self,
        partition: usize,
        context: Arc<TaskContext>,
    ) -> Result<SendableRecordBatchStream> {
        let mut buckets = Vec::new();
        for (input, column) in self.inputs.iter().zip(self.division()) {
            let by = column.downcast_ref::<Column>().map_or(0, Column::index);
            let stream = input.execute(partition, context.clone())?;
            let empty = Buckets::new(
                by,
                input.schema(),
                self.name(),
                partition,
                &context,
                &self.metrics,
            );
            buckets.push((stream, empty));
        }
        let work = Work {
            asked: self.asked.clone(),
            other: self.other,
            schema: self.schema(),
            rows: MetricBuilder::new(&self.metrics).output_rows(partition),
            failures: failures(&self.metrics, partition),
            steps: MetricBuilder::new(&self.metrics).counter("steps", partition),
            dividing: MetricBuilder::new(&self.metrics).subset_time("dividing_time", partition),
            replaying: MetricBuilder::new(&self.metrics).subset_time("replaying_time", partition),
        };
        let mut builder = RecordBatchReceiverStream::builder(self.schema(), BATCHES_AHEAD);
        let sender = builder.tx();
        builder.spawn(async move { work.run(buckets, sender).await });
        Ok(builder.build())
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}

/// The replay of one partition.
struct Work {
    asked: Arc<Asked>,
    other: Option<(usize, usize)>,
    schema: SchemaRef,
    rows: datafusion::physical_plan::metrics::Count,
    steps: datafusion::physical_plan::metrics::Count,
    failures: datafusion::physical_plan::metrics::Count,
    dividing: Time,
    replaying: Time,
}

impl Work {
    async fn run(
        self,
        inputs: Vec<(SendableRecordBatchStream, Buckets)>,
        sender: Sender<Result<RecordBatch>>,
    ) -> Result<()> {
        let mut divided = Vec::new();
        // the first input is read to its end before the second begins
        for (mut stream, mut buckets) in inputs {
            while let Some(batch) = stream.try_next().await? {
                let _timer = self.dividing.timer();
                buckets.push(batch)?;
            }
            divided.push((stream.schema(), buckets));
        }
        for bucket in 0..BUCKETS {
            let rows = match self.other {
                None => self.persons(&mut divided, bucket).await?,
                Some(other) => self.keys(&mut divided, bucket, other).await?,
            };
            if rows.num_rows() == 0 {
                continue;
            }
            self.rows.add(rows.num_rows());
            if sender.send(Ok(rows)).await.is_err() {
                return Ok(()); // nobody wants them any more
            }
        }
        Ok(())
    }

    async fn persons(
        &self,
        divided: &mut [(SchemaRef, Buckets)],
        bucket: usize,
    ) -> Result<RecordBatch> {
        let mut steps = divided[0].1.take(bucket);
        let mut persons = Persons::new(&self.asked, self.failures.clone());
        while let Some(batch) = steps.next().await? {
            let _timer = self.replaying.timer();
            self.steps.add(batch.num_rows());
            persons.push(&batch);
        }
        let _timer = self.replaying.timer();
        persons.finish(&self.schema)
    }

    async fn keys(
        &self,
        divided: &mut [(SchemaRef, Buckets)],
        bucket: usize,
        (place, other): (usize, usize),
    ) -> Result<RecordBatch> {
        let rows = divided[1].1.take(bucket).all().await?;
        if rows.is_empty() {
            return Ok(RecordBatch::new_empty(Arc::clone(&self.schema)));
        }
        let rows = joined(&divided[1].0, &rows)?;
        let read = &self.asked.features.reads()[place];
        let key_column = key_column(&self.asked, other);
        let mut keys = Keys::new(&self.asked, read, key_column, &rows, self.failures.clone())?;
        let mut steps = divided[0].1.take(bucket);
        while let Some(batch) = steps.next().await? {
            let _timer = self.replaying.timer();
            self.steps.add(batch.num_rows());
            keys.push(&batch);
        }
        let _timer = self.replaying.timer();
        keys.finish(&self.schema)
    }
}
