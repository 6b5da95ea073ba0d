//! Latency of predictions at a fixed rate, each counted from when it was due: idle, and while events stream in and a
//! model is trained.

use std::io::BufWriter;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Value, json};
use thread_priority::ThreadPriority;

use crate::client::{self, Route};
use crate::events::{Events, USERS, mix, write_history};
use crate::latency::{Latencies, median};
use crate::load::{Outcome, open};
use crate::machine::Machine;
use crate::process::Running;
use crate::report::{Report, Table, command_line, grouped};
use crate::server::Server;

/// The model that is asked.
const MODEL: &str = "will_buy";

/// The project under test: one question about people, on 22 features, which stay the same whatever streams in.
const PROJECT: &str = r#"[project]
name = "bench"
currency = "EUR"

[sources.history]
map = { user_id = "user", timestamp = "at", name = "event", "properties.total" = "total" }

[[features.user]]
name      = "views"
aggregate = "count"
event     = "Product Viewed"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "orders"
aggregate = "count"
event     = "Order Completed"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "spent"
aggregate = "sum"
event     = "Order Completed"
value     = "properties.total"
windows   = ["1d", "7d", "30d", "90d"]

[[features.user]]
name      = "basket"
aggregate = "mean"
event     = "Order Completed"
value     = "properties.total"
windows   = ["7d", "30d", "90d"]

[[features.user]]
name      = "spread"
aggregate = "stddev"
event     = "Order Completed"
value     = "properties.total"
windows   = ["30d", "90d"]

[[features.user]]
name      = "since_order"
aggregate = "since_last"
event     = "Order Completed"

[[features.user]]
name      = "since_view"
aggregate = "since_last"
event     = "Product Viewed"

[[features.user]]
name      = "pace"
aggregate = "decayed"
half_life = "14d"

[[features.session]]
name      = "views"
aggregate = "count"
event     = "Product Viewed"

[[features.global]]
name      = "orders"
aggregate = "count"
event     = "Order Completed"
windows   = ["1d"]

[models.will_buy]
kind    = "predict"
entity  = "user"
observe = { every = "7d", active_within = "30d" }
target  = { event = "Order Completed", within = "7d" }
"#;

/// Events in a batch of the stream.
const STREAM_BATCH: u64 = 100;

/// Connections of the stream.
const STREAM_CONNECTIONS: usize = 4;

/// How it is measured.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    /// How often the phases take turns.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each phase lasts, in seconds.
    #[arg(long, default_value_t = 20.0)]
    seconds: f64,
    /// Predictions a second.
    #[arg(long, default_value_t = 1_000.0)]
    rate: f64,
    /// Connections that they are spread over.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Events a second that stream in during the busy phase.
    #[arg(long, default_value_t = 1_000.0)]
    stream: f64,
    /// Days of history that are imported before.
    #[arg(long, default_value_t = 120)]
    days: i64,
    /// What is measured, each in its turn; all, if not given.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Phase::ALL)]
    phases: Vec<Phase>,
}

/// What happens while predictions are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
enum Phase {
    /// The bare axum handler, with nothing beside it: what the machine and the generator add.
    Peer,
    /// The server, with nothing beside it.
    Idle,
    /// The server, while one thread of the lowest priority does nothing but count: what the system's scheduler adds.
    Counting,
    /// The server, while a model is trained, again and again.
    Training,
    /// The server, while that goes on and events stream in.
    Busy,
    /// The server, while a backup is written, again and again.
    Backup,
}

/// One phase of one round.
#[derive(Debug, Serialize)]
struct Measured {
    phase: Phase,
    /// 0 is the warm-up.
    round: u32,
    latency: Latencies,
    /// Events that were acknowledged beside it.
    streamed_events: u64,
    /// Trainings that ended beside it, and one more that was under way.
    trainings: u64,
    /// Backups that were written beside it, the last one to its end.
    backups: u64,
    /// The server's processor time in the phase, in seconds.
    processor_seconds: f64,
}

