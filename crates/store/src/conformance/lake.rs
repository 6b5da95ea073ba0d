//! What every [`Lake`] has to do.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, Float64Array, RecordBatch, StringArray};
use datafusion::arrow::compute::concat_batches;
use futures::TryStreamExt;
use tidemill_core::event::{EventView, PersonKey};
use tidemill_core::{Event, EventKind, Offset, Outcome, ProjectName, Timestamp};

use super::samples::{self, logged, model, project};
use crate::lake::{About, Compacted, Erased, EventsSnapshot, TableVersion};
use crate::{EventColumns, EventRows, Lake, LoggedEvent, StoreError};

/// Runs the whole suite; see [the module above](super) for `open`. It has to merge files from 4 small ones of a day on.
pub async fn check<L: Lake + 'static>(open: impl AsyncFn(&str) -> L) {
    an_unknown_project_is_empty(&open("empty").await).await;
    landing_is_exactly_once(&open).await;
    what_is_not_in_order_is_refused(&open("disorder").await).await;
    events_of_many_days_read_back_in_order(&open("days").await).await;
    a_snapshot_stays_the_same(&open).await;
    compaction_keeps_rows_and_places(&open).await;
    landing_goes_on_during_compaction(open("busy").await).await;
    decisions_are_found(&open).await;
    outcomes_land_once(&open).await;
    datasets_are_replaced_and_stay(&open).await;
    who_is_erased_is_gone(&open).await;
    super::queries::check(&open).await;
}

/// All events of a snapshot.
///
/// # Panics
/// Where reading fails.
pub async fn read(
    lake: &impl Lake,
    name: &ProjectName,
    snapshot: EventsSnapshot,
) -> Vec<LoggedEvent> {
    let chunks: Vec<Vec<LoggedEvent>> = lake
        .read_events(name, snapshot)
        .await
        .expect("read")
        .try_collect()
        .await
        .expect("read");
    let events = chunks.concat();
    check_table(lake, name, snapshot, &events).await;
    events
}

/// The same events, row by row and column by column.
async fn check_table(
    lake: &impl Lake,
    name: &ProjectName,
    snapshot: EventsSnapshot,
    events: &[LoggedEvent],
) {
    const JOINING: &[EventKind] = &[EventKind::Identify, EventKind::Alias];
    let table = lake.event_table(name, snapshot).await.expect("a table");
    let scanned: Vec<EventRows> = table
        .scan(EventColumns::ALL, None)
        .collect::<Result<_, _>>()
        .expect("rows");
    assert_eq!(
        scanned.iter().map(EventRows::len).sum::<usize>(),
        events.len()
    );
    let places = scanned
        .iter()
        .flat_map(|rows| (0..rows.len()).map(move |row| rows.offset(row)));
    assert!(places.eq(events.iter().map(|logged| logged.offset)));
    for (row, LoggedEvent { event, .. }) in scanned.iter().flat_map(EventRows::rows).zip(events) {
        assert_eq!((row.kind(), row.name()), (event.kind, event.name.as_str()));
        assert_eq!(
            (row.user_id(), row.anonymous_id()),
            (event.user_id(), event.anonymous_id())
        );
        assert_eq!(
            (row.previous_id(), row.group_id()),
            (event.previous_id(), event.group_id())
        );
        assert_eq!(
            (row.timestamp(), row.received_at()),
            (event.timestamp, event.received_at)
        );
        for key in event.properties.keys() {
            let field = format!("properties.{key}").parse().expect("a field");
            assert_eq!(row.field(&field), event.field(&field), "{key}");
        }
    }
    let joining = table.scan(EventColumns::default(), Some(JOINING));
    let joining: usize = joining.map(|rows| rows.expect("rows").len()).sum();
    let expected = events
        .iter()
        .filter(|logged| JOINING.contains(&logged.event.kind));
    assert_eq!(joining, expected.count());
}

async fn read_all(lake: &impl Lake, name: &ProjectName) -> Vec<LoggedEvent> {
    read(
        lake,
        name,
        lake.events_snapshot(name).await.expect("snapshot"),
    )
    .await
}

