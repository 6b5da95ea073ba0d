//! What everybody brought, out of the events: what value reports count.

use std::collections::HashMap;

use tidemill_core::event::{EventView, Field, PersonKey};
use tidemill_core::{Span, Timestamp};
use tidemill_store::{EventColumns, EventTable};

use super::people::{People, Person};
use crate::FeatureError;
use crate::value;

/// The amounts of one kind of event, by person.
pub struct AmountLog {
    people: People,
    /// By the group of a person, in the order of time.
    amounts: HashMap<Person, Vec<(Timestamp, f64)>>,
}

impl AmountLog {
    /// Reads the amounts of an event. Events without a number there bring nothing.
    ///
    /// # Errors
    /// When the events cannot be read.
    pub fn read(
        events: &dyn EventTable,
        event: &str,
        amount: &Field,
    ) -> Result<Self, FeatureError> {
        let mut people = People::read_ahead(events).map_err(FeatureError::Events)?;
        let columns = EventColumns::of([amount]);
        let mut amounts: HashMap<Person, Vec<(Timestamp, f64)>> = HashMap::new();
        for rows in events.scan(columns, None) {
            let rows = rows.map_err(FeatureError::Events)?;
            for (index, row) in rows.rows().enumerate() {
                if row.name() != event {
                    continue;
                }
                let Some(person) = people.of_row(&rows, index) else {
                    continue;
                };
                let field = row.field(amount);
                if let Some(amount) = field.as_deref().and_then(value::number) {
                    let of_group = amounts.entry(people.group(person)).or_default();
                    of_group.push((row.timestamp(), amount));
                }
            }
        }
        for of_group in amounts.values_mut() {
            of_group.sort_by_key(|(at, _)| *at);
        }
        Ok(Self { people, amounts })
    }

    /// What somebody brought in `(after, after + within]`, by any of their keys.
    pub fn sum(&mut self, person: &PersonKey, after: Timestamp, within: Span) -> f64 {
        let person = self.people.of_key(person);
        let Some(amounts) = self.amounts.get(&self.people.group(person)) else {
            return 0.0;
        };
        let from = amounts.partition_point(|(at, _)| *at <= after);
        let until = after + within;
        let in_time = amounts[from..].iter().take_while(|(at, _)| *at <= until);
        in_time.map(|(_, amount)| amount).sum()
    }
}
