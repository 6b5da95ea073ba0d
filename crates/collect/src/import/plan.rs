//! From the row of one file to an event: the mapping, resolved against the file's columns.

use std::path::Path;

use serde_json::{Map, Value};
use tidemill_core::project::did_you_mean;
use tidemill_core::{Event, EventKind, Project, Timestamp};

use super::ImportError;
use super::cell;
use super::mapping::{self, Mapping, Order, OrderPlace, Origin, Target};
use super::table::{CellType, Cells, Column, Row};
use crate::limits::Limits;
use crate::moment;
use crate::rejection::Rejection;
use crate::segment::{self, Envelope, Shared};
use crate::validate;

/// How the rows of one file become events.
#[derive(Debug)]
pub(super) struct Plan {
    fields: Vec<PlannedField>,
    /// How the event's name comes about; apart, because the name decides which declarations hold for the rest.
    name: Option<PlannedOrigin>,
    event: Option<String>,
    order: Order,
    order_places: Vec<OrderPlace>,
    /// The columns, with the types in which their values are to be read.
    pub(super) columns: Vec<Column>,
    /// Whether the project file says which column goes where. Without it, JSON lines may be calls of the tracking API.
    pub(super) mapped: bool,
    /// The steps to the property that names the item.
    item_property: Option<Vec<String>>,
    /// Columns that go nowhere.
    pub(super) ignored: Vec<String>,
}

#[derive(Debug)]
struct PlannedField {
    target: Target,
    from: PlannedOrigin,
}

#[derive(Debug)]
enum PlannedOrigin {
    Constant(String),
    Column {
        name: String,
        index: usize,
        steps: Vec<String>,
    },
}

/// What every row is read with.
pub(super) struct Reading<'r> {
    pub(super) project: &'r Project,
    pub(super) limits: &'r Limits,
    /// The present: nothing may be stamped more than a day after it.
    pub(super) now: Timestamp,
}

impl Plan {
    /// Resolves a mapping against the columns of a file.
    pub(super) fn new(
        mapping: &Mapping,
        mut columns: Vec<Column>,
        calls: bool,
        project: &Project,
        path: &Path,
    ) -> Result<Self, ImportError> {
        let mut fields = Vec::new();
        let mut name = None;
        for (target, from) in mapping.fields_for(&columns) {
            let from = resolve(from, &target, &columns, path)?;
            if target == Target::Name {
                name = Some(from);
            } else {
                fields.push(PlannedField { target, from });
            }
        }
        let mapped = !mapping.fields.is_empty();
        let ignored = ignored(&fields, name.as_ref(), &columns);
        fix_types(
            &mut columns,
            &fields,
            name.as_ref(),
            mapping.event.as_deref(),
            project,
        );
        fields.retain(|field| {
            field
                .from
                .index()
                .is_none_or(|index| columns[index].cell_type != CellType::Unsupported)
        });
        let order = mapping.order();
        let order_places = order.places(&columns);
        let plan = Self {
            fields,
            name,
            event: mapping.event.clone(),
            order,
            order_places,
            columns,
            mapped,
            item_property: item_property(project),
            ignored,
        };
        // lines that are calls bring their own fields
        if !calls {
            plan.check_required(path)?;
        }
        Ok(plan)
    }

    fn check_required(&self, path: &Path) -> Result<(), ImportError> {
        let has = |wanted: &[Target]| {
            self.fields
                .iter()
                .any(|field| wanted.contains(&field.target))
        };
        let nothing = |target, remedy| {
            let columns = self
                .columns
                .iter()
                .map(|column| column.name.clone())
                .collect();
            Err(ImportError::NothingFor {
                path: path.to_owned(),
                target,
                remedy,
                columns,
            })
        };
        if !has(&[Target::Timestamp]) {
            return nothing(
                "timestamp",
                "map the column that says when, like map = { timestamp = \"date\" }",
            );
        }
        if !has(&[Target::UserId, Target::AnonymousId]) {
            return nothing(
                "user_id",
                "map the column that says who, like map = { user_id = \"customer\" }",
            );
        }
        if self.name.is_none() && self.event.is_none() {
            return nothing(
                "name",
                "name the event, like event = \"Order Completed\", or map the column that does",
            );
        }
        Ok(())
    }

    /// The instant by which a row is ordered; `None` where it is not readable.
    pub(super) fn order_of(&self, row: &Row) -> Option<Timestamp> {
        row.cells
            .as_ref()
            .ok()?
            .order(&self.order, &self.order_places)
    }

