//! The outcome joiner from outside: decisions and events in the orders in which they really come, with a state store in
//! memory.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_core::decision::{Answer, ClassProbability, ShownItem, TakenItem};
use tidemill_core::{Decision, DecisionId, Event, Offset, Outcome, Project, Span, Timestamp};
use tidemill_features::{Engine, EngineOptions, FeatureSet};
use tidemill_monitor::{MonitorError, OutcomeJoiner};
use tidemill_store::LoggedEvent;
use tidemill_store::lake::Sequenced;
use tidemill_store::memory::MemoryState;

const PROJECT: &str = r#"
[project]
name = "shop"

[[features.user]]
name = "orders"
aggregate = "count"
event = "Order"

[models.returns]
kind = "predict"
observe = { event = "Order" }
target = { event = "Order", within = "30d" }

[models.spend]
kind = "predict"
observe = { event = "Order" }
target = { sum = "Order.properties.total", within = "60d" }

[items]
id = "properties.item"

[models.for_you]
kind = "recommend"
signals = { View = 1.0, Order = 3.0 }
within = "20d"

[models.next]
kind = "predict"
observe = { event = "Order" }
target = { next = ["Order", "Cancel"], within = "10d" }
"#;

/// What everybody takes.
const POPULAR: [&str; 3] = ["pen", "cup", "hat"];

fn day(number: i64) -> Timestamp {
    Timestamp::from_micros(1_300_000_000_000_000) + Span::from_days(number)
}

struct World {
    project: Project,
    state: Arc<MemoryState>,
    engine: Engine,
    joiner: OutcomeJoiner,
    log: Vec<LoggedEvent>,
    decisions: Vec<Sequenced<Decision>>,
}

impl World {
    fn new(file: &str) -> Self {
        let project = Project::parse(file).unwrap();
        let state = Arc::new(MemoryState::default());
        let set = FeatureSet::compile(&project, &project.features).unwrap();
        let engine = Engine::open(&project, set, state.clone(), EngineOptions::default()).unwrap();
        let joiner = OutcomeJoiner::open(&project, state.clone()).unwrap();
        Self {
            project,
            state,
            engine,
            joiner,
            log: Vec::new(),
            decisions: Vec::new(),
        }
    }

    /// The joiner of the next process, on the same state.
    fn restart(&mut self) {
        self.joiner = OutcomeJoiner::open(&self.project, self.state.clone()).unwrap();
    }

    fn log_event(&mut self, time: Timestamp, fields: Value) {
        let offset = Offset(self.log.len() as u64 + 1);
        let mut json = json!({
            "message_id": format!("m{}", offset.0), "kind": "track", "name": "Order",
            "timestamp": time, "received_at": time,
        });
        let (Value::Object(all), Value::Object(fields)) = (&mut json, fields) else {
            panic!("fields are an object")
        };
        all.extend(fields);
        let event: Event = serde_json::from_value(json).unwrap();
        self.log.push(LoggedEvent { offset, event });
    }

    /// An event is logged, applied, and shown to the joiner, as the consumer does.
    fn happens(&mut self, time: Timestamp, fields: Value) {
        self.log_event(time, fields);
        let event = self.log[self.log.len() - 1..].to_vec();
        self.engine.apply(&event).unwrap();
        self.advance(&[], &event).unwrap();
    }

    fn orders(&mut self, user: &str, time: Timestamp, total: f64) {
        self.happens(
            time,
            json!({ "user_id": user, "properties": { "total": total } }),
        );
    }