async fn an_unknown_project_is_empty(lake: &impl Lake) {
    let name = project("nobody");
    let snapshot = lake.events_snapshot(&name).await.expect("snapshot");
    assert_eq!(
        snapshot,
        EventsSnapshot {
            version: None,
            last: Offset::ZERO
        }
    );
    assert!(read(lake, &name, snapshot).await.is_empty());
    assert_eq!(
        lake.land_events(&name, &[]).await.expect("land nothing"),
        Offset::ZERO
    );
    assert_eq!(lake.decisions_landed(&name).await.expect("landed"), 0);
    assert_eq!(lake.outcomes_landed(&name).await.expect("landed"), 0);
    assert_eq!(
        lake.decision(&name, samples::decision(1).value.id)
            .await
            .expect("decision"),
        None
    );
    assert_eq!(
        lake.compact(&name).await.expect("compact"),
        Compacted::default()
    );
    let missing = lake.read_dataset(&name, &model("a"), TableVersion(0)).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "a dataset that was never written"
    );
    let ahead = lake
        .read_events(
            &name,
            EventsSnapshot {
                version: None,
                last: Offset(5),
            },
        )
        .await
        .err();
    assert!(matches!(ahead, Some(StoreError::NotFound(_))), "{ahead:?}");
}

async fn landing_is_exactly_once<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let lake = open("once").await;
    assert_eq!(
        lake.land_events(&name, &logged(1..=4)).await.expect("land"),
        Offset(4)
    );
    assert_eq!(
        lake.land_events(&name, &logged(1..=4))
            .await
            .expect("land again"),
        Offset(4)
    );
    assert_eq!(
        lake.land_events(&name, &logged(3..=6))
            .await
            .expect("land what overlaps"),
        Offset(6)
    );
    assert_eq!(
        lake.land_events(&name, &logged(2..=5))
            .await
            .expect("land what is older"),
        Offset(6)
    );
    assert_eq!(
        lake.land_events(&name, &[]).await.expect("land nothing"),
        Offset(6)
    );
    assert_eq!(
        lake.land_events(&project("shop-2"), &logged(1..=1))
            .await
            .expect("land"),
        Offset(1)
    );
    drop(lake);
    let lake = open("once").await;
    assert_eq!(
        lake.events_snapshot(&name).await.expect("snapshot").last,
        Offset(6)
    );
    assert_eq!(
        lake.land_events(&name, &logged(5..=8))
            .await
            .expect("land what overlaps"),
        Offset(8)
    );
    assert_eq!(read_all(&lake, &name).await, logged(1..=8));
    assert_eq!(read_all(&lake, &project("shop-2")).await, logged(1..=1));
}

async fn what_is_not_in_order_is_refused(lake: &impl Lake) {
    let name = project("shop");
    assert!(lake.land_events(&name, &logged([1, 3, 2])).await.is_err());
    assert!(lake.land_events(&name, &logged([1, 1])).await.is_err());
    assert_eq!(
        lake.land_events(&name, &logged([1, 2]))
            .await
            .expect("land"),
        Offset(2)
    );
    assert_eq!(read_all(lake, &name).await, logged(1..=2));
}

/// Events whose days go back and forth.
fn scattered(places: std::ops::RangeInclusive<u64>) -> Vec<LoggedEvent> {
    let day =
        |place: u64| Timestamp::from_micros((15_000 + place as i64 * 7 % 5) * 86_400_000_000 - 1);
    logged(places)
        .into_iter()
        .map(|LoggedEvent { offset, event }| LoggedEvent {
            offset,
            event: Event {
                timestamp: day(offset.0),
                ..event
            },
        })
        .collect()
}

async fn events_of_many_days_read_back_in_order(lake: &impl Lake) {
    let name = project("shop");
    for places in [1..=100, 101..=101, 102..=6_000] {
        lake.land_events(&name, &scattered(places))
            .await
            .expect("land");
    }
    assert_eq!(read_all(lake, &name).await, scattered(1..=6_000));
}

async fn a_snapshot_stays_the_same<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let lake = open("snapshots").await;
    lake.land_events(&name, &scattered(1..=50))
        .await
        .expect("land");
    let first = lake.events_snapshot(&name).await.expect("snapshot");
    for place in 51..=60 {
        lake.land_events(&name, &scattered(place..=place))
            .await
            .expect("land");
    }
    let second = lake.events_snapshot(&name).await.expect("snapshot");
    assert!(first.version < second.version);
    lake.compact(&name).await.expect("compact");
    lake.land_events(&name, &scattered(61..=70))
        .await
        .expect("land");
    drop(lake);
    let lake = open("snapshots").await;
    assert_eq!(read(&lake, &name, first).await, scattered(1..=50));
    assert_eq!(read(&lake, &name, second).await, scattered(1..=60));
}

