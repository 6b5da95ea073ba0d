//! Follows the log and keeps the days of every kind of event.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tidemill_core::{EventKind, Offset, ProjectName, Span, Timestamp};
use tidemill_store::{LoggedEvent, StateBatch, StateStore, StoreError};

use super::examine::Examined;
use super::history::{History, WINDOWS_MAX};
use super::sketch::EventDay;

/// The most kinds of events that are watched; the rest is counted together.
pub const EVENTS_MAX: usize = 200;
/// How many days of sketches are kept behind the last one that was looked at.
pub const SKETCH_DAYS: i64 = 60;
/// How far back days are kept that nobody has looked at yet: an import of history brings many at once.
pub const UNSEEN_DAYS_MAX: i64 = 400;
/// Beyond so many properties of days in memory what is there is stored, however little has come since.
const OPEN_PROPERTIES_MAX: usize = 4_000;
/// What was counted is stored after so many events …
const COMMIT_EVENTS: usize = 50_000;
/// … or so long. Whatever was not stored is counted again from the log.
const COMMIT_EVERY: Span = Span::from_seconds(10);

/// [`EventDay`] by day and name of the event.
const SKETCHES: &str = "data_sketches";
/// [`History`] by name of the event, with a mark in front, so that no key is empty.
const HISTORIES: &str = "data_histories";
/// Where the watch stands, and what it found last.
const WATCH: &str = "data_watch";
const CURSOR: &[u8] = b"cursor";
const EXAMINED: &[u8] = b"examined";

/// When a kind of event came first and last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The first day, of which only a part may have been seen.
    pub first: i64,
    /// The last day.
    pub last: i64,
}

/// Where the watch stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The last event that was counted.
    pub offset: Offset,
    /// The newest day of any event.
    pub day: i64,
    /// The kinds of events, at most [`EVENTS_MAX`].
    pub events: BTreeMap<String, Known>,
    /// Events whose name came after [`EVENTS_MAX`] others.
    pub other_events: u64,
    /// Events of days that are not kept any more.
    pub too_old: u64,
}

/// Counts what comes, day by day. Used by one consumer; reading is free for all.
pub struct DataWatch {
    pub(super) project: ProjectName,
    pub(super) state: Arc<dyn StateStore>,
    inner: Mutex<Inner>,
    /// What was found last. Held while days are looked at.
    pub(super) examined: Mutex<Examined>,
}

struct Inner {
    position: Position,
    /// The last event that would not be lost.
    committed: Offset,
    committed_at: Timestamp,
    since_commit: usize,
    /// Days in memory, by day and name, and whether they have changed since they were stored.
    open: BTreeMap<i64, BTreeMap<String, (EventDay, bool)>>,
    open_properties: usize,
}

impl DataWatch {
    /// Goes on where it stopped.
    ///
    /// # Errors
    /// When the state store fails or is damaged.
    pub fn open(project: ProjectName, state: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let position: Position = read_json(&project, &*state, CURSOR)?.unwrap_or_default();
        let examined: Examined = read_json(&project, &*state, EXAMINED)?.unwrap_or_default();
        Ok(Self {
            project,
            state,
            inner: Mutex::new(Inner {
                committed: position.offset,
                position,
                committed_at: Timestamp::EPOCH,
                since_commit: 0,
                open: BTreeMap::new(),
                open_properties: 0,
            }),
            examined: Mutex::new(examined),
        })
    }

    /// The last event that was counted.
    pub fn applied(&self) -> Offset {
        self.inner.lock().position.offset
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.inner.lock().position.clone()
    }

    /// Counts events in the order of the log; those that were counted before are skipped.
    ///
    /// # Errors
    /// When the state store fails; what was counted since the last commit is counted again after a start.
    pub fn apply(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        for logged in events {
            if logged.offset <= inner.position.offset {
                continue;
            }
            self.add(&mut inner, logged)?;
            inner.position.offset = logged.offset;
            inner.since_commit += 1;
        }
        if inner.since_commit >= COMMIT_EVENTS || inner.open_properties > OPEN_PROPERTIES_MAX {
            self.store(&mut inner)?;
        }
        Ok(())
    }

