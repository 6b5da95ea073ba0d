//! The README's five minutes with one's own data, against the real binary: history from a file, a first version that passes
//! its examination, answers with reasons, what happened afterwards, and versions that change under load.

mod support;

use std::fmt::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, Span};

use support::{Client, Scope, Server, wait_until};

/// What `tidemill init` writes, and where the history comes from.
const PROJECT: &str = r#"
[project]
name = "shop"

[models.will_return]
kind    = "predict"
entity  = "user"
observe = { event = "Order Completed" }
target  = { event = "Order Completed", within = "30d" }
training = { budget = 0.3 }

[sources.orders]
event = "Order Completed"
map   = { user_id = "customer", timestamp = "ordered_at", message_id = "order", "properties.total" = "total", "properties.channel" = "channel" }
"#;

/// Customers of the made-up history.
const CUSTOMERS: u64 = 400;
/// How long it is.
const DAYS: i64 = 300;

/// A history in which the way that customers came by says, four times out of five, when they come again: something to be
/// learnt that neither recency nor frequency tells.
fn history() -> (String, u64) {
    let begin = SystemClock.now() - Span::from_days(DAYS);
    let mut csv = "order,customer,ordered_at,total,channel\n".to_owned();
    let mut random = Sequence(1);
    let mut orders = 0;
    for customer in 0..CUSTOMERS {
        let mut hours = random.below(40 * 24);
        while hours < DAYS * 24 {
            let newsletter = random.below(2) == 0;
            let channel = if newsletter { "newsletter" } else { "search" };
            let total = 10 + random.below(90);
            let time = begin + Span::from_seconds(hours * 3_600);
            writeln!(csv, "o{orders},c{customer},{time},{total},{channel}")
                .expect("a string grows");
            orders += 1;
            let soon = newsletter == (random.below(5) > 0);
            hours += 24
                * if soon {
                    2 + random.below(26)
                } else {
                    32 + random.below(50)
                };
        }
    }
    (csv, orders)
}

/// Numbers without a pattern, the same every time (the multiplier of Steele and Vigna 2021).
struct Sequence(u64);

impl Sequence {
    fn below(&mut self, bound: i64) -> i64 {
        self.0 = self.0.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
        ((self.0 >> 33) as i64) % bound
    }
}

/// A shop with a year behind it and a version that passed.
fn shop() -> Server {
    let mut server = Server::start(PROJECT, &[]);
    assert!(server.stop(Duration::from_secs(20)).success());
    let (csv, orders) = history();
    std::fs::write(server.folder().join("orders.csv"), csv).expect("the history");
    let import = || {
        server.json_of(&[
            "import",
            "orders.csv",
            "--source",
            "orders",
            "--project",
            "project.toml",
        ])
    };
    let imported = import();
    assert_eq!(
        (
            imported["accepted"].as_u64(),
            imported["quarantined"].as_u64()
        ),
        (Some(orders), Some(0)),
        "{imported}"
    );
    let again = import();
    assert_eq!(
        (
            again["accepted"].as_u64(),
            again["files_finished_before"].as_u64()
        ),
        (Some(0), Some(1)),
        "{again}"
    );
    let trained = server.json_of(&["train", "will_return"]);
    let run = &trained["runs"][0];
    assert_eq!(
        (run["state"].as_str(), run["version"].as_str()),
        (Some("passed"), Some("will_return@1")),
        "{run:#}"
    );
    server.restart();
    server
}

