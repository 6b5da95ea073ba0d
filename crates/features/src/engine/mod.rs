//! The online engine: it follows the log, keeps the states, and answers what is known about somebody now.
//!
//! One consumer calls [`Engine::apply`] and [`Engine::commit`]; any number of request threads read. What was applied is visible at
//! once; what was committed survives, together with its place in the log, in one atomic write.

mod cache;
mod checkpoint;
mod costs;
mod expire;
mod history;
mod items;
mod links;
mod rebuild;
mod shared;
mod timeline;
mod users;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use tidemill_core::event::PersonKey;
use tidemill_core::sync::{Mutex, RwLock};
use tidemill_core::{Event, FeatureValue, Item, Offset, Project, ProjectName, Timestamp};
use tidemill_store::{LoggedEvent, StateBatch, StateStore};

use crate::accumulate::{EntityState, Extracted};
use crate::identity;
use crate::seen::SeenEvents;
use crate::set::{Conditions, USER};
use crate::{FeatureError, FeatureSet, ModelFeatures};
use cache::{STATES, Slot, StateCache};
use checkpoint::{
    CHECKPOINTS, CURRENT, Checkpoint, SOURCE, read_checkpoint, source_of, write_checkpoint,
};
pub use costs::StateCosts;
pub use expire::Expired;
pub use history::{History, Taken};
use links::CacheLinks;
pub use rebuild::Rebuild;
use shared::Shared;
pub use shared::read_seen;
pub use users::Users;

/// Events that are looked at together: conditions are evaluated on that many at once.
const BATCH_EVENTS: usize = 1_024;
/// Events that are applied between two chances for readers: a reader never waits for more than these.
const STEP_EVENTS: usize = 32;

/// How the engine behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineOptions {
    /// The most states in memory; those that changed since the last commit stay beyond that.
    pub cache_entries: usize,
    /// The newest events that are kept per person for their timeline; 0 for none.
    pub timeline_events: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            cache_entries: 200_000,
            timeline_events: 200,
        }
    }
}

/// What was known about somebody at a moment.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureRow {
    /// The person after joining identities.
    pub person: PersonKey,
    /// Whether anything has been seen of them.
    pub known: bool,
    /// The last event that the values have seen.
    pub offset: Offset,
    /// The moment at which the values hold: the one that was asked for, or the engine's time if that is later.
    pub moment: Timestamp,
    /// One value per column of the selection.
    pub values: Vec<FeatureValue>,
}

/// Counts since the engine was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct EngineStats {
    /// Events applied.
    pub events: u64,
    /// Of these, events that are about nobody (items aside).
    pub no_person: u64,
    /// Persons that became part of another.
    pub merges: u64,
    /// Conditions and expressions that failed on a row, which counts as not fulfilled or missing.
    pub expression_failures: u64,
    /// Events stamped in the future that counted at once because too many waited.
    pub future_events_clamped: u64,
    /// Changes of items that do not say which item.
    pub items_without_id: u64,
    /// States found in memory.
    pub cache_hits: u64,
    /// States looked up in the store.
    pub cache_misses: u64,
}

