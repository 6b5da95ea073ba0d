//! Events and projects for the tests of this crate.

use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_core::{Event, FeatureTable, Offset, Project, Timestamp};
use tidemill_features::dataset::{
    Dataset, DatasetRequest, ReplayOptions, Served, read_again, replay,
};
use tidemill_features::{FeatureSet, ModelFeatures};
use tidemill_store::LoggedEvent;
use tidemill_store::memory::{MemoryEvents, MemoryState};

pub(crate) fn store() -> Arc<MemoryState> {
    Arc::new(MemoryState::default())
}

pub(crate) fn project(text: &str) -> Project {
    Project::parse(text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) const START: i64 = 1_300_000_000_000_000;

/// The instant that many seconds after the beginning of the tests' time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(START + seconds * 1_000_000)
}

/// An event received when it happened, by fields that replace these.
pub(crate) fn event(offset: u64, seconds: i64, fields: Value) -> LoggedEvent {
    let mut json = json!({
        "message_id": format!("m{offset}"), "kind": "track", "name": "Open", "timestamp": at(seconds), "received_at": at(seconds),
    });
    let (Value::Object(all), Value::Object(fields)) = (&mut json, fields) else {
        panic!("fields are an object")
    };
    all.extend(fields);
    let event: Event = serde_json::from_value(json).unwrap();
    LoggedEvent {
        offset: Offset(offset),
        event,
    }
}

/// The datasets that are made of events, with that much parallelism and memory.
pub(crate) fn built(
    set: &FeatureSet,
    requests: &[DatasetRequest<'_>],
    events: &[LoggedEvent],
    known_until: Timestamp,
    partitions: usize,
    memory_bytes_max: usize,
) -> Vec<Dataset> {
    let options = options(partitions, memory_bytes_max);
    let events = Arc::new(MemoryEvents::new(events).unwrap());
    let replayed = runtime().block_on(replay(set, requests, events, known_until, &options));
    replayed.unwrap().datasets().unwrap()
}

/// What was served, read again.
pub(crate) fn again(
    features: &ModelFeatures,
    served: &[Served],
    events: &[LoggedEvent],
    partitions: usize,
    memory_bytes_max: usize,
) -> FeatureTable {
    let options = options(partitions, memory_bytes_max);
    let events = Arc::new(MemoryEvents::new(events).unwrap());
    let table = runtime().block_on(read_again(features, served, events, &options));
    table.unwrap()
}

fn options(partitions: usize, memory_bytes_max: usize) -> ReplayOptions {
    ReplayOptions {
        partitions,
        memory_bytes_max,
        spill_folder: None,
    }
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap()
}
