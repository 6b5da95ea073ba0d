//! The event log in fjall keyspaces, written by one thread that shares an fsync among many callers.
//!
//! | keyspace | key | value |
//! |---|---|---|
//! | `events` | project, offset | format byte 1, then the event as JSON |
//! | `message_ids` | project, message id | nothing |
//! | `message_times` | time of receipt, project, offset | message ids received then or later |
//! | `quarantined` | project, number | format byte 1, then the piece as JSON |
//! | `heads` | project | counts and the last offset, as JSON |
//! | `truncated` | project | the last offset that was forgotten |
//!
//! Every append is one batch over all of them.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use fjall::PersistMode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tidemill_core::sync::{Mutex, RwLock};
use tidemill_core::{Event, Offset, ProjectName, Timestamp};
use tokio::sync::{mpsc, oneshot, watch};

use super::FjallOptions;
use super::database::{self, Reopenable, failed};
use super::keys;
use super::received;
use super::tables::{Head, Tables};
use super::writer::{EncodedEvent, Request, Writer};
use crate::event_log::LogCounts;
use crate::{Appended, DataFolder, EventLog, LoggedEvent, Quarantined, StoreError};

/// The format of stored events and quarantined pieces.
const FORMAT: u8 = 1;

/// How many keys one batch removes, so that a long clean-up does not hold up the writer.
const REMOVED_PER_BATCH: u64 = 8_192;

/// [`EventLog`] on fjall.
pub struct FjallLog {
    shared: Arc<Shared>,
    /// Taken when the log is dropped, which ends the writer.
    queue: Option<mpsc::Sender<Request>>,
    writer: Option<JoinHandle<()>>,
    _folder: DataFolder,
}

/// What the writer and the readers share.
pub(super) struct Shared {
    tables: Reopenable<Tables>,
    projects: RwLock<HashMap<ProjectName, Arc<Project>>>,
    /// One clean-up at a time; it does not hold up the writer.
    clean_up: Mutex<()>,
}

/// One project as it is on disk.
pub(super) struct Project {
    head: RwLock<Head>,
    truncated: RwLock<Offset>,
    last: watch::Sender<Offset>,
}

impl FjallLog {
    /// Opens the log of a data folder, or creates it, and starts its writer.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where what is stored does not read back as it was written,
    /// [`StoreError::Full`], and those of the file system.
    pub fn open(folder: &DataFolder, options: &FjallOptions) -> Result<Self, StoreError> {
        let (path, cache_bytes) = (folder.log(), options.log_cache_bytes);
        let shared = Arc::new(Shared {
            tables: Reopenable::open(path, move |path| Tables::open(path, cache_bytes))?,
            projects: RwLock::default(),
            clean_up: Mutex::new(()),
        });
        shared.load()?;
        shared.finish_truncating()?;
        let (queue, requests) = mpsc::channel(options.queue_max.max(1));
        let writer = Writer::new(Arc::clone(&shared), options);
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || writer.run(requests))
            .map_err(|e| StoreError::file("start the writer of", &folder.log(), e))?;
        Ok(Self {
            shared,
            queue: Some(queue),
            writer: Some(writer),
            _folder: folder.clone(),
        })
    }
}

impl FjallLog {
    /// Writes the log of one moment into a new database; `fixed` is called when the moment is there.
    ///
    /// # Errors
    /// [`StoreError::Closed`] where the database had to be closed meanwhile, and those of reading and writing.
    pub(crate) fn export(&self, to: &Path, fixed: &mut dyn FnMut()) -> Result<(), StoreError> {
        let tables = self.shared.tables.get()?;
        let is_closing = || self.shared.tables.is_closing();
        database::export(&tables.database, to, fixed, &is_closing)
    }
}

impl Drop for FjallLog {
    fn drop(&mut self) {
        // Without senders the writer finishes what is waiting and ends.
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the event log broke off");
        }
    }
}

impl Shared {
    /// Takes over what is on disk: at the start, and after the database was opened again.
    fn load(&self) -> Result<(), StoreError> {
        let tables = self.tables.get()?;
        for (name, head, truncated) in tables.projects()? {
            tables.check(&name, &head, truncated)?;
            let project = self.project(&name);
            *project.truncated.write() = truncated;
            project.advance(head);
        }
        Ok(())
    }

