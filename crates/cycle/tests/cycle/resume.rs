//! Runs that were under way when the process ended: they go on at the stage that they had not finished, and what comes of them is what
//! would have come of them.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{ModelName, RunId, Span};
use tidemill_cycle::ProjectLoop;
use tidemill_store::ArtifactHash;
use tidemill_store::catalog::{Run, RunState};

use crate::shop::open_with;
use crate::side_by_side::{SHOP, lived};

/// A shop whose models were trained once without a break.
struct Trained {
    folder: TempDir,
    clock: Arc<VirtualClock>,
    project: Arc<ProjectLoop>,
}

impl Trained {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (project, clock) = lived(&folder, 2).await;
        project.tick().await.unwrap();
        Self {
            folder,
            clock,
            project,
        }
    }

    async fn runs(&self, model: &str) -> Vec<Run> {
        let model: ModelName = model.parse().unwrap();
        let name = &self.project.project.name;
        let runs = self
            .project
            .stores
            .catalog
            .runs(name, Some(&model), None, 100);
        runs.await.unwrap()
    }

    async fn artifact(&self, run: &Run) -> ArtifactHash {
        let version = self.project.version(&run.model, run.version.unwrap());
        version.await.unwrap().artifact
    }

    /// As if the process had ended during a run with such a record, and the next one had started with a project file.
    async fn broken(self, run: &Run, project: &str) -> (Self, Vec<Run>) {
        self.project.stores.catalog.put_run(run).await.unwrap();
        let Self {
            folder,
            clock,
            project: before,
        } = self;
        drop(before);
        let project = open_with(&folder, project, clock.clone(), 20, 2).await;
        let ended = project.tick().await.unwrap();
        let ended = ended.into_iter().filter(|one| one.id == run.id).collect();
        let shop = Self {
            folder,
            clock,
            project,
        };
        (shop, ended)
    }
}

/// A run that had come to a stage when the process ended, made of one that has ended.
fn at_stage(ended: &Run, number: u8, stage: &str) -> Run {
    let before: &[&str] = match stage {
        "dataset" => &["snapshot"],
        "fit" => &["snapshot", "dataset", "dataset_version"],
        "examine" => &["snapshot", "dataset", "dataset_version", "parts"],
        _ => &[],
    };
    let mut detail = ended.detail.clone();
    if let Value::Object(fields) = &mut detail {
        let is_needed =
            |name: &str| name == "progress" || name == "definition" || name == "seconds";
        fields.retain(|name, _| {
            before.is_empty() || before.contains(&name.as_str()) || is_needed(name)
        });
    }
    let artifact = match stage {
        "examine" | "register" => detail["progress"]["artifact"].clone(),
        _ => Value::Null,
    };
    detail["progress"] = json!({ "stage": stage, "artifact": artifact });
    for counted in ["signals", "persons", "items", "incomplete", "cases"] {
        // a record of a model that recommends has its counts from the beginning
        if ended.detail.get(counted).is_some() && detail.get(counted).is_none() {
            detail[counted] = json!(0);
        }
    }
    if detail.get("gains").is_none() && ended.detail.get("gains").is_some() {
        detail["gains"] = json!([]);
    }
    Run {
        // it began before the one that has ended, and before those that were made of it already: they say nothing to it
        id: RunId::new(
            ended.started_at - Span::from_seconds(1),
            [u8::MAX - number; 10],
        ),
        state: RunState::Running,
        finished_at: None,
        version: None,
        summary: "under way".to_owned(),
        detail,
        ..ended.clone()
    }
}

#[tokio::test]
async fn a_run_goes_on_at_the_stage_that_it_had_not_finished() {
    let mut shop = Trained::open().await;
    let mut number = 0;
    for (model, stages) in [
        ("spent", &["dataset", "fit", "examine", "register"][..]),
        ("what", &["dataset", "fit", "register"]),
    ] {
        let first = shop.runs(model).await.pop().unwrap();
        let wanted = shop.artifact(&first).await;
        for stage in stages {
            number += 1;
            let broken = at_stage(&first, number, stage);
            let ended;
            (shop, ended) = shop.broken(&broken, SHOP).await;
            let run = &ended[0];
            assert!(
                matches!(run.state, RunState::Passed | RunState::Refused),
                "{model} in {stage}: {run:?}"
            );
            assert_eq!(shop.artifact(run).await, wanted, "{model} in {stage}");
            assert_eq!(
                run.detail["progress"]["resumed"],
                json!([stage]),
                "{model}: {run:?}"
            );
            assert!(run.finished_at.is_some());
        }
    }
    let running = shop.runs("spent").await.into_iter();
    assert_eq!(
        running.filter(|run| run.state == RunState::Running).count(),
        0
    );
}

#[tokio::test]
async fn a_version_that_was_registered_is_not_registered_again() {
    let shop = Trained::open().await;
    let first = shop.runs("spent").await.pop().unwrap();
    let broken = Run {
        id: first.id,
        ..at_stage(&first, 1, "register")
    };
    let (shop, ended) = shop.broken(&broken, SHOP).await;
    assert_eq!(ended[0].version, first.version);
    assert_eq!(
        (ended[0].state, &ended[0].summary),
        (first.state, &first.summary)
    );
    let catalog = &shop.project.stores.catalog;
    let name = &shop.project.project.name;
    let versions = catalog
        .versions(name, &first.model, None, 10)
        .await
        .unwrap();
    assert_eq!(versions.len(), 1);
    let promoted = catalog.champions(name, &first.model, 10).await.unwrap();
    assert_eq!(promoted.len(), usize::from(first.state == RunState::Passed));
}

#[tokio::test]
async fn a_run_in_which_the_process_ends_again_and_again_fails() {
    let shop = Trained::open().await;
    let first = shop.runs("spent").await.pop().unwrap();
    let mut broken = at_stage(&first, 1, "fit");
    broken.detail["progress"]["resumed"] = json!(["dataset", "fit", "fit"]);
    let (shop, ended) = shop.broken(&broken, SHOP).await;
    assert_eq!(ended[0].state, RunState::Failed);
    assert!(
        ended[0]
            .summary
            .contains("the process ended 3 times while this run was in the stage 'fits the model'"),
        "{}",
        ended[0].summary
    );
    // and one of a model that is asked something else by now
    let broken = at_stage(&first, 2, "fit");
    let otherwise = SHOP.replace("total\", within = \"10d\"", "total\", within = \"11d\"");
    let (_shop, ended) = shop.broken(&broken, &otherwise).await;
    assert_eq!(ended[0].state, RunState::Failed);
    assert!(
        ended[0]
            .summary
            .contains("what the model is asked has changed"),
        "{}",
        ended[0].summary
    );
}

#[tokio::test]
async fn the_same_run_twice_gives_the_same_bytes() {
    let shop = Trained::open().await;
    for model in ["spent"] {
        let first = shop.runs(model).await.pop().unwrap();
        let name: ModelName = model.parse().unwrap();
        let again = shop.project.train(&[name], "person", "test").await.unwrap();
        assert_eq!(
            shop.artifact(&again[0]).await,
            shop.artifact(&first).await,
            "{model}"
        );
    }
}
