//! Events: one thing that happened, immutable.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::time::Timestamp;

/// What kind of call an event came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Somebody did something.
    Track,
    /// Who somebody is: joins an anonymous id to a user id and carries traits.
    Identify,
    /// A page was looked at.
    Page,
    /// A screen of an app was looked at.
    Screen,
    /// Somebody belongs to a group.
    Group,
    /// Two ids are one person: `previous_id` and `user_id`.
    Alias,
    /// An item was added or changed.
    ItemChanged,
    /// An item is gone.
    ItemDeleted,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Track,
        Self::Identify,
        Self::Page,
        Self::Screen,
        Self::Group,
        Self::Alias,
        Self::ItemChanged,
        Self::ItemDeleted,
    ];

    /// The same word as in JSON.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Track => "track",
            Self::Identify => "identify",
            Self::Page => "page",
            Self::Screen => "screen",
            Self::Group => "group",
            Self::Alias => "alias",
            Self::ItemChanged => "item_changed",
            Self::ItemDeleted => "item_deleted",
        }
    }

    /// The kind that a word names.
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// The name of events whose caller gives none. Those of the system start with `$`.
    pub const fn default_name(self) -> &'static str {
        match self {
            Self::Track => "",
            Self::Identify => "$identify",
            Self::Page => "Page Viewed",
            Self::Screen => "Screen Viewed",
            Self::Group => "$group",
            Self::Alias => "$alias",
            Self::ItemChanged => "$item_changed",
            Self::ItemDeleted => "$item_deleted",
        }
    }
}

/// One thing that happened: who, what, when, with which properties.
///
/// Its JSON form is what the log stores (format 1); fields are only ever added.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// The sender's id of this event: the same id is counted once. At most 100 characters.
    pub message_id: String,
    /// Which call it came from.
    pub kind: EventKind,
    /// What happened: `Order Completed`.
    pub name: String,
    /// Who, by the id that the product knows them by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
    /// Who, by an id made before the product knew them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anonymous_id: Option<String>,
    /// For `alias`: the id that becomes one with `user_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_id: Option<String>,
    /// For `group`: the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_id: Option<String>,
    /// When it happened, corrected for the client's clock.
    pub timestamp: Timestamp,
    /// When it was accepted; for imported history the timestamp, unless the source knows better.
    pub received_at: Timestamp,
    /// Whether it was imported rather than received as it happened.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub historical: bool,
    /// What the sender says about it; for `identify` and `group` the traits, for items the attributes.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub properties: Map<String, Value>,
    /// What the sender's library says about itself and the device.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub context: Map<String, Value>,
}

/// What can be asked of an event, whether it is in memory or a row of a table, of which only what is asked for is read.
pub trait EventView {
    /// Which call it came from.
    fn kind(&self) -> EventKind;
    /// What happened.
    fn name(&self) -> &str;
    /// Who, by the id that the product knows them by.
    fn user_id(&self) -> Option<&str>;
    /// Who, by an id made before the product knew them.
    fn anonymous_id(&self) -> Option<&str>;
    /// For `alias`: the id that becomes one with the user's.
    fn previous_id(&self) -> Option<&str>;
    /// For `group`: the group.
    fn group_id(&self) -> Option<&str>;
    /// When it happened.
    fn timestamp(&self) -> Timestamp;
    /// When it was accepted.
    fn received_at(&self) -> Timestamp;
    /// The value at a path of its properties, null included.
    fn property(&self, path: &Path) -> Option<Cow<'_, Value>>;
    /// The value at a path of its context, null included.
    fn context(&self, path: &Path) -> Option<Cow<'_, Value>>;

    /// The finite number at a [`Field`] that is written as a plain number, where that is found faster than by [`field`](Self::field).
    /// `None` says nothing: ask there.
    fn plain_number(&self, _field: &Field) -> Option<f64> {
        None
    }

