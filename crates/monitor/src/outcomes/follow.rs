//! What the decisions of a model wait for, and what they have seen so far.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::decision::{Answer, Fallback, ListOutcome, TakenItem};
use tidemill_core::event::Field;
use tidemill_core::project::{ItemDeclaration, PredictModel, RecommendModel};
use tidemill_core::{Decision, DecisionId, Event, ModelName, Offset, Outcome, Span, Timestamp};
use tidemill_evaluate::RankingMetric;
use tidemill_features::target::{Pending, Resolved, TargetTracker};
use tidemill_features::value;

/// The depth at which lists are measured.
pub(super) const DEPTH: usize = 10;
/// Other items than those of the list that are told apart.
const OTHERS_MAX: usize = 256;

/// What the decisions of a model wait for.
pub(super) enum Follow {
    /// The target of a model that predicts.
    Target(TargetTracker),
    /// That something of a list is taken.
    Taken {
        /// The events that say so.
        events: Vec<String>,
        /// Where they name the item.
        item: Field,
        within: Span,
    },
}

/// A decision whose outcome is not known yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Open {
    pub(super) id: DecisionId,
    pub(super) model: ModelName,
    pub(super) version: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fallback: Option<Fallback>,
    pub(super) entity: String,
    pub(super) moment: Timestamp,
    answer: Answer,
    pending: Pending,
    /// Of a model that recommends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<OpenList>,
}

/// A list of which something may still be taken.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OpenList {
    shown: Vec<String>,
    /// As many of what everybody took then.
    popular: Vec<String>,
    /// The places of the items of either that were taken, in the order in which that was seen.
    taken: Vec<usize>,
    popular_taken: Vec<usize>,
    /// Hashes of the items that were taken and are not in the list.
    others: BTreeSet<u64>,
}

/// What an event was to an open decision.
pub(super) enum Seen {
    Nothing,
    /// It is not decided yet.
    Something,
    Enough(Resolved),
}

impl Follow {
    pub(super) fn target(model: &PredictModel) -> Self {
        Self::Target(TargetTracker::new(&model.target))
    }

    pub(super) fn taken(model: &RecommendModel, items: &ItemDeclaration) -> Self {
        Self::Taken {
            events: model.goals().map(str::to_owned).collect(),
            item: items.id.clone(),
            within: model.within,
        }
    }

    /// How long after the moment the outcome is certain.
    pub(super) fn within(&self) -> Span {
        match self {
            Self::Target(tracker) => tracker.within(),
            Self::Taken { within, .. } => *within,
        }
    }

    /// Whether events of this name can decide anything.
    pub(super) fn is_relevant(&self, name: &str) -> bool {
        match self {
            Self::Target(tracker) => tracker.is_relevant(name),
            Self::Taken { events, .. } => events.iter().any(|event| event == name),
        }
    }

    /// A decision that begins to wait; `None` where nothing can come: about nobody, or the order of items that the caller had.
    pub(super) fn open(
        &self,
        decision: &Decision,
        popular: impl FnOnce() -> Arc<Vec<Arc<str>>>,
    ) -> Option<Open> {
        let list = match self {
            Self::Target(_) => None,
            Self::Taken { .. } if decision.entity.is_empty() || decision.given => return None,
            Self::Taken { .. } => {
                let shown = decision.items.iter().map(|shown| shown.item.clone());
                let popular = popular();
                let popular = popular.iter().take(decision.items.len());
                Some(OpenList {
                    shown: shown.collect(),
                    popular: popular.map(ToString::to_string).collect(),
                    ..OpenList::default()
                })
            }
        };
        Some(Open {
            id: decision.id,
            model: decision.model.clone(),
            version: decision.version,
            fallback: decision.fallback,
            entity: decision.entity.clone(),
            moment: decision.moment,
            answer: decision.answer.clone(),
            pending: Pending {
                moment: decision.moment,
                except: None,
                sum: 0.0,
                next: None,
            },
            list,
        })
    }

    /// Shows an event of the same person.
    pub(super) fn observe(&self, open: &mut Open, event: &Event, offset: Offset) -> Seen {
        if !self.is_relevant(&event.name) {
            return Seen::Nothing;
        }
        match (self, &mut open.list) {
            (Self::Target(tracker), _) => {
                let resolved = tracker.observe(&mut open.pending, event, offset);
                resolved.map_or(Seen::Something, Seen::Enough)
            }
            (Self::Taken { item, within, .. }, Some(list)) => {
                let end = open.moment + *within;
                if event.timestamp <= open.moment || event.timestamp > end {
                    return Seen::Nothing;
                }
                let named = event.field(item);
                let named = named.as_deref().and_then(value::category);
                let took = named.is_some_and(|item| list.took(&item));
                if took { Seen::Something } else { Seen::Nothing }
            }
            (Self::Taken { .. }, None) => Seen::Nothing,
        }
    }

