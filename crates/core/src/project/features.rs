//! Reads `[[features.…]]`: whose features, and how they come about.

use std::collections::BTreeMap;

use super::operation::{Operation, ValueUse};
use super::problem::did_you_mean;
use super::reader::{Entry, Table};
use super::{
    Aggregate, EntityKind, FeatureDefinition, Formula, ItemDeclaration, ProjectLimits,
    PropertyRule, Ratio,
};
use crate::event::{EventKind, Field};
use crate::feature::FeatureType;
use crate::time::Span;

type EventRules = BTreeMap<String, BTreeMap<String, PropertyRule>>;

/// What the project file declares: it says of which type a value is.
#[derive(Clone, Copy)]
pub(super) struct Declared<'d> {
    pub(super) events: &'d EventRules,
    pub(super) items: Option<&'d ItemDeclaration>,
}

pub(super) fn read_features(
    entry: &Entry<'_, '_>,
    declared: Declared<'_>,
) -> Vec<FeatureDefinition> {
    let Some(table) = entry.table() else {
        return Vec::new();
    };
    let mut features = Vec::new();
    for (name, entry) in table.entries() {
        let entity = EntityKind::named(&name);
        if !entry.is_array() {
            entry.problem(
                "expected a list of features",
                Some(format!("write [[features.{}]]", in_header(&entity))),
            );
            continue;
        }
        for entry in entry.array().unwrap_or_default() {
            features.extend(
                entry
                    .table()
                    .and_then(|table| read_feature(table, entity.clone(), declared)),
            );
        }
    }
    features.sort_by_key(|feature| feature.line);
    features
}

/// The word as a key of TOML.
fn in_header(entity: &EntityKind) -> String {
    let word = entity.as_str();
    let is_bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if word.chars().all(is_bare) {
        word.to_owned()
    } else {
        format!("{word:?}")
    }
}

fn read_feature(
    mut table: Table<'_, '_>,
    entity: EntityKind,
    declared: Declared<'_>,
) -> Option<FeatureDefinition> {
    let line = table.line;
    let name = table.require("name", "\"orders\"").and_then(|entry| {
        let name = entry.string()?;
        let good = !name.is_empty()
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !good {
            let hint =
                Some("lower-case letters, digits and '_', starting with a letter".to_owned());
            entry.problem(format!("'{name}' is not a name of a feature"), hint);
        }
        good.then_some(name)
    });
    let label = table.get("label").and_then(|entry| entry.string());
    let formula = read_formula(&mut table, &entity, declared);
    table.finish();
    Some(FeatureDefinition {
        entity,
        name: name?,
        label,
        formula: formula?,
        line,
    })
}

fn read_formula(
    table: &mut Table<'_, '_>,
    entity: &EntityKind,
    declared: Declared<'_>,
) -> Option<Formula> {
    if let Some(entry) = table.get("expression") {
        return entry.located().map(Formula::Expression);
    }
    for word in ["attribute", "trait"] {
        if let Some(entry) = table.get(word) {
            let attribute = read_attribute(table, &entry, word, entity, declared);
            return attribute.map(Formula::Aggregate);
        }
    }
    if *entity == EntityKind::Request {
        let hint = Some("for example expression = \"user.spent_30d / 30\"".to_owned());
        table.problem(
            "features of a request are made of others: 'expression' is missing",
            hint,
        );
        return None;
    }
    let aggregate = table.require("aggregate", "\"count\"");
    let word = aggregate.as_ref().and_then(Entry::string);
    if word.as_deref() == Some("ratio") {
        return read_ratio(table).map(Formula::Ratio);
    }
    let aggregate = read_aggregate(
        table,
        aggregate.as_ref().zip(word.as_deref()),
        declared.events,
    )?;
    if *entity == EntityKind::Session && !aggregate.windows.is_empty() {
        let hint = Some("a session is a window already: leave them out".to_owned());
        table.problem("features of a session have no windows", hint);
        return None;
    }
    Some(Formula::Aggregate(aggregate))
}

