//! Items, from bytes to events: what can be recommended, and its attributes.
//!
//! A body is one item, a list of items, or `{"items": […]}`; an item is `{"id": "i1", "attributes": {…}}`, optionally with
//! `messageId` and `timestamp`. Attributes that are named replace the earlier ones, `null` removes one, attributes that are not
//! named stay. Each item becomes one event of kind `item_changed` whose properties are
//! `{"id": "i1", "attributes": {…}}`; a deletion becomes one of kind `item_deleted` with `{"id": "i1"}`.
//!
//! Without a `messageId` the id is made from the item's content and the time of arrival: sending the same attributes
//! tomorrow is a new change, because they may have changed in between.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Map, Value};
use tidemill_core::{Event, EventKind, Project, Timestamp};
use tidemill_store::QuarantineReason;

use crate::lenient::{Object, Scalar};
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::segment::{self, Batch, Pieces, RequestError};
use crate::{message_id, validate};

/// The source that quarantined items name.
pub(crate) const SOURCE: &str = "http/items";

const EXPECTED: &str = "an item, a list of items or {\"items\": […]}";

/// Reads the body of `PUT /v1/items`.
///
/// # Errors
/// When the call as a whole is unreadable, of the wrong shape or too large. Bad items do not fail it: they are quarantined.
pub fn parse_items(
    body: &[u8],
    received_at: Timestamp,
    limits: &Limits,
    project: &Project,
) -> Result<Batch, RequestError> {
    let text = segment::body_text(body, limits.batch_bytes_max)?;
    let pieces = pieces(text)?;
    if pieces.len() > limits.batch_events_max {
        return Err(RequestError::TooMany {
            count: pieces.len(),
            count_max: limits.batch_events_max,
        });
    }
    let mut batch = Batch {
        events: Vec::with_capacity(pieces.len()),
        ..Batch::default()
    };
    for (place, piece) in pieces.into_iter().enumerate() {
        match parse_item(piece, place, received_at, limits, project) {
            Ok(event) => batch.events.push(event),
            Err(rejection) => {
                batch
                    .quarantined
                    .push(rejection.quarantine(piece, SOURCE, received_at));
            }
        }
    }
    Ok(batch)
}

/// The event that an item is gone.
pub fn deletion(id: &str, received_at: Timestamp) -> Event {
    let mut properties = Map::new();
    properties.insert("id".to_owned(), id.into());
    finished(
        EventKind::ItemDeleted,
        properties,
        None,
        None,
        received_at,
        0,
    )
}

/// The items of a body, each as its exact text.
fn pieces(text: &str) -> Result<Vec<&str>, RequestError> {
    let from_json = |error: serde_json::Error| RequestError::from_json(&error, EXPECTED);
    if text.trim_start().starts_with('[') {
        let Pieces(pieces) = serde_json::from_str(text).map_err(from_json)?;
        return Ok(pieces
            .into_iter()
            .map(serde_json::value::RawValue::get)
            .collect());
    }
    let body: WireItems<'_> = serde_json::from_str(text).map_err(from_json)?;
    Ok(match body.items {
        Some(Pieces(pieces)) => pieces
            .into_iter()
            .map(serde_json::value::RawValue::get)
            .collect(),
        None => vec![text],
    })
}

/// Reads one item from its exact text.
pub(crate) fn parse_item(
    text: &str,
    place: usize,
    received_at: Timestamp,
    limits: &Limits,
    project: &Project,
) -> Result<Event, Rejection> {
    if text.len() > limits.event_bytes_max {
        return Err(Rejection::too_large(text.len(), limits.event_bytes_max));
    }
    let wire: WireItem<'_> =
        serde_json::from_str(text).map_err(|error| segment::unreadable(&error))?;
    if let Some(key) = wire.unknown {
        let key: String = key.chars().take(64).collect();
        return Err(Rejection::invalid(format!(
            "'{key}' is not a field of an item: put it into attributes"
        )));
    }
    let id = wire
        .id
        .text("id")?
        .ok_or_else(|| Rejection::missing("id is absent: say which item"))?;
    if id.len() > limits.id_bytes_max {
        return Err(Rejection::invalid(format!(
            "id is longer than {} bytes: shorten it",
            limits.id_bytes_max
        )));
    }
    let attributes = wire.attributes.map("attributes")?;
    check_attributes(&attributes, project)?;
    let message_id = wire.message_id.text("messageId")?;
    let timestamp = wire.timestamp.moment("timestamp")?;
    let mut properties = Map::new();
    properties.insert("id".to_owned(), id.into());
    properties.insert("attributes".to_owned(), Value::Object(attributes));
    let event = finished(
        EventKind::ItemChanged,
        properties,
        message_id,
        timestamp,
        received_at,
        place,
    );
    validate::validate(&event, received_at, limits, project)?;
    Ok(event)
}

