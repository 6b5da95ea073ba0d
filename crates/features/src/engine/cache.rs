//! The states in memory, in front of the state store.
//!
//! What has changed since the last commit stays; of the rest, the longest unused gives way. A miss is loaded while its shard is
//! locked, so that an older state can never replace a newer one that was written and evicted meanwhile.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tidemill_core::ProjectName;
use tidemill_core::event::PersonKey;
use tidemill_core::sync::RwLock;
use tidemill_store::{StateBatch, StateStore};

use crate::accumulate::EntityState;
use crate::{FeatureError, FeatureSet};

/// The table of states: generation, entity and key → [`Slot`].
pub(super) const STATES: &str = "feature_states";

/// The bytes in front of a key in [`STATES`].
pub(super) const KEY_PREFIX_BYTES: usize = 6;

const SHARDS: usize = 64;

/// What stands in [`STATES`] in front of the keys of an entity.
pub(super) fn key_prefix(generation: u32, entity: usize) -> [u8; KEY_PREFIX_BYTES] {
    let ([a, b, c, d], [e, f]) = (generation.to_be_bytes(), (entity as u16).to_be_bytes());
    [a, b, c, d, e, f]
}

/// What stands under a key.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Slot {
    /// The state of an entity.
    State(Arc<EntityState>),
    /// This person is now part of another one.
    Link(PersonKey),
}

#[derive(Debug)]
struct Entry {
    slot: Slot,
    dirty: bool,
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct Shard {
    /// By entity, by key.
    entries: Vec<HashMap<Arc<str>, Entry>>,
    /// All entries in the order in which they are looked at for eviction.
    queue: VecDeque<(usize, Arc<str>)>,
    dirty: Vec<(usize, Arc<str>)>,
}

/// Counts of the cache.
#[derive(Debug, Default)]
pub(super) struct CacheCounts {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

/// States by entity and key.
pub(super) struct StateCache {
    project: ProjectName,
    store: Arc<dyn StateStore>,
    set: FeatureSet,
    generation: u32,
    shards: Vec<RwLock<Shard>>,
    shard_entries_max: usize,
    hasher: std::hash::BuildHasherDefault<std::hash::DefaultHasher>,
    pub(super) counts: CacheCounts,
}

impl StateCache {
    pub(super) fn new(
        project: ProjectName,
        store: Arc<dyn StateStore>,
        set: FeatureSet,
        generation: u32,
        entries_max: usize,
    ) -> Self {
        let entities = set.entities().len();
        let shard = || Shard {
            entries: (0..entities).map(|_| HashMap::new()).collect(),
            ..Shard::default()
        };
        Self {
            project,
            store,
            set,
            generation,
            shards: (0..SHARDS).map(|_| RwLock::new(shard())).collect(),
            shard_entries_max: entries_max.div_ceil(SHARDS).max(1),
            hasher: std::hash::BuildHasherDefault::default(),
            counts: CacheCounts::default(),
        }
    }

    fn shard(&self, entity: usize, key: &str) -> &RwLock<Shard> {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(key.as_bytes());
        hasher.write_usize(entity);
        &self.shards[(hasher.finish() % SHARDS as u64) as usize]
    }

    /// What stands under a key.
    pub(super) fn get(&self, entity: usize, key: &str) -> Result<Option<Slot>, FeatureError> {
        let shard = self.shard(entity, key);
        if let Some(entry) = shard.read().entries[entity].get(key) {
            entry.used.store(true, Ordering::Relaxed);
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Some(entry.slot.clone()));
        }
        let mut shard = shard.write();
        Ok(self
            .load(&mut shard, entity, key)?
            .map(|entry| entry.slot.clone()))
    }

    /// Changes the state of a key, which is a new one where there is none.
    pub(super) fn update<T>(
        &self,
        entity: usize,
        key: &Arc<str>,
        change: impl FnOnce(&mut EntityState) -> T,
    ) -> Result<T, FeatureError> {
        let mut shard = self.shard(entity, key).write();
        let shard = &mut *shard;
        if self.load(shard, entity, key)?.is_none() {
            let state = EntityState::new(&self.set.entities()[entity].plan);
            self.insert(shard, entity, key.clone(), Slot::State(Arc::new(state)));
        }
        let entry = shard.entries[entity].get_mut(key);
        match entry.map(|entry| (&mut entry.slot, &mut entry.dirty)) {
            Some((Slot::State(state), dirty)) => {
                if !*dirty {
                    *dirty = true;
                    shard.dirty.push((entity, key.clone()));
                }
                Ok(change(Arc::make_mut(state)))
            }
            _ => Err(FeatureError::damaged(
                format!("the state of {key}"),
                "it is part of another person",
            )),
        }
    }

    /// Forgets a key, unless it has changed since the last commit; returns whether it is gone.
    pub(super) fn remove(&self, entity: usize, key: &str) -> bool {
        let mut shard = self.shard(entity, key).write();
        if shard.entries[entity]
            .get(key)
            .is_some_and(|entry| entry.dirty)
        {
            return false;
        }
        // its place in the queue is passed over
        shard.entries[entity].remove(key);
        true
    }

