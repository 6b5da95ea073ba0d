//! How fast features are kept up, read and made into datasets, on a synthetic log.
//!
//! `cargo run --release -p tidemill-features --example feature_throughput -- [events] [persons]`

use std::sync::Arc;

use serde_json::json;
use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::{Event, Offset, Project, Timestamp};
use tidemill_features::dataset::{DatasetRequest, ReplayOptions, replay};
use tidemill_features::{Engine, EngineOptions, FeatureSet};
use tidemill_store::LoggedEvent;
use tidemill_store::memory::{MemoryEvents, MemoryState};

const TOTAL: &str = "value = \"properties.total\"\n";
/// What is summed up in a few bytes.
const PLAIN: [(&str, &str); 3] = [("count", ""), ("sum", TOTAL), ("mean", TOTAL)];
/// What keeps values or sketches of them.
const RICH: [(&str, &str); 7] = [
    ("stddev", TOTAL),
    ("quantile", TOTAL),
    (
        "first",
        "type = \"category\"\nvalue = \"properties.product\"\n",
    ),
    ("since_first", ""),
    ("distinct", "value = \"properties.product\"\n"),
    ("top", "k = 3\nvalue = \"properties.product\"\n"),
    (
        "recent",
        "k = 5\ntype = \"category\"\nvalue = \"properties.product\"\n",
    ),
];

/// `features` aggregates over four windows each, and three models.
fn project(features: usize, operations: &[(&str, &str)]) -> Project {
    let mut text = "[project]\nname = \"throughput\"\n".to_owned();
    for n in 0..features {
        let (aggregate, value) = operations[n % operations.len()];
        let event = ["\"Order Completed\"", "\"Product Viewed\"", "\"*\""][n / 3 % 3];
        text += &format!(
            "[[features.user]]\nname = \"f{n}\"\naggregate = \"{aggregate}\"\nevent = {event}\n{value}windows = [\"1d\", \"7d\", \"30d\", \"90d\"]\n"
        );
    }
    text += "[[features.user]]\nname = \"share\"\nexpression = \"f0_30d / (f3_30d + 1.0)\"\n";
    for (name, target) in [
        ("again", "{ event = \"Order Completed\", within = \"30d\" }"),
        ("gone", "{ no_event = \"*\", within = \"30d\" }"),
        (
            "value",
            "{ sum = \"Order Completed.properties.total\", within = \"60d\" }",
        ),
    ] {
        text += &format!(
            "[models.{name}]\nkind = \"predict\"\nentity = \"user\"\nobserve = {{ event = \"Order Completed\" }}\ntarget = {target}\n"
        );
    }
    Project::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// A year of events; a fifth of them are orders.
fn events(count: u64, persons: u64) -> Vec<LoggedEvent> {
    let step = 365 * 86_400_000_000 / count.max(1) as i64;
    let make = |n: u64| {
        let mix = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let time = Timestamp::from_micros(1_300_000_000_000_000 + step * n as i64);
        let event: Event = serde_json::from_value(json!({
            "message_id": format!("m{n}"), "kind": "track",
            "name": if mix.is_multiple_of(5) { "Order Completed" } else { "Product Viewed" },
            "user_id": format!("u{}", (mix / 7) % persons), "timestamp": time, "received_at": time,
            "properties": { "total": (mix % 10_000) as f64 / 100.0, "product": format!("p{}", mix % 3_000), "country": "DE" }
        }))
        .unwrap_or_else(|error| panic!("{error}"));
        LoggedEvent {
            offset: Offset(n),
            event,
        }
    };
    (1..=count).map(make).collect()
}

fn engine(project: &Project, timeline_events: usize) -> Engine {
    let set =
        FeatureSet::compile(project, &project.features).unwrap_or_else(|error| panic!("{error}"));
    let options = EngineOptions {
        timeline_events,
        ..EngineOptions::default()
    };
    Engine::open(project, set, Arc::new(MemoryState::default()), options)
        .unwrap_or_else(|error| panic!("{error}"))
}

fn apply(engine: &Engine, events: &[LoggedEvent]) -> f64 {
    let watch = Stopwatch::start();
    for batch in events.chunks(10_000) {
        engine
            .apply(batch)
            .and_then(|()| engine.commit())
            .unwrap_or_else(|error| panic!("{error}"));
    }
    events.len() as f64 / watch.seconds()
}

fn reads(engine: &Engine, persons: u64) {
    let mut times: Vec<u64> = (0..20_000u64)
        .map(|n| {
            let person = PersonKey::user(&format!("u{}", n * 7_919 % persons));
            let watch = Stopwatch::start();
            let row = engine
                .read_all(&person, Timestamp::EPOCH)
                .unwrap_or_else(|error| panic!("{error}"));
            let micros = watch.micros();
            assert_eq!(row.values.len(), engine.set().columns().len());
            micros
        })
        .collect();
    times.sort_unstable();
    let of = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "  read of {} features: p50 {} µs, p99 {} µs",
        engine.set().columns().len(),
        of(0.5),
        of(0.99)
    );
}

fn main() {
    let number = |place: usize, default: u64| {
        std::env::args()
            .nth(place)
            .and_then(|text| text.parse().ok())
            .unwrap_or(default)
    };
    let (count, persons) = (number(1, 600_000), number(2, 5_000));
    let log = events(count, persons);
    let runtime = tokio::runtime::Runtime::new().unwrap_or_else(|error| panic!("{error}"));
    for (features, operations) in [(5, &PLAIN[..]), (20, &PLAIN), (62, &PLAIN), (20, &RICH)] {
        let project = project(features, operations);
        let names: Vec<&str> = operations.iter().map(|(name, _)| *name).collect();
        println!(
            "{count} events, {persons} persons, {features} aggregates × 4 windows: {}",
            names.join(", ")
        );
        for timeline_events in [0, 200] {
            let engine = engine(&project, timeline_events);
            println!(
                "  apply and commit, timeline of {timeline_events}: {:.0} events/s",
                apply(&engine, &log)
            );
            reads(&engine, persons);
            let costs = engine
                .state_costs(persons as usize)
                .unwrap_or_else(|error| panic!("{error}"));
            println!(
                "  state of the median person: {:.0} bytes",
                costs.person_bytes.unwrap_or_default()
            );
        }
        let set = FeatureSet::compile(&project, &project.features)
            .unwrap_or_else(|error| panic!("{error}"));
        let requests: Vec<DatasetRequest<'_>> = project
            .models
            .values()
            .map(|model| {
                let features = set.select(model).unwrap_or_else(|error| panic!("{error}"));
                DatasetRequest {
                    model,
                    features,
                    from: None,
                }
            })
            .collect();
        let known_until = log
            .last()
            .map_or(Timestamp::EPOCH, |logged| logged.event.received_at);
        let table = Arc::new(MemoryEvents::new(&log).unwrap_or_else(|error| panic!("{error}")));
        let watch = Stopwatch::start();
        let options = ReplayOptions::default();
        let replayed = runtime
            .block_on(replay(&set, &requests, table, known_until, &options))
            .unwrap_or_else(|error| panic!("{error}"));
        let read = watch.seconds();
        let datasets = replayed
            .datasets()
            .unwrap_or_else(|error| panic!("{error}"));
        let rows: Vec<usize> = datasets
            .iter()
            .map(tidemill_features::dataset::Dataset::rows)
            .collect();
        println!(
            "  datasets of 3 models with {rows:?} rows: {:.2} s, of which {read:.2} s for reading them\n{}",
            watch.seconds(),
            replayed.explained
        );
    }
}
