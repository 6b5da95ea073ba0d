//! Which column goes where, as the project file says it, before a file has been seen.

use serde_json::{Map, Value};
use tidemill_core::Timestamp;
use tidemill_core::project::Source;

use super::ImportError;
use super::table::{Cells, Column};
use crate::moment;

/// Where a value goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Timestamp,
    ReceivedAt,
    MessageId,
    Name,
    UserId,
    AnonymousId,
    GroupId,
    /// One property, by the steps to it; without steps the value is an object that holds properties.
    Property(Vec<String>),
    /// As with properties.
    Context(Vec<String>),
}

impl Target {
    fn read(text: &str) -> Option<Self> {
        let steps = |path: &str| {
            let steps: Vec<String> = path.split('.').map(str::to_owned).collect();
            (!steps.iter().any(String::is_empty)).then_some(steps)
        };
        match text.split_once('.') {
            Some(("properties", path)) => steps(path).map(Self::Property),
            Some(("context", path)) => steps(path).map(Self::Context),
            Some(_) => None,
            None => match text {
                "timestamp" => Some(Self::Timestamp),
                "received_at" => Some(Self::ReceivedAt),
                "message_id" => Some(Self::MessageId),
                "name" => Some(Self::Name),
                "user_id" => Some(Self::UserId),
                "anonymous_id" => Some(Self::AnonymousId),
                "group_id" => Some(Self::GroupId),
                _ => None,
            },
        }
    }

    /// Where a column goes that nobody mapped: by its name. A file whose event is fixed keeps `name` as a property.
    fn by_column_name(name: &str, event_is_fixed: bool) -> Self {
        match name {
            "timestamp" => Self::Timestamp,
            "received_at" | "receivedAt" => Self::ReceivedAt,
            "message_id" | "messageId" => Self::MessageId,
            "event" if !event_is_fixed => Self::Name,
            "user_id" | "userId" => Self::UserId,
            "anonymous_id" | "anonymousId" => Self::AnonymousId,
            "group_id" | "groupId" => Self::GroupId,
            "properties" => Self::Property(Vec::new()),
            "context" => Self::Context(Vec::new()),
            _ => match Self::read(name) {
                Some(nested @ (Self::Property(_) | Self::Context(_))) => nested,
                _ => Self::Property(vec![name.to_owned()]),
            },
        }
    }

    /// Whether the value is a text whatever it looks like.
    pub(super) fn is_text(&self) -> bool {
        !matches!(self, Self::Property(_) | Self::Context(_))
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// A column by name; a name with dots may also be steps into a nested value.
    Column(String),
    Constant(String),
}

/// The mapping of a source.
#[derive(Debug, Clone)]
pub(super) struct Mapping {
    /// As declared; empty means: by the names of the columns.
    pub(super) fields: Vec<(Target, Origin)>,
    /// The event of rows that name none.
    pub(super) event: Option<String>,
}

impl Mapping {
    pub(super) fn of(source: &Source) -> Result<Self, ImportError> {
        let mut fields = Vec::with_capacity(source.map.len());
        for (target, from) in &source.map {
            let bad = |detail: &str| ImportError::BadMapping {
                target: target.clone(),
                detail: detail.to_owned(),
            };
            let place = Target::read(target).ok_or_else(|| {
                bad("it is not a field of an event: use timestamp, received_at, message_id, name, user_id, \
                     anonymous_id, group_id, properties.… or context.…")
            })?;
            let constant = from
                .strip_prefix('\'')
                .and_then(|rest| rest.strip_suffix('\''));
            let from = match constant {
                Some(text) => Origin::Constant(text.to_owned()),
                None if from.is_empty() => {
                    return Err(bad("name a column, or a constant in single quotes"));
                }
                None => Origin::Column(from.clone()),
            };
            fields.push((place, from));
        }
        Ok(Self {
            fields,
            event: source.event.clone(),
        })
    }

    /// The fields for a file with these columns: the declared ones, or one for each column.
    pub(super) fn fields_for(&self, columns: &[Column]) -> Vec<(Target, Origin)> {
        if !self.fields.is_empty() {
            return self.fields.clone();
        }
        let mut taken: Vec<Target> = Vec::new();
        let by_name = |column: &Column| {
            let mut target = Target::by_column_name(&column.name, self.event.is_some());
            if target.is_text() && taken.contains(&target) {
                // a second column of the same meaning (`user_id` and `userId`) stays visible as a property
                target = Target::Property(vec![column.name.clone()]);
            }
            taken.push(target.clone());
            (target, Origin::Column(column.name.clone()))
        };
        columns.iter().map(by_name).collect()
    }

    /// Whether a declared field reads that column or a part of it.
    pub(super) fn reads(&self, column: &str) -> bool {
        self.fields.iter().any(|(_, from)| match from {
            Origin::Constant(_) => false,
            Origin::Column(name) => {
                name == column
                    || name
                        .split_once('.')
                        .is_some_and(|(start, _)| start == column)
            }
        })
    }

