//! What every [`EventLog`] has to do.

use std::collections::HashSet;
use std::sync::Arc;

use tidemill_core::{Event, Offset, ProjectName, Timestamp};

use super::samples::{self, NOON, events, project};
use crate::event_log::LogCounts;
use crate::{Appended, EventLog};

/// Runs the whole suite; see [the module above](super) for `open`.
pub async fn check<L: EventLog + 'static>(open: impl AsyncFn(&str) -> L) {
    an_unknown_project_is_empty(&open("empty").await);
    events_stand_in_one_order_without_gaps(&open("order").await).await;
    projects_do_not_see_each_other(&open("projects").await).await;
    concurrent_writers_share_one_order(open("concurrent").await).await;
    readers_of_the_tail_are_woken(&open("watch").await).await;
    a_message_id_counts_once(&open).await;
    message_ids_are_forgotten_by_time(&open).await;
    truncation_keeps_the_count(&open).await;
    quarantined_pieces_are_kept(&open).await;
}

async fn append(log: &impl EventLog, name: &ProjectName, events: Vec<Event>) -> Vec<Appended> {
    log.append(name, events, Vec::new()).await.expect("append")
}

fn offsets(log: &impl EventLog, name: &ProjectName, after: u64, limit: usize) -> Vec<u64> {
    let read = log.read(name, Offset(after), limit).expect("read");
    read.iter().map(|logged| logged.offset.0).collect()
}

fn an_unknown_project_is_empty(log: &impl EventLog) {
    let name = project("nobody");
    assert_eq!(log.last(&name).expect("last"), Offset::ZERO);
    assert_eq!(log.counts(&name).expect("counts"), LogCounts::default());
    assert!(offsets(log, &name, 0, 10).is_empty());
    assert!(
        log.quarantined(&name, None, 10)
            .expect("quarantined")
            .is_empty()
    );
    log.truncate(&name, Offset(5)).expect("truncate");
    assert_eq!(*log.watch(&name).expect("watch").borrow(), Offset::ZERO);
}

async fn events_stand_in_one_order_without_gaps(log: &impl EventLog) {
    let name = project("shop");
    assert_eq!(append(log, &name, Vec::new()).await, []);
    assert_eq!(
        append(log, &name, events(1..=2)).await,
        [Appended::Stored(Offset(1)), Appended::Stored(Offset(2))]
    );
    assert_eq!(
        append(log, &name, events(3..=3)).await,
        [Appended::Stored(Offset(3))]
    );
    assert_eq!(
        log.read(&name, Offset::ZERO, 10).expect("read"),
        samples::logged(1..=3)
    );
    assert_eq!(offsets(log, &name, 1, 10), [2, 3]);
    assert_eq!(offsets(log, &name, 0, 2), [1, 2]);
    assert_eq!(offsets(log, &name, 0, 0), [0; 0]);
    assert_eq!(offsets(log, &name, 3, 10), [0; 0]);
    assert_eq!(offsets(log, &name, 99, 10), [0; 0]);
    assert_eq!(log.last(&name).expect("last"), Offset(3));
}

async fn projects_do_not_see_each_other(log: &impl EventLog) {
    // Names of which one begins with the other, and the same message ids in both.
    let (short, long) = (project("shop"), project("shop-2"));
    append(log, &short, events(1..=2)).await;
    assert_eq!(
        append(log, &long, events(2..=2)).await,
        [Appended::Stored(Offset(1))]
    );
    assert_eq!(offsets(log, &short, 0, 10), [1, 2]);
    assert_eq!(
        log.read(&long, Offset::ZERO, 10).expect("read")[0].event,
        samples::event(2)
    );
    log.append(&long, Vec::new(), vec![samples::quarantined(1)])
        .await
        .expect("append");
    assert!(
        log.quarantined(&short, None, 10)
            .expect("quarantined")
            .is_empty()
    );
    log.truncate(&short, Offset(2)).expect("truncate");
    assert_eq!(offsets(log, &long, 0, 10), [1]);
    assert_eq!(log.counts(&short).expect("counts").stored, 2);
}

