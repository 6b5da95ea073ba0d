//! Events as rows of a table, of which only the columns that are asked for are read, and of JSON texts only the values.
//!
//! What reads many events (datasets, rebuilds) goes through [`EventRows`]; [`EventRow`] answers what
//! [`Event`](tidemill_core::Event) answers, with the same values to the bit.

use std::borrow::Cow;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray,
};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use serde_json::Value;
use tidemill_core::event::{EventView, Field, Path};
use tidemill_core::{EventKind, Offset, Timestamp};

use crate::StoreError;

/// Which columns are read beside those that every reader needs (place, kind, name, times, person).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct EventColumns {
    /// The group.
    pub group: bool,
    /// The properties.
    pub properties: bool,
    /// The context.
    pub context: bool,
}

impl EventColumns {
    /// Everything that [`EventRow`] can answer.
    pub const ALL: Self = Self {
        group: true,
        properties: true,
        context: true,
    };

    /// Those that these fields are read from.
    pub fn of<'f>(fields: impl IntoIterator<Item = &'f Field>) -> Self {
        let mut columns = Self::default();
        for field in fields {
            columns.group |= matches!(field, Field::GroupId);
            columns.properties |= matches!(field, Field::Property(_));
            columns.context |= matches!(field, Field::Context(_));
        }
        columns
    }

    /// Those with texts that many rows share. They may be read as a dictionary.
    pub(crate) const REPEATED: &'static [&'static str] =
        &["kind", "name", "user_id", "anonymous_id"];

    /// The names of the columns.
    pub fn names(self) -> Vec<&'static str> {
        let mut names = vec![
            "offset",
            "kind",
            "name",
            "user_id",
            "anonymous_id",
            "previous_id",
            "timestamp",
            "received_at",
        ];
        names.extend(self.group.then_some("group_id"));
        names.extend(self.properties.then_some("properties"));
        names.extend(self.context.then_some("context"));
        names
    }
}

/// Events that can be read more than once, in the order of the log.
pub trait EventTable: Send + Sync + std::fmt::Debug {
    /// The rows, some hundreds or thousands at a time. Where `kinds` names some, others may be left out.
    fn scan(&self, columns: EventColumns, kinds: Option<&'static [EventKind]>) -> EventScan;

    /// What another process needs to know to read the same rows; `None` where it cannot.
    fn description(&self) -> Option<String> {
        None
    }
}

/// Rows of events in the order of the log.
pub type EventScan = Box<dyn Iterator<Item = Result<EventRows, StoreError>> + Send>;

/// A column of texts that repeat: each row says which of the texts it has.
#[derive(Debug, Clone)]
pub struct Texts {
    which: Int32Array,
    texts: StringArray,
}

impl Texts {
    fn new(batch: &RecordBatch, name: &str) -> Result<Self, StoreError> {
        let column = column(batch, name)?;
        let repeated = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let column = cast(column, &repeated).map_err(|_| damaged(name))?;
        let dictionary = column.as_dictionary_opt::<Int32Type>();
        let dictionary = dictionary.ok_or_else(|| damaged(name))?;
        let texts = dictionary.values().as_string_opt::<i32>();
        Ok(Self {
            which: dictionary.keys().clone(),
            texts: texts.cloned().ok_or_else(|| damaged(name))?,
        })
    }

    /// Which of the texts a row has; `None` where it has none.
    pub fn which(&self, row: usize) -> Option<usize> {
        let which = self.which.is_valid(row).then(|| self.which.value(row))?;
        Some(which.unsigned_abs() as usize) // a dictionary's keys are not negative
    }

    /// The text of a row.
    pub fn value(&self, row: usize) -> Option<&str> {
        Some(self.texts.value(self.which(row)?))
    }

