//! Items: what can be recommended or optimised. Their attributes change by events.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Timestamp;

/// An item with its attributes as they are now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item {
    /// The id by which events name it.
    pub id: String,
    /// What is known about it.
    pub attributes: Map<String, Value>,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// A change of one item, as it is sent: attributes that are named replace the earlier ones, `null` removes one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemChange {
    /// The item.
    pub id: String,
    /// What to set.
    #[serde(default)]
    pub attributes: Map<String, Value>,
}

impl Item {
    /// Applies a change.
    pub fn apply(&mut self, attributes: &Map<String, Value>, now: Timestamp) {
        for (name, value) in attributes {
            if value.is_null() {
                self.attributes.remove(name);
            } else {
                self.attributes.insert(name.clone(), value.clone());
            }
        }
        self.updated_at = now;
    }
}