    /// Reads a row. The event has no message id unless the row names one.
    pub(super) fn read(
        &self,
        cells: Cells,
        text: &str,
        order: Option<Timestamp>,
        reading: &Reading<'_>,
    ) -> Result<Event, Rejection> {
        if text.len() > reading.limits.event_bytes_max {
            return Err(Rejection::too_large(
                text.len(),
                reading.limits.event_bytes_max,
            ));
        }
        if let Cells::Call(_) = cells {
            return read_call(text, reading);
        }
        let mut event = self.blank_event(&cells)?;
        let rules = reading.project.events.get(&event.name);
        for field in &self.fields {
            let value = field.from.value(&cells);
            if value.is_null() {
                continue;
            }
            match &field.target {
                Target::Timestamp => event.timestamp = time(&value, field)?,
                // already in the order, by which it is set below
                Target::ReceivedAt => drop(time(&value, field)?),
                Target::MessageId => event.message_id = id(value, field)?.unwrap_or_default(),
                Target::UserId => event.user_id = id(value, field)?,
                Target::AnonymousId => event.anonymous_id = id(value, field)?,
                Target::GroupId => event.group_id = id(value, field)?,
                Target::Name => {}
                Target::Property(steps) => {
                    let rule = match steps.as_slice() {
                        [name] => rules.and_then(|rules| rules.get(name)),
                        _ => None,
                    };
                    let value = match rule {
                        Some(rule) => cell::as_declared(value, rule),
                        None if self.item_property.as_ref() == Some(steps) => cell::as_text(value),
                        None => value,
                    };
                    insert(&mut event.properties, steps, value, "properties")?;
                }
                Target::Context(steps) => insert(&mut event.context, steps, value, "context")?,
            }
        }
        if event.timestamp == super::table::BEFORE_ALL {
            return Err(Rejection::missing("timestamp is empty: history needs one"));
        }
        event.received_at = order.unwrap_or(event.timestamp);
        validate::validate(&event, reading.now, reading.limits, reading.project)?;
        Ok(event)
    }

    fn blank_event(&self, cells: &Cells) -> Result<Event, Rejection> {
        let named = match &self.name {
            Some(from) => cell::id(from.value(cells)).map_err(|value| {
                Rejection::invalid(format!("the event's name is {value}: it must be a text"))
            })?,
            None => None,
        };
        let name = named.or_else(|| self.event.clone()).ok_or_else(|| {
            Rejection::missing(
                "the event's name is empty: fill the column, or set event on the source",
            )
        })?;
        Ok(Event {
            message_id: String::new(),
            kind: EventKind::Track,
            name,
            user_id: None,
            anonymous_id: None,
            previous_id: None,
            group_id: None,
            timestamp: super::table::BEFORE_ALL,
            received_at: Timestamp::EPOCH,
            historical: true,
            properties: Map::new(),
            context: Map::new(),
        })
    }
}

/// An id; whole numbers that went through a float lose their point.
fn id(value: Value, field: &PlannedField) -> Result<Option<String>, Rejection> {
    cell::id(value).map_err(|_| {
        Rejection::invalid(format!(
            "column '{}' is not an id: it must be a text or a number",
            field.from.name()
        ))
    })
}

impl PlannedOrigin {
    fn index(&self) -> Option<usize> {
        match self {
            Self::Constant(_) => None,
            Self::Column { index, .. } => Some(*index),
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Constant(text) => text,
            Self::Column { name, .. } => name,
        }
    }

    fn value(&self, cells: &Cells) -> Value {
        let found = match (self, cells) {
            (Self::Constant(text), _) => return Value::String(text.clone()),
            (Self::Column { index, steps, .. }, Cells::Table(cells)) => cells
                .get(*index)
                .and_then(|value| mapping::find_steps(value, steps)),
            (Self::Column { name, .. }, Cells::Named(row) | Cells::Call(row)) => {
                mapping::find_named(row, name)
            }
        };
        found.cloned().unwrap_or(Value::Null)
    }
}

fn resolve(
    from: Origin,
    target: &Target,
    columns: &[Column],
    path: &Path,
) -> Result<PlannedOrigin, ImportError> {
    let name = match from {
        Origin::Constant(text) => return Ok(PlannedOrigin::Constant(text)),
        Origin::Column(name) => name,
    };
    match mapping::locate(&name, columns) {
        Some((index, steps)) => Ok(PlannedOrigin::Column { name, index, steps }),
        None => Err(ImportError::UnknownColumn {
            path: path.to_owned(),
            target: target_text(target),
            hint: did_you_mean(&name, columns.iter().map(|column| column.name.as_str()))
                .map_or_else(String::new, |hint| format!(", {hint}")),
            columns: columns.iter().map(|column| column.name.clone()).collect(),
            column: name,
        }),
    }
}

fn target_text(target: &Target) -> String {
    match target {
        Target::Timestamp => "timestamp".to_owned(),
        Target::ReceivedAt => "received_at".to_owned(),
        Target::MessageId => "message_id".to_owned(),
        Target::Name => "name".to_owned(),
        Target::UserId => "user_id".to_owned(),
        Target::AnonymousId => "anonymous_id".to_owned(),
        Target::GroupId => "group_id".to_owned(),
        Target::Property(steps) => format!("properties.{}", steps.join(".")),
        Target::Context(steps) => format!("context.{}", steps.join(".")),
    }
}

