//! The online engine from outside: what it keeps beside features, what survives, and how definitions change.

use std::sync::Arc;

use crate::samples::{at, event, project, store};
use serde_json::{Value, json};
use tidemill_core::event::PersonKey;
use tidemill_core::{FeatureValue, Offset, Project, Timestamp};
use tidemill_features::{Engine, EngineOptions, FeatureError, FeatureSet, Rebuild};
use tidemill_store::{LoggedEvent, StateStore};

const OPENS: &str = r#"
[project]
name = "engine"

[[features.user]]
name = "opens"
aggregate = "count"
event = "Open"
windows = ["1d"]
"#;

const MORE: &str = r#"
[[features.user]]
name = "spent"
aggregate = "sum"
value = "properties.total"

[[features.user]]
name = "per_open"
expression = "spent / opens_1d"
"#;

fn open(
    project: &Project,
    state: Arc<dyn StateStore>,
    cache_entries: usize,
) -> Result<Engine, FeatureError> {
    let set = FeatureSet::compile(project, &project.features).unwrap();
    Engine::open(
        project,
        set,
        state,
        EngineOptions {
            cache_entries,
            timeline_events: 5,
        },
    )
}

fn opens(count: u64, person: impl Fn(u64) -> Value) -> Vec<LoggedEvent> {
    (1..=count).map(|n| event(n, n as i64, person(n))).collect()
}

fn user(id: &str) -> PersonKey {
    PersonKey::user(id)
}

fn values(engine: &Engine, person: &PersonKey) -> Vec<Option<f64>> {
    let row = engine.read_all(person, Timestamp::EPOCH).unwrap();
    let number = |value: &FeatureValue| Some(value.as_number()).filter(|number| !number.is_nan());
    row.values.iter().map(number).collect()
}

fn timeline(engine: &Engine, person: &PersonKey) -> Vec<u64> {
    engine
        .timeline(person, 100)
        .unwrap()
        .iter()
        .map(|logged| logged.offset.0)
        .collect()
}

#[test]
fn what_was_committed_survives_and_the_rest_is_applied_again() {
    let (project, store) = (project(OPENS), store());
    let events = opens(10, |n| json!({"user_id": format!("u{}", n % 2)}));
    let engine = open(&project, store.clone(), 100).unwrap();
    engine.apply(&events[..6]).unwrap();
    assert_eq!(engine.commit().unwrap(), Offset(6));
    engine.apply(&events[6..]).unwrap();
    assert_eq!(
        (engine.applied(), engine.committed(), engine.now()),
        (Offset(10), Offset(6), at(10))
    );
    assert_eq!(values(&engine, &user("u0")), [Some(5.0)]);
    let engine = open(&project, store, 100).unwrap();
    assert_eq!((engine.applied(), engine.now()), (Offset(6), at(6)));
    assert_eq!(values(&engine, &user("u0")), [Some(3.0)]);
    engine.apply(&events).unwrap();
    assert_eq!(values(&engine, &user("u0")), [Some(5.0)]);
    assert_eq!(engine.stats().events, 4);
}

#[test]
fn nobody_is_not_somebody() {
    let project = project(OPENS);
    let engine = open(&project, store(), 100).unwrap();
    engine.apply(&opens(3, |_| json!({}))).unwrap();
    assert_eq!((engine.stats().events, engine.stats().no_person), (3, 3));
    let row = engine.read_all(&user("u1"), at(100)).unwrap();
    assert!(!row.known);
    assert_eq!(
        (row.values, row.offset, row.moment),
        (vec![FeatureValue::Number(0.0)], Offset(3), at(100))
    );
}

#[test]
fn a_failed_commit_is_tried_again() {
    let (project, store) = (project(OPENS), store());
    let engine = open(&project, store.clone(), 1).unwrap();
    engine
        .apply(&opens(50, |n| json!({"user_id": format!("u{n}")})))
        .unwrap();
    store.set_full(true);
    assert!(matches!(engine.commit(), Err(FeatureError::Store(_))));
    assert_eq!(engine.committed(), Offset::ZERO);
    store.set_full(false);
    assert_eq!(engine.commit().unwrap(), Offset(50));
    let engine = open(&project, store, 1).unwrap();
    for n in 1..=50 {
        assert_eq!(values(&engine, &user(&format!("u{n}"))), [Some(1.0)]);
    }
}

