//! Rollouts as a process that ended there would have left them.

use serde_json::{Value, json};
use tidemill_core::clock::SystemClock;
use tidemill_core::{Clock, ModelName, ProjectName, RunId, Span};
use tidemill_store::catalog::{AuditEntry, Rollout, RolloutStage, Version};
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{Catalog, DataFolder};

use super::Server;

/// Writes down that two versions, copies of the first one, wanted to take over: one was sent back in its canary for `reason`, the other
/// is in its canary and its number is returned. The server must not run.
pub(crate) fn plant(server: &Server, project: &str, model: &str, reason: &str) -> u32 {
    let runtime = tokio::runtime::Runtime::new().expect("threads");
    runtime.block_on(async {
        let folder = DataFolder::open(server.data()).expect("the data folder");
        let catalog = SqliteCatalog::open(&folder).await.expect("the catalog");
        let project: ProjectName = project.parse().expect("a name");
        let model: ModelName = model.parse().expect("a name");
        let first = catalog
            .version(&project, &model, 1)
            .await
            .expect("the catalog")
            .expect("a version");
        let now = SystemClock.now();
        let mut newest = 0;
        for (position, stage, share) in [
            (1, RolloutStage::RolledBack, 0.0),
            (2, RolloutStage::Canary, 0.5),
        ] {
            let version = Version {
                run: RunId::new(now, [position; 10]),
                passed: true,
                ..first.clone()
            };
            newest = catalog.add_version(&version).await.expect("the catalog");
            let hour = Span::from_seconds(3_600);
            let canary = passed("canary", 0.1, now - hour, now);
            let shadow = passed("shadow", 0.0, now - hour - hour, now - hour);
            let rollout = Rollout {
                project: project.clone(),
                model: model.clone(),
                position: u32::from(position),
                version: newest,
                champion: Some(1),
                stage,
                share,
                started_at: now - hour - hour,
                since: now,
                actor: reason.to_owned(),
                reason: reason.to_owned(),
                detail: json!({ "stages": [shadow, canary] }),
            };
            put(&catalog, &rollout).await;
        }
        catalog.close().await;
        newest
    })
}

/// Writes a rollout down.
pub(crate) async fn put(catalog: &SqliteCatalog, rollout: &Rollout) {
    let audit = AuditEntry {
        at: rollout.since,
        project: Some(rollout.project.clone()),
        actor: "test".to_owned(),
        action: "plant".to_owned(),
        subject: String::new(),
        reason: String::new(),
    };
    let written = catalog.put_rollout(rollout, audit).await;
    written.expect("the catalog");
}

fn passed(
    stage: &str,
    share: f64,
    since: tidemill_core::Timestamp,
    until: tidemill_core::Timestamp,
) -> Value {
    let arm = |p99_us: u64| {
        json!({
            "answers": 1_234, "panicked": 1, "not_finite": 0, "unreadable": 0, "slow": 2,
            "people": 321, "p50_us": 210, "p99_us": p99_us,
        })
    };
    json!({
        "stage": stage,
        "share": share,
        "since": since,
        "until": until,
        "numbers": {
            "challenger": arm(1_900),
            "control": arm(1_700),
            "pairs": 1_234,
            "dropped": 0,
            "agreement": {
                "pairs": 1_234, "stability_index": 0.031, "stability_noise": 0.02, "rank_correlation": 0.87,
                "mean_first": 0.41, "mean_second": 0.42, "mean_difference": 0.03, "is_constant": false,
            },
        },
    })
}
