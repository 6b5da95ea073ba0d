//! The keyspaces of the event log, and where each project's log ends.

use std::path::Path;

use fjall::{Database, Keyspace};
use serde::{Deserialize, Serialize};
use tidemill_core::{Offset, ProjectName};

use super::database::{self, failed};
use super::journal::Synced;
use super::keys;
use crate::StoreError;
use crate::event_log::LogCounts;

/// The keyspaces.
pub(super) struct Tables {
    pub(super) database: Database,
    pub(super) events: Keyspace,
    pub(super) message_ids: Keyspace,
    pub(super) message_times: Keyspace,
    pub(super) quarantined: Keyspace,
    pub(super) heads: Keyspace,
    pub(super) truncated: Keyspace,
}

/// Where a project's log ends. Stored as JSON; fields are only ever added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Head {
    pub(super) last: Offset,
    pub(super) counts: LogCounts,
}

impl Tables {
    pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        let database = database::open(path, cache_bytes, Synced::EveryBatch)?;
        let keyspace = |name| {
            database
                .keyspace(name, database::keyspace_options)
                .map_err(|e| failed("open the event log", e))
        };
        let tables = Self {
            events: keyspace("events")?,
            message_ids: keyspace("message_ids")?,
            message_times: keyspace("message_times")?,
            quarantined: keyspace("quarantined")?,
            heads: keyspace("heads")?,
            truncated: keyspace("truncated")?,
            database: database.clone(),
        };
        Ok(tables)
    }

    /// Every project with its head and its truncation point.
    pub(super) fn projects(&self) -> Result<Vec<(ProjectName, Head, Offset)>, StoreError> {
        let mut projects = Vec::new();
        for guard in self.heads.iter() {
            let (key, value) = guard
                .into_inner()
                .map_err(|e| failed("read the event log", e))?;
            let damaged = |detail: String| StoreError::corrupt("the event log", detail);
            let name: ProjectName = key
                .strip_suffix(&[0])
                .and_then(|name| std::str::from_utf8(name).ok()?.parse().ok())
                .ok_or_else(|| damaged(format!("a project is called {key:?}")))?;
            let head = serde_json::from_slice(&value)
                .map_err(|e| damaged(format!("the head of {name}: {e}")))?;
            let truncated = self
                .truncated
                .get(&key)
                .map_err(|e| failed("read the event log", e))?
                .map(|value| {
                    keys::number(&value).ok_or_else(|| damaged(format!("the start of {name}")))
                })
                .transpose()?;
            projects.push((name, head, Offset(truncated.unwrap_or(0))));
        }
        Ok(projects)
    }

    /// Whether the first and the last event that ought to be there are.
    pub(super) fn check(
        &self,
        name: &ProjectName,
        head: &Head,
        truncated: Offset,
    ) -> Result<(), StoreError> {
        if head.last > truncated {
            for offset in [truncated.next(), head.last] {
                let key = keys::event(name, offset);
                if !self
                    .events
                    .contains_key(key)
                    .map_err(|e| failed("read the event log", e))?
                {
                    return Err(StoreError::corrupt(
                        "the event log",
                        format!("event {offset} of {name} is missing"),
                    ));
                }
            }
        }
        Ok(())
    }
}
