//! How fast events land in the lake and are read back.
//!
//! `cargo run --release -p tidemill-store --example lake_throughput -- [folder] [landings] [events per landing]`

use std::path::PathBuf;

use futures::TryStreamExt;
use tidemill_core::Offset;
use tidemill_core::clock::{Clock, SystemClock};
use tidemill_store::conformance::samples::{self, project};
use tidemill_store::delta::{DeltaLake, DeltaOptions};
use tidemill_store::{DataFolder, Lake, LoggedEvent};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().map_or_else(
        || std::env::temp_dir().join("lake_throughput"),
        PathBuf::from,
    );
    let mut number = |default: u64| {
        arguments
            .next()
            .map_or(default, |text| text.parse().expect("a number"))
    };
    let (landings, size) = (number(60), number(10_000));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let clock = SystemClock;
    runtime.block_on(async {
        let lake = DeltaLake::open(
            &DataFolder::open(folder).expect("the folder"),
            &DeltaOptions::default(),
        );
        let shop = project("shop");
        let first = lake.events_snapshot(&shop).await.expect("snapshot").last.0;
        let mut latencies = Vec::new();
        for landing in 0..landings {
            let from = first + landing * size + 1;
            let events: Vec<LoggedEvent> = (from..from + size)
                .map(|place| LoggedEvent {
                    offset: Offset(place),
                    event: samples::event(place),
                })
                .collect();
            let began = clock.now();
            lake.land_events(&shop, &events).await.expect("land");
            latencies.push(clock.now().since(began).seconds() * 1e3);
        }
        latencies.sort_by(f64::total_cmp);
        println!(
            "{landings} landings of {size} events: p50 {:.1} ms, slowest {:.1} ms",
            latencies[latencies.len() / 2],
            latencies[latencies.len() - 1]
        );
        let read = async || {
            let began = clock.now();
            let snapshot = lake.events_snapshot(&shop).await.expect("snapshot");
            let mut chunks = lake.read_events(&shop, snapshot).await.expect("read");
            let mut events = 0;
            while let Some(chunk) = chunks.try_next().await.expect("read") {
                events += chunk.len();
            }
            let seconds = clock.now().since(began).seconds();
            println!(
                "read {events} events in {seconds:.2} s, {:.0} events/s",
                events as f64 / seconds
            );
        };
        read().await;
        let began = clock.now();
        let done = lake.compact(&shop).await.expect("compact");
        println!("{done:?} in {:.2} s", clock.now().since(began).seconds());
        read().await;
    });
}
