//! Benchmarks of the release binary from outside, beside a peer in the same run.
//!
//! ```text
//! cargo build --release
//! cargo run --release -p tidemill-bench -- intake     events acknowledged per second, beside a bare axum handler
//! cargo run --release -p tidemill-bench -- predict    latency of predictions at a fixed rate, idle and busy
//! cargo run --release -p tidemill-bench -- recommend  latency of recommendations out of a large catalogue
//! ```
//!
//! Each run writes `bench/results/NAME.json` (every raw number, the machine, the command) and `NAME.md` (the table).
//! The sides take turns, so that a machine that becomes slower does so for all of them; ratios are made within a turn.
//!
//! This is *not* a test: nothing here decides whether a change is right.

#![allow(
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and waits for it; nothing here is part of the product"
)]

mod client;
mod events;
mod intake;
mod latency;
mod load;
mod machine;
mod peer;
mod predict;
mod process;
mod recommend;
mod report;
mod server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(
    name = "tidemill-bench",
    about = "Measures the release binary from outside"
)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Events acknowledged per second, in batches and singly, beside a bare axum handler.
    Intake {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        settings: intake::Settings,
    },
    /// Latency of predictions at a fixed rate: idle, and while events stream in and a model is trained.
    Predict {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        settings: predict::Settings,
    },
    /// Latency of recommendations at a fixed rate out of a large catalogue, and how soon an event changes the next list.
    Recommend {
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        settings: recommend::Settings,
    },
    /// The peer: parses what it is sent and answers. Started by the others in a process of its own.
    #[command(hide = true)]
    Peer,
}

/// What is measured, and where the results go.
#[derive(Debug, Args)]
struct Place {
    /// The binary under test; by default `tidemill` beside this program.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Where the results are written.
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
}

impl Place {
    fn binary(&self) -> anyhow::Result<PathBuf> {
        let binary = match &self.binary {
            Some(binary) => binary.clone(),
            None => std::env::current_exe()?.with_file_name("tidemill"),
        };
        anyhow::ensure!(
            binary.is_file(),
            "there is no {}: run cargo build --release, or name it with --binary",
            binary.display()
        );
        Ok(binary)
    }
}

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Intake { place, settings } => place
            .binary()
            .and_then(|binary| intake::measure(&binary, &settings)?.write(&place.out)),
        Command::Predict { place, settings } => place
            .binary()
            .and_then(|binary| predict::measure(&binary, &settings)?.write(&place.out)),
        Command::Recommend { place, settings } => place
            .binary()
            .and_then(|binary| recommend::measure(&binary, &settings)?.write(&place.out)),
        Command::Peer => peer::serve(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
