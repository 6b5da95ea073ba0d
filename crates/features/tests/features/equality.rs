//! The proof of the feature engine: what is read online after any prefix of the log is, to the bit, what a dataset has.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::samples::{START, again, at, built, event, project, store};
use proptest::prelude::*;
use serde_json::json;
use tidemill_core::event::PersonKey;
use tidemill_core::{FeatureTable, FeatureValue, Offset, Project, Span, Timestamp};
use tidemill_features::dataset::{Dataset, DatasetRequest, Served};
use tidemill_features::{Engine, EngineOptions, FeatureSet, ModelFeatures, Rebuild};
use tidemill_store::LoggedEvent;
use tidemill_store::memory::MemoryState;

const PROJECT: &str = include_str!("equality.toml");

/// The same where what is known begins anew after two idle days.
fn forgetful() -> String {
    PROJECT.replace("session_gap", "forget_after = \"2d\"\nsession_gap")
}

/// One random event: who (0–3 a user, 4–7 an anonymous id, 8 both, 9 nobody), what, how much later it is received, how much earlier
/// or later than that it happened, with which values.
type Draw = (u8, u8, i64, i64, u8, u8, f64);

fn draws() -> impl Strategy<Value = Vec<Draw>> {
    let happened =
        prop_oneof![5 => Just(0i64), 2 => -20_000i64..0, 1 => -900_000i64..0, 1 => 0i64..80_000];
    let received =
        prop_oneof![3 => 0i64..100, 2 => 0i64..10_000, 1 => 0i64..200_000, 1 => -5_000i64..0];
    let draw = (
        0..10u8,
        0..10u8,
        received,
        happened,
        0..6u8,
        0..4u8,
        prop_oneof![Just(0.1), 0.0..20.0f64],
    );
    prop::collection::vec(draw, 1..90)
}

fn events(draws: &[Draw]) -> Vec<LoggedEvent> {
    let mut received = 0;
    let events = draws.iter().enumerate().map(|(index, &(who, what, later, happened, item, country, seconds))| {
        received += later;
        let (kind, name) = match what {
            0 => ("identify", "$identify"),
            1 => ("alias", "$alias"),
            2..4 => ("track", "Buy"),
            4 => ("track", "Look"),
            9 if who == 9 => ("item_deleted", "$item_deleted"),
            9 if who > 5 => ("item_changed", "$item_changed"),
            _ => ("track", "Open"),
        };
        let user = format!("u{}", who % 4);
        let anonymous = format!("a{}", item % 4);
        let mut fields = json!({
            "kind": kind, "name": name, "received_at": at(received), "timestamp": at(received + happened), "properties": {}
        });
        match who {
            _ if what == 0 => {
                fields["user_id"] = json!(user);
                fields["anonymous_id"] = json!(anonymous);
            }
            _ if what == 1 => {
                fields["user_id"] = json!(user);
                fields["previous_id"] = if country < 2 { json!(format!("u{}", item % 4)) } else { json!(anonymous) };
            }
            0..4 => fields["user_id"] = json!(user),
            4..8 => fields["anonymous_id"] = json!(anonymous),
            8 => {
                fields["user_id"] = json!(user);
                fields["anonymous_id"] = json!(anonymous);
            }
            _ => {}
        }
        fields["properties"]["session"] = json!(format!("s{index}"));
        if name.starts_with("$item") {
            fields["properties"]["id"] = json!(format!("i{}", item % 4));
            fields["properties"]["attributes"] = match country {
                0 => json!({ "category": "a", "price": seconds }),
                1 => json!({ "category": "b" }),
                2 => json!({ "price": null }),
                _ => json!({ "category": null, "price": 1.5 }),
            };
            return event(index as u64 + 1, 0, fields);
        }
        if what == 0 && item % 2 == 0 {
            fields["properties"]["plan"] = if country == 3 { json!(null) } else { json!(format!("p{country}")) };
        }
        if item < 4 {
            fields["properties"]["item"] = json!(format!("i{item}"));
        }
        if country < 3 {
            fields["properties"]["country"] = json!(country);
            fields["properties"]["seconds"] = json!(seconds);
        }
        event(index as u64 + 1, 0, fields)
    });
    events.collect()
}

/// What was read online: by person and moment (for events by offset).
type Rows = BTreeMap<(String, u64, Timestamp), Vec<FeatureValue>>;