async fn compaction_keeps_rows_and_places<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let lake = open("compaction").await;
    for chunk in scattered(1..=60).chunks(3) {
        lake.land_events(&name, chunk).await.expect("land");
    }
    for number in 1..=6 {
        lake.land_decisions(&name, &[samples::decision(number)])
            .await
            .expect("land");
    }
    let done = lake.compact(&name).await.expect("compact");
    assert!(
        done.files_removed > 4 * done.files_added && done.files_added > 0,
        "{done:?}"
    );
    assert_eq!(
        lake.compact(&name).await.expect("compact again"),
        Compacted::default()
    );
    assert_eq!(read_all(&lake, &name).await, scattered(1..=60));
    drop(lake);
    let lake = open("compaction").await;
    assert_eq!(
        lake.events_snapshot(&name).await.expect("snapshot").last,
        Offset(60)
    );
    assert_eq!(lake.decisions_landed(&name).await.expect("landed"), 6);
    assert_eq!(
        lake.land_events(&name, &scattered(55..=65))
            .await
            .expect("land"),
        Offset(65)
    );
    assert_eq!(read_all(&lake, &name).await, scattered(1..=65));
    let decision = samples::decision(4).value;
    assert_eq!(
        lake.decision(&name, decision.id).await.expect("decision"),
        Some(decision)
    );
}

async fn landing_goes_on_during_compaction<L: Lake + 'static>(lake: L) {
    let name = project("shop");
    let lake = Arc::new(lake);
    for place in 1..=20 {
        lake.land_events(&name, &scattered(place..=place))
            .await
            .expect("land");
    }
    let compaction = tokio::spawn({
        let (lake, name) = (Arc::clone(&lake), name.clone());
        async move { lake.compact(&name).await.expect("compact") }
    });
    for place in 21..=40 {
        lake.land_events(&name, &scattered(place..=place))
            .await
            .expect("land");
    }
    let reader = read_all(lake.as_ref(), &name);
    let (read, done) = tokio::join!(reader, compaction);
    assert_eq!(read, scattered(1..=40));
    assert!(done.expect("compaction").files_added > 0);
    assert_eq!(read_all(lake.as_ref(), &name).await, scattered(1..=40));
}

async fn decisions_are_found<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let lake = open("decisions").await;
    let decisions =
        |numbers: std::ops::RangeInclusive<u64>| numbers.map(samples::decision).collect::<Vec<_>>();
    assert_eq!(
        lake.land_decisions(&name, &decisions(1..=30))
            .await
            .expect("land"),
        30
    );
    assert_eq!(
        lake.land_decisions(&name, &decisions(20..=40))
            .await
            .expect("land"),
        40
    );
    drop(lake);
    let lake = open("decisions").await;
    assert_eq!(lake.decisions_landed(&name).await.expect("landed"), 40);
    assert_eq!(
        lake.land_decisions(&name, &decisions(1..=40))
            .await
            .expect("land"),
        40
    );
    for number in [1, 25, 40] {
        let decision = samples::decision(number).value;
        assert_eq!(
            lake.decision(&name, decision.id).await.expect("decision"),
            Some(decision)
        );
    }
    assert_eq!(
        lake.decision(&name, samples::decision(41).value.id)
            .await
            .expect("decision"),
        None
    );
    assert_eq!(
        lake.decision(&project("other"), samples::decision(1).value.id)
            .await
            .expect("decision"),
        None
    );
}

async fn outcomes_land_once<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let name = project("shop");
    let lake = open("outcomes").await;
    let outcomes =
        |numbers: std::ops::RangeInclusive<u64>| numbers.map(samples::outcome).collect::<Vec<_>>();
    assert_eq!(
        lake.land_outcomes(&name, &outcomes(1..=3))
            .await
            .expect("land"),
        3
    );
    assert_eq!(
        lake.land_outcomes(&name, &outcomes(2..=5))
            .await
            .expect("land"),
        5
    );
    drop(lake);
    let lake = open("outcomes").await;
    assert_eq!(lake.outcomes_landed(&name).await.expect("landed"), 5);
    assert_eq!(
        lake.land_outcomes(&name, &outcomes(1..=5))
            .await
            .expect("land"),
        5
    );
}

