//! The data folder: its format, and the lock that keeps a second process out.

use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{StoreError, durable};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// One server's data on local files: `log/`, `state/`, `catalog.sqlite`, `lake/` and `artifacts/`, with the file
/// `FORMAT` that says how they are written and the file `LOCK` that holds the process id of who has them open.
///
/// Clones are the same folder; it stays locked until the last one, and every store opened in it, is dropped.
#[derive(Debug, Clone)]
pub struct DataFolder(Arc<Locked>);

#[derive(Debug)]
struct Locked {
    path: PathBuf,
    // The operating system lets go of the lock when the file is closed, also when the process is killed.
    _lock: File,
}

impl DataFolder {
    /// Opens a folder, or creates it, and keeps other processes out.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process has it open, [`StoreError::Newer`] where a newer version wrote
    /// it, [`StoreError::Corrupt`] where its format cannot be told, and those of the file system.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let path = path.into();
        durable::create_folder(&path)
            .map_err(|e| StoreError::file("create the data folder", &path, e))?;
        let lock = take_lock(&path)?;
        check_format(&path)?;
        Ok(Self(Arc::new(Locked { path, _lock: lock })))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Where the event log is.
    pub fn log(&self) -> PathBuf {
        self.path().join("log")
    }

    /// Where online state is.
    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// Where the catalog is.
    pub fn catalog(&self) -> PathBuf {
        self.path().join("catalog.sqlite")
    }

    /// Where the tables are.
    pub fn lake(&self) -> PathBuf {
        self.path().join("lake")
    }

    /// Where model files are.
    pub fn artifacts(&self) -> PathBuf {
        self.path().join("artifacts")
    }
}

fn take_lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join("LOCK");
    let failed = |e| StoreError::file("lock the data folder with", &path, e);
    let mut lock = File::options()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(failed)?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Who holds the lock may not have written its id yet; the lock says enough.
            let _ = lock.read_to_string(&mut pid);
            let pid = if pid.trim().is_empty() {
                "unknown".to_owned()
            } else {
                pid.trim().to_owned()
            };
            return Err(StoreError::Locked {
                path: folder.to_owned(),
                pid,
            });
        }
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    lock.set_len(0).map_err(failed)?;
    lock.rewind().map_err(failed)?;
    writeln!(lock, "{}", std::process::id()).map_err(failed)?;
    Ok(lock)
}

fn check_format(folder: &Path) -> Result<(), StoreError> {
    let path = folder.join("FORMAT");
    let written = match fs::read_to_string(&path) {
        Ok(text) => Some(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
        Err(e) => return Err(StoreError::file("read", &path, e)),
    };
    match written {
        Some(text) => match text.trim().parse() {
            Ok(FORMAT) => Ok(()),
            Ok(found) if found > FORMAT => Err(StoreError::Newer {
                path: folder.to_owned(),
                found,
                supported: FORMAT,
            }),
            _ => Err(StoreError::corrupt(
                path.display().to_string(),
                "it does not hold the number of a format",
            )),
        },
        None => {
            // The format is written before anything else, so that data without one is not ours to touch.
            if ["log", "state", "catalog.sqlite", "lake", "artifacts"]
                .iter()
                .any(|n| folder.join(n).exists())
            {
                return Err(StoreError::corrupt(
                    format!("the data folder {}", folder.display()),
                    "it holds data, but its FORMAT file is absent",
                ));
            }
            durable::replace(&path, format!("{FORMAT}\n").as_bytes())
                .map_err(|e| StoreError::file("write", &path, e))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_opening_is_refused_until_the_first_ends() {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        let folder = DataFolder::open(&path).unwrap();
        match DataFolder::open(&path) {
            Err(StoreError::Locked { pid, .. }) => assert_eq!(pid, std::process::id().to_string()),
            other => panic!("expected a locked folder, got {other:?}"),
        }
        drop(folder);
        DataFolder::open(&path).unwrap();
    }

    #[test]
    fn formats_that_are_not_ours_are_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let check = |name: &str, format: Option<&str>, expected: fn(&StoreError) -> bool| {
            let path = temporary.path().join(name);
            fs::create_dir_all(path.join("log")).unwrap();
            if let Some(format) = format {
                fs::write(path.join("FORMAT"), format).unwrap();
            }
            let error = DataFolder::open(&path).unwrap_err();
            assert!(expected(&error), "{name}: {error}");
        };
        check("newer", Some("2\n"), |e| {
            matches!(
                e,
                StoreError::Newer {
                    found: 2,
                    supported: 1,
                    ..
                }
            )
        });
        check("garbage", Some("x"), |e| {
            matches!(e, StoreError::Corrupt { .. })
        });
        check("zero", Some("0"), |e| {
            matches!(e, StoreError::Corrupt { .. })
        });
        check("absent", None, |e| matches!(e, StoreError::Corrupt { .. }));
    }
}
