//! `rollout` and `drill`.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::output::{Output, table, thousands};

/// Shows how a version takes over, or the last one did.
pub async fn show(client: &Client, model: &str, output: Output) -> Result<()> {
    let status = client.get(&format!("/v1/models/{model}/rollout")).await?;
    output.result(&status, |status| {
        let mut told = told(model, status);
        if let Some(drill) = drill_line(&status["drill"]) {
            told.push(drill);
        }
        told.join("\n\n")
    });
    Ok(())
}

/// Plays a drill; fails where the planted version was not sent back.
pub async fn drill(client: &Client, model: &str, output: Output) -> Result<()> {
    let drill = client
        .post(&format!("/v1/models/{model}/drill"), &json!({}))
        .await?;
    output.result(&drill, |drill| drill_line(drill).unwrap_or_default());
    if drill["passed"] != true {
        bail!("the drill failed: a bad version of {model} would not be sent back");
    }
    Ok(())
}

fn told(model: &str, status: &Value) -> Vec<String> {
    let rollout = &status["rollout"];
    let text = |field: &str| rollout[field].as_str().unwrap_or("").to_owned();
    if rollout.is_null() {
        let how = match status["has_rules"] == true {
            true => {
                "no version has taken over step by step yet; the next one that passes the gate does"
            }
            false => {
                "versions that pass the gate answer at once; rollout = {} in the project file lets them take over step by step"
            }
        };
        return vec![format!("{model}: {how}")];
    }
    let share = rollout["share"].as_f64().unwrap_or(0.0) * 100.0;
    let stage = match text("stage").as_str() {
        "canary" => format!("canary, for {share} % of the people"),
        stage => stage.replace('_', " "),
    };
    let beside = rollout["champion"].as_str().unwrap_or("the fallback");
    let mut told = vec![format!(
        "{} beside {beside}: {stage}, since {} ({})\n  {}",
        text("version"),
        text("since"),
        text("actor"),
        text("reason")
    )];
    let waits = rollout["waits_for"].as_array().into_iter().flatten();
    let waits: Vec<&str> = waits.filter_map(Value::as_str).collect();
    if !waits.is_empty() {
        told.push(format!("it waits: {}", waits.join("; ")));
    }
    let mut rows = Vec::new();
    for stage in rollout["stages"].as_array().into_iter().flatten() {
        rows.extend(stage_rows(
            &stage["stage"],
            &stage["share"],
            &stage["numbers"],
        ));
    }
    if !rollout["numbers"].is_null() {
        rows.extend(stage_rows(
            &rollout["stage"],
            &rollout["share"],
            &rollout["numbers"],
        ));
    }
    if !rows.is_empty() {
        let headings = [
            "stage", "share", "who", "answers", "failed", "slow", "p50 ms", "p99 ms", "people",
            "agree", "shift",
        ];
        told.push(table(&headings, &rows));
    }
    told.extend(outcome_lines(&rollout["outcomes"]));
    told
}

/// Two rows for a stage: the version that takes over, and what it is compared with.
fn stage_rows(stage: &Value, share: &Value, numbers: &Value) -> Vec<Vec<String>> {
    let agreement = &numbers["agreement"];
    let number = |value: &Value, digits: usize| match value.as_f64() {
        Some(value) => format!("{value:.digits$}"),
        None => "-".to_owned(),
    };
    let row = |who: &str, arm: &Value, agree: String, shift: String| {
        let count = |field: &str| thousands(arm[field].as_u64().unwrap_or(0));
        let failed = ["panicked", "not_finite", "unreadable", "short"];
        let failed: u64 = failed.iter().filter_map(|kind| arm[*kind].as_u64()).sum();
        let millis = |field: &str| match arm[field].as_u64() {
            Some(micros) => format!("{:.2}", micros as f64 / 1_000.0),
            None => "-".to_owned(),
        };
        vec![
            stage.as_str().unwrap_or("").to_owned(),
            format!("{} %", share.as_f64().unwrap_or(0.0) * 100.0),
            who.to_owned(),
            count("answers"),
            thousands(failed),
            count("slow"),
            millis("p50_us"),
            millis("p99_us"),
            count("people"),
            agree,
            shift,
        ]
    };
    // scores agree in their order, lists in what is in them
    let agree = match &numbers["lists"]["shared"] {
        Value::Null => number(&agreement["rank_correlation"], 2),
        shared => number(shared, 2),
    };
    let shift = number(&agreement["stability_index"], 3);
    vec![
        row("challenger", &numbers["challenger"], agree, shift),
        row(
            "champion",
            &numbers["control"],
            String::new(),
            String::new(),
        ),
    ]
}

/// How answers turned out, as far as it is known.
fn outcome_lines(outcomes: &Value) -> Vec<String> {
    let line = |turned: &Value, of: &str| {
        let people = turned["people"].as_u64()?;
        let loss = |field: &str| turned[field].as_f64().unwrap_or(0.0);
        Some(format!(
            "{of}: a loss of {:.4} beside {:.4} of the champion, over {} people",
            loss("loss"),
            loss("champion_loss"),
            thousands(people)
        ))
    };
    let same = line(
        &outcomes["same_questions"],
        "outcomes of the same questions",
    );
    let arms = line(
        &outcomes["arms"],
        "outcomes of its people beside the control",
    );
    same.into_iter().chain(arms).collect()
}

fn drill_line(drill: &Value) -> Option<String> {
    let passed = drill["passed"].as_bool()?;
    let result = if passed { "passed" } else { "FAILED" };
    Some(format!(
        "drill {result} at {}: a planted version was sent back after {} questions, the champion answered again after {:.1} ms, {} answers failed",
        drill["at"].as_str().unwrap_or(""),
        drill["questions"],
        drill["micros"].as_f64().unwrap_or(0.0) / 1_000.0,
        drill["failed_answers"],
    ))
}
