//! What a version gets to know, while it serves, of items that nobody had taken when it was learnt.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tidemill_core::event::PersonKey;
use tidemill_learn::recommend::{ItemIndex, LiveLinks, Recommendations, Signal};

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
    fn numbered(&mut self, id: &Arc<str>, model: &Recommendations) -> Option<ItemIndex> {
        if let Some(number) = self.number(id) {
            return Some(number);
        }
        let number = self.first + self.names.len();
        if number >= model.items() + LiveLinks::room(model.items()) {
            return None;
        }
        let number = ItemIndex::try_from(number).ok()?;
        self.names.push(id.clone());
        self.index.insert(id.clone(), number);
        Some(number)
    }

    /// Takes in what somebody has taken, oldest first, each with whether it is new. `known` are the numbers of the package.
    pub(super) fn observe(
        &mut self,
        person: &PersonKey,
        taken: &[(Arc<str>, Signal, bool)],
        known: &HashMap<Arc<str>, ItemIndex>,
        model: &Recommendations,
    ) {
        let is_counted = self.counted.contains(person);
        if !is_counted && self.counted.len() >= PERSONS_MAX {
            return;
        }
        let mut history = Vec::with_capacity(taken.len());
        let mut is_new = Vec::with_capacity(taken.len());
        for (id, signal, new) in taken {
            let number = known.get(id).copied();
            let Some(item) = number.or_else(|| self.numbered(id, model)) else {
                continue;
            };
            history.push(Signal { item, ..*signal });
            is_new.push(*new || !is_counted);
        }
        if history
            .iter()
            .any(|signal| self.links.is_fresh(signal.item))
        {
            self.links.observe(&history, &is_new);
            if !is_counted {
                self.counted.insert(person.clone());
            }
        }
    }
}
