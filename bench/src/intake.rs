//! Events acknowledged per second: in batches and singly, beside a bare axum handler in the same run.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use crate::client::Route;
use crate::events::Events;
use crate::latency::{Latencies, median};
use crate::load::closed;
use crate::machine::Machine;
use crate::process::Running;
use crate::report::{Report, Table, command_line, grouped};
use crate::server::Server;

/// The project under test: it takes events and has no models.
const PROJECT: &str = "[project]\nname = \"bench\"\n";

/// How it is measured.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    /// How often the sides take turns.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long each measurement lasts, in seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How long each side is driven before the first round, in seconds.
    #[arg(long, default_value_t = 2.0)]
    warm_up_seconds: f64,
    /// Connections that send at the same time.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Events in a batch.
    #[arg(long, default_value_t = 100)]
    batch: u64,
}

/// How events are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Mode {
    Batches,
    Singly,
}

/// One measurement of one side.
#[derive(Debug, Serialize)]
struct Measured {
    side: &'static str,
    mode: Mode,
    /// 0 is the warm-up.
    round: u32,
    events: u64,
    events_per_second: f64,
    /// Processor time of the server for an event, user and system, in microseconds.
    processor_us_per_event: f64,
    latency: Option<Latencies>,
}

/// A side of the comparison.
struct Side<'s> {
    name: &'static str,
    running: &'s Running,
    key: &'s str,
}

/// Runs it.
///
/// # Errors
/// When a server does not start, a request is not acknowledged, or the server does not have what it acknowledged.
pub(crate) fn measure(binary: &Path, settings: &Settings) -> anyhow::Result<Report> {
    let mut server = Server::prepare(binary, "bench", PROJECT)?;
    let machine = Machine::here(server.folder())?;
    server.start()?;
    let key = server.key("write")?;
    let reader = server.key("read")?;
    let mut peer = Command::new(std::env::current_exe()?);
    peer.arg("peer");
    let peer = Running::start(peer)?;
    let sides = [
        Side {
            name: "tidemill",
            running: server.running()?,
            key: &key,
        },
        Side {
            name: "bare axum",
            running: &peer,
            key: "",
        },
    ];

    let mut raw = Vec::new();
    for round in 0..=settings.rounds {
        for mode in [Mode::Batches, Mode::Singly] {
            for side in &sides {
                let measured = once(side, mode, round, settings)?;
                eprintln!(
                    "round {round}: {:9} {:7} {:>9} events/s",
                    side.name,
                    mode.name(),
                    grouped(measured.events_per_second)
                );
                raw.push(measured);
            }
        }
    }

    let acknowledged: u64 = raw
        .iter()
        .filter(|measured| measured.side == sides[0].name)
        .map(|measured| measured.events)
        .sum();
    let stored = server.stored(&reader)?;
    ensure!(
        stored == acknowledged,
        "{acknowledged} events were acknowledged and {stored} are stored"
    );
    let peak = server.running()?.memory_peak_mib()?;
    report(machine, settings, &sides, &raw, peak)
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Batches => "batches",
            Self::Singly => "singly",
        }
    }

    fn path(self) -> &'static str {
        match self {
            Self::Batches => "/v1/batch",
            Self::Singly => "/v1/track",
        }
    }

    fn events_per_request(self, settings: &Settings) -> u64 {
        match self {
            Self::Batches => settings.batch,
            Self::Singly => 1,
        }
    }
}

