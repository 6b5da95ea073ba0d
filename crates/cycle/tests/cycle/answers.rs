//! Months of a shop pass on the virtual clock, with a version that answers about everybody who orders; faults are planted in what it is served
//! and in what it says, and each is told the next morning, first of what differs.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::decision::Answer;
use tidemill_core::event::PersonKey;
use tidemill_core::{Clock, Decision, Event, FeatureValue, ModelName, Span, Timestamp};
use tidemill_cycle::ProjectLoop;
use tidemill_monitor::alerts::AlertKind;
use tidemill_serve::recommend::RecommendRequest;

use crate::list_rollout::{KIOSK, Kiosk, PEOPLE, drink, drunk};
use crate::shop::open;

const PROJECT: &str = r#"
[project]
name = "shop"

[models.will_return]
kind = "predict"
observe = { event = "Order Completed", sample = 0.8 }
target = { event = "Order Completed", within = "10d" }
training = { budget = 0.3, min_rows = 50, seed = 3 }

[[features.user]]
name = "orders"
aggregate = "count"
event = "Order Completed"
windows = ["7d"]

[[features.user]]
name = "spent"
aggregate = "sum"
value = "properties.total"
event = "Order Completed"
windows = ["7d"]

[[features.user]]
name = "channel"
aggregate = "last"
value = "properties.channel"
type = "category"
event = "Order Completed"
"#;
const PERSONS: i64 = 300;
const DAY: Span = Span::from_days(1);

/// What becomes of a decision before it is logged.
type Spoil<'s> = &'s dyn Fn(&mut Decision);

struct Shop {
    project: Arc<ProjectLoop>,
    clock: Arc<VirtualClock>,
    model: ModelName,
    folder: TempDir,
}

impl Shop {
    async fn begin() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        Self {
            project: open(&folder, PROJECT, clock.clone(), 1).await,
            clock,
            model: "will_return".parse().unwrap(),
            folder,
        }
    }

    /// The same shop in another process.
    async fn reopened(self) -> Self {
        let Self {
            project,
            clock,
            model,
            folder,
        } = self;
        drop(project);
        Self {
            project: open(&folder, PROJECT, clock.clone(), 1).await,
            clock,
            model,
            folder,
        }
    }

    /// Those who order on a day, each in a rhythm of their own that is sometimes broken.
    fn ordering(day: i64) -> Vec<i64> {
        let breaks = |person: i64| (day * 31 + person * 17) % 13 == 0;
        (0..PERSONS)
            .filter(|person| ((day + person) % (4 + person % 11) == 0) != breaks(*person))
            .collect()
    }

    /// Lets a day pass: people order at noon, and are asked about where `is_asked`.
    async fn pass(&self, is_asked: bool, spoil: Spoil<'_>) {
        let noon = self.clock.now() + Span::from_seconds(43_200);
        self.clock.advance_to(noon);
        let ordering = Self::ordering(noon.day());
        let events = ordering
            .iter()
            .map(|person| ordered(*person, noon))
            .collect();
        let name = &self.project.project.name;
        let log = &self.project.stores.log;
        log.append(name, events, Vec::new()).await.unwrap();
        self.project.catch_up().await.unwrap();
        if is_asked {
            let slot = self.project.slot(&self.model).unwrap();
            for person in ordering {
                let person = PersonKey::user(&format!("u{person}"));
                let answerer = &self.project.answerer;
                let (mut decision, _) = answerer.preview(slot, &person).unwrap();
                spoil(&mut decision);
                self.project.decisions.append(&decision).unwrap();
            }
        }
        self.clock.advance_to(noon + Span::from_seconds(43_200));
        self.project.catch_up().await.unwrap();
        self.project.check_alerts().await.unwrap();
    }

    /// A version that answers, whatever the gate says.
    async fn train(&self) {
        let models = std::slice::from_ref(&self.model);
        let runs = self.project.train(models, "person", "test").await.unwrap();
        let version = runs[0].version.unwrap();
        let project = &self.project;
        let promoted = project.promote(&self.model, version, "test", "to have answers", true);
        promoted.await.unwrap();
    }

    /// The ids of open alerts.
    fn open_alerts(&self) -> Vec<String> {
        let open = self.project.alerts.open().unwrap();
        open.into_iter().map(|alert| alert.id).collect()
    }

    /// The place of a feature in what the version reads.
    fn place_of(&self, feature: &str) -> usize {
        let champion = self.project.slot(&self.model).unwrap().champion().unwrap();
        let columns = champion.package.columns.iter();
        let places: Vec<&str> = columns.map(|column| column.name.as_str()).collect();
        let place = places.iter().position(|name| *name == feature);
        place.unwrap_or_else(|| panic!("{feature} is not among {places:?}"))
    }
}

