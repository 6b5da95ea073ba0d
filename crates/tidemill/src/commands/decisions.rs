//! `predict` and `decisions`: ask, and look at what was answered.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::{DecisionsArgs, PredictArgs};
use crate::client::Client;
use crate::output::{Output, table};

/// Asks a model about a person.
pub async fn predict(client: &Client, args: &PredictArgs, output: Output) -> Result<()> {
    let body = json!({ "user": args.user, "anonymous_id": args.anonymous_id, "reasons": true });
    let answer = client
        .post(&format!("/v1/predict/{}", args.model), &body)
        .await?;
    output.result(&answer, said);
    Ok(())
}

fn said(answer: &Value) -> String {
    let score = answer["score"].as_f64().unwrap_or(f64::NAN);
    let mut text = match (answer["label"].as_str(), answer["probability"].as_f64()) {
        (Some(label), Some(probability)) if answer["probabilities"].is_array() => {
            format!("{label} ({:.0} %)", 100.0 * probability)
        }
        (Some(label), Some(probability)) => {
            format!("{label} (probability of yes {:.1} %)", 100.0 * probability)
        }
        _ => format!("{score:.2}"),
    };
    for class in answer["probabilities"].as_array().into_iter().flatten() {
        let probability = class["probability"].as_f64().unwrap_or(0.0);
        text = format!(
            "{text}\n  {:.1} %  {}",
            100.0 * probability,
            class["class"].as_str().unwrap_or("")
        );
    }
    for reason in answer["reasons"].as_array().into_iter().flatten() {
        text = format!(
            "{text}\n  because {}",
            reason["text"].as_str().unwrap_or("")
        );
    }
    format!("{text}\n\n{}", by(answer))
}

/// Who answered.
pub(super) fn by(answer: &Value) -> String {
    let by = match (answer["version"].as_str(), answer["fallback"].as_str()) {
        (Some(version), _) => version.to_owned(),
        (None, Some(reason)) => format!("the fallback ({})", reason.replace('_', " ")),
        (None, None) => "nobody".to_owned(),
    };
    format!(
        "answered by {by}, decision {}",
        answer["decision_id"].as_str().unwrap_or("")
    )
}

/// The newest decisions, or one with everything that was known then.
pub async fn show(client: &Client, args: &DecisionsArgs, output: Output) -> Result<()> {
    if let Some(id) = &args.id {
        let explanation = client.get(&format!("/v1/decisions/{id}")).await?;
        output.result(&explanation, |value| {
            serde_json::to_string_pretty(value).unwrap_or_default()
        });
        return Ok(());
    }
    let decisions = client
        .get(&format!("/v1/decisions?limit={}", args.limit))
        .await?;
    output.result(&decisions, |decisions| {
        let rows: Vec<Vec<String>> = decisions["decisions"]
            .as_array()
            .into_iter()
            .flatten()
            .map(row)
            .collect();
        if rows.is_empty() {
            return "no decisions yet: ask with `tidemill predict MODEL --user ID`".to_owned();
        }
        table(&["decision", "moment", "model", "who", "answer"], &rows)
    });
    Ok(())
}

fn row(decision: &Value) -> Vec<String> {
    let text = |field: &str| decision[field].as_str().unwrap_or("").to_owned();
    let model = match (decision["version"].as_u64(), decision["fallback"].as_str()) {
        (Some(number), _) => format!("{}@{number}", text("model")),
        (None, fallback) => format!(
            "{} ({})",
            text("model"),
            fallback.unwrap_or("fallback").replace('_', " ")
        ),
    };
    let answer = &decision["answer"];
    let score = answer["score"]
        .as_f64()
        .map_or_else(String::new, |score| format!("{score:.3}"));
    let answer = format!("{score} {}", answer["label"].as_str().unwrap_or(""))
        .trim_end()
        .to_owned();
    vec![text("id"), text("moment"), model, text("entity"), answer]
}
