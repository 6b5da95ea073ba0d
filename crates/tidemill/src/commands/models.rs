//! `models`, `train`, `promote`, `rollback`.

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tidemill_core::VersionId;

use crate::cli::{PromoteArgs, RollbackArgs};
use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Trains a model and says what became of it.
pub async fn train(client: &Client, model: &str, output: Output) -> Result<()> {
    let answer = client
        .post(&format!("/v1/models/{model}/train?wait=true"), &json!({}))
        .await?;
    output.result(&answer, |answer| {
        let runs: Vec<String> = answer["runs"]
            .as_array()
            .into_iter()
            .flatten()
            .map(super::runs::told)
            .collect();
        runs.join("\n")
    });
    let failed = answer["runs"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|run| run["state"] == "failed");
    if failed {
        bail!("the run failed");
    }
    Ok(())
}

/// All models, or one with its versions.
pub async fn show(client: &Client, model: Option<&str>, output: Output) -> Result<()> {
    let Some(model) = model else {
        let models = client.get("/v1/models").await?;
        output.result(&models, |models| {
            let rows: Vec<Vec<String>> = models["models"]
                .as_array()
                .into_iter()
                .flatten()
                .map(model_row)
                .collect();
            if rows.is_empty() {
                return "the project file names no models yet".to_owned();
            }
            table(
                &[
                    "model", "champion", "metric", "promised", "live", "last run",
                ],
                &rows,
            )
        });
        return Ok(());
    };
    let status = client.get(&format!("/v1/models/{model}")).await?;
    let versions = client.get(&format!("/v1/models/{model}/versions")).await?;
    let runs = client.get(&format!("/v1/models/{model}/runs")).await?;
    let all = json!({ "model": status, "versions": versions["versions"], "runs": runs["runs"] });
    output.result(&all, |all| {
        let rows: Vec<Vec<String>> = all["runs"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|run| {
                let text = |field: &str| run[field].as_str().unwrap_or("").to_owned();
                let version = run["version"].as_str().unwrap_or("-").to_owned();
                vec![
                    text("started_at"),
                    version,
                    text("state"),
                    text("trigger"),
                    text("summary"),
                ]
            })
            .collect();
        let header = table(
            &[
                "model", "champion", "metric", "promised", "live", "last run",
            ],
            &[model_row(&all["model"])],
        );
        let told = [
            header,
            lists(&all["model"]),
            estimated(&all["model"]),
            table(&["run", "version", "state", "trigger", "summary"], &rows),
        ];
        let told: Vec<String> = told.into_iter().filter(|part| !part.is_empty()).collect();
        told.join("\n\n")
    });
    Ok(())
}

/// What is expected of the answers of a model whose outcomes are not certain yet, in a sentence.
fn estimated(status: &Value) -> String {
    let estimated = &status["estimated"];
    let (expected, answers) = (&estimated["expected"], estimated["answers"].as_u64());
    let (Some(value), Some(answers)) = (expected["value"].as_f64(), answers) else {
        return String::new();
    };
    let interval = match (
        expected["interval"][0].as_f64(),
        expected["interval"][1].as_f64(),
    ) {
        (Some(low), Some(high)) => format!(" ({low:.3} to {high:.3})"),
        _ => String::new(),
    };
    let metric = expected["metric"].as_str().unwrap_or_default();
    let read = match estimated["recalibrated_on"].as_u64() {
        Some(known @ 1..) => format!(
            "as far as they are worth what {} answers before them were",
            thousands(known)
        ),
        _ => "if their probabilities hold".to_owned(),
    };
    format!(
        "of {} answers the outcome is not certain yet: {metric} will be {value:.3}{interval} {read}",
        thousands(answers)
    )
}

/// What was taken of the lists of a model, in a sentence.
fn lists(status: &Value) -> String {
    let lists = &status["lists"];
    let Some(answers) = lists["answers"].as_u64().filter(|answers| *answers > 0) else {
        return String::new();
    };
    let share = |value: &Value| format!("{:.1} %", value.as_f64().unwrap_or(0.0) * 100.0);
    let (hit, taken) = (&lists["hit_rate"], &lists["taken"]);
    let interval = match (hit["interval"][0].as_f64(), hit["interval"][1].as_f64()) {
        (Some(low), Some(high)) => format!(" ({:.1} to {:.1} %)", low * 100.0, high * 100.0),
        _ => String::new(),
    };
    format!(
        "of {} lists something was taken from {}{interval}, {:.2} items each; of what everybody takes from {}, {:.2} each",
        thousands(answers),
        share(&hit["value"]),
        taken["value"].as_f64().unwrap_or(0.0),
        share(&hit["popular"]),
        taken["popular"].as_f64().unwrap_or(0.0),
    )
}

fn model_row(status: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let number = |value: &Value| {
        value
            .as_f64()
            .map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
    };
    let champion = status["champion"]
        .as_u64()
        .map_or_else(|| "fallback".to_owned(), |number| format!("@{number}"));
    let live = status["live"]["metrics"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|m| m["metric"] == status["metric"]);
    let live = match status["lists"]["ndcg"]["value"].as_f64() {
        Some(ndcg) => format!("{ndcg:.3}"),
        None => live.map_or_else(|| "-".to_owned(), |live| number(&live["value"])),
    };
    vec![
        text(&status["model"]),
        champion,
        text(&status["metric"]),
        number(&status["promised"]["value"]),
        live,
        text(&status["last_run"]["state"]),
    ]
}

/// Lets a version answer from now on.
pub async fn promote(client: &Client, args: &PromoteArgs, output: Output) -> Result<()> {
    let version: VersionId = args.version.parse()?;
    let body =
        json!({ "version": version.number, "reason": args.reason, "override": args.override_gate });
    let answer = client
        .post(&format!("/v1/models/{}/promote", version.model), &body)
        .await?;
    output.result(&answer, |_| format!("{version} answers from now on"));
    Ok(())
}

/// Returns to the version that answered before.
pub async fn rollback(client: &Client, args: &RollbackArgs, output: Output) -> Result<()> {
    let answer = client
        .post(
            &format!("/v1/models/{}/rollback", args.model),
            &json!({ "reason": args.reason }),
        )
        .await?;
    output.result(&answer, |answer| match answer["champion"].as_u64() {
        Some(number) => format!("{}@{number} answers again", args.model),
        None => format!("the fallback of {} answers again", args.model),
    });
    Ok(())
}