struct Online {
    project: Project,
    set: FeatureSet,
    store: Arc<MemoryState>,
    options: EngineOptions,
    engine: Engine,
}

impl Online {
    fn new(project: &Project, options: EngineOptions) -> Self {
        let set = FeatureSet::compile(project, &project.features).unwrap();
        let store = store();
        let engine = Engine::open(project, set.clone(), store.clone(), options).unwrap();
        Self {
            project: project.clone(),
            set,
            store,
            options,
            engine,
        }
    }

    fn reopen(&mut self) {
        self.engine = Engine::open(
            &self.project,
            self.set.clone(),
            self.store.clone(),
            self.options,
        )
        .unwrap();
    }
}

/// Reads of everybody at each multiple of a period.
#[derive(Default)]
struct Periods {
    next: Option<Timestamp>,
    rows: Rows,
}

impl Periods {
    /// Reads at the moments before `until`.
    fn read(
        &mut self,
        online: &Online,
        until: Timestamp,
        people: &[PersonKey],
        features: &ModelFeatures,
    ) {
        let period = Span::from_seconds(43_200);
        let mut moment = match self.next {
            Some(next) => next,
            None if until.floor(period) == until => until,
            None => until.floor(period) + period,
        };
        while moment < until {
            for person in people {
                let row = online.engine.read(person, moment, features).unwrap();
                assert_eq!(row.moment, moment);
                self.rows
                    .insert((row.person.to_string(), 0, moment), row.values);
            }
            moment = moment + period;
        }
        self.next = Some(moment);
    }
}

/// Applies events one by one and reads after each what datasets should have, with commits and restarts in between.
fn online_rows(
    project: &Project,
    events: &[LoggedEvent],
    restarts: &[bool],
    known_until: Timestamp,
) -> (Rows, Rows) {
    let mut online = Online::new(
        project,
        EngineOptions {
            cache_entries: 1,
            timeline_events: 3,
        },
    );
    let at_event = online
        .set
        .select(&project.models[&"at_event".parse().unwrap()])
        .unwrap();
    let every = online
        .set
        .select(&project.models[&"every".parse().unwrap()])
        .unwrap();
    let mut periods = Periods::default();
    let mut event_rows = Rows::new();
    let mut people: Vec<PersonKey> = Vec::new();
    for (index, logged) in events.iter().enumerate() {
        let now = if index == 0 {
            logged.event.received_at
        } else {
            online.engine.now().max(logged.event.received_at)
        };
        periods.read(&online, now, &people, &every);
        online.engine.apply(std::slice::from_ref(logged)).unwrap();
        assert_eq!(
            (online.engine.applied(), online.engine.now()),
            (logged.offset, now)
        );
        if let Some(person) = logged.event.person() {
            if !people.contains(&person) {
                people.push(person.clone());
            }
            let row = online
                .engine
                .read(&person, Timestamp::EPOCH, &at_event)
                .unwrap();
            assert!(row.known);
            event_rows.insert(
                (row.person.to_string(), logged.offset.0, row.moment),
                row.values,
            );
        }
        match restarts.get(index % restarts.len().max(1)) {
            Some(true) => {
                assert_eq!(online.engine.commit().unwrap(), logged.offset);
                online.reopen();
            }
            // Without a commit everything since the last one is lost, and applied again.
            Some(false) if index % 7 == 3 => {
                online.reopen();
                online.engine.apply(&events[..=index]).unwrap();
            }
            _ => {}
        }
    }
    let until = known_until + Span::from_micros(1);
    periods.read(&online, until, &people, &every);
    (event_rows, periods.rows)
}

/// How a replay is run: in how many parts, and with how much memory.
#[derive(Debug, Clone, Copy)]
struct Run {
    partitions: usize,
    memory_bytes_max: usize,
}

const ORDINARY: Run = Run {
    partitions: 2,
    memory_bytes_max: 1 << 30,
};

const SPILLING: Run = Run {
    partitions: 3,
    memory_bytes_max: 50_000,
};

fn runs() -> impl Strategy<Value = Run> {
    // with a few thousand bytes nearly every step goes to disk
    let memory = prop_oneof![Just(4_000usize), Just(1 << 30)];
    (1..4usize, memory).prop_map(|(partitions, memory_bytes_max)| Run {
        partitions,
        memory_bytes_max,
    })
}

