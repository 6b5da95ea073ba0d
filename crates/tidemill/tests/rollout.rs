//! How versions take over, through the real binary and over HTTP: a good one step by step with a `kill -9` at each stage, bad ones
//! not, and no request that fails.

mod support;

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, ModelName, ProjectName, RunId, Span};
use tidemill_store::catalog::{Rollout, RolloutStage, Version};
use tidemill_store::local::LocalArtifacts;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{Artifacts, Catalog, DataFolder};

use support::rollouts::put;
use support::{Scope, Server};

const PROJECT: &str = r#"
[project]
name = "shop"

[models.will_return]
kind     = "predict"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "30d" }
retrain  = { every = "365d" }
training = { budget = 0.2 }
rollout  = { shadow = "1s", canary = [0.2, 0.5, 1.0], step = "1s", min_answers = 20, guardrails = { latency_p99_ms = 1000 } }

[sources.orders]
event = "Order Completed"
map   = { user_id = "customer", timestamp = "ordered_at", message_id = "order", "properties.total" = "total" }
"#;

const CUSTOMERS: i64 = 200;
const DAYS: i64 = 240;
/// So many questions are asked until something has to have happened.
const QUESTIONS_MAX: usize = 200_000;

/// A server with a past and a version that answers.
fn shop() -> Server {
    let mut server = Server::start(PROJECT, &[]);
    assert!(server.stop(Duration::from_secs(20)).success());
    let begin = SystemClock.now() - Span::from_days(DAYS);
    let mut csv = "order,customer,ordered_at,total\n".to_owned();
    for day in 0..DAYS {
        let ordering = (0..CUSTOMERS).filter(|customer| {
            let rhythm = if customer % 3 == 0 {
                11
            } else {
                41 + customer % 17
            };
            (day + customer * 7) % rhythm == 0
        });
        for customer in ordering {
            let time = begin + Span::from_seconds(day * 86_400 + customer * 60);
            let total = 10 + (day * customer) % 90;
            writeln!(csv, "o{day}-{customer},c{customer},{time},{total}").expect("a string grows");
        }
    }
    std::fs::write(server.folder().join("orders.csv"), csv).expect("the history");
    server.told(&[
        "import",
        "orders.csv",
        "--source",
        "orders",
        "--project",
        "project.toml",
    ]);
    server.told(&["train", "will_return", "--project", "project.toml"]);
    let promote = [
        "promote",
        "will_return@1",
        "--override-gate",
        "--reason",
        "a start",
    ];
    server.told(&[&promote[..], &["--project", "project.toml"]].concat());
    server
}

/// Registers a version that the gate let pass, made from the first one, and writes down that it takes over, as a process that ended
/// there would have.
fn plant(server: &Server, stage: RolloutStage, share: f64, spoil: impl Fn(&mut Value)) -> u32 {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let folder = DataFolder::open(server.data()).expect("the data folder");
        let catalog = SqliteCatalog::open(&folder).await.expect("the catalog");
        let artifacts = LocalArtifacts::open(&folder);
        let project: ProjectName = "shop".parse().expect("a name");
        let model: ModelName = "will_return".parse().expect("a name");
        let first = catalog
            .version(&project, &model, 1)
            .await
            .expect("the catalog");
        let first = first.expect("a version");
        let bytes = artifacts.get(&first.artifact).await.expect("its artifact");
        let mut package: Value = serde_json::from_slice(&bytes).expect("a package");
        package["golden"] = json!([]);
        spoil(&mut package);
        let now = SystemClock.now();
        let artifact = artifacts.put(package.to_string().into_bytes()).await;
        let version = Version {
            run: RunId::new(now, [7; 10]),
            created_at: now,
            artifact: artifact.expect("the artifacts"),
            passed: true,
            ..first
        };
        let number = catalog.add_version(&version).await.expect("the catalog");
        let before = catalog
            .rollouts(&project, &model, 1)
            .await
            .expect("the catalog");
        let rollout = Rollout {
            project,
            model,
            position: before.first().map_or(1, |before| before.position + 1),
            version: number,
            champion: Some(1),
            stage,
            share,
            started_at: now,
            since: now,
            actor: "system".to_owned(),
            reason: "it passed".to_owned(),
            detail: json!({ "stages": [] }),
        };
        put(&catalog, &rollout).await;
        catalog.close().await;
        number
    })
}

/// Asks until the rollout is not what it was, and returns what it is then and how many answers the version had given by then.
fn ask_until(server: &Server, key: &str, is_there: impl Fn(&Value) -> bool) -> Value {
    for question in 0..QUESTIONS_MAX {
        let user = format!("c{}", question as i64 * 7 % CUSTOMERS);
        let body = json!({ "user": user, "reasons": true });
        let (status, answer) = server.post("/v1/predict/will_return", key, &body);
        assert_eq!(status, 200, "{answer}");
        assert_ne!(answer["fallback"], "version_failed", "{answer}");
        assert!(answer["score"].is_f64(), "{answer}");
        if question % 20 == 0 {
            let (status, answer) = server.get("/v1/models/will_return/rollout", key);
            assert_eq!(status, 200, "{answer}");
            if is_there(&answer["rollout"]) {
                return answer["rollout"].clone();
            }
        }
    }
    panic!("nothing happened:\n{}", server.log());
}