/// Whether the attributes that are named are as declared; others are accepted.
fn check_attributes(attributes: &Map<String, Value>, project: &Project) -> Result<(), Rejection> {
    let Some(items) = &project.items else {
        return Ok(());
    };
    for (name, value) in attributes {
        let Some(rule) = items.attributes.get(name) else {
            continue;
        };
        rule.check(value).map_err(|violation| {
            let detail =
                format!("attributes.{name}: {violation}; mend the sender, or the declaration in [items] of the project file");
            Rejection::new(QuarantineReason::SchemaMismatch, detail)
        })?;
    }
    Ok(())
}

fn finished(
    kind: EventKind,
    properties: Map<String, Value>,
    message_id: Option<String>,
    timestamp: Option<Timestamp>,
    received_at: Timestamp,
    place: usize,
) -> Event {
    let mut event = Event {
        message_id: String::new(),
        kind,
        name: kind.default_name().to_owned(),
        user_id: None,
        anonymous_id: None,
        previous_id: None,
        group_id: None,
        timestamp: timestamp.unwrap_or(received_at),
        received_at,
        historical: false,
        properties,
        context: Map::new(),
    };
    event.message_id =
        message_id.unwrap_or_else(|| message_id::of_event(&event, &place.to_le_bytes()));
    event
}

struct WireItems<'a> {
    items: Option<Pieces<'a>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ItemsKey {
    Items,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for WireItems<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemsVisitor(std::marker::PhantomData))
    }
}

struct ItemsVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ItemsVisitor<'a> {
    type Value = WireItems<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = None;
        while let Some(key) = map.next_key()? {
            match key {
                ItemsKey::Items => items = Some(map.next_value()?),
                ItemsKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(WireItems { items })
    }
}

#[derive(Default)]
struct WireItem<'a> {
    id: Scalar<'a>,
    attributes: Object,
    message_id: Scalar<'a>,
    timestamp: Scalar<'a>,
    /// The first key that an item does not have.
    unknown: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for WireItem<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ItemVisitor(std::marker::PhantomData))
    }
}

