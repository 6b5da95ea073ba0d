//! What came on a day: counts and sketches that can be merged, of each kind of event and each of its properties.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use serde_json::Value;
use tidemill_core::Event;
use tidemill_features::accumulate::{Distinct, Sketch};
use tidemill_features::codec::{DecodeError, Reader, Writer};

/// The most properties of one kind of event that are told apart on a day; the rest is counted together.
pub const PROPERTIES_MAX: usize = 60;
/// The most different values of one property that are told apart on a day; the rest is counted together.
pub const VALUES_MAX: usize = 100;
/// The longest value that is told apart, in bytes.
pub const VALUE_BYTES_MAX: usize = 64;

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

/// The types of JSON values other than null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// A number.
    Number,
    /// A text.
    Text,
    /// True or false.
    Truth,
    /// A list.
    List,
    /// An object.
    Object,
}

impl ValueType {
    /// All of them, in the order in which they are counted.
    pub const ALL: [Self; 5] = [
        Self::Number,
        Self::Text,
        Self::Truth,
        Self::List,
        Self::Object,
    ];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Number => "number",
            Self::Text => "text",
            Self::Truth => "true or false",
            Self::List => "list",
            Self::Object => "object",
        }
    }
}

/// One property of one kind of event on one day.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PropertyDay {
    /// How often it was there and null.
    pub nulls: u64,
    /// How often it was of each type, in the order of [`ValueType::ALL`].
    pub types: [u64; 5],
    /// Its numbers.
    pub numbers: Option<Numbers>,
    /// Texts and truths and how often each came; at most [`VALUES_MAX`].
    pub values: BTreeMap<String, u64>,
    /// Texts that are longer than [`VALUE_BYTES_MAX`] or came after [`VALUES_MAX`] others.
    pub other_values: u64,
}

/// The finite numbers of a property on a day.
#[derive(Debug, Clone, PartialEq)]
pub struct Numbers {
    /// Their sum.
    pub sum: f64,
    /// The smallest.
    pub min: f64,
    /// The largest.
    pub max: f64,
    /// Where they lie.
    pub sketch: Sketch,
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
        for (name, property) in &other.properties {
            if self.properties.len() >= PROPERTIES_MAX && !self.properties.contains_key(name) {
                self.other_properties += property.present() + property.nulls;
                continue;
            }
            match self.properties.entry(name.clone()) {
                Entry::Occupied(mut known) => known.get_mut().merge(property),
                Entry::Vacant(place) => {
                    place.insert(property.clone());
                }
            }
        }
    }

    /// The bytes that are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(256);
        writer.byte(FORMAT);
        writer.unsigned(self.count);
        writer.unsigned(self.with_user);
        self.contents.encode(&mut writer);
        writer.unsigned(self.properties.len() as u64);
        for (name, property) in &self.properties {
            writer.text(name);
            property.encode(&mut writer);
        }
        writer.unsigned(self.other_properties);
        writer.finish()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it did not, or in a newer form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(DecodeError(
                "it was written by a newer version: upgrade tidemill",
            ));
        }
        let mut day = Self {
            count: reader.amount()?,
            with_user: reader.amount()?,
            contents: Distinct::decode(&mut reader)?,
            ..Self::default()
        };
        for _ in 0..reader.count()? {
            let name = reader.text()?.to_string();
            day.properties
                .insert(name, PropertyDay::decode(&mut reader)?);
        }
        day.other_properties = reader.amount()?;
        reader.end()?;
        Ok(day)
    }
}

impl PropertyDay {
    /// How often it was there and not null.
    pub fn present(&self) -> u64 {
        self.types.iter().sum()
    }

    fn add(&mut self, value: &Value) {
        let value_type = match value {
            Value::Null => {
                self.nulls += 1;
                return;
            }
            Value::Bool(truth) => {
                self.keep(if *truth { "true" } else { "false" });
                ValueType::Truth
            }
            Value::Number(number) => {
                if let Some(number) = number.as_f64().filter(|number| number.is_finite()) {
                    match &mut self.numbers {
                        Some(numbers) => numbers.add(number),
                        none => *none = Some(Numbers::of(number)),
                    }
                }
                ValueType::Number
            }
            Value::String(text) => {
                self.keep(text);
                ValueType::Text
            }
            Value::Array(_) => ValueType::List,
            Value::Object(_) => ValueType::Object,
        };
        self.types[value_type as usize] += 1;
    }

