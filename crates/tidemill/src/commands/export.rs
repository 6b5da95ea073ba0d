//! `export`: everything that is stored about a person.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tidemill_core::notation::percent_encoded;

use super::dataset::spinner;
use crate::cli::ExportArgs;
use crate::client::Client;
use crate::output::{Output, thousands};

/// Exports a person.
pub async fn run(client: &Client, args: &ExportArgs, output: Output) -> Result<()> {
    let (user, anonymous) = (percent_encoded(&args.user), args.anonymous);
    let spinner = spinner(format!("gathering what is stored about {}", args.user));
    let exported = client
        .get(&format!("/v1/users/{user}/export?anonymous={anonymous}"))
        .await;
    spinner.finish_and_clear();
    let exported = exported?;
    let text = serde_json::to_string_pretty(&exported)?;
    let Some(file) = &args.to else {
        output.result(&exported, |_| text);
        return Ok(());
    };
    std::fs::write(file, text).with_context(|| format!("write {}", file.display()))?;
    let count = |name: &str| exported[name].as_array().map_or(0, Vec::len) as u64;
    let value = json!({
        "file": file, "complete": exported["complete"],
        "events": count("events"), "decisions": count("decisions"), "outcomes": count("outcomes"),
    });
    output.result(&value, |value: &Value| {
        let all = match value["complete"].as_bool() {
            Some(true) => "that is all of it",
            _ => "there is more than can be exported at one time: the oldest are in the file",
        };
        format!(
            "wrote {}: {} events, {} decisions and {} outcomes under {} ids; {all}",
            file.display(),
            thousands(count("events")),
            thousands(count("decisions")),
            thousands(count("outcomes")),
            thousands(count("ids")),
        )
    });
    Ok(())
}
