//! Backups with the real binary: refused beside a running server, verified, and what is restored knows and answers what was.

mod support;

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use support::past::{in_rhythm, shop};
use support::{Counts, Scope, Server, console};

const PROJECT: &str = r#"
[project]
name = "shop"

[models.will_return]
kind     = "predict"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "30d" }
retrain  = { every = "365d" }
training = { budget = 0.1 }
"#;

/// What the server says about some people.
fn answers(server: &Server, read: &str) -> Vec<(Value, Value)> {
    let people = (0..20).map(|customer| format!("c{customer}"));
    people
        .map(|user| {
            let body = json!({ "user": user });
            let (status, answer) = server.post("/v1/predict/will_return", read, &body);
            assert_eq!(status, 200, "{answer}");
            (answer["score"].clone(), answer["version"].clone())
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[test]
fn a_backup_is_verified_and_restores_events_and_answers() {
    let (mut server, orders) = shop(PROJECT, in_rhythm());
    server.told(&["train", "will_return", "--project", "project.toml"]);
    let promote = ["promote", "will_return@1", "--override-gate"];
    let why = ["--reason", "a start", "--project", "project.toml"];
    server.told(&[&promote[..], &why].concat());
    server.restart();
    let (read, write) = (server.key(Scope::Read), server.key(Scope::Write));
    let before = answers(&server, &read);
    assert_eq!(before[0].1, "will_return@1");
    assert!(console::page(&server, "/settings").contains("no backup yet"));

    let to = server.folder().join("monday");
    let shown = to.to_string_lossy().into_owned();
    let refused = server.refused(&["backup", &shown]);
    assert!(
        refused.contains("stop it, copy, and start it again"),
        "{refused}"
    );
    assert!(!to.exists(), "nothing was begun");
    assert!(server.stop(Duration::from_secs(20)).success());

    let inside = server.data().join("copy").to_string_lossy().into_owned();
    let refused = server.refused(&["backup", &inside]);
    assert!(refused.contains("belongs elsewhere"), "{refused}");
    let none = server.folder().join("none").to_string_lossy().into_owned();
    let output = support::run(server.folder(), &["backup", &shown, "--data", &none]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("there is no data folder"), "{said}");
    let made = server.json_of(&["backup", &shown]);
    assert!(made["files"].as_u64() > Some(5), "{made}");
    let verified = server.json_of(&["backup", "--verify", &shown]);
    assert_eq!(
        (&verified["verified"], &verified["bytes"]),
        (&json!(true), &made["bytes"])
    );
    let refused = server.refused(&["backup", &shown]);
    assert!(refused.contains("is not empty"), "{refused}");

    // what comes after a backup is not in it
    server.restart();
    let page = console::page(&server, "/settings");
    assert!(
        page.contains("last backup") && page.contains("monday"),
        "{page}"
    );
    let order = json!({ "userId": "c1", "event": "Order Completed", "properties": { "total": 7 } });
    assert_eq!(server.post("/v1/track", &write, &order).0, 200);
    assert_eq!(Counts::of(&server, &read).stored, orders + 1);
    assert!(server.stop(Duration::from_secs(20)).success());
    std::fs::remove_dir_all(server.data()).expect("the data are lost");
    copy(&to.join("data"), &server.data());
    server.restart();
    assert_eq!(Counts::of(&server, &read).stored, orders);
    assert_eq!(answers(&server, &read), before);

    damaged(&server, &to, &shown);
}

/// A backup that is not what it was is told, with what differs.
fn damaged(server: &Server, to: &Path, shown: &str) {
    let catalog = to.join("data/catalog.sqlite");
    let mut bytes = std::fs::read(&catalog).expect("the catalog");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&catalog, bytes).expect("a damaged catalog");
    std::fs::write(to.join("data/more"), "x").expect("a file");
    std::fs::remove_file(to.join("data/FORMAT")).expect("the format");
    let refused = server.refused(&["backup", "--verify", shown]);
    for difference in [
        "catalog.sqlite has other bytes",
        "FORMAT is absent",
        "more was not copied",
        "in 3 of",
    ] {
        assert!(refused.contains(difference), "{refused}");
    }
    std::fs::remove_file(to.join("backup.json")).expect("the manifest");
    let refused = server.refused(&["backup", "--verify", shown]);
    assert!(refused.contains("was it not broken off?"), "{refused}");
}
