//! What people were shown lately, for caps on how often.

use std::collections::HashMap;

use tidemill_core::event::PersonKey;
use tidemill_core::{ModelName, Timestamp};
use tidemill_store::StoreError;

/// Remembers the lists that people were shown.
pub trait ShownLately: Send + Sync {
    /// How many of a model's lists since a moment had each item, for one person.
    ///
    /// # Errors
    /// When the store fails or an entry is damaged.
    fn shown(
        &self,
        person: &PersonKey,
        model: &ModelName,
        since: Timestamp,
    ) -> Result<HashMap<String, u32>, StoreError>;
}
