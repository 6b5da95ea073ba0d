//! What everybody took, out of the events: what recommendations are learnt from.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::event::{EventView, Field, PersonKey};
use tidemill_core::{Offset, Timestamp};
use tidemill_store::{EventColumns, EventTable};

use super::people::People;
use crate::FeatureError;
use crate::value;

/// What everybody took.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InteractionLog {
    /// The items by their numbers, in the order of their appearance.
    pub items: Vec<Arc<str>>,
    /// The persons by their numbers, in the order of their appearance: who they are in the end.
    pub persons: Vec<PersonKey>,
    /// What was taken, in the order of the log.
    pub taken: Vec<Interaction>,
    /// The last event that was read.
    pub last: Offset,
    /// Events that say what somebody likes but not who, or not what.
    pub incomplete: u64,
    /// Now and then when the newest event so far was received, and the place of the log: what [`place_at`](Self::place_at) looks up.
    times: Vec<(Timestamp, Offset)>,
}

/// The time is noted once for so many events.
const NOTED_EVERY: usize = 256;

impl InteractionLog {
    /// A place of the log at which nothing had been received after `time`; at most a few hundred events earlier than it could be.
    pub fn place_at(&self, time: Timestamp) -> Offset {
        let after = self.times.partition_point(|(newest, _)| *newest <= time);
        let before = after.checked_sub(1).and_then(|place| self.times.get(place));
        before.map_or(Offset::ZERO, |(_, offset)| *offset)
    }
}

/// Somebody took something: 24 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interaction {
    /// Who, by number; all who become one in the end have the same.
    pub person: u32,
    /// What, by its number.
    pub item: u32,
    /// By which of the signals.
    pub signal: u32,
    /// When it happened.
    pub timestamp: Timestamp,
}

/// Reads what everybody took by one of the signals.
///
/// # Errors
/// When the events cannot be read.
pub fn interactions(
    events: &dyn EventTable,
    item: &Field,
    signals: &[&str],
) -> Result<InteractionLog, FeatureError> {
    let mut people = People::read_ahead(events).map_err(FeatureError::Events)?;
    let signal_of: HashMap<&str, u32> = signals.iter().copied().zip(0..).collect();
    let columns = EventColumns::of([item]);
    let mut log = InteractionLog::default();
    let (mut persons, mut items) = (HashMap::new(), HashMap::<Arc<str>, u32>::new());
    let (mut newest, mut events_read) = (Timestamp::EPOCH, 0_usize);
    for rows in events.scan(columns, None) {
        let rows = rows.map_err(FeatureError::Events)?;
        for (index, event) in rows.rows().enumerate() {
            log.last = rows.offset(index);
            newest = newest.max(event.received_at());
            events_read += 1;
            if events_read.is_multiple_of(NOTED_EVERY) {
                log.times.push((newest, log.last));
            }
            let Some(&signal) = signal_of.get(event.name()) else {
                continue;
            };
            let person = people
                .of_row(&rows, index)
                .map(|person| people.group(person));
            let named = event.field(item);
            let named = named.as_ref().and_then(|json| value::category(json));
            let (Some(person), Some(named)) = (person, named) else {
                log.incomplete += 1;
                continue;
            };
            let next = persons.len() as u32;
            let person = *persons.entry(person).or_insert_with(|| {
                log.persons.push(people.keys[person as usize].clone());
                next
            });
            let number = match items.get(named.as_ref()) {
                Some(number) => *number,
                None => {
                    let id: Arc<str> = Arc::from(named.as_ref());
                    let number = log.items.len() as u32;
                    log.items.push(id.clone());
                    items.insert(id, number);
                    number
                }
            };
            log.taken.push(Interaction {
                person,
                item: number,
                signal,
                timestamp: event.timestamp(),
            });
        }
    }
    if events_read > 0 {
        log.times.push((newest, log.last));
    }
    Ok(log)
}
