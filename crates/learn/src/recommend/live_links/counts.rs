//! How often fresh items are taken, in the units of a model's own counts.

use std::collections::BTreeMap;

use crate::recommend::ItemIndex;
use crate::recommend::popular::Popularity;
use crate::recommend::query::FreshScores;

/// The best fresh items of a count are kept in order, so many.
const BEST: usize = 20;
/// Counts are brought back to ordinary size when the weight of a new one passes this.
const LARGE: f64 = 1e12;

/// Counts as a [`Popularity`] does: with forward decay (Cormode et al., ICDE 2009), so that what fades keeps its order.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct LiveCounts {
    half_life_seconds: f64,
    /// A signal of this time weighs 1 in `counts`.
    reference: i64,
    counts: BTreeMap<ItemIndex, f64>,
    best: Vec<(ItemIndex, f64)>,
}

impl LiveCounts {
    pub(super) fn beside(popular: &Popularity) -> Self {
        Self {
            half_life_seconds: popular.half_life_seconds(),
            reference: popular.latest(),
            counts: BTreeMap::new(),
            best: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, item: ItemIndex, weight: f32, time: i64) {
        let mut grown = self.grown(time);
        if grown > LARGE {
            self.counts.values_mut().for_each(|count| *count /= grown);
            self.best.iter_mut().for_each(|(_, count)| *count /= grown);
            (self.reference, grown) = (time, 1.0);
        }
        let count = self.counts.entry(item).or_insert(0.0);
        *count += f64::from(weight) * grown;
        let count = *count;
        self.best.retain(|(other, _)| *other != item);
        let place = self.best.partition_point(|(_, other)| *other >= count);
        self.best.insert(place, (item, count));
        self.best.truncate(BEST);
    }

    /// What they are at a moment.
    pub(super) fn at(&self, now: i64) -> FreshScores<'_> {
        FreshScores {
            best: &self.best,
            counts: &self.counts,
            factor: 1.0 / self.grown(now),
        }
    }

    fn grown(&self, time: i64) -> f64 {
        match self.half_life_seconds > 0.0 {
            true => ((time - self.reference) as f64 / self.half_life_seconds).exp2(),
            false => 1.0,
        }
    }
}
