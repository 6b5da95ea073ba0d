//! What each column is made of: for people who ask what it costs and how fresh it is.

use std::collections::BTreeSet;

use super::{Entity, FeatureSet, OTHER_EVENTS, RequestInput, Source};

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
        let columns = 0..self.0.places.len();
        columns.map(|column| self.sources_of(column)).collect()
    }

    fn sources_of(&self, column: usize) -> ColumnSources {
        let (entity, place) = self.0.places[column];
        let definition = &self.0.entities[entity];
        let mut sources = ColumnSources {
            entity: definition.home,
            ..ColumnSources::default()
        };
        if let Source::Request { inputs, .. } = &definition.columns[place].source {
            for input in inputs {
                if let RequestInput::Column(column) = input {
                    let of = self.sources_of(*column);
                    sources.events.extend(of.events);
                    sources.all_events |= of.all_events;
                }
            }
            return sources;
        }
        aggregates(definition, place, &mut sources.aggregates);
        let home = self.home(entity);
        for aggregate in &sources.aggregates {
            let reads = |kind: usize| {
                let steps = home.plan.steps.get(kind).into_iter().flatten();
                let mut all = steps.chain(home.plan.changes.get(kind).into_iter().flatten());
                all.any(|step| step.aggregate == *aggregate)
            };
            sources.all_events |= reads(OTHER_EVENTS);
            let named = home.by_name.iter();
            let named = named.filter(|(_, steps)| reads(**steps));
            sources.events.extend(named.map(|(name, _)| name.clone()));
        }
        sources
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
        Source::Request { .. } => {}
    }
}