async fn datasets_are_replaced_and_stay<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let (name, of) = (project("shop"), model("will_return"));
    let batch = |columns: &[&str], values: &[Option<f64>]| {
        let numbers: ArrayRef = Arc::new(values.iter().copied().collect::<Float64Array>());
        let words: ArrayRef = Arc::new(
            values
                .iter()
                .map(|v| v.map(|v| v.to_string()))
                .collect::<StringArray>(),
        );
        let columns = columns.iter().map(|name| {
            (
                *name,
                Arc::clone(if name.starts_with('w') {
                    &words
                } else {
                    &numbers
                }),
                true,
            )
        });
        RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
    };
    let first = vec![
        batch(&["n", "w"], &[Some(3.0), None, Some(-0.0)]),
        batch(&["n", "w"], &[Some(f64::MIN_POSITIVE), Some(0.1 + 0.2)]),
    ];
    let second = vec![batch(&["other", "n"], &[Some(1.0)])];
    let empty = vec![batch(&["n"], &[])];
    let lake = open("datasets").await;
    let mut versions = Vec::new();
    for (place, rows) in [&first, &second, &empty, &first].into_iter().enumerate() {
        versions.push(
            lake.write_dataset(&name, &of, rows.clone(), &format!("note {place}"))
                .await
                .expect("write"),
        );
    }
    assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
    let large = batch(
        &["n"],
        &(0..20_000).map(|n| Some(f64::from(n))).collect::<Vec<_>>(),
    );
    let other = lake
        .write_dataset(&name, &model("other"), vec![large.clone()], "")
        .await
        .expect("write");
    assert!(
        lake.write_dataset(&name, &of, Vec::new(), "")
            .await
            .is_err(),
        "without a batch there are no columns"
    );
    drop(lake);
    let lake = open("datasets").await;
    let all = [&first, &second, &empty, &first];
    for (version, rows) in versions.iter().zip(all) {
        assert_same_rows(&rows_of(&lake, &of, *version).await.expect("read"), rows);
    }
    assert_same_rows(
        &rows_of(&lake, &model("other"), other).await.expect("read"),
        &[large],
    );
    let missing = rows_of(&lake, &of, TableVersion(99)).await;
    assert!(
        matches!(missing, Err(StoreError::NotFound(_))),
        "{missing:?}"
    );
    datasets_are_listed_and_removed(&lake, &versions, &first).await;
    drop(lake);
    let lake = open("datasets").await;
    let rows = rows_of(&lake, &of, versions[3]).await.expect("read");
    assert_same_rows(&rows, &first);
    let rows = rows_of(&lake, &model("other"), other).await.expect("read");
    assert_eq!(
        rows.iter().map(RecordBatch::num_rows).sum::<usize>(),
        20_000
    );
}

