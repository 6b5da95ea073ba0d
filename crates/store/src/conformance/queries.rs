//! What every [`Lake`] has to do with questions in SQL.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::{ArrayRef, Float64Array, RecordBatch};

use super::samples::{self, logged, model, project};
use crate::Lake;
use crate::query::{QueryAnswer, QueryError, QueryLimits};

/// Runs the part of the suite that is about questions.
pub(super) async fn check<L: Lake>(open: &impl AsyncFn(&str) -> L) {
    let lake = open("questions").await;
    nothing_can_be_asked_of_nothing(&lake).await;
    fill(&lake).await;
    tables_are_described(&lake).await;
    questions_are_answered(&lake).await;
    only_questions_are_answered(&lake).await;
    questions_end_within_their_limits(&lake).await;
}

async fn ask(lake: &impl Lake, sql: &str) -> Result<QueryAnswer, QueryError> {
    let (name, models) = (project("shop"), [model("will_return")]);
    lake.query(&name, &models, sql, &QueryLimits::default())
        .await
}

async fn nothing_can_be_asked_of_nothing(lake: &impl Lake) {
    let tables = lake
        .query_tables(&project("shop"), &[model("will_return")])
        .await;
    assert_eq!(tables.expect("list"), Vec::new());
    let absent = ask(lake, "SELECT * FROM events").await;
    assert!(matches!(absent, Err(QueryError::Refused(_))), "{absent:?}");
}

async fn fill(lake: &impl Lake) {
    let name = project("shop");
    lake.land_events(&name, &logged(1..=30))
        .await
        .expect("land");
    lake.land_decisions(&name, &[samples::decision(1), samples::decision(2)])
        .await
        .expect("land");
    let others = lake.land_events(&project("other"), &logged(1..=7)).await;
    others.expect("land");
    let numbers: ArrayRef = Arc::new(Float64Array::from(vec![Some(0.5), None]));
    let rows = RecordBatch::try_from_iter([("orders", numbers)]).expect("a batch");
    lake.write_dataset(&name, &model("will_return"), vec![rows], "")
        .await
        .expect("write");
}

async fn tables_are_described(lake: &impl Lake) {
    let tables = lake
        .query_tables(
            &project("shop"),
            &[model("will_return"), model("unheard_of")],
        )
        .await
        .expect("list");
    let names: Vec<&str> = tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["events", "decisions", "dataset_will_return"]);
    let columns = &tables[0].columns;
    let kind = |name: &str| {
        let column = columns.iter().find(|column| column.name == name);
        column.map(|column| column.kind.as_str())
    };
    assert_eq!(kind("timestamp"), Some("time"));
    assert_eq!(kind("date"), Some("date"));
    assert_eq!(kind("properties"), Some("text"));
    assert_eq!(kind("offset"), Some("number"));
    assert_eq!(kind("historical"), Some("yes or no"));
}

async fn questions_are_answered(lake: &impl Lake) {
    let check = async |sql: &str, expected: &[&[&str]]| {
        let answer = ask(lake, sql).await.expect(sql);
        let rows = answer.rows.iter().map(|row| {
            let cells = row.iter().map(|cell| cell.as_deref().unwrap_or("–"));
            cells.collect::<Vec<_>>()
        });
        assert_eq!(rows.collect::<Vec<_>>(), expected, "{sql}");
        assert!(!answer.more, "{sql}");
    };
    // the events of another project are not among them
    check("SELECT count(*) FROM events", &[&["30"]]).await;
    check(
        "SELECT name, count(*) AS n FROM events WHERE kind = 'track' GROUP BY name ORDER BY name",
        &[&["Event 0", "8"], &["Event 1", "8"], &["Event 2", "8"]],
    )
    .await;
    check(
        "SELECT round(sum((properties ->> 'total')::double), 3), max(properties -> 'items' ->> 1) FROM events WHERE \"offset\" <= 7",
        &[&["4.0", "ü"]],
    )
    .await;
    check(
        "SELECT properties ->> 'absent', properties -> 'items' -> '0', timestamp, date FROM events WHERE message_id = 'm3'",
        &[&["–", "3", "2011-12-09T12:03:00Z", "2011-12-09"]],
    )
    .await;
    check(
        "SELECT count(*) FROM events WHERE properties ->> 'total' = '1.0' AND properties ->> 'total' < '2'",
        &[&["1"]],
    )
    .await;
    check(
        "SELECT d.entity FROM decisions d JOIN events e ON d.\"offset\" = e.\"offset\" ORDER BY 1 DESC",
        &[&["user:2"], &["user:1"]],
    )
    .await;
    check(
        "SELECT orders FROM dataset_will_return",
        &[&["0.5"], &["–"]],
    )
    .await;
    check(
        "SELECT date_trunc('hour', timestamp), count(DISTINCT user_id) FROM events GROUP BY 1",
        &[&["2011-12-09T12:00:00Z", "11"]],
    )
    .await;
}

async fn only_questions_are_answered(lake: &impl Lake) {
    for sql in [
        "",
        "SELEC 1",
        "SELECT nothing FROM events",
        "DROP TABLE events",
        "DELETE FROM events",
        "INSERT INTO events SELECT * FROM events",
        "CREATE TABLE x AS SELECT 1",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        "COPY events TO '/tmp/events.csv'",
        "SET datafusion.execution.target_partitions = 64",
        "SELECT 1; SELECT 2",
    ] {
        let refused = ask(lake, sql).await;
        let text = match refused {
            Err(QueryError::Refused(text)) => text,
            other => panic!("{sql}: {other:?}"),
        };
        assert!(!text.is_empty() && text.len() < 2_000, "{sql}: {text}");
    }
    assert_eq!(
        ask(lake, "SELECT count(*) FROM events")
            .await
            .expect("count")
            .rows
            .len(),
        1
    );
}

async fn questions_end_within_their_limits(lake: &impl Lake) {
    let within = async |sql: &str, limits: QueryLimits| {
        let (name, models) = (project("shop"), [model("will_return")]);
        lake.query(&name, &models, sql, &limits).await
    };
    let few = QueryLimits {
        rows_max: 7,
        ..QueryLimits::default()
    };
    let answer = within("SELECT * FROM events", few.clone())
        .await
        .expect("rows");
    assert_eq!((answer.rows.len(), answer.more), (7, true));
    let answer = within("SELECT * FROM events LIMIT 7", few)
        .await
        .expect("rows");
    assert_eq!((answer.rows.len(), answer.more), (7, false));

    let small = QueryLimits {
        answer_bytes_max: 100,
        ..QueryLimits::default()
    };
    let large = within("SELECT * FROM events", small).await;
    assert!(matches!(large, Err(QueryError::TooLarge(_))), "{large:?}");

    let little = QueryLimits {
        memory_bytes_max: 1 << 20,
        ..QueryLimits::default()
    };
    let sorted = within(
        "SELECT value FROM generate_series(1, 10000000) ORDER BY value DESC",
        little,
    )
    .await;
    assert!(matches!(sorted, Err(QueryError::TooLarge(_))), "{sorted:?}");

    let short = QueryLimits {
        time_max: Duration::from_millis(50),
        ..QueryLimits::default()
    };
    let endless = within("SELECT sum(a.value * b.value) FROM generate_series(1, 1000000) a CROSS JOIN generate_series(1, 1000000) b", short).await;
    assert!(
        matches!(endless, Err(QueryError::TooSlow(_))),
        "{endless:?}"
    );
}
