use std::io::Write;
use std::sync::Arc;

use datafusion::arrow::array::{
    Float64Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use datafusion::parquet::arrow::ArrowWriter;
use expect_test::{Expect, expect};
use proptest::prelude::*;
use tempfile::TempDir;
use tidemill_core::clock::VirtualClock;
use tidemill_core::project::Source;
use tidemill_core::{Event, Project};

use super::*;
use tidemill_store::memory::MemoryState;

use crate::memory::MemoryLog;
use crate::{Intake, Limits};

const PROJECT: &str = r#"
    [project]
    name = "shop"
    [items]
    id = "properties.item"
    attributes = {}
    [events."Order Completed"]
    properties = { code = "string?", total = "float?" }
    [sources.history]
    event = "Order Completed"
    map = { timestamp = "when", user_id = "who", "properties.item" = "item", "properties.code" = "code", "properties.total" = "total", "properties.address.country" = "'DE'" }
    [sources.plain]
    event = "Order Completed"
    [sources.named]
    [sources.arrival]
    event = "Order Completed"
    map = { timestamp = "when", user_id = "who", received_at = "seen", message_id = "id" }
"#;

/// A log, a state and a folder of files, and a project that imports them.
struct World {
    folder: TempDir,
    log: Arc<MemoryLog>,
    state: MemoryState,
    intake: Intake,
    project: Project,
    options: ImportOptions,
    source: Source,
    source_name: &'static str,
}

impl World {
    fn new(source_name: &'static str) -> Self {
        let log = Arc::new(MemoryLog::default());
        let clock = Arc::new(VirtualClock::at("2024-03-01T12:00:00Z".parse().unwrap()));
        let project = Project::parse(PROJECT).unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            intake: Intake::new(
                log.clone(),
                clock,
                Limits {
                    batch_events_max: 3,
                    ..Limits::default()
                },
            ),
            log,
            state: MemoryState::default(),
            source: project.sources[source_name].clone(),
            source_name,
            project,
            options: ImportOptions::default(),
        }
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn import(&self, paths: &[PathBuf]) -> Result<ImportReport, ImportError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let mut last: Option<Progress> = None;
        let result = runtime.block_on(run(
            &self.intake,
            &self.state,
            &self.project,
            self.source_name,
            &self.source,
            paths,
            &self.options,
            &mut |progress| last = Some(progress),
        ));
        if let Ok(report) = &result {
            let told = last.map_or((0, 0, 0), |last| {
                (last.accepted, last.duplicates, last.quarantined)
            });
            assert_eq!(
                told,
                (report.accepted, report.duplicates, report.quarantined)
            );
            for file in report.files.iter().filter(|file| !file.finished_before) {
                let counted =
                    file.rows_done_before + file.accepted + file.duplicates + file.quarantined;
                assert_eq!(counted, file.rows, "every row is counted once");
            }
        }
        result
    }

    /// Imports a text and compares what is in the log and in quarantine with what is expected.
    fn check(&self, name: &str, text: &str, expected: Expect) {
        let path = self.write(name, text);
        let outcome = match self.import(&[path]) {
            Ok(_) => self.contents(),
            Err(error) => {
                error
                    .to_string()
                    .replace(&self.folder.path().display().to_string(), "…")
                    + "\n"
            }
        };
        expected.assert_eq(&outcome);
    }

    fn contents(&self) -> String {
        let events = self.log.events.lock();
        let pieces = self.log.quarantined.lock();
        let events = events.iter().map(|event| {
            let who = event
                .user_id
                .as_deref()
                .or(event.anonymous_id.as_deref())
                .unwrap_or("-");
            let properties = serde_json::to_string(&event.properties).unwrap();
            assert!(event.historical);
            format!("{} {} {who} {properties}\n", event.received_at, event.name)
        });
        let pieces = pieces
            .iter()
            .map(|piece| format!("{}: {} | {}\n", piece.reason, piece.detail, piece.body));
        events.chain(pieces).collect()
    }

    fn users(&self) -> Vec<String> {
        self.log
            .events
            .lock()
            .iter()
            .filter_map(|event| event.user_id.clone())
            .collect()
    }
}

