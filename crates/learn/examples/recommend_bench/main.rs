//! Recommendations on fixed splits of public data: `cargo run --release -p tidemill-learn --example recommend_bench -- FORMAT TRAIN
//! [TEST] [PUBLISHED]`, with FORMAT one of pairs, sequence, session, events and `-` for a file that there is not. It prints the table, and
//! the whole report as JSON on standard error.

mod examination;
mod split;

use std::path::Path;

use anyhow::{Context, Result, bail};
use split::Format;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |place: usize| {
        let given = arguments.get(place).map(String::as_str);
        given.filter(|text| *text != "-")
    };
    let format = match argument(0) {
        Some("pairs") => Format::Pairs,
        Some("sequence") => Format::Sequence,
        Some("session") => Format::Session,
        Some("events") => Format::Events,
        other => bail!("name a format: pairs, sequence, session or events, not {other:?}"),
    };
    let train = argument(1).context("name the training file")?;
    let split = split::read(format, Path::new(train), argument(2).map(Path::new))?;
    let published = match argument(3) {
        Some(path) => std::fs::read_to_string(path).with_context(|| format!("read {path}"))?,
        None => String::new(),
    };
    let report = examination::examine(&split, 1);
    println!(
        "{}",
        examination::table(&report, split.question, &published)
    );
    eprintln!("{report:#}");
    Ok(())
}
