//! From one call as it was sent to one event, or to the reason why it is none.

use serde_json::{Map, Value};
use tidemill_core::{Event, EventKind, Project, Timestamp};

use super::wire::WireEvent;
use crate::lenient::Scalar;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::{message_id, moment, validate};

/// What a call's surroundings say about it.
pub(crate) struct Envelope<'e> {
    /// When it arrived; for history, the present.
    pub(crate) received_at: Timestamp,
    /// Whether it is imported history: its timestamp needs no correction, must be there, and says when it was received
    /// unless `receivedAt` does.
    pub(crate) historical: bool,
    /// What the batch says for all of its events, or why what it says is unusable.
    pub(crate) shared: Result<&'e Shared, &'e Rejection>,
    pub(crate) limits: &'e Limits,
    pub(crate) project: &'e Project,
}

/// What a batch says for all of its events.
#[derive(Default)]
pub(crate) struct Shared {
    pub(crate) sent_at: Option<Timestamp>,
    pub(crate) context: Map<String, Value>,
    pub(crate) integrations: Map<String, Value>,
}

/// Reads one call. `kind` is that of the endpoint; without it, the call's `type` says it. `place` is its place in
/// the batch.
pub(crate) fn read(
    wire: WireEvent<'_>,
    kind: Option<EventKind>,
    place: usize,
    envelope: &Envelope<'_>,
) -> Result<Event, Rejection> {
    let shared = envelope.shared.map_err(Clone::clone)?;
    let kind = match kind {
        Some(kind) => kind,
        None => kind_of(&wire, envelope.historical)?,
    };
    let sent_at = wire.sent_at.moment("sentAt")?.or(shared.sent_at);
    let original = match wire.original_timestamp.moment("originalTimestamp")? {
        Some(original) => Some(original),
        None => wire.timestamp.moment("timestamp")?,
    };
    let received_at = wire.received_at;
    let mut event = Event {
        message_id: wire.message_id.text("messageId")?.unwrap_or_default(),
        kind,
        name: kind.default_name().to_owned(),
        user_id: wire.user_id.text("userId")?,
        anonymous_id: wire.anonymous_id.text("anonymousId")?,
        previous_id: None,
        group_id: None,
        // for the message id: what a retry repeats, which the time of sending and receiving is not
        timestamp: original.unwrap_or(envelope.received_at),
        received_at: Timestamp::EPOCH,
        historical: envelope.historical,
        properties: Map::new(),
        context: wire.context.map("context")?,
    };
    merge(&mut event.context, &shared.context);
    let mut integrations = wire.integrations.map("integrations")?;
    merge(&mut integrations, &shared.integrations);
    if !integrations.is_empty() {
        event
            .context
            .entry("integrations")
            .or_insert(Value::Object(integrations));
    }
    let content = Content {
        event: wire.event,
        name: wire.name,
        category: wire.category,
        previous_id: wire.previous_id,
        group_id: wire.group_id,
        properties: wire.properties.map("properties")?,
        traits: wire.traits.map("traits")?,
    };
    content.fill(&mut event)?;
    if event.message_id.is_empty() {
        // without a time of its own, two equal events are told apart by when and where they arrived
        let salt = if original.is_some() {
            Vec::new()
        } else {
            place.to_le_bytes().to_vec()
        };
        event.message_id = message_id::of_event(&event, &salt);
    }
    if envelope.historical {
        event.timestamp =
            original.ok_or_else(|| Rejection::missing("timestamp is absent: history needs one"))?;
        event.received_at = received_at.moment("receivedAt")?.unwrap_or(event.timestamp);
    } else {
        event.timestamp = moment::corrected(envelope.received_at, sent_at, original);
        event.received_at = envelope.received_at;
    }
    validate::validate(
        &event,
        envelope.received_at,
        envelope.limits,
        envelope.project,
    )?;
    Ok(event)
}

fn kind_of(wire: &WireEvent<'_>, historical: bool) -> Result<EventKind, Rejection> {
    let known = "one of track, identify, page, screen, group, alias";
    match &wire.kind {
        Scalar::Text(text) => match text.as_ref() {
            "track" => Ok(EventKind::Track),
            "identify" => Ok(EventKind::Identify),
            "page" => Ok(EventKind::Page),
            "screen" => Ok(EventKind::Screen),
            "group" => Ok(EventKind::Group),
            "alias" => Ok(EventKind::Alias),
            other => {
                let other: String = other.chars().take(64).collect();
                Err(Rejection::invalid(format!(
                    "type '{other}' is not known: write {known}"
                )))
            }
        },
        // exports and hand-written history often leave it out where the event's name says enough
        Scalar::Absent if historical && matches!(wire.event, Scalar::Text(_)) => {
            Ok(EventKind::Track)
        }
        Scalar::Absent => Err(Rejection::missing(format!("type is absent: write {known}"))),
        _ => Err(Rejection::invalid(format!(
            "type is not a text: write {known}"
        ))),
    }
}

/// The parts of a call whose meaning depends on its kind.
struct Content<'a> {
    event: Scalar<'a>,
    name: Scalar<'a>,
    category: Scalar<'a>,
    previous_id: Scalar<'a>,
    group_id: Scalar<'a>,
    properties: Map<String, Value>,
    traits: Map<String, Value>,
}

impl Content<'_> {
    fn fill(self, event: &mut Event) -> Result<(), Rejection> {
        event.group_id = self.group_id.text("groupId")?;
        match event.kind {
            EventKind::Track => {
                event.name = self.event.text("event")?.ok_or_else(|| {
                    Rejection::missing("event is absent: say what happened, like 'Order Completed'")
                })?;
                event.properties = self.properties;
            }
            EventKind::Page | EventKind::Screen => {
                event.properties = self.properties;
                for (key, value) in [
                    ("name", self.name.text("name")?),
                    ("category", self.category.text("category")?),
                ] {
                    if let Some(value) = value {
                        event.properties.entry(key).or_insert(Value::String(value));
                    }
                }
            }
            EventKind::Identify => event.properties = self.traits,
            EventKind::Group => {
                event.properties = self.traits;
                if event.group_id.is_none() {
                    return Err(Rejection::missing("groupId is absent: say which group"));
                }
            }
            EventKind::Alias => {
                event.previous_id = self.previous_id.text("previousId")?;
                if event.previous_id.is_none() {
                    return Err(Rejection::missing(
                        "previousId is absent: say which id becomes userId",
                    ));
                }
                if event.user_id.is_none() {
                    return Err(Rejection::missing(
                        "userId is absent: say which id previousId becomes",
                    ));
                }
            }
            // no endpoint of the tracking API makes these
            EventKind::ItemChanged | EventKind::ItemDeleted => {
                return Err(Rejection::invalid("items are sent to /v1/items"));
            }
        }
        Ok(())
    }
}

/// Adds what `from` has and `into` has not; objects on both sides are merged.
fn merge(into: &mut Map<String, Value>, from: &Map<String, Value>) {
    for (key, value) in from {
        match (into.get_mut(key), value) {
            (None, value) => {
                into.insert(key.clone(), value.clone());
            }
            (Some(Value::Object(into)), Value::Object(from)) => merge(into, from),
            // the event knows better than its batch
            (Some(_), _) => {}
        }
    }
}