#[derive(Debug, Default)]
struct Counters {
    events: AtomicU64,
    no_person: AtomicU64,
    merges: AtomicU64,
    expression_failures: AtomicU64,
    future_events_clamped: AtomicU64,
    items_without_id: AtomicU64,
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// How far the states are.
#[derive(Debug, Clone, Copy)]
struct Position {
    applied: Offset,
    now: Timestamp,
}

/// What the consumer holds while it works.
struct Writer {
    checkpoint: Checkpoint,
    /// The last event in `Shared`.
    shared: Offset,
    /// Set when an event was applied in part: only the last commit is right then.
    broken: bool,
    /// Where the search for idle states is.
    search: expire::Search,
}

/// The states of one project, kept up with its log.
pub struct Engine {
    project: ProjectName,
    set: FeatureSet,
    store: Arc<dyn StateStore>,
    states: StateCache,
    /// Held while events are applied, so that a reader sees all states at one place of the log.
    position: RwLock<Position>,
    writer: Mutex<Writer>,
    /// `None` while rebuilding: the current generation keeps it.
    shared: Option<RwLock<Shared>>,
    checkpoint_key: &'static [u8],
    all: ModelFeatures,
    counters: Counters,
}

impl Engine {
    /// Opens the states of a project.
    ///
    /// # Errors
    /// [`FeatureError::NeedsRebuild`] when the stored states belong to other definitions.
    pub fn open(
        project: &Project,
        set: FeatureSet,
        state: Arc<dyn StateStore>,
        options: EngineOptions,
    ) -> Result<Self, FeatureError> {
        let checkpoint = match read_checkpoint(&project.name, &*state, CURRENT)? {
            Some(checkpoint) if checkpoint.hash != set.hash() => {
                let (stored, wanted) = (checkpoint.hash, set.hash().to_owned());
                return Err(FeatureError::NeedsRebuild { stored, wanted });
            }
            Some(checkpoint) => checkpoint,
            None => Checkpoint::start(1, &set),
        };
        let source = source_of(project, &set);
        if state.get(&project.name, CHECKPOINTS, SOURCE)?.as_deref() != Some(source.as_bytes()) {
            let mut batch = StateBatch::default();
            batch.put(CHECKPOINTS, SOURCE, source);
            state.commit(&project.name, batch)?;
        }
        let shared = Shared::open(&project.name, &state, options)?;
        Ok(Self::new(
            project,
            set,
            state,
            options,
            checkpoint,
            Some(shared),
            CURRENT,
        ))
    }

    /// Opens the states of a project with the definitions that they were made with, whatever the project file says now: what goes on
    /// answering while [`Rebuild`] makes those of the new ones. `None` where it is not known, or not understood any more, what they
    /// were made with.
    ///
    /// # Errors
    /// When the store fails.
    pub fn open_as_before(
        project: &ProjectName,
        state: Arc<dyn StateStore>,
        options: EngineOptions,
    ) -> Result<Option<Self>, FeatureError> {
        let stored = read_checkpoint(project, &*state, CURRENT)?;
        let source = state.get(project, CHECKPOINTS, SOURCE)?;
        let before = source
            .and_then(|source| String::from_utf8(source).ok())
            .and_then(|source| Project::parse(&source).ok());
        let (Some(stored), Some(before)) = (stored, before) else {
            return Ok(None);
        };
        match FeatureSet::compile(&before, &before.features) {
            Ok(set) if set.hash() == stored.hash => {
                Self::open(&before, set, state, options).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn new(
        project: &Project,
        set: FeatureSet,
        store: Arc<dyn StateStore>,
        options: EngineOptions,
        checkpoint: Checkpoint,
        shared: Option<Shared>,
        checkpoint_key: &'static [u8],
    ) -> Self {
        let states = StateCache::new(
            project.name.clone(),
            store.clone(),
            set.clone(),
            checkpoint.generation,
            options.cache_entries,
        );
        let position = Position {
            applied: checkpoint.applied,
            now: checkpoint.now,
        };
        Self {
            project: project.name.clone(),
            all: set.select_all(),
            set,
            store,
            states,
            position: RwLock::new(position),
            writer: Mutex::new(Writer {
                shared: checkpoint.shared,
                checkpoint,
                broken: false,
                search: None,
            }),
            shared: shared.map(RwLock::new),
            checkpoint_key,
            counters: Counters::default(),
        }
    }

    /// The definitions.
    pub fn set(&self) -> &FeatureSet {
        &self.set
    }

    /// The last event that reads see.
    pub fn applied(&self) -> Offset {
        self.position.read().applied
    }

    /// The last event that would not be lost: the consumer goes on after it when the engine is opened, and the log is needed
    /// from there on.
    pub fn committed(&self) -> Offset {
        let writer = self.writer.lock();
        match self.shared {
            Some(_) => writer.checkpoint.applied.min(writer.checkpoint.shared),
            None => writer.checkpoint.applied,
        }
    }

    /// The engine's time: the newest `received_at` of the events applied. It never goes back.
    pub fn now(&self) -> Timestamp {
        self.position.read().now
    }

    /// Counts since the engine was opened.
    pub fn stats(&self) -> EngineStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            events: read(&self.counters.events),
            no_person: read(&self.counters.no_person),
            merges: read(&self.counters.merges),
            expression_failures: read(&self.counters.expression_failures),
            future_events_clamped: read(&self.counters.future_events_clamped),
            items_without_id: read(&self.counters.items_without_id),
            cache_hits: read(&self.states.counts.hits),
            cache_misses: read(&self.states.counts.misses),
        }
    }
}

/// Following the log: by one consumer.
impl Engine {
    /// Applies events in the order of the log; those that were applied before are skipped.
    ///
    /// # Errors
    /// When the store fails. After [`FeatureError::Broken`] the engine must be opened again; it goes on from its last commit.
    pub fn apply(&self, events: &[LoggedEvent]) -> Result<(), FeatureError> {
        let mut writer = self.writer.lock();
        if writer.broken {
            return Err(FeatureError::Broken);
        }
        for batch in events.chunks(BATCH_EVENTS) {
            let views: Vec<&Event> = batch.iter().map(|logged| &logged.event).collect();
            let conditions = self.set.conditions(&views);
            count(&self.counters.expression_failures, conditions.failures);
            for step in (0..batch.len()).step_by(STEP_EVENTS) {
                let end = (step + STEP_EVENTS).min(batch.len());
                let applied = self.apply_step(&mut writer, batch, step..end, &conditions);
                writer.broken |= applied.is_err();
                applied?;
            }
        }
        Ok(())
    }

