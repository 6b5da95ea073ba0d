//! Sessions, pairs, attributes with their history and what a request is made of: what they say, step by step.

use serde_json::{Value, json};
use tidemill_core::event::PersonKey;
use tidemill_core::{FeatureValue, Project, Timestamp};
use tidemill_features::{Engine, EngineOptions, FeatureSet};
use tidemill_store::LoggedEvent;

use crate::samples::{at, event, project, store};

const PROJECT: &str = r#"
[project]
name = "parts"

[items]
id = "properties.item"
attributes = { category = "string?", price = "float?" }

[[features.session]]
name = "opens"
aggregate = "count"
event = "Open"

[[features.session]]
name = "age"
aggregate = "since_first"

[[features."user+item"]]
name = "opens"
aggregate = "count"
windows = ["1d"]

[[features."user+item.category"]]
name = "opens"
aggregate = "count"

[[features.item]]
name = "price"
attribute = "price"

[[features.user]]
name = "plan"
trait = "plan"
type = "category"

[[features.user]]
name = "dearest"
aggregate = "max"
value = "properties.paid"

[[features.request]]
name = "evening"
expression = "hour >= 18"

[[features.request]]
name = "day_of_week"
expression = "weekday"

[[features.request]]
name = "dearer"
expression = "item.price - user.dearest"

[[features.request]]
name = "interest"
expression = "\"user+item.opens_1d\" / \"user+item.category.opens\""
"#;

struct Told {
    engine: Engine,
    offset: u64,
}

impl Told {
    fn new() -> Self {
        let project: Project = project(PROJECT);
        let set = FeatureSet::compile(&project, &project.features).unwrap();
        let engine = Engine::open(&project, set, store(), EngineOptions::default()).unwrap();
        Self { engine, offset: 0 }
    }

    fn tell(&mut self, seconds: i64, fields: Value) {
        self.offset += 1;
        let event: LoggedEvent = event(self.offset, seconds, fields);
        self.engine.apply(&[event]).unwrap();
    }

    fn open(&mut self, seconds: i64, user: &str, item: &str) {
        self.tell(
            seconds,
            json!({ "user_id": user, "properties": { "item": item } }),
        );
    }

    fn change(&mut self, seconds: i64, item: &str, attributes: Value) {
        self.tell(
            seconds,
            json!({
                "kind": "item_changed", "name": "$item_changed",
                "properties": { "id": item, "attributes": attributes }
            }),
        );
    }

    fn read(&self, user: &str, moment: Timestamp, name: &str) -> FeatureValue {
        let features = self.engine.set().select_columns(&[name]).unwrap();
        let row = self.engine.read(&PersonKey::user(user), moment, &features);
        row.unwrap().values.remove(0)
    }

    fn check(&self, user: &str, seconds: i64, name: &str, expected: impl Into<Option<f64>>) {
        let found = self.read(user, at(seconds), name);
        let expected = expected
            .into()
            .map_or(FeatureValue::Missing, FeatureValue::Number);
        assert_eq!(found, expected, "{name} of {user} at {seconds}");
    }
}

const MINUTE: i64 = 60;

#[test]
fn a_session_ends_with_a_pause() {
    let mut told = Told::new();
    told.check("u", 0, "session.opens", 0.0);
    told.open(0, "u", "a");
    told.open(20 * MINUTE, "u", "a");
    told.check("u", 50 * MINUTE, "session.opens", 2.0);
    told.check("u", 50 * MINUTE, "session.age", 3_000.0);
    // half an hour after the last event it is over, whether or not another one begins
    told.check("u", 50 * MINUTE + 1, "session.opens", 0.0);
    told.check("u", 50 * MINUTE + 1, "session.age", None);
    told.open(60 * MINUTE, "u", "a");
    told.check("u", 60 * MINUTE, "session.opens", 1.0);
    // what arrives late joins the session that it belongs to, or none
    let late = |happened: i64| {
        json!({
            "user_id": "u", "timestamp": at(happened), "received_at": at(61 * MINUTE),
            "properties": { "item": "a" }
        })
    };
    told.tell(61 * MINUTE, late(40 * MINUTE));
    told.check("u", 61 * MINUTE, "session.opens", 2.0);
    told.check("u", 61 * MINUTE, "session.age", 21.0 * 60.0);
    told.tell(61 * MINUTE, late(5 * MINUTE));
    told.check("u", 61 * MINUTE, "session.opens", 2.0);
    // the system's own events prolong nothing
    told.tell(
        80 * MINUTE,
        json!({ "kind": "identify", "name": "$identify", "user_id": "u" }),
    );
    told.check("u", 91 * MINUTE, "session.opens", 0.0);
}

