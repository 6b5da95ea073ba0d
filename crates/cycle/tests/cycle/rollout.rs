//! How versions take over: good ones step by step, bad ones not, and nobody gets a failed answer.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::decision::{Fallback, RolloutArm};
use tidemill_core::feature::FeatureTable;
use tidemill_core::{Clock, Event, RunId, Span, Timestamp};
use tidemill_learn::{Boosted, Learner, Task, TrainingSet};
use tidemill_monitor::alerts::AlertKind;
use tidemill_serve::{Package, PredictRequest, Prediction};
use tidemill_store::catalog::{AuditEntry, Rollout, RolloutStage, Version};

use crate::shop::{SHOP, Shop, open};
use crate::spoilt::{PLANTED, UNREADABLE};

/// People whom the shop knows.
const PEOPLE: i64 = 400;
/// A bad version must be gone after so many questions.
const QUESTIONS_MAX: usize = 1_000;
/// How many questions pass between two looks of the loop.
const LOOK_EVERY: usize = 20;

const RULES: &str = "rollout = { shadow = \"1h\", canary = [0.1, 0.5, 1.0], step = \"1h\", min_answers = 30, \
                     guardrails = { latency_p99_ms = 1 } }";

/// A shop whose version was promoted, and whose project file asks for rollouts.
async fn shop(in_model: &str) -> Shop {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let text = SHOP.replace(
        "kind = \"predict\"",
        &format!("kind = \"predict\"\n{in_model}"),
    );
    let project = open(&folder, &text, clock.clone(), 1).await;
    let shop = Shop {
        project,
        clock,
        model: "will_return".parse().unwrap(),
        folder,
    };
    for _ in 0..80 {
        order(&shop, |day, person| (day + person) % (4 + person % 17) == 0).await;
    }
    shop.answer_by_a_version().await;
    shop
}

/// A day on which some order.
async fn order(shop: &Shop, does: impl Fn(i64, i64) -> bool) {
    let now = shop.clock.now() + Span::from_days(1);
    shop.clock.advance_to(now);
    let ordering = (0..PEOPLE).filter(|person| does(now.day(), *person));
    let events = ordering.map(|person| event(person, now)).collect();
    let log = &shop.project.stores.log;
    let name = &shop.project.project.name;
    log.append(name, events, Vec::new()).await.unwrap();
    shop.project.catch_up().await.unwrap();
}

fn event(person: i64, at: Timestamp) -> Event {
    serde_json::from_value(json!({
        "message_id": format!("o{person} {at}"), "kind": "track", "name": "Order Completed",
        "user_id": format!("u{person}"), "timestamp": at, "received_at": at, "properties": { "total": 5 + person % 23 }
    }))
    .unwrap()
}

/// The champion's artifact, to be spoilt.
async fn champion(shop: &Shop) -> Value {
    let number = shop.project.slot(&shop.model).unwrap().champion();
    let package = shop
        .project
        .package(&shop.model, number.unwrap().number)
        .await;
    let mut package = serde_json::to_value(package.unwrap()).unwrap();
    package["golden"] = json!([]); // what was examined was something else
    package
}

/// Registers an artifact as a version that the gate let pass.
async fn register(shop: &Shop, artifact: Vec<u8>) -> u32 {
    let stores = &shop.project.stores;
    let artifact = stores.artifacts.put(artifact).await.unwrap();
    let version = Version {
        project: shop.project.project.name.clone(),
        model: shop.model.clone(),
        number: 0,
        run: RunId::new(shop.clock.now(), [7; 10]),
        created_at: shop.clock.now(),
        artifact,
        passed: true,
        detail: Value::Null,
    };
    stores.catalog.add_version(&version).await.unwrap()
}

async fn takes_over(shop: &Shop, number: u32) {
    let begun = shop
        .project
        .let_take_over(&shop.model, number, "test", "it passed");
    begun.await.unwrap();
}

async fn newest(shop: &Shop) -> Rollout {
    let (catalog, name) = (&shop.project.stores.catalog, &shop.project.project.name);
    let newest = catalog.rollouts(name, &shop.model, 1).await.unwrap();
    newest.into_iter().next().unwrap()
}

fn ask(shop: &Shop, person: i64) -> Prediction {
    let request = PredictRequest {
        user: Some(format!("u{person}")),
        reasons: true,
        ..PredictRequest::default()
    };
    let answer = shop.project.answerer.predict(&shop.model, &request);
    let (prediction, _) = answer.expect("there is always an answer");
    assert!(prediction.score.is_finite(), "{prediction:?}");
    assert_ne!(prediction.fallback, Some(Fallback::VersionFailed));
    prediction
}

/// What the loop does between two questions.
async fn look(shop: &Shop) {
    shop.project.work_in_the_shadow().await.unwrap();
    shop.project.advance_rollouts().await.unwrap();
}

