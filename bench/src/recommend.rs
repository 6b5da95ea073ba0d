//! Latency of recommendations at a fixed rate out of a large catalogue, with a filter, features and reasons, and how soon an event
//! changes the next list.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{Route, ask};
use crate::events::mix;
use crate::latency::{Latencies, median};
use crate::load::open;
use crate::machine::Machine;
use crate::predict::{must_be_whole, on_project};
use crate::report::{Report, Table, command_line, grouped};
use crate::server::Server;

const MODEL: &str = "for_you";

/// The project under test: what people took, of items with prices, in the shape of gowalla.
const PROJECT: &str = r#"[project]
name = "bench"

[items]
id         = "properties.item"
attributes = { price = "float?", kind = "string?" }

[sources.history]
map = { user_id = "user", timestamp = "at", name = "event", "properties.item" = "item" }

[[features.user]]
name      = "taken"
aggregate = "count"
event     = "Taken"
windows   = ["7d", "90d"]

[models.for_you]
kind     = "recommend"
signals  = { Taken = 1.0 }
filter   = "item.price < 90 AND coalesce(user.taken_7d, 0) < 100000"
repeat   = false
training = { budget = 0.1 }
"#;

/// Items of a place that people have in common.
const OF_A_PLACE: u64 = 200;
/// Items that are sent together.
const SENT_TOGETHER: u64 = 1_000;

/// How it is measured.
#[derive(Debug, Clone, Args, Serialize)]
pub(crate) struct Settings {
    /// Items of the catalogue.
    #[arg(long, default_value_t = 1_000_000)]
    items: u64,
    /// People with a history.
    #[arg(long, default_value_t = 1_000_000)]
    people: u64,
    /// What they took, all together.
    #[arg(long, default_value_t = 10_000_000)]
    signals: u64,
    /// How often it is measured.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How long each time, in seconds.
    #[arg(long, default_value_t = 15.0)]
    seconds: f64,
    /// Lists a second.
    #[arg(long, default_value_t = 500.0)]
    rate: f64,
    /// Connections that they are spread over.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Events of which it is measured how soon they change a list.
    #[arg(long, default_value_t = 200)]
    probes: u32,
    /// Whether a ranker orders the best candidates, whatever it is worth on such data; otherwise there is none.
    #[arg(long)]
    ranker: bool,
}

/// Runs it.
///
/// # Errors
/// When the server does not start, the training fails, or a request is not answered with 2xx.
pub(crate) fn measure(binary: &Path, settings: &Settings) -> anyhow::Result<Report> {
    let project = format!("{PROJECT}ranker   = {}\n", settings.ranker);
    let mut server = Server::prepare(binary, "bench", &project)?;
    let machine = Machine::here(server.folder())?;
    let seconds = import_history(&server, settings)?;
    eprintln!("{} signals imported in {seconds:.0} s", settings.signals);
    server.start()?;
    let [read, write, admin] = [
        server.key("read")?,
        server.key("write")?,
        server.key("admin")?,
    ];
    send_items(&server, &admin, settings)?;
    let began = Instant::now();
    server.run(&on_project(&server, &["train", MODEL]))?;
    let training_seconds = began.elapsed().as_secs_f64();
    let models = server.run(&on_project(&server, &["models", MODEL, "--json"]))?;
    let models: Value = serde_json::from_str(&models).context("read the models")?;
    ensure!(
        models["model"]["champion"].is_u64(),
        "no version answers: {models:#}"
    );
    let resident = server.running()?.memory_peak_mib()?;
    eprintln!("trained in {training_seconds:.1} s, {resident:.0} MiB at most");

    let route = Route::new(
        "POST",
        &format!("/v1/recommend/{MODEL}"),
        server.running()?.address,
        &read,
    );
    let mut raw = Vec::new();
    for round in 0..=settings.rounds {
        let outcome = open(
            server.running()?.address,
            &route,
            settings.connections,
            settings.rate,
            Duration::from_secs_f64(settings.seconds),
            None,
            |number, body| {
                body.clear();
                let person = mix(number ^ u64::from(round) << 40) % settings.people;
                // a buffer takes whatever is written
                let _ = write!(body, "{{\"user\":\"u{person}\",\"reasons\":true}}");
            },
        );
        must_be_whole(&outcome, "lists")?;
        let latency = Latencies::of(outcome.latencies).context("nothing was asked")?;
        eprintln!(
            "round {round}: p50 {} µs, p99 {} µs",
            grouped(latency.p50_us as f64),
            grouped(latency.p99_us as f64)
        );
        raw.push(json!({ "round": round, "latency": latency }));
    }
    let fresh = fresh(&server, (&read, &write), settings)?;
    report(machine, settings, &raw, training_seconds, seconds, &fresh)
}

/// Writes what people took, ending yesterday, in the order of time, and imports it; how long that took.
fn import_history(server: &Server, settings: &Settings) -> anyhow::Result<f64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let end = i64::try_from(now.as_secs())? - 24 * 3_600;
    let begin = end - 180 * 24 * 3_600;
    let path = server.folder().join("history.csv");
    let mut file = BufWriter::new(std::fs::File::create(&path)?);
    writeln!(file, "user,at,event,item")?;
    for number in 0..settings.signals {
        let second = begin + i64::try_from(number * 180 * 24 * 3_600 / settings.signals)?;
        let at = chrono::DateTime::from_timestamp(second, 0)
            .context("a time outside the calendar")?
            .format("%Y-%m-%dT%H:%M:%SZ");
        let person = few_do_much(mix(number), settings.people);
        writeln!(
            file,
            "u{person},{at},Taken,i{}",
            item(number, person, settings.items)
        )?;
    }
    file.into_inner()?.sync_all()?;
    let began = Instant::now();
    let path = path.to_string_lossy().into_owned();
    server.run(&on_project(
        server,
        &["import", &path, "--source", "history"],
    ))?;
    std::fs::remove_file(path)?;
    Ok(began.elapsed().as_secs_f64())
}

