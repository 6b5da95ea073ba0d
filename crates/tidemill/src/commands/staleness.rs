//! `staleness`: how much the versions of a model lose as they grow old.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::StalenessArgs;
use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Measures the curve, or shows the last one.
pub async fn run(client: &Client, args: &StalenessArgs, output: Output) -> Result<()> {
    let path = format!("/v1/models/{}/staleness", args.model);
    let measured = match args.last {
        true => client.get(&path).await?["staleness"].take(),
        false => client.post(&path, &json!({})).await?,
    };
    output.result(&measured, |measured| match measured.is_null() {
        true => "it has not been measured yet; without --last it is measured now".to_owned(),
        false => told(measured),
    });
    Ok(())
}

fn told(measured: &Value) -> String {
    let bands = measured["bands"].as_array().map_or(&[][..], Vec::as_slice);
    let rows: Vec<Vec<String>> = bands.iter().map(row).collect();
    let left_out = match measured["left_out"].as_u64() {
        Some(0) | None => String::new(),
        Some(count) => {
            format!("; {count} read features that are not kept any more and are left out")
        }
    };
    format!(
        "{}\n\n{}\n\nmeasured {}; {} versions served{left_out}; each is asked about what was observed after it was made; \
         95 % intervals",
        measured["sentence"].as_str().unwrap_or(""),
        table(
            &[
                "age",
                "rows",
                "versions",
                measured["metric"].as_str().unwrap_or("value"),
                "interval",
                "lost",
                "interval"
            ],
            &rows
        ),
        measured["measured_at"].as_str().unwrap_or(""),
        measured["versions"],
    )
}

/// An age in days, as people say it.
fn age(band: &Value) -> String {
    let from = band["from_days"].as_u64().unwrap_or(0);
    match band["until_days"].as_u64() {
        Some(until) => format!("{from} to {until} days"),
        None => format!("{from} days and more"),
    }
}

fn row(band: &Value) -> Vec<String> {
    let number = |value: &Value| {
        value
            .as_f64()
            .map_or("-".to_owned(), |value| format!("{value:.4}"))
    };
    let interval = |value: &Value| match value.is_array() {
        true => format!("{} to {}", number(&value[0]), number(&value[1])),
        false => "-".to_owned(),
    };
    vec![
        age(band),
        thousands(band["rows"].as_u64().unwrap_or(0)),
        band["versions"].to_string(),
        number(&band["value"]),
        interval(&band["interval"]),
        number(&band["loss"]),
        interval(&band["loss_interval"]),
    ]
}
