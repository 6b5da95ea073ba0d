//! A fjall database that can be closed and opened again.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::RwLockReadGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable, Snapshot};
use tidemill_core::sync::RwLock;

use super::journal::{self, Synced};
use crate::StoreError;
use crate::priority::{BEHIND, give_way};

/// How much journal may pile up on disk before tables are written out so that it can go. It is replayed at the start.
const JOURNAL_BYTES_MAX: u64 = 128 << 20;

/// Memory for blocks of a database that is only written to, in bytes.
const EXPORT_CACHE_BYTES: u64 = 1 << 20;

/// Opens the database in a folder.
type Open<T> = dyn Fn(&Path) -> Result<T, StoreError> + Send + Sync;

/// Something built on a database, which is opened again after a write failed.
pub(super) struct Reopenable<T> {
    path: PathBuf,
    current: RwLock<Option<T>>,
    open: Box<Open<T>>,
    /// Whether somebody waits to close it.
    is_closing: AtomicBool,
}

/// The open database. It stays open while this lives.
pub(super) struct Opened<'r, T>(RwLockReadGuard<'r, Option<T>>);

impl<'r, T> Opened<'r, T> {
    fn of(current: RwLockReadGuard<'r, Option<T>>) -> Option<Self> {
        current.is_some().then_some(Self(current))
    }
}

impl<T> Deref for Opened<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is only made of what is open")
    }
}

impl<T> Reopenable<T> {
    pub(super) fn open(
        path: PathBuf,
        open: impl Fn(&Path) -> Result<T, StoreError> + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let current = RwLock::new(Some(open(&path)?));
        Ok(Self {
            path,
            current,
            open: Box::new(open),
            is_closing: AtomicBool::new(false),
        })
    }

    /// The open database; it stays open while the guard lives.
    pub(super) fn get(&self) -> Result<Opened<'_, T>, StoreError> {
        if let Some(opened) = Opened::of(self.current.read()) {
            return Ok(opened);
        }
        // Opening it again had failed.
        self.reopen()?;
        Opened::of(self.current.read()).ok_or(StoreError::Closed)
    }

    /// Closes the database, waiting for its readers, and opens it with what is on disk. While the disk is full it stays
    /// as it is, because it can be read and might not open again.
    pub(super) fn reopen(&self) -> Result<(), StoreError> {
        self.probe()?;
        self.is_closing.store(true, Ordering::Relaxed);
        let mut current = self.current.write();
        self.is_closing.store(false, Ordering::Relaxed);
        // It holds a lock on its files, so that it has to be gone before they can be opened.
        drop(current.take());
        *current = Some((self.open)(&self.path)?);
        Ok(())
    }
}

impl<T> Reopenable<T> {
    /// Whether somebody waits for the guards to be dropped: who holds one for long has to look.
    pub(super) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }

    /// Whether there is space for a megabyte.
    fn probe(&self) -> Result<(), StoreError> {
        let path = self.path.with_extension("probe");
        let probed = fs::write(&path, vec![1; 1 << 20]);
        // It is not there when creating it failed.
        let _ = fs::remove_file(&path);
        probed.map_err(|e| StoreError::file("probe for space with", &path, e))
    }
}

/// Opens or creates a database, after its journals were checked.
pub(super) fn open(path: &Path, cache_bytes: u64, synced: Synced) -> Result<Database, StoreError> {
    journal::mend(path, synced)?;
    let open = || {
        // its workers inherit this: writing tables out and merging them takes a processor for half a second at a time
        give_way(BEHIND);
        Database::builder(path)
            .cache_size(cache_bytes)
            .worker_threads(2)
            .max_journaling_size(JOURNAL_BYTES_MAX)
            .open()
    };
    // a panic of fjall ends this thread alone
    match thread::scope(|scope| scope.spawn(open).join()) {
        Ok(opened) => opened.map_err(|e| failed("open the database", e)),
        Err(_) => Err(StoreError::corrupt(
            path.display().to_string(),
            "reading it broke off",
        )),
    }
}

/// Writes what the keyspaces of a database hold at one moment into a new database, each in the order of its keys. `fixed` is called when
/// the moment is there; what is written later is not in it, and waits for nothing. Breaks off when `is_closing`.
///
/// # Errors
/// [`StoreError::Closed`] where it broke off, and those of reading and writing; the new database is then not whole.
pub(super) fn export(
    database: &Database,
    to: &Path,
    fixed: &mut dyn FnMut(),
    is_closing: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    let read = |e| failed("read for a copy", e);
    let write = |e| failed("write a copy", e);
    let snapshot = database.snapshot();
    let names = database.list_keyspace_names();
    fixed();
    let copy = open(to, EXPORT_CACHE_BYTES, Synced::EveryBatch)?;
    for name in names {
        let from = database.keyspace(&name, keyspace_options).map_err(read)?;
        let into = copy.keyspace(&name, keyspace_options).map_err(write)?;
        export_keyspace((&snapshot, &from), &into, is_closing)?;
    }
    copy.persist(PersistMode::SyncAll).map_err(write)
}

fn export_keyspace(
    (snapshot, from): (&Snapshot, &Keyspace),
    into: &Keyspace,
    is_closing: &dyn Fn() -> bool,
) -> Result<(), StoreError> {
    let write = |e| failed("write a copy", e);
    let mut sorted = into.start_ingestion().map_err(write)?;
    for entry in snapshot.iter(from) {
        if is_closing() {
            return Err(StoreError::Closed);
        }
        let (key, value) = entry
            .into_inner()
            .map_err(|e| failed("read for a copy", e))?;
        sorted.write(key, value).map_err(write)?;
    }
    sorted.finish().map_err(write)
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