    /// Opens the database again after a failed write. What had been written of it in spite of the failure is
    /// taken over: its callers were told that it failed, and find it stored when they send it again.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        self.tables.reopen()?;
        self.load()
    }

    pub(super) fn tables(&self) -> Result<impl std::ops::Deref<Target = Tables> + '_, StoreError> {
        self.tables.get()
    }

    /// A project; one that is not known yet has nothing in it.
    pub(super) fn project(&self, name: &ProjectName) -> Arc<Project> {
        if let Some(project) = self.projects.read().get(name) {
            return Arc::clone(project);
        }
        Arc::clone(
            self.projects
                .write()
                .entry(name.clone())
                .or_insert_with(|| {
                    Arc::new(Project {
                        head: RwLock::default(),
                        truncated: RwLock::default(),
                        last: watch::Sender::new(Offset::ZERO),
                    })
                }),
        )
    }

    /// The project, if anything was ever stored in it or somebody waits for that.
    fn known(&self, name: &ProjectName) -> Option<Arc<Project>> {
        self.projects.read().get(name).cloned()
    }

    /// Removes what a truncation had left when the process ended.
    fn finish_truncating(&self) -> Result<(), StoreError> {
        let projects = self.tables.get()?.projects()?;
        for (name, _, truncated) in projects {
            let tables = self.tables.get()?;
            let left = tables
                .events
                .range(keys::event(&name, Offset::ZERO)..=keys::event(&name, truncated))
                .next();
            drop(tables);
            if let Some(guard) = left {
                let key = guard.key().map_err(|e| failed("read the event log", e))?;
                let first = keys::number(&key).ok_or_else(|| {
                    StoreError::corrupt(
                        "the event log",
                        format!("an event of {name} has no offset"),
                    )
                })?;
                self.remove_events(&name, Offset(first), truncated)?;
            }
        }
        Ok(())
    }

    /// Removes a range of events, which readers do not see any more.
    fn remove_events(
        &self,
        name: &ProjectName,
        from: Offset,
        up_to: Offset,
    ) -> Result<(), StoreError> {
        let mut next = from.0;
        while next <= up_to.0 {
            let end = up_to.0.min(next + (REMOVED_PER_BATCH - 1));
            let tables = self.tables.get()?;
            let mut batch = tables.database.batch();
            // With the first batch, so that events are never missing between the truncation point and the last.
            batch.insert(
                &tables.truncated,
                keys::project(name),
                up_to.0.to_be_bytes(),
            );
            for offset in next..=end {
                batch.remove(&tables.events, keys::event(name, Offset(offset)));
            }
            batch
                .commit()
                .map_err(|e| failed("truncate the event log", e))?;
            next = end + 1;
        }
        Ok(())
    }
}

impl Project {
    pub(super) fn head(&self) -> Head {
        *self.head.read()
    }

    /// Publishes what is on disk now.
    pub(super) fn advance(&self, head: Head) {
        *self.head.write() = head;
        self.last
            .send_if_modified(|last| std::mem::replace(last, head.last) != head.last);
    }
}

/// The format byte and the JSON of a value.
pub(super) fn encode(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::with_capacity(512);
    bytes.push(FORMAT);
    serde_json::to_writer(&mut bytes, value)
        .map_err(|e| StoreError::backend("encode for the event log", e))?;
    Ok(bytes)
}

fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, StoreError> {
    match bytes.split_first() {
        Some((&FORMAT, json)) => {
            serde_json::from_slice(json).map_err(|e| StoreError::corrupt(what, e))
        }
        Some((format, _)) => Err(StoreError::corrupt(
            what,
            format!("it has the unknown format {format}"),
        )),
        None => Err(StoreError::corrupt(what, "it is empty")),
    }
}