#[test]
fn timelines_keep_the_newest_and_follow_people() {
    let (project, store) = (project(OPENS), store());
    let mut events = opens(8, |n| {
        if n % 2 == 0 {
            json!({"user_id": "u"})
        } else {
            json!({"anonymous_id": "a"})
        }
    });
    events.push(event(
        9,
        9,
        json!({"kind": "identify", "name": "$identify", "user_id": "u", "anonymous_id": "a"}),
    ));
    events.push(event(10, 10, json!({"anonymous_id": "a"})));
    for commits in [&[][..], &[4], &[8], &[4, 8, 9]] {
        let store = if commits.is_empty() {
            store.clone()
        } else {
            crate::samples::store()
        };
        let engine = open(&project, store.clone(), 2).unwrap();
        for (index, logged) in events.iter().enumerate() {
            engine.apply(std::slice::from_ref(logged)).unwrap();
            if commits.contains(&(index + 1)) {
                engine.commit().unwrap();
            }
            if index == 7 {
                assert_eq!(
                    timeline(&engine, &PersonKey::anonymous("a")),
                    [7, 5, 3, 1],
                    "{commits:?}"
                );
            }
        }
        for _ in 0..2 {
            assert_eq!(
                timeline(&engine, &PersonKey::anonymous("a")),
                [10, 9, 8, 7, 6],
                "{commits:?}"
            );
            assert_eq!(
                timeline(&engine, &user("u")),
                [10, 9, 8, 7, 6],
                "{commits:?}"
            );
            engine.commit().unwrap();
        }
        let engine = open(&project, store, 2).unwrap();
        assert_eq!(
            timeline(&engine, &user("u")),
            [10, 9, 8, 7, 6],
            "{commits:?}"
        );
        assert_eq!(engine.timeline(&user("u"), 2).unwrap().len(), 2);
        assert_eq!(
            engine.canonical(&PersonKey::anonymous("a")).unwrap(),
            user("u")
        );
    }
}

