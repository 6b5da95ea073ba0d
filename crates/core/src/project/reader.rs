//! Reads a parsed TOML table key by key, collecting every problem with its line instead of stopping at the first.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, did_you_mean};
use super::{Located, ProjectLimits};
use crate::time::Span;

/// The text, for turning places into lines, and the problems found so far.
pub(super) struct Source<'t> {
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Source<'t> {
    pub(super) fn new(text: &'t str) -> Self {
        Self {
            text,
            problems: RefCell::default(),
        }
    }

    /// The line of a byte of the text, counting from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.iter().filter(|&&byte| byte == b'\n').count() + 1
    }

    pub(super) fn problem(
        &self,
        line: usize,
        place: &str,
        message: impl Display,
        hint: Option<String>,
    ) {
        self.problems.borrow_mut().push(Problem {
            line,
            place: place.to_owned(),
            message: message.to_string(),
            hint,
        });
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }
}

/// A value with its place.
#[derive(Clone)]
pub(super) struct Entry<'s, 't> {
    source: &'s Source<'t>,
    pub(super) place: String,
    pub(super) line: usize,
    value: &'s DeValue<'t>,
}

/// A table that is read key by key; what has not been read when it ends is an unknown key.
pub(super) struct Table<'s, 't> {
    source: &'s Source<'t>,
    pub(super) place: String,
    pub(super) line: usize,
    table: &'s DeTable<'t>,
    known: Vec<&'static str>,
}

impl<'s, 't> Table<'s, 't> {
    pub(super) fn root(source: &'s Source<'t>, table: &'s Spanned<DeTable<'t>>) -> Self {
        Self {
            source,
            place: String::new(),
            line: 1,
            table: table.get_ref(),
            known: Vec::new(),
        }
    }

    pub(super) fn problem(&self, message: impl Display, hint: Option<String>) {
        self.source.problem(self.line, &self.place, message, hint);
    }

    /// The value of a key that may be absent.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Entry<'s, 't>> {
        self.known.push(key);
        self.table
            .iter()
            .find(|(name, _)| name.get_ref().as_ref() == key)
            .map(|(name, value)| self.entry(name, value))
    }

    /// The value of a key that must be there.
    pub(super) fn require(&mut self, key: &'static str, example: &str) -> Option<Entry<'s, 't>> {
        let entry = self.get(key);
        if entry.is_none() {
            self.problem(
                format!("'{key}' is missing"),
                Some(format!("for example {key} = {example}")),
            );
        }
        entry
    }

    /// All keys with their values, for tables whose keys are names.
    pub(super) fn entries(&self) -> Vec<(String, Entry<'s, 't>)> {
        self.table
            .iter()
            .map(|(name, value)| (name.get_ref().to_string(), self.entry(name, value)))
            .collect()
    }

    /// Reports every key that was not asked for.
    pub(super) fn finish(self) {
        for (name, _) in self.table.iter() {
            let word = name.get_ref().as_ref();
            if self.known.contains(&word) {
                continue;
            }
            let hint = did_you_mean(word, self.known.iter().copied())
                .or_else(|| Some(format!("known here: {}", self.known.join(", "))));
            let line = self.source.line(&name.span());
            self.source
                .problem(line, &self.place, format!("unknown key '{word}'"), hint);
        }
    }

    fn entry(
        &self,
        name: &Spanned<toml::de::DeString<'t>>,
        value: &'s Spanned<DeValue<'t>>,
    ) -> Entry<'s, 't> {
        let key = name.get_ref();
        let place = if self.place.is_empty() {
            key.to_string()
        } else {
            format!("{}.{key}", self.place)
        };
        // the place of a table is that of its name: `[models.x]` spans its whole body otherwise
        let line = self.source.line(&name.span());
        Entry {
            source: self.source,
            place,
            line,
            value: value.get_ref(),
        }
    }
}

impl<'s, 't> Entry<'s, 't> {
    pub(super) fn problem(&self, message: impl Display, hint: Option<String>) {
        self.source.problem(self.line, &self.place, message, hint);
    }

