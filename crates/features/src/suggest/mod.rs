//! A sensible set of features from what has been seen, for projects that declare none and for people who want something to edit.
//!
//! Per kind of event that is about persons: how many, and how long ago. Per property: sums and means of numbers, the latest and most
//! frequent of categories. If items are declared: how many different ones. All over 1, 7, 30 and 90 days. The set depends on
//! nothing but what was seen, in the order of names. It grows as more is seen; a category is given up when it turns out to have too
//! many different values.

mod text;

use tidemill_core::event::Field;
use tidemill_core::project::{
    Aggregate, EntityKind, FeatureDefinition, Formula, Operation, Project,
};
use tidemill_core::{FeatureType, Span};

use crate::seen::{SeenEvent, SeenEvents, SeenProperty};
pub use text::{to_commented_toml, to_toml};

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
        Formula::Aggregate(aggregate) => {
            aggregate.windows.len().max(1) * aggregate.operation.width()
        }
        Formula::Expression(_) | Formula::Ratio(_) => 1,
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
    fn every_choice_says_why_and_the_text_parses_again() {
        let project = Project::parse(PROJECT).unwrap();
        let mut seen = seen(40);
        let rare: Event = serde_json::from_value(json!({
            "message_id": "m", "kind": "track", "name": "Rare\nThing", "user_id": "u2",
            "timestamp": "2011-12-09T12:50:00Z", "received_at": "2011-12-09T12:50:01Z", "properties": {}
        }))
        .unwrap();
        seen.add(&rare);
        let definitions = suggest(&seen, &project);
        let commented = to_commented_toml(&definitions, &seen, &project);
        for expected in [
            "# how often: Order Completed. Seen 40 times, by 1 person, 2011-12-09 to 2011-12-09.",
            "# Order Completed: the sum of properties.total. A number in 100 % of these events, from 0 to 39.",
            "# Order Completed: the latest properties.country. 2 different values: DE (50 %), FR (50 %).",
            "# how long ago: Order Completed. ",
            "# - Rare Thing: seen 1 time about a person, 20 are needed",
            "# - properties.order_id of Order Completed: 40 different values in 40 events",
            "# - properties.constant of Order Completed: always 1",
            "# - properties.product of Order Completed: the item, which has features of its own",
        ] {
            assert!(
                commented.contains(expected),
                "{expected} is not in\n{commented}"
            );
        }
        let text = format!("{PROJECT}{commented}");
        let parsed = Project::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(parsed.features.len(), definitions.len());
        let tables = commented.lines().filter(|line| line.starts_with("[["));
        assert_eq!(tables.count(), definitions.len());
        // each has its reason right above it
        let lines: Vec<&str> = commented.lines().collect();
        let above = lines.windows(2).filter(|pair| pair[1].starts_with("[["));
        assert!(
            above
                .clone()
                .all(|pair| pair[0].starts_with("# ") && pair[0].ends_with('.'))
        );
    }

    #[test]
    fn every_operation_is_printed_as_it_is_read() {
        let guide = include_str!("../../../../docs/features.md");
        let blocks = guide.split("```toml\n").skip(1);
        let text: String = blocks
            .filter_map(|block| block.split("```").next())
            .collect();
        let project = Project::parse(&text).unwrap();
        let mut definitions = project.features.clone();
        let head = &text[..text.find("[[features").unwrap()];
        let printed = format!("{head}{}", to_toml(&definitions));
        let mut parsed = Project::parse(&printed)
            .unwrap_or_else(|error| panic!("{error}\n{printed}"))
            .features;
        let forget_lines = |definitions: &mut Vec<FeatureDefinition>| {
            for definition in definitions {
                definition.line = 0;
                match &mut definition.formula {
                    Formula::Ratio(ratio) => {
                        (ratio.numerator.line, ratio.denominator.line) = (0, 0);
                    }
                    Formula::Expression(text) => text.line = 0,
                    Formula::Aggregate(aggregate) => {
                        aggregate
                            .condition
                            .iter_mut()
                            .for_each(|text| text.line = 0);
                    }
                }
            }
        };
        forget_lines(&mut definitions);
        forget_lines(&mut parsed);
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
