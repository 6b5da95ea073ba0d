//! Suggestions as a part of a project file, with what was seen as the reason of each choice.

use tidemill_core::notation::thousands;
use tidemill_core::project::{Aggregate, FeatureDefinition, Formula, Operation, Project};
use tidemill_core::{FeatureType, Timestamp};

use super::{EVENTS_MIN, PROPERTIES_MAX, is_telling, varies};
use crate::seen::{PERSONS_EXACT_BELOW, Persons, SeenEvent, SeenEvents, SeenProperty};

/// The definitions as a part of a project file, each with a comment that says what it is.
pub fn to_toml(definitions: &[FeatureDefinition]) -> String {
    let write = |definition| write(definition, &comment(definition));
    definitions.iter().map(write).collect::<Vec<_>>().join("\n")
}

/// The definitions as a part of a project file to be edited: with the reason of each choice, and what was left out.
pub fn to_commented_toml(
    definitions: &[FeatureDefinition],
    seen: &SeenEvents,
    project: &Project,
) -> String {
    let mut parts = vec![header(definitions, seen, project)];
    parts.extend(definitions.iter().map(|definition| {
        let comment = comment(definition);
        let why = reason(definition, seen);
        write(definition, &in_one_line(&format!("{comment}. {why}.")))
    }));
    parts.join("\n")
}

