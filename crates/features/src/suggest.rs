//! A sensible set of features from what has been seen, for projects that declare none and for people who want something to edit.
//!
//! Per kind of event that is about persons: how many, and how long ago. Per property: sums and means of numbers, the latest and most
//! frequent of categories. If items are declared: how many different ones. All over 1, 7, 30 and 90 days. The set depends on
//! nothing but what was seen, in the order of names. It grows as more is seen; a category is given up when it turns out to have too
//! many different values.

use tidemill_core::event::Field;
use tidemill_core::project::{
    Aggregate, EntityKind, FeatureDefinition, Formula, Operation, Project,
};
use tidemill_core::{FeatureType, Span};

use crate::seen::{SeenEvent, SeenEvents, SeenProperty};

/// The windows of suggested features.
pub const WINDOWS: [Span; 4] = [
    Span::from_days(1),
    Span::from_days(7),
    Span::from_days(30),
    Span::from_days(90),
];
/// The most columns that are suggested.
pub const COLUMNS_MAX: usize = 250;
/// The fewest events of a kind that make it worth a feature.
const EVENTS_MIN: u64 = 20;
/// The most properties of one kind of event that get features of each type.
const PROPERTIES_MAX: usize = 6;
/// A category with more different values than this says little by its name.
const CATEGORIES_MAX: usize = 30;

/// Makes a set of features.
pub fn suggest(seen: &SeenEvents, project: &Project) -> Vec<FeatureDefinition> {
    let mut names = Names::default();
    let mut definitions = general(project, &mut names);
    for (name, event) in &seen.events {
        // What the system writes is not what people do, and rare events teach nothing.
        if name.starts_with('$') || event.with_person < EVENTS_MIN {
            continue;
        }
        definitions.extend(of_event(name, event, project, &mut names));
    }
    let mut columns = 0;
    definitions.retain(|definition| {
        columns += width(definition);
        columns <= COLUMNS_MAX
    });
    definitions
}

/// How many columns a definition becomes.
fn width(definition: &FeatureDefinition) -> usize {
    match &definition.formula {
        Formula::Aggregate(aggregate) => aggregate.windows.len().max(1),
        Formula::Expression(_) => 1,
    }
}

/// Names that are taken.
#[derive(Default)]
struct Names(std::collections::BTreeSet<String>);

impl Names {
    /// A name made of a text, with a number behind it where it is taken.
    fn make(&mut self, text: &str) -> String {
        let mut name = String::new();
        for c in text.chars() {
            if c.is_ascii_alphanumeric() {
                name.push(c.to_ascii_lowercase());
            } else if !name.ends_with('_') && !name.is_empty() {
                name.push('_');
            }
        }
        let mut name = name.trim_end_matches('_').to_owned();
        if !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            name = format!("event_{name}");
        }
        let mut free = name.clone();
        let mut number = 2;
        while !self.0.insert(free.clone()) {
            free = format!("{name}_{number}");
            number += 1;
        }
        free
    }
}

fn definition(
    name: String,
    operation: Operation,
    events: &[String],
    value: Option<Field>,
    windows: &[Span],
) -> FeatureDefinition {
    FeatureDefinition {
        entity: EntityKind::User,
        name,
        label: None,
        formula: Formula::Aggregate(Aggregate {
            operation,
            events: events.to_vec(),
            condition: None,
            value,
            windows: windows.to_vec(),
        }),
        line: 0,
    }
}

/// Features over all events.
fn general(project: &Project, names: &mut Names) -> Vec<FeatureDefinition> {
    let mut definitions = vec![
        definition(names.make("events"), Operation::Count, &[], None, &WINDOWS),
        definition(
            names.make("since_last_event"),
            Operation::SinceLast,
            &[],
            None,
            &[],
        ),
    ];
    if let Some(items) = &project.items {
        let (distinct, top) = (names.make("different_items"), names.make("top_item"));
        definitions.push(definition(
            distinct,
            Operation::Distinct,
            &[],
            Some(items.id.clone()),
            &WINDOWS,
        ));
        definitions.push(definition(
            top,
            Operation::Top { k: 1 },
            &[],
            Some(items.id.clone()),
            &WINDOWS[2..3],
        ));
    }
    definitions
}

