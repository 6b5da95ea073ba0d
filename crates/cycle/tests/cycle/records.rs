//! Records of runs, as the catalog keeps them: what an earlier version wrote is read, and loses nothing when it is written again.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_cycle::run::RunDetail;

/// Whether everything in `one` is in `other` as well; `other` may say more.
fn is_within(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => one
            .iter()
            .all(|(key, value)| other.get(key).is_some_and(|found| is_within(value, found))),
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other);
            one.len() == other.len() && pairs.all(|(one, other)| is_within(one, other))
        }
        (one, other) => one == other,
    }
}

/// Reads a record, and writes and reads it again.
#[track_caller]
fn read<T: DeserializeOwned + Serialize>(text: &str) -> T {
    let before: Value = serde_json::from_str(text).unwrap();
    let record: T = serde_json::from_str(text).unwrap();
    let written = serde_json::to_value(&record).unwrap();
    assert!(is_within(&before, &written), "{before:#}\n{written:#}");
    serde_json::from_value(written).unwrap()
}

#[test]
fn a_run_from_before_differences_were_looked_at_is_read() {
    let detail: RunDetail = read(include_str!("../golden/run.json"));
    let examination = detail.examination.unwrap();
    assert_eq!((examination.difference, examination.data), (None, None));
    assert!(!examination.verdict.promoted);
    assert_eq!(detail.dataset.unwrap().columns.len(), 2);
}

#[test]
fn a_run_that_recommends_from_before_differences_were_looked_at_is_read() {
    let detail: RecommendDetail = read(include_str!("../golden/recommend_run.json"));
    let examination = detail.examination.unwrap();
    assert_eq!(examination.difference, None);
    assert!(examination.verdict.promoted);
}
