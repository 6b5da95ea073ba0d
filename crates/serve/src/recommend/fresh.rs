//! What a version gets to know, while it serves, of items that nobody had taken when it was learnt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidemill_core::Offset;
use tidemill_core::event::PersonKey;
use tidemill_features::engine::History;
use tidemill_learn::recommend::{ItemIndex, LiveLinks, Signal};

use super::package::RecommendPackage;

/// The most persons whose fresh items are counted.
const PERSONS_MAX: usize = 200_000;

/// Numbers for items that the package has none for, and what goes with those of which nothing was known.
pub(super) struct FreshItems {
    /// The first number that is given here.
    first: usize,
    names: Vec<Arc<str>>,
    index: HashMap<Arc<str>, ItemIndex>,
    links: LiveLinks,
    /// Those whose history is counted: only what they take from now on is new.
    counted: HashSet<PersonKey>,
    /// Whether something was left out for want of room.
    is_full: bool,
}

impl FreshItems {
    /// Nothing yet, beside a package; `None` where its model has no graph to go on with.
    pub(super) fn beside(package: &RecommendPackage) -> Option<Self> {
        Some(Self {
            first: package.items.len().max(package.fitted.items()),
            names: Vec::new(),
            index: HashMap::new(),
            links: LiveLinks::beside(&package.fitted)?,
            counted: HashSet::new(),
            is_full: false,
        })
    }

    /// The number of an item that the package has none for.
    pub(super) fn number(&self, id: &str) -> Option<ItemIndex> {
        self.index.get(id).copied()
    }

    /// The item of a number that was given here.
    pub(super) fn name(&self, item: ItemIndex) -> Option<&Arc<str>> {
        self.names.get((item as usize).checked_sub(self.first)?)
    }

    pub(super) fn links(&self) -> &LiveLinks {
        &self.links
    }

    /// Gives an item a number where there is room.
    fn numbered(&mut self, id: &Arc<str>, package: &RecommendPackage) -> Option<ItemIndex> {
        if let Some(number) = self.number(id) {
            return Some(number);
        }
        let (number, items) = (self.first + self.names.len(), package.fitted.items());
        if number >= items + LiveLinks::room(items) {
            self.leave_out(package, "items");
            return None;
        }
        let number = ItemIndex::try_from(number).ok()?;
        self.names.push(id.clone());
        self.index.insert(id.clone(), number);
        Some(number)
    }

    /// Whether the history of a person is counted.
    pub(super) fn is_counted(&self, person: &PersonKey) -> bool {
        self.counted.contains(person)
    }

    /// Takes in what somebody has taken, of which what is after an offset is new. `known` are the numbers of the package.
    pub(super) fn observe(
        &mut self,
        history: &History,
        after: Offset,
        (package, known): (&RecommendPackage, &HashMap<Arc<str>, ItemIndex>),
    ) {
        let is_counted = self.is_counted(&history.person);
        if !is_counted && self.counted.len() >= PERSONS_MAX {
            return self.leave_out(package, "persons");
        }
        let mut signals = Vec::with_capacity(history.taken.len());
        let mut is_new = Vec::with_capacity(history.taken.len());
        for taken in &history.taken {
            let number = known.get(&taken.item).copied();
            let Some(item) = number.or_else(|| self.numbered(&taken.item, package)) else {
                continue;
            };
            signals.push(Signal {
                item,
                weight: package.signals[taken.signal].weight,
                time: taken.timestamp.micros() / 1_000_000,
            });
            is_new.push(taken.offset > after || !is_counted);
        }
        if signals
            .iter()
            .any(|signal| self.links.is_fresh(signal.item))
        {
            self.links.observe(&signals, &is_new);
            if !is_counted {
                self.counted.insert(history.person.clone());
            }
        }
    }

    /// Says once that there is no room for more.
    fn leave_out(&mut self, package: &RecommendPackage, what: &str) {
        if !self.is_full {
            let model = &package.model;
            tracing::warn!(%model, what, "no more of what came since is counted until the next version: there is no room");
        }
        self.is_full = true;
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::Timestamp;
    use tidemill_features::engine::Taken;
    use tidemill_learn::recommend::conformance::two_tastes;
    use tidemill_learn::recommend::{Pinned, Question, Recommender};

    use super::*;
    use crate::recommend::{RecommendChampion, SignalOf};

    /// A model of the items i0 to i23, of which nobody had taken the last four.
    fn package() -> RecommendPackage {
        let pinned = Pinned {
            sources: Some(vec!["goes with", "popular"]),
            ..Pinned::default()
        };
        let recommender = Recommender::quick(Question::Later);
        let fitted = recommender.pinned(&pinned).unwrap().fit(&two_tastes());
        RecommendPackage::new(
            ("shop".parse().unwrap(), "for_you".parse().unwrap()),
            (0..24).map(|item| format!("i{item}").into()).collect(),
            vec![SignalOf {
                event: "Taken".to_owned(),
                weight: 1.0,
            }],
            fitted,
            Vec::new(),
            Timestamp::EPOCH,
        )
    }

    fn person() -> PersonKey {
        PersonKey::user("ada")
    }

    /// Items with the offsets of their events.
    fn history(taken: &[(&str, u64)]) -> History {
        let taken = taken.iter().map(|(item, offset)| Taken {
            item: Arc::from(*item),
            signal: 0,
            timestamp: Timestamp::EPOCH,
            offset: Offset(*offset),
        });
        History {
            person: person(),
            known: true,
            offset: Offset(9),
            moment: Timestamp::EPOCH,
            taken: taken.collect(),
        }
    }

    #[test]
    fn a_person_counts_once_and_then_by_what_is_new() {
        let package = package();
        let known = package.index();
        let mut fresh = FreshItems::beside(&package).unwrap();
        let mut observe = |taken: &[(&str, u64)], after: u64| {
            fresh.observe(&history(taken), Offset(after), (&package, &known));
            (fresh.links().clone(), fresh.is_counted(&person()))
        };
        // nothing of it is fresh
        assert!(!observe(&[("i1", 1), ("i2", 2)], 0).1);
        // all of a history is new that is seen for the first time, wherever its events stand
        let first = observe(&[("i1", 1), ("i20", 3)], 8);
        assert!(first.1);
        assert_eq!(first.0.fresh_items(), 1);
        assert!(
            observe(&[("i1", 1), ("i20", 3)], 8) == first,
            "it counts once"
        );
        // an item without a number gets one
        let second = observe(&[("i1", 1), ("i20", 3), ("novel", 9)], 8);
        assert_eq!(second.0.fresh_items(), 2);
        let again = observe(&[("i1", 1), ("i20", 3), ("novel", 9)], 9);
        assert!(again == second, "what was seen is not new");
        let number = fresh.number("novel").unwrap();
        assert_eq!(fresh.name(number).map(AsRef::as_ref), Some("novel"));
    }

    #[test]
    fn it_is_news_what_is_fresh_or_taken_by_those_who_took_such() {
        let champion = RecommendChampion::new(1, package(), None);
        let ada = person();
        let found = ["i1", "i20", "novel"].map(|item| champion.is_news(&ada, item));
        assert_eq!(found, [false, true, true]);
        champion.observe(&history(&[("i20", 1)]), Offset(0));
        assert!(champion.is_news(&ada, "i1"));
        assert!(!champion.is_news(&PersonKey::user("bob"), "i1"));
    }
}
