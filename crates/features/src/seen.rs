//! What has been seen of each kind of event: the ground for suggestions, and for people who want to know what their product sends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use tidemill_core::{Event, Timestamp};

use crate::accumulate::hash_text;

/// The most different names of events that are told apart; the rest is counted together.
pub const EVENTS_MAX: usize = 500;
/// The most properties of one kind of event that are told apart; the rest is counted together.
pub const PROPERTIES_MAX: usize = 100;
/// The most different values of one property that are kept.
pub const VALUES_MAX: usize = 50;
/// The longest value that is kept, in bytes.
pub const VALUE_BYTES_MAX: usize = 64;

/// All kinds of events that have been seen.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenEvents {
    /// By name.
    pub events: BTreeMap<String, SeenEvent>,
    /// Events whose name came after [`EVENTS_MAX`] others.
    pub other_events: u64,
}

/// One kind of event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenEvent {
    /// How many.
    pub count: u64,
    /// How many of them are about a person.
    pub with_person: u64,
    /// Who these persons were; absent for kinds of events that were first seen before persons were counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persons: Option<Persons>,
    /// The earliest timestamp.
    pub first: Timestamp,
    /// The latest timestamp.
    pub last: Timestamp,
    /// The longest time without one between two of them so far, in microseconds.
    #[serde(default)]
    pub longest_silence_us: i64,
    /// By the name of the property.
    pub properties: BTreeMap<String, SeenProperty>,
    /// Occurrences of properties that came after [`PROPERTIES_MAX`] others.
    pub other_properties: u64,
}

/// One property of one kind of event.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SeenProperty {
    /// How often it was there, null included.
    pub count: u64,
    /// How often it was null.
    pub nulls: u64,
    /// How often it was a number.
    pub numbers: u64,
    /// How often it was a text.
    pub texts: u64,
    /// How often it was true or false.
    pub truths: u64,
    /// How often it was a list.
    pub lists: u64,
    /// How often it was an object.
    pub objects: u64,
    /// The smallest number.
    pub min: Option<f64>,
    /// The largest number.
    pub max: Option<f64>,
    /// Texts, truths and whole numbers and how often each was seen since it was first kept; at most [`VALUES_MAX`].
    pub values: BTreeMap<String, u64>,
    /// Whether there were more or longer values than are kept.
    pub more_values: bool,
}

/// Fewer persons than this are counted exactly.
pub const PERSONS_EXACT_BELOW: usize = 128;

/// How many different persons there were, by the keys that events name them with: their smallest hashes, ascending. Exact while there
/// are few; after that an estimate with a relative standard error of 1/√(k−2) ≈ 9 % (k-minimum-values: Bar-Yossef et al., *Counting
/// distinct elements in a data stream*, 2002).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Persons(Vec<u64>);

impl Persons {
    fn add(&mut self, key: &str) {
        let hash = hash_text(key);
        if let Err(place) = self.0.binary_search(&hash)
            && place < PERSONS_EXACT_BELOW
        {
            self.0.insert(place, hash);
            self.0.truncate(PERSONS_EXACT_BELOW);
        }
    }

    /// How many.
    pub fn count(&self) -> u64 {
        match self.0.last() {
            Some(largest) if self.0.len() == PERSONS_EXACT_BELOW => {
                let share = *largest as f64 / 2f64.powi(64);
                ((PERSONS_EXACT_BELOW - 1) as f64 / share).round() as u64
            }
            _ => self.0.len() as u64,
        }
    }
}

impl SeenEvents {
    /// Takes an event; returns whether its name is told apart.
    pub fn add(&mut self, event: &Event) -> bool {
        if !self.events.contains_key(&event.name) {
            if self.events.len() >= EVENTS_MAX {
                self.other_events += 1;
                return false;
            }
            self.events
                .insert(event.name.clone(), SeenEvent::first(event.timestamp));
        }
        if let Some(seen) = self.events.get_mut(&event.name) {
            seen.add(event);
        }
        true
    }
}

impl SeenEvent {
    fn first(timestamp: Timestamp) -> Self {
        Self {
            count: 0,
            with_person: 0,
            persons: Some(Persons::default()),
            first: timestamp,
            last: timestamp,
            longest_silence_us: 0,
            properties: BTreeMap::new(),
            other_properties: 0,
        }
    }

    fn add(&mut self, event: &Event) {
        self.count += 1;
        if let Some(person) = event.person() {
            self.with_person += 1;
            if let Some(persons) = &mut self.persons {
                persons.add(person.as_str());
            }
        }
        self.first = self.first.min(event.timestamp);
        if event.timestamp > self.last {
            let silence = event.timestamp.since(self.last).micros();
            self.longest_silence_us = self.longest_silence_us.max(silence);
            self.last = event.timestamp;
        }
        for (name, value) in &event.properties {
            if !self.properties.contains_key(name) {
                if self.properties.len() >= PROPERTIES_MAX {
                    self.other_properties += 1;
                    continue;
                }
                self.properties
                    .insert(name.clone(), SeenProperty::default());
            }
            if let Some(property) = self.properties.get_mut(name) {
                property.add(value);
            }
        }
    }
}

