//! What people of the same kind take.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::interactions::{Interactions, Segment};
use super::query::{Query, Source};

/// Counts of signals per [`Segment`]: what is popular in a country, say. Nothing is said to somebody whose segment is not known or too
/// small to be told apart from chance.
///
/// Memory: at most `8 × kept × segments_max` bytes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PopularIn {
    /// A name for tables.
    pub name: String,
    /// How many items are kept of each segment.
    pub kept: usize,
    /// The fewest histories with any signal that a segment must have.
    pub histories_min: usize,
    /// Of more segments than this those with the most such histories are kept.
    pub segments_max: usize,
}

impl Default for PopularIn {
    fn default() -> Self {
        Self {
            name: "popular in segment".to_owned(),
            kept: 500,
            histories_min: 20,
            segments_max: 1_000,
        }
    }
}

/// A fitted [`PopularIn`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentPopularity {
    name: String,
    items: usize,
    segments: BTreeMap<Segment, Vec<(ItemIndex, f32)>>,
}

impl PopularIn {
    /// Counts per segment.
    pub fn fit(&self, data: &Interactions) -> SegmentPopularity {
        let mut members: HashMap<&Segment, Vec<usize>> = HashMap::new();
        let known = data.segments().iter().enumerate().take(data.histories());
        for (history, segment) in known {
            if let Some(segment) = segment
                && !data.history(history).is_empty()
            {
                members.entry(segment).or_default().push(history);
            }
        }
        let mut members: Vec<(&Segment, Vec<usize>)> = members.into_iter().collect();
        members.retain(|(_, histories)| histories.len() >= self.histories_min);
        members.sort_by(|(one, of_one), (other, of_other)| {
            of_other.len().cmp(&of_one.len()).then(one.cmp(other))
        });
        members.truncate(self.segments_max);
        let mut counts = Accumulator::new(data.items());
        let segments = members.into_iter().map(|(segment, histories)| {
            for signal in histories.into_iter().flat_map(|one| data.history(one)) {
                counts.add(signal.item, signal.weight);
            }
            let mut best = Vec::new();
            counts.best(self.kept, &mut best);
            counts.clear();
            (Arc::clone(segment), best)
        });
        SegmentPopularity {
            name: self.name.clone(),
            items: data.items(),
            segments: segments.collect(),
        }
    }
}

impl SegmentPopularity {
    /// The items of a segment with their counts, best first; empty where nothing is known of it.
    pub fn ranking(&self, segment: Option<&str>) -> &[(ItemIndex, f32)] {
        let ranking = segment.and_then(|segment| self.segments.get(segment));
        ranking.map_or(&[], Vec::as_slice)
    }
}

impl Source for SegmentPopularity {
    fn name(&self) -> &str {
        &self.name
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        for &(item, score) in self.ranking(query.segment) {
            scores.add(item, score);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::Signal;

    fn fit(parameters: &PopularIn) -> SegmentPopularity {
        let mut data = Interactions::builder();
        let histories: [&[ItemIndex]; 6] = [&[0, 1], &[1], &[2, 3], &[3], &[3, 0], &[]];
        for history in histories {
            data.push(history.iter().copied().map(Signal::plain));
        }
        let segments = ["DE", "DE", "FR", "FR", "FR", "IT"].map(|name| Some(Arc::from(name)));
        let mut data = data.build(4);
        data.set_segments(segments.to_vec());
        parameters.fit(&data)
    }

    #[track_caller]
    fn check(popularity: &SegmentPopularity, segment: Option<&str>, wanted: &[ItemIndex]) {
        let ranking = popularity.ranking(segment).iter();
        let found: Vec<ItemIndex> = ranking.map(|(item, _)| *item).collect();
        assert_eq!(found, wanted, "{segment:?}");
    }

    #[test]
    fn a_segment_has_its_own_ranking_and_an_unknown_one_none() {
        let popularity = fit(&PopularIn {
            histories_min: 1,
            ..PopularIn::default()
        });
        check(&popularity, Some("DE"), &[1, 0]);
        check(&popularity, Some("FR"), &[3, 0, 2]);
        check(&popularity, Some("IT"), &[]);
        check(&popularity, Some("ES"), &[]);
        check(&popularity, None, &[]);
    }

    #[test]
    fn small_segments_and_those_past_the_most_are_left_out() {
        let large = fit(&PopularIn {
            histories_min: 3,
            ..PopularIn::default()
        });
        check(&large, Some("DE"), &[]);
        check(&large, Some("FR"), &[3, 0, 2]);
        let one = fit(&PopularIn {
            histories_min: 1,
            segments_max: 1,
            kept: 1,
            ..PopularIn::default()
        });
        check(&one, Some("DE"), &[]);
        check(&one, Some("FR"), &[3]);
    }
}