#[test]
fn csv_with_a_mapping() {
    let text = "when,who,item,code,total,left out\n\
                2024-01-01 10:00,17850.0,123,007,12.50,x\n\
                2024-01-02 10:00,17851.0,85123A,8,,y\n\
                1704276000,17852.0,\"a,\"\"b\"\"\",,3,z\n";
    World::new("history").check("a.csv", text, expect![[r#"
        2024-01-01T10:00:00.000000Z Order Completed 17850 {"address":{"country":"DE"},"code":"007","item":"123","total":12.5}
        2024-01-02T10:00:00.000000Z Order Completed 17851 {"address":{"country":"DE"},"code":"8","item":"85123A"}
        2024-01-03T10:00:00.000000Z Order Completed 17852 {"address":{"country":"DE"},"item":"a,\"b\"","total":3}
    "#]]);
}

#[test]
fn csv_by_the_names_of_its_columns() {
    let text = "timestamp;user_id;event;qty;flag;zip;properties.deep.er;context.ip\n\
                2024-01-01;u1;Seen;3;true;01234;1.5;192.0.2.1\n\
                2024-01-02;u2;;4;false;99999;2;\n";
    World::new("named").check("a.csv", text, expect![[r#"
        2024-01-01T00:00:00.000000Z Seen u1 {"deep":{"er":1.5},"flag":true,"qty":3,"zip":"01234"}
        missing_field: line 3: the event's name is empty: fill the column, or set event on the source | 2024-01-02;u2;;4;false;99999;2;
    "#]]);
}

#[test]
fn bad_rows_are_quarantined_with_their_line() {
    let text = "when,who,item,code,total\n\
                2024-01-01,u1,i,c,1\n\
                yesterday,u2,i,c,1\n\
                ,u3,i,c,1\n\
                2024-01-02,,i,c,1\n\
                2024-01-03,u4,i,c\n\
                2024-01-04,u5,i,\"x\ny\",much\n\
                2034-01-04,u6,i,c,1\n\
                2024-01-05,u7,i,c,1\n";
    World::new("history").check("a.csv", text, expect![[r#"
        2024-01-01T00:00:00.000000Z Order Completed u1 {"address":{"country":"DE"},"code":"c","item":"i","total":1}
        2024-01-05T00:00:00.000000Z Order Completed u7 {"address":{"country":"DE"},"code":"c","item":"i","total":1}
        bad_time: line 3: column 'when' holds "yesterday", which is not a time: write it like 2011-12-09 12:50 | yesterday,u2,i,c,1
        missing_field: line 4: timestamp is empty: history needs one | ,u3,i,c,1
        missing_field: line 5: userId or anonymousId is absent: say who did it | 2024-01-02,,i,c,1
        unreadable: line 6: the row has 4 values, the header names 5 columns | 2024-01-03,u4,i,c
        schema_mismatch: line 7: properties.total of 'Order Completed': expected float?, found "much"; mend the sender, or the declaration in the project file | 2024-01-04,u5,i,"x
        y",much
        bad_time: line 9: timestamp 2034-01-04T00:00:00.000000Z is more than 1d ahead of 2024-03-01T12:00:00.000000Z: check the sender's clock, and send sentAt | 2034-01-04,u6,i,c,1
    "#]]);
}

#[test]
fn mistakes_of_the_mapping_are_found_before_anything_is_stored() {
    let check = |source: &'static str, name: &str, text: &str, expected: Expect| {
        let world = World::new(source);
        world.check(name, text, expected);
        assert!(world.log.events.lock().is_empty());
    };
    check(
        "history",
        "a.csv",
        "when,whom,item,code,total\n2024-01-01,u1,i,c,1\n",
        expect![[r#"
            …/a.csv has no column 'who' (mapped to user_id), did you mean 'whom'?; its columns are when, whom, item, code, total
        "#]],
    );
    check(
        "history",
        "a.jsonl",
        "{\"when\": \"2024-01-01\", \"who\": \"u\"}\n",
        expect![[r#"
            …/a.jsonl has no column 'code' (mapped to properties.code); its columns are when, who
        "#]],
    );
    check(
        "plain",
        "a.csv",
        "date,user_id\n2024-01-01,u1\n",
        expect![[r#"
            …/a.csv has nothing for timestamp: map the column that says when, like map = { timestamp = "date" }; its columns are date, user_id
        "#]],
    );
    check(
        "plain",
        "a.csv",
        "timestamp,customer\n2024-01-01,u1\n",
        expect![[r#"
            …/a.csv has nothing for user_id: map the column that says who, like map = { user_id = "customer" }; its columns are timestamp, customer
        "#]],
    );
    check(
        "named",
        "a.csv",
        "timestamp,user_id\n2024-01-01,u1\n",
        expect![[r#"
            …/a.csv has nothing for name: name the event, like event = "Order Completed", or map the column that does; its columns are timestamp, user_id
        "#]],
    );
    check(
        "named",
        "a.csv",
        "",
        expect![[r#"
        read …/a.csv: the file is empty: its first line must name the columns
    "#]],
    );
    check(
        "named",
        "a.xlsx",
        "",
        expect![[r#"
        tell the format of …/a.xlsx: name it .csv, .jsonl or .parquet (also .gz, .zst), or add format = "csv" to the source
    "#]],
    );
    check(
        "named",
        "a.parquet",
        "not parquet",
        expect![[r#"
        read …/a.parquet: Parquet error: Invalid Parquet file. Corrupt footer
    "#]],
    );
}

#[test]
fn lines_of_json_may_be_calls_of_the_tracking_api() {
    let text = r#"
        {"type": "track", "event": "Seen", "userId": "u1", "timestamp": "2024-01-02T00:00:00Z", "properties": {"a": 1}, "messageId": "m1"}
        {"type": "identify", "userId": 2, "traits": {"plan": "pro"}, "timestamp": "2024-01-03T00:00:00Z", "receivedAt": "2024-01-05T00:00:00Z"}
        {"event": "Flat", "user_id": "u3", "timestamp": "2024-01-04T00:00:00Z", "total": 3.5, "item": 7, "tags": ["x"]}

        {"event": "Bare", "userId": "u4", "timestamp": 1704067200, "properties": {"b": true}}
        {"type": "track", "event": "No time", "userId": "u5"}
        {"broken": 
        [1]
    "#;
    World::new("named").check("a.jsonl", text, expect![[r#"
        2024-01-01T00:00:00.000000Z Bare u4 {"b":true}
        2024-01-02T00:00:00.000000Z Seen u1 {"a":1}
        2024-01-04T00:00:00.000000Z Flat u3 {"item":"7","tags":["x"],"total":3.5}
        2024-01-05T00:00:00.000000Z $identify 2 {"plan":"pro"}
        missing_field: line 7: timestamp is absent: history needs one | {"type": "track", "event": "No time", "userId": "u5"}
        unreadable: line 8: not readable as an object: EOF while parsing a value at line 1 column 10 | {"broken":
        unreadable: line 9: not readable as an object: invalid type: sequence, expected a map at line 1 column 0 | [1]
    "#]]);
}

#[test]
fn lines_of_json_with_a_mapping() {
    let text = r#"{"when": 1704067200, "who": 5, "item": 9, "code": 7, "total": "3.5"}
{"who": {"id": 1}, "when": "2024-01-02", "item": null, "code": null, "total": null}"#;
    World::new("history").check("a.jsonl", text, expect![[r#"
        2024-01-01T00:00:00.000000Z Order Completed 5 {"address":{"country":"DE"},"code":"7","item":"9","total":3.5}
        invalid_field: line 2: column 'who' is not an id: it must be a text or a number | {"who": {"id": 1}, "when": "2024-01-02", "item": null, "code": null, "total": null}
    "#]]);
}

#[test]
fn rows_are_stored_in_the_order_of_their_times() {
    let header = "when,who,item,code,total\n";
    let rows: Vec<String> = (0..50)
        .map(|n| format!("2024-01-{:02},u{n},i,c,1\n", (n * 7) % 10 + 1))
        .collect();
    let mut expected: Vec<usize> = (0..50).collect();
    expected.sort_by_key(|n| (n * 7) % 10);
    let expected: Vec<String> = expected.into_iter().map(|n| format!("u{n}")).collect();
    for memory_bytes_max in [0, 2_000, 1 << 20] {
        let mut world = World::new("history");
        world.options.memory_bytes_max = memory_bytes_max;
        let path = world.write("a.csv", header.to_owned() + &rows.concat());
        let report = world.import(&[path]).unwrap();
        assert!(report.files[0].was_sorted);
        assert_eq!(
            world.users(),
            expected,
            "with {memory_bytes_max} bytes of memory"
        );
    }
}

#[test]
fn several_files_are_merged_by_time() {
    let world = World::new("plain");
    let paths = [
        world.write("a.csv", "timestamp,user_id\n2024-01-01,a1\n2024-01-04,a4\n2024-01-05,a5\n"),
        world.write("b.jsonl", "{\"timestamp\":\"2024-01-03\",\"user_id\":\"b3\"}\n{\"timestamp\":\"2024-01-02\",\"user_id\":\"b2\"}"),
        world.write("c.csv", "timestamp,user_id\n2024-01-04,c4\n2024-02-01,c6\n"),
        world.write("d.csv", "timestamp,user_id\n"),
    ];
    let report = world.import(&paths).unwrap();
    assert_eq!(world.users(), ["a1", "b2", "b3", "a4", "c4", "a5", "c6"]);
    assert_eq!(
        report
            .files
            .iter()
            .map(|file| file.accepted)
            .collect::<Vec<_>>(),
        [3, 2, 2, 0]
    );
    assert_eq!(report.first, Some("2024-01-01".parse().unwrap()));
    assert_eq!(report.last, Some("2024-02-01".parse().unwrap()));
}

#[test]
fn a_source_that_knows_arrivals_is_ordered_by_them() {
    let world = World::new("arrival");
    let text = "when,who,seen,id\n2024-01-01,late,2024-01-09,m1\n2024-01-02,b,2024-01-03,m2\n2024-01-04,c,,m3\n";
    let path = world.write("a.csv", text);
    world.import(&[path]).unwrap();
    let events = world.log.events.lock();
    let seen: Vec<(&str, String, String)> = events
        .iter()
        .map(|event| {
            (
                event.message_id.as_str(),
                event.received_at.date(),
                event.timestamp.date(),
            )
        })
        .collect();
    let row = |id, received: &str, happened: &str| (id, received.to_owned(), happened.to_owned());
    let expected = [
        row("m2", "2024-01-03", "2024-01-02"),
        row("m3", "2024-01-04", "2024-01-04"),
        row("m1", "2024-01-09", "2024-01-01"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn compressed_files_are_read_by_their_content() {
    let text = "timestamp,user_id\n2024-01-01,u1\n2024-01-02,u2\n";
    let zstd = zstd::encode_all(text.as_bytes(), 3).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(text.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    for (name, bytes) in [("a.csv.zst", &zstd), ("a.csv.gz", &gzip), ("a.csv", &zstd)] {
        let world = World::new("plain");
        let path = world.write(name, bytes);
        assert_eq!(world.import(&[path]).unwrap().accepted, 2, "{name}");
    }
    // cut off in the middle: an error, not a short import
    let world = World::new("plain");
    let path = world.write("a.csv.gz", &gzip[..gzip.len() - 10]);
    assert!(matches!(
        world.import(&[path]),
        Err(ImportError::Read { .. })
    ));
    assert!(world.log.events.lock().is_empty());
}

#[test]
fn parquet_with_its_types() {
    let world = World::new("history");
    let path = world.folder.path().join("a.parquet");
    let time = |text: &str| text.parse::<Timestamp>().unwrap().micros() / 1_000;
    let batch = RecordBatch::try_from_iter(vec![
        (
            "when",
            Arc::new(TimestampMillisecondArray::from(vec![
                Some(time("2024-01-02T00:00:00Z")),
                Some(time("2024-01-01T00:00:00Z")),
                None,
            ])) as _,
        ),
        (
            "who",
            Arc::new(Float64Array::from(vec![Some(17850.0), Some(17851.0), None])) as _,
        ),
        (
            "item",
            Arc::new(Int64Array::from(vec![Some(1), Some(2), Some(3)])) as _,
        ),
        (
            "code",
            Arc::new(StringArray::from(vec![Some("007"), None, Some("x")])) as _,
        ),
        (
            "total",
            Arc::new(Float64Array::from(vec![Some(0.1), Some(f64::NAN), None])) as _,
        ),
    ])
    .unwrap();
    let mut writer =
        ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let report = world.import(&[path]).unwrap();
    assert!(report.files[0].was_sorted);
    expect![[r#"
        2024-01-01T00:00:00.000000Z Order Completed 17851 {"address":{"country":"DE"},"item":"2"}
        2024-01-02T00:00:00.000000Z Order Completed 17850 {"address":{"country":"DE"},"code":"007","item":"1","total":0.1}
        missing_field: row 3: timestamp is empty: history needs one | {"code":"x","item":3}
    "#]].assert_eq(&world.contents());
}

#[test]
fn importing_again_adds_nothing() {
    let world = World::new("plain");
    // two equal rows are two events
    let text = "timestamp,user_id\n2024-01-01,u1\n2024-01-01,u1\n2024-01-02,u2\n";
    let path = world.write("a.csv", text);
    let first = world.import(std::slice::from_ref(&path)).unwrap();
    assert_eq!((first.accepted, first.nothing_new()), (3, false));
    world.log.forget_ids();
    let second = world.import(std::slice::from_ref(&path)).unwrap();
    assert_eq!(
        (second.accepted, second.duplicates, second.nothing_new()),
        (0, 0, true)
    );
    // a longer export of the same rows, while the log still remembers
    let world = World::new("plain");
    let path = world.write("a.csv", text);
    world.import(&[path]).unwrap();
    let longer = world.write("b.csv", text.to_owned() + "2024-01-03,u3\n");
    let report = world.import(&[longer]).unwrap();
    assert_eq!((report.accepted, report.duplicates), (1, 3));
}

#[test]
fn a_copy_of_a_file_is_not_read() {
    let world = World::new("plain");
    let text = "timestamp,user_id\n2024-01-01,u1\n";
    let paths = [world.write("a.csv", text), world.write("copy.csv", text)];
    let report = world.import(&paths).unwrap();
    assert_eq!(report.accepted, 1);
    let read: Vec<bool> = report
        .files
        .iter()
        .map(|file| !file.finished_before)
        .collect();
    assert_eq!(read, [true, false]);
}

#[test]
fn objects_with_too_many_members_need_a_mapping() {
    let many: String = (0..1_001).map(|n| format!("\"k{n}\":1,")).collect();
    let line = format!(
        "{{{many}\"when\":\"2024-01-01\",\"who\":\"u\",\"seen\":null,\"id\":\"m\",\"timestamp\":1704067200,\"user_id\":\"u\"}}"
    );
    let world = World::new("plain");
    let error = world
        .import(&[world.write("a.jsonl", &line)])
        .unwrap_err()
        .to_string();
    assert!(error.ends_with("map the ones that are wanted"), "{error}");
    let world = World::new("arrival");
    assert_eq!(
        world
            .import(&[world.write("a.jsonl", &line)])
            .unwrap()
            .accepted,
        1
    );
}

#[test]
fn a_finished_file_is_read_again_on_demand() {
    let mut world = World::new("plain");
    let path = world.write("a.csv", "timestamp,user_id\n2024-01-01,u1\n2024-01-02,\n");
    world.import(std::slice::from_ref(&path)).unwrap();
    world.options.again = true;
    let report = world.import(&[path]).unwrap();
    assert_eq!(
        (report.accepted, report.duplicates, report.quarantined),
        (0, 1, 1)
    );
}

#[test]
fn an_interrupted_import_goes_on_where_it_stopped() {
    let rows: String = (0..40)
        .map(|n| format!("2024-01-{:02},u{n}\n", 28 - n % 28))
        .collect();
    for appends in 0..15 {
        let world = World::new("plain");
        let path = world.write("a.csv", format!("timestamp,user_id\n{rows}"));
        *world.log.appends_left.lock() = Some(appends);
        let failed = world.import(std::slice::from_ref(&path));
        let stored = world.log.events.lock().len();
        if appends >= 14 {
            assert!(failed.is_ok());
            continue;
        }
        assert!(matches!(failed, Err(ImportError::Intake(_))), "{failed:?}");
        assert_eq!(stored, appends * 3);
        let unfinished = unfinished(&world.state, &world.project.name).unwrap();
        assert_eq!(
            unfinished
                .iter()
                .map(|file| file.rows_done)
                .collect::<Vec<_>>(),
            [stored as u64]
        );
        // the log has forgotten the ids meanwhile: the record alone keeps rows from being stored twice
        world.log.forget_ids();
        *world.log.appends_left.lock() = None;
        let report = world.import(std::slice::from_ref(&path)).unwrap();
        assert_eq!(
            (report.files[0].rows_done_before, report.duplicates),
            (stored as u64, 0)
        );
        let ids: std::collections::HashSet<String> = world
            .log
            .events
            .lock()
            .iter()
            .map(|event| event.message_id.clone())
            .collect();
        assert_eq!((ids.len(), world.log.events.lock().len()), (40, 40));
        assert!(
            super::unfinished(&world.state, &world.project.name)
                .unwrap()
                .is_empty()
        );
    }
}

#[test]
fn a_row_that_never_ends_stops_the_import() {
    let world = World::new("plain");
    let mut text = b"timestamp,user_id\n2024-01-01,\"u1\n".to_vec();
    text.resize(table::ROW_BYTES_MAX as usize + (4 << 20), b'x');
    let path = world.write("a.csv.zst", zstd::encode_all(text.as_slice(), 1).unwrap());
    let error = world.import(&[path]).unwrap_err().to_string();
    assert!(error.ends_with("is a quote not closed?"), "{error}");
}

#[test]
fn rows_can_be_had_without_storing_them() {
    let world = World::new("plain");
    let path = world.write(
        "a.csv",
        "timestamp,user_id\n2031-01-02,u2\n2031-01-01,u1\nx,u3\n",
    );
    let now = "2031-02-01".parse().unwrap();
    let rows = rows(
        &world.project,
        "plain",
        &world.source,
        &[path],
        world.intake.limits(),
        now,
        &world.options,
    )
    .unwrap();
    let users: Vec<Option<String>> = rows
        .map(|row| match row.unwrap() {
            Imported::Event(event) => event.user_id,
            Imported::Quarantined(_) => None,
        })
        .collect();
    assert_eq!(users, [Some("u1".to_owned()), None, Some("u2".to_owned())]);
}

#[test]
fn invoices_of_a_real_shop() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/data/online-retail/online_retail.csv.zst");
    let Ok(file) = std::fs::File::open(&data) else {
        eprintln!("skipped: {} is absent", data.display());
        return;
    };
    let reader = std::io::BufReader::new(zstd::Decoder::new(file).unwrap());
    let lines: Vec<String> = std::io::BufRead::lines(reader)
        .take(5_001)
        .map(Result::unwrap)
        .collect();
    let mut world = World::new("history");
    let toml = "[project]\nname = 'shop'\n[items]\nid = 'properties.item'\n[sources.shop]\nevent = 'Bought'\n\
                map = { timestamp = 'InvoiceDate', user_id = 'CustomerID', anonymous_id = 'InvoiceNo', \
                'properties.item' = 'StockCode', 'properties.quantity' = 'Quantity', 'properties.price' = 'UnitPrice' }";
    world.project = Project::parse(toml).unwrap();
    world.source = world.project.sources["shop"].clone();
    let path = world.write("shop.csv", lines.join("\n"));
    let report = world.import(&[path]).unwrap();
    assert_eq!(
        (report.accepted, report.duplicates, report.quarantined),
        (5_000, 0, 0)
    );
    assert_eq!(report.files[0].ignored_columns, ["Description", "Country"]);
    let events = world.log.events.lock();
    let first = &events[0];
    assert_eq!(first.user_id.as_deref(), Some("17850"));
    assert_eq!(
        serde_json::to_string(&first.properties).unwrap(),
        r#"{"item":"85123A","price":2.55,"quantity":6}"#
    );
    assert!(
        events
            .iter()
            .all(|event: &Event| event.properties["item"].is_string())
    );
    assert!(events.is_sorted_by_key(|event| event.received_at));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn every_row_is_counted_once_and_in_order(
        rows in prop::collection::vec(("(2024-01-[0-2][0-9]( 1[0-9]:30)?|[a-z]{0,3})", "[a-c]{0,2}", "[0-9,\"\n.x]{0,6}"), 0..40),
        memory_bytes_max in 0..8_000_usize,
        fail_after in 0..20_usize,
    ) {
        let mut writer = csv::Writer::from_writer(Vec::new());
        writer.write_record(["timestamp", "user_id", "note"]).unwrap();
        for (time, user, note) in &rows {
            writer.write_record([time, user, note]).unwrap();
        }
        let mut world = World::new("plain");
        world.options.memory_bytes_max = memory_bytes_max;
        let path = world.write("a.csv", writer.into_inner().unwrap());
        *world.log.appends_left.lock() = Some(fail_after);
        let _ = world.import(std::slice::from_ref(&path));
        *world.log.appends_left.lock() = None;
        world.log.forget_ids();
        let report = world.import(&[path]).unwrap();
        prop_assert_eq!(report.duplicates, 0);
        let events = world.log.events.lock();
        prop_assert_eq!(events.len() + world.log.quarantined.lock().len(), rows.len());
        prop_assert!(events.is_sorted_by_key(|event| event.received_at));
    }
}
