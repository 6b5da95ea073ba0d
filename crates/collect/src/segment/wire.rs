//! The bodies of the Segment tracking API as they are sent, before anything is judged.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::lenient::{Object, Scalar};

/// One call. Fields that are not named here (`channel`, `version`, `_metadata` …) are the sending library's own affair
/// and are not kept. A key that is there twice counts as it was written last.
#[derive(Debug, Default)]
pub(super) struct WireEvent<'a> {
    pub(super) kind: Scalar<'a>,
    pub(super) event: Scalar<'a>,
    pub(super) name: Scalar<'a>,
    pub(super) category: Scalar<'a>,
    pub(super) user_id: Scalar<'a>,
    pub(super) anonymous_id: Scalar<'a>,
    pub(super) previous_id: Scalar<'a>,
    pub(super) group_id: Scalar<'a>,
    pub(super) message_id: Scalar<'a>,
    pub(super) timestamp: Scalar<'a>,
    pub(super) original_timestamp: Scalar<'a>,
    pub(super) sent_at: Scalar<'a>,
    pub(super) received_at: Scalar<'a>,
    pub(super) properties: Object,
    pub(super) traits: Object,
    pub(super) context: Object,
    pub(super) integrations: Object,
    pub(super) write_key: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum EventKey {
    Type,
    Event,
    Name,
    Category,
    UserId,
    AnonymousId,
    PreviousId,
    GroupId,
    MessageId,
    Timestamp,
    OriginalTimestamp,
    SentAt,
    ReceivedAt,
    Properties,
    Traits,
    Context,
    Integrations,
    WriteKey,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for WireEvent<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EventVisitor(std::marker::PhantomData))
    }
}

struct EventVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for EventVisitor<'a> {
    type Value = WireEvent<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wire = WireEvent::default();
        while let Some(key) = map.next_key()? {
            match key {
                EventKey::Type => wire.kind = map.next_value()?,
                EventKey::Event => wire.event = map.next_value()?,
                EventKey::Name => wire.name = map.next_value()?,
                EventKey::Category => wire.category = map.next_value()?,
                EventKey::UserId => wire.user_id = map.next_value()?,
                EventKey::AnonymousId => wire.anonymous_id = map.next_value()?,
                EventKey::PreviousId => wire.previous_id = map.next_value()?,
                EventKey::GroupId => wire.group_id = map.next_value()?,
                EventKey::MessageId => wire.message_id = map.next_value()?,
                EventKey::Timestamp => wire.timestamp = map.next_value()?,
                EventKey::OriginalTimestamp => wire.original_timestamp = map.next_value()?,
                EventKey::SentAt => wire.sent_at = map.next_value()?,
                EventKey::ReceivedAt => wire.received_at = map.next_value()?,
                EventKey::Properties => wire.properties = map.next_value()?,
                EventKey::Traits => wire.traits = map.next_value()?,
                EventKey::Context => wire.context = map.next_value()?,
                EventKey::Integrations => wire.integrations = map.next_value()?,
                EventKey::WriteKey => wire.write_key = map.next_value()?,
                EventKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(wire)
    }
}

/// The body of a batch: its events are not read yet, only cut apart.
#[derive(Default)]
pub(super) struct WireBatch<'a> {
    pub(super) batch: Option<Pieces<'a>>,
    pub(super) context: Object,
    pub(super) integrations: Object,
    pub(super) sent_at: Scalar<'a>,
    pub(super) write_key: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum BatchKey {
    Batch,
    Context,
    Integrations,
    SentAt,
    WriteKey,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for WireBatch<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(BatchVisitor(std::marker::PhantomData))
    }
}

struct BatchVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for BatchVisitor<'a> {
    type Value = WireBatch<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wire = WireBatch::default();
        while let Some(key) = map.next_key()? {
            match key {
                BatchKey::Batch => wire.batch = Some(map.next_value()?),
                BatchKey::Context => wire.context = map.next_value()?,
                BatchKey::Integrations => wire.integrations = map.next_value()?,
                BatchKey::SentAt => wire.sent_at = map.next_value()?,
                BatchKey::WriteKey => wire.write_key = map.next_value()?,
                BatchKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(wire)
    }
}

/// The elements of a list, each as its exact text.
pub(crate) struct Pieces<'a>(pub(crate) Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Pieces<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(PiecesVisitor(std::marker::PhantomData))
    }
}

struct PiecesVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for PiecesVisitor<'a> {
    type Value = Pieces<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut pieces = Vec::new();
        while let Some(piece) = seq.next_element()? {
            pieces.push(piece);
        }
        Ok(Pieces(pieces))
    }
}

/// Only the write key of a body.
#[derive(Default)]
pub(super) struct WireKey<'a> {
    pub(super) write_key: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum OnlyKey {
    WriteKey,
    #[serde(other)]
    Other,
}

impl<'de: 'a, 'a> Deserialize<'de> for WireKey<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(KeyVisitor(std::marker::PhantomData))
    }
}

struct KeyVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for KeyVisitor<'a> {
    type Value = WireKey<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut wire = WireKey::default();
        while let Some(key) = map.next_key()? {
            match key {
                OnlyKey::WriteKey => wire.write_key = map.next_value()?,
                OnlyKey::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(wire)
    }
}