    /// The texts. More than one batch may share them, and not every text needs to have a row.
    pub fn texts(&self) -> &StringArray {
        &self.texts
    }
}

/// Some rows of events.
#[derive(Debug, Clone)]
pub struct EventRows {
    offsets: Int64Array,
    kinds: Vec<EventKind>,
    names: Texts,
    users: Texts,
    anonymous: Texts,
    previous: StringArray,
    groups: Option<StringArray>,
    timestamps: TimestampMicrosecondArray,
    received: TimestampMicrosecondArray,
    properties: Option<StringArray>,
    contexts: Option<StringArray>,
}

impl EventRows {
    /// The rows of a batch, which has the columns of [`EventColumns::names`] at least.
    ///
    /// # Errors
    /// When a column is absent, or not as it was written.
    pub fn new(batch: &RecordBatch, columns: EventColumns) -> Result<Self, StoreError> {
        let texts = |name: &str| texts(batch, name);
        let asked = |wanted: bool, name: &str| wanted.then(|| texts(name)).transpose();
        Ok(Self {
            offsets: complete(
                column(batch, "offset")?
                    .as_primitive_opt::<Int64Type>()
                    .cloned()
                    .ok_or_else(|| damaged("offset"))?,
                "offset",
            )?,
            kinds: read_kinds(&Texts::new(batch, "kind")?)?,
            names: complete_texts(Texts::new(batch, "name")?, "name")?,
            users: Texts::new(batch, "user_id")?,
            anonymous: Texts::new(batch, "anonymous_id")?,
            previous: texts("previous_id")?,
            groups: asked(columns.group, "group_id")?,
            timestamps: times(batch, "timestamp")?,
            received: times(batch, "received_at")?,
            properties: asked(columns.properties, "properties")?,
            contexts: asked(columns.context, "context")?,
        })
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The place of a row in the log.
    pub fn offset(&self, row: usize) -> Offset {
        Offset(self.offsets.value(row).unsigned_abs())
    }

    /// Which call a row came from.
    pub fn kind(&self, row: usize) -> EventKind {
        self.kinds[row]
    }

    /// What happened; every row has a name.
    pub fn names(&self) -> &Texts {
        &self.names
    }

    /// The ids of users.
    pub fn users(&self) -> &Texts {
        &self.users
    }

    /// The anonymous ids.
    pub fn anonymous(&self) -> &Texts {
        &self.anonymous
    }

    /// The engine's times, in microseconds.
    pub fn received(&self) -> &[i64] {
        self.received.values()
    }

    /// The events' own times, in microseconds.
    pub fn timestamps(&self) -> &[i64] {
        self.timestamps.values()
    }

    /// One of them.
    pub fn row(&self, row: usize) -> EventRow<'_> {
        EventRow { rows: self, row }
    }

    /// All of them.
    pub fn rows(&self) -> impl Iterator<Item = EventRow<'_>> {
        (0..self.len()).map(|row| self.row(row))
    }
}

/// One row of events.
#[derive(Debug, Clone, Copy)]
pub struct EventRow<'r> {
    rows: &'r EventRows,
    row: usize,
}

impl<'r> EventRow<'r> {
    fn text(&self, column: &'r StringArray) -> Option<&'r str> {
        column.is_valid(self.row).then(|| column.value(self.row))
    }

    /// The JSON text at a path of a column's objects.
    fn json(&self, column: Option<&'r StringArray>, path: &Path) -> Option<&'r str> {
        let mut steps = path.steps().iter();
        steps.try_fold(self.text(column?)?, |object, step| value_at(object, step))
    }

    fn value(&self, column: Option<&'r StringArray>, path: &Path) -> Option<Cow<'r, Value>> {
        let text = self.json(column, path)?;
        serde_json::from_str(text).ok().map(Cow::Owned)
    }
}

impl EventView for EventRow<'_> {
    fn kind(&self) -> EventKind {
        self.rows.kinds[self.row]
    }

    fn name(&self) -> &str {
        self.rows.names.value(self.row).unwrap_or_default()
    }

    fn user_id(&self) -> Option<&str> {
        self.rows.users.value(self.row)
    }

    fn anonymous_id(&self) -> Option<&str> {
        self.rows.anonymous.value(self.row)
    }

    fn previous_id(&self) -> Option<&str> {
        self.text(&self.rows.previous)
    }

    fn group_id(&self) -> Option<&str> {
        self.text(self.rows.groups.as_ref()?)
    }

    fn timestamp(&self) -> Timestamp {
        Timestamp::from_micros(self.rows.timestamps.value(self.row))
    }

    fn received_at(&self) -> Timestamp {
        Timestamp::from_micros(self.rows.received.value(self.row))
    }

    fn property(&self, path: &Path) -> Option<Cow<'_, Value>> {
        self.value(self.rows.properties.as_ref(), path)
    }

    fn context(&self, path: &Path) -> Option<Cow<'_, Value>> {
        self.value(self.rows.contexts.as_ref(), path)
    }

    fn plain_number(&self, field: &Field) -> Option<f64> {
        let text = match field {
            Field::Property(path) => self.json(self.rows.properties.as_ref(), path)?,
            Field::Context(path) => self.json(self.rows.contexts.as_ref(), path)?,
            Field::Name | Field::UserId | Field::AnonymousId | Field::GroupId => return None,
        };
        // both readers of numbers round to the nearest, so this is what the JSON library says
        let is_number = matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9'));
        let number = is_number.then(|| text.parse::<f64>().ok()).flatten()?;
        number.is_finite().then_some(number)
    }
}

