//! What every operation says, against its definition computed from all events ([`Window`]).

use std::collections::BTreeMap;

use crate::samples::{at, event, project, store};
use crate::window::Window;
use proptest::prelude::*;
use serde_json::{Value as Json, json};
use tidemill_core::event::PersonKey;
use tidemill_core::project::{Formula, Operation};
use tidemill_core::{FeatureType, FeatureValue, Project, Timestamp};
use tidemill_features::accumulate::Windows;
use tidemill_features::{Engine, EngineOptions, FeatureSet};
use tidemill_store::LoggedEvent;

/// Every operation about persons, items and everybody, with windows and without.
fn all_operations() -> Project {
    let seconds = "value = \"properties.seconds\"\n";
    let item = "value = \"properties.item\"\n";
    let of_type = |kind: &str, value: &str| format!("type = \"{kind}\"\n{value}");
    let (number, category) = (of_type("number", seconds), of_type("category", item));
    let operations: Vec<(&str, String)> = vec![
        ("count", String::new()),
        ("sum", seconds.to_owned()),
        ("mean", seconds.to_owned()),
        ("stddev", seconds.to_owned()),
        ("min", seconds.to_owned()),
        ("max", seconds.to_owned()),
        ("quantile", seconds.to_owned()),
        ("quantile", format!("q = 0.9\n{seconds}")),
        ("first", number.clone()),
        ("first", category.clone()),
        ("last", number.clone()),
        ("last", category.clone()),
        ("since_first", String::new()),
        ("since_last", String::new()),
        ("distinct", item.to_owned()),
        ("distinct", seconds.to_owned()),
        ("top", format!("k = 3\n{item}")),
        ("recent", format!("k = 4\n{number}")),
        ("recent", format!("k = 2\n{category}")),
        ("decayed", "half_life = \"2h\"\n".to_owned()),
        ("decayed", format!("half_life = \"1d\"\n{seconds}")),
    ];
    let mut text = "[project]\nname = \"brute\"\n[items]\nid = \"properties.item\"\n".to_owned();
    for entity in ["user", "item", "global"] {
        for (index, (operation, rest)) in operations.iter().enumerate() {
            let all_windows = ["", "windows = [\"30s\", \"1h\", \"1d\", \"7d\"]\n"];
            for (version, windows) in all_windows.into_iter().enumerate() {
                if *operation == "decayed" && version > 0 {
                    continue;
                }
                let condition = match index % 3 {
                    0 => "event = \"Open\"\n",
                    1 => "where = \"properties.seconds > 3.0\"\n",
                    _ => "",
                };
                text += &format!(
                    "[[features.{entity}]]\nname = \"f{index}_{version}\"\naggregate = \"{operation}\"\n{rest}{windows}{condition}"
                );
            }
        }
        for (name, numerator) in [("spent", "f1_1"), ("spread", "f3_1")] {
            text += &format!(
                "[[features.{entity}]]\nname = \"{name}_ratio\"\naggregate = \"ratio\"\nnumerator = \"{numerator}\"\ndenominator = \"f0_1\"\n"
            );
        }
    }
    project(&text)
}

/// One random event: who (0–2 a user, 3–4 an anonymous id, 5 nobody), whether the anonymous id becomes a user's, how much later it
/// is received, how much earlier or later than that it happened, with which item and number.
type Draw = (u8, u8, i64, i64, u8, f64);

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let received = prop_oneof![3 => 0i64..40, 2 => 0i64..4_000, 1 => 0i64..100_000];
    let happened =
        prop_oneof![5 => Just(0i64), 2 => -4_000i64..0, 1 => -900_000i64..0, 1 => 0i64..80_000];
    let number = prop_oneof![
        Just(0.0),
        Just(7.25),
        -5.0..20.0f64,
        (0..40u8).prop_map(f64::from)
    ];
    prop::collection::vec((0..6u8, 0..12u8, received, happened, 0..7u8, number), 1..90)
}

fn events(draws: &[Draw]) -> Vec<LoggedEvent> {
    let mut received = 0;
    let make = |(index, &(who, what, later, happened, item, number)): (usize, &Draw)| {
        received += later;
        let mut fields = json!({
            "name": if what < 6 { "Open" } else { "Buy" }, "received_at": at(received), "timestamp": at(received + happened),
            "properties": {},
        });
        match who {
            0..3 => fields["user_id"] = json!(format!("u{who}")),
            3..5 => fields["anonymous_id"] = json!(format!("a{}", who - 3)),
            _ => {}
        }
        if what == 11 {
            let pair = who % 2;
            fields["kind"] = json!("identify");
            fields["name"] = json!("$identify");
            fields["user_id"] = json!(format!("u{pair}"));
            fields["anonymous_id"] = json!(format!("a{pair}"));
        }
        if item < 5 {
            fields["properties"]["item"] = json!(format!("i{item}"));
        }
        match item {
            0 => {}
            1 => fields["properties"]["seconds"] = json!(number.to_string()),
            2 if what == 3 => fields["properties"]["seconds"] = json!("many"),
            _ => fields["properties"]["seconds"] = json!(number),
        }
        event(index as u64 + 1, 0, fields)
    };
    draws.iter().enumerate().map(make).collect()
}

