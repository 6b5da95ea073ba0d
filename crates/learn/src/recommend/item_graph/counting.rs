//! Counting what goes with what: block by block of items, row by row, packed as soon as it is there.

use rayon::prelude::*;

use super::{Graph, ItemGraph};
use crate::recommend::ItemIndex;
use crate::recommend::accumulator::{Accumulator, keep_best};
use crate::recommend::interactions::Interactions;

/// Items that are worked on together.
const PIECE_ITEMS: usize = 64;
/// Items are worked on in so many blocks of about as many signals, and of at least [`BLOCK_SIGNALS_MIN`].
const BLOCKS: usize = 8;
/// See [`BLOCKS`].
const BLOCK_SIGNALS_MIN: usize = 1 << 18;
/// Below this power different counts may become the same weight, and all are compared as weights.
const SELECT_POWER_MIN: f32 = 0.1;
/// Counts are compared before they are raised to a power, but for those that are nearer to the last one kept than this share: rounding
/// may make their weights alike.
const SELECT_MARGIN: f32 = 1e-5;

/// What counting reads for every item.
pub(super) struct Counting<'a> {
    parameters: &'a ItemGraph,
    data: &'a Interactions,
    history_weights: Vec<f32>,
    kernel: Vec<f32>,
}

/// How counts become weights.
struct Reading<'a> {
    parameters: &'a ItemGraph,
    from_scale: Vec<f32>,
    to_scale: Vec<f32>,
}

/// Rows of a graph as they are made, in ascending order of items. There is room for all of them from the start, which takes memory only
/// as it is filled: links are never copied, and no allocator has to give a first copy back in time.
pub(super) struct Rows {
    starts: Vec<usize>,
    neighbours: Vec<ItemIndex>,
    weights: Vec<f32>,
}

/// The links of some items, packed.
#[derive(Default)]
struct Piece {
    rows: Vec<(ItemIndex, u32)>,
    neighbours: Vec<ItemIndex>,
    weights: Vec<f32>,
}

impl<'a> Counting<'a> {
    pub(super) fn new(parameters: &'a ItemGraph, data: &'a Interactions) -> Self {
        let fading = data.fading(parameters.half_life);
        let lengths = data.iter().map(|history| history.len().max(1) as f32);
        Self {
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
            parameters,
            data,
        }
    }

    /// The rows of the items in each of the readings.
    pub(super) fn rows(&self, graphs: &[&ItemGraph], items: &[ItemIndex]) -> Vec<Rows> {
        let readings: Vec<Reading<'_>> = graphs
            .iter()
            .map(|graph| Reading::new(graph, self.data))
            .collect();
        let pairs = self.pairs();
        let mut rows: Vec<Rows> = graphs
            .iter()
            .map(|graph| {
                let links = items.iter().map(|item| pairs[*item as usize]);
                let links = links.map(|pairs| pairs.min(graph.neighbours)).sum();
                Rows::new(self.data.items(), links)
            })
            .collect();
        let block = (self.data.len() / BLOCKS).max(BLOCK_SIGNALS_MIN);
        for items in self.data.blocks(items, block) {
            let occurrences = self.data.occurrences(items);
            let pieces: Vec<Vec<Piece>> = items
                .par_chunks(PIECE_ITEMS)
                .enumerate()
                .map_init(
                    || (Accumulator::new(self.data.items()), Vec::new()),
                    |(scratch, row), (chunk, items)| {
                        let first = chunk * PIECE_ITEMS;
                        let places = (first..).map(|place| occurrences.of(place));
                        self.piece(items.iter().copied().zip(places), &readings, scratch, row)
                    },
                )
                .collect();
            for pieces in pieces {
                for (rows, piece) in rows.iter_mut().zip(pieces) {
                    rows.extend(&piece);
                }
            }
        }
        rows
    }

