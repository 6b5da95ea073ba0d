//! `features`: suggest a section for the project file, show what is known.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::dataset_text::{distribution, optional, quantiles, share};
use crate::cli::FeaturesCommand;
use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Carries out a subcommand.
pub async fn run(client: &Client, command: &FeaturesCommand, output: Output) -> Result<()> {
    match command {
        FeaturesCommand::Suggest(_) => {
            let suggested = client.get("/v1/features/suggest").await?;
            output.result(&suggested, |value| {
                value["toml"].as_str().unwrap_or("").trim_end().to_owned()
            });
        }
        FeaturesCommand::Check(args) => {
            let path = format!("/v1/features/consistency?share={}", args.share);
            let report = client.post(&path, &json!({})).await?;
            output.result(&report, compared);
            if report["mismatches"].as_u64() != Some(0) {
                bail!("what was served is not what training sees");
            }
        }
        FeaturesCommand::Show {
            user: None, model, ..
        } => {
            let of = model
                .as_ref()
                .map_or_else(String::new, |model| format!("?model={model}"));
            let report = client.get(&format!("/v1/features/report{of}")).await?;
            output.result(&report, told);
        }
        FeaturesCommand::Show {
            user: Some(user), ..
        } => {
            let person = client.get(&format!("/v1/users/{user}")).await?;
            output.result(
                &json!({ "user": user, "features": person["features"] }),
                |value| {
                    let rows: Vec<Vec<String>> = value["features"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(row)
                        .collect();
                    table(&["feature", "value", "meaning"], &rows)
                },
            );
        }
    }
    Ok(())
}

/// What was found when answers were read again.
pub fn compared(report: &Value) -> String {
    let count = |name: &str| thousands(report[name].as_u64().unwrap_or(0));
    let mut text = format!(
        "{} values of {} answers were read again, {} differ",
        count("values"),
        count("answers"),
        count("mismatches"),
    );
    let features: Vec<Vec<String>> = report["features"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, found)| {
            let count = |kind: &str| thousands(found[kind].as_u64().unwrap_or(0));
            let example = found["example"].as_str().unwrap_or("-").to_owned();
            let (online, offline) = (count("missing_online"), count("missing_offline"));
            vec![name.clone(), online, offline, count("different"), example]
        })
        .collect();
    if !features.is_empty() {
        let head = [
            "feature",
            "missing online",
            "missing offline",
            "different",
            "decision",
        ];
        text = format!("{text}\n\n{}", table(&head, &features));
    }
    text
}

/// What features are like, what they cost and what they are good for.
fn told(report: &Value) -> String {
    let features: Vec<&Value> = report["features"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    if features.is_empty() {
        return "no features yet: they are suggested from the events that arrive".to_owned();
    }
    let mut header = vec![
        "feature",
        "missing",
        "p1",
        "p50",
        "p99",
        "distribution",
        "fresh",
        "bytes",
        "read",
    ];
    let mut models: Vec<&str> = features
        .iter()
        .flat_map(|feature| feature["models"].as_array().into_iter().flatten())
        .filter_map(|of| of["model"].as_str())
        .collect();
    models.sort_unstable();
    models.dedup();
    let gains: Vec<String> = models
        .iter()
        .map(|model| format!("gain in {model}"))
        .collect();
    header.extend(gains.iter().map(String::as_str));
    header.push("meaning");
    let rows: Vec<Vec<String>> = features
        .iter()
        .map(|feature| report_row(feature, &models))
        .collect();
    let mut parts = vec![table(&header, &rows)];
    let person = match report["person_bytes"].as_f64() {
        Some(bytes) => format!(
            "of a person {bytes:.0} bytes are stored in the median ({} looked at); windows of one definition share their bytes",
            report["persons"]
        ),
        None => "nothing is stored of anybody yet".to_owned(),
    };
    parts.push(person);
    if features.iter().all(|feature| feature["values"].is_null()) {
        parts.push("what the values are like is known from datasets: `tidemill dataset build MODEL` builds one".to_owned());
    }
    let unused: Vec<Vec<String>> = report["unused"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|feature| {
            ["name", "why"]
                .map(|field| feature[field].as_str().unwrap_or("").to_owned())
                .to_vec()
        })
        .collect();
    parts.push(if unused.is_empty() {
        "every feature is used".to_owned()
    } else {
        table(&["unused", "why"], &unused)
    });
    parts.join("\n\n")
}

fn report_row(feature: &Value, models: &[&str]) -> Vec<String> {
    let (values, rows) = (
        &feature["values"],
        feature["values"]["rows"].as_u64().unwrap_or(0),
    );
    let mut row = vec![feature["name"].as_str().unwrap_or("").to_owned()];
    row.push(share(&values["missing"], rows));
    row.extend(quantiles(values));
    row.push(distribution(values, rows));
    row.push(age(&feature["age_seconds"]));
    row.push(optional(&feature["state_bytes"]));
    let read = feature["read_us"].as_f64();
    row.push(read.map_or_else(|| "-".to_owned(), |read| format!("{read:.1} µs")));
    for model in models {
        let of = feature["models"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|of| of["model"] == *model);
        row.push(match of {
            None => String::new(),
            Some(of) => optional(&of["gain"]),
        });
    }
    row.push(feature["label"].as_str().unwrap_or("").to_owned());
    row
}

/// Seconds in the unit that fits.
fn age(seconds: &Value) -> String {
    let Some(seconds) = seconds.as_f64() else {
        return "never".to_owned();
    };
    match seconds.max(0.0) {
        seconds if seconds >= 2.0 * 86_400.0 => format!("{:.0} d ago", seconds / 86_400.0),
        seconds if seconds >= 2.0 * 3_600.0 => format!("{:.0} h ago", seconds / 3_600.0),
        seconds if seconds >= 120.0 => format!("{:.0} min ago", seconds / 60.0),
        seconds => format!("{seconds:.0} s ago"),
    }
}

fn row(feature: &Value) -> Vec<String> {
    let text = |field: &str| feature[field].as_str().unwrap_or("").to_owned();
    let value = match &feature["value"] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    vec![text("name"), value, text("label")]
}
