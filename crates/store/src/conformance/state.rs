//! What every [`StateStore`] has to do.

use std::sync::Arc;

use super::samples::project;
use crate::{StateBatch, StateStore};

/// Runs the whole suite; see [the module above](super) for `open`.
pub async fn check<S: StateStore + 'static>(open: impl AsyncFn(&str) -> S) {
    values_are_put_replaced_and_removed(&open("values").await);
    worlds_are_apart(&open("apart").await);
    scans_go_by_prefix_in_order(&open("scan").await);
    a_batch_is_seen_as_a_whole(open("whole").await);
    what_was_committed_is_found_again(&open).await;
}

fn put(store: &impl StateStore, name: &str, table: &'static str, entries: &[(&[u8], &[u8])]) {
    let mut batch = StateBatch::default();
    for (key, value) in entries {
        batch.put(table, *key, *value);
    }
    store.commit(&project(name), batch).expect("commit");
}

fn get(store: &impl StateStore, name: &str, table: &'static str, key: &[u8]) -> Option<Vec<u8>> {
    store.get(&project(name), table, key).expect("get")
}

fn values_are_put_replaced_and_removed(store: &impl StateStore) {
    assert_eq!(get(store, "shop", "never_written", b"k"), None);
    put(
        store,
        "shop",
        "users",
        &[(b"k", b"1"), (b"", b"empty key"), (b"empty value", b"")],
    );
    assert_eq!(get(store, "shop", "users", b"k"), Some(b"1".to_vec()));
    assert_eq!(
        get(store, "shop", "users", b""),
        Some(b"empty key".to_vec())
    );
    assert_eq!(
        get(store, "shop", "users", b"empty value"),
        Some(Vec::new())
    );
    let mut batch = StateBatch::default();
    batch.put("users", b"k", b"2");
    batch.remove("users", b"k");
    batch.put("users", b"k", b"3");
    batch.remove("users", b"");
    batch.remove("users", b"never there");
    store.commit(&project("shop"), batch).expect("commit");
    assert_eq!(
        get(store, "shop", "users", b"k"),
        Some(b"3".to_vec()),
        "later entries win"
    );
    assert_eq!(get(store, "shop", "users", b""), None);
    store
        .commit(&project("shop"), StateBatch::default())
        .expect("commit nothing");
}

fn worlds_are_apart(store: &impl StateStore) {
    put(store, "a", "users", &[(b"k", b"a")]);
    put(store, "ab", "users", &[(b"k", b"ab")]);
    put(store, "a", "items", &[(b"k", b"item")]);
    assert_eq!(get(store, "a", "users", b"k"), Some(b"a".to_vec()));
    assert_eq!(get(store, "ab", "users", b"k"), Some(b"ab".to_vec()));
    assert_eq!(get(store, "a", "items", b"k"), Some(b"item".to_vec()));
    assert_eq!(
        store
            .scan(&project("a"), "users", b"", None, 10)
            .expect("scan")
            .len(),
        1
    );
}

fn scans_go_by_prefix_in_order(store: &impl StateStore) {
    let keys: [&[u8]; 7] = [b"a", b"b", b"b\x00", b"b1", b"b2", b"b\xff", b"c"];
    let entries: Vec<(&[u8], &[u8])> = keys.iter().rev().map(|key| (*key, *key)).collect();
    put(store, "shop", "users", &entries);
    let check = |prefix: &[u8], after: Option<&[u8]>, limit: usize, expected: &[&[u8]]| {
        let found = store
            .scan(&project("shop"), "users", prefix, after, limit)
            .expect("scan");
        let expected: Vec<_> = expected
            .iter()
            .map(|key| (key.to_vec(), key.to_vec()))
            .collect();
        assert_eq!(
            found, expected,
            "prefix {prefix:?} after {after:?} limit {limit}"
        );
    };
    check(b"", None, 10, &keys);
    check(b"b", None, 10, &keys[1..6]);
    check(b"b", None, 2, &keys[1..3]);
    check(b"b", Some(b"b"), 10, &keys[2..6]);
    check(b"b", Some(b"b1"), 1, &keys[4..5]);
    check(b"b", Some(b"b\xff"), 10, &[]);
    check(b"b", Some(b"a"), 10, &keys[1..6]);
    check(b"b", Some(b"c"), 10, &[]);
    check(b"x", None, 10, &[]);
    check(b"", None, 0, &[]);
    assert!(
        store
            .scan(&project("shop"), "never_written", b"", None, 10)
            .expect("scan")
            .is_empty()
    );
}

fn a_batch_is_seen_as_a_whole<S: StateStore + 'static>(store: S) {
    const ROUNDS: u32 = 200;
    let store = Arc::new(store);
    let keys: Vec<Vec<u8>> = (0..20u8).map(|key| vec![key]).collect();
    let write = |store: &S, round: u32| {
        let mut batch = StateBatch::default();
        for key in &keys {
            batch.put("users", key.clone(), round.to_be_bytes());
        }
        store.commit(&project("shop"), batch).expect("commit");
    };
    write(&store, 0);
    let reader = {
        let store = Arc::clone(&store);
        std::thread::spawn(move || {
            loop {
                let found = store
                    .scan(&project("shop"), "users", b"", None, 100)
                    .expect("scan");
                assert_eq!(found.len(), 20);
                assert!(
                    found.iter().all(|(_, value)| *value == found[0].1),
                    "a part of a batch was seen"
                );
                if found[0].1 == ROUNDS.to_be_bytes() {
                    return;
                }
            }
        })
    };
    for round in 1..=ROUNDS {
        write(&store, round);
    }
    reader.join().expect("the reader");
}

async fn what_was_committed_is_found_again<S: StateStore>(open: &impl AsyncFn(&str) -> S) {
    let store = open("again").await;
    put(&store, "shop", "users", &[(b"k", b"1"), (b"l", b"1")]);
    store.flush().expect("flush");
    let mut batch = StateBatch::default();
    batch.put("users", b"k", b"2");
    batch.remove("users", b"l");
    batch.put("checkpoints", b"c", b"9");
    store.commit(&project("shop"), batch).expect("commit");
    store.flush().expect("flush");
    drop(store);
    let store = open("again").await;
    assert_eq!(get(&store, "shop", "users", b"k"), Some(b"2".to_vec()));
    assert_eq!(get(&store, "shop", "users", b"l"), None);
    assert_eq!(
        get(&store, "shop", "checkpoints", b"c"),
        Some(b"9".to_vec())
    );
}
