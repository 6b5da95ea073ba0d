//! The types of declared properties: `string`, `float? >= 0`, `'free' | 'pro'`.

use std::fmt;
use std::str::FromStr;

use serde_json::Value;

use crate::feature::FeatureType;
use crate::time::Timestamp;

/// The type of a property.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyType {
    /// A short text out of many, like an id.
    String,
    /// A long text that people read.
    Text,
    /// A 64-bit float.
    Float,
    /// A whole number.
    Int,
    /// True or false.
    Bool,
    /// An instant as RFC 3339.
    Timestamp,
}

impl PropertyType {
    const ALL: [(&'static str, PropertyType); 6] = [
        ("string", Self::String),
        ("text", Self::Text),
        ("float", Self::Float),
        ("int", Self::Int),
        ("bool", Self::Bool),
        ("timestamp", Self::Timestamp),
    ];

    /// The name that the project file uses.
    pub fn as_str(self) -> &'static str {
        Self::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .map_or("string", |(name, _)| name)
    }

    /// What kind of feature its values make.
    pub fn feature_type(self) -> FeatureType {
        match self {
            Self::Float | Self::Int => FeatureType::Number,
            Self::String | Self::Text | Self::Bool | Self::Timestamp => FeatureType::Category,
        }
    }

    fn accepts(self, value: &Value) -> bool {
        match self {
            Self::String | Self::Text => value.is_string(),
            Self::Float => value.is_number(),
            Self::Int => value.is_i64() || value.is_u64(),
            Self::Bool => value.is_boolean(),
            Self::Timestamp => value
                .as_str()
                .is_some_and(|text| text.parse::<Timestamp>().is_ok()),
        }
    }
}

/// What a declared property may be.
#[derive(Debug, Clone, PartialEq)]
pub struct PropertyRule {
    /// Its type.
    pub property_type: PropertyType,
    /// Whether it may be absent or null.
    pub optional: bool,
    /// The smallest number allowed.
    pub min: Option<f64>,
    /// The largest number allowed.
    pub max: Option<f64>,
    /// The only texts allowed; empty means any.
    pub one_of: Vec<String>,
}

/// How a value breaks its rule, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaViolation(pub String);

impl PropertyRule {
    /// Whether a value (`Null` for an absent one) is as declared.
    ///
    /// # Errors
    /// Says what was expected and what was found.
    pub fn check(&self, value: &Value) -> Result<(), SchemaViolation> {
        if value.is_null() {
            return if self.optional {
                Ok(())
            } else {
                Err(SchemaViolation(format!("expected {self}, it is absent")))
            };
        }
        let fail = || {
            let found: String = value.to_string().chars().take(60).collect();
            Err(SchemaViolation(format!("expected {self}, found {found}")))
        };
        if !self.property_type.accepts(value) {
            return fail();
        }
        if let Some(number) = value.as_f64() {
            let below = self.min.is_some_and(|min| number < min);
            let above = self.max.is_some_and(|max| number > max);
            if below || above {
                return fail();
            }
        }
        if let Some(text) = value.as_str()
            && !self.one_of.is_empty()
            && !self.one_of.iter().any(|allowed| allowed == text)
        {
            return fail();
        }
        Ok(())
    }
}

impl fmt::Display for PropertyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.one_of.is_empty() {
            f.write_str(self.property_type.as_str())?;
        } else {
            let quoted: Vec<String> = self.one_of.iter().map(|text| format!("'{text}'")).collect();
            f.write_str(&quoted.join(" | "))?;
        }
        if self.optional {
            f.write_str("?")?;
        }
        if let Some(min) = self.min {
            write!(f, " >= {min}")?;
        }
        if let Some(max) = self.max {
            write!(f, " <= {max}")?;
        }
        Ok(())
    }
}

impl FromStr for PropertyRule {
    type Err = String;

    /// Reads `type`, `type?`, either followed by `>= n` and/or `<= n`, or `'a' | 'b'`.
    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.starts_with('\'') {
            return one_of(text);
        }
        let end = text
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(text.len());
        let (name, mut rest) = text.split_at(end);
        let property_type = PropertyType::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, kind)| *kind)
            .ok_or_else(|| format!("'{name}' is not a type: use string, text, float, int, bool, timestamp or 'a' | 'b'"))?;
        let optional = rest.starts_with('?');
        if optional {
            rest = &rest[1..];
        }
        let mut rule = Self {
            property_type,
            optional,
            min: None,
            max: None,
            one_of: Vec::new(),
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        for pair in words.chunks(2) {
            let [comparison, number] = pair else {
                return Err(format!("a number is missing after '{}'", pair.join(" ")));
            };
            let number: f64 = number
                .parse()
                .map_err(|_| format!("'{number}' is not a number"))?;
            match *comparison {
                ">=" => rule.min = Some(number),
                "<=" => rule.max = Some(number),
                other => {
                    return Err(format!(
                        "'{other}' is not understood: a bound is '>= n' or '<= n'"
                    ));
                }
            }
        }
        let bounded = rule.min.is_some() || rule.max.is_some();
        if bounded && property_type.feature_type() != FeatureType::Number {
            return Err(format!("only float and int have bounds, not {name}"));
        }
        Ok(rule)
    }
}

fn one_of(text: &str) -> Result<PropertyRule, String> {
    let (text, optional) = match text.strip_suffix('?') {
        Some(text) => (text, true),
        None => (text, false),
    };
    let one_of = text
        .split('|')
        .map(|word| {
            let word = word.trim();
            word.strip_prefix('\'')
                .and_then(|word| word.strip_suffix('\''))
                .filter(|word| !word.contains('\''))
                .map(str::to_owned)
                .ok_or_else(|| format!("{word} is not a quoted text: write 'free' | 'pro'"))
        })
        .collect::<Result<Vec<_>, _>>()?;
    Ok(PropertyRule {
        property_type: PropertyType::String,
        optional,
        min: None,
        max: None,
        one_of,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rules_are_read_and_written() {
        for text in [
            "string",
            "float? >= 0",
            "int >= 1 <= 5",
            "'free' | 'pro'",
            "'a'?",
            "timestamp?",
        ] {
            assert_eq!(text.parse::<PropertyRule>().unwrap().to_string(), text);
        }
        for text in [
            "strin",
            "float >",
            "string >= 1",
            "'a' | b",
            "float > 3",
            "",
        ] {
            assert!(text.parse::<PropertyRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_are_checked() {
        let check = |rule: &str, value: Value, good: bool| {
            let result = rule.parse::<PropertyRule>().unwrap().check(&value);
            assert_eq!(result.is_ok(), good, "{rule} {value}: {result:?}");
        };
        check("string", json!("x"), true);
        check("string", json!(1), false);
        check("string", json!(null), false);
        check("string?", json!(null), true);
        check("float >= 0", json!(-0.5), false);
        check("int", json!(1.5), false);
        check("'free' | 'pro'", json!("pro"), true);
        check("'free' | 'pro'", json!("gold"), false);
        check("timestamp", json!("2011-12-09T12:50:00Z"), true);
        check("timestamp", json!("yesterday"), false);
    }
}