/// Whether an event is by the person of this user, as it is known after all of these events.
fn is_by(logged: &LoggedEvent, user: &str, known: &[LoggedEvent]) -> bool {
    let joined = |anonymous: &str| {
        known.iter().any(|other| {
            other.event.name == "$identify"
                && other.event.user_id.as_deref() == Some(user)
                && other.event.anonymous_id.as_deref() == Some(anonymous)
        })
    };
    match (&logged.event.user_id, &logged.event.anonymous_id) {
        (Some(by), _) => by == user,
        (None, Some(anonymous)) => joined(anonymous),
        (None, None) => false,
    }
}

fn assert_near(found: &[FeatureValue], expected: &[FeatureValue], off: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (found, expected) in found.iter().zip(expected) {
        let near = match (found, expected) {
            (FeatureValue::Number(a), FeatureValue::Number(b)) => (a - b).abs() <= off,
            (a, b) => a == b,
        };
        assert!(near, "{what}: {found:?}, by definition {expected:?}");
    }
}

/// Checks a user's row after all of these events.
fn check_row(engine: &Engine, events: &[LoggedEvent], user: &str, moment: Timestamp) {
    let row = engine.read_all(&PersonKey::user(user), moment).unwrap();
    let moment = row.moment.micros();
    let theirs: Vec<&LoggedEvent> = events
        .iter()
        .filter(|logged| is_by(logged, user, events))
        .collect();
    let item_of = |logged: &LoggedEvent| {
        let is_action =
            !logged.event.name.starts_with('$') && logged.event.timestamp.micros() <= moment;
        let item = logged.event.properties.get("item").filter(|_| is_action)?;
        Some(item.as_str()?.to_owned())
    };
    let with_item = theirs.iter().filter(|logged| item_of(logged).is_some());
    let last_item = with_item
        .max_by_key(|logged| (logged.event.timestamp, logged.offset))
        .and_then(|logged| item_of(logged));
    let of_item: Vec<&LoggedEvent> = events
        .iter()
        .filter(|logged| {
            last_item.is_some()
                && logged.event.properties.get("item").and_then(Json::as_str)
                    == last_item.as_deref()
        })
        .collect();
    let everything: Vec<&LoggedEvent> = events.iter().collect();
    let mut values = row.values.iter().cloned();
    let mut by_name: BTreeMap<String, FeatureValue> = BTreeMap::new();
    let names = engine
        .set()
        .columns()
        .iter()
        .map(|column| column.name.clone());
    by_name.extend(names.zip(row.values.iter().cloned()));
    for definition in engine.set().definitions() {
        let about = definition.entity.as_str();
        let of_entity = match about {
            "user" => &theirs,
            "item" => &of_item,
            _ => &everything,
        };
        let known = about != "item" || last_item.is_some();
        match &definition.formula {
            Formula::Aggregate(aggregate) => {
                let windows = Windows::new(&aggregate.windows);
                for window in 0..aggregate.windows.len().max(1) {
                    let start = if aggregate.windows.is_empty() {
                        i64::MIN
                    } else {
                        windows.start(window, moment)
                    };
                    let found: Vec<FeatureValue> =
                        values.by_ref().take(aggregate.operation.width()).collect();
                    let what = format!(
                        "{about}.{} {:?} window {window}",
                        definition.name, aggregate.operation
                    );
                    if known {
                        let (expected, off) = Window::new(aggregate, of_entity, start, moment)
                            .expected(aggregate.operation);
                        assert_near(&found, &expected, off, &what);
                    } else {
                        assert!(
                            found.iter().all(|value| *value == FeatureValue::Missing),
                            "{what}"
                        );
                    }
                }
            }
            Formula::Ratio(ratio) => {
                for window in ["30s", "1h", "1d", "7d"] {
                    let of = |name: &str| by_name[&format!("{about}.{name}_{window}")].as_number();
                    let expected = FeatureValue::number(
                        of(&ratio.numerator.text) / of(&ratio.denominator.text),
                    );
                    let found = values.next().unwrap();
                    assert!(
                        found.same_bits(&expected),
                        "{}: {found:?} {expected:?}",
                        definition.name
                    );
                }
            }
            Formula::Expression(_) => panic!("there is none"),
        }
    }
    assert_eq!(values.next(), None);
}

