//! What is asked, and who can answer.

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
    /// The person's segment, where sources keep one (see [`super::Popular`]).
    pub segment: Option<u32>,
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