#[test]
fn persons_who_become_one_have_one_session() {
    let visit = |told: &mut Told, minute: i64, anonymous: &str| {
        let fields = json!({ "anonymous_id": anonymous, "properties": { "item": "a" } });
        told.tell(minute * MINUTE, fields);
    };
    let join = |told: &mut Told, minute: i64, anonymous: &str| {
        let fields = json!({
            "kind": "identify", "name": "$identify", "user_id": "u", "anonymous_id": anonymous
        });
        told.tell(minute * MINUTE, fields);
    };
    let mut told = Told::new();
    told.open(0, "u", "a");
    visit(&mut told, 10, "near");
    join(&mut told, 11, "near");
    told.check("u", 12 * MINUTE, "session.opens", 2.0);
    told.check("u", 12 * MINUTE, "user+item.opens_1d", 2.0);
    visit(&mut told, 100, "newer");
    join(&mut told, 101, "newer");
    told.check("u", 102 * MINUTE, "session.opens", 1.0);
    visit(&mut told, 110, "older");
    told.open(200 * MINUTE, "u", "b");
    join(&mut told, 201, "older");
    told.check("u", 202 * MINUTE, "session.opens", 1.0);
    told.check("u", 202 * MINUTE, "user+item.opens_1d", 1.0);
}

#[test]
fn pairs_are_about_what_the_person_dealt_with_last() {
    let mut told = Told::new();
    told.check("u", 0, "user+item.opens_1d", None);
    told.open(0, "u", "a");
    told.open(1, "u", "a");
    told.check("u", 2, "user+item.opens_1d", 2.0);
    told.open(3, "u", "b");
    told.check("u", 4, "user+item.opens_1d", 1.0);
    told.open(5, "u", "a");
    told.check("u", 6, "user+item.opens_1d", 3.0);
    told.check("other", 6, "user+item.opens_1d", None);
    // of the many, the one that was dealt with the longest ago is forgotten
    for item in 0..tidemill_features::accumulate::PARTNERS_MAX as i64 {
        told.open(10 + item, "u", &format!("i{item}"));
    }
    told.open(200, "u", "i0");
    told.check("u", 200, "user+item.opens_1d", 2.0);
    told.open(201, "u", "a");
    told.check("u", 201, "user+item.opens_1d", 1.0);
}

#[test]
fn items_are_what_they_were_when_somebody_dealt_with_them() {
    let mut told = Told::new();
    told.change(0, "a", json!({ "category": "tea", "price": 4.0 }));
    told.change(1, "b", json!({ "category": "tea" }));
    told.open(2, "u", "a");
    told.open(3, "u", "b");
    told.check("u", 4, "user+item.category.opens", 2.0);
    told.check("u", 4, "item.price", None);
    told.change(5, "b", json!({ "category": "cups", "price": 9.5 }));
    told.check("u", 6, "user+item.category.opens", 2.0);
    told.check("u", 6, "item.price", 9.5);
    told.open(7, "u", "b");
    told.check("u", 8, "user+item.category.opens", 1.0);
    // what a change does not say stays; null takes away, and so does a deletion
    told.change(9, "b", json!({ "category": null }));
    told.check("u", 10, "item.price", 9.5);
    told.open(11, "u", "b");
    // it was last a cup
    told.check("u", 12, "user+item.category.opens", 1.0);
    told.tell(
        13,
        json!({ "kind": "item_deleted", "name": "$item_deleted", "properties": { "id": "b" } }),
    );
    told.check("u", 14, "item.price", None);
    // an item is what the newest change says, whatever its timestamp
    told.change(15, "b", json!({ "price": 2.0 }));
    told.tell(
        16,
        json!({
            "kind": "item_changed", "name": "$item_changed", "timestamp": at(10),
            "properties": { "id": "b", "attributes": { "price": 3.0 } }
        }),
    );
    told.check("u", 17, "item.price", 3.0);
}

#[test]
fn traits_stay_until_they_change() {
    let mut told = Told::new();
    let identify = |told: &mut Told, seconds: i64, user: &str, traits: Value| {
        let fields = json!({
            "kind": "identify", "name": "$identify", "user_id": user, "anonymous_id": "x",
            "properties": traits
        });
        told.tell(seconds, fields);
    };
    identify(&mut told, 0, "u", json!({ "plan": "pro" }));
    identify(&mut told, 1, "u", json!({ "name": "no matter" }));
    let plan = |told: &Told| told.read("u", at(2), "user.plan");
    assert_eq!(plan(&told), FeatureValue::Category("pro".into()));
    identify(&mut told, 2, "u", json!({ "plan": null }));
    assert_eq!(plan(&told), FeatureValue::Missing);
}

