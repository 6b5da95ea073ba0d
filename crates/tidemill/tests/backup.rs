//! Backups with the real binary: of a stopped server and beside one that takes events and answers, verified, and what is restored knows and
//! answers what was.

mod support;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use support::past::{in_rhythm, shop};
use support::{Client, Counts, Scope, Server, console, offer_again, wait_until};

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

/// A shop of which a version answers, with the number of its orders.
fn answering_shop() -> (Server, u64) {
    let (server, orders) = shop(PROJECT, in_rhythm());
    server.told(&["train", "will_return", "--project", "project.toml"]);
    let promote = ["promote", "will_return@1", "--override-gate"];
    let why = ["--reason", "a start", "--project", "project.toml"];
    server.told(&[&promote[..], &why].concat());
    (server, orders)
}

#[test]
fn a_backup_is_verified_and_restores_events_and_answers() {
    let (mut server, orders) = answering_shop();
    server.restart();
    let (read, write) = (server.key(Scope::Read), server.key(Scope::Write));
    let before = answers(&server, &read);
    assert_eq!(before[0].1, "will_return@1");
    assert!(console::page(&server, "/settings").contains("no backup yet"));

    let to = server.folder().join("monday");
    let shown = to.to_string_lossy().into_owned();
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

/// Asks and sends without a pause until told to stop.
struct Busy {
    address: SocketAddr,
    is_over: AtomicBool,
}

impl Busy {
    /// Sends events of people of its own, one after the other, and returns the ids of those that were taken.
    fn send(&self, sender: usize, key: &str) -> Vec<String> {
        let (client, mut taken) = (Client::new(), Vec::new());
        while !self.is_over.load(Ordering::Relaxed) {
            let id = format!("{sender}-{}", taken.len());
            let event = json!({
                "type": "track", "messageId": id, "userId": format!("during{sender}"), "event": "Order Completed",
                "properties": { "total": 10 }
            });
            let body = json!({ "batch": [event] });
            let (status, answer) = client
                .post(self.address, "/v1/batch", key, &body)
                .expect("an answer");
            assert_eq!(status, 200, "{answer}");
            taken.push(id);
        }
        taken
    }

    /// Asks about somebody and returns the ids of the decisions.
    fn ask(&self, key: &str) -> Vec<String> {
        let (client, mut decisions) = (Client::new(), Vec::new());
        while !self.is_over.load(Ordering::Relaxed) {
            let body = json!({ "user": "c3" });
            let (status, answer) = client
                .post(self.address, "/v1/predict/will_return", key, &body)
                .expect("an answer");
            assert_eq!(status, 200, "{answer}");
            let id = answer["decision_id"].as_str().expect("an id");
            decisions.push(id.to_owned());
        }
        decisions
    }
}

/// What the server knows of somebody: what they did, and the features that do not change with time alone.
fn known(server: &Server, read: &str, user: &str) -> (Value, Vec<(String, Value)>) {
    let (status, person) = server.get(&format!("/v1/users/{user}"), read);
    assert_eq!(status, 200, "{person}");
    let features = person["features"].as_array().expect("features").iter();
    let features = features.map(|one| {
        let name = one["name"].as_str().expect("a name");
        (name.to_owned(), one["value"].clone())
    });
    let features: Vec<_> = features
        .filter(|(name, _)| !name.contains("since"))
        .collect();
    assert!(features.len() > 3, "{person}");
    (person["timeline"].clone(), features)
}

#[test]
fn a_backup_beside_a_busy_server_is_of_one_moment() {
    let (mut server, orders) = answering_shop();
    // so that much lands meanwhile
    server.set("TIDEMILL_LANDING_AGE", "1s");
    left_behind(&server);
    server.restart();
    assert!(!server.data().join("moment").exists(), "a start tidies up");
    let keys = (server.key(Scope::Read), server.key(Scope::Write));
    let (read, write) = (&keys.0, &keys.1);
    let before = answers(&server, read);
    let c3 = known(&server, read, "c3");
    let early = sent_before(&server, write);
    let at_least = Counts::of(&server, read).stored;
    assert_eq!(at_least, orders + early.len() as u64);

    let admin = server.key(Scope::Admin);
    let (status, answer) = server.post("/v1/backup", &admin, &Value::Null);
    assert_eq!((status, &answer["code"]), (409, &json!("no_backup")));
    let to = server.folder().join("tuesday");
    let shown = to.to_string_lossy().into_owned();
    one_at_a_time(&server, &shown);
    left_behind(&server);
    let busy = Busy {
        address: server.address(),
        is_over: AtomicBool::new(false),
    };
    let (taken, decisions) = thread::scope(|scope| {
        let senders: Vec<_> = (0..2)
            .map(|sender| {
                let busy = &busy;
                scope.spawn(move || busy.send(sender, write))
            })
            .collect();
        let asking = scope.spawn(|| busy.ask(read));
        // all are at work
        wait_until(|| Counts::of(&server, read).stored > at_least + 20);
        let made = server.json_of(&["backup", &shown]);
        assert!(made["files"].as_u64() > Some(5), "{made}");
        busy.is_over.store(true, Ordering::Relaxed);
        let taken: Vec<String> = senders
            .into_iter()
            .flat_map(|sender| sender.join().expect("a sender"))
            .collect();
        (taken, asking.join().expect("who asks"))
    });
    assert!(!server.data().join("moment").exists(), "it is removed");
    let page = console::page(&server, "/settings");
    assert!(page.contains("tuesday"), "{page}");
    let verified = server.json_of(&["backup", "--verify", &shown]);
    assert_eq!(verified["verified"], json!(true));
    assert!(server.stop(Duration::from_secs(20)).success());

    std::fs::remove_dir_all(server.data()).expect("the data are lost");
    copy(&to.join("data"), &server.data());
    server.restart();
    let restored = Counts::of(&server, read).stored;
    assert!(
        (at_least + 20..=at_least + taken.len() as u64).contains(&restored),
        "{at_least} < {restored} < {}",
        at_least + taken.len() as u64
    );
    assert_eq!(answers(&server, read), before);
    assert_eq!(known(&server, read, "c3"), c3);
    // who is not in it was sent later: nothing before it is missing
    for sender in 0..2 {
        let theirs = taken
            .iter()
            .filter(|id| id.starts_with(&format!("{sender}-")));
        let stored = theirs.map(|id| offer_again(&server, write, [id.as_str()]) == 0);
        let changes: Vec<bool> = stored.collect();
        assert!(
            changes.is_sorted_by(|earlier, later| earlier >= later),
            "{sender}"
        );
    }
    assert_eq!(
        offer_again(&server, write, early.iter().map(String::as_str)),
        0
    );
    let kept = decisions
        .iter()
        .map(|id| server.get(&format!("/v1/decisions/{id}"), read).0 == 200);
    let kept: Vec<bool> = kept.collect();
    assert!(kept[0], "what was answered before is there");
    assert!(kept.is_sorted_by(|earlier, later| earlier >= later));
    // it goes on, also after it is opened once more
    let counted = Counts::of(&server, read).stored;
    assert!(server.stop(Duration::from_secs(20)).success());
    server.restart();
    assert_eq!(Counts::of(&server, read).stored, counted);
    assert_eq!(answers(&server, read), before);
}

/// What a command that was killed leaves.
fn left_behind(server: &Server) {
    let moment = server.data().join("moment");
    std::fs::create_dir(&moment).expect("a folder");
    std::fs::write(moment.join("left"), "x").expect("a file");
}

/// While somebody takes a copy elsewhere nobody else may begin.
fn one_at_a_time(server: &Server, to: &str) {
    let lock = std::fs::File::create(server.data().join("backup.lock")).expect("the lock");
    lock.lock().expect("nobody has it");
    let refused = server.refused(&["backup", to]);
    assert!(refused.contains("is at work on"), "{refused}");
    assert!(!Path::new(to).exists(), "nothing was begun");
}

/// Some events that are stored before a backup begins.
fn sent_before(server: &Server, write: &str) -> BTreeSet<String> {
    let ids: BTreeSet<String> = (0..500).map(|number| format!("early{number}")).collect();
    let new = offer_again(server, write, ids.iter().map(String::as_str));
    assert_eq!(new, 500);
    ids
}