/// The text of the value at a key of a JSON object that a JSON library wrote; the other values are stepped over. `None` where
/// there is no such key, or no object.
fn value_at<'t>(object: &'t str, key: &str) -> Option<&'t str> {
    let bytes = object.as_bytes();
    let mut at = skip_space(bytes, 0);
    if bytes.get(at) != Some(&b'{') {
        return None;
    }
    at += 1;
    loop {
        at = skip_space(bytes, at);
        if bytes.get(at) != Some(&b'"') {
            return None; // the end of the object
        }
        let end = skip_text(bytes, at)?;
        let found = is_key(&object[at..end], key);
        at = skip_space(bytes, end);
        if bytes.get(at) != Some(&b':') {
            return None;
        }
        at = skip_space(bytes, at + 1);
        let end = skip_value(bytes, at)?;
        if found {
            return Some(&object[at..end]);
        }
        at = skip_space(bytes, end);
        if bytes.get(at) != Some(&b',') {
            return None;
        }
        at += 1;
    }
}

/// Whether a JSON text, with its quotes, says this key.
fn is_key(text: &str, key: &str) -> bool {
    let inner = &text[1..text.len() - 1];
    if inner.contains('\\') {
        return serde_json::from_str::<String>(text).is_ok_and(|text| text == key);
    }
    inner == key
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while matches!(bytes.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// The place after the text that begins at `at` with its quote.
fn skip_text(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The place after the value that begins at `at`.
fn skip_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => skip_text(bytes, at),
        b'{' | b'[' => skip_nested(bytes, at),
        _ => {
            let rest = bytes[at..].iter();
            let length = rest.take_while(|byte| !matches!(byte, b',' | b'}' | b']'));
            Some(at + length.count())
        }
    }
}

fn skip_nested(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = skip_text(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

fn damaged(name: &str) -> StoreError {
    StoreError::corrupt(
        "the table",
        format!("column {name} is not as it was written"),
    )
}

fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, StoreError> {
    let column = batch.column_by_name(name);
    column.ok_or_else(|| StoreError::corrupt("the table", format!("it has no column {name}")))
}

fn complete<A: Array>(column: A, name: &str) -> Result<A, StoreError> {
    if column.null_count() == 0 {
        Ok(column)
    } else {
        Err(damaged(name))
    }
}

fn texts(batch: &RecordBatch, name: &str) -> Result<StringArray, StoreError> {
    let column = column(batch, name)?.as_string_opt::<i32>();
    column.cloned().ok_or_else(|| damaged(name))
}

fn times(batch: &RecordBatch, name: &str) -> Result<TimestampMicrosecondArray, StoreError> {
    let column = column(batch, name)?.as_primitive_opt::<TimestampMicrosecondType>();
    complete(column.cloned().ok_or_else(|| damaged(name))?, name)
}

fn complete_texts(texts: Texts, name: &str) -> Result<Texts, StoreError> {
    let which = complete(texts.which, name)?;
    Ok(Texts { which, ..texts })
}

fn read_kinds(column: &Texts) -> Result<Vec<EventKind>, StoreError> {
    let named = column.texts.iter();
    let named: Vec<Option<EventKind>> = named.map(|text| text.and_then(EventKind::named)).collect();
    let kind = |row| column.which(row).and_then(|which| named[which]);
    (0..column.which.len())
        .map(|row| kind(row).ok_or_else(|| damaged("kind")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_numbers_are_those_of_the_json_library() {
        for text in [
            "0",
            "-0",
            "-0.0",
            "17",
            "0.1",
            "5e-324",
            "1.7976931348623157e308",
            "18446744073709551615",
            "18446744073709551616",
            "9007199254740993",
            "-9223372036854775809",
            "0.30000000000000004",
            "123456789012345678901234567890",
            "2.2250738585072011e-308",
            "1E5",
            "1e999",
        ] {
            let library: Option<f64> = serde_json::from_str::<Value>(text)
                .ok()
                .and_then(|value| value.as_f64());
            let ours = text.parse::<f64>().ok().filter(|number| number.is_finite());
            assert_eq!(ours.map(f64::to_bits), library.map(f64::to_bits), "{text}");
        }
    }

    #[test]
    fn values_are_found_without_reading_the_others() {
        let text = r#"{"a":1.50,"tex\"t":"x\\","nested":{"b":[1,{"c":"}"}],"d":null},"list":["]",2],"e":true}"#;
        let all: serde_json::Map<String, Value> = serde_json::from_str(text).expect("JSON");
        for (key, value) in &all {
            let found = value_at(text, key).unwrap_or_else(|| panic!("{key}"));
            assert_eq!(
                serde_json::from_str::<Value>(found).ok().as_ref(),
                Some(value)
            );
        }
        for absent in ["b", "c", "", "nest", "x"] {
            assert_eq!(value_at(text, absent), None, "{absent}");
        }
        for broken in [
            "",
            "{",
            "[1]",
            "{\"a",
            "{\"a\"",
            "{\"a\":",
            "{\"a\":\"x",
            "{\"a\":{",
        ] {
            assert_eq!(value_at(broken, "z"), None, "{broken}");
        }
        assert_eq!(value_at("{}", "a"), None);
    }
}
