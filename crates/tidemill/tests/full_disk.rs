//! A disk that becomes full under the real binary: events are refused as such, predictions go on, nothing acknowledged is lost,
//! and the server heals by itself when there is space again.
//!
//! The server runs in a mount namespace of its own, with its data folder on a small file system.

mod support;

use std::cell::RefCell;

use serde_json::{Value, json};

use support::{Counts, PROJECT, Scope, Server, offer_again, skip, wait_until};

/// The size of the small disk.
const DISK_BYTES: usize = 320 << 20;
/// What is in the way until it is removed. The rest is for what the store writes before it is full; what is free afterwards has to be
/// several times as much, because every stored event is then written again: into the lake, and by compactions.
const BALLAST_BYTES: usize = 260 << 20;

#[test]
fn a_full_disk_refuses_events_and_heals() {
    let Some(server) = Server::start_on_small_disk(PROJECT, DISK_BYTES) else {
        return skip(
            "a small file system cannot be mounted here (unshare --user --map-root-user --mount)",
        );
    };
    let [write, read] = [Scope::Write, Scope::Read].map(|scope| server.key(scope));
    let ballast = server.data().join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("the ballast");

    let mut acknowledged = Vec::new();
    let refused = loop {
        let (ids, batch) = large_events(acknowledged.len());
        let (status, answer) = server.post("/v1/batch", &write, &batch);
        if status != 200 {
            break (status, answer);
        }
        assert_eq!(answer["accepted"], 15, "{answer}");
        acknowledged.extend(ids);
        assert!(
            acknowledged.len() * 30_000 < DISK_BYTES,
            "the disk did not become full"
        );
    };
    assert_eq!(
        (refused.0, refused.1["code"].as_str()),
        (503, Some("store_full")),
        "{refused:?}"
    );
    assert!(!acknowledged.is_empty());
    let (status, ready) = server.get("/health/ready", "");
    assert_eq!(
        (status, &ready["log_writable"]),
        (503, &json!(false)),
        "{ready}"
    );
    assert_eq!(Counts::of(&server, &read).stored, acknowledged.len() as u64);

    std::fs::remove_file(&ballast).expect("remove the ballast");
    let (ids, batch) = large_events(acknowledged.len());
    // a sender tries again: the store may still have been at what it could not write when there was room
    let answer = RefCell::new(Value::Null);
    wait_until(|| {
        let (status, said) = server.post("/v1/batch", &write, &batch);
        *answer.borrow_mut() = said;
        status == 200
    });
    // what had been refused may have been stored in spite of it: it is there once in any case
    let answer = answer.into_inner();
    let counted =
        answer["accepted"].as_u64().unwrap_or(0) + answer["duplicates"].as_u64().unwrap_or(0);
    assert_eq!(counted, 15, "{answer}");
    acknowledged.extend(ids);
    let known = acknowledged.iter().map(String::as_str);
    assert_eq!(
        offer_again(&server, &write, known),
        0,
        "acknowledged events were lost"
    );
    assert_eq!(Counts::of(&server, &read).stored, acknowledged.len() as u64);
    assert_eq!(server.get("/health/ready", "").0, 200);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Fifteen events of almost the largest size, which do not compress.
fn large_events(from: usize) -> (Vec<String>, Value) {
    let ids: Vec<String> = (from..from + 15)
        .map(|number| format!("large-{number}"))
        .collect();
    let events: Vec<Value> = ids
        .iter()
        .enumerate()
        .map(|(place, id)| {
            let mut state = (from + place) as u64 + 1;
            let noise: String = (0..30_000)
                .map(|_| {
                    state = state.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(1);
                    char::from(b'!' + ((state >> 40) % 90) as u8)
                })
                .filter(|character| !matches!(character, '"' | '\\'))
                .collect();
            json!({ "type": "track", "userId": "u1", "event": "Noted", "messageId": id, "properties": { "noise": noise } })
        })
        .collect();
    (ids, json!({ "batch": events }))
}
