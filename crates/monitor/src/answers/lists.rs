//! What the lists of a version were like on a day: how long they were, and how much of them the same few items made up.

use std::collections::BTreeMap;

use tidemill_core::Decision;
use tidemill_features::codec::{DecodeError, Reader, Writer};

use crate::days::property::VALUE_BYTES_MAX;
use crate::days::{Measure, PropertyDay, Statistic, VALUES_MIN, mean_count, of_log_odds};

/// The most items that are told apart on a day.
const ITEMS_MAX: usize = 256;
/// The most shown items whose share is watched.
pub const MOST_SHOWN: usize = 10;
/// As many counts are taken for one part of a day, by the memory that they take.
const COUNTS_A_PART: usize = 16;

/// The lists of one version on one day. Those of items that the caller had, and those that go on with another, are left out: how long they
/// are and what is in them is not the version's doing.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListDay {
    /// How many items they had.
    pub lengths: PropertyDay,
    /// What they showed.
    pub shown: Shown,
}

/// How often items were shown. At most [`ITEMS_MAX`] are told apart; where there were more, each was shown more often than is counted here
/// by at most one in so many of all that was shown (Misra and Gries, *Finding repeated elements*, 1982; merged as by Agarwal and others,
/// *Mergeable summaries*, 2012).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shown {
    /// By item.
    pub counts: BTreeMap<String, u64>,
    /// Places in lists, of whatever item.
    pub total: u64,
}

impl ListDay {
    /// Takes a list; returns the log-odds of the best item that it was chosen from, where there was one and the list is looked at.
    pub(super) fn add(&mut self, decision: &Decision) -> Option<f64> {
        if decision.given || decision.after.is_some() {
            return None;
        }
        self.lengths.add_number(decision.items.len() as f64);
        for shown in &decision.items {
            self.shown.add(&shown.item);
        }
        decision.candidates.first().map(|best| best.score)
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.lengths.merge(&other.lengths);
        self.shown.merge(&other.shown);
    }

    pub(super) fn parts(&self) -> usize {
        self.shown.counts.len().div_ceil(COUNTS_A_PART)
    }

    /// Every question about lists that a day answers by itself, by what it is about; with the log-odds of their best items.
    pub(super) fn questions(
        &self,
        scores: &PropertyDay,
        (of_scores, of_lists): (&'static str, &'static str),
    ) -> Vec<(&'static str, Statistic, Measure)> {
        let scores = of_log_odds(scores).into_iter();
        let mut questions: Vec<_> = scores
            .map(|(statistic, measure)| (of_scores, statistic, measure))
            .collect();
        if self.lengths.present() < VALUES_MIN {
            return questions;
        }
        let length = mean_count(&self.lengths);
        questions.extend(length.map(|length| (of_lists, Statistic::ListLength, length)));
        let concentration = self.shown.concentration();
        questions.extend(concentration.map(|share| (of_lists, Statistic::Concentration, share)));
        questions
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        self.lengths.encode(writer);
        writer.unsigned(self.shown.total);
        writer.unsigned(self.shown.counts.len() as u64);
        for (item, count) in &self.shown.counts {
            writer.text(item);
            writer.unsigned(*count);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut day = Self {
            lengths: PropertyDay::decode(reader)?,
            ..Self::default()
        };
        day.shown.total = reader.amount()?;
        for _ in 0..reader.count()? {
            let item = reader.text()?.to_string();
            day.shown.counts.insert(item, reader.amount()?);
        }
        Ok(day)
    }
}

impl Shown {
    /// Takes an item of a list; one with a name that is too long is only counted.
    fn add(&mut self, item: &str) {
        self.total += 1;
        if let Some(count) = self.counts.get_mut(item) {
            *count += 1;
        } else if item.len() > VALUE_BYTES_MAX {
            // one among the others
        } else if self.counts.len() < ITEMS_MAX {
            self.counts.insert(item.to_owned(), 1);
        } else {
            self.lower(1);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.total += other.total;
        for (item, count) in &other.counts {
            *self.counts.entry(item.clone()).or_default() += count;
        }
        if self.counts.len() > ITEMS_MAX {
            let mut counts: Vec<u64> = self.counts.values().copied().collect();
            counts.sort_unstable_by(|one, other| other.cmp(one));
            self.lower(counts[ITEMS_MAX]);
        }
    }

    /// Counts each item so many times less.
    fn lower(&mut self, by: u64) {
        self.counts.retain(|_, count| {
            *count = count.saturating_sub(by);
            *count > 0
        });
    }

    /// The items that were shown most, with their shares of all that was shown, the most frequent first.
    pub fn most(&self, items: usize) -> Vec<(String, f64)> {
        let mut counts: Vec<(&String, u64)> = self
            .counts
            .iter()
            .map(|(item, count)| (item, *count))
            .collect();
        counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(other.0)));
        let counts = counts.into_iter().take(items);
        counts
            .map(|(item, count)| (item.clone(), count as f64 / self.total.max(1) as f64))
            .collect()
    }

    /// The share of everything shown that the [`MOST_SHOWN`] items make up, from 0 to 1; `None` where nothing was.
    pub fn concentration(&self) -> Option<Measure> {
        let total = self.total as f64;
        let share: f64 = self.most(MOST_SHOWN).iter().map(|(_, share)| share).sum();
        // items are the most shown by chance as well: what each has beyond its due adds up
        let chance = (MOST_SHOWN as f64 * share / total).sqrt();
        (self.total > 0).then(|| Measure {
            value: share,
            weight: total,
            noise: chance + 1.0 / total,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shows items by turns, the first of them as often as all others together.
    fn shown(places: std::ops::Range<u64>, items: u64) -> Shown {
        let mut shown = Shown::default();
        for place in places {
            shown.add("a");
            shown.add(&format!("item {}", place * 7_919 % items));
        }
        shown
    }

    #[test]
    fn few_items_are_counted_exactly_in_parts_as_well() {
        let whole = shown(0..1_000, 100);
        let mut merged = shown(0..300, 100);
        merged.merge(&shown(300..1_000, 100));
        assert_eq!(merged, whole);
        let most = whole.most(2);
        assert_eq!(most[0], ("a".to_owned(), 0.5));
        assert_eq!(most[1].1, 10.0 / 2_000.0);
        let share = whole.concentration().unwrap().value;
        assert!((share - (0.5 + 9.0 * 0.005)).abs() < 1e-9, "{share}");
    }

    #[test]
    fn of_many_items_the_frequent_ones_are_counted_nearly() {
        let mut merged = shown(0..4_000, 3_000);
        merged.merge(&shown(4_000..10_000, 3_000));
        for shown in [shown(0..10_000, 3_000), merged] {
            assert!(shown.counts.len() <= ITEMS_MAX && shown.total == 20_000);
            let most = shown.most(1);
            let off = 0.5 - most[0].1;
            assert!(most[0].0 == "a" && off >= 0.0 && off <= 1.0 / ITEMS_MAX as f64);
        }
    }

    #[test]
    fn nothing_shown_is_nothing_concentrated() {
        assert_eq!(Shown::default().concentration(), None);
    }
}