    /// A decision that was made when `offset` events had been applied.
    fn decide_at(
        &mut self,
        model: &str,
        entity: &str,
        moment: Timestamp,
        offset: usize,
    ) -> DecisionId {
        let sequence = self.decisions.len() as u64 + 1;
        let id = DecisionId::new(moment, [sequence as u8; 10]);
        let probability = |class: &str, probability| ClassProbability {
            class: class.to_owned(),
            probability,
        };
        let value = Decision {
            id,
            model: model.parse().unwrap(),
            version: Some(1),
            fallback: None,
            arm: None,
            entity: entity.to_owned(),
            moment,
            offset: Offset(offset as u64),
            features: Vec::new(),
            context: Default::default(),
            answer: Answer {
                score: 0.7,
                label: (model == "next").then(|| "none".to_owned()),
                probabilities: match model {
                    "next" => vec![
                        probability("Order", 0.2),
                        probability("Cancel", 0.1),
                        probability("none", 0.7),
                    ],
                    _ => Vec::new(),
                },
            },
            items: match model {
                "for_you" => ["ink", "cup"].map(shown).to_vec(),
                _ => Vec::new(),
            },
            candidates: Vec::new(),
            given: false,
            after: None,
            latency_us: 1,
        };
        self.decisions.push(Sequenced { sequence, value });
        id
    }

    /// A decision, shown to the joiner at once.
    fn decides(&mut self, model: &str, entity: &str, moment: Timestamp) -> DecisionId {
        let id = self.decide_at(model, entity, moment, self.log.len());
        self.open_decisions().unwrap();
        id
    }

    fn open_decisions(&self) -> Result<(), MonitorError> {
        let known = self.joiner.cursor().decision as usize;
        self.advance(&self.decisions[known..], &[])
    }

    fn advance(
        &self,
        decisions: &[Sequenced<Decision>],
        events: &[LoggedEvent],
    ) -> Result<(), MonitorError> {
        let between = |after: Offset, up_to: Offset| {
            Ok(self.log[after.0 as usize..up_to.0 as usize].to_vec())
        };
        self.joiner
            .advance(decisions, events, &self.engine, &between, &|_| {
                Arc::new(POPULAR.iter().map(|item| Arc::from(*item)).collect())
            })
    }

    fn outcome(&self, decision: DecisionId) -> Option<Outcome> {
        let mut all = self.project.model_names().flat_map(|model| {
            let found = self
                .joiner
                .outcomes(model, Timestamp::EPOCH, Timestamp::MAX, 1_000);
            found.unwrap()
        });
        let found = all.find(|outcome| outcome.decision == decision);
        assert_eq!(
            all.filter(|outcome| outcome.decision == decision).count(),
            0,
            "two outcomes"
        );
        found
    }

    /// Value and time of a decision's outcome.
    fn became(&self, decision: DecisionId) -> Option<(f64, Timestamp)> {
        self.outcome(decision)
            .map(|outcome| (outcome.value, outcome.resolved_at))
    }
}

fn shown(item: &str) -> ShownItem {
    ShownItem {
        item: item.to_owned(),
        score: 0.0,
        propensity: 1.0,
        explored: false,
    }
}

#[test]
fn what_is_taken_of_a_list_is_joined_to_it() {
    let mut world = World::new(PROJECT);
    let list = world.decides("for_you", "anonymous:a1", day(0));
    let ignored = world.decides("for_you", "user:u2", day(0));
    let about_nobody = world.decides("for_you", "", day(0));
    let takes = |name: &str, item: &str| json!({ "anonymous_id": "a1", "name": name, "properties": { "item": item } });
    world.happens(day(1), takes("View", "ink"));
    world.happens(day(2), takes("Order", "cup"));
    world.restart();
    // who it was turns out meanwhile; what they do then counts as well, once
    world.happens(
        day(3),
        json!({ "kind": "identify", "name": "$identify", "user_id": "u1", "anonymous_id": "a1" }),
    );
    for item in ["cup", "pen", "saw"] {
        let order = json!({ "user_id": "u1", "name": "Order", "properties": { "item": item } });
        world.happens(day(4), order);
    }
    world.happens(day(21), takes("Order", "ink"));
    assert_eq!(world.became(list), None);
    world.joiner.expire(day(20)).unwrap();
    let outcome = world.outcome(list).unwrap();
    assert_eq!((outcome.value, outcome.resolved_at), (1.0, day(20)));
    let found = outcome.list.unwrap();
    let cup = TakenItem {
        item: "cup".to_owned(),
        place: 1,
    };
    // two of what everybody takes are compared with two that were shown: the pen and the cup
    assert_eq!(
        (found.taken, found.others, found.popular_taken),
        (vec![cup], 2, 2)
    );
    assert!(found.ndcg.unwrap() < found.popular_ndcg.unwrap());
    let nothing = world.outcome(ignored).unwrap();
    assert_eq!((nothing.value, nothing.list.unwrap().ndcg), (0.0, None));
    assert_eq!(world.outcome(about_nobody), None);
    assert_eq!(world.joiner.waiting(), 0);
}