/// Columns that no field reads, or whose values an event cannot hold.
fn ignored(
    fields: &[PlannedField],
    name: Option<&PlannedOrigin>,
    columns: &[Column],
) -> Vec<String> {
    let used = |index: usize| {
        let reads = |from: &PlannedOrigin| from.index() == Some(index);
        fields.iter().any(|field| reads(&field.from)) || name.is_some_and(reads)
    };
    let ignored = |(index, column): &(usize, &Column)| {
        !used(*index) || column.cell_type == CellType::Unsupported
    };
    columns
        .iter()
        .enumerate()
        .filter(ignored)
        .map(|(_, column)| column.name.clone())
        .collect()
}

/// Columns of a text file that are ids, names or times, or that are declared as texts, are read as texts whatever their values
/// look like.
fn fix_types(
    columns: &mut [Column],
    fields: &[PlannedField],
    name: Option<&PlannedOrigin>,
    event: Option<&str>,
    project: &Project,
) {
    let item_property = item_property(project);
    let declared_text = |property: &str| {
        let of_this_event = |declared: &str| name.is_some() || event == Some(declared);
        project
            .events
            .iter()
            .filter(|(declared, _)| of_this_event(declared))
            .any(|(_, rules)| {
                rules.get(property).is_some_and(|rule| {
                    use tidemill_core::project::PropertyType::{String, Text, Timestamp};
                    matches!(rule.property_type, String | Text | Timestamp)
                })
            })
    };
    let mut fix = |from: &PlannedOrigin, id: bool| {
        let Some(column) = from.index().and_then(|index| columns.get_mut(index)) else {
            return;
        };
        match column.cell_type {
            // an id that went through a float is recognised when it is read
            CellType::PointZero if id => {}
            CellType::Number | CellType::Bool | CellType::PointZero => {
                column.cell_type = CellType::Text;
            }
            CellType::Text | CellType::Typed | CellType::Unsupported => {}
        }
    };
    for field in fields {
        match &field.target {
            Target::UserId | Target::AnonymousId | Target::GroupId => fix(&field.from, true),
            Target::Property(steps) if item_property.as_ref() == Some(steps) => {
                fix(&field.from, true);
            }
            Target::Property(steps) => {
                if let [property] = steps.as_slice()
                    && declared_text(property)
                {
                    fix(&field.from, false);
                }
            }
            Target::Context(_) => {}
            Target::Timestamp | Target::ReceivedAt | Target::MessageId | Target::Name => {
                fix(&field.from, false);
            }
        }
    }
    if let Some(name) = name {
        fix(name, false);
    }
}

/// The steps to the property that names the item, if a property does.
fn item_property(project: &Project) -> Option<Vec<String>> {
    let field = project.items.as_ref()?.id.to_string();
    Some(
        field
            .strip_prefix("properties.")?
            .split('.')
            .map(str::to_owned)
            .collect(),
    )
}

fn time(value: &Value, field: &PlannedField) -> Result<Timestamp, Rejection> {
    let time = match value {
        Value::String(text) => moment::from_text(text).ok(),
        Value::Number(number) => number.as_f64().and_then(moment::from_number),
        _ => None,
    };
    time.ok_or_else(|| {
        let written: String = value.to_string().chars().take(64).collect();
        let column = field.from.name();
        Rejection::time(format!(
            "column '{column}' holds {written}, which is not a time: write it like 2011-12-09 12:50"
        ))
    })
}

/// Puts a value at the end of some steps; without steps, its members into the object itself.
fn insert(
    object: &mut Map<String, Value>,
    steps: &[String],
    value: Value,
    what: &str,
) -> Result<(), Rejection> {
    let Some((last, before)) = steps.split_last() else {
        let Value::Object(members) = value else {
            return Err(Rejection::invalid(format!(
                "column '{what}' is not an object"
            )));
        };
        for (name, value) in members {
            object.entry(name).or_insert(value);
        }
        return Ok(());
    };
    let mut place = object;
    for step in before {
        let inner = place
            .entry(step.clone())
            .or_insert_with(|| Value::Object(Map::new()));
        let Value::Object(inner) = inner else {
            return Err(Rejection::invalid(format!(
                "{what}.{} is both a value and an object",
                steps.join(".")
            )));
        };
        place = inner;
    }
    place.insert(last.clone(), value);
    Ok(())
}

fn read_call(text: &str, reading: &Reading<'_>) -> Result<Event, Rejection> {
    let shared = Shared::default();
    let envelope = Envelope {
        received_at: reading.now,
        historical: true,
        shared: Ok(&shared),
        limits: reading.limits,
        project: reading.project,
    };
    segment::parse_text(text, None, 0, &envelope)
}
