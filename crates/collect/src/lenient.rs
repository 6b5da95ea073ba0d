//! JSON values as sloppy senders write them: ids as numbers, nulls for absent fields, lists where an object belongs.
//!
//! Reading one of these never fails because of its type, so that the problem can be reported by the name of the
//! field; only bytes that are not JSON fail.

use std::borrow::Cow;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use tidemill_core::Timestamp;

use crate::moment;
use crate::rejection::Rejection;

/// A field that should hold a text or a number.
#[derive(Debug, Default)]
pub(crate) enum Scalar<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    Integer(i128),
    Float(f64),
    /// Something else, in words.
    Other(&'static str),
}

impl Scalar<'_> {
    /// The text, or the digits of a whole number (the ids of sloppy senders); `None` where absent, null or blank.
    pub(crate) fn text(self, field: &str) -> Result<Option<String>, Rejection> {
        match self {
            Self::Absent => Ok(None),
            Self::Text(text) if text.trim().is_empty() => Ok(None),
            Self::Text(text) => Ok(Some(text.into_owned())),
            Self::Integer(number) => Ok(Some(number.to_string())),
            Self::Float(_) => Err(Rejection::invalid(format!(
                "{field} is a decimal number: write it as a text"
            ))),
            Self::Other(what) => Err(Rejection::invalid(format!(
                "{field} is {what}: write it as a text"
            ))),
        }
    }

    /// The instant; `None` where absent, null or blank.
    pub(crate) fn moment(&self, field: &str) -> Result<Option<Timestamp>, Rejection> {
        let (time, written) = match self {
            Self::Absent => return Ok(None),
            Self::Text(text) if text.trim().is_empty() => return Ok(None),
            Self::Text(text) => (
                moment::from_text(text).ok(),
                text.chars().take(64).collect(),
            ),
            Self::Integer(number) => (moment::from_number(*number as f64), number.to_string()),
            Self::Float(number) => (moment::from_number(*number), number.to_string()),
            Self::Other(what) => (None, (*what).to_owned()),
        };
        match time {
            Some(time) => Ok(Some(time)),
            None => Err(Rejection::time(format!(
                "{field} '{written}' is not a time: write it like 2011-12-09T12:50:00Z"
            ))),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor(std::marker::PhantomData))
    }
}

struct ScalarVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ScalarVisitor<'a> {
    type Value = Scalar<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(number.into()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Integer(number.into()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Float(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Other("a boolean"))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Scalar::Other("an object"))
    }
}

/// A field that should hold an object.
#[derive(Debug, Default)]
pub(crate) enum Object {
    #[default]
    Absent,
    Map(Map<String, Value>),
    /// Something else, in words.
    Other(&'static str),
}

impl Object {
    /// The object; empty where absent or null. An empty list counts as an empty object: that is how PHP writes one.
    pub(crate) fn map(self, field: &str) -> Result<Map<String, Value>, Rejection> {
        match self {
            Self::Absent => Ok(Map::new()),
            Self::Map(map) => Ok(map),
            Self::Other(what) => Err(Rejection::invalid(format!(
                "{field} is {what}: write an object, like {{}}"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_str<E>(self, _: &str) -> Result<Object, E> {
        Ok(Object::Other("a text"))
    }

    fn visit_u64<E>(self, _: u64) -> Result<Object, E> {
        Ok(Object::Other("a number"))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Object, E> {
        Ok(Object::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Object, E> {
        Ok(Object::Other("a number"))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Object, E> {
        Ok(Object::Other("a boolean"))
    }

    fn visit_unit<E>(self) -> Result<Object, E> {
        Ok(Object::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Object, A::Error> {
        let mut empty = true;
        while seq.next_element::<IgnoredAny>()?.is_some() {
            empty = false;
        }
        Ok(if empty {
            Object::Absent
        } else {
            Object::Other("a list")
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object, A::Error> {
        Map::deserialize(MapAccessDeserializer::new(map)).map(Object::Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_or_whole_numbers() {
        let check = |json: &str, expected: Result<Option<&str>, &str>| {
            let scalar: Scalar = serde_json::from_str(json).unwrap();
            let text = scalar.text("userId").map_err(|rejection| rejection.detail);
            assert_eq!(
                text,
                expected
                    .map(|text| text.map(str::to_owned))
                    .map_err(str::to_owned),
                "{json}"
            );
        };
        check(r#""u1""#, Ok(Some("u1")));
        check(r#""\u00fc1""#, Ok(Some("ü1")));
        check("17850", Ok(Some("17850")));
        check("18446744073709551615", Ok(Some("18446744073709551615")));
        check("-3", Ok(Some("-3")));
        check(r#"" ""#, Ok(None));
        check("null", Ok(None));
        check("1.5", Err("userId is a decimal number: write it as a text"));
        check("true", Err("userId is a boolean: write it as a text"));
        check("[1,[2]]", Err("userId is a list: write it as a text"));
        check(r#"{"a":1}"#, Err("userId is an object: write it as a text"));
    }

    #[test]
    fn an_empty_list_is_how_php_writes_an_empty_object() {
        let check = |json: &str, good: bool| {
            let object: Object = serde_json::from_str(json).unwrap();
            assert_eq!(object.map("properties").is_ok(), good, "{json}");
        };
        check("[]", true);
        check("{}", true);
        check("null", true);
        check("[1]", false);
        check("3", false);
        check("-3", false);
        check("1.5", false);
        check("true", false);
        check(r#""x""#, false);
    }
}
