//! The port for a copy of all stores as they were at one moment, made while they are used.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::StoreError;

/// The folder in a data folder where the copy stands until somebody has taken it elsewhere.
pub const MOMENT: &str = "moment";
/// The file that whoever takes the copy elsewhere holds a lock on meanwhile.
pub const TAKEN_BY: &str = "backup.lock";

/// The rest of making a copy, after the moment has been fixed.
pub type Writing = BoxFuture<'static, Result<(), StoreError>>;

/// Copies of all stores as they were at one moment, into [`MOMENT`] of the data folder.
///
/// Invariants: what was acknowledged before [`fix`](Moments::fix) was called is in the copy; the copy is one that a process which was
/// killed at the moment could have left, so that opening it needs nothing that a start does not do anyway; who reads and who
/// appends waits for neither.
#[async_trait]
pub trait Moments: Send + Sync {
    /// Fixes the moment, and returns what is left to do. The caller lets nothing land and the log forget nothing until this returns;
    /// what is returned goes on beside everything else, and has to be awaited.
    ///
    /// # Errors
    /// [`StoreError::NotNow`] where nobody holds [`TAKEN_BY`] or the copy before is still there, and those of the stores.
    async fn fix(&self) -> Result<Writing, StoreError>;
}

/// Who takes a copy elsewhere. Others are kept from it until this is dropped, also when the process is killed.
#[derive(Debug)]
pub struct Taker {
    moment: PathBuf,
    _lock: File,
}

impl Taker {
    /// Begins, and removes what one before left behind. `None` where somebody is at it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn begin(data: &Path) -> Result<Option<Self>, StoreError> {
        let path = data.join(TAKEN_BY);
        let failed = |e| StoreError::file("lock", &path, e);
        let mut options = File::options();
        let lock = options.create(true).truncate(false).write(true).open(&path);
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(e)) => return Err(failed(e)),
        }
        let moment = data.join(MOMENT);
        remove(&moment)?;
        Ok(Some(Self {
            moment,
            _lock: lock,
        }))
    }

    /// Where the copy stands.
    pub fn moment(&self) -> &Path {
        &self.moment
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        // what stays is removed by the next one, or at the next start
        let _ = remove(&self.moment);
    }
}

/// Whether somebody waits for a copy, or takes one elsewhere.
pub(crate) fn is_taken(data: &Path) -> bool {
    let lock = File::options().write(true).open(data.join(TAKEN_BY));
    lock.is_ok_and(|lock| matches!(lock.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Removes a copy, if there is one.
pub(crate) fn remove(moment: &Path) -> Result<(), StoreError> {
    match std::fs::remove_dir_all(moment) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::file("remove", moment, e))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}
