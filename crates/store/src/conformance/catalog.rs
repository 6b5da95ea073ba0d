//! What every [`Catalog`] has to do.

use serde_json::json;
use tidemill_core::{RunId, Timestamp};

use super::samples::{NOON, model, project};
use crate::catalog::{AccessKey, AuditEntry, Rollout, RolloutStage, Run, RunState, Scope, Version};
use crate::{ArtifactHash, Catalog, StoreError};

/// Runs the whole suite; see [the module above](super) for `open`.
pub async fn check<C: Catalog>(open: impl AsyncFn(&str) -> C) {
    projects_are_kept(&open).await;
    keys_are_made_and_revoked(&open).await;
    runs_are_kept(&open).await;
    versions_count_from_one(&open("versions").await).await;
    champions_come_and_go(&open).await;
    rollouts_are_kept(&open).await;
    super::users::check(&open).await;
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(NOON.micros() + seconds * 1_000_000)
}

fn entry(seconds: i64, action: &str) -> AuditEntry {
    AuditEntry {
        at: at(seconds),
        project: Some(project("shop")),
        actor: "system".to_owned(),
        action: action.to_owned(),
        subject: "will_return@1".to_owned(),
        reason: "because it's 'better' – ü".to_owned(),
    }
}

async fn actions(catalog: &impl Catalog, limit: u32) -> Vec<String> {
    let log = catalog
        .audit_log(&project("shop"), limit)
        .await
        .expect("audit log");
    log.into_iter().map(|entry| entry.action).collect()
}

async fn projects_are_kept<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("projects").await;
    assert!(catalog.projects().await.expect("projects").is_empty());
    assert!(
        catalog
            .put_project(&project("shop"), "a = 1", at(0))
            .await
            .expect("put")
    );
    assert!(
        !catalog
            .put_project(&project("shop"), "a = 1", at(1))
            .await
            .expect("put"),
        "the same text is not new"
    );
    assert!(
        catalog
            .put_project(&project("shop"), "a = 2", at(2))
            .await
            .expect("put")
    );
    assert!(
        catalog
            .put_project(&project("another"), "", at(3))
            .await
            .expect("put")
    );
    drop(catalog);
    let catalog = open("projects").await;
    assert_eq!(
        catalog.projects().await.expect("projects"),
        [project("another"), project("shop")]
    );
    assert_eq!(
        catalog
            .project_file(&project("shop"))
            .await
            .expect("file")
            .as_deref(),
        Some("a = 2")
    );
    assert_eq!(
        catalog
            .project_file(&project("nobody"))
            .await
            .expect("file"),
        None
    );
}

async fn keys_are_made_and_revoked<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("keys").await;
    let key = |id: &str, scope| AccessKey {
        id: id.to_owned(),
        project: project("shop"),
        scope,
        hash: ArtifactHash::of(id.as_bytes()).to_string(),
        created_at: at(0),
        revoked_at: None,
    };
    let keys = [
        key("tm_b", Scope::Write),
        key("tm_a", Scope::Read),
        key("tm_c", Scope::Admin),
    ];
    for key in &keys {
        catalog
            .create_key(key, entry(0, "create_key"))
            .await
            .expect("create");
    }
    let twice = catalog
        .create_key(&keys[0], entry(0, "create_key_twice"))
        .await;
    assert!(twice.is_err(), "a key is made once");
    let revoke =
        |name: &'static str, id: &'static str, time: i64| catalog_revoke(&catalog, name, id, time);
    revoke("shop", "tm_a", 10).await.expect("revoke");
    revoke("shop", "tm_a", 20).await.expect("revoke again");
    assert!(matches!(
        revoke("shop", "tm_x", 20).await,
        Err(StoreError::NotFound(_))
    ));
    assert!(
        matches!(
            revoke("other", "tm_b", 20).await,
            Err(StoreError::NotFound(_))
        ),
        "a key of another project"
    );
    assert_eq!(
        actions(&catalog, 10).await,
        [
            "revoke_key",
            "revoke_key",
            "create_key",
            "create_key",
            "create_key"
        ]
    );
    drop(catalog);
    let stored = open("keys").await.keys().await.expect("keys");
    let revoked = AccessKey {
        revoked_at: Some(at(10)),
        ..keys[1].clone()
    };
    assert_eq!(
        stored,
        [keys[0].clone(), revoked, keys[2].clone()],
        "oldest first"
    );
}