#[test]
fn a_good_version_takes_over_through_kills_and_bad_ones_do_not() {
    let mut server = shop();
    let number = plant(&server, RolloutStage::Shadow, 0.0, |_| {});
    server.restart();
    let (read, admin) = (server.key(Scope::Read), server.key(Scope::Admin));
    let mut seen = vec![json!(0.0)];
    loop {
        let last = seen.last().cloned().unwrap_or_default();
        let rollout = ask_until(&server, &read, |rollout| rollout["share"] != last);
        assert_eq!(rollout["version"], format!("will_return@{number}"));
        seen.push(rollout["share"].clone());
        server.kill_9();
        server.restart();
        let (_, after) = server.get("/v1/models/will_return/rollout", &read);
        let after = &after["rollout"];
        assert!(
            after["share"].as_f64() >= rollout["share"].as_f64(),
            "{after}"
        );
        if rollout["share"] == 1.0 {
            break;
        }
    }
    assert_eq!(seen, [0.0, 0.2, 0.5, 1.0].map(|share| json!(share)));
    let ended = ask_until(&server, &read, |rollout| rollout["stage"] == "promoted");
    assert_eq!(ended["actor"], "system", "{ended}");
    let (_, model) = server.get("/v1/models/will_return", &read);
    assert_eq!(model["champion"], number, "{model}");

    // bad ones, in the shadow and already before people
    for (called, stage, share, calibrator, guardrail) in [
        (
            "panics",
            RolloutStage::Canary,
            0.5,
            json!({ "kind": "isotonic", "scores": [0.0, 1.0], "probabilities": [0.9, 0.1] }),
            "errors",
        ),
        (
            "inverted",
            RolloutStage::Shadow,
            0.0,
            json!({ "kind": "platt", "slope": -1.0, "intercept": 0.0 }),
            "agreement",
        ),
        (
            "shifted",
            RolloutStage::Canary,
            0.5,
            json!({ "kind": "platt", "slope": 1.0, "intercept": 6.0 }),
            "drift",
        ),
    ] {
        server.kill_9();
        let bad = plant(&server, stage, share, |package| {
            package["calibrator"] = calibrator.clone();
        });
        server.restart();
        let ended = ask_until(&server, &read, |rollout| rollout["stage"] == "rolled_back");
        let reason = ended["reason"].as_str().unwrap_or_default();
        let numbers = &ended["stages"][0]["numbers"]["challenger"];
        assert!(reason.contains(guardrail), "{called}: {ended}");
        assert!(
            numbers["answers"].as_u64() <= Some(1_000),
            "{called}: {ended}"
        );
        println!("{called}: after {} answers, {reason}", numbers["answers"]);
        let answer = server.post("/v1/predict/will_return", &read, &json!({ "user": "c0" }));
        assert_eq!(
            answer.1["version"],
            format!("will_return@{number}"),
            "not @{bad}"
        );
    }
    faces(&server, &read, &admin);
}

/// What people see of all that.
fn faces(server: &Server, read: &str, admin: &str) {
    let shown = server.told(&["rollout", "will_return", "--project", "shop"]);
    assert!(
        shown.contains("rolled back") && shown.contains("guardrail drift"),
        "{shown}"
    );
    assert!(shown.contains("challenger"), "{shown}");
    let drilled = server.told(&["drill", "rollback", "will_return", "--project", "shop"]);
    assert!(drilled.starts_with("drill passed"), "{drilled}");
    assert!(drilled.contains("0 answers failed"), "{drilled}");
    assert_eq!(
        server
            .post("/v1/models/will_return/drill", read, &json!({}))
            .0,
        403
    );
    let (_, audit) = server.get("/v1/audit?limit=2", admin);
    assert_eq!(
        audit["audit"][0]["action"], "drill rollback passed",
        "{audit}"
    );
    assert_eq!(
        audit["audit"][1]["action"], "rollout rolled_back",
        "{audit}"
    );
    let (status, text) = server.ask("GET", "/metrics", read, "");
    assert_eq!(status, 200);
    let line =
        r#"tidemill_rollout_stage{project="shop",model="will_return",stage="rolled_back"} 1"#;
    assert!(text.contains(line), "{text}");
    let (status, unknown) = server.get("/v1/models/nothing/rollout", read);
    assert_eq!(
        (status, unknown["code"].as_str()),
        (404, Some("unknown_model"))
    );
}