/// The score of a person who has just ordered and came by this way.
fn score(server: &Server, write: &str, read: &str, user: &str, channel: &str) -> Value {
    let order = json!({
        "userId": user, "event": "Order Completed", "properties": { "total": 40, "channel": channel }
    });
    let (status, receipt) = server.post("/v1/track", write, &order);
    assert_eq!(
        (status, &receipt["accepted"]),
        (200, &json!(1)),
        "{receipt}"
    );
    wait_until(|| server.get("/health/ready", "").1["projects"]["shop"]["features_lag"] == 0);
    let question = json!({ "user": user, "reasons": true });
    let (status, answer) = server.post("/v1/predict/will_return", read, &question);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn a_newcomer_imports_trains_asks_and_sees_what_happened() {
    let server = shop();
    let [write, read] = [Scope::Write, Scope::Read].map(|scope| server.key(scope));

    let loyal = score(&server, &write, &read, "c1", "newsletter");
    let passing = score(&server, &write, &read, "c2", "search");
    for answer in [&loyal, &passing] {
        assert_eq!(answer["version"], "will_return@1", "{answer}");
        assert!(answer["fallback"].is_null(), "{answer}");
        assert!(answer["reasons"][0]["text"].is_string(), "{answer}");
    }
    let probability = |answer: &Value| answer["probability"].as_f64().expect("a probability");
    assert!(
        probability(&loyal) > 0.6 && probability(&passing) < 0.4,
        "four of five follow the channel: {loyal} {passing}"
    );

    // what was answered is explained, and its outcome joined when the customer orders again
    let decision = loyal["decision_id"].as_str().expect("an id");
    let path = format!("/v1/decisions/{decision}");
    let (status, explained) = server.get(&path, &read);
    assert_eq!(status, 200, "{explained}");
    assert!(explained["outcome"].is_null(), "{explained}");
    let channel = explained["features"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|feature| feature["value"] == "newsletter");
    assert!(
        channel.is_some(),
        "no feature knows the channel: {explained}"
    );
    score(&server, &write, &read, "c1", "search");
    wait_until(|| !server.get(&path, &read).1["outcome"].is_null());
    let (_, explained) = server.get(&path, &read);
    assert_eq!(explained["outcome"]["value"], 1.0, "{explained}");

    let (status, person) = server.get("/v1/users/c1?events=5", &read);
    assert_eq!((status, &person["known"]), (200, &json!(true)), "{person}");
    assert_eq!(
        person["timeline"].as_array().map(Vec::len),
        Some(5),
        "{person}"
    );
    assert_eq!(
        person["predictions"][0]["version"], "will_return@1",
        "{person}"
    );
}

#[test]
fn versions_change_under_load_without_a_failed_request() {
    let server = shop();
    let [read, admin] = [Scope::Read, Scope::Admin].map(|scope| server.key(scope));
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let (address, key) = (server.address(), &read);
    // one at a time: training gives way to serving, and more would leave it nothing of a small machine
    let asker = || {
        let client = Client::new();
        let mut versions = std::collections::BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            let user = format!("c{}", answered.fetch_add(1, Ordering::Relaxed) % CUSTOMERS);
            let answer = client.post(
                address,
                "/v1/predict/will_return",
                key,
                &json!({ "user": user }),
            );
            let well = answer
                .as_ref()
                .is_ok_and(|(status, answer)| *status == 200 && answer["version"].is_string());
            if !well {
                stop.store(true, Ordering::Relaxed);
                panic!("a question was not answered by a version: {answer:?}");
            }
            let (_, answer) = answer.expect("it was answered well");
            versions.insert(answer["version"].as_str().expect("a version").to_owned());
        }
        versions
    };
    let seen = std::thread::scope(|scope| {
        let asker = scope.spawn(asker);
        let act = |what: &str, body: Value| {
            let (status, answer) =
                server.post(&format!("/v1/models/will_return/{what}"), &admin, &body);
            assert_eq!(status, 200, "{what}: {answer}");
            // some questions are asked of whoever answers now
            let before = answered.load(Ordering::Relaxed);
            while answered.load(Ordering::Relaxed) < before + 50 {
                assert!(!stop.load(Ordering::Relaxed), "a question failed");
                std::thread::yield_now();
            }
            answer
        };
        let trained = act("train?wait=true", json!({}));
        assert_eq!(trained["runs"][0]["version"], "will_return@2", "{trained}");
        let answers = |model: &Value| model["champion"].as_u64();
        let override_it = json!({ "version": 2, "override": true, "reason": "to see it answer" });
        assert_eq!(answers(&act("promote", override_it)), Some(2));
        assert_eq!(
            answers(&act("rollback", json!({ "reason": "enough" }))),
            Some(1)
        );
        assert_eq!(
            answers(&act(
                "promote",
                json!({ "version": 1, "reason": "nothing changes" })
            )),
            Some(1)
        );
        stop.store(true, Ordering::Relaxed);
        asker.join().expect("no question failed")
    });
    assert_eq!(
        seen.into_iter().collect::<Vec<_>>(),
        ["will_return@1", "will_return@2"]
    );
    let (_, audit) = server.get("/v1/audit", &admin);
    let text = audit.to_string();
    assert!(
        text.contains("to see it answer") && text.contains("enough"),
        "{audit}"
    );
}

