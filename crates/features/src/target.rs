//! Targets: what is to be predicted about an observation, found in the events of `(moment, moment + within]`.
//!
//! The same code labels training rows and joins outcomes to live decisions.

use serde::{Deserialize, Serialize};
use tidemill_core::event::{EventView, Field};
use tidemill_core::project::Target;
use tidemill_core::{Event, Offset, Span, Timestamp};

use crate::value;

/// Says what became of observations of one model.
#[derive(Debug, Clone)]
pub struct TargetTracker {
    target: Target,
    /// The classes of a next-action model, `none` last.
    classes: Vec<String>,
}

/// An observation whose target is not certain yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// The moment of the observation.
    pub moment: Timestamp,
    /// The event at which it was made, which is not part of what it predicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub except: Option<Offset>,
    /// The sum so far.
    #[serde(default)]
    pub sum: f64,
    /// The earliest of the next actions so far: when, its offset, its class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<(Timestamp, Offset, usize)>,
}

/// What became of an observation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Resolved {
    /// 1 or 0; an amount; for next actions the index of the class among [`TargetTracker::classes`].
    pub value: f64,
    /// The class of a next-action model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Since when it is certain: the event that decided it, or the end of the horizon.
    pub at: Timestamp,
}

impl TargetTracker {
    /// For a model's target.
    pub fn new(target: &Target) -> Self {
        let classes = match target {
            Target::Next { events, .. } => events
                .iter()
                .cloned()
                .chain([Target::NONE.to_owned()])
                .collect(),
            _ => Vec::new(),
        };
        Self {
            target: target.clone(),
            classes,
        }
    }

    /// How long after the moment the answer is certain.
    pub fn within(&self) -> Span {
        self.target.within()
    }

    /// The classes of a next-action model: its events, then `none`.
    pub fn classes(&self) -> Option<&[String]> {
        (!self.classes.is_empty()).then_some(self.classes.as_slice())
    }

    /// Whether events of this name can decide anything. `*` means all but those of the system (`$identify`, …).
    pub fn is_relevant(&self, name: &str) -> bool {
        match &self.target {
            Target::NoEvent { event, .. } | Target::Event { event, .. } if event == "*" => {
                !name.starts_with('$')
            }
            Target::Event { event, .. }
            | Target::NoEvent { event, .. }
            | Target::Sum { event, .. } => event == name,
            Target::Next { events, .. } => events.iter().any(|event| event == name),
        }
    }

    /// What an event brings, as one number: the class of a next action, else an amount.
    pub(crate) fn brought(&self, event: &impl EventView) -> f64 {
        let happened = self.read(event);
        if self.classes.is_empty() {
            happened.amount
        } else {
            happened.class as f64
        }
    }

    /// What an event brought, from [`brought`](Self::brought).
    pub(crate) fn happened(&self, brought: f64) -> Happened {
        if self.classes.is_empty() {
            Happened {
                class: 0,
                amount: brought,
            }
        } else {
            Happened {
                class: brought as usize,
                amount: 0.0,
            }
        }
    }

    /// Whether it matters what an event brings, and not only that it happened.
    pub(crate) fn needs_value(&self) -> bool {
        matches!(self.target, Target::Sum { .. } | Target::Next { .. })
    }

    /// The field of an event that its amount is read from.
    pub(crate) fn field(&self) -> Option<&Field> {
        match &self.target {
            Target::Sum { value, .. } => Some(value),
            _ => None,
        }
    }

    /// An observation, not decided yet; `except` is the event at which it was made.
    pub fn pending(&self, moment: Timestamp, except: Option<Offset>) -> Pending {
        Pending {
            moment,
            except,
            sum: 0.0,
            next: None,
        }
    }

    /// What a target event brings: for sums its amount, for next actions its class.
    pub(crate) fn read(&self, event: &impl EventView) -> Happened {
        Happened {
            class: self.class_of(event.name()),
            amount: self.amount_of(event),
        }
    }

    fn class_of(&self, name: &str) -> usize {
        self.classes
            .iter()
            .position(|class| class == name)
            .unwrap_or(0)
    }

    fn amount_of(&self, event: &impl EventView) -> f64 {
        let Target::Sum { value, .. } = &self.target else {
            return 0.0;
        };
        let read = |field: &Field| event.field(field).and_then(|json| value::number(&json));
        read(value).unwrap_or(0.0)
    }

    /// Takes an event of the same person, in any order. Whether something happens is certain once it happens; sums and next
    /// actions wait for the end of the horizon, since an earlier event can still arrive late.
    pub fn observe(
        &self,
        pending: &mut Pending,
        event: &Event,
        offset: Offset,
    ) -> Option<Resolved> {
        if !self.is_relevant(&event.name) {
            return None;
        }
        self.take(pending, event.timestamp, offset, self.read(event))
    }

