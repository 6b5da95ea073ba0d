//! The history that a backtest replays. The original is only read: what has to be opened for writing is copied first, and the lake,
//! which is read file by file, is looked at where it is.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use futures::stream::BoxStream;
use tidemill_core::project::Project;
use tidemill_core::{Offset, ProjectName};
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{DataFolder, LoggedEvent, StoreError, Stores};

use crate::cli::DataArgs;
use crate::client::find_project;
use crate::node::open_stores;

/// How many events of the log are read at a time.
const LOG_EVENTS: usize = 4_096;

/// A project's past.
pub struct Source {
    /// The project file by which it is replayed.
    pub project: Project,
    /// Whether a server has the original open: what it has not landed yet is not here.
    pub beside_server: bool,
    stores: Stores,
    _folder: tempfile::TempDir,
}

impl Source {
    /// Looks at a data folder.
    pub async fn open(data: &Path, args: &DataArgs) -> Result<Self> {
        if !data.exists() {
            bail!(
                "there is no data folder {}; `tidemill serve` or `tidemill import` makes one, --data names another",
                data.display()
            );
        }
        let data = data
            .canonicalize()
            .with_context(|| format!("find {}", data.display()))?;
        let temporary = tempfile::Builder::new()
            .prefix("tidemill-history-")
            .tempdir()?;
        let folder = DataFolder::open(temporary.path().join("data"))?;
        // while nobody has it open, nobody shall open it before the copy is made
        let held = match DataFolder::open(&data) {
            Ok(held) => Some(held),
            Err(StoreError::Locked { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        match &held {
            Some(_) => {
                for name in ["catalog.sqlite", "catalog.sqlite-wal"] {
                    copy_file(&data.join(name), &folder.path().join(name))?;
                }
                copy_folder(&data.join("log"), &folder.log())?;
            }
            None => copy_catalog(&data, &folder).await?,
        }
        link(&data.join("lake"), &folder.lake())?;
        let stores = open_stores(&folder)
            .await
            .context("open a copy of the history")?;
        let project = find_project(&stores, args).await?;
        let beside_server = held.is_none();
        drop(held);
        Ok(Self {
            project,
            beside_server,
            stores,
            _folder: temporary,
        })
    }

    /// How many events there are.
    pub async fn count(&self) -> Result<u64> {
        let name = &self.project.name;
        let landed = self.stores.lake.events_snapshot(name).await?.last;
        Ok(landed.max(self.stores.log.last(name)?).0)
    }

    /// All events in the order of the log: those that have landed, then those that have not.
    pub async fn events(&self) -> Result<BoxStream<'static, Result<Vec<LoggedEvent>>>> {
        let name = self.project.name.clone();
        let snapshot = self.stores.lake.events_snapshot(&name).await?;
        let landed = self.stores.lake.read_events(&name, snapshot).await?;
        let landed =
            landed.map(|batch| batch.context("read the lake; is it being tidied up? Try again"));
        Ok(landed.chain(self.tail(name, snapshot.last)).boxed())
    }

    fn tail(
        &self,
        name: ProjectName,
        after: Offset,
    ) -> impl futures::Stream<Item = Result<Vec<LoggedEvent>>> + Send + use<> {
        let log = self.stores.log.clone();
        futures::stream::unfold(after, move |after| {
            let events = log.read(&name, after, LOG_EVENTS);
            async move {
                match events {
                    Ok(events) => {
                        let last = events.last()?.offset;
                        Some((Ok(events), last))
                    }
                    Err(error) => Some((Err(error.into()), Offset(u64::MAX))),
                }
            }
        })
    }
}

/// Copies the catalog of a folder that a server has open, as it is at one moment.
async fn copy_catalog(data: &Path, to: &DataFolder) -> Result<()> {
    let copied = async {
        let catalog = SqliteCatalog::open_beside(&data.join("catalog.sqlite")).await?;
        let copied = catalog.copy_to(&to.catalog()).await;
        catalog.close().await;
        copied
    };
    copied
        .await
        .context("copy the catalog beside the server that has the folder open")
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("copy {}", from.display())),
    }
}

fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("copy {}", from.display());
    let entries = match fs::read_dir(from) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(failed),
    };
    fs::create_dir_all(to).with_context(failed)?;
    for entry in entries {
        let entry = entry.with_context(failed)?;
        let target: PathBuf = to.join(entry.file_name());
        if entry.file_type().with_context(failed)?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            copy_file(&entry.path(), &target)?;
        }
    }
    Ok(())
}

#[cfg(unix)]
fn link(from: &Path, to: &Path) -> Result<()> {
    if !from.exists() {
        return Ok(());
    }
    std::os::unix::fs::symlink(from, to).with_context(|| format!("look at {}", from.display()))
}

#[cfg(not(unix))]
fn link(from: &Path, to: &Path) -> Result<()> {
    copy_folder(from, to)
}