/// Runs it.
///
/// # Errors
/// When a server does not start, the training fails, or a request is not answered with 2xx.
pub(crate) fn measure(binary: &Path, settings: &Settings) -> anyhow::Result<Report> {
    let mut server = Server::prepare(binary, "bench", PROJECT)?;
    let machine = Machine::here(server.folder())?;
    let events = import_history(&server, settings)?;
    server.start()?;
    let keys = Keys {
        read: server.key("read")?,
        write: server.key("write")?,
        admin: server.key("admin")?,
    };
    let trained = Instant::now();
    server.run(&on_project(&server, &["train", MODEL]))?;
    let training_seconds = trained.elapsed().as_secs_f64();
    eprintln!("{events} events imported, trained in {training_seconds:.1} s");
    if !has_champion(&server)? {
        // the people of the history are too simple for trees to be worth it; what is measured is how fast a version answers
        let version = format!("{MODEL}@1");
        let arguments = ["promote", &version, "--override-gate", "--reason"];
        let arguments = [&arguments[..], &["a benchmark of the answers of a version"]].concat();
        server.run(&on_project(&server, &arguments))?;
        ensure!(has_champion(&server)?, "no version answers");
    }
    let mut peer = Command::new(std::env::current_exe()?);
    peer.arg("peer");
    let peer = Running::start(peer)?;

    let mut raw = Vec::new();
    for round in 0..=settings.rounds {
        for &phase in &settings.phases {
            let measured = once(&server, &peer, &keys, phase, round, settings)?;
            eprintln!(
                "round {round}: {:8} p50 {:>7} µs, p99 {:>7} µs, p99.9 {:>7} µs",
                phase.name(),
                grouped(measured.latency.p50_us as f64),
                grouped(measured.latency.p99_us as f64),
                grouped(measured.latency.p999_us as f64)
            );
            raw.push(measured);
        }
    }
    let peak = server.running()?.memory_peak_mib()?;
    let consistency = consistency(&server)?;
    report(
        machine,
        settings,
        &raw,
        training_seconds,
        peak,
        &consistency,
    )
}

/// Every answer that was given, read again offline: what the server reports.
fn consistency(server: &Server) -> anyhow::Result<Value> {
    let arguments = ["features", "check", "--share", "1", "--json"];
    let report = server.run(&on_project(server, &arguments))?;
    let report: Value = serde_json::from_str(&report).context("read the report")?;
    ensure!(
        report["mismatches"] == 0 && report["answers"].as_u64() > Some(0),
        "what was served is not what a training would see: {report:#}"
    );
    Ok(report)
}

/// Whether a version answers, and not a fallback.
fn has_champion(server: &Server) -> anyhow::Result<bool> {
    let models = server.run(&on_project(server, &["models", MODEL, "--json"]))?;
    let models: Value = serde_json::from_str(&models).context("read the models")?;
    Ok(models["model"]["champion"].is_u64())
}

/// The arguments of a command about the project under test.
pub(crate) fn on_project(server: &Server, arguments: &[&str]) -> Vec<String> {
    let of = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
    let place = [
        "--project".to_owned(),
        of(server.project_file()),
        "--data".to_owned(),
        of(server.data()),
    ];
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    arguments.chain(place).collect()
}

struct Keys {
    read: String,
    write: String,
    admin: String,
}

impl Phase {
    /// All of them, in the order in which they take turns.
    const ALL: [Self; 6] = [
        Self::Peer,
        Self::Idle,
        Self::Counting,
        Self::Training,
        Self::Busy,
        Self::Backup,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Peer => "peer",
            Self::Idle => "idle",
            Self::Counting => "counting",
            Self::Training => "training",
            Self::Busy => "busy",
            Self::Backup => "backup",
        }
    }

    fn described(self) -> &'static str {
        match self {
            Self::Peer => "bare axum, nothing beside it",
            Self::Idle => "tidemill, nothing beside it",
            Self::Counting => "tidemill, an idle-priority loop that counts beside it",
            Self::Training => "tidemill, a model in training",
            Self::Busy => "tidemill, a model in training and events streaming in",
            Self::Backup => "tidemill, a backup being written",
        }
    }
}

/// Writes a history that ends yesterday and imports it, before the server starts.
fn import_history(server: &Server, settings: &Settings) -> anyhow::Result<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let end = i64::try_from(now.as_secs())? - 24 * 3_600;
    let path = server.folder().join("history.csv");
    let mut file = BufWriter::new(std::fs::File::create(&path)?);
    let count = write_history(&mut file, end, settings.days)?;
    file.into_inner()?.sync_all()?;
    server.run(&[
        "import",
        &path.to_string_lossy(),
        "--project",
        &server.project_file().to_string_lossy(),
        "--data",
        &server.data().to_string_lossy(),
        "--source",
        "history",
    ])?;
    Ok(count)
}

