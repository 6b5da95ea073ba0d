//! Datasets in the lake: they are built again from their record, bit for bit, and old ones make room.

use std::sync::Arc;

use tidemill_core::Clock;
use tidemill_cycle::{CycleError, ProjectLoop};
use tidemill_features::dataset::{DatasetRecord, Drop};
use tidemill_store::lake::TableVersion;

use crate::shop::{SHOP, Shop, open};

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
    let again = shop.project.rebuild_dataset(&record).await.unwrap().dataset;
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
