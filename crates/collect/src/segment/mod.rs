//! The Segment tracking API, from bytes to events. Pure: the same bytes at the same time give the same events.
//!
//! | call | must have | becomes |
//! |---|---|---|
//! | `track` | `event` | an event of that name with `properties` |
//! | `page`, `screen` | | `Page Viewed`, `Screen Viewed`; `name` and `category` join the `properties` |
//! | `identify` | | `$identify`; the `traits` are its properties |
//! | `group` | `groupId` | `$group`; the `traits` are its properties |
//! | `alias` | `previousId`, `userId` | `$alias` |
//! | `batch` | `batch` | its events, each with a `type`; the batch's `context`, `integrations` and `sentAt` hold for all |
//!
//! Every call says who: `userId` or `anonymousId`. Ids may be whole numbers; blank texts and `null` count as absent; an empty list
//! counts as an empty object (PHP). Non-empty `integrations` are kept as `context.integrations`; fields that are not
//! part of the API (`channel`, `version`, `_metadata` …) are not kept.
//!
//! *Time*: `timestamp = receivedAt − (sentAt − originalTimestamp)`, where `timestamp` stands in for `originalTimestamp` (server
//! libraries send it so). Without `sentAt` the time is taken as it is, without a time it is the time of arrival.
//!
//! *Duplicates*: an event without a `messageId` gets one from its content, so that a retry is recognised. If it has no
//! timestamp either, nothing distinguishes a retry from a second click: then its arrival counts into the id, and both are kept.
//!
//! *Errors*: a call that cannot be read at all is refused ([`RequestError`]). One that can be read but is not an event is
//! quarantined on its own, with its exact bytes, and the call succeeds.

mod event;
mod wire;

use std::str::FromStr;

use tidemill_core::{Event, EventKind, Project, Timestamp};
use tidemill_store::Quarantined;

pub(crate) use event::{Envelope, Shared};
pub(crate) use wire::Pieces;

use crate::lenient::{Object, Scalar};
use crate::limits::Limits;
use crate::rejection::Rejection;
use wire::{WireBatch, WireEvent, WireKey};

/// Which endpoint was called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Call {
    /// `/v1/track`: somebody did something.
    Track,
    /// `/v1/identify`: who somebody is.
    Identify,
    /// `/v1/page`: a page was looked at.
    Page,
    /// `/v1/screen`: a screen was looked at.
    Screen,
    /// `/v1/group`: somebody belongs to a group.
    Group,
    /// `/v1/alias`: two ids are one person.
    Alias,
    /// `/v1/batch`: several of these.
    Batch,
}

impl Call {
    /// Every call, with the source that its quarantined pieces name.
    const SOURCES: [(Call, &'static str); 7] = [
        (Self::Track, "http/track"),
        (Self::Identify, "http/identify"),
        (Self::Page, "http/page"),
        (Self::Screen, "http/screen"),
        (Self::Group, "http/group"),
        (Self::Alias, "http/alias"),
        (Self::Batch, "http/batch"),
    ];

    /// The source that quarantined pieces of this call name: `http/track`.
    pub fn source(self) -> &'static str {
        Self::SOURCES
            .iter()
            .find(|(call, _)| *call == self)
            .map_or("http", |(_, source)| source)
    }

    pub(crate) fn from_source(source: &str) -> Option<Self> {
        Self::SOURCES
            .iter()
            .find(|(_, known)| *known == source)
            .map(|(call, _)| *call)
    }

    /// The kind of its event; a batch's events name theirs themselves.
    pub(crate) fn kind(self) -> Option<EventKind> {
        match self {
            Self::Track => Some(EventKind::Track),
            Self::Identify => Some(EventKind::Identify),
            Self::Page => Some(EventKind::Page),
            Self::Screen => Some(EventKind::Screen),
            Self::Group => Some(EventKind::Group),
            Self::Alias => Some(EventKind::Alias),
            Self::Batch => None,
        }
    }
}

/// What was called is not an endpoint of the tracking API.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a call: use track, identify, page, screen, group, alias or batch")]
pub struct CallError(pub String);

impl FromStr for Call {
    type Err = CallError;

    /// The last part of the path: `track` or, as browsers send it, `t`.
    fn from_str(text: &str) -> Result<Self, CallError> {
        match text {
            "track" | "t" => Ok(Self::Track),
            "identify" | "i" => Ok(Self::Identify),
            "page" | "p" => Ok(Self::Page),
            "screen" | "s" => Ok(Self::Screen),
            "group" | "g" => Ok(Self::Group),
            "alias" | "a" => Ok(Self::Alias),
            "batch" | "b" => Ok(Self::Batch),
            _ => Err(CallError(text.chars().take(64).collect())),
        }
    }
}

/// What a call holds. Every piece of it is in exactly one of the two lists.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Batch {
    /// Events, in the order of the call.
    pub events: Vec<Event>,
    /// What is not an event, in the order of the call.
    pub quarantined: Vec<Quarantined>,
    /// The `writeKey` of the body, where it has one.
    pub write_key: Option<String>,
}

/// Why a whole call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is not JSON.
    #[error("the body is not readable as JSON: {detail}")]
    Unreadable {
        /// What the reader stumbled over, with line and column.
        detail: String,
    },
    /// It is JSON of another shape.
    #[error("the body is not {expected}")]
    WrongShape {
        /// What it should be.
        expected: &'static str,
    },
    /// It is too large.
    #[error("the body has {bytes} bytes, at most {bytes_max} are accepted: send smaller calls")]
    TooLarge {
        /// The size in bytes.
        bytes: usize,
        /// The limit in bytes.
        bytes_max: usize,
    },
    /// It holds too many events or items.
    #[error(
        "the batch has {count} entries, at most {count_max} are accepted: send smaller batches"
    )]
    TooMany {
        /// How many.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A batch without `batch`.
    #[error("batch is absent: send the events as a list in 'batch'")]
    BatchAbsent,
}

