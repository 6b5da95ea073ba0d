//! What each column is made of: for people who ask what it costs and how fresh it is.

use std::collections::BTreeSet;

use super::{Entity, FeatureSet, OTHER_EVENTS, Source};

/// What a column is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ColumnSources {
    /// The events that it reads, by name.
    pub events: BTreeSet<String>,
    /// Whether it reads everything that people do, whatever its name.
    pub all_events: bool,
    /// Its entity's place in the set.
    pub(crate) entity: usize,
    /// The aggregates whose state it needs.
    pub(crate) aggregates: BTreeSet<usize>,
}

impl FeatureSet {
    /// What each column is made of, in their order.
    pub fn sources(&self) -> Vec<ColumnSources> {
        let sources = self.0.places.iter().map(|&(entity, column)| {
            let mut sources = ColumnSources {
                entity,
                ..ColumnSources::default()
            };
            let definition = &self.0.entities[entity];
            aggregates(definition, column, &mut sources.aggregates);
            for aggregate in &sources.aggregates {
                let reads = |steps: usize| {
                    let steps = definition.plan.steps.get(steps);
                    steps.is_some_and(|steps| steps.iter().any(|step| step.aggregate == *aggregate))
                };
                sources.all_events |= reads(OTHER_EVENTS);
                let named = definition.by_name.iter();
                let named = named.filter(|(_, steps)| reads(**steps));
                sources.events.extend(named.map(|(name, _)| name.clone()));
            }
            sources
        });
        sources.collect()
    }
}

/// The aggregates that a column reads, itself or through others.
fn aggregates(entity: &Entity, column: usize, found: &mut BTreeSet<usize>) {
    match &entity.columns[column].source {
        Source::Aggregate { aggregate, .. } => {
            found.insert(*aggregate);
        }
        Source::Expression { inputs, .. } => {
            for input in inputs {
                aggregates(entity, *input, found);
            }
        }
    }
}
