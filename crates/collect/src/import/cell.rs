//! Values of files: what a column's values are, and what a declared property makes of them.

use serde_json::{Number, Value};
use tidemill_core::project::{PropertyRule, PropertyType};

use super::table::CellType;
use crate::moment;

/// The most digits of a whole number that a float holds exactly; longer ones are ids and stay texts.
const DIGITS_MAX: usize = 15;
/// The largest float below which every whole number is exact: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Finds out what the texts of a column are. A column is of a type only if all of its values are: one `85123A` among stock
/// codes makes all of them texts. Empty cells say nothing.
#[derive(Debug, Clone)]
pub(super) struct Inference {
    seen: bool,
    number: bool,
    point_zero: bool,
    bool: bool,
}

impl Default for Inference {
    fn default() -> Self {
        Self {
            seen: false,
            number: true,
            point_zero: true,
            bool: true,
        }
    }
}

impl Inference {
    pub(super) fn see(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.seen = true;
        self.number = self.number && is_number(text);
        self.point_zero = self.point_zero && self.number && text.ends_with(".0");
        self.bool = self.bool && parse_bool(text).is_some();
    }

    pub(super) fn cell_type(&self) -> CellType {
        match self {
            Self { seen: false, .. } => CellType::Text,
            Self {
                point_zero: true, ..
            } => CellType::PointZero,
            Self { number: true, .. } => CellType::Number,
            Self { bool: true, .. } => CellType::Bool,
            _ => CellType::Text,
        }
    }
}

/// Whether a text is a number and nothing is lost by reading it as one: `00123`, `+49`, `inf` and numbers of more
/// than 15 digits are not.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let mut bytes = digits.bytes();
    let leading_zero =
        bytes.next() == Some(b'0') && bytes.next().is_some_and(|second| second.is_ascii_digit());
    let plain = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits
            .bytes()
            .all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let too_long = digits.len() > DIGITS_MAX && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain && !leading_zero && !too_long && text.parse::<f64>().is_ok_and(f64::is_finite)
}

fn parse_bool(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

fn parse_number(text: &str) -> Option<Value> {
    let text = text.trim();
    match text.parse::<i64>() {
        Ok(whole) => Some(whole.into()),
        Err(_) => text
            .parse()
            .ok()
            .and_then(Number::from_f64)
            .map(Value::Number),
    }
}

/// The value of a text in a column of that type; a blank text is an absent value.
pub(super) fn of_text(text: &str, cell_type: CellType) -> Value {
    let trimmed = text.trim();
    let typed = match cell_type {
        _ if trimmed.is_empty() => Some(Value::Null),
        CellType::Number | CellType::PointZero => parse_number(trimmed),
        CellType::Bool => parse_bool(trimmed).map(Value::Bool),
        CellType::Text | CellType::Typed | CellType::Unsupported => None,
    };
    typed.unwrap_or_else(|| Value::String(text.to_owned()))
}

/// An id as text: whole floats lose their point. `None` where absent or blank, an error where it is no id.
pub(super) fn id(value: Value) -> Result<Option<String>, Value> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.trim().is_empty() => Ok(None),
        Value::String(text) => Ok(Some(text)),
        Value::Number(number) => Ok(Some(number_text(&number))),
        other => Err(other),
    }
}

fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < WHOLE_MAX => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}

/// Brings a value into the type that a property is declared to have, where it plainly is one; otherwise leaves it for the check of
/// the declaration to report.
pub(super) fn as_declared(value: Value, rule: &PropertyRule) -> Value {
    match (rule.property_type, value) {
        (PropertyType::String | PropertyType::Text, value) => as_text(value),
        (PropertyType::Float, Value::String(text)) => {
            parse_number(&text).unwrap_or(Value::String(text))
        }
        (PropertyType::Int, Value::String(text)) => match parse_number(&text) {
            Some(number) => as_whole(number),
            None => Value::String(text),
        },
        (PropertyType::Int, value) => as_whole(value),
        (PropertyType::Bool, Value::String(text)) => match text.as_str() {
            "1" => Value::Bool(true),
            "0" => Value::Bool(false),
            other => parse_bool(other).map_or(Value::String(text), Value::Bool),
        },
        (PropertyType::Bool, Value::Number(number)) => match number.as_f64() {
            Some(1.0) => Value::Bool(true),
            Some(0.0) => Value::Bool(false),
            _ => Value::Number(number),
        },
        (PropertyType::Timestamp, Value::String(text)) => match moment::from_text(&text) {
            Ok(time) => Value::String(time.to_string()),
            Err(_) => Value::String(text),
        },
        (PropertyType::Timestamp, Value::Number(number)) => {
            match number.as_f64().and_then(moment::from_number) {
                Some(time) => Value::String(time.to_string()),
                None => Value::Number(number),
            }
        }
        (_, value) => value,
    }
}

/// A number or truth value as text.
pub(super) fn as_text(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number_text(&number)),
        Value::Bool(bool) => Value::String(bool.to_string()),
        other => other,
    }
}

fn as_whole(value: Value) -> Value {
    match value.as_f64() {
        // exact: a whole float below 2^53
        Some(float) if value.is_f64() && float.fract() == 0.0 && float.abs() < WHOLE_MAX => {
            (float as i64).into()
        }
        _ => value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_column_is_what_all_of_its_values_are() {
        let check = |texts: &[&str], expected: CellType| {
            let mut inference = Inference::default();
            texts.iter().for_each(|text| inference.see(text));
            assert_eq!(inference.cell_type(), expected, "{texts:?}");
        };
        check(
            &["1", "-2.5", "", "1e3", "0", "0.5", ".5"],
            CellType::Number,
        );
        check(&["22423", "85123A"], CellType::Text);
        check(&["00123", "1"], CellType::Text);
        check(&["+49"], CellType::Text);
        check(&["nan"], CellType::Text);
        check(&["inf"], CellType::Text);
        check(&["1234567890123456"], CellType::Text);
        check(&["17850.0", "", "3.0"], CellType::PointZero);
        check(&["17850.0", "3"], CellType::Number);
        check(&["True", "false"], CellType::Bool);
        check(&["true", "1"], CellType::Text);
        check(&["", ""], CellType::Text);
    }

    #[test]
    fn declared_types_guide_values() {
        let check = |value: Value, rule: &str, expected: Value| {
            assert_eq!(
                as_declared(value.clone(), &rule.parse().unwrap()),
                expected,
                "{value} {rule}"
            );
        };
        check(json!(17850.0), "string", json!("17850"));
        check(json!(1.5), "string", json!("1.5"));
        check(json!("12"), "float", json!(12));
        check(json!("x"), "float", json!("x"));
        check(json!(3.0), "int", json!(3));
        check(json!("3.0"), "int", json!(3));
        check(json!(3.5), "int", json!(3.5));
        check(json!("1"), "bool", json!(true));
        check(json!(0), "bool", json!(false));
        check(json!("False"), "bool", json!(false));
        check(
            json!(1_323_435_000),
            "timestamp",
            json!("2011-12-09T12:50:00.000000Z"),
        );
        check(
            json!("2011-12-09 12:50"),
            "timestamp",
            json!("2011-12-09T12:50:00.000000Z"),
        );
        check(json!(null), "float", json!(null));
    }
}