impl RequestError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable_body",
            Self::WrongShape { .. } => "wrong_shape",
            Self::TooLarge { .. } => "too_large",
            Self::TooMany { .. } => "too_many_events",
            Self::BatchAbsent => "batch_absent",
        }
    }

    pub(crate) fn from_json(error: &serde_json::Error, expected: &'static str) -> Self {
        if error.classify() == serde_json::error::Category::Data {
            Self::WrongShape { expected }
        } else {
            Self::Unreadable {
                detail: error.to_string(),
            }
        }
    }
}

/// Reads a call.
///
/// # Errors
/// When the call as a whole is unreadable, of the wrong shape or too large. Bad events do not fail it: they are quarantined.
pub fn parse_request(
    call: Call,
    body: &[u8],
    received_at: Timestamp,
    limits: &Limits,
    project: &Project,
) -> Result<Batch, RequestError> {
    match call {
        Call::Batch => parse_batch(body, received_at, limits, project),
        single => parse_single(single, body, received_at, limits, project),
    }
}

/// The write key in a body, without reading the rest: for callers that have to know the project first.
pub fn write_key(body: &[u8]) -> Option<String> {
    let wire: WireKey<'_> = serde_json::from_slice(body).ok()?;
    wire.write_key.text("writeKey").ok().flatten()
}

fn parse_single(
    call: Call,
    body: &[u8],
    received_at: Timestamp,
    limits: &Limits,
    project: &Project,
) -> Result<Batch, RequestError> {
    let text = body_text(body, limits.event_bytes_max)?;
    let mut wire: WireEvent<'_> =
        serde_json::from_str(text).map_err(|error| RequestError::from_json(&error, "an object"))?;
    let write_key = std::mem::take(&mut wire.write_key)
        .text("writeKey")
        .ok()
        .flatten();
    let shared = Shared::default();
    let envelope = Envelope {
        received_at,
        historical: false,
        shared: Ok(&shared),
        limits,
        project,
    };
    let mut batch = Batch {
        write_key,
        ..Batch::default()
    };
    match event::read(wire, call.kind(), 0, &envelope) {
        Ok(event) => batch.events.push(event),
        Err(rejection) => {
            batch
                .quarantined
                .push(rejection.quarantine(text, call.source(), received_at));
        }
    }
    Ok(batch)
}

fn parse_batch(
    body: &[u8],
    received_at: Timestamp,
    limits: &Limits,
    project: &Project,
) -> Result<Batch, RequestError> {
    let text = body_text(body, limits.batch_bytes_max)?;
    let wire: WireBatch<'_> = serde_json::from_str(text).map_err(|error| {
        RequestError::from_json(&error, "an object with a list of events in 'batch'")
    })?;
    let Pieces(pieces) = wire.batch.ok_or(RequestError::BatchAbsent)?;
    if pieces.len() > limits.batch_events_max {
        return Err(RequestError::TooMany {
            count: pieces.len(),
            count_max: limits.batch_events_max,
        });
    }
    let write_key = wire.write_key.text("writeKey").ok().flatten();
    let shared = shared(&wire.sent_at, wire.context, wire.integrations);
    let envelope = Envelope {
        received_at,
        historical: false,
        shared: shared.as_ref(),
        limits,
        project,
    };
    let mut batch = Batch {
        events: Vec::with_capacity(pieces.len()),
        write_key,
        ..Batch::default()
    };
    for (place, piece) in pieces.into_iter().enumerate() {
        match parse_text(piece.get(), None, place, &envelope) {
            Ok(event) => batch.events.push(event),
            Err(rejection) => {
                batch.quarantined.push(rejection.quarantine(
                    piece.get(),
                    Call::Batch.source(),
                    received_at,
                ));
            }
        }
    }
    Ok(batch)
}

fn shared(
    sent_at: &Scalar<'_>,
    context: Object,
    integrations: Object,
) -> Result<Shared, Rejection> {
    Ok(Shared {
        sent_at: sent_at.moment("the batch's sentAt")?,
        context: context.map("the batch's context")?,
        integrations: integrations.map("the batch's integrations")?,
    })
}

/// Reads one event from its exact text. Without a `kind`, its `type` says it.
pub(crate) fn parse_text(
    text: &str,
    kind: Option<EventKind>,
    place: usize,
    envelope: &Envelope<'_>,
) -> Result<Event, Rejection> {
    if text.len() > envelope.limits.event_bytes_max {
        return Err(Rejection::too_large(
            text.len(),
            envelope.limits.event_bytes_max,
        ));
    }
    let wire: WireEvent<'_> = serde_json::from_str(text).map_err(|error| unreadable(&error))?;
    event::read(wire, kind, place, envelope)
}

/// Why a text is not even an object.
pub(crate) fn unreadable(error: &serde_json::Error) -> Rejection {
    Rejection::unreadable(format!("not readable as an object: {error}"))
}

/// The text of a body that is not too large.
pub(crate) fn body_text(body: &[u8], bytes_max: usize) -> Result<&str, RequestError> {
    if body.len() > bytes_max {
        return Err(RequestError::TooLarge {
            bytes: body.len(),
            bytes_max,
        });
    }
    std::str::from_utf8(body).map_err(|error| RequestError::Unreadable {
        detail: format!("not UTF-8: {error}"),
    })
}

#[cfg(test)]
mod tests;