#[test]
fn what_is_idle_for_too_long_begins_anew() {
    let text = PROJECT.replace("[items]", "forget_after = \"10d\"\n[items]");
    let project: Project = project(&text);
    let set = FeatureSet::compile(&project, &project.features).unwrap();
    let engine = Engine::open(&project, set, store(), EngineOptions::default()).unwrap();
    let mut told = Told { engine, offset: 0 };
    const DAY: i64 = 86_400;
    told.tell(
        0,
        json!({ "user_id": "u", "properties": { "item": "a", "paid": 4.0 } }),
    );
    told.open(0, "v", "a");
    told.check("u", 10 * DAY, "user.dearest", 4.0);
    told.check("u", 10 * DAY + 1, "user.dearest", None);
    told.check("u", 10 * DAY + 1, "user+item.opens_1d", None);
    told.open(9 * DAY, "v", "b");
    told.open(11 * DAY, "w", "b");
    told.engine.commit().unwrap();
    let mut removed = 0;
    loop {
        let step = told.engine.expire(1).unwrap();
        removed += step.removed;
        if step.finished {
            break;
        }
    }
    assert_eq!(removed, 1);
    let known = |user: &str| {
        let row = told.engine.read_all(&PersonKey::user(user), at(11 * DAY));
        row.unwrap().known
    };
    assert_eq!([known("u"), known("v"), known("w")], [false, true, true]);
    told.open(12 * DAY, "u", "a");
    told.check("u", 12 * DAY, "user.dearest", None);
    told.check("u", 12 * DAY, "user+item.opens_1d", 1.0);
}

#[test]
fn a_request_knows_the_moment_and_everything_else() {
    let mut told = Told::new();
    // the tests' time begins on Sunday 2011-03-13 at 07:06:40
    told.open(0, "u", "a");
    told.check("u", 0, "request.evening", 0.0);
    told.check("u", 12 * 3_600, "request.evening", 1.0);
    told.check("u", 0, "request.day_of_week", 7.0);
    told.check("u", 86_400, "request.day_of_week", 1.0);
    told.check("u", 86_400, "request.dearer", None);
    told.change(86_401, "a", json!({ "price": 10.0, "category": "tea" }));
    told.tell(
        86_402,
        json!({ "user_id": "u", "properties": { "item": "a", "paid": 4.0 } }),
    );
    told.check("u", 86_403, "request.dearer", 6.0);
    told.check("u", 86_403, "request.interest", 2.0);
}

#[test]
fn mistakes_have_remedies() {
    let check = |text: &str, message: &str, hint: &str| {
        let text = format!("[project]\nname = \"parts\"\n{text}");
        let error = match Project::parse(&text) {
            Err(error) => error,
            Ok(project) => FeatureSet::compile(&project, &project.features).unwrap_err(),
        };
        let error = error.to_string();
        assert!(error.contains(message) && error.contains(hint), "{error}");
    };
    let items = "[items]\nid = \"properties.item\"\nattributes = { category = \"string\" }\n";
    let pair = "name = \"n\"\naggregate = \"count\"\n";
    check(
        &format!("[[features.\"user+item\"]]\n{pair}"),
        "no items are declared",
        "declare [items]",
    );
    check(
        &format!("{items}[[features.\"user+item.categry\"]]\n{pair}"),
        "items have no attribute 'categry'",
        "category",
    );
    check(
        "[[features.session]]\nname = \"n\"\naggregate = \"count\"\nwindows = [\"1d\"]\n",
        "features of a session have no windows",
        "leave them out",
    );
    check(
        "[[features.user]]\nname = \"n\"\nattribute = \"price\"\n",
        "user has no attributes",
        "features.item",
    );
    check(
        "[[features.request]]\nname = \"n\"\naggregate = \"count\"\n",
        "'expression' is missing",
        "user.spent_30d",
    );
    check(
        "[[features.request]]\nname = \"n\"\nexpression = \"hours > 3\"\n",
        "there is no feature 'hours'",
        "hour",
    );
    check(
        "[[features.request]]\nname = \"n\"\nexpression = \"request.n + 1\"\n",
        "made of itself",
        "",
    );
}
