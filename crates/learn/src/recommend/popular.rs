//! What everybody takes: the answer when nothing is known of somebody.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::interactions::Interactions;
use super::query::{Fixed, Query, Source};

/// Counts of signals, over all and per segment. With a half-life old signals fade, and what remains is what is trending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Popular {
    /// A name for tables.
    pub name: String,
    /// A signal counts half after this share of the data's span of time; 0 counts all alike.
    pub half_life: f32,
    /// How many items are kept, over all and of each segment. By default all: a blend wants to know how popular a rare item is.
    pub kept: usize,
}

impl Default for Popular {
    fn default() -> Self {
        Self {
            name: "popular".to_owned(),
            half_life: 0.0,
            kept: usize::MAX,
        }
    }
}

/// A fitted [`Popular`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Popularity {
    name: String,
    items: usize,
    overall: Vec<(ItemIndex, f32)>,
    segments: Vec<Vec<(ItemIndex, f32)>>,
    /// Seconds after which a signal counts half; 0 where all count alike.
    #[serde(default)]
    half_life_seconds: f64,
    /// The time of the last signal: one of then counts whole.
    #[serde(default)]
    latest: i64,
    /// The overall scores by item, made when first asked for.
    #[serde(skip)]
    by_item: ByItem,
}

/// Scores by item; what they are made of says whether two are equal.
#[derive(Debug, Clone, Default)]
struct ByItem(OnceLock<Vec<f32>>);

impl PartialEq for ByItem {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Popular {
    /// What is taken lately: signals fade to a half with each such share of the data's span of time.
    pub fn trending(half_life: f32) -> Self {
        Self {
            name: "trending".to_owned(),
            half_life,
            ..Self::default()
        }
    }

    /// Counts over all histories.
    pub fn fit(&self, data: &Interactions) -> Popularity {
        self.fit_segments(data, &[])
    }

    /// Counts over all histories and per segment: `segments[h]` is the segment of history `h`, small numbers from 0;
    /// histories past its end have none.
    pub fn fit_segments(&self, data: &Interactions, segments: &[u32]) -> Popularity {
        let fading = data.fading(self.half_life);
        let count = |histories: &mut dyn Iterator<Item = usize>| {
            let mut counts = Accumulator::new(data.items());
            for signal in histories.flat_map(|history| data.history(history)) {
                counts.add(signal.item, signal.weight * fading(signal.time));
            }
            let mut best = Vec::new();
            counts.best(self.kept, &mut best);
            best
        };
        let segment_count = segments.iter().max().map_or(0, |segment| segment + 1);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); segment_count as usize];
        for (history, segment) in segments.iter().enumerate().take(data.histories()) {
            members[*segment as usize].push(history);
        }
        let by_segment = members
            .into_iter()
            .map(|members| count(&mut members.into_iter()));
        Popularity {
            name: self.name.clone(),
            items: data.items(),
            overall: count(&mut (0..data.histories())),
            segments: by_segment.collect(),
            half_life_seconds: data.span() as f64 * f64::from(self.half_life),
            latest: data.latest(),
            by_item: ByItem::default(),
        }
    }

    /// The items whose first signal is latest: what is new. Scores fall with the rank.
    pub fn newest(data: &Interactions) -> Popularity {
        let mut first = vec![i64::MAX; data.items()];
        for signal in data.signals() {
            let first = &mut first[signal.item as usize];
            *first = (*first).min(signal.time);
        }
        let mut seen: Vec<ItemIndex> = (0..data.items() as ItemIndex)
            .filter(|item| first[*item as usize] != i64::MAX)
            .collect();
        seen.sort_by_key(|item| (std::cmp::Reverse(first[*item as usize]), *item));
        let ranked = seen.into_iter().enumerate();
        Popularity {
            name: "newest".to_owned(),
            items: data.items(),
            overall: ranked
                .map(|(rank, item)| (item, 1.0 / (1.0 + rank as f32)))
                .collect(),
            segments: Vec::new(),
            half_life_seconds: 0.0,
            latest: data.latest(),
            by_item: ByItem::default(),
        }
    }
}

impl Popularity {
    /// Seconds after which a signal counts half; 0 where all count alike.
    pub(super) fn half_life_seconds(&self) -> f64 {
        self.half_life_seconds
    }

    /// The time of the last signal.
    pub(super) fn latest(&self) -> i64 {
        self.latest
    }

    /// The ranking of a segment, or over all where there is none.
    pub fn ranking(&self, segment: Option<u32>) -> &[(ItemIndex, f32)] {
        let own = segment.and_then(|segment| self.segments.get(segment as usize));
        own.filter(|ranking| !ranking.is_empty())
            .unwrap_or(&self.overall)
    }
}

impl Source for Popularity {
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

    fn fixed(&self, query: &Query<'_>) -> Option<Fixed<'_>> {
        let of_segment = query
            .segment
            .and_then(|segment| self.segments.get(segment as usize));
        if of_segment.is_some_and(|ranking| !ranking.is_empty()) {
            return None;
        }
        let scores = self.by_item.0.get_or_init(|| {
            let mut scores = vec![0.0; self.items];
            for &(item, score) in &self.overall {
                scores[item as usize] = score;
            }
            scores
        });
        Some(Fixed {
            ranking: &self.overall,
            scores,
            fresh: None,
        })
    }

    fn candidates(&self, query: &Query<'_>, limit: usize, out: &mut Vec<(ItemIndex, f32)>) {
        out.clear();
        out.extend_from_slice(self.ranking(query.segment));
        let kept = keep_best(out, limit);
        out.truncate(kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::Signal;

    fn data() -> Interactions {
        let mut data = Interactions::builder();
        let at = |item, time| Signal {
            time,
            ..Signal::plain(item)
        };
        data.push([at(0, 0), at(1, 10)]);
        data.push([at(0, 0), at(2, 100)]);
        data.push([at(0, 5), at(2, 95)]);
        data.build(4)
    }

    #[track_caller]
    fn check(popularity: &Popularity, segment: Option<u32>, wanted: &[ItemIndex]) {
        let ranking = popularity.ranking(segment).iter();
        let found: Vec<ItemIndex> = ranking.map(|(item, _)| *item).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn popular_counts_all_and_trending_what_is_late() {
        check(&Popular::default().fit(&data()), None, &[0, 2, 1]);
        check(&Popular::trending(0.1).fit(&data()), None, &[2, 0, 1]);
    }

    #[test]
    fn a_segment_has_its_own_ranking_and_an_unknown_one_that_of_all() {
        let popularity = Popular::default().fit_segments(&data(), &[0, 1]);
        check(&popularity, Some(0), &[0, 1]);
        check(&popularity, Some(1), &[0, 2]);
        check(&popularity, Some(9), &[0, 2, 1]);
    }

    #[test]
    fn newest_is_what_was_first_seen_last() {
        check(&Popular::newest(&data()), None, &[2, 1, 0]);
    }
}