#[test]
fn the_same_events_and_seed_make_the_same_model() {
    let server = shop();
    let artifact = |version: u64| {
        let versions = server.json_of(&["models", "will_return"]);
        let found = versions["versions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|known| known["number"] == version)
            .cloned();
        let found = found.unwrap_or_else(|| panic!("no version {version} in {versions:#}"));
        found["artifact"].as_str().expect("a hash").to_owned()
    };
    let first = artifact(1);
    server.json_of(&["train", "will_return"]);
    let listed = server.told(&["runs", "list", "will_return"]);
    assert!(listed.lines().count() > 2, "{listed}");
    let shown = server.told(&["runs", "show", "will_return"]);
    assert!(
        shown.contains("set off by person")
            && shown.contains("observations")
            && shown.contains("  features user."),
        "{shown}"
    );
    let differs = server.told(&["runs", "diff", "will_return"]);
    assert!(
        differs.contains("a  ") && differs.contains("b  "),
        "{differs}"
    );
    assert_eq!(artifact(2), first, "the second version has other bytes");
}

#[test]
fn a_changed_project_file_keeps_what_is_known() {
    let mut server = shop();
    let [write, read] = [Scope::Write, Scope::Read].map(|scope| server.key(scope));
    score(&server, &write, &read, "c1", "newsletter");
    assert!(server.stop(Duration::from_secs(20)).success());
    let changed = format!(
        "{PROJECT}
[[features.user]]
name = \"orders\"
aggregate = \"count\"
event = \"Order Completed\"
windows = [\"400d\"]

[[features.user]]
name = \"since_order\"
aggregate = \"since_last\"
event = \"Order Completed\"

[[features.user]]
name = \"channel\"
aggregate = \"last\"
event = \"Order Completed\"
value = \"properties.channel\"
type = \"category\"
"
    );
    std::fs::write(server.project_file(), changed).expect("the project file");
    server.restart();
    // until the new features have seen everything, the version goes on with those that it knows
    let (_, answer) = server.post("/v1/predict/will_return", &read, &json!({ "user": "c1" }));
    assert!(answer["version"].is_string(), "{answer}");
    let orders = || {
        let (status, person) = server.get("/v1/users/c1", &read);
        assert_eq!(status, 200, "{person}");
        let mut features = person["features"].as_array().into_iter().flatten();
        let orders = features.find(|feature| feature["name"] == "user.orders_400d");
        orders.and_then(|feature| feature["value"].as_f64())
    };
    wait_until(|| orders().is_some());
    let counted = orders().expect("it was there");
    let (csv, _) = history();
    let known = csv.lines().filter(|line| line.contains(",c1,")).count();
    assert_eq!(
        counted,
        known as f64 + 1.0,
        "orders of the history and the one sent since"
    );
    // the features that were suggested are gone, so the version that needs them rests, and a run that nobody asked for
    // makes one that learns with these
    let model = || server.json_of(&["models", "will_return"]);
    wait_until(|| model()["model"]["champion"] == 2);
    let run = &model()["runs"][0];
    assert_eq!(run["trigger"], "new_definition", "{run:#}");
    let (_, answer) = server.post("/v1/predict/will_return", &read, &json!({ "user": "c1" }));
    assert_eq!(answer["version"], "will_return@2", "{answer}");
}