fn datasets(
    project: &Project,
    events: &[LoggedEvent],
    run: Run,
    known_until: Timestamp,
) -> Vec<Dataset> {
    let set = FeatureSet::compile(project, &project.features).unwrap();
    let requests: Vec<DatasetRequest<'_>> = ["at_event", "every"]
        .into_iter()
        .map(|name| {
            let model = &project.models[&name.parse().unwrap()];
            DatasetRequest {
                model,
                features: set.select(model).unwrap(),
                from: None,
            }
        })
        .collect();
    built(
        &set,
        &requests,
        events,
        known_until,
        run.partitions,
        run.memory_bytes_max,
    )
}

/// What was read online after each event, read again offline.
fn served_again(
    project: &Project,
    events: &[LoggedEvent],
    online: &Rows,
    run: Run,
) -> FeatureTable {
    let set = FeatureSet::compile(project, &project.features).unwrap();
    let features = set
        .select(&project.models[&"at_event".parse().unwrap()])
        .unwrap();
    let served: Vec<Served> = online
        .keys()
        .map(|(person, offset, moment)| Served {
            person: serde_json::from_value(json!(person)).unwrap(),
            moment: *moment,
            offset: Offset(*offset),
        })
        .collect();
    again(
        &features,
        &served,
        events,
        run.partitions,
        run.memory_bytes_max,
    )
}