async fn catalog_revoke(
    catalog: &impl Catalog,
    name: &str,
    id: &str,
    time: i64,
) -> Result<(), StoreError> {
    catalog
        .revoke_key(&project(name), id, at(time), entry(time, "revoke_key"))
        .await
}

fn run(number: u8, of: &str) -> Run {
    Run {
        id: RunId::new(at(i64::from(number)), [number; 10]),
        project: project("shop"),
        model: model(of),
        trigger: "schedule".to_owned(),
        state: RunState::Running,
        started_at: at(i64::from(number)),
        finished_at: None,
        version: None,
        summary: String::new(),
        detail: json!({ "tenth": 0.1, "stages": [] }),
    }
}

async fn runs_are_kept<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("runs").await;
    let shop = project("shop");
    let mut runs = [run(1, "a"), run(2, "b"), run(3, "a"), run(4, "a")];
    for run in &runs {
        catalog.put_run(run).await.expect("put");
    }
    runs[2] = Run {
        state: RunState::Passed,
        finished_at: Some(at(99)),
        version: Some(7),
        summary: "it is better".to_owned(),
        ..runs[2].clone()
    };
    catalog.put_run(&runs[2]).await.expect("put again");
    for (number, state) in [RunState::Refused, RunState::Skipped, RunState::Failed]
        .into_iter()
        .enumerate()
    {
        let other = Run {
            project: project("other"),
            state,
            ..run(10 + number as u8, "a")
        };
        catalog.put_run(&other).await.expect("put");
        assert_eq!(
            catalog.run(&other.project, other.id).await.expect("run"),
            Some(other)
        );
    }
    drop(catalog);
    let catalog = open("runs").await;
    assert_eq!(
        catalog.run(&shop, runs[2].id).await.expect("run").as_ref(),
        Some(&runs[2])
    );
    assert_eq!(
        catalog
            .run(&project("nobody"), runs[2].id)
            .await
            .expect("run"),
        None
    );
    let numbers = async |of: Option<&str>, before: Option<RunId>, limit: u32| -> Vec<RunId> {
        let found = catalog
            .runs(&shop, of.map(model).as_ref(), before, limit)
            .await
            .expect("runs");
        found.into_iter().map(|run| run.id).collect()
    };
    let [one, two, three, four] = runs.each_ref().map(|run| run.id);
    assert_eq!(numbers(None, None, 10).await, [four, three, two, one]);
    assert_eq!(numbers(None, None, 2).await, [four, three]);
    assert_eq!(numbers(Some("a"), None, 10).await, [four, three, one]);
    assert_eq!(numbers(Some("a"), Some(four), 1).await, [three]);
    assert_eq!(numbers(Some("b"), Some(two), 10).await, []);
}

fn version(of: &str) -> Version {
    Version {
        project: project("shop"),
        model: model(of),
        number: 0,
        run: RunId::new(NOON, [1; 10]),
        created_at: NOON,
        artifact: ArtifactHash::of(of.as_bytes()),
        passed: true,
        detail: json!({ "auc": 0.1 + 0.2 }),
    }
}

async fn versions_count_from_one(catalog: &impl Catalog) {
    let shop = project("shop");
    for number in 1..=3 {
        assert_eq!(
            catalog.add_version(&version("a")).await.expect("add"),
            number
        );
    }
    assert_eq!(catalog.add_version(&version("b")).await.expect("add"), 1);
    let other = Version {
        project: project("other"),
        passed: false,
        ..version("a")
    };
    assert_eq!(catalog.add_version(&other).await.expect("add"), 1);
    let (a, b) = tokio::join!(catalog.add_version(&other), catalog.add_version(&other));
    let mut both = [a.expect("add"), b.expect("add")];
    both.sort_unstable();
    assert_eq!(both, [2, 3], "two at once get two numbers");
    let found = catalog
        .version(&shop, &model("a"), 2)
        .await
        .expect("version");
    assert_eq!(
        found,
        Some(Version {
            number: 2,
            ..version("a")
        })
    );
    assert_eq!(
        catalog
            .version(&shop, &model("a"), 9)
            .await
            .expect("version"),
        None
    );
    let numbers = async |before: Option<u32>, limit: u32| -> Vec<u32> {
        let found = catalog
            .versions(&shop, &model("a"), before, limit)
            .await
            .expect("versions");
        found.into_iter().map(|version| version.number).collect()
    };
    assert_eq!(numbers(None, 10).await, [3, 2, 1]);
    assert_eq!(numbers(Some(3), 1).await, [2]);
    assert_eq!(numbers(Some(1), 1).await, [0; 0]);
}

