//! The consumer: small bites and large ones come to the same.

use std::sync::Arc;

use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, Timestamp};
use tidemill_serve::PredictRequest;

use crate::shop::Shop;

/// The time of a virtual clock, as a server sees it on the real one.
struct AsReal(Arc<VirtualClock>);

impl Clock for AsReal {
    fn now(&self) -> Timestamp {
        self.0.now()
    }
}

/// A shop in which everybody is asked about and then orders, before anything of it is consumed, and what came of the answers.
async fn what_came(real: bool) -> Vec<(String, Timestamp, f64)> {
    let shop = Shop::open_seeing(1, |clock| match real {
        true => Arc::new(AsReal(clock)),
        false => clock,
    });
    let shop = shop.await;
    shop.live(20, "Page Viewed").await;
    shop.project.catch_up().await.unwrap();
    for person in 0..300 {
        let request = PredictRequest {
            user: Some(format!("u{}", person % 30)),
            ..PredictRequest::default()
        };
        let answer = shop.project.answerer.predict(&shop.model, &request);
        answer.unwrap();
    }
    shop.live(40, "Page Viewed").await;
    shop.project.catch_up().await.unwrap();

    let (cursor, last) = (shop.project.joiner.cursor(), shop.project.decisions.last());
    assert_eq!((cursor.decision, last), (300, 300));
    assert_eq!(cursor.offset, shop.project.engine().applied());
    let outcomes = shop.project.joiner.unlanded(0, 1_000).unwrap();
    let came = outcomes.into_iter().map(|outcome| outcome.value);
    came.map(|outcome| (outcome.entity, outcome.resolved_at, outcome.value))
        .collect()
}

#[tokio::test]
async fn small_bites_come_to_the_same_as_large_ones() {
    let (small, large) = (what_came(true).await, what_came(false).await);
    assert_eq!(large.len(), 300, "{large:?}");
    assert_eq!(small, large);
}
