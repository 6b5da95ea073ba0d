//! Versions that recommend, beside each other.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use tidemill_core::decision::ShownItem;
use tidemill_core::{Decision, DecisionId, ModelName, Timestamp};

use super::shadow::in_turn;
use super::{Challenger, Pair, Question, Version};
use crate::answer::Answerer;
use crate::recommend::{OwnAsk, RecommendChampion};
use crate::registry::Failure;

impl Version for RecommendChampion {
    type Pair = ListPair;

    fn number(&self) -> u32 {
        self.number
    }

    fn columns(&self) -> usize {
        self.package.person_features().len()
    }
}

/// How the lists of both versions for one question compare.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ListPair {
    /// The share of the champion's items that the challenger has as well.
    pub shared: f64,
    /// A hash of the champion's list.
    pub champion: u64,
    /// A hash of the challenger's list.
    pub challenger: u64,
}

impl ListPair {
    /// Compares two lists; nothing can be said where the champion's is empty.
    fn of(champion: &[ShownItem], challenger: &[ShownItem]) -> Option<Self> {
        let ours: HashSet<&str> = challenger.iter().map(|one| one.item.as_str()).collect();
        let shared = champion
            .iter()
            .filter(|one| ours.contains(one.item.as_str()));
        let shared = shared.count() as f64;
        (!champion.is_empty()).then(|| Self {
            shared: shared / champion.len() as f64,
            champion: hash(champion),
            challenger: hash(challenger),
        })
    }
}

fn hash(list: &[ShownItem]) -> u64 {
    let mut hasher = DefaultHasher::new();
    list.iter().for_each(|shown| shown.item.hash(&mut hasher));
    hasher.finish()
}

impl Pair for ListPair {
    type Compared = Self;

    fn compared(&self) -> Self {
        *self
    }
}

/// A question for items.
pub(crate) struct ListQuestion {
    /// The model.
    pub(crate) model: ModelName,
    /// The decision that was given.
    pub(crate) decision: DecisionId,
    /// When it was asked.
    pub(crate) moment: Timestamp,
    /// What was asked.
    pub(crate) ask: OwnAsk,
    /// The version that takes over.
    pub(crate) challenger: Arc<Challenger<RecommendChampion>>,
    /// The version that answers.
    pub(crate) champion: Arc<RecommendChampion>,
}

impl ListQuestion {
    /// The list of a version, and how long it took in microseconds; nothing where the question itself cannot be answered.
    fn ask(
        &self,
        answerer: &Answerer,
        version: &Arc<RecommendChampion>,
    ) -> Option<(Result<Decision, Failure>, u64)> {
        let slot = answerer.registry.recommender(&self.model)?;
        let ask = self.ask.ask();
        let (made, took) = answerer.attempt(slot, &ask, version, (self.decision, self.moment));
        Some((made.ok()?.map(|listed| listed.decision), took))
    }
}

impl Question for ListQuestion {
    fn ask_again(&self, answerer: &Answerer) {
        let Self {
            challenger,
            champion,
            ..
        } = self;
        let versions = (&challenger.version, champion);
        let ask = |version: &Arc<_>| self.ask(answerer, version);
        let (ours, theirs) = in_turn(self.decision, versions, ask);
        let (Some((ours, our_us)), Some((theirs, their_us))) = (ours, theirs) else {
            return;
        };
        let tally = &challenger.tally;
        let is_heard = challenger.share > 0.0;
        match (ours, theirs) {
            (Err(failure), _) if !is_heard => tally.failed(None, our_us, &failure),
            (Ok(ours), Ok(theirs)) if ours.items.len() < theirs.items.len() && !is_heard => {
                tally.failed(None, our_us, &Failure::Short);
            }
            (Ok(ours), Ok(theirs)) => {
                let pair = ListPair::of(&theirs.items, &ours.items);
                match (pair, is_heard) {
                    (Some(pair), true) => tally.paired(pair),
                    (Some(pair), false) => {
                        tally.shadowed(pair, &ours.features, our_us, their_us);
                    }
                    (None, _) => {}
                }
            }
            _ => {}
        }
    }

    fn dropped(&self) {
        self.challenger.tally.dropped();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_compared_by_what_is_in_them() {
        let list = |items: &[&str]| -> Vec<ShownItem> {
            let shown = |item: &&str| ShownItem {
                item: (*item).to_owned(),
                score: 0.0,
                propensity: 1.0,
                explored: false,
            };
            items.iter().map(shown).collect()
        };
        let of = |champion: &[&str], challenger: &[&str]| {
            ListPair::of(&list(champion), &list(challenger))
        };
        let same = of(&["a", "b"], &["a", "b"]).unwrap();
        assert_eq!((same.shared, same.champion), (1.0, same.challenger));
        let turned = of(&["a", "b"], &["b", "a"]).unwrap();
        assert_eq!(turned.shared, 1.0);
        assert_ne!(turned.champion, turned.challenger, "the order counts");
        let half = of(&["a", "b", "c", "d"], &["d", "e", "a", "f"]).unwrap();
        assert_eq!(half.shared, 0.5);
        assert_eq!(of(&[], &["a"]), None);
    }
}