impl SeenProperty {
    fn add(&mut self, value: &Json) {
        self.count += 1;
        match value {
            Json::Null => self.nulls += 1,
            Json::Bool(truth) => {
                self.truths += 1;
                self.keep(if *truth { "true" } else { "false" });
            }
            Json::Number(number) => {
                self.numbers += 1;
                let number = number.as_f64().unwrap_or(f64::NAN);
                if number.is_finite() {
                    self.min = Some(self.min.map_or(number, |min| min.min(number)));
                    self.max = Some(self.max.map_or(number, |max| max.max(number)));
                    if number.fract() == 0.0 && number.abs() < 1e15 {
                        self.keep(&number.to_string());
                    } else {
                        self.more_values = true;
                    }
                }
            }
            Json::String(text) => {
                self.texts += 1;
                self.keep(text);
            }
            Json::Array(_) => self.lists += 1,
            Json::Object(_) => self.objects += 1,
        }
    }

    fn is_full(&self) -> bool {
        self.values.len() >= VALUES_MAX
    }

    fn keep(&mut self, text: &str) {
        if let Some(count) = self.values.get_mut(text) {
            *count += 1;
        } else if self.is_full() || text.len() > VALUE_BYTES_MAX {
            self.more_values = true;
        } else if !text.is_empty() {
            self.values.insert(text.to_owned(), 1);
        }
    }

    /// Whether it is nearly always a number: at least 95 of 100 values.
    pub fn is_number(&self) -> bool {
        self.numbers > 0 && self.numbers * 100 >= (self.count - self.nulls) * 95
    }

    /// Whether it is nearly always a text or a truth: at least 95 of 100 values.
    pub fn is_category(&self) -> bool {
        let categories = self.texts + self.truths;
        categories > 0 && categories * 100 >= (self.count - self.nulls) * 95
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(name: &str, properties: Json) -> Event {
        serde_json::from_value(json!({
            "message_id": "m", "kind": "track", "name": name, "user_id": "u",
            "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z", "properties": properties
        }))
        .unwrap()
    }

    #[test]
    fn types_and_values_are_counted() {
        let mut seen = SeenEvents::default();
        for number in 0..100 {
            seen.add(&event("Order", json!({"total": f64::from(number) + 0.5, "plan": if number % 2 == 0 { "a" } else { "b" }, "id": format!("o{number}")})));
        }
        seen.add(&event("Order", json!({"total": null})));
        let order = &seen.events["Order"];
        assert_eq!((order.count, order.with_person), (101, 101));
        let total = &order.properties["total"];
        assert_eq!(
            (total.numbers, total.nulls, total.min, total.max),
            (100, 1, Some(0.5), Some(99.5))
        );
        assert!(total.is_number() && !total.is_category());
        let plan = &order.properties["plan"];
        assert_eq!(
            plan.values,
            BTreeMap::from([("a".to_owned(), 50), ("b".to_owned(), 50)])
        );
        assert!(plan.is_category() && !plan.more_values);
        assert!(order.properties["id"].more_values);
        assert_eq!(order.properties["id"].values.len(), VALUES_MAX);
    }

    #[test]
    fn persons_are_counted_once_each() {
        let mut persons = Persons::default();
        for turn in 0..3 {
            for person in 0..100 {
                persons.add(&format!("user:u{person}"));
            }
            assert_eq!(persons.count(), 100, "{turn}");
        }
        for person in 0..10_000 {
            persons.add(&format!("user:u{person}"));
        }
        assert!(
            (7_500..12_500).contains(&persons.count()),
            "{}",
            persons.count()
        );
        assert_eq!(persons.0.len(), PERSONS_EXACT_BELOW);
        // what was stored before persons were counted
        let old: SeenEvent = serde_json::from_value(json!({
            "count": 1, "with_person": 1, "first": "2011-12-09T12:50:00Z", "last": "2011-12-09T12:50:00Z",
            "properties": {}, "other_properties": 0
        }))
        .unwrap();
        assert_eq!(old.persons, None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut seen = SeenEvents::default();
        for number in 0..EVENTS_MAX + 10 {
            seen.add(&event(&format!("Event {number}"), json!({})));
        }
        assert_eq!((seen.events.len(), seen.other_events), (EVENTS_MAX, 10));
        let many: serde_json::Map<String, Json> = (0..PROPERTIES_MAX + 5)
            .map(|n| (format!("p{n}"), json!(n)))
            .collect();
        seen.add(&event("Event 0", Json::Object(many)));
        assert_eq!(seen.events["Event 0"].properties.len(), PROPERTIES_MAX);
        assert_eq!(seen.events["Event 0"].other_properties, 5);
    }
}
