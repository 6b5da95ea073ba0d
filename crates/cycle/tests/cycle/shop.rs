//! A shop that lives on a virtual clock.

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::json;
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, Event, ModelName, Project, Span, Timestamp};
use tidemill_cycle::{CycleError, KeptDataset, LoopOptions, ProjectLoop};
use tidemill_features::dataset::Dataset;
use tidemill_monitor::Metrics;
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::fjall_store::{FjallOptions, FjallStore};
use tidemill_store::lake::TableVersion;
use tidemill_store::local::LocalArtifacts;
use tidemill_store::local_moment::LocalMoments;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{DataFolder, Stores};

/// Without features: they are suggested, and others as more is seen.
pub(crate) const SHOP: &str = r#"
[project]
name = "shop"

[models.will_return]
kind = "predict"
observe = { event = "Order Completed", sample = 0.8 }
target = { event = "Order Completed", within = "10d" }
training = { budget = 0.3, min_rows = 50, seed = 3 }
"#;

pub(crate) struct Shop {
    pub(crate) project: Arc<ProjectLoop>,
    pub(crate) clock: Arc<VirtualClock>,
    pub(crate) model: ModelName,
    pub(crate) folder: TempDir,
}

impl Shop {
    /// The number of the version that answers.
    pub(crate) fn answering(&self) -> u32 {
        let slot = self.project.slot(&self.model).unwrap();
        slot.champion().unwrap().number
    }

    pub(crate) async fn open(datasets_keep: usize) -> Self {
        Self::open_seeing(datasets_keep, |clock| clock).await
    }

    /// A shop that sees its clock through another one.
    pub(crate) async fn open_seeing(
        datasets_keep: usize,
        through: impl FnOnce(Arc<VirtualClock>) -> Arc<dyn Clock>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let project = open(&folder, SHOP, through(clock.clone()), datasets_keep).await;
        Self {
            project,
            clock,
            model: "will_return".parse().unwrap(),
            folder,
        }
    }

    /// Days on which people order, each in a rhythm of their own, and whatever else they do then.
    pub(crate) async fn live(&self, days: i64, also: &str) {
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..days {
            let now = self.clock.now() + Span::from_days(1);
            self.clock.advance_to(now);
            let day = now.day();
            for person in (0..30).filter(|person| (day + person) % (4 + person % 11) == 0) {
                for name in ["Order Completed", also] {
                    events.push(happened(name, person, now));
                }
            }
        }
        let name = &self.project.project.name;
        self.project
            .stores
            .log
            .append(name, events, Vec::new())
            .await
            .unwrap();
    }

    /// A version that answers, whatever the gate says.
    pub(crate) async fn answer_by_a_version(&self) {
        let models = std::slice::from_ref(&self.model);
        let runs = self.project.train(models, "person", "test").await.unwrap();
        let version = runs[0].version.unwrap();
        let promoted = self
            .project
            .promote(&self.model, version, "test", "to have answers", true);
        promoted.await.unwrap();
    }

    /// The same shop in another process.
    pub(crate) async fn reopened(self, project: &str) -> Self {
        let Self {
            project: before,
            clock,
            model,
            folder,
        } = self;
        drop(before);
        let project = open(&folder, project, clock.clone(), 1).await;
        Self {
            project,
            clock,
            model,
            folder,
        }
    }

    pub(crate) async fn build(&self) -> KeptDataset {
        self.project.build_dataset(&self.model).await.unwrap()
    }

    pub(crate) async fn rows(&self, version: TableVersion) -> Result<Dataset, CycleError> {
        let (kept, rows) = self.project.dataset_rows(&self.model, version).await?;
        let batches: Vec<_> = rows.try_collect().await.unwrap();
        Ok(Dataset::from_batches(&batches, kept.note.record).unwrap())
    }
}

pub(crate) async fn open(
    folder: &TempDir,
    project: &str,
    clock: Arc<dyn Clock>,
    datasets_keep: usize,
) -> Arc<ProjectLoop> {
    open_with(folder, project, clock, datasets_keep, 1).await
}

/// With a number of threads to train with.
pub(crate) async fn open_with(
    folder: &TempDir,
    project: &str,
    clock: Arc<dyn Clock>,
    datasets_keep: usize,
    training_threads: usize,
) -> Arc<ProjectLoop> {
    let folder = DataFolder::open(folder.path().join("data")).unwrap();
    let fjall = FjallStore::open(&folder, &FjallOptions::default()).unwrap();
    let (log, state) = (Arc::new(fjall.log), Arc::new(fjall.state));
    let catalog = Arc::new(SqliteCatalog::open(&folder).await.unwrap());
    let lake = Arc::new(DeltaLake::open(&folder, &DeltaOptions::default()));
    let opened = (log.clone(), state.clone());
    let moments = LocalMoments::open(&folder, opened, catalog.clone(), lake.clone()).unwrap();
    let stores = Stores {
        log,
        state,
        catalog,
        lake,
        artifacts: Arc::new(LocalArtifacts::open(&folder)),
        moments: Arc::new(moments),
    };
    let options = LoopOptions {
        training_threads,
        datasets_keep,
        ..LoopOptions::default()
    };
    let count = std::sync::atomic::AtomicU64::new(1);
    let random = move || {
        let mut bytes = [0; 10];
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        bytes[2..].copy_from_slice(&number.to_be_bytes());
        bytes
    };
    ProjectLoop::open(
        Project::parse(project).unwrap(),
        stores,
        clock,
        Arc::new(Metrics::default()),
        options,
        Box::new(random),
    )
    .await
    .unwrap()
}

fn happened(name: &str, person: i64, at: Timestamp) -> Event {
    serde_json::from_value(json!({
        "message_id": format!("{name} {person} {at}"), "kind": "track", "name": name, "user_id": format!("u{person}"),
        "timestamp": at, "received_at": at,
        "properties": { "total": 5 + person, "channel": if person % 2 == 0 { "search" } else { "letter" } }
    }))
    .unwrap()
}
