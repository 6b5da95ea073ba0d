//! Messages reach each webhook once, whatever happens to the others.

use std::collections::HashSet;

use async_trait::async_trait;
use serde_json::Value;
use tidemill_core::sync::Mutex;
use tidemill_core::{Clock, Span};
use tidemill_cycle::Courier;
use tidemill_monitor::alerts::{AlertKind, Finding};
use tidemill_monitor::metrics::Progress;
use tidemill_monitor::traffic::{Ended, ProcessLoad};

use crate::shop::{SHOP, Shop};

/// Notes what it brought where; some are not at home.
#[derive(Default)]
struct Noted {
    brought: Mutex<Vec<(String, String)>>,
    away: Mutex<HashSet<String>>,
    /// How often one that was not at home was tried.
    in_vain: Mutex<usize>,
}

#[async_trait]
impl Courier for Noted {
    async fn post(&self, url: &str, body: &Value) -> Result<(), String> {
        if self.away.lock().contains(url) {
            *self.in_vain.lock() += 1;
            return Err("nobody is at home".to_owned());
        }
        let told = body["subject"]
            .as_str()
            .or(body["text"].as_str())
            .unwrap_or_default();
        self.brought.lock().push((url.to_owned(), told.to_owned()));
        Ok(())
    }

    async fn mail(&self, to: &str, subject: &str, text: &str) -> Result<(), String> {
        assert!(text.contains("What to do: look"), "{text}");
        self.brought
            .lock()
            .push((to.to_owned(), subject.to_owned()));
        Ok(())
    }
}

#[tokio::test]
async fn a_webhook_that_is_down_keeps_nobody_else_from_being_told_once() {
    const HOOK: &str = "http://hook.test/a";
    const SLACK: &str = "http://slack.test/b";
    const PERSON: &str = "ops@example.com";
    let text = format!(
        "{SHOP}\n[alerts]\nwebhooks = [\"{HOOK}\"]\nslack = [\"{SLACK}\"]\nemail = [\"{PERSON}\"]\n"
    );
    let shop = Shop::open(1).await.reopened(&text).await;
    let now = shop.clock.now();
    let finding = |subject: &str| Finding {
        kind: AlertKind::RunFailed,
        subject: subject.to_owned(),
        cause: "it broke".to_owned(),
        next_step: "look".to_owned(),
    };
    let courier = Noted::default();
    courier.away.lock().insert(SLACK.to_owned());
    let alerts = &shop.project.alerts;
    for found in [vec![finding("a")], vec![finding("a"), finding("b")]] {
        alerts.update(&[AlertKind::RunFailed], found, now).unwrap();
        for _ in 0..3 {
            shop.project.tell_alerts(&courier).await.unwrap();
        }
    }
    let of = |url: &str| -> Vec<String> {
        let brought = courier.brought.lock();
        let of_url = brought.iter().filter(|(to, _)| to == url);
        of_url.map(|(_, told)| told.clone()).collect()
    };
    assert_eq!(of(HOOK), ["a", "b"]);
    assert_eq!(of(PERSON), ["shop: run failed, a", "shop: run failed, b"]);
    assert!(of(SLACK).is_empty());
    assert_eq!(alerts.outbox().unwrap().len(), 2);

    // the one that is down is left alone, for longer each time
    assert_eq!(*courier.in_vain.lock(), 1);
    for minute in 1..=120 {
        shop.clock.advance_to(now + Span::from_seconds(60 * minute));
        shop.project.tell_alerts(&courier).await.unwrap();
    }
    assert_eq!(
        *courier.in_vain.lock(),
        14,
        "after 1, 2, 3, 5, 8, 14 and 25 minutes, then every 15"
    );

    courier.away.lock().clear();
    shop.clock.advance_to(now + Span::from_days(1));
    shop.project.tell_alerts(&courier).await.unwrap();
    assert_eq!(
        of(HOOK),
        ["a", "b"],
        "those who were told are not told again"
    );
    let told = of(SLACK);
    assert!(
        told[0].contains("run failed, a") && told[1].contains("run failed, b"),
        "{told:?}"
    );
    assert!(alerts.outbox().unwrap().is_empty());

    // who silences one is written down, and silencing what is not open is not
    let hour = Span::from_seconds(3_600);
    let silence = async |id: &str| shop.project.silence_alert(id, hour, "key k").await.unwrap();
    assert!(silence("run_failed:a").await && !silence("run_failed:c").await);
    let catalog = &shop.project.stores.catalog;
    let audit = catalog.audit_log(&shop.project.project.name, 10);
    let silenced = audit.await.unwrap();
    let of = |action: &str| silenced.iter().filter(|one| one.action == action).count();
    assert_eq!(of("silence"), 1, "{silenced:?}");
}

#[tokio::test]
async fn a_server_that_does_not_keep_up_is_told_of_and_when_that_is_over() {
    let shop = Shop::open(1).await;
    let traffic = &shop.project.metrics.traffic;
    let of = (shop.project.project.name.as_str(), "will_return");
    let full = ProcessLoad {
        disk_free_bytes: Some(1),
        disk_bytes: Some(100 << 30),
        ..ProcessLoad::default()
    };
    for _ in 0..5 {
        let now = shop.clock.now();
        for answer in 0..200 {
            let ended = if answer % 10 == 0 {
                Ended::Failed
            } else {
                Ended::Well
            };
            traffic.answered(of, ended, 400_000, now);
        }
        let behind = Progress {
            features_lag: 50_000,
            ..Progress::default()
        };
        traffic.project_sampled(of.0, &behind, now);
        traffic.process_sampled(&full, now);
        shop.clock.advance_to(now + Span::from_seconds(60));
    }
    let open = async || {
        shop.project.check_alerts().await.unwrap();
        let open = shop.project.alerts.open().unwrap();
        let mut ids: Vec<String> = open.into_iter().map(|alert| alert.id).collect();
        ids.sort_unstable();
        ids
    };
    let expected = [
        "answers_fail:will_return",
        "answers_slow:will_return",
        "disk_full:data folder",
        "lags_behind:features",
    ];
    assert_eq!(open().await, expected);
    // ten minutes in which all is well, and room was made
    shop.clock
        .advance_to(shop.clock.now() + Span::from_seconds(600));
    let roomy = ProcessLoad {
        disk_free_bytes: Some(60 << 30),
        ..full
    };
    traffic.process_sampled(&roomy, shop.clock.now());
    assert_eq!(open().await, [""; 0]);
}
