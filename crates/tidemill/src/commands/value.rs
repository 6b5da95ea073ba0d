//! `value`: what a model has earned.

use anyhow::Result;
use serde_json::Value;

use crate::cli::ModelArgs;
use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Shows the value report of a model.
pub async fn run(client: &Client, args: &ModelArgs, output: Output) -> Result<()> {
    let report = client
        .get(&format!("/v1/models/{}/value", args.model))
        .await?;
    output.result(&report, |report| {
        let sentence = report["sentence"].as_str().unwrap_or("");
        let months = report["months"].as_array().map_or(&[][..], Vec::as_slice);
        if months.is_empty() {
            return sentence.to_owned();
        }
        let rows: Vec<Vec<String>> = months.iter().map(row).collect();
        let currency = report["currency"].as_str().unwrap_or("amounts");
        let headings = [
            "month",
            "with",
            "without",
            "each with",
            "each without",
            "difference",
            "earned",
            "interval",
        ];
        format!(
            "{sentence}\n\n{}\n\nin {currency}; intervals hold however often one looks",
            table(&headings, &rows)
        )
    });
    Ok(())
}

fn row(month: &Value) -> Vec<String> {
    let count = |field: &str| thousands(month[field].as_u64().unwrap_or(0));
    let amount = |value: &Value, digits: usize| match value.as_f64() {
        Some(amount) => format!("{amount:.digits$}"),
        None => "-".to_owned(),
    };
    let interval = &month["value_interval"];
    let interval = match interval.is_array() {
        true => format!("{} to {}", amount(&interval[0], 0), amount(&interval[1], 0)),
        false => month["withheld"].as_str().unwrap_or("-").to_owned(),
    };
    vec![
        month["month"].as_str().unwrap_or("").to_owned(),
        count("with"),
        count("without"),
        amount(&month["mean_with"], 2),
        amount(&month["mean_without"], 2),
        amount(&month["difference"], 2),
        amount(&month["value"], 0),
        interval,
    ]
}
