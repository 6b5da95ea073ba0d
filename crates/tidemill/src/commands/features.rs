//! `features`: suggest a section for the project file, show what is known.

use anyhow::Result;
use serde_json::{Value, json};

use crate::cli::FeaturesCommand;
use crate::client::Client;
use crate::output::{Output, table};

/// Carries out a subcommand.
pub async fn run(client: &Client, command: &FeaturesCommand, output: Output) -> Result<()> {
    match command {
        FeaturesCommand::Suggest(_) => {
            let suggested = client.get("/v1/features/suggest").await?;
            output.result(&suggested, |value| {
                value["toml"].as_str().unwrap_or("").trim_end().to_owned()
            });
        }
        FeaturesCommand::Show { user: None, .. } => {
            let features = client.get("/v1/features").await?;
            output.result(&features, |value| {
                let rows: Vec<Vec<String>> = value["features"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|column| {
                        ["name", "type", "label"]
                            .map(|field| column[field].as_str().unwrap_or("").to_owned())
                            .to_vec()
                    })
                    .collect();
                if rows.is_empty() {
                    return "no features yet: they are suggested from the events that arrive"
                        .to_owned();
                }
                table(&["feature", "type", "meaning"], &rows)
            });
        }
        FeaturesCommand::Show {
            user: Some(user), ..
        } => {
            let person = client.get(&format!("/v1/users/{user}")).await?;
            output.result(
                &json!({ "user": user, "features": person["features"] }),
                |value| {
                    let rows: Vec<Vec<String>> = value["features"]
                        .as_array()
                        .into_iter()
                        .flatten()
                        .map(row)
                        .collect();
                    table(&["feature", "value", "meaning"], &rows)
                },
            );
        }
    }
    Ok(())
}

fn row(feature: &Value) -> Vec<String> {
    let text = |field: &str| feature[field].as_str().unwrap_or("").to_owned();
    let value = match &feature["value"] {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    vec![text("name"), value, text("label")]
}
