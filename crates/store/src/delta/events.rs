//! Events as rows.

use std::sync::Arc;

use datafusion::arrow::array::{Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use serde_json::{Map, Value};
use tidemill_core::{Event, EventKind, Offset};

use super::columns::{self, Columns, date, long, text, time};
use super::table::TableSpec;
use crate::{LoggedEvent, StoreError};

/// The column of the place in the project's log.
pub(super) const OFFSET: &str = "offset";
/// The column of the call that an event came from.
pub(super) const KIND: &str = "kind";

pub(super) fn spec() -> TableSpec {
    let fields: Vec<Field> = vec![
        long(OFFSET, false),
        date(),
        text(KIND, false),
        text("name", false),
        text("message_id", false),
        text("user_id", true),
        text("anonymous_id", true),
        text("previous_id", true),
        text("group_id", true),
        time("timestamp"),
        time("received_at"),
        Field::new("historical", DataType::Boolean, false),
        text("properties", false),
        text("context", false),
    ];
    TableSpec {
        application: "tidemill/events".to_owned(),
        schema: Arc::new(Schema::new(fields)),
        by_date: true,
        order: Some(OFFSET),
        statistics: "offset,name,timestamp,received_at",
    }
}

/// Rows of events, in the columns of [`spec`].
pub(crate) fn encode(events: &[LoggedEvent]) -> Result<RecordBatch, StoreError> {
    let rows = || events.iter().map(|logged| &logged.event);
    let json = |of: fn(&Event) -> &Map<String, Value>| {
        rows()
            .map(|event| write_json(of(event)))
            .collect::<Result<Vec<_>, _>>()
    };
    let columns = vec![
        columns::places(events.iter().map(|logged| logged.offset.0))?,
        columns::dates(rows().map(|event| event.timestamp)),
        columns::texts(rows().map(|event| event.kind.as_str())),
        columns::texts(rows().map(|event| &event.name)),
        columns::texts(rows().map(|event| &event.message_id)),
        columns::optional_texts(rows().map(|event| event.user_id.as_deref())),
        columns::optional_texts(rows().map(|event| event.anonymous_id.as_deref())),
        columns::optional_texts(rows().map(|event| event.previous_id.as_deref())),
        columns::optional_texts(rows().map(|event| event.group_id.as_deref())),
        columns::times(rows().map(|event| event.timestamp)),
        columns::times(rows().map(|event| event.received_at)),
        columns::booleans(rows().map(|event| event.historical)),
        columns::texts(json(|event| &event.properties)?.iter()),
        columns::texts(json(|event| &event.context)?.iter()),
    ];
    RecordBatch::try_new(spec().schema, columns)
        .map_err(|e| StoreError::backend("encode events", e))
}

/// The events of rows.
pub(super) fn decode(rows: &RecordBatch) -> Result<Vec<LoggedEvent>, StoreError> {
    let columns = Columns(rows);
    let places = columns.places(OFFSET)?;
    let (kinds, names) = (columns.texts("kind")?, columns.texts("name")?);
    let message_ids = columns.texts("message_id")?;
    let (users, anonymous) = (
        columns.optional_texts("user_id")?,
        columns.optional_texts("anonymous_id")?,
    );
    let (previous, groups) = (
        columns.optional_texts("previous_id")?,
        columns.optional_texts("group_id")?,
    );
    let (timestamps, received) = (columns.times("timestamp")?, columns.times("received_at")?);
    let historical = columns.booleans("historical")?;
    let (properties, contexts) = (columns.texts("properties")?, columns.texts("context")?);
    (0..rows.num_rows())
        .map(|row| {
            let event = Event {
                message_id: message_ids.value(row).to_owned(),
                kind: read_kind(kinds.value(row))?,
                name: names.value(row).to_owned(),
                user_id: owned(&users, row),
                anonymous_id: owned(&anonymous, row),
                previous_id: owned(&previous, row),
                group_id: owned(&groups, row),
                timestamp: timestamps[row],
                received_at: received[row],
                historical: historical.value(row),
                properties: read_json(properties.value(row))?,
                context: read_json(contexts.value(row))?,
            };
            Ok(LoggedEvent {
                offset: Offset(places[row]),
                event,
            })
        })
        .collect()
}

fn read_kind(word: &str) -> Result<EventKind, StoreError> {
    EventKind::named(word).ok_or_else(|| {
        let detail = format!("'{word}' is not a kind of event");
        StoreError::corrupt("an event of the lake", detail)
    })
}

fn owned(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

fn write_json(object: &Map<String, Value>) -> Result<String, StoreError> {
    if object.is_empty() {
        return Ok("{}".to_owned());
    }
    serde_json::to_string(object).map_err(|e| StoreError::backend("encode events", e))
}

fn read_json(text: &str) -> Result<Map<String, Value>, StoreError> {
    if text == "{}" {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|e| StoreError::corrupt("an event of the lake", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_read_back_to_the_bit() {
        let event: Event = serde_json::from_value(serde_json::json!({
            "message_id": "m1", "kind": "track", "name": "Order Completed", "user_id": "u1", "group_id": "g",
            "timestamp": "1969-12-31T23:59:59.999999Z", "received_at": "2011-12-09T12:50:01Z", "historical": true,
            "properties": {
                "tenth": 0.1, "tiny": 5e-324, "negative_zero": -0.0, "large": 18_446_744_073_709_551_615_u64,
                "odd": 0.300_000_000_000_000_04, "null": null, "nested": { "a": [1, "ü\u{0}", false] }
            }
        }))
        .unwrap();
        for kind in [
            "track",
            "identify",
            "page",
            "screen",
            "group",
            "alias",
            "item_changed",
            "item_deleted",
        ] {
            let kind: EventKind = serde_json::from_value(kind.into()).unwrap();
            let logged = LoggedEvent {
                offset: Offset(7),
                event: Event {
                    kind,
                    ..event.clone()
                },
            };
            let read = decode(&encode(std::slice::from_ref(&logged)).unwrap()).unwrap();
            assert_eq!(read, [logged]);
            assert!(
                read[0].event.properties["negative_zero"]
                    .as_f64()
                    .unwrap()
                    .is_sign_negative()
            );
        }
    }
}
