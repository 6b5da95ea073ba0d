//! What the loop keeps for itself in the state store: a JSON value by its table and key.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_store::{StateBatch, StoreError};

use crate::project_loop::{CycleError, ProjectLoop};

impl ProjectLoop {
    /// Keeps a value in the place of the one before; `action` says in an error what is encoded.
    pub(crate) fn keep<T: Serialize>(
        &self,
        (table, key): (&'static str, &str),
        value: &T,
        action: &'static str,
    ) -> Result<(), CycleError> {
        let bytes = serde_json::to_vec(value).map_err(|source| StoreError::Backend {
            action,
            source: source.into(),
        })?;
        let mut batch = StateBatch::default();
        batch.put(table, key, bytes);
        Ok(self.stores.state.commit(&self.project.name, batch)?)
    }

    /// What is kept, where something is; `what` names it in an error.
    pub(crate) fn kept<T: DeserializeOwned>(
        &self,
        (table, key): (&'static str, &str),
        what: impl FnOnce() -> String,
    ) -> Result<Option<T>, CycleError> {
        let (state, name) = (&self.stores.state, &self.project.name);
        let stored = state.get(name, table, key.as_bytes())?;
        stored.map(|bytes| decoded(&bytes, what)).transpose()
    }
}

/// A value that was kept; `what` names it in an error.
pub(crate) fn decoded<T: DeserializeOwned>(
    bytes: &[u8],
    what: impl FnOnce() -> String,
) -> Result<T, CycleError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let (what, detail) = (what(), error.to_string());
        StoreError::Corrupt { what, detail }.into()
    })
}
