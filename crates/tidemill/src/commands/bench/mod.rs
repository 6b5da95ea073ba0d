//! `bench`: learners on fixed splits of public data, beside published figures.

mod examination;
mod split;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use tidemill_core::clock::Stopwatch;

use crate::cli::BenchRecommendArgs;
use crate::memory::{mebibytes, peak_bytes};
use crate::output::Output;

/// Published figures of sets that many papers report.
const PUBLISHED: [(&str, &str); 3] = [
    (
        "gowalla",
        include_str!("../../../../../bench/published/gowalla.tsv"),
    ),
    (
        "amazon-beauty",
        include_str!("../../../../../bench/published/amazon-beauty.tsv"),
    ),
    (
        "diginetica",
        include_str!("../../../../../bench/published/diginetica.tsv"),
    ),
];

/// `bench recommend`: learns from a fixed split as a user would, and measures.
pub fn recommend(args: &BenchRecommendArgs, output: Output) -> Result<()> {
    let published = published(args)?;
    let (split, format) = split::read(args.format, &args.train, args.test.as_deref())?;
    let progress = ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg} ({elapsed})")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    progress.enable_steady_tick(Duration::from_millis(100));
    let say = |what: &str| progress.set_message(what.to_owned());
    let watch = Stopwatch::start();
    let mut report = examination::examine(&split, (args.seed, args.quick), &say);
    progress.finish_and_clear();
    report["format"] = json!(format!("{format:?}").to_lowercase());
    report["seconds"] = json!(watch.seconds());
    report["memory_peak_mib"] = json!(peak_bytes().map(mebibytes));
    output.result(&report, |report| {
        examination::told(report, split.question, &published)
    });
    Ok(())
}

/// The published figures to print beside ours; nothing where none are known.
fn published(args: &BenchRecommendArgs) -> Result<String> {
    let known = |name: &str| PUBLISHED.iter().find(|(known, _)| *known == name);
    let Some(named) = &args.published else {
        let path = args.train.to_string_lossy();
        let mut named = PUBLISHED.iter().filter(|(name, _)| path.contains(name));
        return Ok(named
            .next()
            .map_or_else(String::new, |(_, rows)| (*rows).to_owned()));
    };
    match known(named) {
        Some((_, rows)) => Ok((*rows).to_owned()),
        None => std::fs::read_to_string(Path::new(named)).with_context(|| {
            let names: Vec<&str> = PUBLISHED.iter().map(|(name, _)| *name).collect();
            format!(
                "read {named}, which is neither a file nor one of {}",
                names.join(", ")
            )
        }),
    }
}
