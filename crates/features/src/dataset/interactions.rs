//! What everybody took, out of the events: what recommendations are learnt from.

use std::collections::HashMap;
use std::sync::Arc;

use tidemill_core::event::{EventView, Field};
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
    /// How many persons there are.
    pub persons: usize,
    /// What was taken, in the order of the log.
    pub taken: Vec<Interaction>,
    /// The last event that was read.
    pub last: Offset,
    /// Events that say what somebody likes but not who, or not what.
    pub incomplete: u64,
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
    for rows in events.scan(columns, None) {
        let rows = rows.map_err(FeatureError::Events)?;
        for (index, event) in rows.rows().enumerate() {
            log.last = rows.offset(index);
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
            let person = *persons.entry(person).or_insert(next);
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
    log.persons = persons.len();
    Ok(log)
}
