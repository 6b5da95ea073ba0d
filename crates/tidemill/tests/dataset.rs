//! Datasets and features for a data person, through the real binary: built, looked at, compared, written to files that other
//! tools read; in this process and beside a running server.

mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::Float64Type;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use support::Scope;
use support::past::{in_rhythm, shop};

const PROJECT: &str = r#"
[project]
name = "shop"

[models.will_return]
kind     = "predict"
observe  = { event = "Order Completed" }
target   = { event = "Order Completed", within = "30d" }
retrain  = { every = "365d" }
training = { budget = 0.2 }
"#;

/// For each numeric column of a CSV file how many values there are, and their sum.
fn csv_sums(path: &Path) -> (u64, BTreeMap<String, (u64, f64)>) {
    let mut reader = csv::Reader::from_path(path).expect("the file");
    let header = reader.headers().expect("a header").clone();
    let (mut rows, mut sums) = (0, BTreeMap::new());
    for record in reader.records() {
        rows += 1;
        for (name, value) in header.iter().zip(&record.expect("a row")) {
            if let Ok(number) = value.parse::<f64>() {
                let sum: &mut (u64, f64) = sums.entry(name.to_owned()).or_default();
                *sum = (sum.0 + 1, sum.1 + number);
            }
        }
    }
    (rows, sums)
}

/// The same of a Parquet file.
fn parquet_sums(path: &Path) -> (u64, BTreeMap<String, (u64, f64)>) {
    let file = File::open(path).expect("the file");
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let (mut rows, mut sums) = (0, BTreeMap::new());
    for batch in reader.build().expect("a reader") {
        let batch = batch.expect("rows");
        rows += batch.num_rows() as u64;
        for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
            if let Some(numbers) = column.as_primitive_opt::<Float64Type>() {
                let sum: &mut (u64, f64) = sums.entry(field.name().clone()).or_default();
                for number in numbers.iter().flatten() {
                    *sum = (sum.0 + 1, sum.1 + number);
                }
            }
        }
    }
    (rows, sums)
}

fn same_sums(a: &BTreeMap<String, (u64, f64)>, b: &BTreeMap<String, (u64, f64)>) {
    for (name, (count, sum)) in b {
        let (found, found_sum) = a.get(name).copied().unwrap_or_default();
        assert_eq!(found, *count, "{name}");
        assert!(
            (found_sum - sum).abs() <= sum.abs() * 1e-12,
            "{name}: {found_sum} and {sum}"
        );
    }
}

#[test]
fn a_dataset_is_built_shown_and_written_to_files() {
    let (mut server, orders) = shop(PROJECT, in_rhythm());
    let none = server.refused(&["dataset", "explain", "will_return"]);
    assert!(none.contains("has no dataset yet"), "{none}");
    let none = server.refused(&["dataset", "show", "will_return"]);
    assert!(
        none.contains("tidemill dataset build will_return"),
        "{none}"
    );

    let built = server.json_of(&["dataset", "build", "will_return"]);
    let record = &built["record"];
    let (rows, censored) = (
        record["rows"].as_u64().expect("rows"),
        record["dropped"]["censored"].as_u64().expect("censored"),
    );
    assert_eq!(record["observed"].as_u64(), Some(orders), "{record:#}");
    assert_eq!(rows + censored, orders, "{record:#}");
    assert!(rows > 300 && censored > 30, "{rows} and {censored}");
    let version = built["version"].as_u64().expect("a version").to_string();

    let shown = server.told(&["dataset", "show", &format!("will_return@{version}")]);
    for expected in [
        "observed",
        "its horizon has not passed",
        "leaks: ",
        "user.order_completed_30d",
        "letter",
        "█",
        "AUC",
    ] {
        assert!(shown.contains(expected), "{expected} is not in\n{shown}");
    }

    let folder = server.folder().to_owned();
    let export =
        |to: &str| server.json_of(&["dataset", "export", "will_return", &version, "--to", to]);
    let written = export("rows.csv");
    assert_eq!(written["rows"].as_u64(), Some(rows), "{written}");
    let text = folder.join("rows.csv");
    let bytes = std::fs::metadata(&text).expect("the file").len();
    assert_eq!(written["bytes"].as_u64(), Some(bytes));
    let (found, sums) = csv_sums(&text);
    assert_eq!(found, rows);
    // the numbers are those of the record
    let mean = sums["target"].1 / rows as f64;
    assert!((mean - record["target"]["mean"].as_f64().expect("a mean")).abs() < 1e-12);
    assert_eq!(sums["weight"], (rows, rows as f64));
    let columns = record["columns"].as_array().expect("columns");
    for column in columns {
        let name = column["name"].as_str().expect("a name");
        if let Some(mean) = column["mean"].as_f64() {
            let (count, sum) = sums[name];
            assert_eq!(Some(rows - count), column["missing"].as_u64(), "{name}");
            assert!(
                (sum / count as f64 - mean).abs() <= mean.abs() * 1e-9,
                "{name}"
            );
        }
    }

    export("rows.parquet");
    let (found, parquet) = parquet_sums(&folder.join("rows.parquet"));
    assert_eq!(
        (found, parquet.contains_key("user.order_completed_30d")),
        (rows, true)
    );
    same_sums(&sums, &parquet);

    // what is there is not overwritten by accident, and what goes wrong says what to do
    let there = server.refused(&["dataset", "export", "will_return", "--to", "rows.csv"]);
    assert!(there.contains("--overwrite"), "{there}");
    let ending = server.refused(&["dataset", "export", "will_return", "--to", "rows.xls"]);
    assert!(ending.contains(".parquet or .csv"), "{ending}");
    let unknown = server.refused(&["dataset", "export", "will_return", "99", "--to", "x.csv"]);
    assert!(
        unknown.contains("there is no dataset will_return@99"),
        "{unknown}"
    );
    assert!(!folder.join("x.csv").exists() && !folder.join("x.csv.part").exists());

    // the same beside a server
    server.restart();
    let again = [
        "dataset",
        "export",
        "will_return",
        "--to",
        "again.csv",
        "--json",
    ];
    let again = server.told(&again);
    assert!(again.contains(&format!("will_return@{version}")), "{again}");
    assert_eq!(
        std::fs::read(&text).expect("the file"),
        std::fs::read(folder.join("again.csv")).expect("the file")
    );
    let gone = server.refused(&["dataset", "export", "will_return", "99", "--to", "x.csv"]);
    assert!(
        gone.contains("there is no dataset will_return@99"),
        "{gone}"
    );
    let rebuilt = server.json_of(&["dataset", "build", "will_return", "--again", &version]);
    assert_eq!(rebuilt["identical"], true, "{rebuilt:#}");
    assert_eq!(rebuilt["record"]["digest"], record["digest"]);
}