fn once(
    server: &Server,
    peer: &Running,
    keys: &Keys,
    phase: Phase,
    round: u32,
    settings: &Settings,
) -> anyhow::Result<Measured> {
    let (running, key) = match phase {
        Phase::Peer => (peer, ""),
        _ => (server.running()?, keys.read.as_str()),
    };
    let before = running.processor_seconds()?;
    let ended = AtomicBool::new(false);
    let (outcome, streamed, trainings, backups) = std::thread::scope(|scope| {
        let streaming = (phase == Phase::Busy)
            .then(|| scope.spawn(|| stream(running.address, &keys.write, round, settings, &ended)));
        let training = matches!(phase, Phase::Training | Phase::Busy)
            .then(|| scope.spawn(|| train_until(running.address, &keys.admin, &ended)));
        let backing_up =
            (phase == Phase::Backup).then(|| scope.spawn(|| back_up_until(server, &ended)));
        let counting = (phase == Phase::Counting).then(|| scope.spawn(|| count_until(&ended)));
        let outcome = ask(running.address, key, settings);
        ended.store(true, Ordering::Relaxed);
        let streamed = match streaming {
            Some(streaming) => {
                let streamed = streaming.join().expect("the stream does not panic");
                must_be_whole(&streamed, "the stream")?;
                streamed.answered * STREAM_BATCH
            }
            None => 0,
        };
        let backups = match backing_up {
            Some(backing_up) => backing_up.join().expect("the backup does not panic")?,
            None => 0,
        };
        if let Some(counting) = counting {
            counting.join().expect("counting does not panic")?;
        }
        let trainings = match training {
            Some(training) => training.join().expect("the training does not panic")?,
            None => 0,
        };
        anyhow::Ok((outcome, streamed, trainings, backups))
    })?;
    must_be_whole(&outcome, phase.name())?;
    Ok(Measured {
        phase,
        round,
        latency: Latencies::of(outcome.latencies).context("nothing was asked")?,
        streamed_events: streamed,
        trainings,
        backups,
        processor_seconds: running.processor_seconds()? - before,
    })
}

pub(crate) fn must_be_whole(outcome: &Outcome, what: &str) -> anyhow::Result<()> {
    ensure!(
        outcome.failed == 0,
        "{what}: {} requests failed, the first with: {}",
        outcome.failed,
        outcome.failure.as_deref().unwrap_or("nothing")
    );
    Ok(())
}

/// Asks about people at the fixed rate.
fn ask(server: SocketAddr, key: &str, settings: &Settings) -> Outcome {
    let route = Route::new("POST", &format!("/v1/predict/{MODEL}"), server, key);
    open(
        server,
        &route,
        settings.connections,
        settings.rate,
        Duration::from_secs_f64(settings.seconds),
        None,
        |number, body| {
            body.clear();
            body.extend_from_slice(b"{\"user\":\"user-");
            body.extend_from_slice((mix(number) % USERS).to_string().as_bytes());
            body.extend_from_slice(b"\"}");
        },
    )
}

/// Streams events in until the phase has ended.
fn stream(
    server: SocketAddr,
    key: &str,
    round: u32,
    settings: &Settings,
    ended: &AtomicBool,
) -> Outcome {
    let route = Route::new("POST", "/v1/batch", server, key);
    let events = Events::new(format!("stream-{round}"));
    open(
        server,
        &route,
        STREAM_CONNECTIONS,
        settings.stream / STREAM_BATCH as f64,
        // the flag ends it; this is its limit
        Duration::from_secs_f64(settings.seconds * 10.0),
        Some(ended),
        |number, body| events.batch(number * STREAM_BATCH, STREAM_BATCH, body),
    )
}