fn of_event(
    name: &str,
    event: &SeenEvent,
    project: &Project,
    names: &mut Names,
) -> Vec<FeatureDefinition> {
    let events = [name.to_owned()];
    let mut definitions = vec![
        definition(names.make(name), Operation::Count, &events, None, &WINDOWS),
        definition(
            names.make(&format!("since_last_{name}")),
            Operation::SinceLast,
            &events,
            None,
            &[],
        ),
    ];
    let item = project.items.as_ref().map(|items| items.id.to_string());
    let (mut numbers, mut categories) = (0, 0);
    for (property, seen) in &event.properties {
        let path = format!("properties.{property}");
        let Ok(field) = path.parse::<Field>() else {
            continue;
        };
        // A name with dots in it would be read as steps into objects, and the item has its own features.
        if property.contains('.') || item.as_deref() == Some(&path) {
            continue;
        }
        let mut add = |operation: Operation, windows: &[Span]| {
            let name = names.make(&format!("{}_{property}_{name}", operation.as_str()));
            let value = Some(field.clone());
            definitions.push(definition(name, operation, &events, value, windows));
        };
        if seen.is_number() && varies(seen) && numbers < PROPERTIES_MAX {
            numbers += 1;
            add(Operation::Sum, &WINDOWS);
            add(Operation::Mean, &WINDOWS[2..]);
        } else if seen.is_category() && is_telling(seen) && categories < PROPERTIES_MAX {
            categories += 1;
            add(Operation::Last(FeatureType::Category), &[]);
            add(Operation::Top { k: 1 }, &WINDOWS[3..]);
        }
    }
    definitions
}

fn varies(seen: &SeenProperty) -> bool {
    seen.min < seen.max
}

fn is_telling(seen: &SeenProperty) -> bool {
    // Ids differ from event to event; what tells something comes again.
    let repeats = seen.count >= 5 * seen.values.len() as u64;
    !seen.more_values && repeats && (2..=CATEGORIES_MAX).contains(&seen.values.len())
}

/// The definitions as a part of a project file, each with a comment that says what it is.
pub fn to_toml(definitions: &[FeatureDefinition]) -> String {
    definitions.iter().map(write).collect::<Vec<_>>().join("\n")
}

