//! How many events a second the event log takes, with an fsync before each answer.
//!
//! `cargo run --release -p tidemill-store --example append_throughput -- [folder] [callers] [events per call] [calls]`

use std::path::PathBuf;
use std::sync::Arc;

use tidemill_core::clock::{Clock, SystemClock};
use tidemill_core::{Event, Offset};
use tidemill_store::conformance::samples::{self, project};
use tidemill_store::fjall_store::{FjallLog, FjallOptions};
use tidemill_store::{DataFolder, EventLog};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(
        || std::env::temp_dir().join("append_throughput"),
        PathBuf::from,
    );
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (callers, size, calls) = (number(16), number(100), number(200));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .build()
        .expect("a runtime");
    let log = Arc::new(
        FjallLog::open(
            &DataFolder::open(folder).expect("the folder"),
            &FjallOptions::default(),
        )
        .expect("the log"),
    );
    let first = log.last(&project("shop")).expect("the last offset").0;
    let clock = SystemClock;
    let began = clock.now();
    let mut latencies: Vec<f64> = runtime.block_on(async {
        let tasks: Vec<_> = (0..callers)
            .map(|caller| {
                let log = Arc::clone(&log);
                tokio::spawn(async move {
                    let mut latencies = Vec::new();
                    for call in 0..calls {
                        let from = first + (caller * calls + call) * size;
                        let events: Vec<Event> = (from..from + size)
                            .map(|number| Event {
                                message_id: format!("message-{number:036}"),
                                ..samples::event(number % 100_000)
                            })
                            .collect();
                        let sent = clock.now();
                        log.append(&project("shop"), events, Vec::new())
                            .await
                            .expect("append");
                        latencies.push(clock.now().since(sent).seconds() * 1e3);
                    }
                    latencies
                })
            })
            .collect();
        let mut all = Vec::new();
        for task in tasks {
            all.extend(task.await.expect("a caller"));
        }
        all
    });
    let seconds = clock.now().since(began).seconds();
    latencies.sort_by(f64::total_cmp);
    let quantile = |q: f64| latencies[((latencies.len() - 1) as f64 * q) as usize];
    let events = callers * calls * size;
    println!(
        "{callers} callers × {calls} calls × {size} events: {:.0} events/s, call p50 {:.1} ms, p99 {:.1} ms",
        events as f64 / seconds,
        quantile(0.5),
        quantile(0.99)
    );
    let began = clock.now();
    let (mut after, mut read) = (Offset(first), 0);
    loop {
        let events = log.read(&project("shop"), after, 4_096).expect("read");
        let Some(last) = events.last() else { break };
        read += events.len();
        after = last.offset;
    }
    let seconds = clock.now().since(began).seconds();
    println!(
        "read back: {read} events, {:.0} events/s",
        read as f64 / seconds
    );
}
