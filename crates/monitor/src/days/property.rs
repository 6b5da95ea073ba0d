//! The values of one thing on one day: of a property of events, of a feature as it was served, of what was answered.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_features::accumulate::Sketch;
use tidemill_features::codec::{DecodeError, Reader, Writer};

/// The most different values of one property that are told apart on a day; the rest is counted together.
pub const VALUES_MAX: usize = 100;
/// The longest value that is told apart, in bytes.
pub const VALUE_BYTES_MAX: usize = 64;

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

/// The values of one property of events, of one feature or of what was answered, on one day.
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

impl PropertyDay {
    /// How often it came: null or not.
    pub fn count(&self) -> u64 {
        self.nulls + self.present()
    }

    /// How often it was there and not null.
    pub fn present(&self) -> u64 {
        self.types.iter().sum()
    }

    /// Takes a value of an event.
    pub(crate) fn add(&mut self, value: &Value) {
        let value_type = match value {
            Value::Null => return self.add_null(),
            Value::Bool(truth) => {
                self.keep(if *truth { "true" } else { "false" });
                ValueType::Truth
            }
            Value::Number(number) => return self.add_number(number.as_f64().unwrap_or(f64::NAN)),
            Value::String(text) => return self.add_text(text),
            Value::Array(_) => ValueType::List,
            Value::Object(_) => ValueType::Object,
        };
        self.types[value_type as usize] += 1;
    }

    /// Takes that there is no value.
    pub(crate) fn add_null(&mut self) {
        self.nulls += 1;
    }

    /// Takes a number; one that is not finite is only counted.
    pub(crate) fn add_number(&mut self, number: f64) {
        if number.is_finite() {
            match &mut self.numbers {
                Some(numbers) => numbers.add(number),
                none => *none = Some(Numbers::of(number)),
            }
        }
        self.types[ValueType::Number as usize] += 1;
    }

    /// Takes a text.
    pub(crate) fn add_text(&mut self, text: &str) {
        self.keep(text);
        self.types[ValueType::Text as usize] += 1;
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

    /// Adds the values of another day, or of another part of it.
    pub fn merge(&mut self, other: &Self) {
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
    pub(crate) fn is_open_ended(&self) -> bool {
        self.other_values > self.values.values().sum()
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
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

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
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

/// Adds the properties of another day; returns how many values came of those that were not taken because there are `most` others.
pub(crate) fn merge_properties(
    into: &mut BTreeMap<String, PropertyDay>,
    others: &BTreeMap<String, PropertyDay>,
    most: usize,
) -> u64 {
    let mut left_out = 0;
    for (name, property) in others {
        if let Some(known) = into.get_mut(name) {
            known.merge(property);
        } else if into.len() >= most {
            left_out += property.count();
        } else {
            into.insert(name.clone(), property.clone());
        }
    }
    left_out
}

/// Appends the bytes of properties with their names.
pub(crate) fn encode_properties(properties: &BTreeMap<String, PropertyDay>, writer: &mut Writer) {
    writer.unsigned(properties.len() as u64);
    for (name, property) in properties {
        writer.text(name);
        property.encode(writer);
    }
}

/// Reads what [`encode_properties`] wrote.
///
/// # Errors
/// When it did not.
pub(crate) fn decode_properties(
    reader: &mut Reader<'_>,
) -> Result<BTreeMap<String, PropertyDay>, DecodeError> {
    let mut properties = BTreeMap::new();
    for _ in 0..reader.count()? {
        let name = reader.text()?.to_string();
        properties.insert(name, PropertyDay::decode(reader)?);
    }
    Ok(properties)
}
