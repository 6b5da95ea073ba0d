//! The one thread that writes the event log: group commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use fjall::OwnedWriteBatch;
use tidemill_core::{Event, Offset, ProjectName, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::FjallOptions;
use super::database::{DURABLE, failed};
use super::keys;
use super::log::{Shared, encode};
use super::received::{self, Received};
use super::tables::{Head, Tables};
use crate::{Appended, StoreError};

/// How many message ids stand in one entry of the index by time.
const IDS_PER_ENTRY: usize = 1_024;

/// An event as it is stored.
pub(super) struct EncodedEvent {
    message_id: String,
    /// The key of the message id.
    id: Vec<u8>,
    received_at: Timestamp,
    bytes: Vec<u8>,
}

impl EncodedEvent {
    pub(super) fn new(project: &ProjectName, event: Event) -> Result<Self, StoreError> {
        let bytes = encode(&event)?;
        Ok(Self {
            id: keys::message_id(project, &event.message_id),
            message_id: event.message_id,
            received_at: event.received_at,
            bytes,
        })
    }
}

/// One call of `append`.
pub(super) struct Request {
    pub(super) project: ProjectName,
    pub(super) events: Vec<EncodedEvent>,
    pub(super) quarantined: Vec<Vec<u8>>,
    pub(super) reply: oneshot::Sender<Result<Vec<Appended>, StoreError>>,
}

impl Request {
    fn bytes(&self) -> usize {
        let events: usize = self.events.iter().map(|event| event.bytes.len()).sum();
        events + self.quarantined.iter().map(Vec::len).sum::<usize>()
    }
}

/// The writer. It alone gives out offsets.
pub(super) struct Writer {
    shared: Arc<Shared>,
    batch_bytes_max: usize,
    quarantined_max: u64,
    /// Whether a write failed since the database was opened: its state in memory is then not that on disk.
    broken: bool,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, options: &FjallOptions) -> Self {
        Self {
            shared,
            batch_bytes_max: options.batch_bytes_max,
            quarantined_max: options.quarantined_max.max(1),
            broken: false,
        }
    }

    /// Writes until all senders are gone.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        while let Some(first) = requests.blocking_recv() {
            let mut bytes = first.bytes();
            let mut group = vec![first];
            // Everybody who is waiting now shares the next fsync.
            while bytes < self.batch_bytes_max {
                let Ok(request) = requests.try_recv() else {
                    break;
                };
                bytes += request.bytes();
                group.push(request);
            }
            self.write(group);
        }
    }

    /// Writes a group and answers its callers, all with success or all with failure.
    fn write(&mut self, mut group: Vec<Request>) {
        match self.commit(&mut group) {
            Ok(answers) => {
                for (request, answer) in group.into_iter().zip(answers) {
                    // Who has gone away does not need the answer.
                    let _ = request.reply.send(Ok(answer));
                }
            }
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "could not write the event log"
                );
                let error = Arc::new(error);
                for request in group {
                    let _ = request.reply.send(Err(for_one_caller(&error)));
                }
            }
        }
    }

    /// Stores a group with one fsync and publishes it.
    fn commit(&mut self, group: &mut [Request]) -> Result<Vec<Vec<Appended>>, StoreError> {
        if self.broken {
            self.shared.reopen()?;
            self.broken = false;
        }
        let staged = self.stage(group)?;
        match staged.batch.durability(DURABLE).commit() {
            Ok(()) => {}
            // Something had failed before, in the background: nothing of this group was written.
            Err(fjall::Error::Poisoned) => {
                self.shared.reopen()?;
                let staged = self.stage(group)?;
                return self.finish(
                    staged.batch.durability(DURABLE).commit(),
                    staged.heads,
                    staged.answers,
                );
            }
            Err(error) => return self.finish(Err(error), staged.heads, staged.answers),
        }
        self.finish(Ok(()), staged.heads, staged.answers)
    }

    /// Publishes what was committed, or notes that the database has to be opened again.
    fn finish(
        &mut self,
        committed: fjall::Result<()>,
        heads: HashMap<ProjectName, Head>,
        answers: Vec<Vec<Appended>>,
    ) -> Result<Vec<Vec<Appended>>, StoreError> {
        if let Err(error) = committed {
            self.broken = true;
            return Err(failed("write the event log", error));
        }
        for (name, head) in heads {
            self.shared.project(&name).advance(head);
        }
        Ok(answers)
    }

    /// Gives out offsets and collects everything to be written, in the order of the calls.
    fn stage(&self, group: &[Request]) -> Result<Staged, StoreError> {
        let tables = self.shared.tables()?;
        let keys = 2 * group
            .iter()
            .map(|request| request.events.len() + request.quarantined.len())
            .sum::<usize>();
        let mut staged = Staged {
            batch: OwnedWriteBatch::with_capacity(tables.database.clone(), keys + 16),
            heads: HashMap::new(),
            answers: Vec::with_capacity(group.len()),
        };
        let mut new_ids: HashSet<&[u8]> = HashSet::with_capacity(keys);
        for request in group {
            let project = &request.project;
            let mut head = staged
                .heads
                .get(project)
                .copied()
                .unwrap_or_else(|| self.shared.project(project).head());
            let mut answers = Vec::with_capacity(request.events.len());
            let mut received = Vec::with_capacity(request.events.len());
            for event in &request.events {
                let id = event.id.as_slice();
                let known = new_ids.contains(id)
                    || tables
                        .message_ids
                        .contains_key(id)
                        .map_err(|e| failed("look up a message id", e))?;
                if known {
                    head.counts.duplicates += 1;
                    answers.push(Appended::Duplicate);
                    continue;
                }
                head.last = head.last.next();
                head.counts.stored += 1;
                staged.batch.insert(
                    &tables.events,
                    keys::event(project, head.last),
                    event.bytes.as_slice(),
                );
                staged.batch.insert(&tables.message_ids, id, []);
                new_ids.insert(id);
                received.push((event.received_at, event.message_id.clone()));
                answers.push(Appended::Stored(head.last));
            }
            staged.remember_when(&tables, project, head.last, received);
            self.stage_quarantined(&mut staged, &tables, request, &mut head);
            staged.answers.push(answers);
            staged.heads.insert(project.clone(), head);
        }
        for (project, head) in &staged.heads {
            let head = serde_json::to_vec(head)
                .map_err(|e| StoreError::backend("encode for the event log", e))?;
            staged
                .batch
                .insert(&tables.heads, keys::project(project), head);
        }
        Ok(staged)
    }

    fn stage_quarantined(
        &self,
        staged: &mut Staged,
        tables: &Tables,
        request: &Request,
        head: &mut Head,
    ) {
        for piece in &request.quarantined {
            head.counts.quarantined += 1;
            let number = head.counts.quarantined;
            staged.batch.insert(
                &tables.quarantined,
                keys::numbered(&request.project, number),
                piece.as_slice(),
            );
            if let Some(oldest) = number
                .checked_sub(self.quarantined_max)
                .filter(|oldest| *oldest > 0)
            {
                staged.batch.remove(
                    &tables.quarantined,
                    keys::numbered(&request.project, oldest),
                );
            }
        }
    }
}

