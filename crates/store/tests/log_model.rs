//! The event log against a list in memory: any calls, in any order, with restarts between them.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on says so by a panic"
)]

use std::collections::HashMap;

use proptest::prelude::*;
use tidemill_core::{Event, Offset, Timestamp};
use tidemill_store::conformance::samples::{self, project};
use tidemill_store::fjall_store::{FjallLog, FjallOptions};
use tidemill_store::{Appended, DataFolder, EventLog, LoggedEvent};

#[derive(Debug, Clone)]
enum Call {
    /// Events of a project, by the number of the message id and the minute of receipt.
    Append {
        project: u8,
        events: Vec<(u64, u8)>,
        quarantined: u64,
    },
    Truncate {
        project: u8,
        up_to: u64,
    },
    Forget {
        before: u8,
    },
    Reopen,
}

fn calls() -> impl Strategy<Value = Vec<Call>> {
    let event = (0..30u64, any::<u8>());
    let call = prop_oneof![
        8 => (0..2u8, prop::collection::vec(event, 0..12), 0..3u64)
            .prop_map(|(project, events, quarantined)| Call::Append { project, events, quarantined }),
        2 => (0..2u8, 0..80u64).prop_map(|(project, up_to)| Call::Truncate { project, up_to }),
        1 => any::<u8>().prop_map(|before| Call::Forget { before }),
        1 => Just(Call::Reopen),
    ];
    prop::collection::vec(call, 1..25)
}

/// What one project's log ought to hold.
#[derive(Debug, Default)]
struct Model {
    stored: Vec<Event>,
    truncated: usize,
    received: HashMap<String, Timestamp>,
    duplicates: u64,
    quarantined: u64,
}

impl Model {
    fn append(&mut self, events: &[Event]) -> Vec<Appended> {
        let mut answers = Vec::new();
        for event in events {
            if self.received.contains_key(&event.message_id) {
                self.duplicates += 1;
                answers.push(Appended::Duplicate);
            } else {
                self.received
                    .insert(event.message_id.clone(), event.received_at);
                self.stored.push(event.clone());
                answers.push(Appended::Stored(Offset(self.stored.len() as u64)));
            }
        }
        answers
    }

    fn readable(&self) -> Vec<LoggedEvent> {
        let logged = |(place, event): (usize, &Event)| LoggedEvent {
            offset: Offset(place as u64 + 1),
            event: event.clone(),
        };
        self.stored
            .iter()
            .enumerate()
            .skip(self.truncated)
            .map(logged)
            .collect()
    }
}

const NAMES: [&str; 2] = ["shop", "shop-2"];

fn minute(number: u8) -> Timestamp {
    Timestamp::from_micros(samples::NOON.micros() + i64::from(number) * 60_000_000)
}

fn check(log: &FjallLog, models: &[Model; 2]) {
    for (name, model) in NAMES.map(project).iter().zip(models) {
        assert_eq!(
            log.read(name, Offset::ZERO, usize::MAX).unwrap(),
            model.readable()
        );
        let counts = log.counts(name).unwrap();
        assert_eq!(log.last(name).unwrap(), Offset(model.stored.len() as u64));
        assert_eq!(counts.stored, model.stored.len() as u64);
        assert_eq!(
            (counts.duplicates, counts.quarantined),
            (model.duplicates, model.quarantined)
        );
        assert_eq!(
            log.quarantined(name, None, usize::MAX).unwrap().len() as u64,
            model.quarantined
        );
    }
}

fn run(calls: Vec<Call>) {
    let temporary = tempfile::tempdir().unwrap();
    let open = || {
        let folder = DataFolder::open(temporary.path()).unwrap();
        FjallLog::open(&folder, &FjallOptions::default()).unwrap()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let mut log = open();
    let mut models = [Model::default(), Model::default()];
    for call in calls {
        match call {
            Call::Append {
                project: which,
                events,
                quarantined,
            } => {
                let events: Vec<Event> = events
                    .into_iter()
                    .map(|(id, at)| Event {
                        received_at: minute(at),
                        ..samples::event(id)
                    })
                    .collect();
                let pieces = (0..quarantined).map(samples::quarantined).collect();
                let model = &mut models[usize::from(which)];
                let name = project(NAMES[usize::from(which)]);
                let answers = runtime
                    .block_on(log.append(&name, events.clone(), pieces))
                    .unwrap();
                assert_eq!(answers, model.append(&events));
                model.quarantined += quarantined;
            }
            Call::Truncate {
                project: which,
                up_to,
            } => {
                let model = &mut models[usize::from(which)];
                log.truncate(&project(NAMES[usize::from(which)]), Offset(up_to))
                    .unwrap();
                model.truncated = model.truncated.max(model.stored.len().min(up_to as usize));
            }
            Call::Forget { before } => {
                let known = |models: &[Model; 2]| {
                    models
                        .iter()
                        .map(|model| model.received.len())
                        .sum::<usize>()
                };
                let all = known(&models);
                for model in &mut models {
                    model.received.retain(|_, at| *at >= minute(before));
                }
                assert_eq!(
                    log.forget_message_ids(minute(before)).unwrap(),
                    (all - known(&models)) as u64
                );
            }
            Call::Reopen => {
                drop(log);
                log = open();
            }
        }
        check(&log, &models);
    }
    drop(log);
    check(&open(), &models);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn the_log_is_a_list(calls in calls()) {
        run(calls);
    }
}