fn engine(project: &Project) -> Engine {
    let set = FeatureSet::compile(project, &project.features).unwrap();
    let options = EngineOptions {
        cache_entries: 100,
        timeline_events: 1,
    };
    Engine::open(project, set, store(), options).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Over events that come late, in the future or without what is asked for; at every tenth place in the log, and later.
    #[test]
    fn every_operation_is_what_it_is_defined_to_be(draws in draws(), wait in 0i64..300_000) {
        let project = all_operations();
        let engine = engine(&project);
        let events = events(&draws);
        for (index, logged) in events.iter().enumerate() {
            engine.apply(std::slice::from_ref(logged)).unwrap();
            let last = index + 1 == events.len();
            if index % 10 == 9 || last {
                let later = if last { wait } else { 0 };
                let moment = Timestamp::from_micros(engine.now().micros() + later * 1_000_000);
                for user in ["u0", "u1", "u2"] {
                    check_row(&engine, &events[..=index], user, moment);
                }
            }
        }
    }
}

const SKETCHES: &str = r#"
[project]
name = "sketches"
[[features.user]]
name = "values"
aggregate = "distinct"
value = "properties.value"
windows = ["1h", "1d"]
[[features.user]]
name = "median"
aggregate = "quantile"
value = "properties.amount"
windows = ["1h", "1d"]
[[features.user]]
name = "upper"
aggregate = "quantile"
q = 0.95
value = "properties.amount"
windows = ["1h", "1d"]
[[features.user]]
name = "top"
aggregate = "top"
k = 3
value = "properties.value"
windows = ["1h", "1d"]
"#;

/// Thousands of different values in a window of many tiles, after many of those were folded: the sketches keep their errors.
#[test]
fn sketches_keep_their_errors_over_windows() {
    let project = project(SKETCHES);
    let engine = engine(&project);
    let events: Vec<LoggedEvent> = (1..=12_000u64)
        .map(|n| {
            let mix = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
            let value = match mix % 10 {
                0..2 => "often".to_owned(),
                2 => "sometimes".to_owned(),
                _ => format!("v{}", (mix / 10) % 4_000),
            };
            let amount = ((mix >> 9) % 100_000) as f64 / 100.0 + 0.5;
            event(
                n,
                n as i64 * 9,
                json!({"user_id": "u", "properties": { "value": value, "amount": amount }}),
            )
        })
        .collect();
    for batch in events.chunks(500) {
        engine.apply(batch).unwrap();
    }
    let row = engine
        .read_all(&PersonKey::user("u"), Timestamp::EPOCH)
        .unwrap();
    let mut values = row.values.iter().cloned();
    let everything: Vec<&LoggedEvent> = events.iter().collect();
    for definition in engine.set().definitions() {
        let Formula::Aggregate(aggregate) = &definition.formula else {
            panic!("an aggregate")
        };
        let windows = Windows::new(&aggregate.windows);
        for window in 0..2 {
            let moment = row.moment.micros();
            let chosen = Window::new(
                aggregate,
                &everything,
                windows.start(window, moment),
                moment,
            );
            let what = format!(
                "{} {window}, {} events",
                definition.name,
                chosen.values.len()
            );
            let found: Vec<FeatureValue> =
                values.by_ref().take(aggregate.operation.width()).collect();
            match aggregate.operation {
                Operation::Distinct => {
                    let expected = chosen.counts().len() as f64;
                    assert!(
                        (found[0].as_number() / expected - 1.0).abs() < 3.0 * 0.0325,
                        "{what}: {found:?} {expected}"
                    );
                    assert!(window == 0 || expected > 2_500.0, "{what}: {expected}");
                }
                Operation::Quantile { q } => {
                    let FeatureValue::Number(expected) = chosen.quantile(q).0[0] else {
                        panic!("{what}")
                    };
                    // amounts reach from 0.5 to 1,000: eleven powers of two, so at most 256 bins have an error of 3.1 %
                    assert!(
                        (found[0].as_number() / expected - 1.0).abs() < 0.031,
                        "{what}: {found:?} {expected}"
                    );
                }
                _ => {
                    assert_eq!(found[0], FeatureValue::Category("often".into()), "{what}");
                    assert_eq!(
                        found[1],
                        FeatureValue::Category("sometimes".into()),
                        "{what}"
                    );
                }
            }
        }
    }
    assert_eq!(engine.set().columns()[0].feature_type, FeatureType::Number);
}