async fn who_is_erased_is_gone<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let (lake, name) = (open("erased").await, project("erased"));
    let mut events: Vec<LoggedEvent> = logged(1..=60);
    for (number, event) in (0_u64..).zip(&mut events) {
        let (user, anonymous) = match number % 4 {
            0 => (Some("gone"), None),
            1 => (None, Some("gone")), // another person: somebody not known yet with the same id
            2 => (None, Some("was-gone")),
            _ => (Some("stays"), None),
        };
        event.event.user_id = user.map(str::to_owned);
        event.event.anonymous_id = anonymous.map(str::to_owned);
        event.event.previous_id = None;
    }
    lake.land_events(&name, &events[..40]).await.expect("land");
    lake.land_events(&name, &events[40..]).await.expect("land");
    let mut decisions: Vec<_> = (1..=4).map(samples::decision).collect();
    decisions[1].value.entity = "user:gone".to_owned();
    lake.land_decisions(&name, &decisions).await.expect("land");
    let mut outcomes: Vec<_> = (1..=3).map(samples::outcome).collect();
    outcomes[2].value.entity = "anonymous:was-gone".to_owned();
    lake.land_outcomes(&name, &outcomes).await.expect("land");

    let persons = [PersonKey::user("gone"), PersonKey::anonymous("was-gone")];
    let about = lake.about(&name, &persons, 1_000).await.expect("look");
    let theirs = events.iter().filter(|event| event.offset.0 % 2 == 1);
    assert_eq!(about.events, theirs.cloned().collect::<Vec<_>>());
    assert_eq!(about.decisions, [decisions[1].value.clone()]);
    let outcome = Outcome {
        fallback: None,
        list: None,
        ..outcomes[2].value.clone()
    };
    assert_eq!(about.outcomes, [outcome]);
    let first = lake.about(&name, &persons, 7).await.expect("look");
    assert_eq!(first.events, about.events[..7]);
    let erased = lake.erase(&name, &persons).await.expect("erase");
    assert_eq!(
        (erased.events, erased.decisions, erased.outcomes),
        (30, 1, 1)
    );
    let check = async |lake: &L| {
        let snapshot = lake.events_snapshot(&name).await.expect("a snapshot");
        assert_eq!(snapshot.last, Offset(60), "places stay");
        let left = read(lake, &name, snapshot).await;
        let stays = |event: &&LoggedEvent| event.offset.0.is_multiple_of(2);
        let expected: Vec<LoggedEvent> = events.iter().filter(stays).cloned().collect();
        assert_eq!(left, expected);
        let found = lake.decision(&name, decisions[1].value.id).await;
        assert_eq!(found.expect("look"), None);
        let found = lake.decision(&name, decisions[2].value.id).await;
        assert!(found.expect("look").is_some());
    };
    check(&lake).await;
    let nothing = lake.about(&name, &persons, 1_000).await.expect("look");
    assert_eq!(nothing, About::default());
    let again = lake.erase(&name, &persons).await.expect("erase again");
    assert_eq!(again, Erased::default());
    drop(lake);
    check(&open("erased").await).await;
}

async fn rows_of(
    lake: &impl Lake,
    of: &tidemill_core::ModelName,
    version: TableVersion,
) -> Result<Vec<RecordBatch>, StoreError> {
    let rows = lake.read_dataset(&project("shop"), of, version).await?;
    rows.try_collect().await
}

async fn datasets_are_listed_and_removed(
    lake: &impl Lake,
    versions: &[TableVersion],
    first: &[RecordBatch],
) {
    let (name, of) = (project("shop"), model("will_return"));
    let listed = async |before, limit| {
        let listed = lake.datasets(&name, &of, before, limit).await;
        let listed = listed.expect("list").into_iter();
        let listed = listed.map(|dataset| (dataset.version, dataset.note, dataset.has_rows));
        listed.collect::<Vec<_>>()
    };
    let line = |place: usize, has_rows| (versions[place], format!("note {place}"), has_rows);
    let all: Vec<_> = (0..4).rev().map(|place| line(place, true)).collect();
    assert_eq!(listed(None, 10).await, all);
    assert_eq!(listed(Some(versions[3]), 2).await, all[1..3]);
    let unknown = lake.datasets(&name, &model("unheard_of"), None, 10).await;
    assert_eq!(unknown.expect("list"), Vec::new());

    // the newest stays whether it is to be kept or not
    let removed = lake.remove_datasets(&name, &of, &versions[..1]).await;
    assert_eq!(removed.expect("remove"), 1); // the third has no rows to lose
    let left = [line(3, true), line(2, true), line(1, false), line(0, true)];
    assert_eq!(listed(None, 10).await, left);
    let gone = rows_of(lake, &of, versions[1]).await;
    assert!(matches!(gone, Err(StoreError::NotFound(_))), "{gone:?}");
    let kept = rows_of(lake, &of, versions[0]).await.expect("read");
    assert_same_rows(&kept, first);
    let again = lake.remove_datasets(&name, &of, &versions[..1]).await;
    assert_eq!(again.expect("remove"), 0);
}

/// The same columns and the same rows in the same order, to the bit, in whichever batches.
fn assert_same_rows(read: &[RecordBatch], written: &[RecordBatch]) {
    let one = |batches: &[RecordBatch]| {
        concat_batches(&batches[0].schema(), batches).expect("batches of one schema")
    };
    let (read, written) = (one(read), one(written));
    let names = |batch: &RecordBatch| {
        batch
            .schema()
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&read), names(&written));
    for (read, written) in read.columns().iter().zip(written.columns()) {
        assert_eq!(read.to_data(), written.to_data());
    }
}