async fn concurrent_writers_share_one_order<L: EventLog + 'static>(log: L) {
    const WRITERS: u64 = 8;
    const CALLS: u64 = 20;
    let log = Arc::new(log);
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let log = Arc::clone(&log);
            tokio::spawn(async move {
                let mut stored = Vec::new();
                for call in 0..CALLS {
                    // The first of each call is also sent by the next writer.
                    let first = (writer * CALLS + call) * 3;
                    let shared = ((writer + 1) % WRITERS * CALLS + call) * 3;
                    let sent = [first, first + 1, first + 2, shared];
                    let answers = append(log.as_ref(), &project("shop"), events(sent)).await;
                    for (number, answer) in sent.iter().zip(answers) {
                        if let Appended::Stored(offset) = answer {
                            stored.push((offset, *number));
                        }
                    }
                }
                stored
            })
        })
        .collect();
    let mut stored = Vec::new();
    for writer in writers {
        stored.extend(writer.await.expect("a writer"));
    }
    stored.sort();
    let count = WRITERS * CALLS * 3;
    assert_eq!(stored.len() as u64, count, "every event is stored once");
    let read = log
        .read(&project("shop"), Offset::ZERO, usize::MAX)
        .expect("read");
    for (place, (logged, (offset, number))) in read.iter().zip(&stored).enumerate() {
        assert_eq!(logged.offset, Offset(place as u64 + 1));
        assert_eq!(
            (logged.offset, &logged.event),
            (*offset, &samples::event(*number))
        );
    }
    let counts = log.counts(&project("shop")).expect("counts");
    assert_eq!(
        counts,
        LogCounts {
            stored: count,
            duplicates: WRITERS * CALLS,
            quarantined: 0
        }
    );
}

async fn readers_of_the_tail_are_woken(log: &impl EventLog) {
    let name = project("shop");
    let mut before = log.watch(&name).expect("watch");
    append(log, &name, events(1..=3)).await;
    before.changed().await.expect("the log is open");
    assert_eq!(*before.borrow_and_update(), Offset(3));
    assert_eq!(*log.watch(&name).expect("watch").borrow(), Offset(3));
    append(log, &name, events(1..=3)).await;
    assert!(
        !before.has_changed().expect("the log is open"),
        "duplicates wake nobody"
    );
}

async fn a_message_id_counts_once<L: EventLog>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let twice_in_one_call = events([1, 2, 1]);
    let log = open("dedupe").await;
    let answers = append(&log, &name, twice_in_one_call).await;
    assert_eq!(
        answers,
        [
            Appended::Stored(Offset(1)),
            Appended::Stored(Offset(2)),
            Appended::Duplicate
        ]
    );
    assert_eq!(
        append(&log, &name, events([2])).await,
        [Appended::Duplicate]
    );
    // An id is the same id whatever else is in the event, and other ids are others however long they are.
    let with_id = |id: &str| Event {
        message_id: id.to_owned(),
        ..samples::event(9)
    };
    let long = "x".repeat(70_000);
    assert_eq!(
        append(&log, &name, vec![with_id("m1")]).await,
        [Appended::Duplicate]
    );
    assert_eq!(
        append(&log, &name, vec![with_id(&long)]).await,
        [Appended::Stored(Offset(3))]
    );
    assert_eq!(
        append(&log, &name, vec![with_id(&format!("{long}y"))]).await,
        [Appended::Stored(Offset(4))]
    );
    assert_eq!(
        append(&log, &name, vec![with_id("")]).await,
        [Appended::Stored(Offset(5))]
    );
    drop(log);
    let log = open("dedupe").await;
    assert_eq!(
        append(&log, &name, vec![with_id(&long), with_id("")]).await,
        [Appended::Duplicate; 2]
    );
    assert_eq!(
        append(&log, &name, events([1, 3])).await,
        [Appended::Duplicate, Appended::Stored(Offset(6))]
    );
    assert_eq!(
        log.counts(&name).expect("counts"),
        LogCounts {
            stored: 6,
            duplicates: 6,
            quarantined: 0
        }
    );
}

