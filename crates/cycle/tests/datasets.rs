//! Datasets in the lake: they are built again from their record, bit for bit, and old ones make room.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::sync::Arc;

use futures::TryStreamExt;
use serde_json::json;
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::{Clock, Event, ModelName, Project, Span, Timestamp};
use tidemill_cycle::{CycleError, KeptDataset, LoopOptions, ProjectLoop};
use tidemill_features::dataset::{Dataset, DatasetRecord, Drop};
use tidemill_monitor::Metrics;
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::fjall_store::{FjallOptions, FjallStore};
use tidemill_store::lake::TableVersion;
use tidemill_store::local::LocalArtifacts;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{DataFolder, Stores};

/// Without features: they are suggested, and others as more is seen.
const SHOP: &str = r#"
[project]
name = "shop"

[models.will_return]
kind = "predict"
observe = { event = "Order Completed", sample = 0.8 }
target = { event = "Order Completed", within = "10d" }
training = { budget = 0.3, min_rows = 50, seed = 3 }
"#;

struct Shop {
    project: Arc<ProjectLoop>,
    clock: Arc<VirtualClock>,
    model: ModelName,
    folder: TempDir,
}

impl Shop {
    async fn open(datasets_keep: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(VirtualClock::at("2026-01-01T00:00:00Z".parse().unwrap()));
        let project = open(&folder, SHOP, clock.clone(), datasets_keep).await;
        Self {
            project,
            clock,
            model: "will_return".parse().unwrap(),
            folder,
        }
    }

