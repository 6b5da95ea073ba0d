//! `keys`: make, list and revoke.

use anyhow::Result;
use axum::http::Method;
use serde_json::{Value, json};

use crate::cli::KeysCommand;
use crate::client::Client;
use crate::output::{Output, table};

/// Carries out a subcommand.
pub async fn run(client: &Client, command: &KeysCommand, output: Output) -> Result<()> {
    match command {
        KeysCommand::Create { scope, .. } => {
            let mut key = client.post("/v1/keys", &json!({ "scope": scope })).await?;
            if let Some(fields) = key.as_object_mut()
                && let Some(secret) = fields.remove("secret")
            {
                fields.insert("key".to_owned(), secret);
            }
            output.result(&key, |key| {
                let secret = key["key"].as_str().unwrap_or_default();
                format!(
                    "{secret}\n\nIt opens project {} with scope {scope} and is shown only now.",
                    client.project
                )
            });
        }
        KeysCommand::List(_) => {
            let keys = client.get("/v1/keys").await?;
            output.result(&keys, |keys| {
                let rows: Vec<Vec<String>> = keys["keys"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .map(|key| {
                        let text = |field: &str| key[field].as_str().unwrap_or("").to_owned();
                        let state = if key["revoked_at"].is_string() {
                            "revoked"
                        } else {
                            "valid"
                        };
                        vec![
                            text("id"),
                            text("scope"),
                            text("created_at"),
                            state.to_owned(),
                        ]
                    })
                    .collect();
                table(&["id", "scope", "made", "state"], &rows)
            });
        }
        KeysCommand::Revoke { id, .. } => {
            client
                .ask(Method::DELETE, &format!("/v1/keys/{id}"), None)
                .await?;
            output.result(&json!({ "revoked": id }), |_: &Value| {
                format!("{id} is revoked")
            });
        }
    }
    Ok(())
}
