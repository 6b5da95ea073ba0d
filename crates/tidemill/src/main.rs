//! The binary: command line, configuration, composition.

mod backtest;
mod cli;
mod client;
mod commands;
mod config;
mod courier;
mod demo;
mod load;
mod memory;
mod node;
mod output;
mod replay;
mod server_file;
mod serving;

use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use cli::{Cli, Command};
use config::Config;

/// Many small pieces are taken and given back, on many threads, and threads of its own give memory back to the system
/// (docs/adr/0010-allocator.md).
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = start_log(&cli) {
        return fail(&error);
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    give_memory_back_in_spare_time();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&anyhow::Error::new(error).context("start the threads")),
    };
    match runtime.block_on(commands::run(&cli)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Starts the allocator's own threads, which have the priority of the one that starts them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn give_memory_back_in_spare_time() {
    let start = || {
        tidemill_store::priority::take_what_is_left();
        tikv_jemalloc_ctl::background_thread::write(true)
    };
    if !matches!(std::thread::spawn(start).join(), Ok(Ok(()))) {
        tracing::warn!("memory that is freed goes back to the system by the threads that free it");
    }
}

/// What grows trees warns whenever it reaches the number of trees that it was asked for: that is no news.
const TREES: &str = "perpetual";

/// The log goes to standard error, so that results can be piped.
fn start_log(cli: &Cli) -> anyhow::Result<()> {
    let config = Config::load(cli.config.as_deref(), &cli.set)?;
    let filter: Targets = config
        .text("log")
        .parse()
        .map_err(|error| anyhow::anyhow!("setting log: {error}"))?;
    let is_named = filter.iter().any(|(target, _)| target.starts_with(TREES));
    let filter = match is_named {
        true => filter,
        false => filter.with_target(TREES, LevelFilter::ERROR),
    };
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if matches!(cli.command, Command::Serve(_)) && !terminal {
        layer.json().boxed()
    } else {
        layer.with_ansi(terminal).boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .init();
    Ok(())
}

/// Says what went wrong, with everything that led to it.
fn fail(error: &anyhow::Error) -> ExitCode {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text = format!("{text}\n  because: {}", cause.replace('\n', "\n  "));
        }
    }
    eprintln!("error: {text}");
    ExitCode::FAILURE
}
