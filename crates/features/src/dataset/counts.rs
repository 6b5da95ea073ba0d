//! What is counted while rows are made. The counts travel as the metrics of the plan's operators, so that they are known wherever the
//! plan has run.

use std::collections::BTreeMap;

use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder};
use tidemill_core::Offset;

use super::asked::Asked;
use super::record::Drop;

const LAST_OFFSET: &str = "last_offset";
const FAILURES: &str = "expression_failures";

/// What was counted while the events were read.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    pub(super) last_offset: Offset,
    /// By model.
    pub(super) models: Vec<ModelCounts>,
    /// Conditions and expressions that failed on a row.
    pub(super) failures: u64,
}

/// Observations of one model.
#[derive(Debug, Clone, Default)]
pub(super) struct ModelCounts {
    pub(super) observed: u64,
    pub(super) rows: usize,
    pub(super) dropped: BTreeMap<Drop, u64>,
    pub(super) condition_failures: u64,
}

/// Where an operator counts conditions and expressions that failed on a row.
pub(super) fn failures(metrics: &ExecutionPlanMetricsSet, partition: usize) -> Count {
    MetricBuilder::new(metrics).counter(FAILURES, partition)
}

/// What a count of a model is called.
fn name(asked: &Asked, model: usize, what: &str) -> String {
    format!("{}.{what}", asked.models[model].model.name)
}

impl Counts {
    /// Makes them the metrics of an operator.
    pub(super) fn publish(&self, asked: &Asked, metrics: &ExecutionPlanMetricsSet) {
        let count = |name: String, number: u64| {
            let count = MetricBuilder::new(metrics).counter(name, 0);
            count.add(usize::try_from(number).unwrap_or(usize::MAX));
        };
        count(LAST_OFFSET.to_owned(), self.last_offset.0);
        for (model, counts) in self.models.iter().enumerate() {
            count(name(asked, model, "observed"), counts.observed);
            count(name(asked, model, FAILURES), counts.condition_failures);
            for (reason, number) in &counts.dropped {
                count(name(asked, model, reason.as_str()), *number);
            }
        }
    }

    /// Those of a plan that has run.
    pub(super) fn of(plan: &dyn ExecutionPlan, asked: &Asked) -> Self {
        let read = |name: &str| sum(plan, name);
        let of_model = |model: usize| {
            let read = |what: &str| read(&name(asked, model, what));
            let dropped = Drop::ALL
                .iter()
                .map(|reason| (*reason, read(reason.as_str())));
            ModelCounts {
                observed: read("observed"),
                rows: 0,
                dropped: dropped.filter(|(_, number)| *number > 0).collect(),
                condition_failures: read(FAILURES),
            }
        };
        Self {
            last_offset: Offset(read(LAST_OFFSET)),
            models: (0..asked.models.len()).map(of_model).collect(),
            failures: read(FAILURES),
        }
    }
}

/// The sum of a metric over a plan.
fn sum(plan: &dyn ExecutionPlan, name: &str) -> u64 {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name(name));
    let below = plan
        .children()
        .into_iter()
        .map(|child| sum(child.as_ref(), name));
    own.map_or(0, |value| value.as_usize() as u64) + below.sum::<u64>()
}