    /// How many pairs are counted of each item: it has at most so many neighbours.
    fn pairs(&self) -> Vec<usize> {
        let window = self.parameters.window;
        let mut pairs = vec![0; self.data.items()];
        for history in self.data.iter() {
            for (place, signal) in history.iter().enumerate() {
                let before = match self.parameters.backward > 0.0 {
                    true => place.min(window),
                    false => 0,
                };
                pairs[signal.item as usize] += before + (history.len() - 1 - place).min(window);
            }
        }
        pairs
    }

    /// A piece for each of the readings.
    fn piece<'o>(
        &self,
        items: impl Iterator<Item = (ItemIndex, &'o [(u32, u32)])>,
        readings: &[Reading<'_>],
        scratch: &mut Accumulator,
        row: &mut Vec<(ItemIndex, f32)>,
    ) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = readings.iter().map(|_| Piece::default()).collect();
        for (item, places) in items {
            let skipped = places.len().saturating_sub(self.parameters.occurrences_max);
            for &(history, place) in &places[skipped..] {
                self.count(history as usize, place as usize, scratch);
            }
            scratch.remove(item);
            for (reading, piece) in readings.iter().zip(&mut pieces) {
                reading.row(item, scratch, row);
                piece.push(item, row);
            }
            scratch.clear();
        }
        pieces
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

impl<'a> Reading<'a> {
    fn new(parameters: &'a ItemGraph, data: &Interactions) -> Self {
        let scale = |power: f32| {
            let degrees = data.degrees().iter();
            degrees.map(|degree| degree.max(1.0).powf(-power)).collect()
        };
        Self {
            from_scale: scale(parameters.from_power),
            to_scale: scale(parameters.to_power),
            parameters,
        }
    }

    /// The best neighbours of an item, from its counts.
    fn row(&self, item: ItemIndex, counts: &Accumulator, row: &mut Vec<(ItemIndex, f32)>) {
        let from = self.from_scale[item as usize];
        row.clear();
        row.extend(
            counts
                .scores()
                .map(|(to, count)| (to, count * self.to_scale[to as usize] * from)),
        );
        let (wanted, power) = (self.parameters.neighbours, self.parameters.similarity_power);
        if wanted > 0 && wanted < row.len() && power >= SELECT_POWER_MIN {
            let falling =
                |one: &(ItemIndex, f32), other: &(ItemIndex, f32)| other.1.total_cmp(&one.1);
            let (_, last, _) = row.select_nth_unstable_by(wanted - 1, falling);
            let least = last.1 * (1.0 - SELECT_MARGIN);
            row.retain(|(_, scaled)| *scaled >= least);
        }
        for (_, weight) in row.iter_mut() {
            *weight = weight.powf(power);
        }
        let kept = keep_best(row, wanted);
        row.truncate(kept);
    }
}

impl Piece {
    fn push(&mut self, item: ItemIndex, row: &[(ItemIndex, f32)]) {
        // a row is at most the catalogue, which 32 bits number
        self.rows.push((item, row.len() as u32));
        self.neighbours.extend(row.iter().map(|(to, _)| *to));
        self.weights.extend(row.iter().map(|(_, weight)| *weight));
    }
}

impl Rows {
    fn new(items: usize, links: usize) -> Self {
        let mut starts = Vec::with_capacity(items + 1);
        starts.push(0);
        Self {
            starts,
            neighbours: Vec::with_capacity(links),
            weights: Vec::with_capacity(links),
        }
    }

    fn extend(&mut self, piece: &Piece) {
        let mut end = self.neighbours.len();
        for (item, length) in &piece.rows {
            self.starts.resize(*item as usize + 1, end);
            end += *length as usize;
            self.starts.push(end);
        }
        self.neighbours.extend_from_slice(&piece.neighbours);
        self.weights.extend_from_slice(&piece.weights);
    }

    pub(super) fn into_graph(mut self, parameters: ItemGraph, items: usize) -> Graph {
        self.starts.resize(items + 1, self.neighbours.len());
        self.neighbours.shrink_to_fit();
        self.weights.shrink_to_fit();
        Graph {
            parameters,
            starts: self.starts,
            neighbours: self.neighbours,
            weights: self.weights,
        }
    }
}
