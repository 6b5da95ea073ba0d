//! What holds of every event in the log, wherever it came from.

use serde_json::{Map, Value};
use tidemill_core::{Event, EventKind, Project, Timestamp};
use tidemill_store::QuarantineReason;

use crate::limits::Limits;
use crate::rejection::Rejection;

/// Checks a complete event: somebody did it, its ids and names are bounded, its time is believable (`now` is the
/// server's), its content is not nested too deeply, and declared properties are as declared.
pub(crate) fn validate(
    event: &Event,
    now: Timestamp,
    limits: &Limits,
    project: &Project,
) -> Result<(), Rejection> {
    person(event)?;
    sizes(event, limits)?;
    time("timestamp", event.timestamp, now, limits)?;
    if event.historical {
        // otherwise it is the server's own
        time("receivedAt", event.received_at, now, limits)?;
    }
    nesting(&event.properties, "properties", limits)?;
    nesting(&event.context, "context", limits)?;
    schema(event, project)
}

fn person(event: &Event) -> Result<(), Rejection> {
    let about_an_item = matches!(event.kind, EventKind::ItemChanged | EventKind::ItemDeleted);
    if !about_an_item && event.user_id.is_none() && event.anonymous_id.is_none() {
        return Err(Rejection::missing(
            "userId or anonymousId is absent: say who did it",
        ));
    }
    Ok(())
}

fn sizes(event: &Event, limits: &Limits) -> Result<(), Rejection> {
    let chars_max = limits.message_id_chars_max;
    // a text has at least as many bytes as characters, so most ids need no counting
    if event.message_id.len() > chars_max && event.message_id.chars().count() > chars_max {
        return Err(Rejection::invalid(format!(
            "messageId is longer than {chars_max} characters: shorten it"
        )));
    }
    let ids = [
        ("the event's name", Some(&event.name)),
        ("userId", event.user_id.as_ref()),
        ("anonymousId", event.anonymous_id.as_ref()),
        ("previousId", event.previous_id.as_ref()),
        ("groupId", event.group_id.as_ref()),
    ];
    for (field, id) in ids {
        if id.is_some_and(|id| id.len() > limits.id_bytes_max) {
            return Err(Rejection::invalid(format!(
                "{field} is longer than {} bytes: shorten it",
                limits.id_bytes_max
            )));
        }
    }
    Ok(())
}

/// Whether a time is believable.
fn time(field: &str, time: Timestamp, now: Timestamp, limits: &Limits) -> Result<(), Rejection> {
    if time < Timestamp::EPOCH {
        return Err(Rejection::time(format!(
            "{field} {time} is before 1970: check the sender's clock"
        )));
    }
    if time > now + limits.ahead_max {
        return Err(Rejection::time(format!(
            "{field} {time} is more than {} ahead of {now}: check the sender's clock, and send sentAt",
            limits.ahead_max
        )));
    }
    Ok(())
}

/// Whether an object is nested within the limit.
fn nesting(object: &Map<String, Value>, field: &str, limits: &Limits) -> Result<(), Rejection> {
    fn within(value: &Value, levels: usize) -> bool {
        match value {
            Value::Array(list) => levels > 0 && list.iter().all(|value| within(value, levels - 1)),
            Value::Object(map) => levels > 0 && map.values().all(|value| within(value, levels - 1)),
            _ => true,
        }
    }
    if object
        .values()
        .all(|value| within(value, limits.nesting_max))
    {
        return Ok(());
    }
    Err(Rejection::invalid(format!(
        "{field} is nested deeper than {} levels: flatten it",
        limits.nesting_max
    )))
}

fn schema(event: &Event, project: &Project) -> Result<(), Rejection> {
    let Some(rules) = project.events.get(&event.name) else {
        return Ok(());
    };
    for (name, rule) in rules {
        rule.check(event.properties.get(name).unwrap_or(&Value::Null)).map_err(|violation| {
            let detail = format!(
                "properties.{name} of '{}': {violation}; mend the sender, or the declaration in the project file",
                event.name
            );
            Rejection::new(QuarantineReason::SchemaMismatch, detail)
        })?;
    }
    Ok(())
}