#[test]
fn an_order_in_time_is_a_yes_and_silence_a_no() {
    let mut world = World::new(PROJECT);
    let (yes, no) = (
        world.decides("returns", "user:u1", day(0)),
        world.decides("returns", "user:u2", day(0)),
    );
    world.orders("u1", day(12), 5.0);
    assert_eq!(world.became(yes), Some((1.0, day(12))));
    assert_eq!((world.became(no), world.joiner.waiting()), (None, 1));
    assert_eq!(
        world
            .joiner
            .expire(day(30) + Span::from_seconds(-1))
            .unwrap(),
        0
    );
    assert_eq!(world.joiner.expire(day(30)).unwrap(), 1);
    assert_eq!(world.became(no), Some((0.0, day(30))));
    assert_eq!(world.joiner.waiting(), 0);
    // what comes too late changes nothing
    world.orders("u2", day(29), 5.0);
    assert_eq!(world.became(no), Some((0.0, day(30))));
}

#[test]
fn a_sum_waits_for_the_end_of_its_horizon() {
    let mut world = World::new(PROJECT);
    world.orders("u1", day(0), 100.0);
    let spend = world.decides("spend", "user:u1", day(0));
    for (at, total) in [(10, 1.5), (60, 2.0), (61, 50.0)] {
        world.orders("u1", day(at), total);
    }
    world.orders("u2", day(20), 70.0);
    assert_eq!(world.became(spend), None);
    world.joiner.expire(day(61)).unwrap();
    assert_eq!(world.became(spend), Some((3.5, day(60))));
}

#[test]
fn a_next_action_is_the_first_one_and_scored_as_it_was_said() {
    let mut world = World::new(PROJECT);
    let [cancels, nothing] = ["user:u1", "user:u2"].map(|user| world.decides("next", user, day(0)));
    world.orders("u1", day(5), 1.0);
    // it comes late, and happened before
    world.happens(day(3), json!({ "user_id": "u1", "name": "Cancel" }));
    world.joiner.expire(day(10)).unwrap();
    let outcome = world.outcome(cancels).unwrap();
    assert_eq!(
        (outcome.class.as_deref(), outcome.score, outcome.value),
        (Some("Cancel"), 0.1, 0.0)
    );
    let outcome = world.outcome(nothing).unwrap();
    assert_eq!(
        (outcome.class.as_deref(), outcome.score, outcome.value),
        (Some("none"), 0.7, 1.0)
    );
}

#[test]
fn a_decision_that_is_logged_late_sees_what_it_missed_and_nobody_sees_it_twice() {
    let mut world = World::new(PROJECT);
    let first = world.decides("spend", "user:u1", day(0));
    let late = world.decide_at("spend", "user:u1", day(1), 0);
    let other = world.decide_at("returns", "user:u1", day(1), 0);
    world.orders("u1", day(2), 10.0);
    world.open_decisions().unwrap();
    world.orders("u1", day(3), 5.0);
    world.joiner.expire(day(100)).unwrap();
    assert_eq!(world.became(late), Some((15.0, day(61))));
    assert_eq!(world.became(first), Some((15.0, day(60))));
    assert_eq!(world.became(other), Some((1.0, day(2))));
}