    pub(crate) fn take(
        &self,
        pending: &mut Pending,
        timestamp: Timestamp,
        offset: Offset,
        happened: Happened,
    ) -> Option<Resolved> {
        let end = pending.moment + self.within();
        if timestamp <= pending.moment || timestamp > end || pending.except == Some(offset) {
            return None;
        }
        match &self.target {
            Target::Event { .. } => Some(Resolved {
                value: 1.0,
                class: None,
                at: timestamp,
            }),
            Target::NoEvent { .. } => Some(Resolved {
                value: 0.0,
                class: None,
                at: timestamp,
            }),
            Target::Sum { .. } => {
                pending.sum = (pending.sum + happened.amount).clamp(f64::MIN, f64::MAX);
                None
            }
            Target::Next { .. } => {
                let this = (timestamp, offset, happened.class);
                pending.next = Some(pending.next.map_or(this, |earliest| earliest.min(this)));
                None
            }
        }
    }

    /// What is certain once the horizon has passed; `None` before.
    pub fn expire(&self, pending: &Pending, now: Timestamp) -> Option<Resolved> {
        let at = pending.moment + self.within();
        if now < at {
            return None;
        }
        Some(match &self.target {
            Target::Event { .. } => Resolved {
                value: 0.0,
                class: None,
                at,
            },
            Target::NoEvent { .. } => Resolved {
                value: 1.0,
                class: None,
                at,
            },
            Target::Sum { .. } => Resolved {
                value: pending.sum,
                class: None,
                at,
            },
            Target::Next { .. } => {
                let class = pending
                    .next
                    .map_or(self.classes.len() - 1, |(_, _, class)| class);
                Resolved {
                    value: class as f64,
                    class: self.classes.get(class).cloned(),
                    at,
                }
            }
        })
    }
}

/// What a target event brings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Happened {
    class: usize,
    amount: f64,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MOMENT: Timestamp = Timestamp::from_micros(1_000_000_000);

    /// Events are (name, seconds after the moment, total); the horizon is 10 s.
    fn check(target: &Target, events: &[(&str, i64, f64)], expected: (f64, i64)) {
        let tracker = TargetTracker::new(target);
        let mut pending = tracker.pending(MOMENT, Some(Offset(100)));
        let mut resolved = None;
        for (index, (name, seconds, total)) in events.iter().enumerate() {
            let event: Event = serde_json::from_value(json!({
                "message_id": "m", "kind": "track", "name": name, "user_id": "u", "properties": { "total": total },
                "timestamp": MOMENT + Span::from_seconds(*seconds), "received_at": MOMENT
            }))
            .unwrap();
            let offset = if *seconds == 0 {
                Offset(100)
            } else {
                Offset(index as u64)
            };
            resolved = resolved.or_else(|| tracker.observe(&mut pending, &event, offset));
        }
        let end = MOMENT + tracker.within();
        assert_eq!(tracker.expire(&pending, end - Span::from_micros(1)), None);
        let resolved = resolved.or_else(|| tracker.expire(&pending, end)).unwrap();
        assert_eq!(
            (resolved.value, resolved.at),
            (expected.0, MOMENT + Span::from_seconds(expected.1)),
            "{events:?}"
        );
        assert_eq!(
            resolved.class.as_deref(),
            tracker
                .classes()
                .map(|classes| classes[resolved.value as usize].as_str())
        );
    }

    #[test]
    fn horizons_begin_after_the_moment_and_include_their_end() {
        let within = Span::from_seconds(10);
        let buy = Target::Event {
            event: "Buy".into(),
            within,
        };
        check(&buy, &[("Buy", 0, 1.0), ("Look", 5, 1.0)], (0.0, 10));
        check(&buy, &[("Buy", -1, 1.0), ("Buy", 11, 1.0)], (0.0, 10));
        check(&buy, &[("Buy", 10, 1.0)], (1.0, 10));
        let quiet = Target::NoEvent {
            event: "*".into(),
            within,
        };
        check(&quiet, &[("$identify", 3, 1.0)], (1.0, 10));
        check(&quiet, &[("Look", 3, 1.0)], (0.0, 3));
        let spent = Target::Sum {
            event: "Buy".into(),
            value: "properties.total".parse().unwrap(),
            within,
        };
        check(
            &spent,
            &[("Buy", 1, 1.5), ("Look", 2, 7.0), ("Buy", 9, 2.0)],
            (3.5, 10),
        );
        check(&spent, &[], (0.0, 10));
        let next = Target::Next {
            events: vec!["Buy".into(), "Leave".into()],
            within,
        };
        check(&next, &[("Leave", 5, 0.0), ("Buy", 3, 0.0)], (0.0, 10));
        check(&next, &[("Look", 5, 0.0)], (2.0, 10));
    }
}