fn write(definition: &FeatureDefinition) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let key = |text: &str| {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            text.to_owned()
        } else {
            quoted(text)
        }
    };
    let mut lines = vec![
        format!("# {}", comment(definition)),
        format!("[[features.{}]]", key(definition.entity.as_str())),
        format!("name = {}", quoted(&definition.name)),
    ];
    if let Some(label) = &definition.label {
        lines.push(format!("label = {}", quoted(label)));
    }
    match &definition.formula {
        Formula::Expression(expression) => {
            lines.push(format!("expression = {}", quoted(&expression.text)));
        }
        Formula::Aggregate(aggregate) => {
            lines.push(format!(
                "aggregate = {}",
                quoted(aggregate.operation.as_str())
            ));
            let events: Vec<String> = aggregate.events.iter().map(|event| quoted(event)).collect();
            match events.as_slice() {
                [] => {}
                [event] => lines.push(format!("event = {event}")),
                events => lines.push(format!("event = [{}]", events.join(", "))),
            }
            if let Some(condition) = &aggregate.condition {
                lines.push(format!("where = {}", quoted(&condition.text)));
            }
            if let Some(value) = &aggregate.value {
                lines.push(format!("value = {}", quoted(&value.to_string())));
            }
            match aggregate.operation {
                Operation::Last(FeatureType::Number) => lines.push("type = \"number\"".to_owned()),
                Operation::Last(FeatureType::Category) => {
                    lines.push("type = \"category\"".to_owned());
                }
                Operation::Top { k } => lines.push(format!("k = {k}")),
                Operation::Decayed { half_life } => {
                    lines.push(format!("half_life = \"{half_life}\""));
                }
                _ => {}
            }
            if !aggregate.windows.is_empty() {
                let windows: Vec<String> = aggregate
                    .windows
                    .iter()
                    .map(|window| format!("\"{window}\""))
                    .collect();
                lines.push(format!("windows = [{}]", windows.join(", ")));
            }
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What a feature is, in words.
fn comment(definition: &FeatureDefinition) -> String {
    let aggregate = match &definition.formula {
        Formula::Expression(_) => return "made of other features".to_owned(),
        Formula::Aggregate(aggregate) => aggregate,
    };
    let events = if aggregate.events.is_empty() {
        "anything".to_owned()
    } else {
        aggregate.events.join(" or ")
    };
    let value = aggregate
        .value
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    let comment = match aggregate.operation {
        Operation::Count => format!("how often: {events}"),
        Operation::SinceLast => format!("how long ago: {events}"),
        Operation::Sum => format!("{events}: the sum of {value}"),
        Operation::Mean => format!("{events}: the mean of {value}"),
        Operation::Min => format!("{events}: the smallest {value}"),
        Operation::Max => format!("{events}: the largest {value}"),
        Operation::Last(_) => format!("{events}: the latest {value}"),
        Operation::Distinct => format!("{events}: how many different {value}"),
        Operation::Decayed { .. } => format!("{events}: lately more than long ago {value}"),
        Operation::Top { .. } => format!("{events}: the most frequent {value}"),
    };
    comment.replace(['\n', '\r'], " ").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::Event;

    use super::*;
    use crate::FeatureSet;

    const PROJECT: &str = "[project]\nname = \"shop\"\n\n[items]\nid = \"properties.product\"\n\n";

    fn seen(events: usize) -> SeenEvents {
        let mut seen = SeenEvents::default();
        for number in 0..events {
            for name in ["Order Completed", "Seite ä angesehen", "$identify"] {
                let event: Event = serde_json::from_value(json!({
                    "message_id": "m", "kind": "track", "name": name, "user_id": "u",
                    "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z",
                    "properties": {
                        "total": number, "country": if number % 2 == 0 { "DE" } else { "FR" }, "product": format!("p{number}"),
                        "order_id": format!("o{number}"), "constant": 1, "a.b": 3
                    }
                }))
                .unwrap();
                seen.add(&event);
            }
        }
        seen
    }

    #[test]
    fn suggestions_are_sensible_and_compile() {
        let project = Project::parse(PROJECT).unwrap();
        let definitions = suggest(&seen(40), &project);
        let set = FeatureSet::compile(&project, &definitions).unwrap();
        let names: Vec<&str> = set
            .columns()
            .iter()
            .map(|column| column.name.as_str())
            .collect();
        for expected in [
            "user.events_7d",
            "user.since_last_event",
            "user.different_items_30d",
            "user.order_completed_90d",
            "user.since_last_order_completed",
            "user.sum_total_order_completed_1d",
            "user.last_country_order_completed",
            "user.seite_angesehen_30d",
        ] {
            assert!(names.contains(&expected), "{expected} is not in {names:?}");
        }
        assert!(!names.iter().any(|name| name.contains("order_id")
            || name.contains("constant")
            || name.contains('$')));
    }

    #[test]
    fn the_printed_definitions_are_the_same_definitions() {
        let project = Project::parse(PROJECT).unwrap();
        let definitions = suggest(&seen(40), &project);
        let text = format!("{PROJECT}{}", to_toml(&definitions));
        let mut parsed = Project::parse(&text)
            .unwrap_or_else(|error| panic!("{error}\n{text}"))
            .features;
        parsed.iter_mut().for_each(|definition| definition.line = 0);
        assert_eq!(parsed, definitions);
    }

    #[test]
    fn the_set_only_grows() {
        let project = Project::parse(PROJECT).unwrap();
        let (few, many) = (suggest(&seen(25), &project), suggest(&seen(50), &project));
        assert!(few.iter().all(|definition| many.contains(definition)));
        assert_eq!(suggest(&seen(3), &project).len(), 4);
    }
}