fn write(definition: &FeatureDefinition, comment: &str) -> String {
    let quoted = |text: &str| toml::Value::String(text.to_owned()).to_string();
    let key = |text: &str| {
        if text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            text.to_owned()
        } else {
            quoted(text)
        }
    };
    let mut lines = vec![
        format!("# {comment}"),
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
        Formula::Ratio(ratio) => {
            lines.push("aggregate = \"ratio\"".to_owned());
            lines.push(format!("numerator = {}", quoted(&ratio.numerator.text)));
            lines.push(format!("denominator = {}", quoted(&ratio.denominator.text)));
        }
        Formula::Aggregate(Aggregate {
            operation: operation @ Operation::Attribute(_),
            value: Some(value),
            ..
        }) => {
            let value = value.to_string();
            let name = value.trim_start_matches("properties.");
            lines.push(match name.strip_prefix("attributes.") {
                Some(name) => format!("attribute = {}", quoted(name)),
                None => format!("trait = {}", quoted(name)),
            });
            lines.extend(parameters(*operation));
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
            lines.extend(parameters(aggregate.operation));
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

/// The lines that say more about an operation.
fn parameters(operation: Operation) -> Vec<String> {
    let kind = match operation {
        Operation::First(kind)
        | Operation::Last(kind)
        | Operation::Recent { kind, .. }
        | Operation::Attribute(kind) => Some(kind),
        _ => None,
    };
    let own = match operation {
        Operation::Top { k } | Operation::Recent { k, .. } => Some(format!("k = {k}")),
        Operation::Quantile { q } => Some(format!("q = {q:?}")),
        Operation::Decayed { half_life } => Some(format!("half_life = \"{half_life}\"")),
        _ => None,
    };
    let kind = kind.map(|kind| match kind {
        FeatureType::Number => "type = \"number\"".to_owned(),
        FeatureType::Category => "type = \"category\"".to_owned(),
    });
    own.into_iter().chain(kind).collect()
}

/// What a feature is, in words.
fn comment(definition: &FeatureDefinition) -> String {
    let aggregate = match &definition.formula {
        Formula::Expression(_) => return "made of other features".to_owned(),
        Formula::Ratio(ratio) => {
            let (numerator, denominator) = (&ratio.numerator.text, &ratio.denominator.text);
            return in_one_line(&format!("{numerator} for each of {denominator}"));
        }
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
        Operation::SinceFirst => format!("how long ago, the first time: {events}"),
        Operation::SinceLast => format!("how long ago: {events}"),
        Operation::Sum => format!("{events}: the sum of {value}"),
        Operation::Mean => format!("{events}: the mean of {value}"),
        Operation::Stddev => format!("{events}: the standard deviation of {value}"),
        Operation::Quantile { q } => format!("{events}: the {q}-quantile of {value}"),
        Operation::First(_) => format!("{events}: the first {value}"),
        Operation::Min => format!("{events}: the smallest {value}"),
        Operation::Max => format!("{events}: the largest {value}"),
        Operation::Last(_) => format!("{events}: the latest {value}"),
        Operation::Attribute(_) => format!("what {value} is"),
        Operation::Distinct => format!("{events}: how many different {value}"),
        Operation::Decayed { .. } => format!("{events}: lately more than long ago {value}"),
        Operation::Top { .. } => format!("{events}: the most frequent {value}"),
        Operation::Recent { k, .. } => format!("{events}: the latest {k} {value}, newest first"),
    };
    in_one_line(&comment)
}

/// A comment ends with its line, and TOML takes no control characters in it.
fn in_one_line(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    text.trim_end().to_owned()
}

/// What holds for all of them, and what was left out.
fn header(definitions: &[FeatureDefinition], seen: &SeenEvents, project: &Project) -> String {
    let columns: usize = definitions.iter().map(super::width).sum();
    let mut lines = vec![
        format!(
            "# {} definitions, which make {columns} features, suggested from what was seen: delete what says nothing,",
            definitions.len()
        ),
        "# and add what you know. While there is any [[features.…]] in the file, nothing is suggested any more.".to_owned(),
        "# Windows: 1 d is what goes on now, 7 d and 30 d are habits, 90 d is the season.".to_owned(),
    ];
    let left_out = left_out(seen, project);
    if !left_out.is_empty() {
        lines.push("# Left out:".to_owned());
        lines.extend(
            left_out
                .iter()
                .map(|text| in_one_line(&format!("# - {text}"))),
        );
    }
    lines.push(String::new());
    lines.join("\n")
}

/// Kinds of events and properties that got no features of their own, and why.
fn left_out(seen: &SeenEvents, project: &Project) -> Vec<String> {
    let item = project.items.as_ref().map(|items| items.id.to_string());
    let mut left_out = Vec::new();
    for (name, event) in &seen.events {
        if name.starts_with('$') {
            continue;
        }
        if event.with_person < EVENTS_MIN {
            let seen = times(event.with_person);
            left_out.push(format!(
                "{name}: seen {seen} about a person, {EVENTS_MIN} are needed"
            ));
            continue;
        }
        let (mut numbers, mut categories) = (0, 0);
        for (property, seen) in &event.properties {
            let path = format!("properties.{property}");
            let why = if item.as_deref() == Some(&path) {
                "the item, which has features of its own".to_owned()
            } else if property.contains('.') {
                "a dot in a name would be read as a step into an object".to_owned()
            } else if seen.is_number() && !varies(seen) {
                format!("always {}", seen.min.unwrap_or(f64::NAN))
            } else if seen.is_number() {
                numbers += 1;
                if numbers <= PROPERTIES_MAX {
                    continue;
                }
                format!("the first {PROPERTIES_MAX} numbers of an event are taken")
            } else if !seen.is_category() {
                "sometimes a number, sometimes a text, or neither".to_owned()
            } else if seen.more_values {
                format!(
                    "more than {} different values, like an id",
                    crate::seen::VALUES_MAX
                )
            } else if let (1, Some(only)) = (seen.values.len(), seen.values.keys().next()) {
                format!("always {only}")
            } else if !is_telling(seen) {
                format!(
                    "{} different values in {} events",
                    seen.values.len(),
                    thousands(seen.count)
                )
            } else {
                categories += 1;
                if categories <= PROPERTIES_MAX {
                    continue;
                }
                format!("the first {PROPERTIES_MAX} categories of an event are taken")
            };
            left_out.push(format!("{path} of {name}: {why}"));
        }
    }
    left_out
}

/// Why a feature was chosen, from what was seen.
fn reason(definition: &FeatureDefinition, seen: &SeenEvents) -> String {
    let Formula::Aggregate(aggregate) = &definition.formula else {
        return "Computed anew at every moment".to_owned();
    };
    let [name] = aggregate.events.as_slice() else {
        return general_reason(aggregate.operation, seen);
    };
    let Some(event) = seen.events.get(name) else {
        return "Not seen yet".to_owned();
    };
    let property = aggregate.value.as_ref().and_then(|value| {
        let value = value.to_string();
        event.properties.get(value.strip_prefix("properties.")?)
    });
    match (aggregate.operation, property) {
        (Operation::SinceLast, _) => {
            "How recently somebody did something mostly says most about what comes next".to_owned()
        }
        (_, Some(property)) if property.is_number() => {
            let share = percent(property.numbers, event.count);
            let (min, max) = (
                property.min.unwrap_or(f64::NAN),
                property.max.unwrap_or(f64::NAN),
            );
            format!("A number in {share} of these events, from {min} to {max}")
        }
        (_, Some(property)) => categories(property),
        (_, None) => format!(
            "Seen {}{}, {} to {}",
            times(event.count),
            by_persons(event),
            date(event.first),
            date(event.last)
        ),
    }
}

fn general_reason(operation: Operation, seen: &SeenEvents) -> String {
    let kinds = seen
        .events
        .iter()
        .filter(|(name, _)| !name.starts_with('$'));
    let (count, kinds) = kinds.fold((0, 0), |(count, kinds), (_, event)| {
        (count + event.count, kinds + 1)
    });
    match operation {
        Operation::SinceLast => "Who has been away for long comes back less often".to_owned(),
        Operation::Distinct => "How wide somebody's interest is".to_owned(),
        Operation::Top { .. } => "What somebody cares about most".to_owned(),
        _ => format!("{} of {kinds} kinds were seen", times(count)),
    }
}

fn by_persons(event: &SeenEvent) -> String {
    match event.persons.as_ref().map(Persons::count) {
        None => String::new(),
        Some(1) => ", by 1 person".to_owned(),
        Some(persons) => format!(", by {}{} persons", about(persons), thousands(persons)),
    }
}

/// Beyond that many persons their number is an estimate.
fn about(persons: u64) -> &'static str {
    if persons as usize >= PERSONS_EXACT_BELOW {
        "about "
    } else {
        ""
    }
}

/// The most frequent values, with their shares.
fn categories(property: &SeenProperty) -> String {
    const SHOWN: usize = 3;
    const CHARACTERS_MAX: usize = 20;
    let mut values: Vec<(&String, &u64)> = property.values.iter().collect();
    values.sort_by(|a, b| b.1.cmp(a.1).then_with(|| a.0.cmp(b.0)));
    let all: u64 = property.values.values().sum();
    let shown: Vec<String> = values
        .iter()
        .take(SHOWN)
        .map(|(value, count)| {
            let value: String = value.chars().take(CHARACTERS_MAX).collect();
            format!("{value} ({})", percent(**count, all))
        })
        .collect();
    let more = if values.len() > SHOWN { " …" } else { "" };
    format!(
        "{} different values: {}{more}",
        values.len(),
        shown.join(", ")
    )
}

fn percent(part: u64, all: u64) -> String {
    format!("{} %", part * 100 / all.max(1))
}

fn times(count: u64) -> String {
    match count {
        1 => "1 time".to_owned(),
        count => format!("{} times", thousands(count)),
    }
}

fn date(time: Timestamp) -> String {
    time.to_string().chars().take(10).collect()
}
