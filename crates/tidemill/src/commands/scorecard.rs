//! `scorecard`: how ready a model is, by 28 tests with their evidence.

use anyhow::Result;
use axum::http::Method;
use serde_json::{Value, json};

use crate::cli::ScorecardArgs;
use crate::client::Client;
use crate::output::{Output, table};

/// Scores one model or all, or records a test.
pub async fn run(client: &Client, args: &ScorecardArgs, output: Output) -> Result<()> {
    if let (Some(model), Some(test)) = (&args.model, &args.record) {
        let body = json!({ "test": test, "by": args.by, "note": args.note, "at": args.date });
        let path = format!("/v1/models/{model}/scorecard");
        client.ask(Method::POST, &path, Some(&body)).await?;
        let answer = json!({ "recorded": test, "model": model });
        output.result(&answer, |_| {
            format!("{test} of {model} is recorded; it counts half for 180 days")
        });
        return Ok(());
    }
    if let Some(model) = &args.model {
        let card = client.get(&format!("/v1/models/{model}/scorecard")).await?;
        output.result(&card, told);
        return Ok(());
    }
    let models = client.get("/v1/models").await?;
    let mut cards = Vec::new();
    for model in models["models"].as_array().into_iter().flatten() {
        let name = model["model"].as_str().unwrap_or_default();
        cards.push(client.get(&format!("/v1/models/{name}/scorecard")).await?);
    }
    output.result(&json!({ "scorecards": cards }), |all| {
        let cards = all["scorecards"].as_array().into_iter().flatten();
        let rows: Vec<Vec<String>> = cards.map(line).collect();
        let headings = [
            "model",
            "score",
            "data",
            "model tests",
            "infrastructure",
            "monitoring",
        ];
        format!(
            "{}\n\nof 7 each; the score is the smallest",
            table(&headings, &rows)
        )
    });
    Ok(())
}

fn points(value: &Value) -> String {
    format!("{:.1}", value.as_f64().unwrap_or(0.0))
}

fn line(card: &Value) -> Vec<String> {
    let mut line = vec![
        card["model"].as_str().unwrap_or_default().to_owned(),
        points(&card["score"]),
    ];
    let groups = card["groups"].as_array().into_iter().flatten();
    line.extend(groups.map(|group| points(&group["points"])));
    line
}

fn told(card: &Value) -> String {
    let mut lines = vec![format!(
        "{} scores {} of 7, the smallest of its four groups",
        card["model"].as_str().unwrap_or_default(),
        points(&card["score"])
    )];
    for group in card["groups"].as_array().into_iter().flatten() {
        lines.push(format!(
            "\n{} {}",
            group["group"].as_str().unwrap_or_default(),
            points(&group["points"])
        ));
        for test in group["tests"].as_array().into_iter().flatten() {
            lines.extend(of_test(test));
        }
    }
    lines.join("\n")
}

fn of_test(test: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let age = match test["age_days"].as_f64() {
        Some(days) => format!(", {days:.0} of {} days old", test["period_days"]),
        None => String::new(),
    };
    let mut lines = vec![format!(
        "  {} {:<16} {} ({}{age})",
        points(&test["points"]),
        text(&test["id"]),
        text(&test["title"]),
        text(&test["counts"]).replace('_', " ")
    )];
    if let Some(evidence) = test["evidence"].as_object() {
        lines.push(format!(
            "                       {} [{}]",
            text(&evidence["sentence"]),
            text(&evidence["link"])
        ));
    }
    if let Some(hand) = test["by_hand"].as_object() {
        lines.push(format!(
            "                       {} on {}: {}",
            text(&hand["by"]),
            text(&hand["at"]).chars().take(10).collect::<String>(),
            text(&hand["note"])
        ));
    }
    if let Some(next) = test["next_step"].as_str() {
        lines.push(format!("                       → {next}"));
    }
    lines
}
