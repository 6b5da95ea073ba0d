//! What everybody takes: the answer when nothing is known of somebody.

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::interactions::Interactions;
use super::query::{Query, Source};

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
        let count = |wanted: Option<u32>| {
            let mut counts = Accumulator::new(data.items());
            for (history, signals) in data.iter().enumerate() {
                if wanted.is_some() && segments.get(history).copied() != wanted {
                    continue;
                }
                for signal in signals {
                    counts.add(signal.item, signal.weight * fading(signal.time));
                }
            }
            let mut best = Vec::new();
            counts.best(self.kept, &mut best);
            best
        };
        let segment_count = segments.iter().max().map_or(0, |segment| segment + 1);
        Popularity {
            name: self.name.clone(),
            items: data.items(),
            overall: count(None),
            segments: (0..segment_count)
                .map(|segment| count(Some(segment)))
                .collect(),
        }
    }

    /// The items whose first signal is latest: what is new. Scores fall with the rank.
    pub fn newest(data: &Interactions, kept: usize) -> Popularity {
        let mut first = vec![i64::MAX; data.items()];
        for signal in data.signals() {
            let first = &mut first[signal.item as usize];
            *first = (*first).min(signal.time);
        }
        let mut seen: Vec<ItemIndex> = (0..data.items() as ItemIndex)
            .filter(|item| first[*item as usize] != i64::MAX)
            .collect();
        seen.sort_by_key(|item| (std::cmp::Reverse(first[*item as usize]), *item));
        seen.truncate(kept);
        let ranked = seen.into_iter().enumerate();
        Popularity {
            name: "newest".to_owned(),
            items: data.items(),
            overall: ranked
                .map(|(rank, item)| (item, 1.0 / (1.0 + rank as f32)))
                .collect(),
            segments: Vec::new(),
        }
    }
}

impl Popularity {
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

    fn candidates(&self, query: &Query<'_>, limit: usize, out: &mut Vec<(ItemIndex, f32)>) {
        out.clear();
        out.extend_from_slice(self.ranking(query.segment));
        let kept = keep_best(out, limit);
        out.truncate(kept);
    }
}
