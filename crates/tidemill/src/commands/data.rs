//! `data`: what arrives, and what of it is not as before.

use anyhow::{Result, bail};
use serde_json::Value;
use tidemill_core::notation::percent_encoded;

use crate::cli::EventArgs;
use crate::client::Client;
use crate::output::{Output, thousands};

/// Shows all kinds of events, or one.
pub async fn run(client: &Client, args: &EventArgs, output: Output) -> Result<()> {
    let path = match &args.event {
        Some(event) => format!("/v1/data?event={}", percent_encoded(event)),
        None => "/v1/data".to_owned(),
    };
    let report = client.get(&path).await?;
    if let Some(event) = &args.event
        && list(&report, "events").is_empty()
    {
        bail!("no '{event}' has arrived; `tidemill data` lists what has");
    }
    output.result(&report, |report| {
        let mut lines = differences(report, "everything is as it was", difference);
        for event in list(report, "events") {
            lines.push(line(event));
            lines.extend(list(event, "days").iter().map(day));
            lines.extend(list(event, "properties").iter().map(property));
        }
        lines.join("\n")
    });
    Ok(())
}

/// A list of an answer; empty where there is none.
pub(super) fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value[name].as_array().map_or(&[], Vec::as_slice)
}

/// A text of an answer; empty where there is none.
pub(super) fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or("")
}

/// What of a report is not as before: `well` are those that are as they were, `line` writes a finding.
pub(super) fn differences(
    report: &Value,
    well: &str,
    line: impl Fn(&Value) -> String,
) -> Vec<String> {
    let Some(examined) = report["examined"].as_str() else {
        return vec!["no whole day has been compared with others yet".to_owned()];
    };
    let differs = list(report, "differs");
    if differs.is_empty() {
        return vec![format!(
            "up to {examined} {well}, as far as enough days are known"
        )];
    }
    let mut lines = vec![format!("compared up to {examined}; this is not as before:")];
    for finding in differs {
        lines.push(format!("  {} {}", text(finding, "kind"), line(finding)));
        let also = list(finding, "also").iter().filter_map(Value::as_str);
        lines.extend(also.map(|also| format!("    with it: {also}")));
    }
    lines
}

fn difference(finding: &Value) -> String {
    let property = match text(finding, "property") {
        "" => String::new(),
        property => format!(".{property}"),
    };
    format!(
        "{}{property}: {} {}",
        text(finding, "event"),
        text(finding, "noticed"),
        text(finding, "likely"),
    )
}

fn line(event: &Value) -> String {
    let count = |name: &str| thousands(event[name].as_u64().unwrap_or(0));
    format!(
        "{}: {} today, {} yesterday, {:.0} a day; the last at {}",
        text(event, "event"),
        count("today"),
        count("yesterday"),
        event["per_day"].as_f64().unwrap_or(0.0),
        text(event, "last_at"),
    )
}

/// A share as a percentage.
pub(super) fn percent(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0) * 100.0
}

fn day(day: &Value) -> String {
    format!(
        "  {} {:>9}   repeats {:.1} %   without user id {:.1} %",
        text(day, "day"),
        thousands(day["count"].as_u64().unwrap_or(0)),
        percent(&day["repeats"]),
        percent(&day["without_user"]),
    )
}

/// The values of a property, in a line.
pub(super) fn property(property: &Value) -> String {
    let mut line = format!(
        "  {}: {}, absent or null {:.1} %",
        text(property, "property"),
        property["value_type"].as_str().unwrap_or("never there"),
        percent(&property["missing"]),
    );
    let numbers: Vec<String> = list(property, "numbers")
        .iter()
        .map(|number| format!("{:.2}", number.as_f64().unwrap_or(f64::NAN)))
        .collect();
    if let [least, low, middle, high, most] = numbers.as_slice() {
        line =
            format!("{line}; from {least} to {most}, half of it {low} to {high}, median {middle}");
    }
    let values: Vec<String> = list(property, "values")
        .iter()
        .map(|pair| {
            format!(
                "{} {:.1} %",
                pair[0].as_str().unwrap_or(""),
                percent(&pair[1])
            )
        })
        .collect();
    if !values.is_empty() {
        line = format!("{line}; {}", values.join(", "));
    }
    line
}
