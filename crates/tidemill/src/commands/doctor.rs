//! `doctor`: what keeps a project from giving good answers, and what to do about it.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::client::Client;
use crate::output::{Output, thousands};

/// One finding.
struct Finding {
    good: bool,
    text: String,
}

fn good(text: String) -> Finding {
    Finding { good: true, text }
}

fn bad(text: String) -> Finding {
    Finding { good: false, text }
}

/// Looks at everything; fails where something is wrong.
pub async fn run(client: &Client, output: Output) -> Result<()> {
    let mut findings = events(client).await?;
    findings.push(quarantine(client).await?);
    findings.extend(consistency(client).await?);
    findings.extend(alerts(client).await?);
    let models = client.get("/v1/models").await?;
    let seen = client.get("/v1/events/seen").await?;
    for status in models["models"].as_array().into_iter().flatten() {
        findings.push(model(status, &seen));
        findings.extend(rollout(client, status).await?);
    }
    if models["models"].as_array().is_none_or(Vec::is_empty) {
        findings.push(bad(
            "the project file names no models: add [models.NAME], `tidemill init` shows how"
                .to_owned(),
        ));
    }
    let healthy = findings.iter().all(|finding| finding.good);
    let value: Vec<Value> = findings
        .iter()
        .map(|finding| json!({ "ok": finding.good, "text": finding.text }))
        .collect();
    output.result(&json!({ "ok": healthy, "findings": value }), |_| {
        let lines: Vec<String> = findings
            .iter()
            .map(|finding| {
                format!(
                    "{} {}",
                    if finding.good { "ok     " } else { "problem" },
                    finding.text
                )
            })
            .collect();
        lines.join("\n")
    });
    if healthy {
        Ok(())
    } else {
        bail!(
            "something keeps project {} from giving good answers",
            client.project
        )
    }
}

async fn events(client: &Client) -> Result<Vec<Finding>> {
    let counts = client.get("/v1/events/counts").await?;
    let stored = counts["stored"].as_u64().unwrap_or(0);
    if stored == 0 {
        return Ok(vec![bad(
            "no events have arrived: make a key with `tidemill keys create --scope write` and send some, or `tidemill import` history"
                .to_owned(),
        )]);
    }
    Ok(vec![good(format!(
        "{} events are stored",
        thousands(stored)
    ))])
}

/// Whether what was served is what training sees, where that was looked at.
async fn consistency(client: &Client) -> Result<Option<Finding>> {
    let report = client.get("/v1/features/consistency").await?;
    if report["answers"].as_u64().unwrap_or(0) == 0 {
        return Ok(None);
    }
    let text = super::features::compared(&report);
    Ok(Some(if report["mismatches"].as_u64() == Some(0) {
        good(text)
    } else {
        bad(text)
    }))
}

/// What is wrong by now.
async fn alerts(client: &Client) -> Result<Vec<Finding>> {
    let alerts = client.get("/v1/alerts").await?;
    let open = alerts["alerts"].as_array().into_iter().flatten();
    let told = open.map(|alert| {
        let text = |field: &str| alert[field].as_str().unwrap_or("");
        bad(format!("{}: {}", text("id"), text("cause")))
    });
    Ok(told.collect())
}

async fn quarantine(client: &Client) -> Result<Finding> {
    let counts = client.get("/v1/events/counts").await?;
    let (stored, quarantined) = (
        counts["stored"].as_u64().unwrap_or(0),
        counts["quarantined"].as_u64().unwrap_or(0),
    );
    let text = format!(
        "{} pieces were quarantined so far (GET /v1/quarantine says why)",
        thousands(quarantined)
    );
    // one in a hundred is worth a person's look
    Ok(if quarantined * 100 > stored {
        bad(text)
    } else {
        good(text)
    })
}

/// How a version takes over, and whether it is known that a bad one would be sent back.
async fn rollout(client: &Client, status: &Value) -> Result<Vec<Finding>> {
    let name = status["model"].as_str().unwrap_or("?");
    let found = client.get(&format!("/v1/models/{name}/rollout")).await?;
    let mut findings = Vec::new();
    let rollout = &found["rollout"];
    let version = rollout["version"].as_str().unwrap_or("");
    match rollout["stage"].as_str() {
        Some("shadow") => findings.push(good(format!("{version} answers in the shadow"))),
        Some("canary") => {
            let share = rollout["share"].as_f64().unwrap_or(0.0) * 100.0;
            findings.push(good(format!(
                "{version} answers for {share} % of the people"
            )));
        }
        _ => {}
    }
    match found["drill"]["passed"].as_bool() {
        Some(false) => findings.push(bad(format!(
            "the last drill of {name} failed: a bad version would not be sent back (`tidemill drill rollback {name}` tries again)"
        ))),
        None if found["has_rules"] == true && found["champion"].is_string() => {
            findings.push(good(format!(
                "whether a bad version of {name} is sent back was not tried yet: `tidemill drill rollback {name}` does"
            )));
        }
        _ => {}
    }
    Ok(findings)
}

fn model(status: &Value, seen: &Value) -> Finding {
    let name = status["model"].as_str().unwrap_or("?");
    if let Some(number) = status["champion"].as_u64() {
        return good(format!("{name}@{number} answers"));
    }
    let run = &status["last_run"];
    let why = match run["state"].as_str() {
        Some(state) => format!(
            "its last run was {state}: {}",
            run["summary"].as_str().unwrap_or("")
        ),
        None if seen["events"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty) =>
        {
            "no events were seen yet".to_owned()
        }
        None => "it was not trained yet: `tidemill train` does it now".to_owned(),
    };
    bad(format!("{name} answers with its fallback; {why}"))
}
