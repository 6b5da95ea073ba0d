//! The attributes of items while a dataset's events are read: what an item was when somebody dealt with it.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::Offset;
use tidemill_core::event::EventView;

use crate::set::{Conditions, Entity};
use crate::value::Value;

/// What each item is at a place of the log.
pub(super) struct ItemHistory<'a> {
    entity: &'a Entity,
    /// By item, the attributes that were ever said, each with the aggregate that keeps it.
    attributes: HashMap<Arc<str>, Vec<(usize, Value)>>,
}

impl<'a> ItemHistory<'a> {
    /// Before the first event.
    pub(super) fn new(entity: &'a Entity) -> Self {
        Self {
            entity,
            attributes: HashMap::new(),
        }
    }

    /// Takes an event, which may change an item; it is the one at `index` of the batch that `conditions` were evaluated on.
    pub(super) fn take(
        &mut self,
        event: &impl EventView,
        offset: Offset,
        (index, conditions): (usize, &Conditions),
    ) {
        let plan = &self.entity.plan;
        if plan.changes[self.entity.steps_of(event)].is_empty() {
            return;
        }
        let Some(item) = self.entity.key_of(event) else {
            return;
        };
        let extracted = self.entity.extract(event, offset, index, conditions);
        for (aggregate, value) in plan.changed(&extracted) {
            let attributes = self.attributes.entry(item.clone()).or_default();
            let known = attributes.iter_mut().find(|(of, _)| *of == aggregate);
            match known {
                Some((_, known)) => known.clone_from(value),
                None => attributes.push((aggregate, value.clone())),
            }
        }
    }

    /// An attribute of the item that an event is about.
    pub(super) fn attribute(&self, event: &impl EventView, aggregate: usize) -> Value {
        let item = self.entity.key_of(event);
        let attributes = item.and_then(|item| self.attributes.get(&item));
        let mut attributes = attributes.into_iter().flatten();
        let found = attributes.find(|(of, _)| *of == aggregate);
        found.map_or(Value::Missing, |(_, value)| value.clone())
    }
}
