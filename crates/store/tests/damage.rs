//! Cut-off and flipped bytes in the files of the log: what is read afterwards is what was written, or it is refused.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::fs;
use std::path::{Path, PathBuf};

use tidemill_core::Offset;
use tidemill_store::conformance::samples::{self, project};
use tidemill_store::fjall_store::{FjallLog, FjallOptions};
use tidemill_store::{Appended, DataFolder, EventLog, StoreError};

const EVENTS: u64 = 12;

fn open(folder: &Path) -> Result<FjallLog, StoreError> {
    FjallLog::open(&DataFolder::open(folder)?, &FjallOptions::default())
}

/// A folder with [`EVENTS`] events, each stored by itself.
async fn written() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let log = open(folder.path()).unwrap();
    for number in 1..=EVENTS {
        log.append(&project("shop"), samples::events([number]), Vec::new())
            .await
            .unwrap();
    }
    folder
}

/// The journal and the bytes of it that hold something.
fn journal(folder: &Path) -> (PathBuf, Vec<u8>) {
    let mut journals: Vec<PathBuf> = fs::read_dir(folder.join("log"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jnl"))
        .collect();
    journals.sort();
    let path = journals.pop().unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1);
    (path, bytes)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else if path.extension().is_none_or(|extension| extension != "jnl") {
            // The journal is written by the test: it is mostly preallocated zeros.
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// Opens a copy with this journal. Returns how many events were recovered, `None` where it was refused.
async fn recovered(original: &Path, name: &Path, bytes: &[u8]) -> Option<u64> {
    let temporary = tempfile::tempdir().unwrap();
    copy(original, temporary.path());
    fs::write(temporary.path().join("log").join(name), bytes).unwrap();
    let log = match open(temporary.path()) {
        Ok(log) => log,
        Err(StoreError::Corrupt { .. }) => return None,
        Err(error) => panic!("neither read nor refused as damaged: {error}"),
    };
    let shop = project("shop");
    let read = match log.read(&shop, Offset::ZERO, usize::MAX) {
        Ok(read) => read,
        Err(StoreError::Corrupt { .. }) => return None,
        Err(error) => panic!("neither read nor refused as damaged: {error}"),
    };
    assert_eq!(
        read,
        samples::logged(1..=read.len() as u64),
        "not a prefix of what was written"
    );
    assert_eq!(log.last(&shop).unwrap().0, read.len() as u64);
    // It goes on from there, and an event that was lost is not taken for a duplicate.
    let next = samples::events([read.len() as u64 + 1]);
    let answer = log.append(&shop, next, Vec::new()).await.unwrap();
    assert_eq!(answer, [Appended::Stored(Offset(read.len() as u64 + 1))]);
    Some(read.len() as u64)
}

#[tokio::test]
async fn a_torn_journal_gives_the_good_prefix() {
    let folder = written().await;
    let (path, bytes) = journal(folder.path());
    let name = Path::new(path.file_name().unwrap());
    assert_eq!(recovered(folder.path(), name, &bytes).await, Some(EVENTS));
    let mut before = 0;
    for length in (0..bytes.len()).step_by(bytes.len() / 40) {
        let count = recovered(folder.path(), name, &bytes[..length]).await;
        let count = count.unwrap_or_else(|| panic!("refused when cut off at {length}"));
        assert!(count >= before, "a longer journal holds less");
        before = count;
        // The same with the zeros that the file was preallocated with.
        let mut padded = bytes[..length].to_vec();
        padded.resize(length + 5_000, 0);
        assert_eq!(
            recovered(folder.path(), name, &padded).await,
            Some(count),
            "padded at {length}"
        );
    }
}

#[tokio::test]
async fn a_flipped_bit_is_refused() {
    let folder = written().await;
    let (path, bytes) = journal(folder.path());
    let name = Path::new(path.file_name().unwrap());
    let mut refused = 0;
    for (round, place) in (0..bytes.len()).step_by(bytes.len() / 60).enumerate() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (round % 8);
        match recovered(folder.path(), name, &damaged).await {
            // The number of a batch in the journal does not matter while it counts up.
            Some(count) => assert_eq!(
                count, EVENTS,
                "events are missing and nobody was told: flipped {place}"
            ),
            None => refused += 1,
        }
    }
    assert!(refused > 40, "{refused}");
}