fn ordered(person: i64, at: Timestamp) -> Event {
    let total = 5 + (person * 7 + at.day() * 3) % 40;
    serde_json::from_value(json!({
        "message_id": format!("{person} {at}"), "kind": "track", "name": "Order Completed", "user_id": format!("u{person}"),
        "timestamp": at, "received_at": at,
        "properties": { "total": total, "channel": if person % 2 == 0 { "search" } else { "letter" } }
    }))
    .unwrap()
}

const AS_IT_IS: Spoil<'static> = &|_| {};

#[tokio::test]
async fn what_is_planted_in_serving_is_told_the_next_morning_and_first() {
    let mut shop = Shop::begin().await;
    for _ in 0..60 {
        shop.pass(false, AS_IT_IS).await;
    }
    shop.train().await;
    for day in 0..50 {
        shop.pass(true, AS_IT_IS).await;
        if day == 25 {
            shop = shop.reopened().await;
        }
        assert_eq!(shop.open_alerts(), [""; 0], "day {day}");
    }
    let (spent, orders) = (
        shop.place_of("user.spent_7d"),
        shop.place_of("user.orders_7d"),
    );
    let nulls = |decision: &mut Decision| decision.features[orders] = FeatureValue::Missing;
    let pence = |decision: &mut Decision| {
        let pounds = decision.features[spent].as_number();
        decision.features[spent] = FeatureValue::number(pounds * 100.0);
    };
    let surer = |decision: &mut Decision| {
        let score = decision.answer.score.clamp(0.01, 0.99);
        let odds = score / (1.0 - score) * 30.0;
        decision.answer = Answer {
            score: odds / (1.0 + odds),
            ..decision.answer.clone()
        };
    };
    let planted: [(Spoil<'_>, &str, &str); 3] = [
        (
            &nulls,
            "feature_drifted:user.orders_7d",
            "absent or null in 100.0 % of the answers",
        ),
        (&pence, "feature_drifted:user.spent_7d", "pence"),
        (
            &surer,
            "predictions_drifted:will_return",
            "typical probability",
        ),
    ];
    for (spoil, expected, words) in planted {
        shop.pass(true, spoil).await;
        let alerts = shop.project.alerts.open().unwrap();
        let ids: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
        assert_eq!(ids, [expected], "one fault is one alert: {alerts:#?}");
        assert!(alerts[0].cause.contains(words), "{}", alerts[0].cause);
        for day in 0..3 {
            shop.pass(true, AS_IT_IS).await;
            assert_eq!(shop.open_alerts(), [""; 0], "{day} days after {expected}");
        }
    }
    let report = shop
        .project
        .answers_report(&shop.model, None)
        .await
        .unwrap();
    let yesterday = &report.days[1];
    assert!(
        yesterday.answers > 20 && yesterday.scores.is_some(),
        "{yesterday:?}"
    );
    assert_eq!(yesterday.versions.values().sum::<u64>(), yesterday.answers);
    let features: Vec<&str> = report
        .features
        .iter()
        .map(|of| of.property.as_str())
        .collect();
    assert!(features.contains(&"user.channel"), "{features:?}");
    let feature = Some("user.spent_7d".to_owned());
    let report = shop
        .project
        .answers_report(&shop.model, feature)
        .await
        .unwrap();
    assert!(report.feature.len() > 50, "{}", report.feature.len());
    let trained = report.trained.unwrap().skew;
    assert!(trained.answers > 200 && trained.rows > 0, "{trained:?}");
}

#[tokio::test]
async fn a_feature_that_is_served_otherwise_than_trained_is_told_when_that_has_become_usual() {
    let shop = Shop::begin().await;
    for _ in 0..60 {
        shop.pass(false, AS_IT_IS).await;
    }
    shop.train().await;
    // wrong from the very first day, so that no day differs from the one before
    let spent = shop.place_of("user.spent_7d");
    let pence = |decision: &mut Decision| {
        let pounds = decision.features[spent].as_number();
        decision.features[spent] = FeatureValue::number(pounds * 100.0);
    };
    for _ in 0..12 {
        shop.pass(true, &pence).await;
    }
    let alerts = shop.project.alerts.open().unwrap();
    let ids: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
    assert_eq!(ids, ["serving_skewed:will_return"], "{alerts:#?}");
    assert_eq!(alerts[0].kind, AlertKind::ServingSkewed);
    let cause = &alerts[0].cause;
    assert!(cause.contains("trained on: user.spent_7d ("), "{cause}");
    assert!(!cause.contains("user.orders_7d"), "{cause}");
}

/// A fault of the data, and what it does to answers, is one alert.
#[tokio::test]
async fn what_an_alert_of_the_data_explains_is_named_there() {
    let shop = Shop::begin().await;
    for _ in 0..60 {
        shop.pass(false, AS_IT_IS).await;
    }
    shop.train().await;
    for _ in 0..50 {
        shop.pass(true, AS_IT_IS).await;
    }
    let place = shop.place_of("user.spent_7d");
    // the product sends pence: what is served follows
    let noon = shop.clock.now() + Span::from_seconds(43_200);
    shop.clock.advance_to(noon);
    let ordering = Shop::ordering(noon.day());
    let pence = |person: &i64| {
        let mut event = ordered(*person, noon);
        let total = event.properties["total"].as_i64().unwrap();
        event
            .properties
            .insert("total".to_owned(), json!(total * 100));
        event
    };
    let events = ordering.iter().map(pence).collect();
    let name = &shop.project.project.name;
    let log = &shop.project.stores.log;
    log.append(name, events, Vec::new()).await.unwrap();
    shop.project.catch_up().await.unwrap();
    let slot = shop.project.slot(&shop.model).unwrap();
    for person in ordering {
        let person = PersonKey::user(&format!("u{person}"));
        let (decision, _) = shop.project.answerer.preview(slot, &person).unwrap();
        assert!(decision.features[place].as_number() >= 500.0);
        shop.project.decisions.append(&decision).unwrap();
    }
    shop.clock.advance_to(noon + Span::from_seconds(43_200));
    shop.project.catch_up().await.unwrap();
    shop.project.check_alerts().await.unwrap();
    let alerts = shop.project.alerts.open().unwrap();
    let ids: Vec<&str> = alerts.iter().map(|alert| alert.id.as_str()).collect();
    assert_eq!(ids, ["values_changed:Order Completed.total"], "{alerts:#?}");
    let cause = &alerts[0].cause;
    assert!(cause.contains("feature drifted user.spent_7d"), "{cause}");
    assert!(shop.clock.now().since(noon) < DAY);
}

/// Lets a day of a kiosk pass: a fifth of its people drink at noon, and each of them is shown a list before; `ask` says whom the product
/// names, and how many items it asks for.
async fn kiosk_day(kiosk: &Kiosk, ask: impl Fn(u64) -> (String, usize)) {
    let noon = kiosk.clock.now() + Span::from_seconds(43_200);
    kiosk.clock.advance_to(noon);
    let thirsty = (0..PEOPLE).filter(|person| (*person as i64 + noon.day()) % 5 == 0);
    let thirsty: Vec<u64> = thirsty.collect();
    for person in &thirsty {
        let (user, limit) = ask(*person);
        let request = RecommendRequest {
            user: Some(user),
            limit: Some(limit),
            ..RecommendRequest::default()
        };
        let answerer = &kiosk.project.answerer;
        answerer.recommend(&kiosk.model, &request).unwrap();
    }
    let drunk = thirsty
        .iter()
        .map(|person| drunk(*person, drink(*person, noon.day().unsigned_abs()), noon));
    kiosk.append(drunk.collect()).await;
    kiosk.clock.advance_to(noon + Span::from_seconds(43_200));
    kiosk.project.catch_up().await.unwrap();
    kiosk.project.check_alerts().await.unwrap();
}

/// The alerts about what a kiosk answers, by their id and cause.
fn of_answers(kiosk: &Kiosk) -> Vec<(String, String)> {
    let open = kiosk.project.alerts.open().unwrap().into_iter();
    let of_answers = open.filter(|alert| AlertKind::OF_ANSWERS.contains(&alert.kind));
    of_answers.map(|alert| (alert.id, alert.cause)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_that_are_not_as_before_are_told_the_next_morning() {
    // what is drunk may be shown again, so that lists stay as they are
    let kiosk = Kiosk::open_as(&KIOSK.replace("repeat = false", "repeat = true")).await;
    let known = |person: u64| (format!("u{person}"), 10);
    for day in 0..40 {
        kiosk_day(&kiosk, known).await;
        assert_eq!(of_answers(&kiosk), [], "day {day}");
    }
    // the product names people by ids that no event has: everybody is shown the same
    kiosk_day(&kiosk, |person| (format!("customer-{person}"), 10)).await;
    let told = of_answers(&kiosk);
    assert_eq!(told.len(), 1, "{told:#?}");
    assert_eq!(told[0].0, "predictions_drifted:for_you");
    let ten = "the ten items that it shows most are 100.0 % of all that it shows";
    assert!(told[0].1.contains(ten), "{told:#?}");
    for day in 0..3 {
        kiosk_day(&kiosk, known).await;
        assert_eq!(of_answers(&kiosk), [], "{day} days after");
    }
    // it asks for four items where it has always asked for ten
    kiosk_day(&kiosk, |person| (format!("u{person}"), 4)).await;
    let told = of_answers(&kiosk);
    assert_eq!(told.len(), 1, "{told:#?}");
    let four = "its lists have 4.0 items on average, where 10.0 is usual";
    assert!(told[0].1.contains(four), "{told:#?}");
    let report = kiosk.project.answers_report(&kiosk.model, None).await;
    let report = report.unwrap();
    let lists = report.days[1].lists.as_ref().unwrap();
    assert_eq!((lists.length, lists.most.len()), (4.0, 3), "{lists:?}");
    assert!(report.trained.is_none() && report.days[1].fallbacks.len() <= 1);
}