#[test]
fn decisions_follow_a_person_who_signs_in() {
    let mut world = World::new(PROJECT);
    let early = world.decides("returns", "anonymous:a1", day(0));
    let late = world.decide_at("returns", "anonymous:a1", day(0), 0);
    world.happens(
        day(1),
        json!({ "kind": "identify", "name": "$identify", "user_id": "u1", "anonymous_id": "a1" }),
    );
    world.restart();
    world.orders("u1", day(2), 10.0);
    world.open_decisions().unwrap();
    for decision in [early, late] {
        assert_eq!(world.became(decision), Some((1.0, day(2))));
    }
    // one who signs in and does nothing more
    let silent = world.decides("returns", "anonymous:a2", day(3));
    world.happens(
        day(4),
        json!({ "kind": "identify", "name": "$identify", "user_id": "u2", "anonymous_id": "a2" }),
    );
    world.joiner.expire(day(33)).unwrap();
    assert_eq!(world.became(silent), Some((0.0, day(33))));
    assert_eq!(world.joiner.waiting(), 0);
}

#[test]
fn a_restart_goes_on_where_it_stopped() {
    let mut world = World::new(PROJECT);
    let [one, two] = ["user:u1", "user:u2"].map(|user| world.decides("returns", user, day(0)));
    world.orders("u1", day(1), 10.0);
    let cursor = world.joiner.cursor();
    world.restart();
    assert_eq!((world.joiner.cursor(), world.joiner.waiting()), (cursor, 1));
    // shown again, as after a crash: known already
    world.advance(&world.decisions, &world.log).unwrap();
    assert_eq!((world.joiner.cursor(), world.joiner.waiting()), (cursor, 1));
    world.orders("u2", day(2), 10.0);
    assert_eq!(world.became(one), Some((1.0, day(1))));
    assert_eq!(world.became(two), Some((1.0, day(2))));
}

#[test]
fn a_step_that_cannot_be_stored_is_repeated_as_a_whole() {
    let mut world = World::new(PROJECT);
    let first = world.decides("spend", "user:u1", day(0));
    let cursor = world.joiner.cursor();
    let second = world.decide_at("spend", "user:u2", day(0), 0);
    world.log_event(
        day(1),
        json!({ "user_id": "u1", "properties": { "total": 7.0 } }),
    );
    world.engine.apply(&world.log).unwrap();
    world.state.set_full(true);
    assert!(world.advance(&world.decisions[1..], &world.log).is_err());
    assert!(world.joiner.expire(day(90)).is_err());
    assert_eq!((world.joiner.cursor(), world.joiner.waiting()), (cursor, 1));
    world.state.set_full(false);
    world.advance(&world.decisions[1..], &world.log).unwrap();
    assert_eq!(world.joiner.waiting(), 2);
    world.joiner.expire(day(90)).unwrap();
    assert_eq!(world.became(first), Some((7.0, day(60))));
    assert_eq!(world.became(second), Some((0.0, day(60))));
}

#[test]
fn a_shorter_horizon_is_noticed_after_longer_ones_have_passed() {
    let mut world = World::new(PROJECT);
    world.decides("spend", "user:u1", day(0));
    assert_eq!(world.joiner.expire(day(60)).unwrap(), 1);
    // a decision whose horizon ended before the last one that was resolved
    let late = world.decides("next", "user:u1", day(30));
    assert_eq!(world.joiner.expire(day(60)).unwrap(), 1);
    assert_eq!(world.outcome(late).unwrap().class.as_deref(), Some("none"));
}

#[test]
fn outcomes_wait_until_they_have_landed() {
    let mut world = World::new(PROJECT);
    let decided: Vec<DecisionId> = (1..=3)
        .map(|user| world.decides("returns", &format!("user:u{user}"), day(0)))
        .collect();
    for user in [3, 1, 2] {
        world.orders(&format!("u{user}"), day(4 - user), 1.0);
    }
    let waiting = |after| -> Vec<DecisionId> {
        let unlanded = world.joiner.unlanded(after, 10).unwrap();
        unlanded
            .into_iter()
            .map(|outcome| outcome.value.decision)
            .collect()
    };
    assert_eq!(waiting(0), [decided[2], decided[0], decided[1]]);
    assert_eq!(waiting(2), [decided[1]]);
    world.joiner.landed(2).unwrap();
    assert_eq!(waiting(0), [decided[1]]);
    assert_eq!(
        world.became(decided[0]),
        Some((1.0, day(3))),
        "landing keeps the outcome at hand"
    );
}
