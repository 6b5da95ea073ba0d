//! A past through the whole loop, through the real binary: a backtest, what it leaves alone, and the scorecard of what it made.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use serde_json::{Value, json};

use support::past::{in_moods, shop};
use support::{Counts, Scope, Server, command};

const PROJECT: &str = r#"
[project]
name     = "shop"
currency = "GBP"

[models.will_return]
kind     = "predict"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "14d" }
retrain  = { every = "28d" }
training = { budget = 0.2 }

[[features.user]]
name      = "total"
aggregate = "last"
event     = "Order Completed"
value     = "properties.total"
type      = "number"

[[features.user]]
name      = "channel"
aggregate = "last"
event     = "Order Completed"
value     = "properties.channel"
type      = "category"

[[features.user]]
name      = "orders"
aggregate = "count"
event     = "Order Completed"
windows   = ["30d"]
"#;

/// Every file of a folder and below, with what is in it.
fn files(folder: &Path, found: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => files(&path, found),
            false => {
                let bytes = fs::read(&path).expect("a file");
                found.insert(path, bytes);
            }
        }
    }
}

#[test]
fn a_past_goes_through_the_loop_and_the_original_stays_as_it_is() {
    let (server, orders) = shop(PROJECT, in_moods());
    let mut before = BTreeMap::new();
    files(&server.data(), &mut before);
    let copy = server.folder().join("copy");
    let report = server.folder().join("report.html");
    let arguments = [
        "backtest",
        "--copy",
        &copy.to_string_lossy(),
        "--out",
        &report.to_string_lossy(),
        "--consistency-share",
        "1",
    ];
    let record = server.json_of(&arguments);
    let mut after = BTreeMap::new();
    files(&server.data(), &mut after);
    assert!(before.keys().eq(after.keys()), "no file comes or goes");
    // the lock names the process that held it last, and the copy is made under it
    let data = before.iter().filter(|(path, _)| !path.ends_with("LOCK"));
    for (path, bytes) in data {
        assert!(after[path] == *bytes, "{} is only read", path.display());
    }

    assert_eq!(record["events"].as_u64(), Some(orders));
    assert!(record["values_compared"].as_u64() > Some(0), "{record}");
    assert_eq!(record["values_that_differ"], 0);
    let model = &record["models"][0];
    let passed = |run: &&Value| run["state"] == "passed";
    let runs = model["runs"].as_array().expect("runs");
    assert!(runs.iter().filter(passed).count() >= 2, "{runs:?}");
    let months = model["months"].as_array().expect("months");
    assert!(
        months
            .iter()
            .any(|month| month["value"].as_f64() > Some(0.6)),
        "{months:?}"
    );
    assert!(model["worth"]["answers"].as_u64() > Some(100), "{model}");
    assert!(
        record["assumptions"]
            .as_array()
            .is_some_and(|said| said.len() > 2)
    );

    let page = fs::read_to_string(report).expect("the report");
    assert!(page.contains("<svg") && page.contains("<table"));
    for foreign in ["<script", "http://", "https://", "@import"] {
        let found = page
            .replace("http://www.w3.org/2000/svg", "")
            .contains(foreign);
        assert!(!found, "{foreign} in the report");
    }

    // what the replay made can be asked like any project
    let copy = copy.to_string_lossy();
    let card = server.run(&["scorecard", "will_return", "--data", &copy, "--json"]);
    let card: Value = serde_json::from_slice(&card.stdout).expect("JSON");
    let score = card["score"].as_f64().expect("a score");
    assert!(score > 0.0 && score < 7.0, "{card}");
}

/// What a server says of its project: runs, the version that answers, what was done by whom, features. A drill may be due at any time.
fn said_by(server: &Server, admin: &str) -> Vec<Value> {
    let ask = |path: &str| {
        let (status, said) = server.get(path, admin);
        assert_eq!(status, 200, "{path}: {said}");
        said
    };
    let audit = ask("/v1/audit?limit=100");
    let is_drill = |entry: &&Value| entry["action"].as_str().unwrap_or("").starts_with("drill");
    let done = audit["audit"].as_array().expect("entries").iter();
    let done: Vec<&Value> = done.filter(|entry| !is_drill(entry)).collect();
    vec![
        ask("/v1/models/will_return/runs"),
        ask("/v1/models/will_return")["champion"].clone(),
        json!(done),
        ask("/v1/features"),
    ]
}

/// The names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn beside_a_server_a_past_is_replayed_on_a_copy_and_the_server_answers_on() {
    let (mut server, orders) = shop(PROJECT, in_moods());
    // nothing is due for weeks then, so that whatever changes is the backtest's doing
    server.told(&["train", "will_return"]);
    server.restart();
    let (write, read, admin) = (
        server.key(Scope::Write),
        server.key(Scope::Read),
        server.key(Scope::Admin),
    );
    let (before, of_data) = (said_by(&server, &admin), names(&server.data()));
    assert_eq!(Counts::of(&server, &read).stored, orders);

    let temporary = server.folder().join("temporary");
    fs::create_dir(&temporary).expect("a folder");
    let mut backtest = command();
    backtest
        .args(["backtest", "--json", "--data"])
        .arg(server.data())
        .env("TMPDIR", &temporary)
        .current_dir(server.folder());
    let (ended, end) = channel();
    let replay = std::thread::spawn(move || {
        let output = backtest.output().expect("run the backtest");
        // whoever waits has given up otherwise
        let _ = ended.send(());
        output
    });
    let mut asked = 0;
    while end.recv_timeout(Duration::from_millis(20)) == Err(RecvTimeoutError::Timeout) {
        let user = format!("c{}", asked % 120);
        let (status, answer) =
            server.post("/v1/predict/will_return", &read, &json!({ "user": user }));
        assert_eq!(status, 200, "{answer}");
        let event =
            json!({ "userId": user, "event": "Page Seen", "messageId": format!("m{asked}") });
        let (status, answer) = server.post("/v1/track", &write, &event);
        assert_eq!(status, 200, "{answer}");
        asked += 1;
    }
    let output = replay.join().expect("the backtest");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    assert!(asked > 10, "it answered {asked} questions meanwhile");

    let record: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(record["beside_server"], true, "{record}");
    assert_eq!(record["events"].as_u64(), Some(orders), "what has landed");
    let runs = record["models"][0]["runs"].as_array().expect("runs");
    assert!(runs.iter().any(|run| run["state"] == "passed"), "{runs:?}");

    // what came meanwhile is all that is new
    let counts = Counts::of(&server, &read);
    assert_eq!((counts.stored, counts.quarantined), (orders + asked, 0));
    let after = said_by(&server, &admin);
    assert_eq!(after, before);
    assert_eq!(names(&server.data()), of_data);
    assert_eq!(names(&temporary), [""; 0], "nothing is left behind");
    server.kill_9();
    server.restart();
    assert_eq!(Counts::of(&server, &read).stored, orders + asked);
    assert_eq!(said_by(&server, &admin), before);
}

#[test]
fn what_cannot_be_replayed_is_said() {
    let (server, _) = shop(PROJECT, in_moods());
    for (arguments, said) in [
        (
            vec!["--model", "nobody"],
            "the project has no model 'nobody'",
        ),
        (
            vec!["--from", "2999-01-01T00:00:00Z"],
            "everything happened before --from",
        ),
        (vec!["--effect", "2"], "a share is from 0 to 1"),
    ] {
        let error = server.refused(&[&["backtest"][..], &arguments].concat());
        assert!(error.contains(said), "{error}");
    }
}
