//! Follows a log and keeps the days of everything that it is about.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::sync::Mutex;
use tidemill_core::{ProjectName, Span, Timestamp};
use tidemill_features::codec::DecodeError;
use tidemill_store::{StateBatch, StateStore, StoreError};

use super::history::{History, WINDOWS_MAX};

/// How many days of sketches are kept behind the last one that was looked at.
pub const SKETCH_DAYS: i64 = 60;
/// How far back days are kept that nobody has looked at yet: an import of history brings many at once.
pub const UNSEEN_DAYS_MAX: i64 = 400;
/// Beyond so many parts of days in memory what is there is stored, however little has come since.
const OPEN_PARTS_MAX: usize = 4_000;
/// What was counted is stored after so many entries of the log …
const COMMIT_ENTRIES: usize = 50_000;
/// … or so long. Whatever was not stored is counted again from the log.
const COMMIT_EVERY: Span = Span::from_seconds(10);

/// How many old sketches are looked for at a time.
const PAGE: usize = 1_000;

const CURSOR: &[u8] = b"cursor";
const EXAMINED: &[u8] = b"examined";

/// What came of one subject on one day.
pub(crate) trait Sketched: Clone + Default {
    /// How many parts of it take memory.
    fn parts(&self) -> usize;

    /// The bytes that are stored.
    fn encode(&self) -> Vec<u8>;

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it did not, or in a newer form.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// Where a watch keeps what it knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Tables {
    /// Sketches by day and subject.
    pub(crate) sketches: &'static str,
    /// [`History`] by its name, with a mark in front, so that no key is empty.
    pub(crate) histories: &'static str,
    /// Where the watch stands, and what it found last.
    pub(crate) watch: &'static str,
    /// What is watched, in words.
    pub(crate) of: &'static str,
}

/// What becomes of a new subject where there are as many as are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// It is counted with the others.
    CountsAsOther,
    /// The one that came last on the earliest day before gives way; where there is none it is counted with the others.
    OldestGivesWay,
}

/// When a subject came first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The first day, of which only a part may have been seen.
    pub first: i64,
    /// The last day.
    pub last: i64,
}

/// Where a watch stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last entry of the log that was counted.
    #[serde(rename = "offset")]
    pub place: u64,
    /// The newest day of anything.
    pub day: i64,
    /// What it is about.
    #[serde(rename = "events")]
    pub subjects: BTreeMap<String, Known>,
    /// Entries of subjects that came after as many others as are told apart.
    #[serde(rename = "other_events")]
    pub others: u64,
    /// Entries of days that are not kept any more.
    pub too_old: u64,
}

/// Days of sketches by subject, with the place in the log up to which they count. Used by one consumer; reading is free for all.
pub(crate) struct Days<S> {
    project: ProjectName,
    state: Arc<dyn StateStore>,
    tables: Tables,
    subjects_max: usize,
    full: Full,
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    position: Position,
    /// The last entry that would not be lost.
    committed: u64,
    committed_at: Timestamp,
    since_commit: usize,
    /// Days in memory, by day and subject, and whether they have changed since they were stored.
    open: BTreeMap<i64, BTreeMap<String, (S, bool)>>,
    open_parts: usize,
}