    fn keep(&mut self, text: &str) {
        if let Some(count) = self.values.get_mut(text) {
            *count += 1;
        } else if self.values.len() >= VALUES_MAX || text.len() > VALUE_BYTES_MAX {
            self.other_values += 1;
        } else {
            self.values.insert(text.to_owned(), 1);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.nulls += other.nulls;
        for (count, more) in self.types.iter_mut().zip(other.types) {
            *count += more;
        }
        match (&mut self.numbers, &other.numbers) {
            (_, None) => {}
            (Some(numbers), Some(others)) => numbers.merge(others),
            (none, Some(others)) => *none = Some(others.clone()),
        }
        self.other_values += other.other_values;
        for (text, count) in &other.values {
            if let Some(known) = self.values.get_mut(text) {
                *known += count;
            } else if self.values.len() >= VALUES_MAX {
                self.other_values += count;
            } else {
                self.values.insert(text.clone(), *count);
            }
        }
    }

    /// Whether what is kept of its values says nothing: more than half of them are not told apart, as with ids.
    pub(super) fn is_open_ended(&self) -> bool {
        self.other_values > self.values.values().sum()
    }

    fn encode(&self, writer: &mut Writer) {
        writer.unsigned(self.nulls);
        self.types.iter().for_each(|count| writer.unsigned(*count));
        writer.byte(u8::from(self.numbers.is_some()));
        if let Some(numbers) = &self.numbers {
            for number in [numbers.sum, numbers.min, numbers.max] {
                writer.float(number);
            }
            numbers.sketch.encode(writer);
        }
        // ids are nobody's business, and there are many
        let is_open_ended = self.is_open_ended();
        let values = self.values.iter().filter(|_| !is_open_ended);
        writer.unsigned(if is_open_ended {
            0
        } else {
            self.values.len() as u64
        });
        for (text, count) in values {
            writer.text(text);
            writer.unsigned(*count);
        }
        let dropped: u64 = match is_open_ended {
            true => self.values.values().sum(),
            false => 0,
        };
        writer.unsigned(self.other_values + dropped);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut property = Self {
            nulls: reader.amount()?,
            ..Self::default()
        };
        for count in &mut property.types {
            *count = reader.amount()?;
        }
        if reader.byte()? != 0 {
            property.numbers = Some(Numbers {
                sum: reader.float()?,
                min: reader.float()?,
                max: reader.float()?,
                sketch: Sketch::decode(reader)?,
            });
        }
        for _ in 0..reader.count()? {
            let text = reader.text()?.to_string();
            property.values.insert(text, reader.amount()?);
        }
        property.other_values = reader.amount()?;
        Ok(property)
    }
}

impl Numbers {
    fn of(number: f64) -> Self {
        Self {
            sum: number,
            min: number,
            max: number,
            sketch: Sketch::of(number),
        }
    }

    fn add(&mut self, number: f64) {
        self.sum = finite(self.sum + number);
        self.min = self.min.min(number);
        self.max = self.max.max(number);
        self.sketch.add(number);
    }

    fn merge(&mut self, other: &Self) {
        self.sum = finite(self.sum + other.sum);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sketch.merge(&other.sketch);
    }

    /// The number below which a share `q` lies, from 0 to 1; within 1 % of one that came while the numbers do not range over more
    /// than four powers of two.
    pub fn quantile(&self, q: f64) -> f64 {
        let weighted = self.sketch.weighted();
        let total: u64 = weighted.iter().map(|(_, count)| count).sum();
        let rank = q * total as f64;
        let mut before = 0u64;
        for (number, count) in &weighted {
            before += count;
            if before as f64 >= rank {
                return number.clamp(self.min, self.max);
            }
        }
        self.max
    }
}

/// A sum stays a number that can be stored.
fn finite(sum: f64) -> f64 {
    sum.clamp(f64::MIN, f64::MAX)
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
