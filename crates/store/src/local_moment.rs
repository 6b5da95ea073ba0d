//! One moment of the embedded stores.
//!
//! Files that never change (those of the lake and of models) get a second name, the catalog is written anew by SQLite, and log and
//! states are read through a snapshot of fjall into new databases. The moments of the four are ordered so that each
//! knows of no more than those after it: models and tables hold what the catalog names, the log what the states and tables have seen.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::delta::DeltaLake;
use crate::fjall_store::{FjallLog, FjallState};
use crate::local::blocking;
use crate::moment::{self, MOMENT, Moments, Writing};
use crate::priority::{BEHIND, give_way};
use crate::sqlite::SqliteCatalog;
use crate::{DataFolder, StoreError};

/// [`Moments`] of the embedded stores of a data folder.
pub struct LocalMoments {
    folder: DataFolder,
    log: Arc<FjallLog>,
    state: Arc<FjallState>,
    catalog: Arc<SqliteCatalog>,
    lake: Arc<DeltaLake>,
    /// One copy at a time.
    fixing: tokio::sync::Mutex<()>,
}

impl LocalMoments {
    /// Of these stores, which are open in the folder. What a process that was killed left of a copy is removed.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(
        folder: &DataFolder,
        (log, state): (Arc<FjallLog>, Arc<FjallState>),
        catalog: Arc<SqliteCatalog>,
        lake: Arc<DeltaLake>,
    ) -> Result<Self, StoreError> {
        // who takes one elsewhere may have outlived the server
        if !moment::is_taken(folder.path()) {
            moment::remove(&folder.path().join(MOMENT))?;
        }
        Ok(Self {
            folder: folder.clone(),
            log,
            state,
            catalog,
            lake,
            fixing: tokio::sync::Mutex::default(),
        })
    }

    /// Links and copies until the moment is fixed.
    async fn fix_in(&self, to: &Path) -> Result<Writing, StoreError> {
        create_private(to)?;
        let _unchanged = self.lake.unchanged().await?;
        let frozen = self.catalog.freeze().await?;
        let copied = async {
            let files = [
                (self.folder.lake(), to.join("lake")),
                (self.folder.artifacts(), to.join("artifacts")),
            ];
            blocking(move || files.iter().try_for_each(|(from, to)| link_all(from, to))).await?;
            self.catalog.copy_to(&to.join("catalog.sqlite")).await?;
            let (state, log) = (self.state.clone(), self.log.clone());
            let (state_to, log_to) = (to.join("state"), to.join("log"));
            let states = export(move |fixed| state.export(&state_to, fixed)).await?;
            let events = export(move |fixed| log.export(&log_to, fixed)).await?;
            Ok((states, events))
        };
        let copied = copied.await;
        frozen.thaw().await?;
        let (states, events) = copied?;
        Ok(Box::pin(async move {
            let (states, events) = (ended(states).await, ended(events).await);
            states.and(events)
        }))
    }
}

#[async_trait]
impl Moments for LocalMoments {
    async fn fix(&self) -> Result<Writing, StoreError> {
        let Ok(_one_at_a_time) = self.fixing.try_lock() else {
            return Err(StoreError::NotNow("another copy is begun at this moment"));
        };
        let to = self.folder.path().join(MOMENT);
        if !moment::is_taken(self.folder.path()) {
            return Err(StoreError::NotNow("nobody is there to take the copy"));
        }
        if to.exists() {
            return Err(StoreError::NotNow("the copy before is still taken away"));
        }
        match self.fix_in(&to).await {
            Ok(writing) => Ok(Box::pin(async move {
                writing.await.inspect_err(|_| remove_again(&to))
            })),
            Err(error) => {
                remove_again(&to);
                Err(error)
            }
        }
    }
}

fn remove_again(moment: &Path) {
    if let Err(error) = moment::remove(moment) {
        tracing::warn!(%error, "a copy that was broken off stays until the next start");
    }
}

type Export = JoinHandle<Result<(), StoreError>>;

/// Begins an export on a thread that gives way, and returns once its moment is fixed.
async fn export(
    write: impl FnOnce(&mut dyn FnMut()) -> Result<(), StoreError> + Send + 'static,
) -> Result<Export, StoreError> {
    let (tell, fixed) = oneshot::channel();
    let (done, ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("moment".to_owned());
    let spawned = thread.spawn(move || {
        give_way(BEHIND);
        let mut tell = Some(tell);
        let written = write(&mut || {
            // who does not wait any more does not need to know
            let _ = tell.take().map(|tell| tell.send(()));
        });
        let _ = done.send(written);
    });
    spawned.map_err(|e| StoreError::backend("start a thread", e))?;
    let export = tokio::spawn(async move { ended.await.unwrap_or(Err(StoreError::Closed)) });
    match fixed.await {
        Ok(()) => Ok(export),
        // it failed before, and says why
        Err(_) => ended_early(export).await,
    }
}

async fn ended_early(export: Export) -> Result<Export, StoreError> {
    ended(export).await?;
    Err(StoreError::Closed)
}

async fn ended(export: Export) -> Result<(), StoreError> {
    export.await.map_err(|_| StoreError::Closed)?
}

/// Gives every file below a folder a second name, or a copy where the file system has no second names. Files that vanish meanwhile
/// and those that have not got their name yet (`#`) are of no table and no version.
fn link_all(from: &Path, to: &Path) -> Result<(), StoreError> {
    let failed = |e| StoreError::file("read", from, e);
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e)),
    };
    create_private(to)?;
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let (path, target): (PathBuf, PathBuf) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(failed)?;
        if kind.is_dir() {
            link_all(&path, &target)?;
        } else if kind.is_file() && !entry.file_name().to_string_lossy().contains('#') {
            let linked = fs::hard_link(&path, &target).or_else(|e| match e.kind() {
                ErrorKind::NotFound => Err(e),
                _ => fs::copy(&path, &target).map(|_| ()),
            });
            match linked {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(StoreError::file("link", &path, e));
                }
                Ok(()) | Err(_) => {}
            }
        } else if !kind.is_file() {
            return Err(StoreError::NotNow(
                "the lake or the models hold a link, which a copy does not follow",
            ));
        }
    }
    Ok(())
}

/// A folder that only its owner may look into, with those above it.
fn create_private(folder: &Path) -> Result<(), StoreError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::DirBuilderExt;
        builder.mode(0o700);
    }
    let created = builder.create(folder);
    created.map_err(|e| StoreError::file("create", folder, e))
}
