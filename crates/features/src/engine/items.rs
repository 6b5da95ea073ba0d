//! The items with their attributes as they are now.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Map;
use tidemill_core::{Event, EventKind, Item, ProjectName};
use tidemill_store::{StateBatch, StateStore};

use crate::FeatureError;
use crate::value;

/// The table of items: id → JSON of [`Item`].
const ITEMS: &str = "items";

/// Whether an event is about items and not about somebody.
pub(super) fn is_about_items(event: &Event) -> bool {
    matches!(event.kind, EventKind::ItemChanged | EventKind::ItemDeleted)
}

/// Items, with what has not been committed yet.
pub(super) struct Items {
    project: ProjectName,
    store: Arc<dyn StateStore>,
    /// Changed items; `None` for deleted ones.
    pending: HashMap<String, Option<Item>>,
}

impl Items {
    pub(super) fn new(project: ProjectName, store: Arc<dyn StateStore>) -> Self {
        Self {
            project,
            store,
            pending: HashMap::new(),
        }
    }

    /// Takes an event: `properties.id`, and for changes `properties.attributes`, in which null removes one. Returns whether it was
    /// a change of an item that does not say which.
    pub(super) fn apply(&mut self, event: &Event) -> Result<bool, FeatureError> {
        if !is_about_items(event) {
            return Ok(false);
        }
        let Some(id) = event.properties.get("id").and_then(value::category) else {
            return Ok(true);
        };
        let id = id.into_owned();
        if event.kind == EventKind::ItemDeleted {
            self.pending.insert(id, None);
            return Ok(false);
        }
        let mut item = self.get(&id)?.unwrap_or_else(|| Item {
            id: id.clone(),
            attributes: Map::new(),
            updated_at: event.timestamp,
        });
        let none = Map::new();
        let attributes = event
            .properties
            .get("attributes")
            .and_then(|attributes| attributes.as_object());
        item.apply(attributes.unwrap_or(&none), event.timestamp);
        self.pending.insert(id, Some(item));
        Ok(false)
    }

    pub(super) fn get(&self, id: &str) -> Result<Option<Item>, FeatureError> {
        if let Some(item) = self.pending.get(id) {
            return Ok(item.clone());
        }
        let Some(bytes) = self.store.get(&self.project, ITEMS, id.as_bytes())? else {
            return Ok(None);
        };
        let item = serde_json::from_slice(&bytes);
        item.map(Some)
            .map_err(|error| FeatureError::damaged(format!("item {id}"), error.to_string()))
    }

    /// All of them, in the order of their ids.
    pub(super) fn all(&self) -> Result<Vec<Item>, FeatureError> {
        let stored = self
            .store
            .scan(&self.project, ITEMS, &[], None, usize::MAX)?;
        let mut items = BTreeMap::new();
        for (id, bytes) in stored {
            let id = String::from_utf8_lossy(&id).into_owned();
            let item: Item = serde_json::from_slice(&bytes)
                .map_err(|error| FeatureError::damaged(format!("item {id}"), error.to_string()))?;
            items.insert(id, item);
        }
        for (id, item) in &self.pending {
            match item {
                Some(item) => items.insert(id.clone(), item.clone()),
                None => items.remove(id),
            };
        }
        Ok(items.into_values().collect())
    }

    /// Adds what has not been committed to a batch.
    pub(super) fn collect(&self, batch: &mut StateBatch) -> Result<(), FeatureError> {
        for (id, item) in &self.pending {
            match item {
                None => batch.remove(ITEMS, id.as_bytes()),
                Some(item) => {
                    let json = serde_json::to_vec(item);
                    let json = json.map_err(|error| {
                        FeatureError::damaged(format!("item {id}"), error.to_string())
                    })?;
                    batch.put(ITEMS, id.as_bytes(), json);
                }
            }
        }
        Ok(())
    }

    /// What had been collected is committed.
    pub(super) fn committed(&mut self) {
        self.pending.clear();
    }
}