/// A number below `bound`, small ones more often: its distribution is that of `bound · u²`.
fn few_do_much(random: u64, bound: u64) -> u64 {
    let share = (random >> 11) as f64 / (1_u64 << 53) as f64;
    ((share * share * bound as f64) as u64).min(bound - 1)
}

/// What a person takes: mostly of one of their three places, the popular things of it more; now and then anything.
fn item(number: u64, person: u64, items: u64) -> u64 {
    let random = mix(number ^ 0x5eed);
    if random.is_multiple_of(10) {
        return few_do_much(mix(random), items);
    }
    let places = items.div_ceil(OF_A_PLACE);
    let place = mix(person * 3 + random % 3) % places;
    (place * OF_A_PLACE + few_do_much(mix(random ^ 1), OF_A_PLACE)).min(items - 1)
}

/// Sends the items with their attributes.
fn send_items(server: &Server, key: &str, settings: &Settings) -> anyhow::Result<()> {
    let address = server.running()?.address;
    for first in (0..settings.items).step_by(SENT_TOGETHER as usize) {
        let last = (first + SENT_TOGETHER).min(settings.items);
        let items: Vec<Value> = (first..last)
            .map(|item| {
                json!({ "id": format!("i{item}"), "attributes": {
                    "price": mix(item) % 100, "kind": format!("k{}", item / OF_A_PLACE)
                }})
            })
            .collect();
        let body = serde_json::to_vec(&json!({ "items": items }))?;
        ask(address, "PUT", "/v1/items", key, &body)?;
    }
    Ok(())
}

/// How long after an event was acknowledged the list of its person was another one: each person has done nothing before.
fn fresh(
    server: &Server,
    (read, write): (&str, &str),
    settings: &Settings,
) -> anyhow::Result<Latencies> {
    let address = server.running()?.address;
    let list = |person: &str| -> anyhow::Result<Value> {
        let body = serde_json::to_vec(&json!({ "user": person }))?;
        let mut list = ask(
            address,
            "POST",
            &format!("/v1/recommend/{MODEL}"),
            read,
            &body,
        )?;
        Ok(list["items"].take())
    };
    let mut latencies = Vec::new();
    for probe in 0..settings.probes {
        let person = format!("new-{probe}");
        // what is taken is not shown again
        let before = list(&person)?;
        let item = before[0]["item"].as_str().context("an empty list")?;
        let body = json!({ "userId": person, "event": "Taken", "properties": { "item": item } });
        let body = serde_json::to_vec(&body)?;
        let began = Instant::now();
        ask(address, "POST", "/v1/track", write, &body)?;
        while list(&person)? == before {
            ensure!(
                began.elapsed() < Duration::from_secs(10),
                "the list of {person} stays the same"
            );
        }
        latencies.push(began.elapsed());
    }
    Latencies::of(latencies).context("nothing was probed")
}

fn report(
    machine: Machine,
    settings: &Settings,
    raw: &[Value],
    training_seconds: f64,
    import_seconds: f64,
    fresh: &Latencies,
) -> anyhow::Result<Report> {
    let of = |field: &str| {
        let measured = raw.iter().skip(1); // the first is the warm-up
        median(measured.map(|one| one["latency"][field].as_f64().unwrap_or(f64::NAN)))
    };
    let columns = ["p50_us", "p99_us", "p999_us", "max_us"];
    let lists: Vec<String> = columns.iter().map(|field| grouped(of(field))).collect();
    let probes = [fresh.p50_us, fresh.p99_us, fresh.p999_us, fresh.max_us];
    let probes: Vec<String> = probes
        .iter()
        .map(|micros| grouped(*micros as f64))
        .collect();
    let row = |name: &str, values: Vec<String>| [vec![name.to_owned()], values].concat();
    Ok(Report {
        name: match settings.ranker {
            true => "recommend-latency-ranker",
            false => "recommend-latency",
        },
        about: format!(
            "Latency of `POST /v1/recommend/{MODEL}` at {} requests a second over {} connections, each counted from when it was due, in \
             microseconds: {} items, {} people, {} signals (seeded, in the shape of gowalla: few people do much, places that people have in \
             common, popular items), ten items with a filter over item and person, and reasons; nothing is computed ahead. Below: from sending \
             an event of somebody new until their list is another one. Imported in {import_seconds:.0} s, trained in {training_seconds:.0} s \
             (`budget = 0.1`, {} ranker). Medians of {} rounds of {} s; no request failed. The generator shares the machine with what it measures.",
            settings.rate,
            settings.connections,
            grouped(settings.items as f64),
            grouped(settings.people as f64),
            grouped(settings.signals as f64),
            if settings.ranker { "with a" } else { "no" },
            settings.rounds,
            settings.seconds,
        ),
        command: command_line(),
        machine,
        settings: serde_json::to_value(settings)?,
        raw: raw.to_vec(),
        table: Table {
            columns: vec!["", "p50", "p99", "p99.9", "max"],
            rows: vec![
                row("a list", lists),
                row("an event in the next list", probes),
            ],
        },
        summary: json!({
            "p50_us": of("p50_us"), "p99_us": of("p99_us"), "fresh": fresh,
            "training_seconds": training_seconds, "import_seconds": import_seconds,
        }),
    })
}