#[test]
fn items_change_and_go() {
    let (project, store) = (project(OPENS), store());
    let item = |offset: u64, kind: &str, properties: Value| {
        event(
            offset,
            offset as i64,
            json!({"kind": kind, "name": format!("${kind}"), "properties": properties}),
        )
    };
    let engine = open(&project, store.clone(), 100).unwrap();
    engine
        .apply(&[item(
            1,
            "item_changed",
            json!({"id": "i1", "attributes": {"title": "One", "price": 3}}),
        )])
        .unwrap();
    engine.commit().unwrap();
    engine
        .apply(&[
            item(
                2,
                "item_changed",
                json!({"id": "i1", "attributes": {"title": "Eins", "price": null}}),
            ),
            item(3, "item_changed", json!({"id": 7, "attributes": {}})),
            item(4, "item_changed", json!({"attributes": {}})),
        ])
        .unwrap();
    for engine in [&engine, &{
        engine.commit().unwrap();
        open(&project, store.clone(), 100).unwrap()
    }] {
        let item = engine.item("i1").unwrap().unwrap();
        assert_eq!(
            (Value::Object(item.attributes), item.updated_at),
            (json!({"title": "Eins"}), at(2))
        );
        assert!(engine.item("7").unwrap().is_some() && engine.item("i2").unwrap().is_none());
    }
    assert_eq!(
        (engine.stats().items_without_id, engine.stats().no_person),
        (1, 0)
    );
    engine
        .apply(&[item(5, "item_deleted", json!({"id": "i1"}))])
        .unwrap();
    assert!(engine.item("i1").unwrap().is_none());
    engine.commit().unwrap();
    assert!(
        open(&project, store, 100)
            .unwrap()
            .item("i1")
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_was_seen_survives() {
    let (project, store) = (project(OPENS), store());
    let engine = open(&project, store.clone(), 100).unwrap();
    engine
        .apply(&opens(
            10,
            |n| json!({"user_id": "u", "properties": {"total": n}}),
        ))
        .unwrap();
    let seen = engine.seen();
    assert_eq!(
        (
            seen.events["Open"].count,
            seen.events["Open"].properties["total"].max
        ),
        (10, Some(10.0))
    );
    engine.commit().unwrap();
    assert_eq!(open(&project, store, 100).unwrap().seen(), seen);
}

#[test]
fn changed_definitions_are_rebuilt_beside_the_current_ones() {
    let (before, store) = (project(OPENS), store());
    let after = project(&format!("{OPENS}{MORE}"));
    let mut events = opens(
        40,
        |n| json!({"anonymous_id": format!("a{}", n % 4), "properties": {"total": n}}),
    );
    events.push(event(
        41,
        41,
        json!({"kind": "identify", "name": "$identify", "user_id": "u", "anonymous_id": "a1"}),
    ));
    events.push(event(42, 42, json!({"kind": "item_changed", "name": "$item_changed", "properties": {"id": "i", "attributes": {}}})));
    let engine = open(&before, store.clone(), 100).unwrap();
    engine.apply(&events[..30]).unwrap();
    engine.commit().unwrap();
    let refused = open(&after, store.clone(), 100).err();
    assert!(
        matches!(refused, Some(FeatureError::NeedsRebuild { .. })),
        "{refused:?}"
    );

    let set = FeatureSet::compile(&after, &after.features).unwrap();
    let options = EngineOptions {
        cache_entries: 2,
        timeline_events: 5,
    };
    let rebuild = Rebuild::begin(&after, set.clone(), store.clone(), options).unwrap();
    rebuild.apply(&events[..20]).unwrap();
    rebuild.commit().unwrap();
    drop(rebuild);
    // A crash later it goes on, while the current states still answer.
    let rebuild = Rebuild::begin(&after, set.clone(), store.clone(), options).unwrap();
    assert_eq!(rebuild.applied(), Offset(20));
    assert_eq!(values(&engine, &PersonKey::anonymous("a1")), [Some(8.0)]);
    rebuild.apply(&events).unwrap();
    let engine = rebuild.finish().unwrap();
    // Items and timelines are where the current states were.
    assert_eq!(
        (engine.applied(), engine.committed()),
        (Offset(42), Offset(30))
    );
    engine.apply(&events[30..]).unwrap();
    assert_eq!(engine.commit().unwrap(), Offset(42));
    assert_eq!(timeline(&engine, &user("u")), [41, 37, 33, 29, 25]);
    assert!(engine.item("i").unwrap().is_some());
    let fresh = open(&after, crate::samples::store(), 100).unwrap();
    fresh.apply(&events).unwrap();
    for person in ["a0", "a1", "a2", "a3"].map(PersonKey::anonymous) {
        assert_eq!(values(&engine, &person), values(&fresh, &person));
    }
    assert_eq!(engine.seen(), fresh.seen());

    let all = store.size_of("feature_states").0;
    while engine.sweep(2).unwrap() > 0 {}
    assert_eq!(all - store.size_of("feature_states").0, 4);
    drop(engine);
    let engine = open(&after, store, 100).unwrap();
    assert_eq!(values(&engine, &user("u"))[0], Some(10.0));
}

#[test]
fn features_of_other_definitions_are_refused() {
    let engine = open(&project(OPENS), store(), 100).unwrap();
    let other = project(&format!("{OPENS}{MORE}"));
    let set = FeatureSet::compile(&other, &other.features).unwrap();
    let refused = engine.read(&user("u"), at(0), &set.select_all());
    assert!(matches!(refused, Err(FeatureError::OtherSet)));
}

#[test]
fn readers_see_whole_events_while_events_are_applied() {
    let project = project(&format!(
        "{OPENS}\n[[features.global]]\nname = \"opens\"\naggregate = \"count\"\nevent = \"Open\"\n"
    ));
    let engine = open(&project, store(), 100).unwrap();
    let events = opens(3_000, |_| json!({"user_id": "u"}));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while engine.applied() < Offset(3_000) {
                let row = engine.read_all(&user("u"), Timestamp::EPOCH).unwrap();
                let offset = FeatureValue::Number(row.offset.0 as f64);
                assert_eq!(
                    row.values,
                    [offset.clone(), offset],
                    "both states are at the row's place of the log"
                );
                reads += 1;
            }
            reads
        });
        for batch in events.chunks(100) {
            engine.apply(batch).unwrap();
        }
        // However the threads are scheduled, nothing is asserted about how often it read.
        let _: u64 = reader.join().unwrap();
    });
    assert_eq!(values(&engine, &user("u")), [Some(3_000.0), Some(3_000.0)]);
}

#[test]
fn a_typical_state_is_small() {
    let definitions: String = (0..20)
        .map(|n| {
            format!(
                "[[features.user]]\nname = \"f{n}\"\naggregate = \"{}\"\n{}windows = [\"1d\", \"7d\", \"30d\", \"90d\"]\n",
                ["count", "sum"][n % 2],
                ["", "value = \"properties.total\"\n"][n % 2],
            )
        })
        .collect();
    let project = project(&format!("[project]\nname = \"small\"\n{definitions}"));
    let store = store();
    let engine = open(&project, store.clone(), 100).unwrap();
    // Somebody who comes twice a week for a year.
    let events: Vec<LoggedEvent> = (1..=104)
        .map(|n| {
            event(
                n,
                n as i64 * 302_400,
                json!({"user_id": "u", "properties": {"total": n % 7}}),
            )
        })
        .collect();
    engine.apply(&events).unwrap();
    engine.commit().unwrap();
    let bytes = store.size_of("feature_states").1;
    assert!(bytes <= 2_048, "{bytes} bytes");
}
