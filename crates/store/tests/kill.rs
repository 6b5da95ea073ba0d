//! What was acknowledged is there after the process was killed, once, and nothing else is.
//!
//! The child is this test binary again, with a folder in its environment: it appends and prints what was acknowledged.
//! `TIDEMILL_KILL_ROUNDS` sets how often it is killed (10 by default).

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use tidemill_core::{Event, Offset};
use tidemill_store::conformance::samples::{self, project};
use tidemill_store::fjall_store::{FjallLog, FjallOptions};
use tidemill_store::{Appended, DataFolder, EventLog};

const FOLDER: &str = "TIDEMILL_KILL_FOLDER";
const FIRST: &str = "TIDEMILL_KILL_FIRST";
const ROUNDS: &str = "TIDEMILL_KILL_ROUNDS";

fn open(folder: &Path) -> FjallLog {
    FjallLog::open(&DataFolder::open(folder).unwrap(), &FjallOptions::default()).unwrap()
}

fn event(number: u64, size: u64) -> Event {
    let mut event = samples::event(number % 1_000);
    event.message_id = format!("m{number}");
    event.properties.insert(
        "padding".to_owned(),
        "x".repeat((number * 7_919 % size) as usize).into(),
    );
    event
}

/// The child: appends until it is killed. Does nothing when it is run as a test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_that_is_killed() {
    let (Ok(folder), Ok(first)) = (std::env::var(FOLDER), std::env::var(FIRST)) else {
        return;
    };
    let log = std::sync::Arc::new(open(Path::new(&folder)));
    let first: u64 = first.parse().unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let log = std::sync::Arc::clone(&log);
            tokio::spawn(async move {
                for call in 0.. {
                    let number = first + (call * 4 + writer) * 5;
                    let events: Vec<Event> = (number..number + 5)
                        .map(|number| event(number, 2_000))
                        .collect();
                    let answers = log
                        .append(&project("shop"), events, Vec::new())
                        .await
                        .unwrap();
                    let mut out = std::io::stdout().lock();
                    for (number, answer) in (number..).zip(answers) {
                        let Appended::Stored(offset) = answer else {
                            panic!("m{number} was not stored before")
                        };
                        writeln!(out, "acknowledged {number} {offset}").unwrap();
                    }
                    out.flush().unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
}

/// Starts a child, kills it after it has acknowledged that many events, and returns all that it had.
fn round(folder: &Path, first: u64, kill_after: usize) -> Vec<(u64, Offset)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = Vec::new();
    let mut take = |acknowledged: &mut Vec<(u64, Offset)>| {
        let Some(Ok(line)) = lines.next() else {
            return false;
        };
        let mut words = line
            .split(' ')
            .skip_while(|word| !word.ends_with("acknowledged"))
            .skip(1);
        // The last line may have been cut off by the kill; what it says was acknowledged all the same, but not to us.
        if let (Some(Ok(number)), Some(Ok(offset))) =
            (words.next().map(str::parse), words.next().map(str::parse))
        {
            acknowledged.push((number, Offset(offset)));
        }
        true
    };
    while acknowledged.len() < kill_after && take(&mut acknowledged) {}
    child.kill().unwrap();
    // What it had acknowledged before the kill is in the pipe still.
    while take(&mut acknowledged) {}
    child.wait().unwrap();
    assert!(
        acknowledged.len() >= kill_after,
        "the child ended by itself"
    );
    acknowledged
}

#[test]
fn nothing_acknowledged_is_lost_by_a_kill() {
    let rounds: u64 = std::env::var(ROUNDS)
        .ok()
        .map_or(10, |text| text.parse().unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(u64, Offset)> = Vec::new();
    for number in 0..rounds {
        // Early kills hit start-up and recovery, late ones hit the running writer.
        let kill_after = usize::try_from(number * number * 37 % 900).unwrap();
        acknowledged.extend(round(temporary.path(), number * 1_000_000, kill_after));
    }
    let log = open(temporary.path());
    let read = log
        .read(&project("shop"), Offset::ZERO, usize::MAX)
        .unwrap();
    let mut ids = HashSet::new();
    for (place, logged) in read.iter().enumerate() {
        assert_eq!(logged.offset, Offset(place as u64 + 1), "there is a gap");
        let number: u64 = logged.event.message_id[1..].parse().unwrap();
        assert_eq!(
            logged.event,
            event(number, 2_000),
            "an event was invented or damaged"
        );
        assert!(ids.insert(number), "m{number} is there twice");
    }
    for (number, offset) in &acknowledged {
        let found = read
            .get(usize::try_from(offset.0).unwrap() - 1)
            .map(|logged| &logged.event.message_id);
        assert_eq!(
            found,
            Some(&format!("m{number}")),
            "acknowledged at {offset} and lost"
        );
    }
    assert!(read.len() >= acknowledged.len());
    assert_eq!(
        log.counts(&project("shop")).unwrap().stored,
        read.len() as u64
    );
    println!(
        "{rounds} kills: {} acknowledged, {} stored, 0 lost, 0 doubled",
        acknowledged.len(),
        read.len()
    );
}
