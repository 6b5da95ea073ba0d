//! What an event's property counts as: one rule for numbers and one for categories, wherever they are read.

use std::sync::Arc;

use serde_json::Value as Json;
use tidemill_core::FeatureType;
use tidemill_core::event::{EventView, Field};

/// The longest category that is told apart, in bytes; longer texts are cut at a character's edge.
pub const CATEGORY_BYTES_MAX: usize = 128;

/// A value that an event brings to an accumulator.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Absent, null, or not of the kind that is asked for.
    Missing,
    /// A finite number.
    Number(f64),
    /// A text that is not empty, at most [`CATEGORY_BYTES_MAX`] bytes.
    Category(Arc<str>),
}

impl Value {
    /// The value of a field of an event.
    pub(crate) fn of(event: &impl EventView, field: &Field, kind: FeatureType) -> Self {
        if kind == FeatureType::Number
            && let Some(number) = event.plain_number(field)
        {
            return Self::Number(number);
        }
        event
            .field(field)
            .map_or(Self::Missing, |json| Self::read(&json, kind))
    }

    /// A JSON value as a number or as a category.
    pub fn read(json: &Json, kind: FeatureType) -> Self {
        match kind {
            FeatureType::Number => number(json).map_or(Self::Missing, Self::Number),
            FeatureType::Category => category(json).map_or(Self::Missing, |text| {
                Self::Category(Arc::from(text.as_ref()))
            }),
        }
    }
}

/// A JSON value as a finite number: numbers, `true`/`false` as 1 and 0, and texts that are a number as a whole
/// (`"12.50"`, as spreadsheets and form fields send them).
pub fn number(json: &Json) -> Option<f64> {
    let number = match json {
        Json::Number(number) => number.as_f64()?,
        Json::Bool(truth) => f64::from(u8::from(*truth)),
        Json::String(text) => text.trim().parse().ok()?,
        Json::Null | Json::Array(_) | Json::Object(_) => return None,
    };
    number.is_finite().then_some(number)
}

/// A JSON value as a category: texts that are not empty, `true`/`false`, and numbers as JSON writes them.
pub fn category(json: &Json) -> Option<std::borrow::Cow<'_, str>> {
    match json {
        Json::String(text) if text.is_empty() => None,
        Json::String(text) => Some(cut(text).into()),
        Json::Bool(truth) => Some(if *truth { "true" } else { "false" }.into()),
        Json::Number(number) => Some(number.to_string().into()),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

/// A JSON value as a truth: booleans, 0 and other numbers, and the texts `true` and `false`.
pub fn truth(json: &Json) -> Option<bool> {
    match json {
        Json::Bool(truth) => Some(*truth),
        Json::Number(number) => number.as_f64().map(|number| number != 0.0),
        Json::String(text) => text.parse().ok(),
        Json::Null | Json::Array(_) | Json::Object(_) => None,
    }
}

fn cut(text: &str) -> &str {
    if text.len() <= CATEGORY_BYTES_MAX {
        return text;
    }
    let end = (0..=CATEGORY_BYTES_MAX)
        .rev()
        .find(|&end| text.is_char_boundary(end))
        .unwrap_or(0);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_finite() {
        let check =
            |json: Json, expected: Option<f64>| assert_eq!(number(&json), expected, "{json}");
        check(json!(1), Some(1.0));
        check(json!(true), Some(1.0));
        check(json!(" 12.50 "), Some(12.5));
        check(json!("inf"), None);
        check(json!("NaN"), None);
        check(json!("1e999"), None);
        check(json!("12 EUR"), None);
        check(json!([1]), None);
    }

    #[test]
    fn categories_are_short_texts() {
        let check = |json: Json, expected: Option<&str>| {
            assert_eq!(category(&json).as_deref(), expected, "{json}");
        };
        check(json!("DE"), Some("DE"));
        check(json!(""), None);
        check(json!(17), Some("17"));
        check(json!(false), Some("false"));
        check(json!({}), None);
        let long = "ä".repeat(100);
        assert_eq!(
            category(&json!(long)).map(|text| text.len()),
            Some(CATEGORY_BYTES_MAX)
        );
    }
}
