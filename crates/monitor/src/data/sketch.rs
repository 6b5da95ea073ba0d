//! What came on a day: counts and sketches that can be merged, of each kind of event and each of its properties.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_core::Event;
use tidemill_features::accumulate::Distinct;
use tidemill_features::codec::{DecodeError, Reader, Writer};

use crate::days::property::{decode_properties, encode_properties, merge_properties};
use crate::days::{NEWER, PropertyDay, Sketched};

/// The most properties of one kind of event that are told apart on a day; the rest is counted together.
pub const PROPERTIES_MAX: usize = 60;
/// The first byte of a stored day.
const FORMAT: u8 = 1;
/// Events with the same person and properties within this long are the same thing, told twice.
const REPEAT_WITHIN_US: i64 = 60_000_000;

/// One kind of event on one day. The day of an event is the one on which it was received (UTC), so that a day that is over stays as
/// it is.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDay {
    /// How many events.
    pub count: u64,
    /// How many of them have a user id.
    pub with_user: u64,
    /// Their contents: person, minute and properties. Fewer than `count` where something is told twice.
    pub contents: Distinct,
    /// By the name of the property.
    pub properties: BTreeMap<String, PropertyDay>,
    /// Occurrences of properties that came after [`PROPERTIES_MAX`] others.
    pub other_properties: u64,
}

impl Default for EventDay {
    fn default() -> Self {
        Self {
            count: 0,
            with_user: 0,
            contents: Distinct::none(),
            properties: BTreeMap::new(),
            other_properties: 0,
        }
    }
}

impl EventDay {
    /// Takes an event.
    pub fn add(&mut self, event: &Event) {
        self.count += 1;
        self.with_user += u64::from(event.user_id.is_some());
        let minute = event.timestamp.micros().div_euclid(REPEAT_WITHIN_US);
        let mut content = Mixed::START.number(minute.cast_unsigned());
        if let Some(id) = event.user_id.as_ref().or(event.anonymous_id.as_ref()) {
            content = content.bytes(id.as_bytes());
        }
        let mut together = 0u64;
        for (name, value) in &event.properties {
            // added up, so that the order of properties does not matter
            let mixed = Mixed::START.bytes(name.as_bytes()).value(value);
            together = together.wrapping_add(mixed.finish());
            if let Some(property) = self.properties.get_mut(name) {
                property.add(value);
            } else if self.properties.len() < PROPERTIES_MAX {
                let mut property = PropertyDay::default();
                property.add(value);
                self.properties.insert(name.clone(), property);
            } else {
                self.other_properties += 1;
            }
        }
        self.contents.insert(content.number(together).finish());
    }

    /// Adds another part of a day, or another day.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.with_user += other.with_user;
        self.contents.merge(&other.contents);
        self.other_properties += other.other_properties;
        let left_out = merge_properties(&mut self.properties, &other.properties, PROPERTIES_MAX);
        self.other_properties += left_out;
    }
}

impl Sketched for EventDay {
    fn parts(&self) -> usize {
        self.properties.len()
    }

    fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(256);
        writer.byte(FORMAT);
        writer.unsigned(self.count);
        writer.unsigned(self.with_user);
        self.contents.encode(&mut writer);
        encode_properties(&self.properties, &mut writer);
        writer.unsigned(self.other_properties);
        writer.finish()
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(NEWER);
        }
        let mut day = Self {
            count: reader.amount()?,
            with_user: reader.amount()?,
            contents: Distinct::decode(&mut reader)?,
            ..Self::default()
        };
        day.properties = decode_properties(&mut reader)?;
        day.other_properties = reader.amount()?;
        reader.end()?;
        Ok(day)
    }
}

/// A hash that never changes and takes eight bytes at a time: multiplying and rotating, then the finaliser of MurmurHash3.
#[derive(Clone, Copy)]
struct Mixed(u64);

impl Mixed {
    const START: Self = Self(0xcbf2_9ce4_8422_2325);

