//! What a model earned, told by those who never got its answers.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::decision::Fallback;
use tidemill_core::{Clock, Event, Span, Timestamp};
use tidemill_cycle::CycleError;
use tidemill_serve::PredictRequest;

use crate::shop::{SHOP, Shop, open};

const PEOPLE: usize = 4_000;

fn event(name: &str, person: usize, at: Timestamp, total: f64) -> Event {
    serde_json::from_value(json!({
        "message_id": format!("{name} x{person} {at}"), "kind": "track", "name": name, "user_id": format!("x{person}"),
        "timestamp": at, "received_at": at, "properties": { "total": total }
    }))
    .unwrap()
}

async fn shop(in_project: &str, in_model: &str) -> Shop {
    let folder = TempDir::new().unwrap();
    let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
    let text = SHOP
        .replace("name = \"shop\"", &format!("name = \"shop\"\n{in_project}"))
        .replace(
            "kind = \"predict\"",
            &format!("kind = \"predict\"\n{in_model}"),
        );
    let project = open(&folder, &text, clock.clone(), 1).await;
    let model = "will_return".parse().unwrap();
    Shop {
        project,
        clock,
        model,
        folder,
    }
}

#[tokio::test]
async fn the_difference_that_was_made_is_found_in_money() {
    let shop = shop(
        "currency = \"EUR\"
value = \"Order Completed.properties.total\"",
        "holdout = 0.2",
    )
    .await;
    shop.live(150, "Page Viewed").await;
    shop.answer_by_a_version().await;

    // on the second of June everybody has bought before, some much, some little
    let append = async |events: Vec<Event>| {
        let log = &shop.project.stores.log;
        log.append(&shop.project.project.name, events, Vec::new())
            .await
            .unwrap();
        shop.project.catch_up().await.unwrap();
    };
    let usual = |person: usize| (person * 7 % 100) as f64;
    let now = shop.clock.now() + Span::from_days(2);
    shop.clock.advance_to(now);
    append(
        (0..PEOPLE)
            .map(|person| event("Order Completed", person, now, usual(person)))
            .collect(),
    )
    .await;
    let mut held_out = 0;
    let mut orders = Vec::new();
    for person in 0..PEOPLE {
        let request = PredictRequest {
            user: Some(format!("x{person}")),
            ..PredictRequest::default()
        };
        let (answer, _) = shop
            .project
            .answerer
            .predict(&shop.model, &request)
            .unwrap();
        // two more of those whom the model helps
        let helped = match answer.fallback {
            Some(Fallback::Holdout) => 0.0,
            None => 2.0,
            other => panic!("{other:?}"),
        };
        held_out += usize::from(answer.fallback.is_some());
        let at = now + Span::from_days(1);
        let noise = (person * 13 % 11) as f64 - 5.0;
        orders.push(event(
            "Order Completed",
            person,
            at,
            usual(person) + helped + noise,
        ));
    }
    assert!((600..1_000).contains(&held_out), "{held_out} of {PEOPLE}");
    shop.clock.advance_to(now + Span::from_days(1));
    append(orders).await;
    shop.clock.advance_to(now + Span::from_days(20));
    shop.project.catch_up().await.unwrap();

    let report = shop.project.value_report(&shop.model).await.unwrap();
    let month = &report.months[0];
    assert_eq!((month.with + month.without) as usize, PEOPLE, "{report:#?}");
    assert_eq!(month.without as usize, held_out);
    let (low, high) = month.interval.unwrap();
    assert!(low > 0.0 && low < 2.0 && 2.0 < high, "{month:#?}");
    assert!(
        month.variance_reduction.unwrap() > 0.9,
        "what people usually spend is taken out"
    );
    let value = month.value.unwrap();
    assert!(
        (value - 2.0 * month.with as f64).abs() < 0.5 * month.with as f64,
        "{value}"
    );
    assert!(
        report.sentence.contains("earned") && report.sentence.contains("EUR"),
        "{}",
        report.sentence
    );
    // the same again, to the bit
    assert_eq!(
        shop.project.value_report(&shop.model).await.unwrap(),
        report
    );
}

#[tokio::test]
async fn what_is_missing_for_a_report_is_said() {
    let refused = async |in_model: &str| {
        let shop = shop("", in_model).await;
        match shop.project.value_report(&shop.model).await {
            Err(CycleError::NotAllowed(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let without_holdout = refused("").await;
    assert!(
        without_holdout.contains("holdout = 0.05 in [models.will_return]"),
        "{without_holdout}"
    );
    let without_money = refused("holdout = 0.1").await;
    assert!(
        without_money.contains("value = \"EVENT.properties.NAME\" in [project]"),
        "{without_money}"
    );
}