/// `attribute = "price"` of items, `trait = "plan"` of persons: what it is since it was last changed.
fn read_attribute(
    table: &mut Table<'_, '_>,
    entry: &Entry<'_, '_>,
    word: &str,
    entity: &EntityKind,
    declared: Declared<'_>,
) -> Option<Aggregate> {
    let name = entry.string()?;
    let (changes, inside) = match (word, entity) {
        ("attribute", EntityKind::Item) => (
            vec![EventKind::ItemChanged, EventKind::ItemDeleted],
            "attributes.",
        ),
        ("trait", EntityKind::User) => (vec![EventKind::Identify], ""),
        _ => {
            let hint = match word {
                "attribute" => "items have attributes: [[features.item]]",
                _ => "persons have traits: [[features.user]]",
            };
            entry.problem(
                format!("{} has no {word}s", entity.as_str()),
                Some(hint.to_owned()),
            );
            return None;
        }
    };
    let Ok(value) = format!("properties.{inside}{name}").parse::<Field>() else {
        entry.problem(format!("'{name}' is not a name of a {word}"), None);
        return None;
    };
    for key in ["event", "where", "value", "windows"] {
        if let Some(entry) = table.get(key) {
            let hint = "what it is does not depend on it".to_owned();
            entry.problem(format!("a feature of a {word} takes no {key}"), Some(hint));
        }
    }
    let events: Vec<String> = changes
        .into_iter()
        .map(|kind| kind.default_name().to_owned())
        .collect();
    let of_items = declared
        .items
        .filter(|_| word == "attribute")
        .and_then(|items| items.attributes.get(&name));
    let kind = match of_items {
        Some(rule) if table.get("type").is_none() => rule.property_type.feature_type(),
        _ => read_type(word, table, &events, Some(&value), declared.events)?,
    };
    Some(Aggregate {
        operation: Operation::Attribute(kind),
        events,
        condition: None,
        value: Some(value),
        windows: Vec::new(),
    })
}

/// `numerator = "spent"`, `denominator = "orders"`: the names of two aggregates.
fn read_ratio(table: &mut Table<'_, '_>) -> Option<Ratio> {
    let numerator = table.require("numerator", "\"spent\"");
    let denominator = table.require("denominator", "\"orders\"");
    for key in ["event", "where", "value", "windows"] {
        if let Some(entry) = table.get(key) {
            let hint = "it has those of its numerator and denominator".to_owned();
            entry.problem(format!("'ratio' takes no {key}"), Some(hint));
        }
    }
    Some(Ratio {
        numerator: numerator?.located()?,
        denominator: denominator?.located()?,
    })
}

fn read_aggregate(
    table: &mut Table<'_, '_>,
    word: Option<(&Entry<'_, '_>, &str)>,
    rules: &EventRules,
) -> Option<Aggregate> {
    let events = table
        .get("event")
        .and_then(|entry| entry.strings())
        .unwrap_or_default();
    let events: Vec<String> = events
        .iter()
        .filter_map(Entry::string)
        .filter(|name| name != "*")
        .collect();
    let condition = table.get("where").and_then(|entry| entry.located());
    let value: Option<Field> = table.get("value").and_then(|entry| entry.parsed());
    let windows = table
        .get("windows")
        .and_then(|entry| entry.array())
        .unwrap_or_default();
    let mut windows: Vec<Span> = windows.iter().filter_map(Entry::span).collect();
    windows.sort();
    windows.dedup();
    let (entry, word) = word?;
    let kind = |table: &mut Table<'_, '_>| read_type(word, table, &events, value.as_ref(), rules);
    let operation = read_operation(entry, word, table, kind)?;
    let problem = match (operation.value_use(), &value) {
        (ValueUse::Required, None) => {
            let hint = Some("for example value = \"properties.total\"".to_owned());
            Some((format!("'{word}' needs a value"), hint))
        }
        (ValueUse::Never, Some(_)) => Some((format!("'{word}' takes no value"), None)),
        _ if matches!(operation, Operation::Decayed { .. }) && !windows.is_empty() => {
            let hint = Some("its half_life says how far it looks back".to_owned());
            Some(("'decayed' takes no windows".to_owned(), hint))
        }
        _ => None,
    };
    if let Some((message, hint)) = problem {
        table.problem(message, hint);
        return None;
    }
    Some(Aggregate {
        operation,
        events,
        condition,
        value,
        windows,
    })
}

