//! `kill -9` while a model is trained: after the next start the run goes on at the stage that it had not finished, and what comes of it
//! are the very bytes that a run without a break makes.

mod support;

use serde_json::Value;

use support::{Scope, Server, past, wait_until};

const PROJECT: &str = r#"
[project]
name = "shop"

[[features.user]]
name      = "orders"
aggregate = "count"
event     = "Order Completed"
windows   = ["30d", "90d"]

[[features.user]]
name      = "channel"
aggregate = "last"
type      = "category"
value     = "properties.channel"

[[features.user]]
name      = "total"
aggregate = "last"
type      = "number"
value     = "properties.total"

[models.will_return]
kind    = "predict"
observe = { event = "Order Completed" }
target  = { event = "Order Completed", within = "20d" }
retrain = { every = "365d" }
"#;

/// Each stage is aimed at so often at most: the short ones are over before the kill now and then.
const AIMED_MAX: usize = 6;

struct Shop {
    server: Server,
    read: String,
    admin: String,
}

impl Shop {
    fn ask(&self, path: &str) -> Value {
        let (status, answer) = self.server.get(path, &self.read);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    fn newest(&self) -> Value {
        self.ask("/v1/models/will_return/runs?limit=1")["runs"][0].clone()
    }

    /// Begins a run and says its id.
    fn begin(&self) -> String {
        let before = self.newest()["id"].clone();
        let path = "/v1/models/will_return/train";
        let (status, answer) = self.server.post(path, &self.admin, &Value::Null);
        assert!(status < 300, "{answer}");
        wait_until(|| self.newest()["id"] != before);
        self.newest()["id"].as_str().expect("an id").to_owned()
    }

    fn run(&self, id: &str) -> Value {
        self.ask(&format!("/v1/models/will_return/runs/{id}"))
    }

    /// Waits until a run is in a stage; whether it was seen there, and not only afterwards.
    fn is_seen_in(&self, id: &str, stage: &str) -> bool {
        const QUESTIONS_MAX: u32 = 20_000;
        for _ in 0..QUESTIONS_MAX {
            let run = self.run(id);
            if run["state"] != "running" {
                return false;
            }
            if run["detail"]["progress"]["stage"] == stage {
                return true;
            }
        }
        panic!(
            "the run {id} has not come to the stage {stage}\n{}",
            self.server.log()
        );
    }

    fn ended(&self, id: &str) -> Value {
        wait_until(|| self.run(id)["state"] != "running");
        self.run(id)
    }

    fn artifact(&self, run: &Value) -> String {
        let version = run["version"].as_str().unwrap_or_else(|| panic!("{run:#}"));
        let (_, number) = version.split_once('@').expect("a number");
        let version = self.ask(&format!("/v1/models/will_return/versions/{number}"));
        version["artifact"]
            .as_str()
            .expect("an artifact")
            .to_owned()
    }
}

#[test]
fn a_run_goes_on_after_kill_9_in_each_stage() {
    let (mut server, _) = past::shop(PROJECT, past::in_moods());
    server.restart();
    let mut shop = Shop {
        read: server.key(Scope::Read),
        admin: server.key(Scope::Admin),
        server,
    };
    // nobody has trained it yet: its schedule does
    wait_until(|| shop.newest()["id"].is_string());
    let first = shop.newest()["id"].as_str().expect("an id").to_owned();
    let first = shop.ended(&first);
    let wanted = shop.artifact(&first);
    let asked = shop.begin();
    let again = shop.ended(&asked);
    assert_eq!(shop.artifact(&again), wanted, "the same run twice");
    let (_, audit) = shop.server.get("/v1/audit", &shop.admin);
    let entries = audit["audit"].as_array().expect("entries");
    let is_training =
        |entry: &Value| entry["action"] == "train" && entry["subject"] == "will_return";
    assert!(entries.iter().any(is_training), "{audit:#}");
    for (stage, is_short) in [
        ("dataset", false),
        ("fit", false),
        ("examine", false),
        ("register", true),
    ] {
        let mut resumed = None;
        for _ in 0..AIMED_MAX {
            let id = shop.begin();
            if !shop.is_seen_in(&id, stage) {
                continue;
            }
            shop.server.kill_9();
            shop.server.restart();
            let run = shop.ended(&id);
            let told = ["runs", "show", "will_return", &id];
            let told = shop.server.told(&told);
            assert_eq!(shop.artifact(&run), wanted, "{stage}: {run:#}");
            assert_eq!(
                shop.newest()["id"],
                id.as_str(),
                "no other run in its place"
            );
            resumed = run["detail"]["progress"]["resumed"][0]
                .as_str()
                .map(str::to_owned);
            if resumed.as_deref() == Some(stage) {
                assert!(
                    told.contains(&format!("after a start, at: {stage}")),
                    "{told}"
                );
                break;
            }
        }
        println!("{stage}: it went on in {resumed:?}");
        assert!(
            is_short || resumed.as_deref() == Some(stage),
            "{stage}: {resumed:?}"
        );
    }
}