    /// Applies some events of a batch while readers wait.
    fn apply_step(
        &self,
        writer: &mut Writer,
        batch: &[LoggedEvent],
        step: std::ops::Range<usize>,
        conditions: &Conditions,
    ) -> Result<(), FeatureError> {
        let extracted: Vec<Vec<Change>> = step
            .clone()
            .map(|index| self.extract(&batch[index], index, conditions))
            .collect();
        let mut shared = self.shared.as_ref().map(RwLock::write);
        let mut position = self.position.write();
        for (index, changes) in step.zip(extracted) {
            let logged = &batch[index];
            let is_new = logged.offset > position.applied;
            let mut links = CacheLinks {
                engine: self,
                now: position.now,
                merges: Vec::new(),
            };
            if is_new {
                links.now = position.now.max(logged.event.received_at);
                identity::learn(&mut links, &logged.event)?;
            }
            let person = logged
                .event
                .person()
                .map(|person| identity::canonical(&mut links, &person))
                .transpose()?;
            if is_new {
                self.change(links.now, &logged.event, person.as_ref(), changes)?;
                *position = Position {
                    applied: logged.offset,
                    now: links.now,
                };
                count(&self.counters.events, 1);
            }
            let mut merges = std::mem::take(&mut links.merges);
            if let (Some(shared), true) = (&mut shared, logged.offset > writer.shared) {
                if !is_new {
                    merges = links::joined_earlier(&mut links, &logged.event)?;
                }
                for (from, into) in &merges {
                    shared.timelines.merge(from, into);
                }
                let without_id = shared.apply(logged, person.as_ref())?;
                count(&self.counters.items_without_id, u64::from(without_id));
                writer.shared = logged.offset;
            }
        }
        Ok(())
    }

    /// What the event changes, for each entity that it is about; persons are found when it is applied.
    fn extract(&self, logged: &LoggedEvent, index: usize, conditions: &Conditions) -> Vec<Change> {
        let mut changes = Vec::new();
        for (entity, definition) in self.set.entities().iter().enumerate() {
            if entity == USER {
                changes.push(Change {
                    entity,
                    key: None,
                    extracted: definition.extract(&logged.event, logged.offset, index, conditions),
                });
            } else if definition.reads(&logged.event)
                && let Some(key) = definition.key_of(&logged.event)
            {
                let extracted = definition.extract(&logged.event, logged.offset, index, conditions);
                changes.push(Change {
                    entity,
                    key: Some(key),
                    extracted,
                });
            }
        }
        changes
    }

