//! What everybody takes: the answer when nothing is known of somebody.

use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::interactions::Interactions;
use super::query::{Fixed, Query, Source};

/// Counts of signals. With a half-life old signals fade, and what remains is what is trending.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Popular {
    /// A name for tables.
    pub name: String,
    /// A signal counts half after this share of the data's span of time; 0 counts all alike.
    pub half_life: f32,
    /// How many items are kept. By default all: a blend wants to know how popular a rare item is.
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
    #[serde(alias = "overall")]
    ranking: Vec<(ItemIndex, f32)>,
    /// Seconds after which a signal counts half; 0 where all count alike.
    #[serde(default)]
    half_life_seconds: f64,
    /// The time of the last signal: one of then counts whole.
    #[serde(default)]
    latest: i64,
    /// The scores by item, made when first asked for.
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
        let fading = data.fading(self.half_life);
        let mut counts = Accumulator::new(data.items());
        for signal in data.signals() {
            counts.add(signal.item, signal.weight * fading(signal.time));
        }
        let mut ranking = Vec::new();
        counts.best(self.kept, &mut ranking);
        Popularity {
            name: self.name.clone(),
            items: data.items(),
            ranking,
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
            ranking: ranked
                .map(|(rank, item)| (item, 1.0 / (1.0 + rank as f32)))
                .collect(),
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
}

impl Source for Popularity {
    fn name(&self) -> &str {
        &self.name
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, _: &Query<'_>, scores: &mut Accumulator) {
        for &(item, score) in &self.ranking {
            scores.add(item, score);
        }
    }

    fn fixed(&self, _: &Query<'_>) -> Option<Fixed<'_>> {
        let scores = self.by_item.0.get_or_init(|| {
            let mut scores = vec![0.0; self.items];
            for &(item, score) in &self.ranking {
                scores[item as usize] = score;
            }
            scores
        });
        Some(Fixed {
            ranking: &self.ranking,
            scores,
            fresh: None,
        })
    }

    fn candidates(&self, _: &Query<'_>, limit: usize, out: &mut Vec<(ItemIndex, f32)>) {
        out.clear();
        out.extend_from_slice(&self.ranking);
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
    fn check(popularity: &Popularity, wanted: &[ItemIndex]) {
        let ranking = popularity.ranking.iter();
        let found: Vec<ItemIndex> = ranking.map(|(item, _)| *item).collect();
        assert_eq!(found, wanted);
    }

    #[test]
    fn popular_counts_all_and_trending_what_is_late() {
        check(&Popular::default().fit(&data()), &[0, 2, 1]);
        check(&Popular::trending(0.1).fit(&data()), &[2, 0, 1]);
    }

    #[test]
    fn newest_is_what_was_first_seen_last() {
        check(&Popular::newest(&data()), &[2, 1, 0]);
    }
}
