//! What goes with what: a graph of items, learnt by counting.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::interactions::{Interactions, Occurrences};
use super::query::{Query, Source};

/// How to count and how to read: the weight of item *j* for item *i* is
/// `(c_ij / (d_i^a · d_j^a))^p`, where `c_ij` sums over the histories that hold both
/// `w_i · w_j · n^(-2h) · kernel(distance)`, `d` is the number of histories of an item and `n` the length of a history.
///
/// With `a = h = 1/2` and `p = 1` this is the linear filter of GF-CF (Shen et al., CIKM 2021); other powers are those of
/// Turbo-CF (Park et al., SIGIR 2024) and of the damped degrees in PSGE (D'Amico et al. 2022). With a kernel that falls with
/// the distance and counts only what follows, it is a Markov chain with skips (Rendle et al. 2010 without factors).
///
/// Fitting costs one pass over all pairs within a window of each other: at most `signals × 2 × window`, and for each item
/// at most `occurrences_max` histories are read, so it grows linearly with the signals. Memory: 8 bytes × items × neighbours.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ItemGraph {
    /// A name for tables.
    pub name: String,
    /// `h`: how much a long history is damped.
    pub history_power: f32,
    /// `a` for the item that is asked about.
    pub from_power: f32,
    /// `a` for the item that is recommended: higher recommends rarer items.
    pub to_power: f32,
    /// `p`: below 1 many weak links count more against one strong one.
    pub similarity_power: f32,
    /// How much the distance between two signals of a history damps: `distance^-gap_power`.
    pub gap_power: f32,
    /// Weight of what comes before, against 1 for what comes after. 1 is a symmetric graph, 0 a chain.
    pub backward: f32,
    /// Signals further apart than this are not counted.
    pub window: usize,
    /// Neighbours that are kept of each item.
    pub neighbours: usize,
    /// Of each item at most this many occurrences are read, the last ones.
    pub occurrences_max: usize,
    /// A history counts half after this share of the data's span of time; 0 where age does not matter.
    pub half_life: f32,
    /// When asked: `(1 + age in steps)^-recency_power` weighs the signals of the history.
    pub recency_power: f32,
    /// When asked: how many signals of the history are read, the last ones.
    pub history_max: usize,
}

impl Default for ItemGraph {
    fn default() -> Self {
        Self {
            name: "item graph".to_owned(),
            history_power: 0.65,
            from_power: 0.35,
            to_power: 0.35,
            similarity_power: 0.6,
            gap_power: 0.0,
            backward: 1.0,
            window: 500,
            neighbours: 500,
            occurrences_max: 20_000,
            half_life: 0.0,
            recency_power: 0.0,
            history_max: 500,
        }
    }
}

/// A fitted [`ItemGraph`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Graph {
    parameters: ItemGraph,
    starts: Vec<usize>,
    neighbours: Vec<ItemIndex>,
    weights: Vec<f32>,
}

impl ItemGraph {
    /// Counts.
    pub fn fit(&self, data: &Interactions) -> Graph {
        let counting = Counting::new(self, data);
        let rows: Vec<Vec<(ItemIndex, f32)>> = (0..data.items())
            .into_par_iter()
            .map_init(
                || Accumulator::new(data.items()),
                |scratch, item| counting.row(item, scratch),
            )
            .collect();
        Graph::from_rows(self.clone(), rows)
    }
}

/// What counting reads for every item.
struct Counting<'a> {
    parameters: &'a ItemGraph,
    data: &'a Interactions,
    occurrences: Occurrences,
    history_weights: Vec<f32>,
    kernel: Vec<f32>,
    from_scale: Vec<f32>,
    to_scale: Vec<f32>,
}

impl<'a> Counting<'a> {
    fn new(parameters: &'a ItemGraph, data: &'a Interactions) -> Self {
        let scale = |power: f32| {
            let degrees = data.degrees().iter();
            degrees.map(|degree| degree.max(1.0).powf(-power)).collect()
        };
        let fading = data.fading(parameters.half_life);
        let lengths = data.iter().map(|history| history.len().max(1) as f32);
        Self {
            occurrences: data.occurrences(),
            history_weights: lengths
                .zip(data.iter())
                .map(|(length, history)| {
                    let last = history.last().map_or(0, |signal| signal.time);
                    length.powf(-2.0 * parameters.history_power) * fading(last)
                })
                .collect(),
            kernel: (0..=parameters.window)
                .map(|gap| (gap.max(1) as f32).powf(-parameters.gap_power))
                .collect(),
            from_scale: scale(parameters.from_power),
            to_scale: scale(parameters.to_power),
            parameters,
            data,
        }
    }

    fn row(&self, item: usize, scratch: &mut Accumulator) -> Vec<(ItemIndex, f32)> {
        let places = self.occurrences.of(item);
        let skipped = places.len().saturating_sub(self.parameters.occurrences_max);
        for &(history, place) in &places[skipped..] {
            self.count(history as usize, place as usize, scratch);
        }
        scratch.remove(item as ItemIndex);
        let power = self.parameters.similarity_power;
        let mut row: Vec<(ItemIndex, f32)> = scratch
            .scores()
            .map(|(to, count)| {
                let scaled = count * self.to_scale[to as usize] * self.from_scale[item];
                (to, scaled.powf(power))
            })
            .collect();
        scratch.clear();
        let kept = keep_best(&mut row, self.parameters.neighbours);
        row.truncate(kept);
        row.shrink_to_fit();
        row
    }

