//! Follows the log and keeps the days of every kind of event.

use std::borrow::Cow;
use std::sync::Arc;

use tidemill_core::sync::Mutex;
use tidemill_core::{Event, EventKind, Offset, ProjectName, Timestamp};
use tidemill_store::{LoggedEvent, StateStore, StoreError};

use super::examine::Examined;
use super::sketch::EventDay;
use crate::days::{Days, Full, History, Position, Tables};

/// The most kinds of events that are watched; the rest is counted together.
pub const EVENTS_MAX: usize = 200;

const TABLES: Tables = Tables {
    sketches: "data_sketches",
    histories: "data_histories",
    watch: "data_watch",
    of: "the watch of the data",
};

/// Counts what comes, day by day. Used by one consumer; reading is free for all.
pub struct DataWatch {
    pub(super) days: Days<EventDay>,
    /// What was found last. Held while days are looked at.
    pub(super) examined: Mutex<Examined>,
}

impl DataWatch {
    /// Goes on where it stopped.
    ///
    /// # Errors
    /// When the state store fails or is damaged.
    pub fn open(project: ProjectName, state: Arc<dyn StateStore>) -> Result<Self, StoreError> {
        let limit = (EVENTS_MAX, Full::CountsAsOther);
        let (days, examined) = Days::open(project, state, TABLES, limit)?;
        Ok(Self {
            days,
            examined: Mutex::new(examined),
        })
    }

    /// The last event that was counted.
    pub fn applied(&self) -> Offset {
        Offset(self.days.place())
    }

    /// Where it stands.
    pub fn position(&self) -> Position {
        self.days.position()
    }

    /// Counts events in the order of the log; those that were counted before are skipped.
    ///
    /// # Errors
    /// When the state store fails; what was counted since the last commit is counted again after a start.
    pub fn apply(&self, events: &[LoggedEvent]) -> Result<(), StoreError> {
        let entries = events.iter().map(|logged| (logged.offset.0, &logged.event));
        self.days.apply(entries, counted_as, EventDay::add)
    }

    /// Stores what was counted, where that was not done for a while.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit_if_due(&self, now: Timestamp) -> Result<(), StoreError> {
        self.days.commit_if_due(now)
    }

    /// Stores what was counted. Returns the last event that would not be lost.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit(&self) -> Result<Offset, StoreError> {
        self.days.commit().map(Offset)
    }

    /// A day of a kind of event as it is now; nothing where none came.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn day(&self, day: i64, name: &str) -> Result<EventDay, StoreError> {
        self.days.day(day, name)
    }

    /// The past of a kind of event.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn history(&self, name: &str) -> Result<History, StoreError> {
        self.days.history(name)
    }
}

/// On which day an event counts, and as what. A catalogue comes in bulk, when somebody sends it, and does not.
fn counted_as(event: &Event) -> Option<(i64, Cow<'_, str>)> {
    let is_of_catalogue = matches!(event.kind, EventKind::ItemChanged | EventKind::ItemDeleted);
    (!is_of_catalogue).then(|| (event.received_at.day(), event.name.as_str().into()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::Span;
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
            (position.subjects.len(), position.others, position.too_old),
            (EVENTS_MAX, 7, 1)
        );
    }
}
