//! How fast calls are parsed, and how fast a CSV file becomes events in the embedded log.
//!
//! `cargo run --release -p tidemill-collect --example throughput -- [rows]`

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use tidemill_collect::import::{self, ImportOptions};
use tidemill_collect::{Call, Intake, Limits, segment};
use tidemill_core::clock::{Stopwatch, SystemClock};
use tidemill_core::{Clock, Project};
use tidemill_store::DataFolder;
use tidemill_store::fjall_store::{FjallOptions, FjallStore};

const BATCH_EVENTS: usize = 1_000;
const BATCHES: usize = 300;
const ROWS_DEFAULT: usize = 500_000;

fn main() -> Result<(), Box<dyn Error>> {
    let rows = match std::env::args().nth(1) {
        Some(text) => text.parse()?,
        None => ROWS_DEFAULT,
    };
    let project = Project::parse(
        "[project]\nname = 'shop'\n[events.'Order Completed']\nproperties = { total = 'float >= 0' }\n\
         [sources.history]\nevent = 'Order Completed'\n\
         map = { timestamp = 'when', user_id = 'who', 'properties.item' = 'item', 'properties.total' = 'total' }",
    )?;
    parse(&project)?;
    for (name, sorted) in [("sorted", true), ("unsorted", false)] {
        import(&project, name, rows, sorted)?;
    }
    Ok(())
}

/// Parses the same batch again and again on one thread.
fn parse(project: &Project) -> Result<(), Box<dyn Error>> {
    let now = SystemClock.now();
    let mut body = String::from("{\"batch\":[");
    for n in 0..BATCH_EVENTS {
        let comma = if n == 0 { "" } else { "," };
        write!(
            body,
            "{comma}{{\"type\":\"track\",\"event\":\"Order Completed\",\"userId\":\"user-{n}\",\"messageId\":\"node-next-{n}\",\
             \"timestamp\":\"{now}\",\"properties\":{{\"total\":{n}.25,\"item\":\"i{n}\",\"quantity\":3,\"currency\":\"EUR\"}},\
             \"context\":{{\"library\":{{\"name\":\"@segment/analytics-node\",\"version\":\"2.1.0\"}}}},\"integrations\":{{}}}}"
        )?;
    }
    write!(body, "],\"sentAt\":\"{now}\"}}")?;
    let limits = Limits::default();
    let stopwatch = Stopwatch::start();
    let mut events = 0;
    for _ in 0..BATCHES {
        events += segment::parse_request(Call::Batch, body.as_bytes(), now, &limits, project)?
            .events
            .len();
    }
    let seconds = stopwatch.seconds();
    println!(
        "parse: {events} events of {} bytes in {seconds:.2} s, {:.0} events/s on one core",
        body.len() / BATCH_EVENTS,
        events as f64 / seconds
    );
    Ok(())
}

/// Imports a file that is made for it into a log on the disk.
fn import(project: &Project, name: &str, rows: usize, sorted: bool) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("history.csv");
    let mut file = std::io::BufWriter::new(std::fs::File::create(&path)?);
    writeln!(file, "when,who,item,total,note")?;
    for n in 0..rows {
        // 7919 is a prime that does not divide the number of rows, so every second occurs once
        let at = 1_300_000_000 + if sorted { n } else { n * 7_919 % rows };
        writeln!(
            file,
            "{at},{},item {},{}.5,a note that goes nowhere",
            n % 5_000,
            n % 3_000,
            n % 97
        )?;
    }
    file.flush()?;
    let store = FjallStore::open(
        &DataFolder::open(folder.path().join("data"))?,
        &FjallOptions::default(),
    )?;
    let intake = Intake::new(
        Arc::new(store.log),
        Arc::new(SystemClock),
        Limits::default(),
    );
    let source = project
        .sources
        .get("history")
        .ok_or("the source is declared above")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()?;
    let options = ImportOptions {
        memory_bytes_max: 32 << 20,
        ..ImportOptions::default()
    };
    let stopwatch = Stopwatch::start();
    let report = runtime.block_on(import::run(
        &intake,
        &store.state,
        project,
        "history",
        source,
        &[path],
        &options,
        &mut |_| {},
    ))?;
    let seconds = stopwatch.seconds();
    println!(
        "import, {name}: {} of {rows} rows in {seconds:.2} s, {:.0} rows/s to the disk",
        report.accepted,
        rows as f64 / seconds
    );
    Ok(())
}