    fn count(&self, history: usize, place: usize, scratch: &mut Accumulator) {
        let signals = self.data.history(history);
        let own = &signals[place];
        let weight = own.weight * self.history_weights[history];
        let window = self.parameters.window;
        let end = signals.len().min(place + 1 + window);
        for (gap, signal) in signals[place + 1..end].iter().enumerate() {
            scratch.add(signal.item, weight * signal.weight * self.kernel[gap + 1]);
        }
        if self.parameters.backward > 0.0 {
            let weight = weight * self.parameters.backward;
            let start = place.saturating_sub(window);
            for (gap, signal) in signals[start..place].iter().rev().enumerate() {
                scratch.add(signal.item, weight * signal.weight * self.kernel[gap + 1]);
            }
        }
    }
}

impl Graph {
    pub(super) fn from_rows(parameters: ItemGraph, rows: Vec<Vec<(ItemIndex, f32)>>) -> Self {
        let links = rows.iter().map(Vec::len).sum();
        let mut graph = Self {
            parameters,
            starts: Vec::with_capacity(rows.len() + 1),
            neighbours: Vec::with_capacity(links),
            weights: Vec::with_capacity(links),
        };
        graph.starts.push(0);
        for row in rows {
            graph.neighbours.extend(row.iter().map(|(item, _)| *item));
            graph.weights.extend(row.iter().map(|(_, weight)| *weight));
            graph.starts.push(graph.neighbours.len());
        }
        graph
    }

    /// The neighbours of an item with their weights, strongest first; none for an item that is not known.
    pub fn neighbours(&self, item: ItemIndex) -> impl Iterator<Item = (ItemIndex, f32)> {
        let item = item as usize;
        let links = match (self.starts.get(item), self.starts.get(item + 1)) {
            (Some(start), Some(end)) => *start..*end,
            _ => 0..0,
        };
        let weights = self.weights[links.clone()].iter().copied();
        self.neighbours[links].iter().copied().zip(weights)
    }

    /// The parameters that it was fitted with.
    pub fn parameters(&self) -> &ItemGraph {
        &self.parameters
    }
}

impl Source for Graph {
    fn name(&self) -> &str {
        &self.parameters.name
    }

    fn items(&self) -> usize {
        self.starts.len() - 1
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        for (age, signal) in query.newest(self.parameters.history_max) {
            let weight = signal.weight * (1.0 + age as f32).powf(-self.parameters.recency_power);
            for (item, link) in self.neighbours(signal.item) {
                scores.add(item, weight * link);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::Signal;

    fn data() -> Interactions {
        let mut data = Interactions::builder();
        data.push([0, 1, 2].map(Signal::plain));
        data.push([0, 2].map(Signal::plain));
        data.build(4)
    }

    #[track_caller]
    fn check(graph: &ItemGraph, item: ItemIndex, wanted: &[(ItemIndex, f32)]) {
        let found: Vec<(ItemIndex, f32)> = graph.fit(&data()).neighbours(item).collect();
        assert_eq!(found.len(), wanted.len(), "{found:?}");
        for (found, wanted) in found.iter().zip(wanted) {
            assert!(
                found.0 == wanted.0 && (found.1 - wanted.1).abs() < 1e-6,
                "{found:?} {wanted:?}"
            );
        }
    }

    /// Lengths 3 and 2 damp by 1/3 and 1/2 with h = 1/2; degrees are 2, 1, 2.
    #[test]
    fn links_are_those_of_the_formula() {
        let graph = ItemGraph {
            history_power: 0.5,
            from_power: 0.5,
            to_power: 0.5,
            similarity_power: 1.0,
            ..ItemGraph::default()
        };
        check(
            &graph,
            0,
            &[
                (2, (1.0 / 3.0 + 0.5) / 2.0),
                (1, 1.0 / 3.0 / 2.0_f32.sqrt()),
            ],
        );
        check(&graph, 3, &[]);
    }

    #[test]
    fn a_chain_counts_what_follows_within_its_window() {
        let chain = ItemGraph {
            history_power: 0.0,
            from_power: 0.0,
            to_power: 0.0,
            similarity_power: 1.0,
            gap_power: 1.0,
            backward: 0.0,
            ..ItemGraph::default()
        };
        check(&chain, 0, &[(2, 1.5), (1, 1.0)]);
        check(&chain, 2, &[]);
        check(
            &ItemGraph {
                window: 1,
                ..chain.clone()
            },
            0,
            &[(1, 1.0), (2, 1.0)],
        );
        check(
            &ItemGraph {
                neighbours: 1,
                ..chain.clone()
            },
            0,
            &[(2, 1.5)],
        );
        check(
            &ItemGraph {
                occurrences_max: 1,
                ..chain
            },
            0,
            &[(2, 1.0)],
        );
    }
}