/// The operation of that name with its parameters; `kind` finds the type of its value where that decides.
fn read_operation<'s, 't>(
    entry: &Entry<'_, '_>,
    word: &str,
    table: &mut Table<'s, 't>,
    kind: impl Fn(&mut Table<'s, 't>) -> Option<FeatureType>,
) -> Option<Operation> {
    Some(match word {
        "count" => Operation::Count,
        "sum" => Operation::Sum,
        "mean" => Operation::Mean,
        "stddev" => Operation::Stddev,
        "min" => Operation::Min,
        "max" => Operation::Max,
        "quantile" => Operation::Quantile { q: read_q(table)? },
        "first" => Operation::First(kind(table)?),
        "last" => Operation::Last(kind(table)?),
        "since_first" => Operation::SinceFirst,
        "since_last" => Operation::SinceLast,
        "distinct" => Operation::Distinct,
        "decayed" => {
            let half_life = table
                .require("half_life", "\"30d\"")
                .and_then(|entry| entry.span())?;
            Operation::Decayed { half_life }
        }
        "top" => Operation::Top {
            k: match table.get("k") {
                Some(entry) => read_k(&entry, ProjectLimits::TOP_MAX)?,
                None => 1,
            },
        },
        "recent" => {
            let k = table.require("k", "10");
            let kind = kind(table);
            Operation::Recent {
                k: read_k(&k?, ProjectLimits::RECENT_MAX)?,
                kind: kind?,
            }
        }
        other => {
            let hint = Operation::known_elsewhere(other)
                .map(str::to_owned)
                .or_else(|| did_you_mean(other, Operation::NAMES))
                .or_else(|| Some(format!("one of {}", Operation::NAMES.join(", "))));
            entry.problem(format!("'{other}' is not an aggregate"), hint);
            return None;
        }
    })
}

fn read_k(entry: &Entry<'_, '_>, max: i64) -> Option<usize> {
    let k = entry.integer_within(1, max)?;
    usize::try_from(k).ok()
}

/// The share below a quantile; without one it is the median.
fn read_q(table: &mut Table<'_, '_>) -> Option<f64> {
    let Some(entry) = table.get("q") else {
        return Some(0.5);
    };
    let q = entry.number()?;
    if q > 0.0 && q < 1.0 {
        return Some(q);
    }
    let hint = match q {
        0.0 => "use 'min' for the smallest".to_owned(),
        1.0 => "use 'max' for the largest".to_owned(),
        q if q > 1.0 && q < 100.0 => format!("write q = {} for {q} percent", q / 100.0),
        _ => "q = 0.5 is the median".to_owned(),
    };
    entry.problem(format!("{q} is not between 0 and 1"), Some(hint));
    None
}

