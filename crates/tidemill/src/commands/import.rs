//! `import`: history from files, through the same validation as live events.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidemill_collect::import::{self, ImportOptions, Progress};
use tidemill_core::clock::SystemClock;
use tidemill_core::project::Source;

use super::files::problems;
use crate::cli::ImportArgs;
use crate::client::read_project;
use crate::config::Config;
use crate::node::Node;
use crate::output::{Output, thousands};

/// The name of a source that the project file does not declare.
const UNNAMED: &str = "file";

/// Imports files.
pub async fn run(config: &Config, args: &ImportArgs, output: Output) -> Result<()> {
    let project = read_project(&args.project)?;
    problems(&project)
        .with_context(|| format!("the project file {} has problems", args.project.display()))?;
    let name = args.source.clone().unwrap_or_else(|| UNNAMED.to_owned());
    let source = match (project.sources.get(&name), &args.source) {
        (Some(source), _) => source.clone(),
        (None, None) => Source {
            path: None,
            format: None,
            event: None,
            map: Default::default(),
        },
        (None, Some(_)) => {
            let known: Vec<&str> = project.sources.keys().map(String::as_str).collect();
            bail!(
                "the project file has no [sources.{name}]; it has: {}",
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            )
        }
    };
    let base = args.project.parent().unwrap_or(Path::new("."));
    let files = if args.files.is_empty() {
        import::files(&source, base)?
    } else {
        args.files.clone()
    };
    let options = ImportOptions {
        again: args.again,
        ..ImportOptions::default()
    };

    let node = Node::open(config, vec![project.clone()], Arc::new(SystemClock)).await?;
    let bar = progress_bar();
    let mut show = |progress: Progress| {
        bar.set_length(progress.bytes_total.max(1));
        bar.set_position(progress.bytes_read);
        bar.set_message(format!("{} events", thousands(progress.accepted)));
    };
    let state = node.stores.state.clone();
    let report = import::run(
        &node.app.intake,
        state.as_ref(),
        &project,
        &name,
        &source,
        &files,
        &options,
        &mut show,
    )
    .await?;
    bar.finish_and_clear();
    let project_loop = node
        .loops
        .get(&project.name)
        .context("the project is open")?;
    project_loop.catch_up().await?;
    project_loop.land(true).await?;
    project_loop.commit()?;
    let rows: u64 = report.files.iter().map(|file| file.rows).sum();
    let done_before: u64 = report.files.iter().map(|file| file.rows_done_before).sum();
    let finished = report
        .files
        .iter()
        .filter(|file| file.finished_before)
        .count();
    let value = json!({
        "accepted": report.accepted, "duplicates": report.duplicates, "quarantined": report.quarantined,
        "rows": rows, "rows_done_before": done_before, "files_finished_before": finished, "first": report.first, "last": report.last,
    });
    output.result(&value, |_| {
        let mut text = format!(
            "{} rows: {} events accepted, {} known already, {} quarantined",
            thousands(rows),
            thousands(report.accepted),
            thousands(report.duplicates),
            thousands(report.quarantined),
        );
        if done_before > 0 {
            text = format!(
                "{text}; {} rows had been imported before",
                thousands(done_before)
            );
        }
        if finished > 0 {
            text = format!(
                "{text}\n{finished} files were imported before and not read again (--again does)"
            );
        }
        if let (Some(first), Some(last)) = (report.first, report.last) {
            text = format!("{text}\nfrom {first} to {last}");
        }
        if report.quarantined > 0 {
            text = format!("{text}\nGET /v1/quarantine shows what was quarantined and why");
        }
        text
    });
    Ok(())
}

fn progress_bar() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(1);
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {msg} {eta}")
    {
        bar.set_style(style);
    }
    bar
}