    fn number(self, number: u64) -> Self {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self(mixed.rotate_left(29))
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        let mut mixed = self.number(bytes.len() as u64);
        for chunk in bytes.chunks(8) {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            mixed = mixed.number(u64::from_le_bytes(eight));
        }
        mixed
    }

    fn value(self, value: &Value) -> Self {
        match value {
            Value::Null => self.number(1),
            Value::Bool(truth) => self.number(2 + u64::from(*truth)),
            Value::Number(number) => self.number(number.as_f64().map_or(4, f64::to_bits)),
            Value::String(text) => self.bytes(text.as_bytes()),
            Value::Array(values) => values.iter().fold(self.number(5), Mixed::value),
            Value::Object(values) => values.iter().fold(self.number(6), |mixed, (name, value)| {
                mixed.bytes(name.as_bytes()).value(value)
            }),
        }
    }

    fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ (hash >> 33)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(number: i64, properties: &Value) -> Event {
        serde_json::from_value(json!({
            "message_id": format!("m{number}"), "kind": "track", "name": "Order", "user_id": format!("u{number}"),
            "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z", "properties": properties
        }))
        .unwrap()
    }

    fn day(numbers: std::ops::Range<i64>) -> EventDay {
        let mut day = EventDay::default();
        for number in numbers {
            let total = number as f64 + 0.5;
            let note = if number % 10 == 0 {
                Value::Null
            } else {
                json!("x")
            };
            let properties = json!({ "total": total, "note": note, "paid": number % 2 == 0, "order": format!("o{number}") });
            day.add(&event(number, &properties));
        }
        day
    }

    #[test]
    fn a_day_counts_what_came() {
        let day = day(0..400);
        assert_eq!((day.count, day.with_user), (400, 400));
        let total = &day.properties["total"];
        let numbers = total.numbers.as_ref().unwrap();
        assert_eq!(
            (numbers.min, numbers.max, numbers.sum),
            (0.5, 399.5, 80_000.0)
        );
        assert!((numbers.quantile(0.5) - 200.0).abs() < 4.0);
        assert_eq!((total.present(), total.types), (400, [400, 0, 0, 0, 0]));
        let note = &day.properties["note"];
        assert_eq!((note.nulls, note.values["x"]), (40, 360));
        assert_eq!(day.properties["paid"].values["true"], 200);
        assert!(day.properties["order"].is_open_ended());
        // within the error of the sketch
        assert!((day.contents.count() - 400.0).abs() < 50.0);
    }

    #[test]
    fn what_is_told_twice_is_noticed() {
        let mut day = EventDay::default();
        for number in 0..50 {
            let first = json!({ "total": number, "place": "a" });
            day.add(&event(number, &first));
            day.add(&event(number, &json!({ "place": "a", "total": number })));
        }
        assert_eq!((day.count, day.contents.count()), (100, 50.0));
    }

    #[test]
    fn parts_of_a_day_make_the_day() {
        let mut merged = day(0..100);
        merged.merge(&day(100..400));
        let whole = day(0..400);
        assert_eq!(merged.contents, whole.contents);
        assert_eq!(merged.properties["total"], whole.properties["total"]);
        assert_eq!(merged.count, whole.count);
    }

    #[test]
    fn what_is_stored_is_read_and_ids_are_not_stored() {
        let before = day(0..400);
        let bytes = before.encode();
        let after = EventDay::decode(&bytes).unwrap();
        assert_eq!(after.properties["total"], before.properties["total"]);
        assert_eq!(after.contents, before.contents);
        let orders = &after.properties["order"];
        assert_eq!((orders.values.len(), orders.other_values), (0, 400));
        assert_eq!(after.encode(), bytes);
        for length in 0..bytes.len() {
            assert!(EventDay::decode(&bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut day = EventDay::default();
        let many: serde_json::Map<String, Value> = (0..PROPERTIES_MAX + 5)
            .map(|n| (format!("p{n}"), json!("x".repeat(n + 1))))
            .collect();
        day.add(&event(1, &Value::Object(many)));
        assert_eq!(
            (day.properties.len(), day.other_properties),
            (PROPERTIES_MAX, 5)
        );
    }
}