    /// The names of the columns that say when a row was received and when it happened, by which rows are ordered: the
    /// first of them that a row has counts.
    pub(super) fn order(&self) -> Order {
        if self.fields.is_empty() {
            let column = |name: &str| Origin::Column(name.to_owned());
            return Order(vec![
                column("received_at"),
                column("receivedAt"),
                column("timestamp"),
            ]);
        }
        let of = |wanted: Target| {
            self.fields
                .iter()
                .find(|(target, _)| *target == wanted)
                .map(|(_, from)| from.clone())
        };
        Order(
            [of(Target::ReceivedAt), of(Target::Timestamp)]
                .into_iter()
                .flatten()
                .collect(),
        )
    }
}

/// What the rows of a file are ordered by: when they were received, which for history is when they happened unless the
/// source knows better.
#[derive(Debug, Clone)]
pub(super) struct Order(pub(super) Vec<Origin>);

impl Order {
    /// For each of the sources, the place of its column and the steps into its value.
    pub(super) fn places(&self, columns: &[Column]) -> Vec<OrderPlace> {
        let place = |from: &Origin| match from {
            Origin::Constant(text) => Some(OrderPlace::Constant(moment::from_text(text).ok())),
            Origin::Column(name) => {
                locate(name, columns).map(|(index, steps)| OrderPlace::Column(index, steps))
            }
        };
        self.0.iter().filter_map(place).collect()
    }

    /// The instant of a row whose values have names.
    pub(super) fn of_named(&self, row: &Map<String, Value>) -> Option<Timestamp> {
        first(self.0.iter().map(|from| match from {
            Origin::Constant(text) => Moment::of_text(text),
            Origin::Column(name) => find_named(row, name).map_or(Moment::Absent, Moment::of_value),
        }))
    }

    /// The instant of a call of the tracking API.
    pub(super) fn of_call(call: &Map<String, Value>) -> Option<Timestamp> {
        let fields = ["receivedAt", "originalTimestamp", "timestamp"];
        first(
            fields
                .into_iter()
                .map(|field| call.get(field).map_or(Moment::Absent, Moment::of_value)),
        )
    }
}

/// Where an instant stands in a row of a table.
#[derive(Debug, Clone)]
pub(super) enum OrderPlace {
    Column(usize, Vec<String>),
    Constant(Option<Timestamp>),
}

impl OrderPlace {
    /// The column that is read.
    pub(super) fn column(&self) -> Option<usize> {
        match self {
            Self::Column(index, _) => Some(*index),
            Self::Constant(_) => None,
        }
    }
}

/// The instant of a row of a table, given its values by place.
pub(super) fn order_of_table(
    places: &[OrderPlace],
    cell: impl Fn(usize, &[String]) -> Moment,
) -> Option<Timestamp> {
    first(places.iter().map(|place| match place {
        OrderPlace::Constant(time) => time.map_or(Moment::Bad, Moment::At),
        OrderPlace::Column(index, steps) => cell(*index, steps),
    }))
}

/// A value that should be an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    Absent,
    Bad,
    At(Timestamp),
}

impl Moment {
    pub(super) fn of_text(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Absent;
        }
        moment::from_text(text).map_or(Self::Bad, Self::At)
    }

    pub(super) fn of_value(value: &Value) -> Self {
        match value {
            Value::Null => Self::Absent,
            Value::String(text) => Self::of_text(text),
            Value::Number(number) => number
                .as_f64()
                .and_then(moment::from_number)
                .map_or(Self::Bad, Self::At),
            _ => Self::Bad,
        }
    }
}

/// The first instant that is there; none when that one is not readable.
fn first(moments: impl Iterator<Item = Moment>) -> Option<Timestamp> {
    for moment in moments {
        match moment {
            Moment::Absent => {}
            Moment::Bad => return None,
            Moment::At(time) => return Some(time),
        }
    }
    None
}

/// The place of a column and the steps into its value: `a.b` is a column of that name, else a part of the column `a`.
pub(super) fn locate(name: &str, columns: &[Column]) -> Option<(usize, Vec<String>)> {
    let place = |name: &str| columns.iter().position(|column| column.name == name);
    if let Some(index) = place(name) {
        return Some((index, Vec::new()));
    }
    let (start, rest) = name.split_once('.')?;
    let index = place(start)?;
    Some((index, rest.split('.').map(str::to_owned).collect()))
}

/// The same in a row whose values have names.
pub(super) fn find_named<'r>(row: &'r Map<String, Value>, name: &str) -> Option<&'r Value> {
    if let Some(value) = row.get(name) {
        return Some(value);
    }
    let (start, rest) = name.split_once('.')?;
    rest.split('.')
        .try_fold(row.get(start)?, |value, step| value.as_object()?.get(step))
}

/// A part of a value.
pub(super) fn find_steps<'v>(value: &'v Value, steps: &[String]) -> Option<&'v Value> {
    steps
        .iter()
        .try_fold(value, |value, step| value.as_object()?.get(step))
}

impl Cells {
    /// The instant by which a row is ordered.
    pub(super) fn order(&self, order: &Order, places: &[OrderPlace]) -> Option<Timestamp> {
        match self {
            Self::Table(cells) => order_of_table(places, |index, steps| {
                cells
                    .get(index)
                    .and_then(|value| find_steps(value, steps))
                    .map_or(Moment::Absent, Moment::of_value)
            }),
            Self::Named(row) => order.of_named(row),
            Self::Call(call) => Order::of_call(call),
        }
    }
}
