//! What can be said of events without knowing those before them. It is most of the work, and done ahead of the pass.

use std::sync::Arc;

use datafusion::arrow::array::StringArray;
use datafusion::physical_plan::metrics::Count;
use tidemill_core::project::Observe;
use tidemill_store::{EventRow, EventRows};

use super::values::{FullValues, Values};
use crate::dataset::asked::{Asked, AskedModel};
use crate::dataset::people::is_same;
use crate::set::{Conditions, OTHER_EVENTS, Origin, USER};
use crate::value::Value;

/// A chunk of events, prepared for the pass over one entity.
#[derive(Debug)]
pub(in crate::dataset) struct Prepared {
    pub(super) rows: EventRows,
    pub(super) conditions: Conditions,
    /// What is known of each name of the chunk.
    pub(super) names: Arc<[Named]>,
    /// For each event the models whose occasion it is to observe, a bit each.
    pub(super) occasions: Vec<u32>,
    /// For each model how often the condition of its observations could not be evaluated.
    pub(super) failures: Vec<u64>,
    /// For each event what it brings by itself, and to which target.
    pub(super) values: FullValues,
    /// For other entities than persons what each event is about.
    pub(super) keys: Vec<Option<Arc<str>>>,
}

/// What is known of all events with one name.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    /// Which steps they take.
    pub(super) steps: usize,
    /// Whether they do anything to the entity.
    pub(super) is_read: bool,
    /// The models whose targets they may decide, a bit each.
    pub(super) matters: u32,
    /// The models that observe at them, a bit each.
    observed: u32,
    /// Whether the system made them, and not the product.
    pub(super) is_system: bool,
}

/// Prepares one chunk after the other.
pub(in crate::dataset) struct Preparation {
    asked: Arc<Asked>,
    entity: usize,
    failures: Count,
    /// The names that were seen last: chunks of one file share them.
    names: Option<(StringArray, Arc<[Named]>)>,
}

impl Preparation {
    /// It counts conditions that fail on an event.
    pub(in crate::dataset) fn new(asked: Arc<Asked>, entity: usize, failures: Count) -> Self {
        Self {
            asked,
            entity,
            failures,
            names: None,
        }
    }

    pub(in crate::dataset) fn prepare(&mut self, rows: EventRows) -> Prepared {
        let names = self.names(rows.names().texts());
        let events: Vec<EventRow<'_>> = rows.rows().collect();
        let named = |row: usize| rows.names().which(row).map_or(OTHER, |name| names[name]);
        let conditions = self.asked.set.conditions(&events);
        if self.entity == USER {
            // the passes over other entities evaluate the same conditions again
            self.failures
                .add(usize::try_from(conditions.failures).unwrap_or(usize::MAX));
        }
        let mut occasions: Vec<u32> = (0..events.len()).map(|row| named(row).observed).collect();
        let models = self.asked.models.iter().enumerate();
        let failures = models
            .map(|(model, asked)| check(asked, model, &events, &mut occasions))
            .collect();
        let (values, keys) = (self.values(&events, named), self.keys(&events, named));
        Prepared {
            conditions,
            names,
            occasions,
            failures,
            values,
            keys,
            rows,
        }
    }

    fn names(&mut self, texts: &StringArray) -> Arc<[Named]> {
        match &self.names {
            Some((known, names)) if is_same(known, texts) => names.clone(),
            _ => {
                let named = texts
                    .iter()
                    .map(|name| self.named(name.unwrap_or_default()));
                let names: Arc<[Named]> = named.collect();
                self.names = Some((texts.clone(), names.clone()));
                names
            }
        }
    }

    fn named(&self, name: &str) -> Named {
        let entity = &self.asked.set.entities()[self.entity];
        let is_system = name.starts_with('$');
        let steps = entity.steps_named(name);
        let bits = |is_one: &dyn Fn(&AskedModel) -> bool| {
            let models = self.asked.models.iter().enumerate();
            models.fold(0, |bits, (model, asked)| {
                bits | u32::from(is_one(asked)) << model
            })
        };
        let observes = |asked: &AskedModel| match &asked.model.observe {
            Observe::Event { event, .. } => event == name || (event == "*" && !is_system),
            Observe::Every { .. } => false,
        };
        let is_user = self.entity == USER;
        Named {
            steps,
            is_read: entity.does_anything(steps),
            matters: bits(&|asked| is_user && asked.tracker.is_relevant(name)),
            observed: bits(&|asked| is_user && observes(asked)),
            is_system,
        }
    }

    fn values(&self, events: &[EventRow<'_>], named: impl Fn(usize) -> Named) -> FullValues {
        let entity = &self.asked.set.entities()[self.entity];
        let layout = &self.asked.layouts[self.entity];
        let mut values = Values::new(layout);
        for (row, event) in events.iter().enumerate() {
            let named = named(row);
            let inputs = entity.inputs[named.steps].values.iter();
            for ((origin, kind), &column) in inputs.zip(&layout.of_steps[named.steps]) {
                if let Origin::Field(field) = origin {
                    values.push(column, &Value::of(event, field, *kind));
                }
            }
            for (model, column) in layout.of_targets.iter().enumerate() {
                if let (Some(column), true) = (column, named.matters >> model & 1 == 1) {
                    let brought = self.asked.models[model].tracker.brought(event);
                    values.push(*column, &Value::Number(brought));
                }
            }
            values.fill(row + 1);
        }
        values.full()
    }

    fn keys(
        &self,
        events: &[EventRow<'_>],
        named: impl Fn(usize) -> Named,
    ) -> Vec<Option<Arc<str>>> {
        if self.entity == USER {
            return Vec::new();
        }
        let entity = &self.asked.set.entities()[self.entity];
        let keys = events.iter().enumerate();
        keys.map(|(row, event)| named(row).is_read.then(|| entity.key_of(event)).flatten())
            .collect()
    }
}

/// An event without a name, which does not exist.
const OTHER: Named = Named {
    steps: OTHER_EVENTS,
    is_read: false,
    matters: 0,
    observed: 0,
    is_system: false,
};

/// Takes away the occasions that do not fulfil a model's condition; returns how often it could not be evaluated.
fn check(asked: &AskedModel, model: usize, events: &[EventRow<'_>], occasions: &mut [u32]) -> u64 {
    let Some(condition) = &asked.condition else {
        return 0;
    };
    let is_occasion = |row: &usize| occasions[*row] >> model & 1 == 1;
    let rows: Vec<usize> = (0..events.len()).filter(is_occasion).collect();
    let such: Vec<EventRow<'_>> = rows.iter().map(|&row| events[row]).collect();
    let (fulfilled, failures) = condition.evaluate(&such);
    for (row, fulfilled) in rows.into_iter().zip(fulfilled) {
        if !fulfilled {
            occasions[row] &= !(1 << model);
        }
    }
    failures
}