#[test]
fn datasets_are_compared_and_features_are_judged() {
    let (mut server, _) = shop(PROJECT, in_rhythm());
    let trained = server.json_of(&["train", "will_return"]);
    assert!(trained["runs"][0]["version"].is_string(), "{trained:#}");
    let list = server.told(&["dataset", "show", "will_return"]);
    // the dataset of the run, with how the run divided it
    for expected in ["examined", "known until", "run "] {
        assert!(list.contains(expected), "{expected} is not in\n{list}");
    }
    let first = server.json_of(&["dataset", "show", "will_return"])["version"].to_string();

    // somebody orders for more than anybody did before
    server.restart();
    let write = server.key(Scope::Write);
    let batch: Vec<Value> = (0..40)
        .map(|order| {
            json!({
                "type": "track", "event": "Basket Left", "userId": format!("c{order}"), "messageId": format!("left {order}"),
                "properties": { "total": 1 + order % 7 }
            })
        })
        .collect();
    let (status, receipt) = server.post("/v1/batch", &write, &json!({ "batch": batch }));
    assert_eq!(
        (status, receipt["accepted"].as_u64()),
        (200, Some(40)),
        "{receipt}"
    );
    let second = server.json_of(&["dataset", "build", "will_return"])["version"].to_string();
    let diff = server.json_of(&["dataset", "diff", "will_return", &first, &second]);
    let added = diff["added"].as_array().expect("a list");
    assert!(
        added.iter().any(|name| name == "user.basket_left_30d"),
        "features are suggested from what is new: {diff:#}"
    );
    assert!(diff["features"].as_array().is_some_and(|features| {
        features
            .iter()
            .all(|feature| feature["psi"].as_f64() < Some(0.1))
    }));
    let told = server.told(&["dataset", "diff", "will_return", &first, &second]);
    for expected in [
        "PSI",
        "definition hash",
        "only in will_return@",
        "user.basket_left_30d",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }

    let report = server.json_of(&["features", "show"]);
    let features = report["features"].as_array().expect("features");
    let channel = features
        .iter()
        .find(|feature| feature["name"] == "user.last_channel_order_completed");
    let channel = channel.unwrap_or_else(|| panic!("{report:#}"));
    assert_eq!(channel["values"]["distinct"], 3, "{channel:#}");
    assert!(channel["state_bytes"].as_f64() > Some(0.0) && channel["read_us"].as_f64() > Some(0.0));
    assert_eq!(channel["models"][0]["model"], "will_return");
    assert!(report["person_bytes"].as_f64() > Some(0.0), "{report:#}");
    let told = server.told(&["features", "show", "--model", "will_return"]);
    for expected in [
        "gain in will_return",
        "bytes",
        "fresh",
        "user.order_completed_30d",
        "search",
    ] {
        assert!(told.contains(expected), "{expected} is not in\n{told}");
    }
    let unknown = server.refused(&["features", "show", "--model", "will_retrun"]);
    assert!(unknown.contains("did you mean 'will_return'?"), "{unknown}");

    // what is suggested goes into the file as it is
    let suggested = server.told(&["features", "suggest"]);
    assert!(
        suggested.contains("Seen 40 times, by 40 persons"),
        "{suggested}"
    );
    std::fs::write(
        server.folder().join("grown.toml"),
        format!("{PROJECT}\n{suggested}"),
    )
    .expect("a file");
    let output = server.run(&["check", "--project", "grown.toml"]);
    assert!(output.status.success());
}
