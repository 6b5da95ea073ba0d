//! What can go wrong with storage, in the kinds that a caller can act on.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

/// An error of any port.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No space is left, or a quota is reached. Nothing was acknowledged; writing may succeed once there is space.
    #[error("no space left on the device while trying to {action}")]
    Full {
        /// What was being done.
        action: &'static str,
    },
    /// Another process has the data folder open.
    #[error("the data folder {} is in use by another process (pid {pid})", path.display())]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The other process, or `unknown`.
        pid: String,
    },
    /// The data was written by a newer version of Tidemill.
    #[error("the data folder {} has format {found}, this version reads up to {supported}", path.display())]
    Newer {
        /// The folder.
        path: PathBuf,
        /// The format that it has.
        found: u32,
        /// The newest format that this version reads.
        supported: u32,
    },
    /// Stored bytes do not read back as what was written.
    #[error("{what} is damaged: {detail}")]
    Corrupt {
        /// Which part.
        what: String,
        /// How it was noticed.
        detail: String,
    },
    /// What was asked for by id is not there.
    #[error("{0} does not exist")]
    NotFound(String),
    /// A copy of the stores cannot be made at the moment.
    #[error("a copy of the stores cannot be made now: {0}")]
    NotNow(&'static str),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
    /// Reading or writing files failed.
    #[error("{action}")]
    Io {
        /// What was being done.
        action: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// The backend failed.
    #[error("{action}")]
    Backend {
        /// What was being done.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Reading or writing a file or folder failed; [`StoreError::Full`] where that is because no space is left.
    pub fn file(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            Self::Full { action }
        } else {
            Self::Io {
                action: format!("{action} {}", path.display()),
                source,
            }
        }
    }

    /// A backend failed; [`StoreError::Full`] where any error in the chain says that no space is left.
    pub fn backend(action: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let source = source.into();
        if is_full(source.as_ref()) {
            Self::Full { action }
        } else {
            Self::Backend { action, source }
        }
    }

    /// Stored bytes do not read back as what was written.
    pub fn corrupt(what: impl Into<String>, detail: impl std::fmt::Display) -> Self {
        Self::Corrupt {
            what: what.into(),
            detail: detail.to_string(),
        }
    }
}

/// Whether an error, or one that caused it, says that no space is left on the device or a quota is reached.
pub(crate) fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(is_full_io) {
            return true;
        }
        if matches!(
            error.downcast_ref::<StoreError>(),
            Some(StoreError::Full { .. })
        ) {
            return true;
        }
        next = error.source();
    }
    // Some layers keep only the text of what caused them.
    let text = error.to_string();
    text.contains("No space left on device") || text.contains("Disk quota exceeded")
}

fn is_full_io(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        // An error inside of an error is not in the `source` chain of the outer one, only behind `get_ref`.
        || error.get_ref().is_some_and(|inner| is_full(inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_found_anywhere_in_the_chain() {
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        let check = |error: Box<dyn Error + Send + Sync>, expected: bool| {
            let text = format!("{error:?}");
            assert_eq!(
                matches!(StoreError::backend("write", error), StoreError::Full { .. }),
                expected,
                "{text}"
            );
        };
        check(Box::new(full()), true);
        check(Box::new(io::Error::other(full())), true);
        check(Box::new(io::Error::other(io::Error::other(full()))), true);
        check(Box::new(fjall::Error::Io(full())), true);
        check(
            Box::new(StoreError::Io {
                action: "write".to_owned(),
                source: full(),
            }),
            true,
        );
        check(Box::new(io::Error::from_raw_os_error(28)), true);
        check("write: No space left on device (os error 28)".into(), true);
        check(
            Box::new(io::Error::from(io::ErrorKind::PermissionDenied)),
            false,
        );
    }
}
