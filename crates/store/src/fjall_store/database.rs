//! A fjall database that can be closed and opened again, and that says what recovery threw away.

use std::fs;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use fjall::{Database, KeyspaceCreateOptions, PersistMode};
use parking_lot::{MappedRwLockReadGuard, RwLock, RwLockReadGuard};

use crate::{StoreError, durable};

/// How much journal may pile up on disk before tables are written out so that it can go. It is replayed at the start.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;

/// Something built on a database, which is opened again after a write failed.
pub(super) struct Reopenable<T> {
    current: RwLock<Option<T>>,
    open: Box<dyn Fn() -> Result<T, StoreError> + Send + Sync>,
}

impl<T> Reopenable<T> {
    pub(super) fn open(
        open: impl Fn() -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Ok(Self {
            current: RwLock::new(Some(open()?)),
            open: Box::new(open),
        })
    }

    /// The open database; it stays open while the guard lives.
    pub(super) fn get(&self) -> Result<MappedRwLockReadGuard<'_, T>, StoreError> {
        if let Ok(current) = RwLockReadGuard::try_map(self.current.read(), Option::as_ref) {
            return Ok(current);
        }
        // Opening it again had failed.
        self.reopen()?;
        RwLockReadGuard::try_map(self.current.read(), Option::as_ref)
            .map_err(|_| StoreError::Closed)
    }

    /// Closes the database, waiting for its readers, and opens it with what is on disk.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        let mut current = self.current.write();
        // It holds a lock on its files, so that it has to be gone before they can be opened.
        drop(current.take());
        *current = Some((self.open)()?);
        Ok(())
    }
}

/// Opens or creates a database. What recovery cuts off at the end of the journal is kept beside it and logged.
pub(super) fn open(path: &Path, cache_bytes: u64) -> Result<Database, StoreError> {
    let journal = Journal::newest(path)?;
    let opened = std::panic::catch_unwind(AssertUnwindSafe(|| {
        Database::builder(path)
            .cache_size(cache_bytes)
            .worker_threads(2)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()
    }));
    let database = match opened {
        Ok(opened) => opened.map_err(|e| failed("open the database", e))?,
        Err(_) => {
            return Err(StoreError::corrupt(
                path.display().to_string(),
                "recovery broke off",
            ));
        }
    };
    if let Some(journal) = journal {
        journal.keep_what_was_cut_off();
    }
    Ok(database)
}

/// How keyspaces are made: a journaled write goes to the operating system with the call.
pub(super) fn keyspace_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
}

/// Commits a batch so that it survives power loss.
pub(super) const DURABLE: Option<PersistMode> = Some(PersistMode::SyncData);

/// What an error of fjall means for the caller.
pub(super) fn failed(action: &'static str, error: fjall::Error) -> StoreError {
    use fjall::{Error, LsmError};
    match &error {
        Error::JournalRecovery(_)
        | Error::Decompress(_)
        | Error::InvalidTrailer
        | Error::InvalidTag(_)
        | Error::InvalidVersion(_)
        | Error::Unrecoverable
        | Error::Storage(
            LsmError::ChecksumMismatch { .. }
            | LsmError::Decompress(_)
            | LsmError::InvalidTag(_)
            | LsmError::InvalidTrailer
            | LsmError::InvalidHeader(_)
            | LsmError::InvalidVersion(_)
            | LsmError::Unrecoverable
            | LsmError::Utf8(_),
        ) => StoreError::corrupt("the database", format!("{action}: {error}")),
        _ => StoreError::backend(action, error),
    }
}

/// The journal that the last writes went to, as it was before recovery.
struct Journal {
    path: PathBuf,
    /// Without the zeros that it was preallocated with.
    written: Vec<u8>,
}

impl Journal {
    fn newest(database: &Path) -> Result<Option<Self>, StoreError> {
        let entries = match fs::read_dir(database) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StoreError::file("list", database, e)),
        };
        let newest = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let number: u64 = path
                    .file_name()?
                    .to_str()?
                    .strip_suffix(".jnl")?
                    .parse()
                    .ok()?;
                Some((number, path))
            })
            .max();
        let Some((_, path)) = newest else {
            return Ok(None);
        };
        let mut written = fs::read(&path).map_err(|e| StoreError::file("read", &path, e))?;
        written.truncate(
            written
                .iter()
                .rposition(|byte| *byte != 0)
                .map_or(0, |last| last + 1),
        );
        Ok(Some(Self { path, written }))
    }

    /// A batch that was being written when the process ended is cut off by recovery; nobody was told that it is
    /// stored. Cut off with it is everything after a damaged place, and that a person must see.
    fn keep_what_was_cut_off(self) {
        // Without the file, the journal was replaced by a new one because all of it is in tables.
        let Ok(metadata) = fs::metadata(&self.path) else {
            return;
        };
        let kept = usize::try_from(metadata.len()).unwrap_or(usize::MAX);
        let Some(cut_off) = self.written.get(kept..).filter(|bytes| !bytes.is_empty()) else {
            return;
        };
        let copy = self.path.with_extension("cut-off");
        tracing::warn!(
            bytes = cut_off.len(),
            copy = %copy.display(),
            "cut off an unfinished or damaged end of the journal"
        );
        if let Err(e) = durable::replace(&copy, cut_off) {
            // The copy is for a person who looks into it; the store is as good without it.
            tracing::warn!(error = %e, copy = %copy.display(), "could not keep what was cut off");
        }
    }
}