/// Values have the type of their property: as said by `type`, else as declared for the event.
fn read_type(
    word: &str,
    table: &mut Table<'_, '_>,
    events: &[String],
    value: Option<&Field>,
    rules: &EventRules,
) -> Option<FeatureType> {
    if let Some(entry) = table.get("type") {
        return match entry.string()?.as_str() {
            "number" => Some(FeatureType::Number),
            "category" => Some(FeatureType::Category),
            other => {
                entry.problem(
                    format!("'{other}' is not a type of feature"),
                    Some("number or category".to_owned()),
                );
                None
            }
        };
    }
    let declared = events.iter().find_map(|event| {
        let Some(Field::Property(path)) = value else {
            return None;
        };
        rules.get(event)?.get(&path.to_string())
    });
    match (declared, value) {
        (Some(rule), _) => Some(rule.property_type.feature_type()),
        (None, Some(Field::Property(_) | Field::Context(_))) => {
            table.problem(
                format!("the type of '{word}' is not known"),
                Some("add type = \"number\" or type = \"category\", or declare the property under [events]".to_owned()),
            );
            None
        }
        // without a value, that is the problem, and the caller says so
        (None, Some(_) | None) => Some(FeatureType::Category),
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::project::Project;

    const HEAD: &str = "[project]\nname = \"shop\"\n[events.Buy]\nproperties = { total = \"float\", tool = \"string\" }\n";

    fn read(feature: &str) -> Result<Formula, String> {
        let text = format!("{HEAD}[[features.user]]\nname = \"f\"\n{feature}");
        let project = Project::parse(&text).map_err(|error| error.to_string())?;
        Ok(project.features[0].formula.clone())
    }

    fn operation(feature: &str) -> Operation {
        match read(&format!("event = \"Buy\"\n{feature}")) {
            Ok(Formula::Aggregate(aggregate)) => aggregate.operation,
            other => panic!("{feature}: {other:?}"),
        }
    }

    fn check(feature: &str, expected: Expect) {
        expected.assert_eq(&read(feature).unwrap_err());
    }

    #[test]
    fn operations_have_parameters() {
        let total = "value = \"properties.total\"\n";
        let tool = "value = \"properties.tool\"\n";
        for (text, expected) in [
            ("aggregate = \"stddev\"\n", Operation::Stddev),
            ("aggregate = \"quantile\"\n", Operation::Quantile { q: 0.5 }),
            (
                "aggregate = \"quantile\"\nq = 0.9\n",
                Operation::Quantile { q: 0.9 },
            ),
            (
                "aggregate = \"first\"\n",
                Operation::First(FeatureType::Number),
            ),
            (
                "aggregate = \"recent\"\nk = 20\n",
                Operation::Recent {
                    k: 20,
                    kind: FeatureType::Number,
                },
            ),
        ] {
            assert_eq!(operation(&format!("{text}{total}")), expected);
        }
        let recent = Operation::Recent {
            k: 3,
            kind: FeatureType::Category,
        };
        assert_eq!(
            operation(&format!("aggregate = \"recent\"\nk = 3\n{tool}")),
            recent
        );
        assert_eq!(
            operation("aggregate = \"since_first\"\n"),
            Operation::SinceFirst
        );
        let ratio = "aggregate = \"ratio\"\nnumerator = \"spent\"\ndenominator = \"orders\"\n";
        let Ok(Formula::Ratio(ratio)) = read(ratio) else {
            panic!("a ratio")
        };
        assert_eq!(
            (ratio.numerator.line, ratio.denominator.text.as_str()),
            (8, "orders")
        );
    }

    #[test]
    fn every_name_is_read() {
        for name in Operation::NAMES {
            let read = read(&format!("aggregate = \"{name}\"\n"));
            let error = read.err().unwrap_or_default();
            assert!(!error.contains("is not an aggregate"), "{name}: {error}");
        }
    }

    #[test]
    fn mistakes_have_remedies() {
        check(
            "aggregate = \"median\"\n",
            expect![
                "line 7, features.user.aggregate: 'median' is not an aggregate (use 'quantile': q = 0.5 is the median)"
            ],
        );
        check(
            "aggregate = \"count_distinct\"\n",
            expect![
                "line 7, features.user.aggregate: 'count_distinct' is not an aggregate (use 'distinct')"
            ],
        );
        check(
            "aggregate = \"lats\"\n",
            expect![
                "line 7, features.user.aggregate: 'lats' is not an aggregate (did you mean 'last'?)"
            ],
        );
        check(
            "aggregate = \"stddev\"\n",
            expect![[
                r#"line 5, features.user: 'stddev' needs a value (for example value = "properties.total")"#
            ]],
        );
        check(
            "aggregate = \"since_first\"\nvalue = \"properties.total\"\n",
            expect!["line 5, features.user: 'since_first' takes no value"],
        );
        check(
            "aggregate = \"quantile\"\nvalue = \"properties.total\"\nq = 90\n",
            expect![
                "line 9, features.user.q: 90 is not between 0 and 1 (write q = 0.9 for 90 percent)"
            ],
        );
        check(
            "aggregate = \"quantile\"\nvalue = \"properties.total\"\nq = 1\n",
            expect![
                "line 9, features.user.q: 1 is not between 0 and 1 (use 'max' for the largest)"
            ],
        );
        check(
            "aggregate = \"recent\"\nvalue = \"properties.x\"\n",
            expect![[r#"
                line 5, features.user: 'k' is missing (for example k = 10)
                line 5, features.user: the type of 'recent' is not known (add type = "number" or type = "category", or declare the property under [events])"#]],
        );
        check(
            "aggregate = \"recent\"\nvalue = \"user_id\"\nk = 21\n",
            expect!["line 9, features.user.k: 21 is out of range: from 1 to 20"],
        );
        check(
            "aggregate = \"first\"\nvalue = \"properties.x\"\ntype = \"text\"\n",
            expect![
                "line 9, features.user.type: 'text' is not a type of feature (number or category)"
            ],
        );
        check(
            "aggregate = \"ratio\"\nnumerator = \"a\"\nvalue = \"properties.total\"\nwindows = [\"1d\"]\n",
            expect![[r#"
                line 5, features.user: 'denominator' is missing (for example denominator = "orders")
                line 9, features.user.value: 'ratio' takes no value (it has those of its numerator and denominator)
                line 10, features.user.windows: 'ratio' takes no windows (it has those of its numerator and denominator)"#]],
        );
        check(
            "aggregate = \"sum\"\nvalue = \"properties.total\"\nq = 0.5\n",
            expect![
                "line 9, features.user: unknown key 'q' (known here: name, label, expression, attribute, trait, aggregate, event, where, value, windows)"
            ],
        );
    }
}