async fn champions_come_and_go<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("champions").await;
    let (shop, a) = (project("shop"), model("a"));
    assert_eq!(catalog.champion(&shop, &a).await.expect("champion"), None);
    catalog.add_version(&version("a")).await.expect("add");
    catalog.add_version(&version("a")).await.expect("add");
    let missing = catalog
        .set_champion(&shop, &a, Some(3), entry(0, "promote"))
        .await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    assert_eq!(
        actions(&catalog, 10).await,
        [""; 0],
        "what did not happen is not in the audit log"
    );
    for (second, number) in [(1, Some(1)), (2, Some(2)), (3, None), (4, Some(1))] {
        catalog
            .set_champion(&shop, &a, number, entry(second, "promote"))
            .await
            .expect("set");
        assert_eq!(catalog.champion(&shop, &a).await.expect("champion"), number);
    }
    catalog
        .audit(AuditEntry {
            project: None,
            ..entry(5, "start")
        })
        .await
        .expect("audit");
    catalog.audit(entry(6, "note")).await.expect("audit");
    drop(catalog);
    let catalog = open("champions").await;
    let history = catalog.champions(&shop, &a, 3).await.expect("champions");
    assert_eq!(history, [(at(4), Some(1)), (at(3), None), (at(2), Some(2))]);
    assert_eq!(
        catalog
            .champion(&shop, &model("b"))
            .await
            .expect("champion"),
        None
    );
    assert_eq!(
        actions(&catalog, 2).await,
        ["note", "promote"],
        "newest first, and of this project only"
    );
    assert_eq!(
        catalog.audit_log(&shop, 1).await.expect("audit log"),
        [entry(6, "note")]
    );
}

async fn rollouts_are_kept<C: Catalog>(open: &impl AsyncFn(&str) -> C) {
    let catalog = open("rollouts").await;
    let (shop, a) = (project("shop"), model("a"));
    let first = Rollout {
        project: shop.clone(),
        model: a.clone(),
        position: 1,
        version: 1,
        champion: None,
        stage: RolloutStage::Shadow,
        share: 0.0,
        started_at: at(0),
        since: at(0),
        actor: "system".to_owned(),
        reason: "it's better".to_owned(),
        detail: json!({ "stages": [] }),
    };
    let missing = catalog.put_rollout(&first, entry(0, "shadow")).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    assert_eq!(
        actions(&catalog, 10).await,
        [""; 0],
        "what did not happen is not in the audit log"
    );
    catalog.add_version(&version("a")).await.expect("add");
    catalog.add_version(&version("a")).await.expect("add");
    let stages = [
        (RolloutStage::Shadow, 0.0),
        (RolloutStage::Canary, 0.01),
        (RolloutStage::Canary, 1.0),
        (RolloutStage::RolledBack, 0.0),
    ];
    for (second, (stage, share)) in (1..).zip(stages) {
        let rollout = Rollout {
            stage,
            share,
            since: at(second),
            ..first.clone()
        };
        let action = format!("rollout {}", stage.as_str());
        catalog
            .put_rollout(&rollout, entry(second, &action))
            .await
            .expect("put");
        let newest = catalog.rollouts(&shop, &a, 1).await.expect("rollouts");
        assert_eq!(newest, [rollout], "each replaces the one before");
    }
    let second = Rollout {
        position: 2,
        version: 2,
        champion: Some(1),
        stage: RolloutStage::Promoted,
        share: 1.0,
        detail: json!({ "stages": [{ "share": 0.1 }] }),
        ..first.clone()
    };
    catalog
        .put_rollout(&second, entry(9, "rollout promoted"))
        .await
        .expect("put");
    drop(catalog);
    let catalog = open("rollouts").await;
    let kept = catalog.rollouts(&shop, &a, 10).await.expect("rollouts");
    assert_eq!(kept[0], second, "newest first");
    assert_eq!((kept.len(), kept[1].stage), (2, RolloutStage::RolledBack));
    assert_eq!(kept[1].since, at(4));
    let of_another = catalog.rollouts(&shop, &model("b"), 10).await;
    assert_eq!(of_another.expect("rollouts"), []);
    assert_eq!(
        actions(&catalog, 2).await,
        ["rollout promoted", "rollout rolled_back"]
    );
}
