//! No space left: writing is refused as such, reading goes on, and everything heals when space returns.
//!
//! The child is this test binary again, with a small file system mounted in a namespace of its own.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use futures::TryStreamExt;
use tidemill_core::{Event, Offset};
use tidemill_store::conformance::samples::{self, project};
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::fjall_store::{FjallOptions, FjallStore};
use tidemill_store::{
    Appended, DataFolder, EventLog, Lake, LoggedEvent, StateBatch, StateStore, StoreError,
};

const FOLDER: &str = "TIDEMILL_SMALL_DISK";
const BALLAST_BYTES: usize = 12 << 20;

fn large(number: u64) -> Event {
    let mut event = samples::event(number % 1_000);
    event.message_id = format!("m{number}");
    // Not to be compressed away.
    let noise: String = (0..1_500u64)
        .map(|place| char::from(b'a' + ((number * 31 + place * place * 7) % 26) as u8))
        .collect();
    event.properties.insert("noise".to_owned(), noise.into());
    event
}

/// Appends until the disk is full, without more than the error; returns how many events are acknowledged by then.
async fn fill(log: &impl EventLog, mut next: u64) -> u64 {
    for _ in 0..2_000 {
        let events = (next..next + 50).map(large).collect();
        match log.append(&project("shop"), events, Vec::new()).await {
            Ok(answers) => {
                assert!(
                    answers
                        .iter()
                        .all(|answer| matches!(answer, Appended::Stored(_))),
                    "{answers:?}"
                );
                next += 50;
            }
            Err(StoreError::Full { .. }) => return next,
            Err(error) => panic!("not refused for want of space: {error:?}"),
        }
    }
    panic!("the disk did not become full");
}

/// The child. Does nothing when it is run as a test.
#[tokio::test]
async fn child_on_a_small_disk() {
    let Ok(folder) = std::env::var(FOLDER) else {
        return;
    };
    let ballast = Path::new(&folder).join("ballast");
    let folder = DataFolder::open(Path::new(&folder).join("data")).unwrap();
    let store = FjallStore::open(&folder, &FjallOptions::default()).unwrap();
    let shop = project("shop");
    let put = |key: u8| {
        let mut batch = StateBatch::default();
        batch.put("users", [key], vec![key; 3_000_000]);
        store.state.commit(&shop, batch)
    };
    put(1).unwrap();
    fs::write(&ballast, vec![1; BALLAST_BYTES]).unwrap();
    let acknowledged = fill(&store.log, 0).await;
    assert!(acknowledged > 0);
    // Refused again, and readable all the while.
    assert_eq!(fill(&store.log, acknowledged).await, acknowledged);
    let check = |store: &FjallStore| {
        let read = store.log.read(&shop, Offset::ZERO, usize::MAX).unwrap();
        let expected = (0..read.len() as u64).map(|number| LoggedEvent {
            offset: Offset(number + 1),
            event: large(number),
        });
        assert!(
            read.iter().cloned().eq(expected),
            "lost, doubled or out of order"
        );
        read.len() as u64
    };
    assert_eq!(check(&store), acknowledged);
    let full = loop {
        if let Err(error) = put(2) {
            break error;
        }
    };
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");
    assert_eq!(
        store
            .state
            .get(&shop, "users", &[1])
            .unwrap()
            .map(|value| value.len()),
        Some(3_000_000)
    );
    let lake = DeltaLake::open(&folder, &DeltaOptions::default());
    let landed: Vec<LoggedEvent> = store.log.read(&shop, Offset::ZERO, 2_000).unwrap();
    let full = lake.land_events(&shop, &landed).await.unwrap_err();
    assert!(matches!(full, StoreError::Full { .. }), "{full:?}");

    fs::remove_file(&ballast).unwrap();
    let events: Vec<Event> = (acknowledged..acknowledged + 50).map(large).collect();
    let answers = store
        .log
        .append(&shop, events.clone(), Vec::new())
        .await
        .unwrap();
    // What had been refused may have been stored in spite of it: it is there once in any case.
    assert_eq!(answers.len(), 50);
    assert_eq!(check(&store), acknowledged + 50);
    put(3).unwrap();
    assert_eq!(
        lake.land_events(&shop, &landed).await.unwrap(),
        Offset(landed.len() as u64)
    );
    let snapshot = lake.events_snapshot(&shop).await.unwrap();
    let read: Vec<Vec<LoggedEvent>> = lake
        .read_events(&shop, snapshot)
        .await
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert_eq!(read.concat(), landed);
    drop(store);
    let store = FjallStore::open(&folder, &FjallOptions::default()).unwrap();
    assert_eq!(check(&store), acknowledged + 50);
    assert_eq!(
        store
            .state
            .get(&shop, "users", &[3])
            .unwrap()
            .map(|value| value.len()),
        Some(3_000_000)
    );
    println!("{acknowledged} events acknowledged before the disk was full");
}

#[test]
fn a_full_disk_is_survived() {
    let temporary = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size={} tmpfs \"$0\" && exec \"$1\" --exact child_on_a_small_disk --nocapture",
        3 * BALLAST_BYTES
    );
    let child = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", &script])
        .arg(temporary.path())
        .arg(std::env::current_exe().unwrap())
        .env(FOLDER, temporary.path())
        .output();
    let output = match child {
        Ok(output) => output,
        Err(error) => {
            assert!(
                std::env::var_os("TIDEMILL_REQUIRE_ALL").is_none(),
                "cannot run unshare: {error}"
            );
            return;
        }
    };
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let mounted = out.contains("running 1 test");
    if !mounted && std::env::var_os("TIDEMILL_REQUIRE_ALL").is_none() {
        println!("skipped, a small file system cannot be mounted here: {err}");
        return;
    }
    assert!(
        output.status.success() && out.contains("acknowledged before"),
        "{out}\n{err}"
    );
}
