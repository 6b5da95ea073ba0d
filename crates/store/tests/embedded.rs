//! The embedded backends do what the ports say.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::fjall_store::{FjallLog, FjallOptions, FjallState};
use tidemill_store::local::LocalArtifacts;
use tidemill_store::memory::MemoryState;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{DataFolder, conformance};

fn world(worlds: &TempDir, name: &str) -> DataFolder {
    DataFolder::open(worlds.path().join(name)).unwrap()
}

#[tokio::test]
async fn fjall_is_an_event_log() {
    let worlds = tempfile::tempdir().unwrap();
    conformance::event_log::check(async |name| {
        FjallLog::open(&world(&worlds, name), &FjallOptions::default()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn memory_is_a_state_store() {
    let worlds = std::cell::RefCell::new(std::collections::BTreeMap::new());
    conformance::state::check(async |name| {
        let mut worlds = worlds.borrow_mut();
        let world: &mut MemoryState = worlds.entry(name.to_owned()).or_default();
        world.clone()
    })
    .await;
}

#[tokio::test]
async fn fjall_is_a_state_store() {
    let worlds = tempfile::tempdir().unwrap();
    conformance::state::check(async |name| {
        FjallState::open(&world(&worlds, name), &FjallOptions::default()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn sqlite_is_a_catalog() {
    let worlds = tempfile::tempdir().unwrap();
    conformance::catalog::check(async |name| {
        SqliteCatalog::open(&world(&worlds, name)).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn delta_is_a_lake() {
    let worlds = tempfile::tempdir().unwrap();
    conformance::lake::check(async |name| {
        let options = DeltaOptions {
            small_files_min: 4,
            ..DeltaOptions::default()
        };
        DeltaLake::open(&world(&worlds, name), &options)
    })
    .await;
}

#[tokio::test]
async fn local_files_are_artifacts() {
    let worlds = tempfile::tempdir().unwrap();
    let damage = |name: &str, hash: &tidemill_store::ArtifactHash| {
        let file = find(&worlds.path().join(name), hash.as_str());
        let mut bytes = fs::read(&file).unwrap();
        bytes[0] ^= 1;
        fs::write(file, bytes).unwrap();
    };
    conformance::artifacts::check(
        async |name| LocalArtifacts::open(&world(&worlds, name)),
        damage,
    )
    .await;
}

fn find(folder: &Path, name: &str) -> std::path::PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|found| found == name) {
                return path;
            }
        }
    }
    panic!("there is no file {name}");
}
