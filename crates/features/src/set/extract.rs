//! What the definitions need of events, taken out of them once.

use std::sync::Arc;

use tidemill_core::event::{EventView, Field};
use tidemill_core::{EventKind, FeatureValue, Offset, Timestamp};

use super::{Entity, EntityKey, FeatureSet, OTHER_EVENTS, Origin, SYSTEM_EVENTS, Test, USER};
use crate::accumulate::{EntityState, Extracted};
use crate::value::{self, Value};

/// Which conditions hold for which events of a batch.
#[derive(Debug)]
pub(crate) struct Conditions {
    /// For each condition of the set, for each event of the batch.
    fulfilled: Vec<Vec<bool>>,
    /// How often a condition could not be evaluated, which counts as not fulfilled.
    pub(crate) failures: u64,
}

impl FeatureSet {
    /// Evaluates all conditions on a batch.
    pub(crate) fn conditions<V: EventView>(&self, events: &[V]) -> Conditions {
        let mut conditions = Conditions {
            fulfilled: Vec::with_capacity(self.0.conditions.len()),
            failures: 0,
        };
        for condition in &self.0.conditions {
            let asked: Vec<usize> = (0..events.len())
                .filter(|&index| {
                    let name = events[index].name();
                    condition.events.is_empty()
                        || condition.events.iter().any(|event| event == name)
                })
                .collect();
            let mut fulfilled = vec![false; events.len()];
            if !asked.is_empty() {
                let of: Vec<&V> = asked.iter().map(|&index| &events[index]).collect();
                let (answers, failures) = match &condition.test {
                    Test::Sql(compiled) => compiled.evaluate(&of),
                    Test::IsNull(field) => {
                        (of.iter().map(|event| is_null(*event, field)).collect(), 0)
                    }
                };
                conditions.failures += failures;
                for (index, answer) in asked.into_iter().zip(answers) {
                    fulfilled[index] = answer;
                }
            }
            conditions.fulfilled.push(fulfilled);
        }
        conditions
    }
}

/// Whether an event says of a field that it is nothing, rather than not mentioning it.
fn is_null(event: &impl EventView, field: &Field) -> bool {
    let value = match field {
        Field::Property(path) => event.property(path),
        Field::Context(path) => event.context(path),
        Field::Name | Field::UserId | Field::AnonymousId | Field::GroupId => None,
    };
    value.is_some_and(|value| value.is_null())
}

/// The key of another entity that a user last had at a moment; for "everything" there is only one.
pub(crate) fn key_last_had(
    set: &FeatureSet,
    entity: usize,
    user: &EntityState,
    moment: Timestamp,
) -> Option<Arc<str>> {
    let Some(hidden) = set.entities()[entity].last_key else {
        return Some(Arc::from(""));
    };
    let mut value = Vec::with_capacity(1);
    user.read(
        &set.entities()[USER].plan,
        &[(hidden, 0)],
        moment,
        &mut value,
    );
    match value.pop() {
        Some(FeatureValue::Category(key)) => Some(key),
        _ => None,
    }
}

impl Entity {
    /// Which of [`StatePlan::steps`](crate::accumulate::StatePlan::steps) an event takes.
    pub(crate) fn steps_of(&self, event: &impl EventView) -> usize {
        self.steps_named(event.name())
    }

    /// The same of all events with a name.
    pub(crate) fn steps_named(&self, name: &str) -> usize {
        match self.by_name.get(name) {
            Some(steps) => *steps,
            None if name.starts_with('$') => SYSTEM_EVENTS,
            None => OTHER_EVENTS,
        }
    }

    /// Whether the event does anything to entities of this kind.
    pub(crate) fn reads(&self, event: &impl EventView) -> bool {
        self.does_anything(self.steps_of(event))
    }

    /// Whether events that take these steps do anything to entities of this kind.
    pub(crate) fn does_anything(&self, steps: usize) -> bool {
        !self.plan.steps[steps].is_empty() || !self.plan.changes[steps].is_empty()
    }

    /// The field that has the key.
    pub(crate) fn key_field(&self) -> Option<&Field> {
        match &self.key {
            EntityKey::Field(field) | EntityKey::Item(field, _) => Some(field),
            _ => None,
        }
    }

    /// The key of the entity that the event is about; persons are resolved elsewhere.
    pub(crate) fn key_of(&self, event: &impl EventView) -> Option<Arc<str>> {
        let json = match &self.key {
            EntityKey::Everything => return Some(Arc::from("")),
            EntityKey::Item(_, id)
                if matches!(
                    event.kind(),
                    EventKind::ItemChanged | EventKind::ItemDeleted
                ) =>
            {
                event.field(id)
            }
            EntityKey::Field(field) | EntityKey::Item(field, _) => event.field(field),
            EntityKey::Person | EntityKey::Session | EntityKey::Pair(_) | EntityKey::Request => {
                None
            }
        }?;
        value::category(&json).map(|text| Arc::from(text.as_ref()))
    }

    /// The conditions that hold for the event at `index` of the batch that `conditions` were evaluated on, a bit each.
    pub(crate) fn passed(&self, steps: usize, index: usize, conditions: &Conditions) -> u64 {
        let mut passed = 0;
        for (bit, condition) in self.inputs[steps].conditions.iter().enumerate() {
            passed |= u64::from(conditions.fulfilled[*condition][index]) << bit;
        }
        passed
    }

    /// What the entity needs of the event at `index` of the batch that `conditions` were evaluated on. What is found with items is
    /// missing yet.
    pub(crate) fn extract(
        &self,
        event: &impl EventView,
        offset: Offset,
        index: usize,
        conditions: &Conditions,
    ) -> Extracted {
        let steps = self.steps_of(event);
        let values = self.inputs[steps].values.iter();
        Extracted {
            timestamp: event.timestamp().micros(),
            offset: offset.0,
            steps: u32::try_from(steps).expect("definitions name fewer than 2^32 events"),
            passed: self.passed(steps, index, conditions),
            values: values
                .map(|(origin, kind)| match origin {
                    Origin::Field(field) => Value::of(event, field, *kind),
                    Origin::OfItem(_) => Value::Missing,
                })
                .collect(),
        }
    }
}