fn assert_same(dataset: &Dataset, online: &Rows, by_offset: bool) {
    for row in 0..dataset.rows() {
        let offset = if by_offset { dataset.offsets[row].0 } else { 0 };
        let key = (
            dataset.entities[row].to_string(),
            offset,
            dataset.moments[row],
        );
        let expected = online
            .get(&key)
            .unwrap_or_else(|| panic!("{key:?} was not read online"));
        for (column, expected) in expected.iter().enumerate() {
            let found = dataset.features.value(row, column);
            let name = &dataset.features.columns()[column].name;
            assert!(
                found.same_bits(expected),
                "{key:?} {name}: {found:?} in the dataset, {expected:?} online"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn online_equals_offline(
        draws in draws(), restarts in prop::collection::vec(any::<bool>(), 0..12), run in runs(), forgets: bool
    ) {
        let project = project(&if forgets { forgetful() } else { PROJECT.to_owned() });
        let events = events(&draws);
        let newest = events.iter().map(|logged| logged.event.received_at).max().unwrap();
        let known_until = newest + Span::from_days(3);
        let (event_rows, period_rows) = online_rows(&project, &events, &restarts, known_until);
        let datasets = datasets(&project, &events, run, known_until);
        assert_same(&datasets[0], &event_rows, true);
        assert_same(&datasets[1], &period_rows, false);
        for dataset in &datasets {
            let dropped: u64 = dataset.record.dropped.values().sum();
            prop_assert_eq!(dataset.record.observed, dropped + dataset.rows() as u64);
        }
        let again = served_again(&project, &events, &event_rows, run);
        for (row, expected) in event_rows.values().enumerate() {
            for (column, expected) in expected.iter().enumerate() {
                prop_assert!(again.value(row, column).same_bits(expected));
            }
        }
        let opens = events.iter().filter(|logged| logged.event.name == "Open").count();
        prop_assert_eq!(datasets[0].record.observed, opens as u64);
    }

    #[test]
    fn what_arrives_later_changes_no_earlier_row(draws in draws(), cut in 0.0..1.0f64) {
        let project = project(PROJECT);
        let events = events(&draws);
        let known_until = Timestamp::from_micros(START) + Span::from_days(3_000);
        let some = &events[..((events.len() as f64 * cut) as usize).max(1)];
        let all = &datasets(&project, &events, ORDINARY, known_until)[0];
        let few = &datasets(&project, some, ORDINARY, known_until)[0];
        let rows: Vec<usize> = (0..few.rows()).collect();
        prop_assert_eq!(format!("{:?}", all.features.take(&rows)), format!("{:?}", few.features));
        prop_assert_eq!(&all.entities[..few.rows()], &few.entities[..]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 30, ..ProptestConfig::default() })]

    /// States of new definitions that are built beside the old ones, and idle ones that are removed, are what they would always have
    /// been.
    #[test]
    fn redefined_and_tidied_up_states_are_as_if_they_had_always_been_so(draws in draws(), cut in 0.0..1.0f64) {
        let (before, after) = (project(PROJECT), project(&forgetful()));
        let events = events(&draws);
        let cut = ((events.len() as f64 * cut) as usize).max(1);
        let mut online = Online::new(&before, EngineOptions { cache_entries: 1, timeline_events: 0 });
        online.engine.apply(&events[..cut]).unwrap();
        online.engine.commit().unwrap();
        online.set = FeatureSet::compile(&after, &after.features).unwrap();
        let goes_on = Engine::open_as_before(&after.name, online.store.clone(), online.options).unwrap().unwrap();
        prop_assert_eq!(goes_on.set().hash(), online.engine.set().hash());
        let rebuild = Rebuild::begin(&after, online.set.clone(), online.store.clone(), online.options).unwrap();
        rebuild.apply(&events[..cut]).unwrap();
        online.engine = rebuild.finish().unwrap();
        online.engine.apply(&events[cut..]).unwrap();
        online.engine.commit().unwrap();
        let always = Online::new(&after, online.options);
        always.engine.apply(&events).unwrap();
        while !online.engine.expire(2).unwrap().finished {}
        for person in ["user:u0", "user:u1", "user:u2", "user:u3", "anonymous:a0", "anonymous:a1", "anonymous:a2", "anonymous:a3"] {
            let person: PersonKey = serde_json::from_value(json!(person)).unwrap();
            let moment = always.engine.now();
            let [one, other] = [&online.engine, &always.engine].map(|engine| engine.read_all(&person, moment).unwrap());
            prop_assert_eq!(one.known, other.known);
            for (one, other) in one.values.iter().zip(&other.values) {
                prop_assert!(one.same_bits(other), "{:?} {:?}", one, other);
            }
        }
    }
}

/// Draws that look random; the fewer people, the more each of them does.
fn many_draws(count: u32, people: u32) -> Vec<Draw> {
    let draw = |n: u32| {
        let mix = n.wrapping_mul(2_654_435_761) >> 7;
        let part = |shift: u32, of: u32| ((mix >> shift) % of) as u8;
        (
            part(0, people),
            part(3, 10),
            i64::from(part(5, 200)) * 20,
            0,
            part(9, 6),
            part(11, 4),
            f64::from(part(13, 100)) / 7.0,
        )
    };
    (0..count).map(draw).collect()
}

/// One person does enough for every sketch to be full and every bound to be reached.
#[test]
fn online_equals_offline_also_where_states_are_full() {
    let project = project(PROJECT);
    let events = events(&many_draws(700, 1));
    let known_until = events.last().unwrap().event.received_at + Span::from_days(1);
    let (event_rows, period_rows) = online_rows(&project, &events, &[], known_until);
    for run in [ORDINARY, SPILLING] {
        let datasets = datasets(&project, &events, run, known_until);
        assert_same(&datasets[0], &event_rows, true);
        assert_same(&datasets[1], &period_rows, false);
    }
    let datasets = datasets(&project, &events, ORDINARY, known_until);
    let names = datasets[0].features.columns().iter();
    let sessions = names
        .map(|column| column.name.as_str())
        .position(|name| name == "user.sessions_30d");
    let found = datasets[0]
        .features
        .value(datasets[0].rows() - 1, sessions.unwrap());
    assert!(found.as_number() > 200.0, "{found:?}");
}

#[test]
fn datasets_are_the_same_whenever_they_are_built_and_however_they_are_kept() {
    let project = project(PROJECT);
    let draws = many_draws(3_000, 10);
    let events = events(&draws);
    let known_until = events.last().unwrap().event.received_at;
    let first = datasets(&project, &events, ORDINARY, known_until);
    let second = datasets(&project, &events, SPILLING, known_until);
    for (first, second) in first.iter().zip(&second) {
        assert!(first.rows() > 100, "{}", first.rows());
        assert_eq!(format!("{first:?}"), format!("{second:?}"));
        let record = serde_json::from_str(&serde_json::to_string(&first.record).unwrap()).unwrap();
        let back = Dataset::from_batches(&first.to_batches().unwrap(), record).unwrap();
        assert_eq!(format!("{first:?}"), format!("{back:?}"));
    }
    assert!(first[0].offsets.is_sorted() && first[0].offsets[0] > Offset::ZERO);
}
