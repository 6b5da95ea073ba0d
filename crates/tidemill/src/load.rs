//! How full the process is and how far behind its projects are, noted once a minute.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sysinfo::{DiskRefreshKind, Disks};
use tidemill_api::App;
use tidemill_monitor::traffic::ProcessLoad;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::memory::resident_bytes;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);

/// Notes it now and then once a minute, until `stop` turns true.
pub fn spawn(app: Arc<App>, folder: PathBuf, mut stop: watch::Receiver<bool>) -> JoinHandle<()> {
    tokio::spawn(async move {
        while !*stop.borrow() {
            note(&app, &folder).await;
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                _ = stop.changed() => break,
            }
        }
    })
}

async fn note(app: &App, folder: &Path) {
    for (name, project) in &app.projects {
        match project.progress().await {
            Ok(progress) => {
                let now = app.clock.now();
                let traffic = &app.metrics.traffic;
                traffic.project_sampled(name.as_str(), &progress, now);
            }
            Err(error) => {
                tracing::warn!(project = %name, %error, "cannot note how far behind the project is");
            }
        }
    }
    let folder = folder.to_owned();
    // a folder of many files takes a while to walk through
    match tokio::task::spawn_blocking(move || measure(&folder)).await {
        Ok(load) => app.metrics.set_process(&load, app.clock.now()),
        Err(error) => tracing::warn!(%error, "cannot note how full the process is"),
    }
}

fn measure(folder: &Path) -> ProcessLoad {
    let disk = disk_of(folder);
    ProcessLoad {
        memory_bytes: resident_bytes(),
        data_bytes: Some(size_of(folder)),
        disk_free_bytes: disk.map(|(free, _)| free),
        disk_bytes: disk.map(|(_, all)| all),
    }
}

/// The size of all files below a folder, in bytes. Files that go meanwhile count nothing.
fn size_of(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => size_of(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

/// What is free on the disk that a folder is on, and its size, in bytes.
fn disk_of(folder: &Path) -> Option<(u64, u64)> {
    let folder = folder.canonicalize().ok()?;
    let disks = Disks::new_with_refreshed_list_specifics(DiskRefreshKind::nothing().with_storage());
    let on = disks
        .list()
        .iter()
        .filter(|disk| folder.starts_with(disk.mount_point()));
    let nearest = on.max_by_key(|disk| disk.mount_point().components().count())?;
    // disks in memory are not listed, and what they hide is another one
    is_same_disk(&folder, nearest.mount_point())
        .then(|| (nearest.available_space(), nearest.total_space()))
}

#[cfg(unix)]
fn is_same_disk(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().map(|found| found.dev()).ok();
    device(one).is_some() && device(one) == device(other)
}

#[cfg(not(unix))]
fn is_same_disk(_: &Path, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_folders_below_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("lake")).unwrap();
        std::fs::write(folder.path().join("a"), [0; 70]).unwrap();
        std::fs::write(folder.path().join("lake/b"), [0; 5]).unwrap();
        let load = measure(folder.path());
        assert_eq!(load.data_bytes, Some(75));
        assert!(load.disk_free_bytes <= load.disk_bytes);
        assert_eq!(size_of(&folder.path().join("nothing")), 0);
    }
}
