//! Stores in memory, which forget everything when they are dropped: for tests, examples and measurements of what stands
//! on the ports. The state store passes the same [conformance suite](crate::conformance::state) as the durable ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use tidemill_core::sync::Mutex;
use tidemill_core::{EventKind, ProjectName};

use crate::delta::encode_events;
use crate::event_rows::{EventColumns, EventRows, EventScan, EventTable};
use crate::state::StateEntry;
use crate::{LoggedEvent, StateBatch, StateStore, StoreError};

/// Events in memory, as a table.
#[derive(Debug, Clone, Default)]
pub struct MemoryEvents(Arc<Vec<RecordBatch>>);

/// The rows of a batch of [`MemoryEvents`].
const EVENTS_PER_BATCH: usize = 4_096;

impl MemoryEvents {
    /// Events in the order of the log.
    ///
    /// # Errors
    /// When one cannot be written as a row.
    pub fn new(events: &[LoggedEvent]) -> Result<Self, StoreError> {
        let batches = events.chunks(EVENTS_PER_BATCH).map(encode_events);
        Ok(Self(Arc::new(batches.collect::<Result<_, _>>()?)))
    }
}

impl EventTable for MemoryEvents {
    fn scan(&self, columns: EventColumns, _kinds: Option<&'static [EventKind]>) -> EventScan {
        let batches = Arc::clone(&self.0);
        let rows = (0..batches.len()).map(move |batch| EventRows::new(&batches[batch], columns));
        Box::new(rows)
    }
}

/// By project, table and key.
type Rows = BTreeMap<(ProjectName, &'static str, Vec<u8>), Vec<u8>>;

/// See the module. A clone is another handle to the same store; a commit is atomic because the whole store is locked.
#[derive(Clone, Default)]
pub struct MemoryState {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    rows: Rows,
    full: bool,
}

impl MemoryState {
    /// Refuses every commit as a full disk does, until told otherwise.
    pub fn set_full(&self, full: bool) {
        self.inner.lock().full = full;
    }

    /// How many entries a table has, and the bytes of its largest value, over all projects.
    pub fn size_of(&self, table: &str) -> (usize, usize) {
        let inner = self.inner.lock();
        let of_table = inner.rows.iter().filter(|((_, of, _), _)| *of == table);
        of_table.fold((0, 0), |(count, largest), (_, value)| {
            (count + 1, largest.max(value.len()))
        })
    }
}

impl StateStore for MemoryState {
    fn get(
        &self,
        project: &ProjectName,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let place = (project.clone(), table, key.to_vec());
        Ok(self.inner.lock().rows.get(&place).cloned())
    }

    fn scan(
        &self,
        project: &ProjectName,
        table: &'static str,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<StateEntry>, StoreError> {
        let inner = self.inner.lock();
        let from = after.map_or(prefix, |after| after.max(prefix));
        let from = inner.rows.range((project.clone(), table, from.to_vec())..);
        let fitting = from.take_while(|((of, in_table, key), _)| {
            of == project && *in_table == table && key.starts_with(prefix)
        });
        let later =
            fitting.filter(|((_, _, key), _)| after.is_none_or(|after| key.as_slice() > after));
        Ok(later
            .take(limit)
            .map(|((_, _, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn commit(&self, project: &ProjectName, batch: StateBatch) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if inner.full {
            return Err(StoreError::Full {
                action: "commit a batch",
            });
        }
        for (table, key, value) in batch.changes {
            let place = (project.clone(), table, key);
            match value {
                Some(value) => inner.rows.insert(place, value),
                None => inner.rows.remove(&place),
            };
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), StoreError> {
        Ok(())
    }
}