/// Asks until the rollout has ended; returns after how many questions.
async fn ask_until_it_ends(shop: &Shop, called: &str) -> usize {
    for question in 0..QUESTIONS_MAX {
        ask(shop, question as i64 * 7 % PEOPLE);
        if question % LOOK_EVERY == 0 {
            look(shop).await;
            if !newest(shop).await.is_under_way() {
                return question;
            }
        }
    }
    look(shop).await;
    let status = shop.project.rollout_status(&shop.model).unwrap();
    let still = newest(shop).await;
    assert!(
        !still.is_under_way(),
        "{called} is still there: {}",
        serde_json::to_string_pretty(&status).unwrap()
    );
    QUESTIONS_MAX
}

/// Two million trees that are a single leaf each: what they add is nothing, and it takes a while.
fn slow(package: &Package) -> Vec<u8> {
    const TREES: usize = 2_000_000;
    let mut features = FeatureTable::new(package.columns.clone());
    let rows = package.golden.iter().cycle().take(200);
    rows.for_each(|row| features.push(&row.features));
    let targets = (0..200).map(|row| f64::from(row % 2)).collect();
    let set = TrainingSet::unweighted(features, targets).unwrap();
    let fitted = Boosted::default().fit(&Task::Binary, &set, 1).unwrap();
    let mut package = serde_json::to_value(package).unwrap();
    package["golden"] = json!([]);
    package["calibrator"] = json!({ "kind": "none" });
    package["fitted"] = serde_json::to_value(fitted).unwrap();
    package["fitted"]["forests"][0] = json!({
        "base": 0.0,
        "roots": (0..TREES).collect::<Vec<_>>(),
        "kinds": "v".repeat(TREES),
        "features": vec![0; TREES],
        "values": vec![0.0; TREES],
        "rights": vec![0; TREES],
        "covers": vec![1.0; TREES],
    });
    serde_json::to_vec(&package).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_version_answers_for_long_and_nobody_gets_a_failed_answer() {
    let shop = shop(RULES).await;
    let good = champion(&shop).await;
    let number = shop.answering();
    for (called, spoil) in PLANTED {
        let mut package = good.clone();
        spoil(&mut package);
        let version = register(&shop, serde_json::to_vec(&package).unwrap()).await;
        takes_over(&shop, version).await;
        let questions = ask_until_it_ends(&shop, called).await;
        let ended = newest(&shop).await;
        assert_eq!(ended.stage, RolloutStage::RolledBack, "{called}: {ended:?}");
        assert_eq!((ended.version, ended.champion), (version, Some(number)));
        println!(
            "in the shadow, {called}: after {questions} questions, {}",
            ended.reason
        );
        let again = ask(&shop, 1);
        assert_eq!(again.version, Some(format!("will_return@{number}")));
    }
    for (called, spoil) in UNREADABLE {
        let mut package = good.clone();
        spoil(&mut package);
        let version = register(&shop, serde_json::to_vec(&package).unwrap()).await;
        takes_over(&shop, version).await;
        let ended = newest(&shop).await;
        assert_eq!(ended.stage, RolloutStage::RolledBack, "{called}");
        assert!(
            ended.reason.starts_with("it cannot be loaded"),
            "{called}: {}",
            ended.reason
        );
        println!("{called}: {}", ended.reason);
    }
    let version = register(&shop, b"{\"format\":1, \"pro".to_vec()).await;
    takes_over(&shop, version).await;
    assert_eq!(
        newest(&shop).await.stage,
        RolloutStage::RolledBack,
        "damaged bytes"
    );

    // it is told, until another version takes over
    let is_told = async || {
        shop.project.check_alerts().await.unwrap();
        let open = shop.project.alerts.open().unwrap();
        open.iter()
            .any(|alert| alert.kind == AlertKind::VersionRolledBack)
    };
    assert!(is_told().await);
    let good = register(&shop, serde_json::to_vec(&good).unwrap()).await;
    takes_over(&shop, good).await;
    assert!(!is_told().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_version_is_told_from_a_fast_one() {
    let shop = shop(RULES).await;
    let number = shop.answering();
    let package = shop.project.package(&shop.model, number).await.unwrap();
    let version = register(&shop, slow(&package)).await;
    takes_over(&shop, version).await;
    ask_until_it_ends(&shop, "a slow version").await;
    let ended = newest(&shop).await;
    assert!(
        ended.reason.starts_with("guardrail latency_p99_ms"),
        "{}",
        ended.reason
    );
}

/// Writes into the catalog that a version answers for a share of the people, as a process that ended there would have.
async fn stands_at(shop: &Shop, version: u32, stage: RolloutStage, share: f64) {
    let (project, model) = (shop.project.project.name.clone(), shop.model.clone());
    let now = shop.clock.now();
    let before = shop
        .project
        .stores
        .catalog
        .rollouts(&project, &model, 1)
        .await
        .unwrap();
    let rollout = Rollout {
        position: before.first().map_or(1, |before| before.position + 1),
        version,
        champion: shop
            .project
            .slot(&model)
            .unwrap()
            .champion()
            .map(|one| one.number),
        stage,
        share,
        started_at: now,
        since: now,
        actor: "test".to_owned(),
        reason: "it passed".to_owned(),
        detail: json!({ "stages": [] }),
        project: project.clone(),
        model,
    };
    let audit = AuditEntry {
        at: now,
        project: Some(project),
        actor: "test".to_owned(),
        action: "plant".to_owned(),
        subject: String::new(),
        reason: String::new(),
    };
    let put = shop.project.stores.catalog.put_rollout(&rollout, audit);
    put.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_got_past_the_shadow_is_stopped_in_the_canary_after_a_restart() {
    let text = SHOP.replace(
        "kind = \"predict\"",
        &format!("kind = \"predict\"\n{RULES}"),
    );
    let mut shop = shop(RULES).await;
    let good = champion(&shop).await;
    for (called, spoil) in PLANTED {
        let mut package = good.clone();
        spoil(&mut package);
        let version = register(&shop, serde_json::to_vec(&package).unwrap()).await;
        stands_at(&shop, version, RolloutStage::Canary, 0.5).await;
        shop = shop.reopened(&text).await;
        let questions = ask_until_it_ends(&shop, called).await;
        let ended = newest(&shop).await;
        assert_eq!(ended.stage, RolloutStage::RolledBack, "{called}: {ended:?}");
        println!(
            "for half of the people, {called}: after {questions} questions, {}",
            ended.reason
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_version_takes_over_step_by_step_through_restarts() {
    let in_model = format!("holdout = 0.1\n{RULES}");
    let text = SHOP.replace(
        "kind = \"predict\"",
        &format!("kind = \"predict\"\n{in_model}"),
    );
    let mut shop = shop(&in_model).await;
    let before = shop.answering();
    let good = serde_json::to_vec(&champion(&shop).await).unwrap();
    let version = register(&shop, good).await;
    takes_over(&shop, version).await;

    let (mut had, mut shares) = (HashSet::new(), Vec::new());
    for _ in 0..6 {
        // wherever it is, the process ends and another goes on
        shop = shop.reopened(&text).await;
        let at = newest(&shop).await;
        if !at.is_under_way() {
            break;
        }
        shares.push(at.share);
        let (mut challengers, mut control, mut held_out) = (HashSet::new(), 0, 0);
        for person in 0..PEOPLE {
            let answer = ask(&shop, person);
            let decision = shop
                .project
                .decision(answer.decision_id)
                .await
                .unwrap()
                .unwrap();
            match decision.arm {
                Some(RolloutArm::Challenger) => {
                    assert_eq!(decision.version, Some(version));
                    challengers.insert(person);
                }
                other => {
                    assert_eq!(
                        decision.version,
                        decision.fallback.is_none().then_some(before)
                    );
                    control += usize::from(other == Some(RolloutArm::Control));
                }
            }
            held_out += usize::from(decision.fallback == Some(Fallback::Holdout));
        }
        assert!((20..70).contains(&held_out), "{held_out} are never asked");
        assert!(
            challengers.is_superset(&had),
            "a growing share keeps those who had it"
        );
        assert!(
            at.share == 1.0 || control.abs_diff(challengers.len()) < 60,
            "{control}"
        );
        had = challengers;
        // too early
        look(&shop).await;
        assert_eq!(newest(&shop).await.share, at.share);
        shop.clock
            .advance_to(shop.clock.now() + Span::from_seconds(3_601));
        look(&shop).await;
    }
    assert_eq!(shares, [0.0, 0.1, 0.5, 1.0]);
    let ended = newest(&shop).await;
    assert_eq!(ended.stage, RolloutStage::Promoted, "{ended:?}");
    assert_eq!(ended.detail["stages"].as_array().unwrap().len(), 4);
    let champion = shop.project.slot(&shop.model).unwrap().champion().unwrap();
    assert_eq!(champion.number, version);
    assert_eq!(
        ask(&shop, 1).version.is_some(),
        ask(&shop, 1).fallback.is_none()
    );
    let audit = shop
        .project
        .stores
        .catalog
        .audit_log(&shop.project.project.name, 6)
        .await;
    let actions: Vec<String> = audit
        .unwrap()
        .into_iter()
        .map(|entry| entry.action)
        .collect();
    let expected = [
        "rollout promoted",
        "promote",
        "rollout canary at 100 %",
        "rollout canary at 50 %",
        "rollout canary at 10 %",
        "rollout shadow",
    ];
    assert_eq!(actions, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_decides_at_once_and_what_passed_meanwhile_has_its_turn() {
    let shop = shop(RULES).await;
    let good = serde_json::to_vec(&champion(&shop).await).unwrap();
    let answering = || shop.answering();
    let before = answering();
    let first = register(&shop, good.clone()).await;
    takes_over(&shop, first).await;
    // rollback sends back what takes over, and the champion stays
    let back = shop
        .project
        .rollback(&shop.model, "anna", "not today")
        .await
        .unwrap();
    assert_eq!((back, answering()), (Some(before), before));
    let ended = newest(&shop).await;
    assert_eq!(
        (ended.stage, ended.actor.as_str()),
        (RolloutStage::RolledBack, "anna")
    );
    shop.project.check_alerts().await.unwrap();
    assert!(
        shop.project.alerts.open().unwrap().is_empty(),
        "a person knows what they did"
    );

    // promote in the middle
    takes_over(&shop, first).await;
    ask(&shop, 1);
    let promoted = shop
        .project
        .promote(&shop.model, first, "anna", "now", false);
    promoted.await.unwrap();
    assert_eq!(
        (newest(&shop).await.stage, answering()),
        (RolloutStage::Promoted, first)
    );
    assert!(
        shop.project
            .slot(&shop.model)
            .unwrap()
            .challenger()
            .is_none()
    );

    // one that is bad, and behind it one that is not
    let mut bad = champion(&shop).await;
    bad["calibrator"] = json!({ "kind": "platt", "slope": -1.0, "intercept": 0.0 });
    let bad = register(&shop, serde_json::to_vec(&bad).unwrap()).await;
    takes_over(&shop, bad).await;
    let next = register(&shop, good).await;
    takes_over(&shop, next).await;
    assert_eq!(newest(&shop).await.version, bad, "one at a time");
    for question in 0..200 {
        ask(&shop, question * 7 % PEOPLE);
    }
    look(&shop).await;
    let now = newest(&shop).await;
    assert_eq!((now.version, now.stage), (next, RolloutStage::Shadow));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_turn_out_worse_send_a_version_back() {
    // only outcomes can tell: the other guardrails are wide open
    let rules = "rollout = { shadow = \"40d\", min_answers = 30, guardrails = { drift = 100, agreement = -1, latency_p99_ms = 10000 } }";
    let shop = shop(rules).await;
    let mut timid = champion(&shop).await;
    timid["calibrator"] = json!({ "kind": "platt", "slope": 1.0, "intercept": -8.0 });
    let version = register(&shop, serde_json::to_vec(&timid).unwrap()).await;
    takes_over(&shop, version).await;
    for person in 0..PEOPLE {
        ask(&shop, person);
    }
    look(&shop).await;
    assert!(
        newest(&shop).await.is_under_way(),
        "nothing has turned out yet"
    );
    for _ in 0..12 {
        order(&shop, |day, person| (day + person) % (4 + person % 17) == 0).await;
    }
    look(&shop).await;
    let ended = newest(&shop).await;
    let status = shop.project.rollout_status(&shop.model).unwrap();
    assert!(ended.reason.starts_with("guardrail worse"), "{status:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_proves_that_a_bad_version_is_sent_back() {
    let shop = shop("rollout = { drill = \"7d\" }").await;
    let answering = shop.answering();
    let early = shop.project.drill_rollback(&shop.model, "anna").await;
    assert!(
        early
            .unwrap_err()
            .to_string()
            .contains("ask will_return about somebody first")
    );
    for person in 0..20 {
        ask(&shop, person);
    }
    let logged = shop.project.decisions.last();
    let drill = shop
        .project
        .drill_rollback(&shop.model, "anna")
        .await
        .unwrap();
    assert!(drill.passed, "{drill:?}");
    assert_eq!((drill.champion, drill.failed_answers), (answering, 0));
    assert!(drill.questions < 10, "{drill:?}");
    assert_eq!(shop.project.decisions.last(), logged, "nobody was answered");
    assert_eq!(
        ask(&shop, 1).version,
        Some(format!("will_return@{answering}"))
    );
    let name = &shop.project.project.name;
    let audit = async || {
        shop.project
            .stores
            .catalog
            .audit_log(name, 1)
            .await
            .unwrap()
            .remove(0)
    };
    let entry = audit().await;
    assert_eq!(
        (entry.action.as_str(), entry.actor.as_str()),
        ("drill rollback passed", "anna")
    );
    // by its schedule again, after a week
    shop.project.tick().await.unwrap();
    assert_eq!(audit().await.at, entry.at);
    shop.clock.advance_to(shop.clock.now() + Span::from_days(8));
    shop.project.tick().await.unwrap();
    let status = shop.project.rollout_status(&shop.model).unwrap();
    assert!(status.drill.unwrap().at > entry.at);
}