    /// What is certain once the horizon has passed; `None` before.
    pub(super) fn expire(&self, open: &Open, now: Timestamp) -> Option<Resolved> {
        match self {
            Self::Target(tracker) => tracker.expire(&open.pending, now),
            Self::Taken { within, .. } => {
                let at = open.moment + *within;
                let taken = open.list.as_ref().map_or(0, |list| list.taken.len());
                (now >= at).then_some(Resolved {
                    value: taken as f64,
                    class: None,
                    at,
                })
            }
        }
    }
}

impl OpenList {
    /// Notes that an item was taken; returns whether that is news.
    fn took(&mut self, item: &str) -> bool {
        let place_in = |list: &[String]| list.iter().position(|shown| shown == item);
        let mut is_new = false;
        if let Some(place) = place_in(&self.popular)
            && !self.popular_taken.contains(&place)
        {
            self.popular_taken.push(place);
            is_new = true;
        }
        match place_in(&self.shown) {
            Some(place) if self.taken.contains(&place) => {}
            Some(place) => {
                self.taken.push(place);
                is_new = true;
            }
            None if self.others.len() < OTHERS_MAX => is_new |= self.others.insert(hash(item)),
            None => {}
        }
        is_new
    }

    fn outcome(&self) -> ListOutcome {
        let all = self.taken.len() + self.others.len();
        let item = |&place: &usize| TakenItem {
            item: self.shown[place].clone(),
            place,
        };
        ListOutcome {
            taken: self.taken.iter().map(item).collect(),
            others: self.others.len(),
            ndcg: ndcg(&self.taken, all),
            popular_taken: self.popular_taken.len(),
            popular_ndcg: ndcg(&self.popular_taken, all),
        }
    }
}

/// The NDCG@10 of a list of which these places were taken, out of `all` items that were taken at all; `None` where nothing was.
fn ndcg(places: &[usize], all: usize) -> Option<f64> {
    // only places matter: the list is numbered, and what is not in it has numbers of its own
    let list: Vec<u32> = (0..DEPTH as u32).collect();
    let taken = places.iter().map(|place| *place as u32);
    let others = (places.len()..all).map(|other| u32::MAX - other as u32);
    let taken: Vec<u32> = taken.chain(others).collect();
    RankingMetric::Ndcg.at(DEPTH, &list, &taken)
}

/// FNV-1a: it only tells the items of one list apart, and is the same in every process.
fn hash(item: &str) -> u64 {
    item.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Open {
    /// The items of its list.
    pub(super) fn into_shown(self) -> Vec<String> {
        self.list.map_or(Vec::new(), |list| list.shown)
    }

    /// What became of it.
    pub(super) fn outcome(&self, resolved: Resolved) -> Outcome {
        let (score, value) = match &resolved.class {
            Some(class) => {
                let said = self.answer.probabilities.iter().find(|p| p.class == *class);
                let hit = self.answer.label.as_deref() == Some(class);
                (
                    said.map_or(0.0, |p| p.probability),
                    f64::from(u8::from(hit)),
                )
            }
            None => (self.answer.score, resolved.value),
        };
        Outcome {
            decision: self.id,
            model: self.model.clone(),
            version: self.version,
            fallback: self.fallback,
            entity: self.entity.clone(),
            moment: self.moment,
            resolved_at: resolved.at,
            score,
            value,
            class: resolved.class,
            list: self.list.as_ref().map(OpenList::outcome),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_counts_once_and_where_it_stood() {
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let mut list = OpenList {
            shown: names(&["a", "b", "c"]),
            popular: names(&["x", "b", "y"]),
            ..OpenList::default()
        };
        assert_eq!(list.outcome().ndcg, None);
        assert!(list.took("c") && list.took("b") && list.took("z"));
        assert!(!list.took("c") && !list.took("z"));
        let outcome = list.outcome();
        let taken: Vec<(&str, usize)> = outcome
            .taken
            .iter()
            .map(|one| (&*one.item, one.place))
            .collect();
        assert_eq!(taken, [("c", 2), ("b", 1)]);
        assert_eq!((outcome.others, outcome.popular_taken), (1, 1));
        let gain = |rank: f64| 1.0 / (rank + 1.0).log2();
        let ideal = gain(1.0) + gain(2.0) + gain(3.0);
        assert_eq!(outcome.ndcg, Some((gain(2.0) + gain(3.0)) / ideal));
        assert_eq!(outcome.popular_ndcg, Some(gain(2.0) / ideal));
    }
}
