//! Conditions over events: `properties.seconds > 5 AND user_id IS NOT NULL`.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, AsArray, BooleanArray, Float64Array, StringArray, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, TimeUnit};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tidemill_core::Timestamp;
use tidemill_core::event::{EventView, Field};
use tidemill_core::project::{PropertyRule, PropertyType, did_you_mean};

use super::infer::{Kind, infer};
use super::{Compiled, Fault, Parsed};
use crate::value;

/// The declared properties of events, by event and property.
pub(crate) type Declared = BTreeMap<String, BTreeMap<String, PropertyRule>>;

/// A boolean expression over events, compiled. Missing fields are NULL, and NULL counts as not fulfilled.
#[derive(Debug, Clone)]
pub struct EventCondition {
    text: String,
    compiled: Compiled,
    columns: Vec<(Field, Kind)>,
}

impl EventCondition {
    /// Compiles a condition on events with one of these names (none: any name).
    pub(crate) fn compile(
        text: &str,
        events: &[String],
        declared: &Declared,
    ) -> Result<Self, Fault> {
        let parsed = Parsed::parse(text)?;
        let mut kinds = BTreeMap::new();
        for name in parsed.names() {
            let field: Field =
                name.parse()
                    .map_err(|error: tidemill_core::event::FieldError| Fault {
                        message: error.to_string(),
                        hint: did_you_mean(name, ["name", "user_id", "anonymous_id", "group_id"])
                            .or_else(|| Some(format!("is properties.{name} meant?"))),
                    })?;
            if let Some(kind) = known_kind(&field, events, declared)? {
                kinds.insert(name.clone(), kind);
            }
        }
        infer(&parsed.sql.expr, &mut kinds).map_err(|(name, one, other)| {
            Fault::with_hint(
                format!(
                    "{name} is used as {} and as {}",
                    one.in_words(),
                    other.in_words()
                ),
                "declare the property under [events.…] or CAST it",
            )
        })?;
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for name in parsed.names() {
            let kind = match kinds.get(name) {
                Some(kind) => *kind,
                // Only whether it is there matters, or how it reads as a text.
                None if only_presence(text, name) => Kind::Text,
                None => {
                    return Err(Fault::with_hint(
                        format!("the type of {name} cannot be told from its use"),
                        "declare the property under [events.…]",
                    ));
                }
            };
            let field: Field = name
                .parse()
                .map_err(|_| Fault::new(format!("{name} is not a field of an event")))?;
            columns.push((field, kind));
            fields.push(ArrowField::new(name, data_type(kind), true));
        }
        let compiled = parsed.compile(fields)?;
        if compiled.result != DataType::Boolean {
            return Err(Fault::with_hint(
                format!("a condition is true or false, this is {}", compiled.result),
                "compare it with something",
            ));
        }
        Ok(Self {
            text: text.to_owned(),
            compiled,
            columns,
        })
    }

    /// The fields that it asks for.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.columns.iter().map(|(field, _)| field)
    }

    /// The SQL text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The text and the types of the columns: what decides the answers.
    pub(crate) fn signature(&self) -> String {
        let columns: Vec<String> = self
            .columns
            .iter()
            .map(|(field, kind)| format!("{field}: {}", kind.in_words()))
            .collect();
        format!("{:?} {}", self.text, columns.join(", "))
    }

    /// Which of the events fulfil it, and for how many it could not be evaluated (which counts as not fulfilled).
    pub fn evaluate<V: EventView>(&self, events: &[V]) -> (Vec<bool>, u64) {
        match self.evaluate_batch(events) {
            Some(fulfilled) => (fulfilled, 0),
            // One row that fails (a division of whole numbers by zero) fails its whole batch: each on its own, then.
            None => {
                let mut failures = 0;
                let fulfilled = events
                    .iter()
                    .map(
                        |event| match self.evaluate_batch(std::slice::from_ref(event)) {
                            Some(fulfilled) => fulfilled.first().copied().unwrap_or(false),
                            None => {
                                failures += 1;
                                false
                            }
                        },
                    )
                    .collect();
                (fulfilled, failures)
            }
        }
    }

    fn evaluate_batch<V: EventView>(&self, events: &[V]) -> Option<Vec<bool>> {
        let arrays = self
            .columns
            .iter()
            .map(|(field, kind)| array(events, field, *kind))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(events.len()));
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&self.compiled.schema), arrays, &options)
                .ok()?;
        let result = self
            .compiled
            .physical
            .evaluate(&batch)
            .and_then(|value| value.into_array(events.len()))
            .ok()?;
        let result = result.as_boolean_opt()?;
        Some(
            result
                .iter()
                .map(|fulfilled| fulfilled == Some(true))
                .collect(),
        )
    }
}