    /// Stores what was counted, where that was not done for a while.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit_if_due(&self, now: Timestamp) -> Result<(), StoreError> {
        let mut inner = self.inner.lock();
        if now.since(inner.committed_at) >= COMMIT_EVERY {
            self.store(&mut inner)?;
            inner.committed_at = now;
        }
        Ok(())
    }

    fn add(&self, inner: &mut Inner, logged: &LoggedEvent) -> Result<(), StoreError> {
        let event = &logged.event;
        if matches!(event.kind, EventKind::ItemChanged | EventKind::ItemDeleted) {
            return Ok(()); // a catalogue comes in bulk, when somebody sends it
        }
        let day = event.received_at.day();
        let position = &mut inner.position;
        position.day = position.day.max(day);
        if day < position.day - UNSEEN_DAYS_MAX {
            position.too_old += 1;
            return Ok(());
        }
        if let Some(known) = position.events.get_mut(&event.name) {
            known.first = known.first.min(day);
            known.last = known.last.max(day);
        } else if position.events.len() < EVENTS_MAX {
            let known = Known {
                first: day,
                last: day,
            };
            position.events.insert(event.name.clone(), known);
        } else {
            position.other_events += 1;
            return Ok(());
        }
        let days = inner.open.entry(day).or_default();
        if !days.contains_key(&event.name) {
            let stored = self.stored_day(day, &event.name)?.unwrap_or_default();
            inner.open_properties += stored.properties.len();
            days.insert(event.name.clone(), (stored, false));
        }
        if let Some((sketch, is_changed)) = days.get_mut(&event.name) {
            let before = sketch.properties.len();
            sketch.add(event);
            inner.open_properties += sketch.properties.len() - before;
            *is_changed = true;
        }
        Ok(())
    }

    /// Stores what was counted. Returns the last event that would not be lost.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit(&self) -> Result<Offset, StoreError> {
        let mut inner = self.inner.lock();
        self.store(&mut inner)?;
        Ok(inner.committed)
    }

    fn store(&self, inner: &mut Inner) -> Result<(), StoreError> {
        if inner.committed == inner.position.offset {
            return Ok(());
        }
        let mut batch = StateBatch::default();
        let newest = inner.position.day;
        inner
            .position
            .events
            .retain(|_, known| newest - known.last <= UNSEEN_DAYS_MAX);
        for (day, events) in &inner.open {
            for (name, (sketch, is_changed)) in events {
                if *is_changed {
                    batch.put(SKETCHES, sketch_key(*day, name), sketch.encode());
                }
            }
        }
        batch.put(WATCH, CURSOR, json(&inner.position)?);
        self.state.commit(&self.project, batch)?;
        inner.committed = inner.position.offset;
        inner.since_commit = 0;
        let keep_open = inner.open_properties <= OPEN_PROPERTIES_MAX;
        inner.open.retain(|day, _| *day == newest && keep_open);
        inner.open_properties = 0;
        for (sketch, is_changed) in inner.open.values_mut().flat_map(BTreeMap::values_mut) {
            *is_changed = false;
            inner.open_properties += sketch.properties.len();
        }
        Ok(())
    }

    /// A day of a kind of event as it is now; nothing where none came.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn day(&self, day: i64, name: &str) -> Result<EventDay, StoreError> {
        let inner = self.inner.lock();
        if let Some((sketch, _)) = inner.open.get(&day).and_then(|events| events.get(name)) {
            return Ok(sketch.clone());
        }
        drop(inner);
        Ok(self.stored_day(day, name)?.unwrap_or_default())
    }

    fn stored_day(&self, day: i64, name: &str) -> Result<Option<EventDay>, StoreError> {
        let key = sketch_key(day, name);
        let bytes = self.state.get(&self.project, SKETCHES, &key)?;
        let damaged = |error| StoreError::corrupt(format!("what came of {name}"), error);
        bytes
            .map(|bytes| EventDay::decode(&bytes).map_err(damaged))
            .transpose()
    }

    /// The past of a kind of event.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn history(&self, name: &str) -> Result<History, StoreError> {
        let key = history_key(name);
        let bytes = self.state.get(&self.project, HISTORIES, &key)?;
        let damaged = |error| StoreError::corrupt(format!("the past of {name}"), error);
        let history = bytes.map(|bytes| History::decode(&bytes).map_err(damaged));
        Ok(history.transpose()?.unwrap_or_default())
    }

    /// Stores what a day was found to be like, in one commit; forgets sketches that nobody needs any more.
    pub(super) fn store_examined(
        &self,
        examined: &Examined,
        histories: Vec<(String, History)>,
    ) -> Result<(), StoreError> {
        let mut batch = StateBatch::default();
        for (name, history) in histories {
            batch.put(HISTORIES, history_key(&name), history.encode());
        }
        batch.put(WATCH, EXAMINED, json(examined)?);
        if let Some(day) = examined.day {
            let before = ordered(day - SKETCH_DAYS);
            let limit = 2 * self.inner.lock().position.events.len() + 1;
            let rows = self.state.scan(&self.project, SKETCHES, &[], None, limit)?;
            let old = rows.into_iter().map(|(key, _)| key);
            for key in old.take_while(|key| key.as_slice() < &before[..]) {
                batch.remove(SKETCHES, key);
            }
        }
        self.state.commit(&self.project, batch)
    }

    /// Forgets the past of kinds of events that have not come for longer than is remembered.
    pub(super) fn is_gone(known: &Known, day: i64) -> bool {
        day - known.last > i64::try_from(WINDOWS_MAX).unwrap_or(i64::MAX)
    }
}