/// A group that is ready to be written.
struct Staged {
    batch: OwnedWriteBatch,
    heads: HashMap<ProjectName, Head>,
    answers: Vec<Vec<Appended>>,
}

impl Staged {
    /// Notes when message ids were received, in few entries: an entry for each would double the keys.
    fn remember_when(
        &mut self,
        tables: &Tables,
        project: &ProjectName,
        last: Offset,
        mut received: Vec<Received>,
    ) {
        received.sort_by_key(|(at, _)| *at);
        for (number, ids) in received.chunks(IDS_PER_ENTRY).enumerate() {
            // The last offset is a different one for each request that stored something.
            let mut unique = keys::event(project, last);
            unique.extend_from_slice(&(number as u64).to_be_bytes());
            self.batch.insert(
                &tables.message_times,
                keys::timed(ids[0].0, &unique),
                received::encode(project, ids),
            );
        }
    }
}

/// The same error for each caller of a group.
fn for_one_caller(error: &Arc<StoreError>) -> StoreError {
    match error.as_ref() {
        StoreError::Full { action } => StoreError::Full { action },
        StoreError::Corrupt { what, detail } => StoreError::Corrupt {
            what: what.clone(),
            detail: detail.clone(),
        },
        StoreError::Closed => StoreError::Closed,
        _ => StoreError::backend("write the event log", Arc::clone(error)),
    }
}