/// The kind of a field that is fixed or declared. Declarations of several events must agree.
fn known_kind(
    field: &Field,
    events: &[String],
    declared: &Declared,
) -> Result<Option<Kind>, Fault> {
    let Field::Property(path) = field else {
        return Ok(if matches!(field, Field::Context(_)) {
            None
        } else {
            Some(Kind::Text)
        });
    };
    let path = path.to_string();
    let rules: Vec<(&String, &BTreeMap<String, PropertyRule>)> = declared
        .iter()
        .filter(|(event, _)| events.is_empty() || events.contains(event))
        .collect();
    let kinds: BTreeSet<&'static str> = rules
        .iter()
        .filter_map(|(_, properties)| properties.get(&path))
        .map(|rule| kind_of(rule.property_type).in_words())
        .collect();
    if kinds.len() > 1 {
        let kinds: Vec<&str> = kinds.into_iter().collect();
        return Err(Fault::with_hint(
            format!(
                "properties.{path} is declared as {} in different events",
                kinds.join(" and ")
            ),
            "write a feature for each of the events",
        ));
    }
    let rule = rules
        .iter()
        .find_map(|(_, properties)| properties.get(&path));
    if rule.is_none() {
        unknown_property(&path, events, declared)?;
    }
    Ok(rule.map(|rule| kind_of(rule.property_type)))
}

/// A property that none of the events has, although all of them are declared.
pub(crate) fn unknown_property(
    path: &str,
    events: &[String],
    declared: &Declared,
) -> Result<(), Fault> {
    let all_declared =
        !events.is_empty() && events.iter().all(|event| declared.contains_key(event));
    let is_known = |event: &String| {
        declared.get(event).is_some_and(|properties| {
            properties
                .keys()
                .any(|known| known == path || path.starts_with(&format!("{known}.")))
        })
    };
    if !all_declared || events.iter().any(is_known) {
        return Ok(());
    }
    let known = events
        .iter()
        .filter_map(|event| declared.get(event))
        .flat_map(BTreeMap::keys);
    Err(Fault {
        message: format!("{} has no property '{path}'", events.join(", ")),
        hint: did_you_mean(path, known.map(String::as_str))
            .or_else(|| Some("declare the property under [events.…]".to_owned())),
    })
}

pub(super) fn kind_of(property_type: PropertyType) -> Kind {
    match property_type {
        PropertyType::Float | PropertyType::Int => Kind::Number,
        PropertyType::String | PropertyType::Text => Kind::Text,
        PropertyType::Bool => Kind::Truth,
        PropertyType::Timestamp => Kind::Time,
    }
}

pub(super) fn data_type(kind: Kind) -> DataType {
    match kind {
        Kind::Number => DataType::Float64,
        Kind::Text => DataType::Utf8,
        Kind::Truth => DataType::Boolean,
        Kind::Time => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
    }
}

/// Whether the name is followed by IS [NOT] NULL wherever it stands.
fn only_presence(text: &str, name: &str) -> bool {
    let words = text.to_lowercase();
    let name = name.to_lowercase();
    let mut places = words.match_indices(&name).peekable();
    places.peek().is_some()
        && places.all(|(index, _)| {
            let mut after = words[index + name.len()..].split_whitespace();
            after.next() == Some("is")
        })
}

fn array<V: EventView>(events: &[V], field: &Field, kind: Kind) -> ArrayRef {
    array_of(events.iter().map(|event| event.field(field)), kind)
}

