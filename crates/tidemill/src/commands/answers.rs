//! `answers`: what a model answers and from what, and what of it is not as before or as in training.

use anyhow::{Result, bail};
use serde_json::Value;
use tidemill_core::notation::percent_encoded;

use super::data::{differences, list, percent, property, text};
use crate::cli::AnswersArgs;
use crate::client::Client;
use crate::output::{Output, thousands};

/// How many features are shown beside training: the farthest.
const SKEW_SHOWN: usize = 10;

/// Shows a model, or one of its features day by day.
pub async fn run(client: &Client, args: &AnswersArgs, output: Output) -> Result<()> {
    let mut path = format!("/v1/models/{}/answers", args.model);
    if let Some(feature) = &args.feature {
        path = format!("{path}?feature={}", percent_encoded(feature));
    }
    let report = client.get(&path).await?;
    if let Some(feature) = &args.feature
        && list(&report, "feature").is_empty()
    {
        bail!(
            "'{feature}' was not served in the last 60 days; `tidemill answers {}` lists what was",
            args.model
        );
    }
    let days_only = args.feature.is_some();
    output.result(&report, |report| match days_only {
        true => of_feature(report),
        false => of_model(report),
    });
    Ok(())
}

fn of_feature(report: &Value) -> String {
    let days = list(report, "feature").iter().map(|day| {
        let answers = thousands(day["answers"].as_u64().unwrap_or(0));
        let day_of = text(day, "day");
        let values = property(day);
        format!("{day_of} {answers:>9} answers {values}")
    });
    days.collect::<Vec<_>>().join("\n")
}

fn of_model(report: &Value) -> String {
    let mut lines = differences(report, "answers are as they were", difference);
    lines.extend(list(report, "versions").iter().map(|version| {
        format!(
            "{} answered from {} to {}",
            text(version, "version"),
            text(version, "first_day"),
            text(version, "last_day")
        )
    }));
    let days = list(report, "days").iter();
    lines.extend(days.filter(|day| day["answers"] != 0).map(day));
    let features = list(report, "features");
    if !features.is_empty() {
        lines.push("served in the last 7 days:".to_owned());
        lines.extend(features.iter().map(property));
    }
    let trained = &report["trained"];
    if !trained.is_null() {
        lines.push(format!(
            "{} beside the {} rows that it was trained on, over {} answers since {}, the farthest first:",
            text(trained, "version"),
            thousands(trained["rows"].as_u64().unwrap_or(0)),
            thousands(trained["answers"].as_u64().unwrap_or(0)),
            text(trained, "since"),
        ));
        let features = list(trained, "features").iter().take(SKEW_SHOWN);
        lines.extend(features.map(beside_training));
    }
    lines.join("\n")
}

fn difference(finding: &Value) -> String {
    format!(
        "{}: {}; {}",
        text(finding, "property"),
        text(finding, "noticed"),
        text(finding, "likely"),
    )
}

fn day(day: &Value) -> String {
    let mut line = format!(
        "  {} {:>9} answers",
        text(day, "day"),
        thousands(day["answers"].as_u64().unwrap_or(0))
    );
    if let Some(mean) = day["mean"].as_f64() {
        line = format!("{line}   mean score {mean:.4}");
    }
    let classes: Vec<String> = list(day, "classes")
        .iter()
        .map(|pair| {
            let class = pair[0].as_str().unwrap_or("");
            format!("{class} {:.1} %", percent(&pair[1]))
        })
        .collect();
    if !classes.is_empty() {
        line = format!("{line}   {}", classes.join(", "));
    }
    let lists = &day["lists"];
    if let Some(length) = lists["length"].as_f64() {
        let concentration = percent(&lists["concentration"]);
        line = format!(
            "{line}   {length:.1} items in a list, {concentration:.1} % of them the ten most shown"
        );
    }
    for (reason, count) in day["fallbacks"].as_object().into_iter().flatten() {
        line = format!("{line}   {}: {count}", reason.replace('_', " "));
    }
    line
}

fn beside_training(feature: &Value) -> String {
    let usual = match feature["usual"].as_f64() {
        Some(share) => format!(", {:.1} % are usual of a fortnight", share * 100.0),
        None => String::new(),
    };
    format!(
        "  {}: {:.1} % of its values lie elsewhere (chance explains {:.1} %{usual}); missing {:.1} %, in training {:.1} %",
        text(feature, "name"),
        percent(&feature["distance"]),
        percent(&feature["noise"]),
        percent(&feature["missing_served"]),
        percent(&feature["missing_trained"]),
    )
}
