//! The items as they were at places of the log.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};
use tidemill_core::event::{EventKind, EventView, Field};
use tidemill_core::{Item, Offset};
use tidemill_store::{EventColumns, EventTable};

use crate::FeatureError;
use crate::value;

/// The events that change items.
const CHANGING: &[EventKind] = &[EventKind::ItemChanged, EventKind::ItemDeleted];

/// The items of a moment by their ids.
pub type ItemsById = HashMap<Arc<str>, Arc<Item>>;

/// The items with their attributes as they were when the log had come to each of these places, in their order; a place sees all events
/// up to and including it. Places must not fall.
///
/// # Errors
/// When the events cannot be read.
pub fn items_at(
    events: &dyn EventTable,
    places: &[Offset],
) -> Result<Vec<ItemsById>, FeatureError> {
    let (id, attributes) = (property("id")?, property("attributes")?);
    let columns = EventColumns::of([&id]);
    let mut items = ItemsById::new();
    let mut found = Vec::with_capacity(places.len());
    'events: for rows in events.scan(columns, Some(CHANGING)) {
        let rows = rows.map_err(FeatureError::Events)?;
        for (index, event) in rows.rows().enumerate() {
            while places
                .get(found.len())
                .is_some_and(|place| *place < rows.offset(index))
            {
                found.push(items.clone());
            }
            if found.len() == places.len() {
                break 'events;
            }
            let named = event.field(&id);
            let Some(named) = named.as_ref().and_then(|json| value::category(json)) else {
                continue;
            };
            if event.kind() == EventKind::ItemDeleted {
                items.remove(named.as_ref());
                continue;
            }
            let item = items.entry(Arc::from(named.as_ref())).or_insert_with(|| {
                Arc::new(Item {
                    id: named.clone().into_owned(),
                    attributes: Map::new(),
                    updated_at: event.timestamp(),
                })
            });
            if let Some(Value::Object(changed)) = event.field(&attributes).as_deref() {
                Arc::make_mut(item).apply(changed, event.timestamp());
            }
        }
    }
    while found.len() < places.len() {
        found.push(items.clone());
    }
    Ok(found)
}

fn property(name: &str) -> Result<Field, FeatureError> {
    let field = format!("properties.{name}").parse();
    field.map_err(|error: tidemill_core::event::FieldError| {
        FeatureError::damaged(name.to_owned(), error.to_string())
    })
}