    fn change(
        &self,
        now: Timestamp,
        event: &Event,
        person: Option<&PersonKey>,
        changes: Vec<Change>,
    ) -> Result<(), FeatureError> {
        for Change {
            entity,
            key,
            mut extracted,
        } in changes
        {
            self.look_at_item(entity, event, &mut extracted)?;
            let key = match (key, person) {
                (Some(key), _) => key,
                (None, Some(person)) => Arc::from(person.as_str()),
                (None, None) => {
                    count(
                        &self.counters.no_person,
                        u64::from(!items::is_about_items(event)),
                    );
                    continue;
                }
            };
            let plan = &self.set.entities()[entity].plan;
            let clamped = self
                .states
                .update(entity, &key, |state| state.update(plan, &extracted, now))?;
            count(&self.counters.future_events_clamped, u64::from(clamped));
        }
        Ok(())
    }

    /// Fills in what an event brings with the item that it is about, as that is just before the event.
    fn look_at_item(
        &self,
        entity: usize,
        event: &Event,
        extracted: &mut Extracted,
    ) -> Result<(), FeatureError> {
        let inputs = &self.set.entities()[entity].inputs[extracted.steps as usize];
        let mut wanted = inputs.of_items().peekable();
        if wanted.peek().is_none() {
            return Ok(());
        }
        let Some(items) = self.set.items() else {
            return Ok(());
        };
        let Some(key) = self.set.entities()[items].key_of(event) else {
            return Ok(());
        };
        if let Some(state) = self.state(items, &key)? {
            for (place, aggregate) in wanted {
                extracted.values[place] = state.attribute(aggregate);
            }
        }
        Ok(())
    }

    /// Writes everything that changed and its place in the log, in one atomic batch. Returns [`committed`](Self::committed).
    ///
    /// # Errors
    /// When the store fails: then nothing was committed, and a later commit tries again.
    pub fn commit(&self) -> Result<Offset, FeatureError> {
        let mut writer = self.writer.lock();
        if writer.broken {
            return Err(FeatureError::Broken);
        }
        let mut batch = StateBatch::default();
        let position = *self.position.read();
        let checkpoint = Checkpoint {
            applied: position.applied,
            now: position.now,
            shared: writer.shared,
            ..writer.checkpoint.clone()
        };
        if checkpoint != writer.checkpoint {
            self.states.collect(&mut batch);
            if let Some(shared) = &self.shared {
                shared.read().collect(&mut batch)?;
            }
            write_checkpoint(&mut batch, self.checkpoint_key, &checkpoint)?;
            self.store.commit(&self.project, batch)?;
            self.states.committed();
            if let Some(shared) = &self.shared {
                shared.write().committed();
            }
            writer.checkpoint = checkpoint;
        }
        drop(writer);
        Ok(self.committed())
    }