/// Trains again and again until the phase has ended; how often it was begun. Each request is answered when its training has ended: the
/// next phase must not be disturbed by one.
fn train_until(server: SocketAddr, key: &str, ended: &AtomicBool) -> anyhow::Result<u64> {
    let mut begun = 0;
    while !ended.load(Ordering::Relaxed) {
        begun += 1;
        client::ask(
            server,
            "POST",
            &format!("/v1/models/{MODEL}/train?wait=true"),
            key,
            b"{}",
        )?;
    }
    Ok(begun)
}

/// Writes a backup again and again until the phase has ended; how many were written.
fn back_up_until(server: &Server, ended: &AtomicBool) -> anyhow::Result<u64> {
    let folder = server.folder().join("backup");
    let (to, data) = (folder.to_string_lossy(), server.data());
    let mut written = 0;
    while !ended.load(Ordering::Relaxed) {
        server.run(&["backup", &*to, "--data", &*data.to_string_lossy()])?;
        std::fs::remove_dir_all(&folder)?;
        written += 1;
    }
    Ok(written)
}

/// Counts, until the phase has ended, in what nobody else wants of the processors: as much as any work at all disturbs there.
fn count_until(ended: &AtomicBool) -> anyhow::Result<()> {
    take_what_is_left()?;
    let mut counted = 0_u64;
    while !ended.load(Ordering::Relaxed) {
        counted = std::hint::black_box(counted + 1);
    }
    Ok(())
}

/// Leaves the calling thread what nobody else wants, as the threads of training do.
fn take_what_is_left() -> anyhow::Result<()> {
    #[cfg(target_os = "linux")]
    let set = {
        use thread_priority::unix::{
            NormalThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy,
            thread_native_id,
        };
        let policy = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy)
    };
    #[cfg(not(target_os = "linux"))]
    let set = ThreadPriority::Min.set_for_current();
    set.map_err(|error| anyhow!("the priority of a thread cannot be set: {error:?}"))
}

/// Medians over the rounds.
fn report(
    machine: Machine,
    settings: &Settings,
    raw: &[Measured],
    training_seconds: f64,
    memory_peak_mib: f64,
    consistency: &Value,
) -> anyhow::Result<Report> {
    let mut rows = Vec::new();
    let mut summary = serde_json::Map::new();
    for &phase in &settings.phases {
        let of = |field: fn(&Latencies) -> u64| {
            median(
                raw.iter()
                    .filter(|one| one.round > 0 && one.phase == phase)
                    .map(|one| field(&one.latency) as f64),
            )
        };
        let p50 = of(|latency| latency.p50_us);
        let p99 = of(|latency| latency.p99_us);
        let p999 = of(|latency| latency.p999_us);
        let max = of(|latency| latency.max_us);
        rows.push(vec![
            phase.described().to_owned(),
            grouped(p50),
            grouped(p99),
            grouped(p999),
            grouped(max),
        ]);
        summary.insert(
            phase.name().to_owned(),
            json!({ "p50_us": p50, "p99_us": p99, "p999_us": p999, "max_us": max }),
        );
    }
    summary.insert("training_seconds".to_owned(), json!(training_seconds));
    summary.insert("memory_peak_mib".to_owned(), json!(memory_peak_mib));
    summary.insert("consistency".to_owned(), consistency.clone());
    let counted = |of: &str| grouped(consistency[of].as_f64().unwrap_or_default());
    Ok(Report {
        name: "predict",
        about: format!(
            "Latency of `POST /v1/predict/{MODEL}` at {} requests a second over {} connections, each counted from when it was \
             due, in microseconds. Trained is again and again, asked for over HTTP (one training of an idle server takes {training_seconds:.1} s); {} \
             events a second stream in. The generator shares the machine with what it \
             measures. Medians of {} rounds of {} s in which the phases took turns; no request failed. Peak memory of the \
             server: {memory_peak_mib:.0} MiB. {} of the answers were read again offline: of {} values {} differ.",
            settings.rate,
            settings.connections,
            settings.stream,
            settings.rounds,
            settings.seconds,
            counted("answers"),
            counted("values"),
            counted("mismatches")
        ),
        command: command_line(),
        machine,
        settings: serde_json::to_value(settings)?,
        raw: raw
            .iter()
            .map(serde_json::to_value)
            .collect::<Result<_, _>>()?,
        table: Table {
            columns: vec!["", "p50", "p99", "p99.9", "max"],
            rows,
        },
        summary: summary.into(),
    })
}
