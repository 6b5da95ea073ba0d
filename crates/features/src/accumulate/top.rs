//! The most frequent values, with a bounded number of counters.

use std::sync::Arc;

use tidemill_core::FeatureValue;

use crate::codec::{DecodeError, Reader, Writer};

/// A `top` cell has this many counters. It counts as many different values exactly; from then on the rarest gives way to a newcomer,
/// which takes over its count (Space-Saving: Metwally, Agrawal, El Abbadi, *Efficient computation of frequent and top-k elements in
/// data streams*, 2005).
pub const TOP_PER_CELL_MAX: usize = 32;

/// Values and how often they came, at most [`TOP_PER_CELL_MAX`], in the order of the values.
///
/// Of `n` values, the counter of one that came `f` times says from `f` to `f + n/32`, and every value that came more than `n/32`
/// times has a counter. That holds however cells are merged. Proof: (1) the counters sum to `n` at most, since an event adds 1 to
/// one of them; so the smallest of 32 is at most `n/32`. (2) What has no counter came at most as often as the smallest one says,
/// and a newcomer overestimates by no more than that. (3) Merging credits a value that one side has no counter for with that side's
/// smallest count, hence never too little and by (1) at most n₁/32 + n₂/32 too much; any 32 of the merged counters sum to n₁ + n₂ at
/// most, since each side's share of them is at most that side's own sum; so at most 31 of them exceed n/32, and keeping the 32
/// largest loses nothing that came more often (after Cafaro, Pulimeno and Tempesta, *A parallel space saving algorithm for frequent
/// items and the Hurwitz zeta distribution*, 2016).
#[derive(Debug, Clone, PartialEq)]
pub struct Top(Vec<(Arc<str>, u64)>);

impl Top {
    /// One value.
    pub fn of(text: Arc<str>) -> Self {
        Self(vec![(text, 1)])
    }

    /// Adds a value.
    pub fn add(&mut self, text: &Arc<str>) {
        match self.0.binary_search_by(|(known, _)| known.cmp(text)) {
            Ok(index) => self.0[index].1 = self.0[index].1.saturating_add(1),
            Err(index) if self.0.len() < TOP_PER_CELL_MAX => {
                self.0.insert(index, (text.clone(), 1));
            }
            Err(_) => self.replace_rarest(text),
        }
    }

    /// Of the rarest, the last in the order of values gives way.
    fn replace_rarest(&mut self, text: &Arc<str>) {
        let rank = |&index: &usize| (self.0[index].1, std::cmp::Reverse(index));
        if let Some(rarest) = (0..self.0.len()).min_by_key(rank) {
            let (_, count) = self.0.remove(rarest);
            let index = self.0.partition_point(|(known, _)| known < text);
            self.0
                .insert(index, (text.clone(), count.saturating_add(1)));
        }
    }

    /// How often a value without a counter may have come.
    fn uncounted(&self) -> u64 {
        let counts = self.0.iter().map(|(_, count)| *count);
        if self.0.len() < TOP_PER_CELL_MAX {
            0
        } else {
            counts.min().unwrap_or(0)
        }
    }

    /// Adds the values of another cell.
    pub fn merge(&mut self, other: &Self) {
        let (credit_of_ours, credit_of_theirs) = (self.uncounted(), other.uncounted());
        let mut merged: Vec<(Arc<str>, u64)> = Vec::with_capacity(self.0.len() + other.0.len());
        let mut ours = self.0.drain(..).peekable();
        for (text, count) in &other.0 {
            while let Some((earlier, count)) = ours.next_if(|(known, _)| known < text) {
                merged.push((earlier, count.saturating_add(credit_of_theirs)));
            }
            let same = ours.next_if(|(known, _)| known == text);
            let known = same.map_or(credit_of_ours, |(_, count)| count);
            merged.push((text.clone(), count.saturating_add(known)));
        }
        merged.extend(ours.map(|(text, count)| (text, count.saturating_add(credit_of_theirs))));
        if merged.len() > TOP_PER_CELL_MAX {
            merged.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            merged.truncate(TOP_PER_CELL_MAX);
            merged.sort_by(|a, b| a.0.cmp(&b.0));
        }
        self.0 = merged;
    }

