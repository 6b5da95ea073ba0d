//! The gate in the loop: what knows the future is refused by name, data that is not as it was is refused too, and what people would
//! be told otherwise is said.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, Event, ModelName, Span};
use tidemill_cycle::ProjectLoop;
use tidemill_store::catalog::{Run, RunState};

use crate::shop::open;

const PEOPLE: u64 = 120;
const DAYS: i64 = 150;

fn project(features: &[&str], gate: &str) -> String {
    let features = features.concat();
    format!(
        r#"
[project]
name = "shop"
{features}
[models.will_return]
kind     = "predict"
observe  = {{ event = "Order" }}
target   = {{ event = "Order", within = "10d" }}
training = {{ budget = 0.3, min_rows = 50, seed = 3 }}
gate     = {{ {gate} }}
"#
    )
}

const ORDERS: &str = r#"
[[features.user]]
name      = "orders"
aggregate = "count"
event     = "Order"
windows   = ["7d", "30d"]

[[features.user]]
name      = "since"
aggregate = "since_last"
event     = "Order"
"#;

/// What the last order said about something.
fn last(name: &str) -> String {
    format!(
        r#"
[[features.user]]
name      = "{name}"
aggregate = "last"
type      = "number"
event     = "Order"
value     = "properties.{name}"
"#
    )
}

