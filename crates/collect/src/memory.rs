//! A log in memory, for the tests of this crate.

use std::collections::HashSet;

use async_trait::async_trait;
use tidemill_core::sync::Mutex;
use tidemill_core::{Event, Offset, ProjectName, Timestamp};
use tidemill_store::event_log::LogCounts;
use tidemill_store::{Appended, EventLog, LoggedEvent, Quarantined, StoreError};
use tokio::sync::watch;

/// A log of one project that can be made to fail and to forget.
#[derive(Default)]
pub(crate) struct MemoryLog {
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) quarantined: Mutex<Vec<Quarantined>>,
    ids: Mutex<HashSet<String>>,
    /// Appends that still succeed; `None` means all.
    pub(crate) appends_left: Mutex<Option<usize>>,
}

impl MemoryLog {
    pub(crate) fn forget_ids(&self) {
        self.ids.lock().clear();
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(
        &self,
        _: &ProjectName,
        events: Vec<Event>,
        quarantined: Vec<Quarantined>,
    ) -> Result<Vec<Appended>, StoreError> {
        if let Some(left) = self.appends_left.lock().as_mut() {
            *left = left
                .checked_sub(1)
                .ok_or(StoreError::Full { action: "append" })?;
        }
        let mut stored = self.events.lock();
        let mut ids = self.ids.lock();
        self.quarantined.lock().extend(quarantined);
        let mut appended = Vec::with_capacity(events.len());
        for event in events {
            if ids.insert(event.message_id.clone()) {
                stored.push(event);
                appended.push(Appended::Stored(Offset(stored.len() as u64)));
            } else {
                appended.push(Appended::Duplicate);
            }
        }
        Ok(appended)
    }

    fn read(
        &self,
        _: &ProjectName,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let events = self.events.lock();
        let numbered = events.iter().enumerate().map(|(index, event)| LoggedEvent {
            offset: Offset(index as u64 + 1),
            event: event.clone(),
        });
        Ok(numbered
            .filter(|logged| logged.offset > after)
            .take(limit)
            .collect())
    }

    fn last(&self, _: &ProjectName) -> Result<Offset, StoreError> {
        Ok(Offset(self.events.lock().len() as u64))
    }

    fn watch(&self, project: &ProjectName) -> Result<watch::Receiver<Offset>, StoreError> {
        Ok(watch::channel(self.last(project)?).1)
    }

    fn truncate(&self, _: &ProjectName, _: Offset) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }

    fn forget_message_ids(&self, _: Timestamp) -> Result<u64, StoreError> {
        self.forget_ids();
        Ok(0)
    }

    fn quarantined(
        &self,
        _: &ProjectName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Quarantined)>, StoreError> {
        let pieces = self.quarantined.lock();
        Ok(pieces
            .iter()
            .enumerate()
            .rev()
            .map(|(id, piece)| (id as u64, piece.clone()))
            .filter(|(id, _)| before.is_none_or(|before| *id < before))
            .take(limit)
            .collect())
    }

    fn forget_quarantined(&self, _: &ProjectName, ids: &[u64]) -> Result<u64, StoreError> {
        let mut pieces = self.quarantined.lock();
        let before = pieces.len();
        let mut id = 0;
        pieces.retain(|_| {
            id += 1;
            !ids.contains(&(id - 1))
        });
        Ok((before - pieces.len()) as u64)
    }

    fn counts(&self, _: &ProjectName) -> Result<LogCounts, StoreError> {
        let stored = self.events.lock().len() as u64;
        Ok(LogCounts {
            stored,
            duplicates: 0,
            quarantined: self.quarantined.lock().len() as u64,
        })
    }
}