    /// Who this event is about, before identities are joined: the user id where there is one.
    fn person(&self) -> Option<PersonKey> {
        match (self.user_id(), self.anonymous_id()) {
            (Some(user), _) => Some(PersonKey::user(user)),
            (None, Some(anonymous)) => Some(PersonKey::anonymous(anonymous)),
            (None, None) => None,
        }
    }

    /// The value at a [`Field`]; `None` where it is absent or null.
    fn field(&self, field: &Field) -> Option<Cow<'_, Value>> {
        let owned = |text: &str| Some(Cow::Owned(Value::from(text)));
        let value = match field {
            Field::Property(path) => self.property(path),
            Field::Context(path) => self.context(path),
            Field::Name => owned(self.name()),
            Field::UserId => self.user_id().and_then(owned),
            Field::AnonymousId => self.anonymous_id().and_then(owned),
            Field::GroupId => self.group_id().and_then(owned),
        };
        value.filter(|value| !value.is_null())
    }
}

impl<V: EventView + ?Sized> EventView for &V {
    fn kind(&self) -> EventKind {
        (**self).kind()
    }

    fn plain_number(&self, field: &Field) -> Option<f64> {
        (**self).plain_number(field)
    }

    fn name(&self) -> &str {
        (**self).name()
    }

    fn user_id(&self) -> Option<&str> {
        (**self).user_id()
    }

    fn anonymous_id(&self) -> Option<&str> {
        (**self).anonymous_id()
    }

    fn previous_id(&self) -> Option<&str> {
        (**self).previous_id()
    }

    fn group_id(&self) -> Option<&str> {
        (**self).group_id()
    }

    fn timestamp(&self) -> Timestamp {
        (**self).timestamp()
    }

    fn received_at(&self) -> Timestamp {
        (**self).received_at()
    }

    fn property(&self, path: &Path) -> Option<Cow<'_, Value>> {
        (**self).property(path)
    }

    fn context(&self, path: &Path) -> Option<Cow<'_, Value>> {
        (**self).context(path)
    }
}

impl EventView for Event {
    fn kind(&self) -> EventKind {
        self.kind
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn user_id(&self) -> Option<&str> {
        self.user_id.as_deref()
    }

    fn anonymous_id(&self) -> Option<&str> {
        self.anonymous_id.as_deref()
    }

    fn previous_id(&self) -> Option<&str> {
        self.previous_id.as_deref()
    }

    fn group_id(&self) -> Option<&str> {
        self.group_id.as_deref()
    }

    fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    fn received_at(&self) -> Timestamp {
        self.received_at
    }

    fn property(&self, path: &Path) -> Option<Cow<'_, Value>> {
        path.find(&self.properties).map(Cow::Borrowed)
    }

    fn context(&self, path: &Path) -> Option<Cow<'_, Value>> {
        path.find(&self.context).map(Cow::Borrowed)
    }
}

impl Event {
    /// Who this event is about, before identities are joined: the user id where there is one.
    pub fn person(&self) -> Option<PersonKey> {
        EventView::person(self)
    }

    /// The value at a [`Field`]; `None` where it is absent or null.
    pub fn field(&self, field: &Field) -> Option<Cow<'_, Value>> {
        EventView::field(self, field)
    }
}

/// A person's key: the namespace of the id and the id. `user:17850`, `anonymous:6f1c…`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PersonKey(String);

impl PersonKey {
    const USER: &'static str = "user:";
    const ANONYMOUS: &'static str = "anonymous:";

    /// Somebody whom the product knows.
    pub fn user(id: &str) -> Self {
        Self(format!("{}{id}", Self::USER))
    }

    /// Somebody whom it does not know yet.
    pub fn anonymous(id: &str) -> Self {
        Self(format!("{}{id}", Self::ANONYMOUS))
    }

