//! What somebody took before and may want again.

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::query::{Query, Source};

/// Scores the items of the history itself: each signal's weight over one plus its age in steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Repeats {
    /// The size of the catalogue.
    pub items: usize,
}

impl Repeats {
    /// Scores those items of the history that are wanted.
    pub(super) fn score_all(
        &self,
        query: &Query<'_>,
        scores: &mut Accumulator,
        is_wanted: impl Fn(ItemIndex) -> bool,
    ) {
        for (age, signal) in query.newest(usize::MAX) {
            if is_wanted(signal.item) {
                scores.add(signal.item, signal.weight / (1.0 + age as f32));
            }
        }
    }
}

impl Source for Repeats {
    fn name(&self) -> &str {
        "repeats"
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        self.score_all(query, scores, |item| (item as usize) < self.items);
    }
}