    fn wrong_type(&self, expected: &str) {
        self.problem(
            format!("expected {expected}, found {}", self.value.type_str()),
            None,
        );
    }

    pub(super) fn is_array(&self) -> bool {
        self.value.is_array()
    }

    pub(super) fn is_table(&self) -> bool {
        matches!(self.value, DeValue::Table(_))
    }

    pub(super) fn table(&self) -> Option<Table<'s, 't>> {
        let DeValue::Table(table) = self.value else {
            self.wrong_type("a table");
            return None;
        };
        Some(Table {
            source: self.source,
            place: self.place.clone(),
            line: self.line,
            table,
            known: Vec::new(),
        })
    }

    /// The elements of an array, each with its own line.
    pub(super) fn array(&self) -> Option<Vec<Entry<'s, 't>>> {
        let Some(array) = self.value.as_array() else {
            self.wrong_type("a list");
            return None;
        };
        let entries = array.iter().map(|value| Entry {
            source: self.source,
            place: self.place.clone(),
            line: self.source.line(&value.span()),
            value: value.get_ref(),
        });
        Some(entries.collect())
    }

    pub(super) fn string(&self) -> Option<String> {
        match self.value.as_str() {
            Some(text) => Some(text.to_owned()),
            None => {
                self.wrong_type("a text in quotes");
                None
            }
        }
    }

    /// A text that is compiled later.
    pub(super) fn located(&self) -> Option<Located> {
        self.string().map(|text| Located {
            text,
            line: self.line,
        })
    }

    /// A list of texts with their lines.
    pub(super) fn located_list(&self) -> Vec<Located> {
        let entries = self.array().unwrap_or_default();
        entries.iter().filter_map(Entry::located).collect()
    }

    /// A text that reads as `T`.
    pub(super) fn parsed<T: FromStr<Err: Display>>(&self) -> Option<T> {
        match self.string()?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.problem(error, None);
                None
            }
        }
    }

    /// A length of time within the limits.
    pub(super) fn span(&self) -> Option<Span> {
        let span: Span = self.parsed()?;
        if span < ProjectLimits::SPAN_MIN || span > ProjectLimits::SPAN_MAX {
            let (min, max) = (ProjectLimits::SPAN_MIN, ProjectLimits::SPAN_MAX);
            self.problem(
                format!("'{span}' is out of range: from {min} to {max}"),
                None,
            );
            return None;
        }
        Some(span)
    }

    /// `true` or `false`.
    pub(super) fn truth(&self) -> Option<bool> {
        if let DeValue::Boolean(truth) = self.value {
            return Some(*truth);
        }
        self.wrong_type("true or false");
        None
    }

    pub(super) fn number(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().replace('_', "").parse().ok(),
            DeValue::Integer(_) => self.integer().map(|integer| integer as f64),
            _ => None,
        };
        if number.is_none_or(|number: f64| !number.is_finite()) {
            self.wrong_type("a number");
            return None;
        }
        number
    }

    /// A share: above 0 and at most 1.
    pub(super) fn share(&self) -> Option<f64> {
        let share = self.number()?;
        if share <= 0.0 || share > 1.0 {
            let hint = Some("write a share like 0.1".to_owned());
            self.problem(format!("{share} is not above 0 and at most 1"), hint);
            return None;
        }
        Some(share)
    }

    pub(super) fn integer(&self) -> Option<i64> {
        let integer = match self.value {
            DeValue::Integer(integer) => {
                i64::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok()
            }
            _ => None,
        };
        if integer.is_none() {
            self.wrong_type("a whole number");
        }
        integer
    }

    /// A whole number from `min` to `max`.
    pub(super) fn integer_within(&self, min: i64, max: i64) -> Option<i64> {
        let integer = self.integer()?;
        if integer < min || integer > max {
            self.problem(
                format!("{integer} is out of range: from {min} to {max}"),
                None,
            );
            return None;
        }
        Some(integer)
    }

    /// One text or a list of texts.
    pub(super) fn strings(&self) -> Option<Vec<Entry<'s, 't>>> {
        if self.value.is_str() {
            Some(vec![self.clone()])
        } else {
            self.array()
        }
    }
}
