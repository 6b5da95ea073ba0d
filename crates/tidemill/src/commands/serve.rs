//! `serve`: collect events and answer questions over HTTP.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;
use tidemill_core::clock::SystemClock;

use super::files::problems;
use crate::cli::ServeArgs;
use crate::client::read_project;
use crate::config::Config;
use crate::node::Node;
use crate::output::Output;
use crate::serving;

/// Serves until told to stop.
pub async fn run(config: &Config, args: &ServeArgs, output: Output) -> Result<()> {
    let mut projects = Vec::new();
    for path in &args.project {
        let project = read_project(path)?;
        problems(&project)
            .with_context(|| format!("the project file {} has problems", path.display()))?;
        projects.push(project);
    }
    let names: Vec<String> = projects
        .iter()
        .map(|project| project.name.to_string())
        .collect();
    // the address first: a taken port is noticed before the data folder is touched
    let listener = serving::listen(config).await?;
    let node = Node::open(config, projects, Arc::new(SystemClock)).await?;
    let address = listener.local_addr()?;
    let console = node.first_link(address).await?;
    let address = address.to_string();
    let announced = serving::announce(&config.data(), &listener)?;
    output.text(&format!(
        "serving {} from {}",
        names.join(", "),
        config.data().display()
    ));
    output.text(&format!(
        "make a key for your app: tidemill keys create --project {} --scope write --data {}",
        names[0],
        config.data().display()
    ));
    match &console {
        Some(link) => output.text(&format!("open the console, once, with this link: {link}")),
        None => output.text(&format!("the console is at http://{address}/console")),
    }
    output.text(&format!("listening on http://{address}"));
    output.json_line(&json!({ "listening": address, "projects": names, "console": console }));
    serving::run(node, listener, announced).await
}