    /// Days on which people order, each in a rhythm of their own, and whatever else they do then.
    async fn live(&self, days: i64, also: &str) {
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

    async fn build(&self) -> KeptDataset {
        self.project.build_dataset(&self.model).await.unwrap()
    }

    async fn rows(&self, version: TableVersion) -> Result<Dataset, CycleError> {
        let (kept, rows) = self.project.dataset_rows(&self.model, version).await?;
        let batches: Vec<_> = rows.try_collect().await.unwrap();
        Ok(Dataset::from_batches(&batches, kept.note.record).unwrap())
    }
}

async fn open(
    folder: &TempDir,
    project: &str,
    clock: Arc<VirtualClock>,
    datasets_keep: usize,
) -> Arc<ProjectLoop> {
    let folder = DataFolder::open(folder.path().join("data")).unwrap();
    let fjall = FjallStore::open(&folder, &FjallOptions::default()).unwrap();
    let stores = Stores {
        log: Arc::new(fjall.log),
        state: Arc::new(fjall.state),
        catalog: Arc::new(SqliteCatalog::open(&folder).await.unwrap()),
        lake: Arc::new(DeltaLake::open(&folder, &DeltaOptions::default())),
        artifacts: Arc::new(LocalArtifacts::open(&folder)),
    };
    let options = LoopOptions {
        training_threads: 1,
        datasets_keep,
        ..LoopOptions::default()
    };
    let count = std::sync::atomic::AtomicU8::new(1);
    let random = move || [count.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 10];
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

#[tokio::test]
async fn a_dataset_is_built_again_from_its_record_bit_for_bit() {
    let shop = Shop::open(1).await;
    shop.live(150, "Page Viewed").await;
    let first = shop.build().await;
    let rows = shop.rows(first.version).await.unwrap();
    let record = &first.note.record;
    assert!(rows.rows() > 100, "{record:?}");
    assert_eq!(record.seed, 3);
    assert!(record.dropped[&Drop::Sampled] > 0 && record.dropped[&Drop::Censored] > 0);

    // more happens, also what suggests other features
    shop.live(40, "Tool Opened").await;
    let second = shop.build().await;
    let later = &second.note.record;
    assert_ne!(later.definition_hash, record.definition_hash);
    assert_ne!(later.digest, record.digest);
    assert!(later.last_offset > record.last_offset && later.rows > record.rows);

    // the record is all that is used
    let written = serde_json::to_string(record).unwrap();
    let record: DatasetRecord = serde_json::from_str(&written).unwrap();
    let again = shop.project.rebuild_dataset(&record).await.unwrap();
    assert_eq!(again.to_batches().unwrap(), rows.to_batches().unwrap());
    assert_eq!(again.digest(), record.digest);
    assert_eq!(again.record, record);

    // and in another process, under a version of its own, where the rows have made room
    let gone = shop.rows(first.version).await.unwrap_err();
    assert!(matches!(gone, CycleError::RowsRemoved(_)), "{gone}");
    let Shop {
        project,
        clock,
        model,
        folder,
    } = shop;
    drop(project);
    let project = open(&folder, SHOP, clock, 1).await;
    let third = project
        .build_dataset_again(&model, first.version)
        .await
        .unwrap();
    assert!(third.is_same_as(&first) && !third.is_same_as(&second));
    assert!(third.version > second.version);
}

#[tokio::test]
async fn rows_of_old_datasets_make_room_but_not_those_of_the_champion() {
    let shop = Shop::open(2).await;
    shop.live(150, "Page Viewed").await;
    let model = std::slice::from_ref(&shop.model);
    let run = shop
        .project
        .train(model, "person", "test")
        .await
        .unwrap()
        .remove(0);
    let number = run.version.unwrap_or_else(|| panic!("{}", run.summary));
    let promote = shop
        .project
        .promote(&shop.model, number, "test", "for the test", true);
    promote.await.unwrap();
    let learnt_from = run.detail["dataset_version"].as_u64().unwrap();
    for _ in 0..3 {
        shop.build().await;
    }
    let kept = shop.project.datasets(&shop.model, None, 10).await.unwrap();
    let has_rows: Vec<bool> = kept.iter().map(|kept| kept.has_rows).collect();
    assert_eq!(has_rows, [true, true, false, true]);
    let of_run = kept.last().unwrap();
    assert_eq!(
        (of_run.version.0, of_run.note.run),
        (learnt_from, Some(run.id))
    );
    assert!(kept[0].note.run.is_none() && kept[0].is_same_as(&kept[2]));

    // the run says what each feature is worth to its version
    let gains = run.detail["gains"].as_array().unwrap();
    assert_eq!(gains.len(), of_run.note.record.features.len());
    assert!(gains[0]["gain"].as_f64().unwrap() > 0.0, "{gains:?}");
    let report = shop.project.feature_report(None).await.unwrap();
    assert_eq!(report.features.len(), gains.len());
    let strongest = report
        .features
        .iter()
        .find(|feature| feature.column.name == gains[0]["name"]);
    let strongest = strongest.unwrap();
    assert_eq!(strongest.models[0].gain, gains[0]["gain"].as_f64());
    assert_eq!(strongest.models[0].version, Some(number));
    assert!(strongest.state_bytes.unwrap() > 0.0 && strongest.read_us.is_some());
    assert!(strongest.newest_event.is_some() && strongest.values.is_some());
    assert_eq!(report.persons, 30);
    let unused: Vec<&str> = report
        .unused
        .iter()
        .map(|feature| feature.name.as_str())
        .collect();
    let no_gain = gains.iter().filter(|gain| gain["gain"] == 0.0);
    let no_gain: Vec<&str> = no_gain.map(|gain| gain["name"].as_str().unwrap()).collect();
    assert_eq!(unused.len(), no_gain.len(), "{unused:?} {no_gain:?}");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let shop = Shop::open(10).await;
    let unknown = shop.project.dataset(&shop.model, TableVersion(1)).await;
    assert!(matches!(unknown, Err(CycleError::UnknownDataset(_))));
    // an empty project has a dataset without rows
    let empty = shop.build().await;
    assert_eq!((empty.note.record.rows, empty.note.record.observed), (0, 0));
    assert_eq!(shop.rows(empty.version).await.unwrap().rows(), 0);
    let record = DatasetRecord {
        project_file: None,
        ..empty.note.record
    };
    let refused = shop.project.rebuild_dataset(&record).await;
    assert!(matches!(refused, Err(CycleError::NotAllowed(_))));
}

/// While the state of changed definitions is made, those before go on, also when it is interrupted; then the new ones take over and
/// have seen everything.
#[tokio::test]
async fn changed_definitions_take_over_without_a_gap() {
    let shop = Shop::open(1).await;
    shop.live(60, "Page Viewed").await;
    shop.build().await;
    shop.live(5, "Page Viewed").await;
    shop.project.catch_up().await.unwrap();
    shop.project.engine().commit().unwrap();
    let before = shop.project.engine().set().hash().to_owned();
    let person = tidemill_core::event::PersonKey::user("u3");
    let read = |project: &Arc<ProjectLoop>| {
        let row = project.engine().read_all(&person, project.clock.now());
        row.unwrap().values
    };
    let values = read(&shop.project);
    let Shop {
        folder,
        clock,
        project,
        model,
    } = shop;
    drop(project);
    let changed = format!(
        "{SHOP}\n[[features.user]]\nname = \"orders\"\naggregate = \"count\"\nevent = \"Order Completed\"\n"
    );
    // opened twice: whoever stops before the new ones have taken over still goes on with those before
    drop(open(&folder, &changed, clock.clone(), 1).await);
    let project = open(&folder, &changed, clock.clone(), 1).await;
    assert!(project.is_switching_over());
    assert_eq!(project.engine().set().hash(), before);
    assert_eq!(read(&project), values);
    let shop = Shop {
        project,
        clock,
        model,
        folder,
    };
    shop.live(5, "Page Viewed").await;
    shop.project.tick().await.unwrap();
    assert!(!shop.project.is_switching_over());
    let orders = (1..=70)
        .filter(|day| (shop.clock.now().day() - 70 + day + 3) % 7 == 0)
        .count();
    assert_eq!(
        read(&shop.project),
        [tidemill_core::FeatureValue::Number(orders as f64)]
    );
}
