//! Events, decisions and outcomes to store: each number stands for a different one.

use serde_json::{Map, json};
use tidemill_core::decision::Answer;
use tidemill_core::{
    Decision, DecisionId, Event, EventKind, FeatureValue, ModelName, Offset, Outcome, ProjectName,
    Timestamp,
};

use crate::lake::Sequenced;
use crate::{LoggedEvent, QuarantineReason, Quarantined};

/// 2011-12-09T12:00:00Z.
pub const NOON: Timestamp = Timestamp::from_millis(1_323_432_000_000);

/// A project's name.
///
/// # Panics
/// Where it is not one.
pub fn project(name: &str) -> ProjectName {
    name.parse().expect("the suite writes names right")
}

/// A model's name.
///
/// # Panics
/// Where it is not one.
pub fn model(name: &str) -> ModelName {
    name.parse().expect("the suite writes names right")
}

/// The event with the message id `m<number>`, `number` minutes after [`NOON`].
pub fn event(number: u64) -> Event {
    let minutes = i64::try_from(number).expect("the suite counts to small numbers");
    let at = Timestamp::from_micros(NOON.micros() + minutes * 60_000_000);
    let properties =
        json!({ "total": number as f64 / 7.0, "items": [number, "ü", null, { "a": -0.0 }] });
    Event {
        message_id: format!("m{number}"),
        kind: if number.is_multiple_of(5) {
            EventKind::Page
        } else {
            EventKind::Track
        },
        name: format!("Event {}", number % 3),
        user_id: number
            .is_multiple_of(2)
            .then(|| format!("u{}", number % 11)),
        anonymous_id: (!number.is_multiple_of(2)).then(|| format!("a{}", number % 13)),
        previous_id: None,
        group_id: number.is_multiple_of(17).then(|| "g".to_owned()),
        timestamp: at,
        received_at: at,
        historical: number.is_multiple_of(19),
        properties: properties.as_object().cloned().unwrap_or_default(),
        context: Map::new(),
    }
}

/// Events by their numbers.
pub fn events(numbers: impl IntoIterator<Item = u64>) -> Vec<Event> {
    numbers.into_iter().map(event).collect()
}

/// The events with these numbers, in the places with these numbers.
pub fn logged(numbers: impl IntoIterator<Item = u64>) -> Vec<LoggedEvent> {
    numbers
        .into_iter()
        .map(|number| LoggedEvent {
            offset: Offset(number),
            event: event(number),
        })
        .collect()
}

/// A quarantined piece.
pub fn quarantined(number: u64) -> Quarantined {
    Quarantined {
        body: format!("{{\"number\": {number}, \"broken\"\u{fffd}"),
        reason: QuarantineReason::Unreadable,
        detail: format!("piece {number} is not JSON"),
        source: "http".to_owned(),
        received_at: NOON,
    }
}

/// A decision, `number` hours after [`NOON`], in the place with that number.
pub fn decision(number: u64) -> Sequenced<Decision> {
    let hours = i64::try_from(number).expect("the suite counts to small numbers");
    let moment = Timestamp::from_micros(NOON.micros() + hours * 3_600_000_000);
    let mut random = [0; 10];
    random[2..].copy_from_slice(&number.to_be_bytes());
    let value = Decision {
        id: DecisionId::new(moment, random),
        model: model("will_return"),
        version: number.is_multiple_of(2).then_some(3),
        fallback: None,
        arm: None,
        entity: format!("user:{number}"),
        moment,
        offset: Offset(number * 10),
        features: vec![
            FeatureValue::number(number as f64 / 3.0),
            FeatureValue::Missing,
            FeatureValue::Category("x".into()),
        ],
        context: Map::new(),
        answer: Answer {
            score: 1.0 / (number as f64 + 2.0),
            label: Some("no".to_owned()),
            probabilities: Vec::new(),
        },
        items: Vec::new(),
        candidates: Vec::new(),
        given: false,
        after: None,
        latency_us: 120,
    };
    Sequenced {
        sequence: number,
        value,
    }
}

/// The outcome of the decision with that number.
pub fn outcome(number: u64) -> Sequenced<Outcome> {
    let decision = decision(number).value;
    let value = Outcome {
        decision: decision.id,
        model: decision.model,
        version: decision.version,
        fallback: None,
        entity: decision.entity,
        moment: decision.moment,
        resolved_at: Timestamp::from_micros(decision.moment.micros() + 86_400_000_000),
        score: decision.answer.score,
        value: if number.is_multiple_of(2) { 1.0 } else { 0.0 },
        class: None,
        list: None,
    };
    Sequenced {
        sequence: number,
        value,
    }
}
