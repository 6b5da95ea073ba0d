//! Answers that are read again: what was served is what training sees, and where it is not, that is found.

use tidemill_core::event::PersonKey;
use tidemill_core::{Clock, Span};
use tidemill_cycle::ProjectLoop;
use tidemill_serve::PredictRequest;
use tidemill_store::StateBatch;

use crate::shop::{SHOP, Shop};

/// Asks about everybody.
fn ask(shop: &Shop) {
    for person in 0..30 {
        let request = PredictRequest {
            user: Some(format!("u{person}")),
            ..PredictRequest::default()
        };
        shop.project
            .answerer
            .predict(&shop.model, &request)
            .unwrap();
    }
}

/// Puts what is known of one person under the key of another one, as a defect of a disk or of this program would.
fn confuse(project: &ProjectLoop, one: &PersonKey, other: &PersonKey) {
    let (name, state) = (&project.project.name, &project.stores.state);
    let entries = state
        .scan(name, "feature_states", &[], None, 10_000)
        .unwrap();
    let of = |person: &PersonKey| {
        let mut entries = entries.iter();
        entries
            .find(|(key, _)| key.ends_with(person.as_str().as_bytes()))
            .unwrap()
    };
    let mut batch = StateBatch::default();
    batch.put("feature_states", of(other).0.clone(), of(one).1.clone());
    state.commit(name, batch).unwrap();
}

#[tokio::test]
async fn a_planted_difference_is_found_where_it_is() {
    let shop = Shop::open(1).await;
    shop.live(150, "Page Viewed").await;
    shop.answer_by_a_version().await;
    ask(&shop);
    let report = shop.project.check_consistency(1.0).await.unwrap();
    assert_eq!((report.answers, report.mismatches), (30, 0), "{report:?}");
    assert!(report.values > 100, "{report:?}");

    shop.project.engine().commit().unwrap();
    let (one, other) = (PersonKey::user("u3"), PersonKey::user("u4"));
    confuse(&shop.project, &one, &other);
    let shop = shop.reopened(SHOP).await;
    ask(&shop);
    let report = shop.project.check_consistency(1.0).await.unwrap();
    assert_eq!(report.answers, 60, "{report:?}");
    assert!(report.mismatches > 0, "{report:?}");
    for (feature, found) in &report.features {
        let example = found.example.unwrap();
        let explained = shop.project.explain(example).await.unwrap().unwrap();
        assert_eq!(explained.decision.entity, "user:u4", "{feature}");
    }
    // and whoever is to be told is told of each feature
    shop.project.check_alerts().await.unwrap();
    let open = shop.project.alerts.open().unwrap();
    let told: Vec<&str> = open.iter().map(|alert| alert.subject.as_str()).collect();
    let found: Vec<&str> = report.features.keys().map(String::as_str).collect();
    assert_eq!(told, found);
    assert!(open[0].cause.contains("not what training sees"), "{open:?}");
    // over once answers agree again: these are about others
    let request = PredictRequest {
        user: Some("u9".to_owned()),
        ..PredictRequest::default()
    };
    shop.clock
        .advance_to(shop.clock.now() + Span::from_seconds(60));
    let answered = shop.project.answerer.predict(&shop.model, &request);
    answered.unwrap();
    shop.project.check_consistency(1.0).await.unwrap();
    shop.project.check_alerts().await.unwrap();
    assert!(shop.project.alerts.open().unwrap().is_empty());
    assert_eq!(shop.project.alerts.resolved().unwrap().len(), found.len());
}