    /// Appends the `k` most frequent values of all cells together, as if they had been merged with as many counters as they need;
    /// of equally frequent ones the first in the order of values.
    pub(super) fn read(cells: &[&Self], k: usize, row: &mut Vec<FeatureValue>) {
        // Every value gets each cell's credit for values without a counter, which leaves their order alone; so it is enough to add
        // what the counters say beyond that.
        let mut counts: Vec<(&Arc<str>, u64)> = Vec::new();
        for cell in cells {
            let uncounted = cell.uncounted();
            counts.extend(cell.0.iter().map(|(text, count)| (text, count - uncounted)));
        }
        counts.sort_by(|a, b| a.0.cmp(b.0));
        counts.dedup_by(|later, kept| {
            let same = later.0 == kept.0;
            if same {
                kept.1 = kept.1.saturating_add(later.1);
            }
            same
        });
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        let found = counts
            .into_iter()
            .map(|(text, _)| FeatureValue::Category(text.clone()));
        row.extend(
            found
                .chain(std::iter::repeat(FeatureValue::Missing))
                .take(k),
        );
    }

    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.unsigned(self.0.len() as u64);
        for (text, count) in &self.0 {
            writer.text(text);
            writer.unsigned(*count);
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let counts = (0..reader.count()?)
            .map(|_| Ok((reader.text()?, reader.amount()?)))
            .collect::<Result<Vec<_>, DecodeError>>()?;
        if counts.len() > TOP_PER_CELL_MAX || !counts.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError("counted values are not in order"));
        }
        Ok(Self(counts))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn text(number: u16) -> Arc<str> {
        format!("v{number:03}").into()
    }

    fn top(values: &[u16]) -> Top {
        let mut top = Top(Vec::new());
        values.iter().for_each(|value| top.add(&text(*value)));
        top
    }

    /// Values that differ in how frequent they are: squaring makes the small ones common.
    fn values() -> impl Strategy<Value = Vec<u16>> {
        let common = (0u16..14).prop_map(|root| root * root);
        prop::collection::vec(prop_oneof![common, 0u16..400], 0..400)
    }

    fn check_bound(top: &Top, values: &[u16]) {
        let mut counts: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for value in values {
            *counts.entry(text(*value)).or_default() += 1;
        }
        let off = values.len() as u64 / TOP_PER_CELL_MAX as u64;
        assert!(top.0.len() <= TOP_PER_CELL_MAX);
        for (value, &count) in &counts {
            let found = top.0.iter().find(|(known, _)| known == value);
            match found {
                Some((_, found)) => assert!(
                    (count..=count + off).contains(found),
                    "{value} came {count} times of {}, counted {found}",
                    values.len()
                ),
                None => assert!(
                    count <= off,
                    "{value} came {count} times of {}",
                    values.len()
                ),
            }
        }
        let exact = counts.len() <= TOP_PER_CELL_MAX;
        assert!(!exact || top.0.iter().cloned().eq(counts));
    }

    proptest! {
        #[test]
        fn frequent_values_stay_and_counts_are_off_by_a_32nd(parts in prop::collection::vec(values(), 1..6)) {
            let mut merged = top(&[]);
            let mut all = Vec::new();
            for part in &parts {
                let cell = top(part);
                check_bound(&cell, part);
                merged.merge(&cell);
                all.extend_from_slice(part);
                check_bound(&merged, &all);
            }
        }

        /// What a window reads of several cells keeps the bound as well: nothing that came n/32 times more often comes later.
        #[test]
        fn windows_keep_the_bound(parts in prop::collection::vec(values(), 1..6), k in 1usize..5) {
            let cells: Vec<Top> = parts.iter().map(|part| top(part)).collect();
            let mut row = Vec::new();
            Top::read(&cells.iter().collect::<Vec<_>>(), k, &mut row);
            prop_assert_eq!(row.len(), k);
            let mut counts: BTreeMap<Arc<str>, usize> = BTreeMap::new();
            for value in parts.iter().flatten() {
                *counts.entry(text(*value)).or_default() += 1;
            }
            let off = parts.iter().map(Vec::len).sum::<usize>() / TOP_PER_CELL_MAX;
            let shown: Vec<&str> = row.iter().filter_map(FeatureValue::as_category).collect();
            prop_assert!(shown.len() == k.min(counts.len()));
            for (rank, value) in shown.iter().enumerate() {
                for (other, count) in &counts {
                    let later = !shown[..=rank].contains(&other.as_ref());
                    prop_assert!(!later || *count <= counts[*value] + off, "{other} before {value}");
                }
            }
        }
    }

    /// `z` came 15 times, but gave way to `v` in the full cell, where `v` seems to have come 11 times.
    #[test]
    fn a_window_gives_credit_for_what_a_full_cell_forgot() {
        let mut full = Top(Vec::new());
        let others = (0..TOP_PER_CELL_MAX - 1).map(|number| format!("a{number:02}"));
        for text in others.chain(["z".to_owned()]) {
            (0..10).for_each(|_| full.add(&text.clone().into()));
        }
        full.add(&"v".into());
        let mut small = Top(Vec::new());
        (0..5).for_each(|_| small.add(&"z".into()));
        let mut row = Vec::new();
        Top::read(&[&small, &full], 2, &mut row);
        assert_eq!(
            row,
            ["z", "v"].map(|text| FeatureValue::Category(text.into()))
        );
    }

    #[test]
    fn frequent_values_survive_many_rare_ones() {
        let mut cell = Top(Vec::new());
        for number in 0..2_000 {
            let often = number % 3 == 0;
            let text = if often {
                "often".to_owned()
            } else {
                format!("rare-{number}")
            };
            cell.add(&text.into());
        }
        let mut row = Vec::new();
        Top::read(&[&cell], 1, &mut row);
        assert_eq!(row, [FeatureValue::Category("often".into())]);
    }
}
