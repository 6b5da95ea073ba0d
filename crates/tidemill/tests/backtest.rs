//! A past through the whole loop, through the real binary: a backtest, what it leaves alone, and the scorecard of what it made.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use support::past::{in_moods, shop};

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