/// A number from 0 to 1 that looks random.
fn chance(person: u64, day: i64, salt: u64) -> f64 {
    let mut mixed = (person + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
        ^ (day.cast_unsigned() + 7).wrapping_mul(0xbf58_476d_1ce4_e5b9)
        ^ salt.wrapping_mul(0x94d0_49bb_1331_11eb);
    for _ in 0..3 {
        mixed ^= mixed >> 29;
        mixed = mixed.wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^= mixed >> 32;
    }
    (mixed >> 11) as f64 / 2f64.powi(53)
}

/// One in seven orders often, the others seldom.
fn orders(person: u64, day: i64) -> bool {
    chance(person, day, 1) < if person % 7 == 6 { 0.25 } else { 0.03 }
}

struct Shop {
    project: Arc<ProjectLoop>,
    clock: Arc<VirtualClock>,
    model: ModelName,
    folder: TempDir,
}

impl Shop {
    async fn open(project: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        Self {
            project: open(&folder, project, clock.clone(), 5).await,
            clock,
            model: "will_return".parse().unwrap(),
            folder,
        }
    }

    /// The same shop in another process, with another project file.
    async fn reopened(self, project: &str) -> Self {
        drop(self.project);
        Self {
            project: open(&self.folder, project, self.clock.clone(), 5).await,
            ..self
        }
    }

    /// Days on which people order; `paid` is what they pay, made of the usual amount.
    async fn live(&self, days: i64, paid: impl Fn(f64) -> Value) {
        for _ in 0..days {
            let now = self.clock.now() + Span::from_days(1);
            self.clock.advance_to(now);
            let day = now.day();
            let events = (0..PEOPLE).filter(|person| orders(*person, day)).map(|person| {
                // who comes again was written into the order afterwards, and the file was imported as it stands today
                let comes_again = (1..=10).any(|later| orders(person, day + later));
                let event: Event = serde_json::from_value(json!({
                    "message_id": format!("{person} {now}"), "kind": "track", "name": "Order", "user_id": format!("u{person}"),
                    "timestamp": now, "received_at": now,
                    "properties": { "paid": paid(5.0 + 50.0 * chance(person, day, 2)), "reminded": f64::from(u8::from(comes_again)) }
                }))
                .unwrap();
                event
            });
            let events = events.collect();
            let name = &self.project.project.name;
            let log = &self.project.stores.log;
            log.append(name, events, Vec::new()).await.unwrap();
        }
        self.project.catch_up().await.unwrap();
    }

    async fn train(&self) -> Run {
        let models = std::slice::from_ref(&self.model);
        let mut runs = self.project.train(models, "person", "test").await.unwrap();
        runs.remove(0)
    }
}

fn check<'r>(run: &'r Run, name: &str) -> &'r Value {
    let checks = &run.detail["examination"]["verdict"]["checks"];
    let mut checks = checks.as_array().unwrap().iter();
    checks
        .find(|check| check["name"] == name)
        .unwrap_or_else(|| panic!("{name} in {:#}", run.detail["examination"]["verdict"]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_feature_that_knows_the_future_is_refused_unless_somebody_vouches_for_it() {
    let shop = Shop::open(&project(&[ORDERS, &last("paid"), &last("reminded")], "")).await;
    shop.live(DAYS, |paid| json!(paid)).await;
    let run = shop.train().await;
    assert_eq!(run.state, RunState::Refused, "{}", run.summary);
    assert!(
        run.summary.contains("user.reminded alone tells the target"),
        "{}",
        run.summary
    );
    let leak = check(&run, "leak");
    assert_eq!(
        (&leak["passed"], &leak["value"]),
        (&json!(false), &json!(1.0))
    );
    // a person may decide otherwise, with a reason
    let number = run.version.unwrap();
    let promote = |reason: &'static str| {
        shop.project
            .promote(&shop.model, number, "anna", reason, true)
    };
    assert!(promote("").await.is_err());
    promote("reminders are sent before").await.unwrap();
    let audit = shop
        .project
        .stores
        .catalog
        .audit_log(&shop.project.project.name, 1);
    let entry = audit.await.unwrap().remove(0);
    assert_eq!(
        (
            entry.actor.as_str(),
            entry.action.as_str(),
            entry.reason.as_str()
        ),
        (
            "anna",
            "promote against the gate",
            "reminders are sent before"
        )
    );

    // or the project file says why it is no leak
    let trusted = "trusted = { \"user.reminded\" = \"reminders are sent before\" }";
    let shop = Shop::open(&project(
        &[ORDERS, &last("paid"), &last("reminded")],
        trusted,
    ))
    .await;
    shop.live(DAYS, |paid| json!(paid)).await;
    let run = shop.train().await;
    let leak = check(&run, "leak");
    assert_eq!(leak["passed"], true, "{leak}");
    let said = leak["sentence"].as_str().unwrap();
    assert!(
        said.contains("trusted: reminders are sent before"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn data_that_is_not_as_it_was_is_refused_and_what_changes_for_people_is_said() {
    let shop = Shop::open(&project(&[ORDERS, &last("paid")], "")).await;
    shop.live(DAYS, |paid| json!(paid)).await;
    let first = shop.train().await;
    let none = json!(null);
    assert_eq!(first.detail["examination"]["difference"], none);
    for name in [
        "data:nulls",
        "data:ranges",
        "data:drift",
        "data:constant",
        "leak",
    ] {
        assert_eq!(
            check(&first, name)["passed"],
            true,
            "{}",
            check(&first, name)
        );
    }
    let promoted =
        shop.project
            .promote(&shop.model, first.version.unwrap(), "anna", "a start", true);
    promoted.await.unwrap();

    // a week later nothing is strange
    shop.live(14, |paid| json!(paid)).await;
    let second = shop.train().await;
    for name in [
        "data:volume",
        "data:freshness",
        "data:drift",
        "data:pace",
        "answers:again",
    ] {
        assert_eq!(
            check(&second, name)["passed"],
            true,
            "{}",
            check(&second, name)
        );
    }
    let difference = &second.detail["examination"]["difference"];
    assert!(difference["mean"].as_f64().unwrap() < 0.2, "{difference}");
    assert!(difference["largest"].is_f64());
    let said = check(&second, "answers:champion")["sentence"]
        .as_str()
        .unwrap();
    assert!(said.contains("beside will_return@1"), "{said}");

    // then amounts come in pence
    shop.live(24, |paid| json!(paid * 100.0)).await;
    let third = shop.train().await;
    assert_eq!(third.state, RunState::Refused, "{}", third.summary);
    let drift = check(&third, "data:drift");
    assert_eq!(drift["passed"], false, "{drift}");
    let said = drift["sentence"].as_str().unwrap();
    assert!(said.contains("user.paid"), "{said}");
    let found = &third.detail["examination"]["data"]["features"][0];
    assert_eq!(
        (&found["feature"], &found["told"]),
        (&json!("user.paid"), &json!(true))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_champion_is_compared_with_the_features_that_it_reads_also_where_they_are_read_no_more()
{
    let all = project(&[ORDERS, &last("paid")], "");
    let mut shop = Shop::open(&all).await;
    shop.live(DAYS, |paid| json!(paid)).await;
    let first = shop.train().await;
    let number = first.version.unwrap();
    let promoted = shop
        .project
        .promote(&shop.model, number, "anna", "a start", true);
    promoted.await.unwrap();

    // somebody thinks that what was paid is enough to know
    let less = all.replace("kind ", "features = [\"user.paid\"]\nkind ");
    shop = shop.reopened(&less).await;
    shop.live(7, |paid| json!(paid)).await;
    let second = shop.train().await;
    assert_eq!(second.state, RunState::Refused, "{}", second.summary);
    let champion = check(&second, "champion");
    assert_eq!(champion["passed"], false, "{champion}");
    let difference = check(&second, "answers:champion");
    let said = difference["sentence"].as_str().unwrap();
    assert!(!said.contains("asked without"), "{said}");
    let slot = shop.project.slot(&shop.model).unwrap();
    assert_eq!(slot.champion().unwrap().number, number);
    let columns = &second.detail["dataset"]["features"];
    assert_eq!(columns.as_array().unwrap().len(), 1, "it learnt from one");

    // as good as it is beside a version that reads what it reads, on the same rows
    shop = shop.reopened(&all).await;
    let third = shop.train().await;
    let of = |run: &Run| run.detail["examination"]["champion"].clone();
    assert_eq!(of(&second), of(&third));
    assert!(of(&second)["value"].as_f64() > Some(0.6), "{}", of(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_said_that_a_champion_could_not_be_compared_whose_features_are_declared_no_more() {
    let mut shop = Shop::open(&project(&[ORDERS, &last("paid")], "")).await;
    shop.live(DAYS, |paid| json!(paid)).await;
    let number = shop.train().await.version.unwrap();
    let promoted = shop
        .project
        .promote(&shop.model, number, "anna", "a start", true);
    promoted.await.unwrap();
    shop = shop.reopened(&project(&[ORDERS], "")).await;
    shop.live(7, |paid| json!(paid)).await;
    let slot = shop.project.slot(&shop.model).unwrap();
    assert!(slot.champion().is_none(), "it reads what there is no more");
    let run = shop.train().await;
    let said = check(&run, "champion")["sentence"].clone();
    let said = said.as_str().unwrap();
    let expected = format!("will_return@{number} answers nobody now and could not be compared: ");
    assert!(
        said.starts_with(&expected) && said.contains("user.paid"),
        "{said}"
    );
}
