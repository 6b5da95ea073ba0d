//! `alerts`: what is wrong, and silence.

use anyhow::Result;
use serde_json::{Value, json};
use tidemill_core::notation::percent_encoded;

use crate::cli::AlertsArgs;
use crate::client::Client;
use crate::output::Output;

/// Shows alerts, or silences one.
pub async fn run(client: &Client, args: &AlertsArgs, output: Output) -> Result<()> {
    if let Some(id) = &args.silence {
        let path = format!("/v1/alerts/{}/silence", percent_encoded(id));
        client.post(&path, &json!({ "for": args.r#for })).await?;
        output.result(&json!({ "silenced": id, "for": args.r#for }), |_| {
            format!("nobody is told of {id} for {}", args.r#for)
        });
        return Ok(());
    }
    let alerts = client
        .get(&format!("/v1/alerts?resolved={}", args.resolved))
        .await?;
    output.result(&alerts, |alerts| {
        let of = |list: &str| alerts[list].as_array().cloned().unwrap_or_default();
        let mut told: Vec<String> = of("alerts").iter().map(described).collect();
        if told.is_empty() {
            told.push("nothing is wrong, as far as is looked at".to_owned());
        }
        told.extend(of("resolved").iter().map(|alert| {
            let text = |field: &str| alert[field].as_str().unwrap_or("");
            format!("over since {}: {}", text("resolved_at"), text("id"))
        }));
        told.join("\n\n")
    });
    Ok(())
}

fn described(alert: &Value) -> String {
    let text = |field: &str| alert[field].as_str().unwrap_or("");
    let silenced = match alert["silenced_until"].as_str() {
        Some(until) => format!(" (silenced until {until})"),
        None => String::new(),
    };
    format!(
        "{}, since {}{silenced}\n  {}\n  what to do: {}",
        text("id"),
        text("since"),
        text("cause"),
        text("next_step")
    )
}
