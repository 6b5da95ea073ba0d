//! A journal goes to the disk little by little.
//!
//! What is written without waiting for the disk stays in the memory of the operating system. When fjall begins the next journal it syncs
//! the one before, and holds the lock meanwhile that every write takes: 64 MB at one time are a tenth of a second in which no
//! answer is logged. So a thread syncs the newest journal some times a second, through a handle of its own that no writer waits for.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use super::journal;

/// How often.
const EVERY: Duration = Duration::from_millis(200);

/// The thread; it ends when this is dropped.
pub(super) struct Writeback {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Writeback {
    /// Begins to sync the journals of a database.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(database: PathBuf) -> io::Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = is_over.clone();
        let thread = thread::Builder::new().name("state-writeback".to_owned());
        let thread = thread.spawn(move || {
            let mut seen = None;
            while !told.load(Ordering::Relaxed) {
                thread::park_timeout(EVERY);
                // whoever needs it on the disk syncs as well and is told what is wrong
                let _ = sync_newest(&database, &mut seen);
            }
        })?;
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }
}

impl Drop for Writeback {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // it does not panic
            let _ = thread.join();
        }
    }
}

/// Syncs the newest journal, if it was written since it was `seen`.
fn sync_newest(database: &Path, seen: &mut Option<(PathBuf, SystemTime)>) -> io::Result<()> {
    let Some(newest) = journal::journals(database)?.pop() else {
        return Ok(());
    };
    let written = Some((newest.clone(), fs::metadata(&newest)?.modified()?));
    if *seen != written {
        OpenOptions::new().write(true).open(&newest)?.sync_data()?;
        *seen = written;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_journal_is_synced_when_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut seen = None;
        sync_newest(folder.path(), &mut seen).unwrap();
        assert_eq!(seen, None, "there is none yet");
        for name in ["9.jnl", "10.jnl", "lock"] {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        sync_newest(folder.path(), &mut seen).unwrap();
        let (newest, _) = seen.clone().unwrap();
        assert!(newest.ends_with("10.jnl"), "{newest:?}");
        let before = seen.clone();
        sync_newest(folder.path(), &mut seen).unwrap();
        assert_eq!(seen, before);
    }

    #[test]
    fn its_thread_ends_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let writeback = Writeback::start(folder.path().to_owned()).unwrap();
        let is_over = writeback.is_over.clone();
        drop(writeback);
        assert_eq!(Arc::strong_count(&is_over), 1);
    }
}