/// Days in their order as bytes, also those before 1970.
fn ordered(day: i64) -> [u8; 8] {
    (day.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn sketch_key(day: i64, name: &str) -> Vec<u8> {
    [&ordered(day)[..], name.as_bytes()].concat()
}

fn history_key(name: &str) -> Vec<u8> {
    format!(".{name}").into_bytes()
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::corrupt("the watch of the data", error))
}

fn read_json<T: for<'de> Deserialize<'de>>(
    project: &ProjectName,
    state: &dyn StateStore,
    key: &[u8],
) -> Result<Option<T>, StoreError> {
    let bytes = state.get(project, WATCH, key)?;
    let read = |bytes: Vec<u8>| {
        serde_json::from_slice(&bytes)
            .map_err(|error| StoreError::corrupt("the watch of the data", error))
    };
    bytes.map(read).transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::Event;
    use tidemill_store::memory::MemoryState;

    use super::*;

    const DAY: Span = Span::from_days(1);

    fn logged(offset: u64, name: &str, day: i64) -> LoggedEvent {
        let at = Timestamp::EPOCH + Span::from_micros(DAY.micros() * day);
        let event: Event = serde_json::from_value(json!({
            "message_id": format!("m{offset}"), "kind": "track", "name": name, "user_id": "u", "timestamp": at,
            "received_at": at, "properties": { "total": offset, "place": format!("p{}", offset % 3) }
        }))
        .unwrap();
        LoggedEvent {
            offset: Offset(offset),
            event,
        }
    }

    #[test]
    fn a_restart_goes_on_exactly_where_it_stood() {
        let events: Vec<LoggedEvent> = (1..=400)
            .map(|offset| {
                logged(
                    offset,
                    ["Order", "Visit"][(offset % 2) as usize],
                    100 + offset as i64 / 90,
                )
            })
            .collect();
        let name: ProjectName = "shop".parse().unwrap();
        let open = |state: &Arc<MemoryState>| DataWatch::open(name.clone(), state.clone()).unwrap();
        let (once, broken) = (
            Arc::new(MemoryState::default()),
            Arc::new(MemoryState::default()),
        );
        let whole = open(&once);
        whole.apply(&events).unwrap();
        let mut from = 0;
        for until in [37, 200, 311, 400] {
            let watch = open(&broken);
            assert_eq!(watch.applied(), Offset(from));
            watch.apply(&events[..until]).unwrap();
            // the events after the last commit are lost with the process
            assert_eq!(watch.commit().unwrap(), Offset(until as u64));
            watch.apply(&events[until..]).unwrap();
            from = until as u64;
        }
        let after = open(&broken);
        assert_eq!(after.position(), whole.position());
        for day in 100..=104 {
            for name in ["Order", "Visit"] {
                assert_eq!(
                    after.day(day, name).unwrap(),
                    whole.day(day, name).unwrap(),
                    "{day} {name}"
                );
            }
        }
        assert!(after.day(104, "Order").unwrap().count > 0);
    }

    #[test]
    fn what_is_watched_is_bounded() {
        let watch =
            DataWatch::open("shop".parse().unwrap(), Arc::new(MemoryState::default())).unwrap();
        let count = EVENTS_MAX as u64 + 7;
        let events: Vec<LoggedEvent> = (1..=count)
            .map(|n| logged(n, &format!("Event {n}"), 900))
            .collect();
        watch.apply(&events).unwrap();
        watch.apply(&[logged(count + 1, "Event 1", 2)]).unwrap();
        let position = watch.position();
        assert_eq!(
            (
                position.events.len(),
                position.other_events,
                position.too_old
            ),
            (EVENTS_MAX, 7, 1)
        );
    }
}