    /// Replaces what stands under a key.
    pub(super) fn put(&self, entity: usize, key: &Arc<str>, slot: Slot) {
        let mut shard = self.shard(entity, key).write();
        match shard.entries[entity].get_mut(key) {
            Some(entry) => entry.slot = slot,
            None => self.insert(&mut shard, entity, key.clone(), slot),
        }
        Self::mark_dirty(&mut shard, entity, key);
    }

    fn mark_dirty(shard: &mut Shard, entity: usize, key: &Arc<str>) {
        if let Some(entry) = shard.entries[entity].get_mut(key)
            && !entry.dirty
        {
            entry.dirty = true;
            shard.dirty.push((entity, key.clone()));
        }
    }

    /// The entry of a key, from memory or from the store.
    fn load<'s>(
        &self,
        shard: &'s mut Shard,
        entity: usize,
        key: &str,
    ) -> Result<Option<&'s Entry>, FeatureError> {
        if !shard.entries[entity].contains_key(key) {
            self.counts.misses.fetch_add(1, Ordering::Relaxed);
            let Some(bytes) =
                self.store
                    .get(&self.project, STATES, &self.store_key(entity, key))?
            else {
                return Ok(None);
            };
            let slot = self.decode(entity, key, &bytes)?;
            self.insert(shard, entity, Arc::from(key), slot);
        } else {
            self.counts.hits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(shard.entries[entity].get(key))
    }

    fn insert(&self, shard: &mut Shard, entity: usize, key: Arc<str>, slot: Slot) {
        self.evict(shard, self.shard_entries_max - 1);
        shard.queue.push_back((entity, key.clone()));
        shard.entries[entity].insert(
            key,
            Entry {
                slot,
                dirty: false,
                used: AtomicBool::new(true),
            },
        );
    }

    /// Makes room until at most `most` entries are left, or all that is left has changed: each entry gets a second chance.
    fn evict(&self, shard: &mut Shard, most: usize) {
        let mut looks = 2 * shard.queue.len();
        // While a large batch is being applied nearly everything is dirty: do not search all of it for every insertion.
        if shard.dirty.len() >= shard.queue.len() {
            return;
        }
        while shard.queue.len() > most && looks > 0 {
            looks -= 1;
            let Some((entity, key)) = shard.queue.pop_front() else {
                return;
            };
            let stays = shard.entries[entity]
                .get(&key)
                .is_some_and(|entry| entry.dirty || entry.used.swap(false, Ordering::Relaxed));
            if stays {
                shard.queue.push_back((entity, key));
            } else {
                shard.entries[entity].remove(&key);
            }
        }
    }

    /// Adds everything that has changed to a batch.
    pub(super) fn collect(&self, batch: &mut StateBatch) {
        for shard in &self.shards {
            let shard = shard.read();
            for (entity, key) in &shard.dirty {
                if let Some(entry) = shard.entries[*entity].get(key) {
                    batch.put(
                        STATES,
                        self.store_key(*entity, key),
                        self.encode(*entity, &entry.slot),
                    );
                }
            }
        }
    }

    /// What had been collected is committed.
    pub(super) fn committed(&self) {
        for shard in &self.shards {
            let mut shard = shard.write();
            for (entity, key) in std::mem::take(&mut shard.dirty) {
                if let Some(entry) = shard.entries[entity].get_mut(&key) {
                    entry.dirty = false;
                }
            }
            let most = self.shard_entries_max;
            self.evict(&mut shard, most);
        }
    }

    /// Which generation of states it holds.
    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    fn store_key(&self, entity: usize, key: &str) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(KEY_PREFIX_BYTES + key.len());
        bytes.extend_from_slice(&key_prefix(self.generation, entity));
        bytes.extend_from_slice(key.as_bytes());
        bytes
    }

    fn encode(&self, entity: usize, slot: &Slot) -> Vec<u8> {
        match slot {
            Slot::Link(person) => [b"@", person.as_str().as_bytes()].concat(),
            Slot::State(state) => state.encode(&self.set.entities()[entity].plan),
        }
    }

    fn decode(&self, entity: usize, key: &str, bytes: &[u8]) -> Result<Slot, FeatureError> {
        let damaged = |detail: String| FeatureError::damaged(format!("the state of {key}"), detail);
        if let Some(person) = bytes.strip_prefix(b"@") {
            let text = std::str::from_utf8(person).map_err(|error| damaged(error.to_string()))?;
            let person =
                serde_json::from_value(text.into()).map_err(|error| damaged(error.to_string()))?;
            return Ok(Slot::Link(person));
        }
        let state = EntityState::decode(&self.set.entities()[entity].plan, bytes);
        state
            .map(|state| Slot::State(Arc::new(state)))
            .map_err(|error| damaged(error.to_string()))
    }
}