struct ItemVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for ItemVisitor<'a> {
    type Value = WireItem<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wire = WireItem::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => wire.id = map.next_value()?,
                "attributes" => wire.attributes = map.next_value()?,
                "messageId" => wire.message_id = map.next_value()?,
                "timestamp" => wire.timestamp = map.next_value()?,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    wire.unknown.get_or_insert(key);
                }
            }
        }
        Ok(wire)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn parse(body: &str) -> Result<Batch, RequestError> {
        let project = "[project]\nname = 'shop'\n[items]\nid = 'properties.item'\n\
                       attributes = { title = 'text', price = 'float? >= 0' }";
        let now = "2024-03-01T12:00:00Z".parse().unwrap();
        parse_items(
            body.as_bytes(),
            now,
            &Limits::default(),
            &Project::parse(project).unwrap(),
        )
    }

    fn check(body: &str, expected: Expect) {
        let text = match parse(body) {
            Err(error) => format!("{}: {error}\n", error.code()),
            Ok(batch) => {
                let events = batch.events.iter().map(|event| {
                    format!(
                        "{} {} {}\n",
                        event.name,
                        event.timestamp,
                        Value::Object(event.properties.clone())
                    )
                });
                let pieces = batch
                    .quarantined
                    .iter()
                    .map(|piece| format!("{}: {} | {}\n", piece.reason, piece.detail, piece.body));
                events.chain(pieces).collect()
            }
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn one_item_a_list_or_items() {
        let item = r#"{"id": "i1", "attributes": {"title": "Hammer", "price": 9.5, "new": [1]}}"#;
        check(
            item,
            expect![[r#"
            $item_changed 2024-03-01T12:00:00.000000Z {"attributes":{"new":[1],"price":9.5,"title":"Hammer"},"id":"i1"}
        "#]],
        );
        check(
            &format!(" [{item}, {{\"id\": 7, \"attributes\": {{\"price\": null}}}}]"),
            expect![[r#"
                $item_changed 2024-03-01T12:00:00.000000Z {"attributes":{"new":[1],"price":9.5,"title":"Hammer"},"id":"i1"}
                $item_changed 2024-03-01T12:00:00.000000Z {"attributes":{"price":null},"id":"7"}
            "#]],
        );
        check(
            &format!(r#"{{"items": [{item}]}}"#),
            expect![[r#"
            $item_changed 2024-03-01T12:00:00.000000Z {"attributes":{"new":[1],"price":9.5,"title":"Hammer"},"id":"i1"}
        "#]],
        );
        check(
            r#"{"id": "i1", "timestamp": "2024-01-01T00:00:00Z"}"#,
            expect![[r#"
                $item_changed 2024-01-01T00:00:00.000000Z {"attributes":{},"id":"i1"}
            "#]],
        );
        check("[]", expect![[r#""#]]);
    }

    #[test]
    fn bad_items_say_what_to_do() {
        check(
            r#"{"attributes": {}}"#,
            expect![[r#"
            missing_field: id is absent: say which item | {"attributes": {}}
        "#]],
        );
        check(
            r#"{"id": "i1", "title": "Hammer"}"#,
            expect![[r#"
            invalid_field: 'title' is not a field of an item: put it into attributes | {"id": "i1", "title": "Hammer"}
        "#]],
        );
        check(
            r#"[{"id": "i1", "attributes": {"price": -1}}, {"id": "i2", "attributes": {"title": null}}]"#,
            expect![[r#"
                schema_mismatch: attributes.price: expected float? >= 0, found -1; mend the sender, or the declaration in [items] of the project file | {"id": "i1", "attributes": {"price": -1}}
                schema_mismatch: attributes.title: expected text, it is absent; mend the sender, or the declaration in [items] of the project file | {"id": "i2", "attributes": {"title": null}}
            "#]],
        );
        check(
            r#"[1, {"id": "i1", "attributes": [1]}]"#,
            expect![[r#"
            unreadable: not readable as an object: invalid type: integer `1`, expected an object at line 1 column 1 | 1
            invalid_field: attributes is a list: write an object, like {} | {"id": "i1", "attributes": [1]}
        "#]],
        );
        check(
            r#"{"id": ["i1"]}"#,
            expect![[r#"
            invalid_field: id is a list: write it as a text | {"id": ["i1"]}
        "#]],
        );
        check(
            &format!(r#"{{"id": "{}"}}"#, "i".repeat(513)),
            expect![[r#"
                invalid_field: id is longer than 512 bytes: shorten it | {"id": "iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii"}
            "#]],
        );
        check(
            "3",
            expect![[r#"
            wrong_shape: the body is not an item, a list of items or {"items": […]}
        "#]],
        );
        check(
            r#"{"items": 3}"#,
            expect![[r#"
            wrong_shape: the body is not an item, a list of items or {"items": […]}
        "#]],
        );
        check(
            "{",
            expect![[r#"
            unreadable_body: the body is not readable as JSON: EOF while parsing an object at line 1 column 1
        "#]],
        );
    }

    #[test]
    fn the_same_item_sent_later_is_a_new_change() {
        let project = Project::parse("[project]\nname = 'shop'").unwrap();
        let id = |at: i64| {
            let body = br#"{"id": "i1", "attributes": {"a": 1}}"#;
            let batch = parse_items(
                body,
                Timestamp::from_millis(at),
                &Limits::default(),
                &project,
            )
            .unwrap();
            batch.events[0].message_id.clone()
        };
        assert_eq!(id(1), id(1));
        assert_ne!(id(1), id(2));
        assert_ne!(
            deletion("i1", Timestamp::from_millis(1)).message_id,
            deletion("i2", Timestamp::from_millis(1)).message_id
        );
        assert_eq!(
            Value::Object(deletion("i1", Timestamp::EPOCH).properties),
            serde_json::json!({"id": "i1"})
        );
    }
}
