//! What is asked, and who can answer.

use std::collections::BTreeMap;

use tidemill_core::feature::FeatureValue;

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::interactions::Signal;

/// A question: what does someone with this history want?
#[derive(Debug, Clone, Copy)]
pub struct Query<'a> {
    /// What the person or session did, oldest first. May be empty.
    pub history: &'a [Signal],
    /// The moment of the question, in the time of the signals; the age of a signal is counted from here.
    pub now: i64,
    /// The person's segment, as [`Interactions::set_segments`](super::Interactions::set_segments) has it; absent where it is not known.
    pub segment: Option<&'a str>,
    /// The person's features, those that a [`super::Ranker`] was taught with and in that order; empty where they are not known.
    pub person: &'a [FeatureValue],
}

impl<'a> Query<'a> {
    /// A question at the time of the history's last signal.
    pub fn new(history: &'a [Signal]) -> Self {
        Self {
            history,
            now: history.last().map_or(0, |signal| signal.time),
            segment: None,
            person: &[],
        }
    }

    /// The last `limit` signals with their age in steps: the newest first, with 0.
    pub fn newest(&self, limit: usize) -> impl Iterator<Item = (usize, &'a Signal)> {
        self.history.iter().rev().take(limit).enumerate()
    }
}

/// Scores that do not depend on the history.
#[derive(Debug, Clone, Copy)]
pub struct Fixed<'s> {
    /// All items that have one, best first; of equal ones the lower item number first.
    pub ranking: &'s [(ItemIndex, f32)],
    /// By item; 0 where there is none.
    pub scores: &'s [f32],
    /// Those of items that came since.
    pub fresh: Option<FreshScores<'s>>,
}

/// Scores of items that came after a model was learnt, as of a moment.
#[derive(Debug, Clone, Copy)]
pub struct FreshScores<'s> {
    pub(super) best: &'s [(ItemIndex, f64)],
    pub(super) counts: &'s BTreeMap<ItemIndex, f64>,
    /// What a count is worth now.
    pub(super) factor: f64,
}

impl Fixed<'_> {
    /// The score of an item; 0 where there is none.
    pub fn score(&self, item: ItemIndex) -> f32 {
        let learnt = self.scores.get(item as usize).copied().unwrap_or(0.0);
        match &self.fresh {
            Some(fresh) if learnt <= 0.0 => {
                let count = fresh.counts.get(&item).copied().unwrap_or(0.0);
                (count * fresh.factor) as f32
            }
            _ => learnt,
        }
    }

    /// The best items, best first, and after them those that came since.
    pub fn best(&self, limit: usize, wanted: impl Fn(ItemIndex) -> bool) -> Vec<ItemIndex> {
        let learnt = self.ranking.iter().map(|(item, _)| *item);
        let learnt = learnt.filter(|item| wanted(*item)).take(limit);
        let fresh = self.fresh.iter().flat_map(|fresh| fresh.best);
        let fresh = fresh.map(|(item, _)| *item).filter(|item| wanted(*item));
        learnt.chain(fresh).collect()
    }
}

/// Something that scores items for a query. It keeps no data but what it learnt, and is shared by threads.
pub trait Source: Send + Sync {
    /// A short name, for tables and records.
    fn name(&self) -> &str;

    /// The size of the catalogue that it knows.
    fn items(&self) -> usize;

    /// Adds its scores to an empty accumulator: above 0 for what it would recommend, nothing for the rest. Items that are
    /// not in its catalogue are ignored. What was seen already is scored as well: whether it may be shown again is a
    /// question for the caller.
    fn score(&self, query: &Query<'_>, scores: &mut Accumulator);

    /// Its scores, where they are the same whatever the history is: nothing needs to be added up then.
    fn fixed(&self, _query: &Query<'_>) -> Option<Fixed<'_>> {
        None
    }

    /// The best `limit` items with their scores, best first.
    fn candidates(&self, query: &Query<'_>, limit: usize, out: &mut Vec<(ItemIndex, f32)>) {
        let mut scores = Accumulator::new(self.items());
        self.score(query, &mut scores);
        out.clear();
        scores.best(limit, out);
    }
}
