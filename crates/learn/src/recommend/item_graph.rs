//! What goes with what: a graph of items, learnt by counting.

mod counting;

use counting::Counting;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::interactions::Interactions;
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
        self.fit_rows(data, &data.all_items())
    }

    /// Counts for some items alone, in ascending order: those have the neighbours that [`ItemGraph::fit`] gives them, others have
    /// none. Time and memory are those of the items that are named.
    pub fn fit_rows(&self, data: &Interactions, items: &[ItemIndex]) -> Graph {
        Self::fit_alike(&[self], data, items).swap_remove(0) // as many graphs as were asked for
    }

    /// Several graphs that count alike and differ in how counts are read, from one count.
    pub(super) fn fit_alike(
        graphs: &[&Self],
        data: &Interactions,
        items: &[ItemIndex],
    ) -> Vec<Graph> {
        debug_assert!(graphs.windows(2).all(|pair| pair[0].counts_like(pair[1])));
        let Some(first) = graphs.first() else {
            return Vec::new();
        };
        let rows = Counting::new(first, data).rows(graphs, items);
        let graphs = graphs.iter().zip(rows);
        graphs
            .map(|(graph, rows)| rows.into_graph((*graph).clone(), data.items()))
            .collect()
    }

    /// Adds the links of the history, each weighed by the age of its signal.
    pub(super) fn score_links<L: IntoIterator<Item = (ItemIndex, f32)>>(
        &self,
        query: &Query<'_>,
        links: impl Fn(ItemIndex) -> L,
        scores: &mut Accumulator,
    ) {
        for (age, signal) in query.newest(self.history_max) {
            let weight = signal.weight * (1.0 + age as f32).powf(-self.recency_power);
            for (item, link) in links(signal.item) {
                scores.add(item, weight * link);
            }
        }
    }

    /// Whether it counts what was taken; otherwise its links are from elsewhere.
    pub(super) fn is_counted(&self) -> bool {
        self.window > 0
    }

    /// Whether the counts `c_ij` are the same.
    pub(super) fn counts_like(&self, other: &Self) -> bool {
        let of = |graph: &Self| Self {
            name: String::new(),
            from_power: 0.0,
            to_power: 0.0,
            similarity_power: 0.0,
            neighbours: 0,
            recency_power: 0.0,
            history_max: 0,
            ..graph.clone()
        };
        of(self) == of(other)
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
        let links = |item| self.neighbours(item);
        self.parameters.score_links(query, links, scores);
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

    /// Every pair of positions, one after the other, and every weight compared.
    fn by_brute_force(graph: &ItemGraph, data: &Interactions) -> Vec<Vec<(ItemIndex, f32)>> {
        let mut counts = vec![std::collections::BTreeMap::new(); data.items()];
        for history in data.iter() {
            let weight = (history.len() as f32).powf(-2.0 * graph.history_power);
            for (place, own) in history.iter().enumerate() {
                for (other_place, other) in history.iter().enumerate() {
                    if other_place != place && other.item != own.item {
                        let sum: &mut f32 =
                            counts[own.item as usize].entry(other.item).or_default();
                        *sum += own.weight * other.weight * weight;
                    }
                }
            }
        }
        let scale = |item: usize, power: f32| data.degrees()[item].max(1.0).powf(-power);
        let rows = counts.into_iter().enumerate().map(|(item, counts)| {
            let weight = |(to, count): (ItemIndex, f32)| {
                let scaled =
                    count * scale(to as usize, graph.to_power) * scale(item, graph.from_power);
                (to, scaled.powf(graph.similarity_power))
            };
            let mut row: Vec<(ItemIndex, f32)> = counts.into_iter().map(weight).collect();
            row.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
            row.truncate(graph.neighbours);
            row
        });
        rows.collect()
    }

    fn rows(graph: &Graph) -> Vec<Vec<(ItemIndex, f32)>> {
        let items = 0..graph.items() as ItemIndex;
        items.map(|item| graph.neighbours(item).collect()).collect()
    }

    /// Many items with the same counts, so that ties are cut.
    fn ties() -> Interactions {
        let mut data = Interactions::builder();
        for person in 0..90_u32 {
            let items = (0..12).map(|step| (person * 7 + step * step * (1 + person % 5)) % 150);
            let mut items: Vec<ItemIndex> = items.collect();
            items.sort_unstable();
            items.dedup();
            data.push(items.into_iter().map(Signal::plain));
        }
        data.build(160)
    }

    #[test]
    fn the_neighbours_are_those_of_comparing_everything() {
        for (neighbours, similarity_power) in [(1, 0.6), (5, 0.6), (5, 1.0), (5, 0.05), (500, 0.5)]
        {
            let graph = ItemGraph {
                neighbours,
                similarity_power,
                ..ItemGraph::default()
            };
            let found = rows(&graph.fit(&ties()));
            assert_eq!(
                found,
                by_brute_force(&graph, &ties()),
                "{neighbours} {similarity_power}"
            );
        }
    }

    #[test]
    fn rows_for_some_items_are_those_of_all_and_others_are_empty() {
        let data = ties();
        let asked = [3, 4, 77, 149];
        let all = rows(&ItemGraph::default().fit(&data));
        let some = rows(&ItemGraph::default().fit_rows(&data, &asked));
        assert_eq!(some.len(), all.len());
        for (item, (some, all)) in some.iter().zip(&all).enumerate() {
            match asked.contains(&(item as ItemIndex)) {
                true => assert_eq!(some, all),
                false => assert!(some.is_empty()),
            }
        }
    }

    #[test]
    fn several_readings_of_one_count_are_what_each_would_be() {
        let data = ties();
        let plain = ItemGraph::default();
        let graphs = [
            plain.clone(),
            ItemGraph {
                to_power: 0.5,
                similarity_power: 1.0,
                neighbours: 3,
                ..plain.clone()
            },
        ];
        let fitted = ItemGraph::fit_alike(&graphs.each_ref(), &data, &data.all_items());
        assert_eq!(fitted, graphs.map(|graph| graph.fit(&data)));
        let other = ItemGraph {
            history_power: 0.0,
            ..plain.clone()
        };
        assert!(!plain.counts_like(&other));
    }

    /// What is worked on block by block is what is worked on at once.
    #[test]
    fn blocks_hold_every_item_once() {
        let data = ties();
        let items = data.all_items();
        let blocks = data.blocks(&items, 40);
        assert!(blocks.len() > 5);
        assert_eq!(blocks.concat(), items);
        let whole = data.occurrences(&items);
        for block in blocks {
            let occurrences = data.occurrences(block);
            for (place, item) in block.iter().enumerate() {
                assert_eq!(occurrences.of(place), whole.of(*item as usize));
            }
        }
    }
}