impl<S: Sketched> Days<S> {
    /// Goes on where it stopped, with what was found last.
    pub(crate) fn open<E: Default + for<'de> Deserialize<'de>>(
        project: ProjectName,
        state: Arc<dyn StateStore>,
        tables: Tables,
        (subjects_max, full): (usize, Full),
    ) -> Result<(Self, E), StoreError> {
        let read = |key| state.get(&project, tables.watch, key);
        let position: Position = from_json(read(CURSOR)?, tables.of)?.unwrap_or_default();
        let examined: E = from_json(read(EXAMINED)?, tables.of)?.unwrap_or_default();
        let inner = Inner {
            committed: position.place,
            position,
            committed_at: Timestamp::EPOCH,
            since_commit: 0,
            open: BTreeMap::new(),
            open_parts: 0,
        };
        let days = Self {
            project,
            state,
            tables,
            subjects_max,
            full,
            inner: Mutex::new(inner),
        };
        Ok((days, examined))
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> Position {
        self.inner.lock().position.clone()
    }

    /// The last entry that was counted.
    pub(crate) fn place(&self) -> u64 {
        self.inner.lock().position.place
    }

    /// Counts entries in the order of the log; those that were counted before are skipped. `of` says on which day an entry is counted and
    /// with which subject, or that it is not.
    pub(crate) fn apply<'e, T: 'e>(
        &self,
        entries: impl Iterator<Item = (u64, &'e T)>,
        of: impl Fn(&'e T) -> Option<(i64, Cow<'e, str>)>,
        add: impl Fn(&mut S, &T),
    ) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        for (place, entry) in entries {
            if place <= inner.position.place {
                continue;
            }
            if let Some((day, subject)) = of(entry) {
                self.add(&mut inner, day, &subject, |sketch| add(sketch, entry))?;
            }
            inner.position.place = place;
            inner.since_commit += 1;
        }
        if inner.since_commit >= COMMIT_ENTRIES || inner.open_parts > OPEN_PARTS_MAX {
            self.store(&mut inner)?;
        }
        Ok(())
    }

    fn add(
        &self,
        inner: &mut Inner<S>,
        day: i64,
        subject: &str,
        add: impl FnOnce(&mut S),
    ) -> Result<(), StoreError> {
        let position = &mut inner.position;
        position.day = position.day.max(day);
        if day < position.day - UNSEEN_DAYS_MAX {
            position.too_old += 1;
            return Ok(());
        }
        if let Some(known) = position.subjects.get_mut(subject) {
            known.first = known.first.min(day);
            known.last = known.last.max(day);
        } else if position.subjects.len() < self.subjects_max || self.gives_way(position, day) {
            let known = Known {
                first: day,
                last: day,
            };
            position.subjects.insert(subject.to_owned(), known);
        } else {
            position.others += 1;
            return Ok(());
        }
        let days = inner.open.entry(day).or_default();
        if !days.contains_key(subject) {
            let stored = self.stored_day(day, subject)?.unwrap_or_default();
            inner.open_parts += stored.parts();
            days.insert(subject.to_owned(), (stored, false));
        }
        if let Some((sketch, is_changed)) = days.get_mut(subject) {
            let before = sketch.parts();
            add(sketch);
            inner.open_parts += sketch.parts().saturating_sub(before);
            *is_changed = true;
        }
        Ok(())
    }

    /// Forgets the subject that has been silent for longest, where that is how room is made and it did not come on this day.
    fn gives_way(&self, position: &mut Position, day: i64) -> bool {
        if self.full == Full::CountsAsOther {
            return false;
        }
        let earliest = position.subjects.iter().min_by_key(|(_, known)| known.last);
        let earliest = earliest.filter(|(_, known)| known.last < day);
        let earliest = earliest.map(|(subject, _)| subject.clone());
        earliest.is_some_and(|subject| position.subjects.remove(&subject).is_some())
    }

    /// Stores what was counted, where that was not done for a while.
    pub(crate) fn commit_if_due(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if now.since(inner.committed_at) >= COMMIT_EVERY {
            self.store(&mut inner)?;
            inner.committed_at = now;
        }
        Ok(())
    }

    /// Stores what was counted. Returns the last entry that would not be lost.
    pub(crate) fn commit(&self) -> Result<u64, StoreError> {
        let mut inner = self.inner.lock();
        self.store(&mut inner)?;
        Ok(inner.committed)
    }

    fn store(&self, inner: &mut Inner<S>) -> Result<(), StoreError> {
        if inner.committed == inner.position.place {
            return Ok(());
        }
        let mut batch = StateBatch::default();
        let newest = inner.position.day;
        inner
            .position
            .subjects
            .retain(|_, known| newest - known.last <= UNSEEN_DAYS_MAX);
        for (day, subjects) in &inner.open {
            for (subject, (sketch, is_changed)) in subjects {
                if *is_changed {
                    let key = sketch_key(*day, subject);
                    batch.put(self.tables.sketches, key, sketch.encode());
                }
            }
        }
        let position = json(&inner.position, self.tables.of)?;
        batch.put(self.tables.watch, CURSOR, position);
        self.state.commit(&self.project, batch)?;
        inner.committed = inner.position.place;
        inner.since_commit = 0;
        let keep_open = inner.open_parts <= OPEN_PARTS_MAX;
        inner.open.retain(|day, _| *day == newest && keep_open);
        inner.open_parts = 0;
        for (sketch, is_changed) in inner.open.values_mut().flat_map(BTreeMap::values_mut) {
            *is_changed = false;
            inner.open_parts += sketch.parts();
        }
        Ok(())
    }

    /// A day of a subject as it is now; an empty one where nothing came.
    pub(crate) fn day(&self, day: i64, subject: &str) -> Result<S, StoreError> {
        let inner = self.inner.lock();
        let open = inner.open.get(&day);
        if let Some((sketch, _)) = open.and_then(|subjects| subjects.get(subject)) {
            return Ok(sketch.clone());
        }
        drop(inner);
        Ok(self.stored_day(day, subject)?.unwrap_or_default())
    }

    fn stored_day(&self, day: i64, subject: &str) -> Result<Option<S>, StoreError> {
        let key = sketch_key(day, subject);
        let bytes = self.state.get(&self.project, self.tables.sketches, &key)?;
        let damaged = |error| StoreError::corrupt(format!("what came of {subject}"), error);
        bytes
            .map(|bytes| S::decode(&bytes).map_err(damaged))
            .transpose()
    }

    /// The past of a subject.
    pub(crate) fn history(&self, subject: &str) -> Result<History, StoreError> {
        let key = history_key(subject);
        let bytes = self.state.get(&self.project, self.tables.histories, &key)?;
        let damaged = |error| StoreError::corrupt(format!("the past of {subject}"), error);
        let history = bytes.map(|bytes| History::decode(&bytes).map_err(damaged));
        Ok(history.transpose()?.unwrap_or_default())
    }

    /// Stores what a day was found to be like, in one commit; forgets sketches that nobody needs any more.
    pub(crate) fn store_examined(
        &self,
        day: Option<i64>,
        examined: &impl Serialize,
        histories: Vec<(String, History)>,
    ) -> Result<(), StoreError> {
        let (mut batch, tables) = (StateBatch::default(), &self.tables);
        for (subject, history) in histories {
            batch.put(tables.histories, history_key(&subject), history.encode());
        }
        batch.put(tables.watch, EXAMINED, json(examined, tables.of)?);
        if let Some(day) = day {
            let before = ordered(day - SKETCH_DAYS);
            let mut after: Option<Vec<u8>> = None;
            loop {
                let last = after.as_deref();
                let rows = self
                    .state
                    .scan(&self.project, tables.sketches, &[], last, PAGE)?;
                let keys = rows.into_iter().map(|(key, _)| key);
                let old: Vec<Vec<u8>> = keys.take_while(|key| key[..] < before[..]).collect();
                let is_all = old.len() < PAGE;
                after = old.last().cloned();
                old.into_iter()
                    .for_each(|key| batch.remove(tables.sketches, key));
                if is_all {
                    break;
                }
            }
        }
        self.state.commit(&self.project, batch)
    }
}

impl Known {
    /// Whether it has not come for longer than is remembered.
    pub(crate) fn is_gone(&self, day: i64) -> bool {
        day - self.last > i64::try_from(WINDOWS_MAX).unwrap_or(i64::MAX)
    }
}

/// Days in their order as bytes, also those before 1970.
fn ordered(day: i64) -> [u8; 8] {
    (day.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn sketch_key(day: i64, subject: &str) -> Vec<u8> {
    [&ordered(day)[..], subject.as_bytes()].concat()
}

fn history_key(subject: &str) -> Vec<u8> {
    format!(".{subject}").into_bytes()
}

fn json(value: &impl Serialize, of: &'static str) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::corrupt(of, error))
}

fn from_json<T: for<'de> Deserialize<'de>>(
    bytes: Option<Vec<u8>>,
    of: &'static str,
) -> Result<Option<T>, StoreError> {
    let read = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes).map_err(|error| StoreError::corrupt(of, error))
    };
    bytes.map(read).transpose()
}
