//! Models that are due together: whatever is trained at the same time, what comes of it is the same.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, Event, Span, Timestamp};
use tidemill_cycle::ProjectLoop;
use tidemill_store::catalog::RunState;

use crate::shop::open_with;

pub(crate) const SHOP: &str = r#"
[project]
name = "shop"

[items]
id = "properties.item"

[[features.user]]
name = "orders"
aggregate = "count"
event = "Ordered"
windows = ["7d", "30d"]

[[features.user]]
name = "since"
aggregate = "since_last"
event = "Ordered"

[models.a_question]
kind = "predict"
observe = { event = "Ordered" }
target = { event = "Ordered", within = "10d" }
training = { budget = 0.2, min_rows = 50 }

[models.broken]
kind = "predict"
observe = { event = "Ordered" }
target = { event = "Ordered", within = "10d" }
training = { budget = 0.2, min_rows = 1_000_000 }

[models.spent]
kind = "predict"
observe = { event = "Ordered" }
target = { sum = "Ordered.properties.total", within = "10d" }
training = { budget = 0.2, min_rows = 50 }

[models.what]
kind = "recommend"
signals = { Ordered = 1.0 }
within = "10d"
training = { budget = 0.1 }
"#;

/// A shop in which people have ordered for three months.
pub(crate) async fn lived(
    folder: &TempDir,
    threads: usize,
) -> (Arc<ProjectLoop>, Arc<VirtualClock>) {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let clock = Arc::new(VirtualClock::at(start));
    let project = open_with(folder, SHOP, clock.clone(), 20, threads).await;
    let mut events: Vec<Event> = Vec::new();
    for day in 1..=90 {
        let at = start + Span::from_days(day);
        for person in (0..60).filter(|person| (day + person) % (3 + person % 9) == 0) {
            let item = format!("i{}", (person % 5) * 6 + (day * 7 + person) % 6);
            let event = json!({
                "message_id": format!("{person} {day}"), "kind": "track", "name": "Ordered", "user_id": format!("u{person}"),
                "timestamp": at, "received_at": at, "properties": { "item": item, "total": 5 + person }
            });
            events.push(serde_json::from_value(event).unwrap());
        }
    }
    clock.advance_to(start + Span::from_days(91));
    let name = project.project.name.clone();
    project
        .stores
        .log
        .append(&name, events, Vec::new())
        .await
        .unwrap();
    (project, clock)
}

/// Everything that is recorded of a project whose models are all due, trained with a number of threads.
async fn recorded(threads: usize) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let (project, clock) = lived(&folder, threads).await;
    let runs = project.tick().await.unwrap();

    let mut recorded = Vec::new();
    for run in &runs {
        let version = match run.version {
            Some(number) => {
                let version = project.version(&run.model, number).await.unwrap();
                assert_eq!(version.run, run.id);
                format!("{number} {:?} {}", version.artifact, version.passed)
            }
            None => "none".to_owned(),
        };
        recorded.push(format!(
            "{} {} {} {:?} {version}: {}",
            run.id, run.model, run.trigger, run.state, run.summary
        ));
    }
    let is_skipped = |model: &str| {
        let mut runs = runs.iter();
        runs.any(|run| run.model.as_str() == model && run.state == RunState::Skipped)
    };
    assert!(
        is_skipped("broken") && !is_skipped("spent"),
        "{recorded:#?}"
    );
    let (catalog, name) = (&project.stores.catalog, &project.project.name);
    for entry in catalog.audit_log(name, 100).await.unwrap() {
        recorded.push(format!(
            "{} {} {}",
            entry.actor, entry.action, entry.subject
        ));
    }
    for run in catalog.runs(name, None, None, 100).await.unwrap() {
        assert_eq!(run.finished_at, Some(clock.now()), "{run:?}");
        recorded.push(format!("{} {}", run.id, run.model));
    }
    recorded
}

#[tokio::test]
async fn what_is_recorded_is_the_same_with_one_thread_and_with_several() {
    let one = recorded(1).await;
    assert!(
        one[0].contains(" what ") && one[0].contains(" 1 "),
        "{one:#?}"
    );
    for threads in [2, 3] {
        assert_eq!(recorded(threads).await, one, "{threads} threads");
    }
}
