//! `erase`: a person, for good.

use anyhow::{Result, bail};
use axum::http::Method;
use serde_json::Value;
use tidemill_core::notation::percent_encoded;

use super::dataset::spinner;
use crate::cli::EraseArgs;
use crate::client::Client;
use crate::output::{Output, thousands};

/// Erases a person, or says what is known of them.
pub async fn run(client: &Client, args: &EraseArgs, output: Output) -> Result<()> {
    let path = format!("/v1/users/{}", percent_encoded(&args.user));
    let anonymous = args.anonymous;
    if !args.yes {
        let known = client
            .get(&format!("{path}?anonymous={anonymous}&events=500"))
            .await?;
        if known["known"].as_bool() != Some(true) {
            bail!("nothing is known of {}", args.user);
        }
        let events = known["timeline"].as_array().map_or(0, Vec::len) as u64;
        bail!(
            "{} is known, with at least {} events\n  --yes erases all of it, for good",
            args.user,
            thousands(events)
        );
    }
    let spinner = spinner(format!("erasing {}", args.user));
    let reason = percent_encoded(&args.reason);
    let path = format!("{path}?anonymous={anonymous}&reason={reason}");
    let erased = client.ask(Method::DELETE, &path, None).await;
    spinner.finish_and_clear();
    output.result(&erased?, |erased: &Value| {
        let count = |name: &str| thousands(erased[name].as_u64().unwrap_or(0));
        format!(
            "{} is gone: {} events, {} decisions and {} outcomes under {} ids; {} datasets lost their rows and can be built again",
            args.user,
            count("events"),
            count("decisions"),
            count("outcomes"),
            count("ids"),
            count("datasets"),
        )
    });
    Ok(())
}