fn once(side: &Side<'_>, mode: Mode, round: u32, settings: &Settings) -> anyhow::Result<Measured> {
    let seconds = if round == 0 {
        settings.warm_up_seconds
    } else {
        settings.seconds
    };
    let address: SocketAddr = side.running.address;
    let route = Route::new("POST", mode.path(), address, side.key);
    let events = Events::new(format!("{}-{round}", mode.name()));
    let each = mode.events_per_request(settings);
    let before = side.running.processor_seconds()?;
    let outcome = closed(
        address,
        &route,
        settings.connections,
        Duration::from_secs_f64(seconds),
        |number, body| match mode {
            Mode::Batches => events.batch(number * each, each, body),
            Mode::Singly => events.single(number, body),
        },
    );
    let processor = side.running.processor_seconds()? - before;
    if let Some(failure) = outcome.failure {
        anyhow::bail!(
            "{} {}: {} requests failed, the first with: {failure}",
            side.name,
            mode.name(),
            outcome.failed
        );
    }
    let count = outcome.answered * each;
    Ok(Measured {
        side: side.name,
        mode,
        round,
        events: count,
        events_per_second: count as f64 / outcome.elapsed.as_secs_f64(),
        processor_us_per_event: processor * 1e6 / count as f64,
        latency: Latencies::of(outcome.latencies),
    })
}

/// Medians over the rounds, and the median of the ratios within a round.
fn report(
    machine: Machine,
    settings: &Settings,
    sides: &[Side<'_>; 2],
    raw: &[Measured],
    memory_peak_mib: f64,
) -> anyhow::Result<Report> {
    let mut rows = Vec::new();
    let mut summary = serde_json::Map::new();
    for mode in [Mode::Batches, Mode::Singly] {
        let of = |side: &Side<'_>| -> Vec<&Measured> {
            raw.iter()
                .filter(|one| one.round > 0 && one.mode == mode && one.side == side.name)
                .collect()
        };
        let (ours, theirs) = (of(&sides[0]), of(&sides[1]));
        let rate = |side: &[&Measured]| median(side.iter().map(|one| one.events_per_second));
        let cost = |side: &[&Measured]| median(side.iter().map(|one| one.processor_us_per_event));
        let wait = |side: &[&Measured], of: fn(&Latencies) -> u64| {
            median(
                side.iter()
                    .filter_map(|one| one.latency.as_ref())
                    .map(|latency| of(latency) as f64),
            )
        };
        let ratio = median(
            ours.iter()
                .zip(&theirs)
                .map(|(our, their)| our.events_per_second / their.events_per_second),
        );
        for (side, measured) in sides.iter().zip([&ours, &theirs]) {
            rows.push(vec![
                format!("{}, {}", side.name, mode.name()),
                grouped(rate(measured)),
                format!("{:.1}", cost(measured)),
                grouped(wait(measured, |latency| latency.p50_us)),
                grouped(wait(measured, |latency| latency.p99_us)),
            ]);
        }
        rows.push(vec![
            format!("ratio, {}", mode.name()),
            format!("{ratio:.2}"),
            format!("{:.2}", cost(&ours) / cost(&theirs)),
            String::new(),
            String::new(),
        ]);
        summary.insert(
            mode.name().to_owned(),
            json!({
                "events_per_second": rate(&ours),
                "peer_events_per_second": rate(&theirs),
                "ratio": ratio,
                "processor_us_per_event": cost(&ours),
            }),
        );
    }
    summary.insert("memory_peak_mib".to_owned(), json!(memory_peak_mib));
    Ok(Report {
        name: "intake",
        about: format!(
            "Events acknowledged per second over {} connections, in batches of {} and singly; an acknowledgement follows \
             the sync of the disk. The peer is a bare axum handler that parses the same JSON and does nothing else. The \
             generator shares the machine with what it measures. Medians of {} rounds of {} s in which the sides took turns. \
             All acknowledged events were stored, once. Peak memory of the server: {memory_peak_mib:.0} MiB.",
            settings.connections, settings.batch, settings.rounds, settings.seconds
        ),
        command: command_line(),
        machine,
        settings: serde_json::to_value(settings)?,
        raw: raw
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?,
        table: Table {
            columns: vec![
                "",
                "events/s",
                "server CPU µs/event",
                "p50 µs/request",
                "p99 µs/request",
            ],
            rows,
        },
        summary: summary.into(),
    })
}