    /// Deletes up to `limit` states of older generations; returns how many. Nothing is left when it returns 0.
    pub fn sweep(&self, limit: usize) -> Result<usize, FeatureError> {
        let mut writer = self.writer.lock();
        let Some(generation) = writer.checkpoint.retired.first().copied() else {
            return Ok(0);
        };
        let rows = self.store.scan(
            &self.project,
            STATES,
            &generation.to_be_bytes(),
            None,
            limit.max(1),
        )?;
        let mut batch = StateBatch::default();
        for (key, _) in &rows {
            batch.remove(STATES, key.as_slice());
        }
        let mut checkpoint = writer.checkpoint.clone();
        if rows.len() < limit.max(1) {
            checkpoint.retired.remove(0);
        }
        write_checkpoint(&mut batch, self.checkpoint_key, &checkpoint)?;
        self.store.commit(&self.project, batch)?;
        writer.checkpoint = checkpoint;
        // Something was done, so the caller asks again and reaches the next generation.
        Ok(rows.len().max(1))
    }
}

/// What an event does to one entity.
struct Change {
    entity: usize,
    /// `None` for the person of the event.
    key: Option<Arc<str>>,
    extracted: Extracted,
}

/// Reading: from any thread.
impl Engine {
    /// What is known about somebody. Values hold at `moment`, or at the engine's time if that is later.
    ///
    /// # Errors
    /// When the store fails, or the features were selected from other definitions.
    pub fn read(
        &self,
        person: &PersonKey,
        moment: Timestamp,
        features: &ModelFeatures,
    ) -> Result<FeatureRow, FeatureError> {
        if features.set().hash() != self.set.hash() {
            return Err(FeatureError::OtherSet);
        }
        // The states of all entities are taken at one place of the log; computing goes on without the lock.
        let position = self.position.read();
        let moment = moment.max(position.now);
        let offset = position.applied;
        let person = self.canonical(person)?;
        let user = self.state(USER, person.as_str())?;
        let plan = &self.set.entities()[USER].plan;
        let known = user
            .as_ref()
            .is_some_and(|user| !user.is_forgotten(plan, moment));
        let user = user.unwrap_or_else(|| Arc::new(EntityState::new(plan)));
        let mut states = Vec::with_capacity(features.reads().len());
        for read in features.reads() {
            let home = self.set.entities()[read.entity].home;
            states.push(if home == USER {
                Some(user.clone())
            } else {
                match crate::set::key_last_had(&self.set, read.entity, &user, moment) {
                    None => None,
                    Some(key) => {
                        let plan = &self.set.entities()[read.entity].plan;
                        let state = self.state(read.entity, &key)?;
                        Some(state.unwrap_or_else(|| Arc::new(EntityState::new(plan))))
                    }
                }
            });
        }
        drop(position);
        let mut columns = Vec::with_capacity(states.len());
        for (read, state) in features.reads().iter().zip(states) {
            let plan = &self.set.home(read.entity).plan;
            let (row, failures) = read.read_row(plan, state.as_deref(), moment);
            count(&self.counters.expression_failures, failures);
            columns.push(row);
        }
        let (values, failures) = features.row(&columns, moment);
        count(&self.counters.expression_failures, failures);
        Ok(FeatureRow {
            person,
            known,
            offset,
            moment,
            values,
        })
    }

    /// All features of somebody, in the order of the set's columns.
    ///
    /// # Errors
    /// When the store fails.
    pub fn read_all(
        &self,
        person: &PersonKey,
        moment: Timestamp,
    ) -> Result<FeatureRow, FeatureError> {
        self.read(person, moment, &self.all)
    }

    fn state(&self, entity: usize, key: &str) -> Result<Option<Arc<EntityState>>, FeatureError> {
        Ok(match self.states.get(entity, key)? {
            Some(Slot::State(state)) => Some(state),
            Some(Slot::Link(_)) | None => None,
        })
    }

    /// The person that a key stands for after joining identities; a key that was never seen stands for itself.
    ///
    /// # Errors
    /// When the store fails.
    pub fn canonical(&self, person: &PersonKey) -> Result<PersonKey, FeatureError> {
        identity::canonical(
            &mut CacheLinks {
                engine: self,
                now: Timestamp::EPOCH,
                merges: Vec::new(),
            },
            person,
        )
    }

    /// An item as it is now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn item(&self, id: &str) -> Result<Option<Item>, FeatureError> {
        self.shared
            .as_ref()
            .map_or(Ok(None), |shared| shared.read().items.get(id))
    }

    /// The newest events of somebody, newest first; at most those that are kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn timeline(
        &self,
        person: &PersonKey,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, FeatureError> {
        let Some(shared) = &self.shared else {
            return Ok(Vec::new());
        };
        let shared = shared.read();
        let person = self.canonical(person)?;
        shared.timelines.read(&person, limit)
    }

    /// What has been seen of each kind of event.
    pub fn seen(&self) -> SeenEvents {
        self.with_seen(SeenEvents::clone)
    }

    /// Looks at what has been seen without taking a copy; events wait meanwhile.
    pub fn with_seen<T>(&self, look: impl FnOnce(&SeenEvents) -> T) -> T {
        match &self.shared {
            Some(shared) => look(&shared.read().seen),
            None => look(&SeenEvents::default()),
        }
    }
}
