//! The port for online state: small values by key, committed atomically.

use tidemill_core::ProjectName;

use crate::StoreError;

/// Table, key and the new value; `None` removes the key.
pub type StateChange = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// Changes that become visible, and durable, together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StateBatch {
    /// In order: later entries win over earlier ones.
    pub changes: Vec<StateChange>,
}

impl StateBatch {
    /// Sets a value.
    pub fn put(&mut self, table: &'static str, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.changes.push((table, key.into(), Some(value.into())));
    }

    /// Removes a key.
    pub fn remove(&mut self, table: &'static str, key: impl Into<Vec<u8>>) {
        self.changes.push((table, key.into(), None));
    }

    /// Whether there is nothing to change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// A key and its value.
pub type StateEntry = (Vec<u8>, Vec<u8>);

/// Values by table and key, a world for each project. Tables come into being when first written; their names are
/// short constants of the code. Reads and commits are fast and synchronous (no network, no fsync).
///
/// Invariants: a commit is seen, and after a crash found, as a whole or not at all; commits that were
/// followed by [`flush`](StateStore::flush) survive power loss; without it a crash may lose the newest commits, but
/// never an older one while keeping a newer.
pub trait StateStore: Send + Sync {
    /// One value.
    fn get(
        &self,
        project: &ProjectName,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError>;

    /// Up to `limit` entries whose key starts with `prefix` and is greater than `after` (where given), in key order.
    fn scan(
        &self,
        project: &ProjectName,
        table: &'static str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StoreError>;

    /// Applies a batch atomically. After an error it may be found applied all the same, as a whole: read the checkpoint
    /// that went with it before going on.
    fn commit(&self, project: &ProjectName, batch: StateBatch) -> Result<(), StoreError>;

    /// Makes every commit so far durable.
    fn flush(&self) -> Result<(), StoreError>;
}