async fn message_ids_are_forgotten_by_time<L: EventLog>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let minute = |number: i64| Timestamp::from_micros(NOON.micros() + number * 60_000_000);
    let log = open("forget").await;
    append(&log, &name, events([5, 1, 4, 2, 3])).await;
    append(&log, &project("other"), events([1])).await;
    assert_eq!(log.forget_message_ids(minute(1)).expect("forget"), 0);
    assert_eq!(log.forget_message_ids(minute(3)).expect("forget"), 3);
    assert_eq!(log.forget_message_ids(minute(3)).expect("forget"), 0);
    assert_eq!(
        append(&log, &name, events([3, 4, 5])).await,
        [Appended::Duplicate; 3]
    );
    drop(log);
    let log = open("forget").await;
    assert_eq!(
        append(&log, &name, events([1])).await,
        [Appended::Stored(Offset(6))]
    );
    assert_eq!(
        append(&log, &name, events([1, 3])).await,
        [Appended::Duplicate; 2]
    );
    assert_eq!(log.forget_message_ids(Timestamp::MAX).expect("forget"), 4);
    assert_eq!(
        log.read(&name, Offset::ZERO, 10).expect("read").len(),
        6,
        "the events stay"
    );
}

async fn truncation_keeps_the_count<L: EventLog>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let log = open("truncate").await;
    append(&log, &name, events(1..=10)).await;
    log.truncate(&name, Offset(4)).expect("truncate");
    assert_eq!(offsets(&log, &name, 0, 3), [5, 6, 7]);
    assert_eq!(offsets(&log, &name, 8, 3), [9, 10]);
    log.truncate(&name, Offset(2))
        .expect("truncate to where it is truncated already");
    assert_eq!(offsets(&log, &name, 0, 1), [5]);
    drop(log);
    let log = open("truncate").await;
    assert_eq!(offsets(&log, &name, 0, 1), [5]);
    log.truncate(&name, Offset(999))
        .expect("truncate everything");
    assert_eq!(offsets(&log, &name, 0, 1), [0; 0]);
    assert_eq!(log.last(&name).expect("last"), Offset(10));
    drop(log);
    let log = open("truncate").await;
    assert_eq!(
        log.last(&name).expect("last"),
        Offset(10),
        "though the log is empty"
    );
    assert_eq!(*log.watch(&name).expect("watch").borrow(), Offset(10));
    assert_eq!(
        append(&log, &name, events([3, 11])).await,
        [Appended::Duplicate, Appended::Stored(Offset(11))]
    );
    assert_eq!(offsets(&log, &name, 0, 10), [11]);
    assert_eq!(log.counts(&name).expect("counts").stored, 11);
}

async fn quarantined_pieces_are_kept<L: EventLog>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let log = open("quarantine").await;
    let pieces = |numbers: std::ops::RangeInclusive<u64>| {
        numbers.map(samples::quarantined).collect::<Vec<_>>()
    };
    let answers = log
        .append(&name, events([1]), pieces(1..=2))
        .await
        .expect("append");
    assert_eq!(answers, [Appended::Stored(Offset(1))]);
    assert_eq!(
        log.append(&name, Vec::new(), pieces(3..=3))
            .await
            .expect("append"),
        []
    );
    drop(log);
    let log = open("quarantine").await;
    log.append(&name, Vec::new(), pieces(4..=4))
        .await
        .expect("append");
    let all = log.quarantined(&name, None, 10).expect("quarantined");
    let bodies: Vec<_> = all.iter().map(|(_, piece)| piece.clone()).collect();
    assert_eq!(
        bodies,
        [4, 3, 2, 1].map(samples::quarantined),
        "newest first"
    );
    assert_eq!(
        all.iter().map(|(id, _)| *id).collect::<HashSet<_>>().len(),
        4
    );
    let page = log
        .quarantined(&name, Some(all[1].0), 1)
        .expect("quarantined");
    assert_eq!(page, [all[2].clone()]);

    let (gone, unknown) = ([all[1].0, all[3].0, all[1].0], [all[0].0 + 100]);
    assert_eq!(log.forget_quarantined(&name, &gone).expect("forget"), 2);
    assert_eq!(log.forget_quarantined(&name, &gone).expect("forget"), 0);
    assert_eq!(log.forget_quarantined(&name, &unknown).expect("forget"), 0);
    let others = log.forget_quarantined(&project("other"), &[all[0].0]);
    assert_eq!(others.expect("forget"), 0);
    drop(log);
    let log = open("quarantine").await;
    let left = log.quarantined(&name, None, 10).expect("quarantined");
    assert_eq!(left, [all[0].clone(), all[2].clone()]);
    assert_eq!(
        log.counts(&name).expect("counts"),
        LogCounts {
            stored: 1,
            duplicates: 0,
            quarantined: 4
        }
    );
}