    /// The key that [`as_str`](Self::as_str) wrote; `None` for other texts.
    pub fn written(text: &str) -> Option<Self> {
        let of = |namespace, make: fn(&str) -> Self| text.strip_prefix(namespace).map(make);
        of(Self::USER, Self::user).or_else(|| of(Self::ANONYMOUS, Self::anonymous))
    }

    /// Whether the product knows them.
    pub fn is_user(&self) -> bool {
        self.0.starts_with(Self::USER)
    }

    /// The id without its namespace.
    pub fn id(&self) -> &str {
        let namespace = if self.is_user() {
            Self::USER
        } else {
            Self::ANONYMOUS
        };
        self.0.strip_prefix(namespace).unwrap_or(&self.0)
    }

    /// The key as it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Steps into nested objects: `address.country`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Path(Vec<String>);

impl Path {
    /// The steps, at least one.
    pub fn steps(&self) -> &[String] {
        &self.0
    }

    /// The value there, if every step exists.
    pub fn find<'v>(&self, object: &'v Map<String, Value>) -> Option<&'v Value> {
        let (first, rest) = self.0.split_first()?;
        rest.iter().try_fold(object.get(first)?, |value, step| {
            value.as_object()?.get(step)
        })
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// Where a value stands in an event, as the project file writes it: `properties.total`, `context.page.path`,
/// `user_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Field {
    /// `properties.…`
    Property(Path),
    /// `context.…`
    Context(Path),
    /// `name`: what happened.
    Name,
    /// `user_id`
    UserId,
    /// `anonymous_id`
    AnonymousId,
    /// `group_id`
    GroupId,
}

/// What was wrong with a written field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a field of an event: write properties.…, context.…, name, user_id, anonymous_id or group_id"
)]
pub struct FieldError(pub String);

impl std::str::FromStr for Field {
    type Err = FieldError;
    fn from_str(text: &str) -> Result<Self, FieldError> {
        let error = || FieldError(text.to_owned());
        let path = |rest: &str| {
            let steps: Vec<String> = rest.split('.').map(str::to_owned).collect();
            if steps.iter().any(String::is_empty) {
                Err(error())
            } else {
                Ok(Path(steps))
            }
        };
        match text.split_once('.') {
            Some(("properties", rest)) => path(rest).map(Field::Property),
            Some(("context", rest)) => path(rest).map(Field::Context),
            Some(_) => Err(error()),
            None => match text {
                "name" => Ok(Field::Name),
                "user_id" => Ok(Field::UserId),
                "anonymous_id" => Ok(Field::AnonymousId),
                "group_id" => Ok(Field::GroupId),
                _ => Err(error()),
            },
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Property(path) => write!(f, "properties.{path}"),
            Self::Context(path) => write!(f, "context.{path}"),
            Self::Name => f.write_str("name"),
            Self::UserId => f.write_str("user_id"),
            Self::AnonymousId => f.write_str("anonymous_id"),
            Self::GroupId => f.write_str("group_id"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_events() {
        let event: Event = serde_json::from_value(serde_json::json!({
            "message_id": "m1", "kind": "track", "name": "Order Completed", "user_id": "u1",
            "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z",
            "properties": { "total": 12.5, "address": { "country": "DE" }, "coupon": null }
        }))
        .unwrap();
        let check = |field: &str, expected: Option<Value>| {
            let field: Field = field.parse().unwrap();
            assert_eq!(
                event.field(&field).map(Cow::into_owned),
                expected,
                "{field}"
            );
        };
        check("properties.total", Some(12.5.into()));
        check("properties.address.country", Some("DE".into()));
        check("properties.coupon", None);
        check("properties.total.cents", None);
        check("context.page", None);
        check("user_id", Some("u1".into()));
        assert!("total".parse::<Field>().is_err());
        assert!("properties.".parse::<Field>().is_err());
    }

    #[test]
    fn a_known_and_an_unknown_person_never_share_a_key() {
        assert_ne!(PersonKey::user("a"), PersonKey::anonymous("a"));
    }
}