/// JSON values as a column of a kind; what is not of it is missing.
pub(super) fn array_of<'v>(
    values: impl Iterator<Item = Option<Cow<'v, serde_json::Value>>>,
    kind: Kind,
) -> ArrayRef {
    match kind {
        Kind::Number => Arc::new(Float64Array::from_iter(
            values.map(|value| value.and_then(|value| value::number(&value))),
        )),
        Kind::Truth => Arc::new(BooleanArray::from_iter(
            values.map(|value| value.and_then(|value| value::truth(&value))),
        )),
        Kind::Text => Arc::new(StringArray::from_iter(values.map(|value| {
            value.and_then(|value| value::category(&value).map(Cow::into_owned))
        }))),
        Kind::Time => {
            let time = |value: &serde_json::Value| {
                value
                    .as_str()?
                    .parse::<Timestamp>()
                    .ok()
                    .map(Timestamp::micros)
            };
            let times = values.map(|value| value.and_then(|value| time(&value)));
            Arc::new(TimestampMicrosecondArray::from_iter(times).with_timezone("UTC"))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::Event;

    use super::*;

    fn declared() -> Declared {
        let rules = |rules: &[(&str, &str)]| {
            rules
                .iter()
                .map(|(name, rule)| ((*name).to_owned(), rule.parse().unwrap()))
                .collect()
        };
        BTreeMap::from([
            (
                "Order".to_owned(),
                rules(&[
                    ("total", "float"),
                    ("paid", "bool?"),
                    ("at", "timestamp?"),
                    ("plan", "string?"),
                ]),
            ),
            ("Refund".to_owned(), rules(&[("total", "string")])),
        ])
    }

    fn check(condition: &str, properties: serde_json::Value, expected: bool) {
        let event: Event = serde_json::from_value(json!({
            "message_id": "m", "kind": "track", "name": "Order", "user_id": "u1",
            "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z",
            "properties": properties, "context": { "page": { "path": "/Buy" } }
        }))
        .unwrap();
        let compiled = EventCondition::compile(condition, &["Order".to_owned()], &declared());
        let compiled = compiled.unwrap_or_else(|fault| panic!("{condition}: {fault:?}"));
        assert_eq!(
            compiled.evaluate(&[&event]),
            (vec![expected], 0),
            "{condition}"
        );
    }

    #[test]
    fn conditions_are_sql() {
        check("properties.total > 5", json!({"total": 6}), true);
        check("properties.total > 5", json!({}), false);
        check("NOT properties.total > 5", json!({}), false);
        check(
            "properties.total BETWEEN 1 AND 5 OR properties.plan = 'pro'",
            json!({"plan": "pro"}),
            true,
        );
        check(
            "properties.plan IN ('free', 'pro') AND lower(context.page.path) = '/buy'",
            json!({"plan": "pro"}),
            true,
        );
        check("properties.paid", json!({"paid": true}), true);
        check(
            "properties.at > '2011-01-01T00:00:00Z'",
            json!({"at": "2011-06-01T00:00:00Z"}),
            true,
        );
        check(
            "user_id IS NOT NULL AND anonymous_id IS NULL",
            json!({}),
            true,
        );
        check(
            "name = 'Order' AND context.page.title IS NULL",
            json!({}),
            true,
        );
        check(
            "CASE WHEN properties.total > 3 THEN properties.total * 2 ELSE 0 END >= 8",
            json!({"total": 4}),
            true,
        );
        check("properties.total / 0 > 1", json!({"total": 4}), true);
        check("true", json!({}), true);
    }

    #[test]
    fn faults_say_what_to_do() {
        let check = |condition: &str, message: &str, hint: &str| {
            let fault =
                EventCondition::compile(condition, &["Order".to_owned()], &declared()).unwrap_err();
            assert!(fault.message.contains(message), "{condition}: {fault:?}");
            assert!(
                fault.hint.unwrap_or_default().contains(hint),
                "{condition}: {}",
                fault.message
            );
        };
        check("properties.totl > 5", "no property 'totl'", "total");
        check("total > 5", "'total' is not a field", "properties.total");
        check("properties.total + 1", "true or false", "compare");
        check("context.a = context.b", "cannot be told", "declare");
        check(
            "context.a > 5 AND context.a = 'x'",
            "as a number and as a text",
            "declare",
        );
        check("properties.total >", "", "");
        check("count(properties.total) > 1", "many rows", "aggregate");
        check("random() > 0.5", "another time", "");
        check("now() IS NOT NULL", "another time", "");
        check("properties.total IN (SELECT 1)", "subqueries", "");
        check("user_idd IS NULL", "not a field", "user_id");
    }

    #[test]
    fn one_bad_row_does_not_spoil_its_batch() {
        let event = |plan: &str| -> Event {
            serde_json::from_value(json!({
                "message_id": "m", "kind": "track", "name": "Order", "timestamp": "2011-12-09T12:50:00Z",
                "received_at": "2011-12-09T12:50:01Z", "properties": { "plan": plan }
            }))
            .unwrap()
        };
        let condition = "CAST(properties.plan AS BIGINT) = 7";
        let compiled =
            EventCondition::compile(condition, &["Order".to_owned()], &declared()).unwrap();
        let (good, bad) = (event("7"), event("seven"));
        assert_eq!(
            compiled.evaluate(&[&good, &bad, &good]),
            (vec![true, false, true], 1)
        );
    }
}