#[async_trait]
impl EventLog for FjallLog {
    async fn append(
        &self,
        project: &ProjectName,
        events: Vec<Event>,
        quarantined: Vec<Quarantined>,
    ) -> Result<Vec<Appended>, StoreError> {
        if events.is_empty() && quarantined.is_empty() {
            return Ok(Vec::new());
        }
        // Here and not in the writer, which all callers wait for.
        let events = events
            .into_iter()
            .map(|event| EncodedEvent::new(project, event))
            .collect::<Result<_, _>>()?;
        let quarantined = quarantined.iter().map(encode).collect::<Result<_, _>>()?;
        let (reply, answer) = oneshot::channel();
        let request = Request {
            project: project.clone(),
            events,
            quarantined,
            reply,
        };
        let queue = self.queue.as_ref().ok_or(StoreError::Closed)?;
        queue.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    fn read(
        &self,
        project: &ProjectName,
        after: Offset,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, StoreError> {
        let Some(known) = self.shared.known(project) else {
            return Ok(Vec::new());
        };
        let tables = self.shared.tables.get()?;
        let (first, last) = (after.max(*known.truncated.read()).next(), known.head().last);
        let mut read = Vec::new();
        if first > last {
            return Ok(read);
        }
        for guard in tables
            .events
            .range(keys::event(project, first)..=keys::event(project, last))
            .take(limit)
        {
            let (key, value) = guard
                .into_inner()
                .map_err(|e| failed("read the event log", e))?;
            let expected = Offset(first.0 + read.len() as u64);
            if keys::number(&key) != Some(expected.0) {
                // It may have been truncated meanwhile; otherwise events are missing.
                if *known.truncated.read() >= expected {
                    drop(tables);
                    return self.read(project, after, limit);
                }
                return Err(StoreError::corrupt(
                    "the event log",
                    format!("event {expected} of {project} is missing"),
                ));
            }
            let event = decode(&format!("event {expected} of {project}"), &value)?;
            read.push(LoggedEvent {
                offset: expected,
                event,
            });
        }
        Ok(read)
    }

    fn last(&self, project: &ProjectName) -> Result<Offset, StoreError> {
        Ok(self
            .shared
            .known(project)
            .map_or(Offset::ZERO, |project| project.head().last))
    }

    fn watch(&self, project: &ProjectName) -> Result<watch::Receiver<Offset>, StoreError> {
        Ok(self.shared.project(project).last.subscribe())
    }

    fn truncate(&self, project: &ProjectName, up_to: Offset) -> Result<(), StoreError> {
        let Some(known) = self.shared.known(project) else {
            return Ok(());
        };
        let _one_at_a_time = self.shared.clean_up.lock();
        let up_to = up_to.min(known.head().last);
        let from = *known.truncated.read();
        if up_to <= from {
            return Ok(());
        }
        // Readers first: what they do not see any more can be removed.
        *known.truncated.write() = up_to;
        self.shared.remove_events(project, from.next(), up_to)
    }

    fn forget_message_ids(&self, before: Timestamp) -> Result<u64, StoreError> {
        let _one_at_a_time = self.shared.clean_up.lock();
        let mut forgotten = 0;
        let mut after = Bound::Unbounded;
        loop {
            let tables = self.shared.tables.get()?;
            // Onwards from the last one, or the scan would pass over everything that was just removed.
            let range = (after, Bound::Excluded(keys::timed(before, &[])));
            let Some(guard) = tables.message_times.range::<Vec<u8>, _>(range).next() else {
                return Ok(forgotten);
            };
            let (key, value) = guard
                .into_inner()
                .map_err(|e| failed("read message ids", e))?;
            let (project, ids) = received::decode(&value)?;
            let (old, young): (Vec<_>, Vec<_>) = ids.into_iter().partition(|(at, _)| *at < before);
            let mut batch = tables.database.batch();
            batch.remove(&tables.message_times, key.clone());
            forgotten += old.len() as u64;
            for (_, id) in old {
                batch.remove(&tables.message_ids, keys::message_id(&project, &id));
            }
            if let Some(earliest) = young.iter().map(|(at, _)| *at).min() {
                batch.insert(
                    &tables.message_times,
                    keys::timed(earliest, &key[8..]),
                    received::encode(&project, &young),
                );
            }
            batch
                .commit()
                .map_err(|e| failed("forget message ids", e))?;
            after = Bound::Excluded(key.to_vec());
        }
    }

    fn quarantined(
        &self,
        project: &ProjectName,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Quarantined)>, StoreError> {
        let Some(known) = self.shared.known(project) else {
            return Ok(Vec::new());
        };
        let tables = self.shared.tables.get()?;
        let newest = known.head().counts.quarantined;
        let end = before.map_or(newest, |before| newest.min(before.saturating_sub(1)));
        let range = (
            Bound::Included(keys::numbered(project, 0)),
            Bound::Included(keys::numbered(project, end)),
        );
        tables
            .quarantined
            .range::<Vec<u8>, _>(range)
            .rev()
            .take(limit)
            .map(|guard| {
                let (key, value) = guard
                    .into_inner()
                    .map_err(|e| failed("read the quarantine", e))?;
                let number = keys::number(&key).ok_or_else(|| {
                    StoreError::corrupt("the quarantine", "a piece without a number")
                })?;
                Ok((
                    number,
                    decode(&format!("quarantined piece {number} of {project}"), &value)?,
                ))
            })
            .collect()
    }

    fn forget_quarantined(&self, project: &ProjectName, ids: &[u64]) -> Result<u64, StoreError> {
        let _one_at_a_time = self.shared.clean_up.lock();
        let tables = self.shared.tables.get()?;
        let mut batch = tables
            .database
            .batch()
            .durability(Some(PersistMode::SyncAll));
        let mut forgotten = 0;
        for id in ids.iter().collect::<BTreeSet<_>>() {
            let key = keys::numbered(project, *id);
            let is_there = tables.quarantined.contains_key(&key);
            if is_there.map_err(|e| failed("read the quarantine", e))? {
                batch.remove(&tables.quarantined, key);
                forgotten += 1;
            }
        }
        batch
            .commit()
            .map_err(|e| failed("forget quarantined pieces", e))?;
        Ok(forgotten)
    }

    fn counts(&self, project: &ProjectName) -> Result<LogCounts, StoreError> {
        Ok(self
            .shared
            .known(project)
            .map(|project| project.head().counts)
            .unwrap_or_default())
    }
}

impl fmt::Debug for FjallLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FjallLog").finish_non_exhaustive()
    }
}
