//! What remains of everybody's taste when the noise is filtered out: a low-pass filter on the graph of items.

use faer::{Mat, Side};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::accumulator::Accumulator;
use super::interactions::Interactions;
use super::query::{Query, Source};
use super::vectors::products;

/// The leading right singular vectors *V* of the histories × items matrix, scaled by powers of both degrees, found by
/// randomised subspace iteration (Halko, Martinsson and Tropp 2011). A history *x* is answered with
/// `x D^-a V f(σ) Vᵀ D^b`: with `a = b = 1/2` and `f = 1` the ideal low-pass filter of GF-CF (Shen et al., CIKM 2021).
///
/// Time: `iterations × 4 × signals × rank` operations and a QR of items × rank; memory: three times 4 × items × rank bytes while it
/// is fitted, two thirds of that afterwards. A query costs 2 × items × rank operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spectral {
    /// A name for tables.
    pub name: String,
    /// How many vectors.
    pub rank: usize,
    /// How much a long history is damped: its length to this power, in the matrix.
    pub history_power: f32,
    /// How much a frequent item is damped, in the matrix.
    pub item_power: f32,
    /// `a`: how much a frequent item is damped in the history that is asked about.
    pub from_power: f32,
    /// `b`: how much frequent items are preferred in the answer.
    pub to_power: f32,
    /// `f(σ) = σ^filter_power`, with σ over the largest: 0 keeps all vectors alike, 2 is the plain graph.
    pub filter_power: f32,
    /// Passes over the data.
    pub iterations: usize,
    /// When asked: `(1 + age in steps)^-recency_power` weighs the signals of the history.
    pub recency_power: f32,
    /// When asked: how many signals of the history are read, the last ones.
    pub history_max: usize,
}

impl Default for Spectral {
    fn default() -> Self {
        Self {
            name: "spectral".to_owned(),
            rank: 256,
            history_power: 0.5,
            item_power: 0.5,
            from_power: 0.5,
            to_power: 0.5,
            filter_power: 0.0,
            iterations: 4,
            recency_power: 0.0,
            history_max: 500,
        }
    }
}

/// A fitted [`Spectral`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Spectrum {
    parameters: Spectral,
    items: usize,
    rank: usize,
    from: Vec<f32>,
    to: Vec<f32>,
}

/// Columns that are worked on together: one cache line of each item.
const BLOCK: usize = 16;
/// More columns than asked for, so that the last ones are right too.
const OVERSAMPLING: usize = 16;

impl Spectral {
    /// Finds the vectors.
    pub fn fit(&self, data: &Interactions, seed: u64) -> Spectrum {
        let seen = data
            .degrees()
            .iter()
            .filter(|degree| **degree > 0.0)
            .count();
        let width = (self.rank + OVERSAMPLING).min(seen);
        let rank = self.rank.min(width);
        if rank == 0 {
            return self.finish(data, Mat::zeros(data.items(), 0), &[]);
        }
        let operator = Operator::new(self, data);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let start: Vec<f32> = (0..data.items() * width)
            .map(|_| random.random_range(-1.0_f32..1.0))
            .collect();
        let start = Mat::from_fn(data.items(), width, |row, column| {
            start[row * width + column]
        });
        let mut basis = Blocks::new(&start);
        for _ in 0..self.iterations.max(1) {
            let image = operator.apply(&basis).matrix(data.items(), width);
            basis = Blocks::new(&image.qr().compute_thin_Q());
        }
        let image = operator.apply(&basis).matrix(data.items(), width);
        let basis = basis.matrix(data.items(), width);
        let small = basis.transpose() * &image;
        let Ok(eigen) = small.self_adjoint_eigen(Side::Lower) else {
            return self.finish(data, Mat::zeros(data.items(), 0), &[]);
        };
        let values: Vec<f32> = (0..rank)
            .map(|k| eigen.S()[width - 1 - k].max(0.0))
            .collect();
        let rotation = Mat::from_fn(width, rank, |i, k| eigen.U()[(i, width - 1 - k)]);
        self.finish(data, basis * rotation, &values)
    }

    fn finish(&self, data: &Interactions, vectors: Mat<f32>, values: &[f32]) -> Spectrum {
        let rank = values.len();
        let largest = values
            .first()
            .copied()
            .unwrap_or(1.0)
            .max(f32::MIN_POSITIVE);
        let filter = |value: &f32| (value / largest).sqrt().powf(self.filter_power);
        let filters: Vec<f32> = values.iter().map(filter).collect();
        let mut from = vec![0.0; data.items() * rank];
        let mut to = vec![0.0; data.items() * rank];
        for (item, degree) in data.degrees().iter().enumerate() {
            let (down, up) = match *degree > 0.0 {
                true => (degree.powf(-self.from_power), degree.powf(self.to_power)),
                false => (0.0, 0.0),
            };
            for k in 0..rank {
                from[item * rank + k] = vectors[(item, k)] * down * filters[k];
                to[item * rank + k] = vectors[(item, k)] * up;
            }
        }
        Spectrum {
            parameters: self.clone(),
            items: data.items(),
            rank,
            from,
            to,
        }
    }
}

/// A tall matrix in blocks of [`BLOCK`] columns, each block by rows; the last one is filled up with zeros.
struct Blocks(Vec<Vec<f32>>);

impl Blocks {
    fn new(matrix: &Mat<f32>) -> Self {
        let blocks = (0..matrix.ncols().div_ceil(BLOCK))
            .into_par_iter()
            .map(|block| {
                let mut out = vec![0.0; matrix.nrows() * BLOCK];
                let columns = block * BLOCK..matrix.ncols().min((block + 1) * BLOCK);
                for (place, column) in columns.enumerate() {
                    for row in 0..matrix.nrows() {
                        out[row * BLOCK + place] = matrix[(row, column)];
                    }
                }
                out
            });
        Self(blocks.collect())
    }

    fn matrix(&self, rows: usize, width: usize) -> Mat<f32> {
        Mat::from_fn(rows, width, |row, column| {
            self.0[column / BLOCK][row * BLOCK + column % BLOCK]
        })
    }
}

/// The normalised matrix times its transpose, never formed.
struct Operator<'a> {
    data: &'a Interactions,
    history_scale: Vec<f32>,
    item_scale: Vec<f32>,
}

impl<'a> Operator<'a> {
    fn new(parameters: &Spectral, data: &'a Interactions) -> Self {
        let lengths = data.iter().map(|history| history.len().max(1) as f32);
        let degrees = data.degrees().iter().map(|degree| degree.max(1.0));
        Self {
            data,
            history_scale: lengths
                .map(|length| length.powf(-2.0 * parameters.history_power))
                .collect(),
            item_scale: degrees
                .map(|degree| degree.powf(-parameters.item_power))
                .collect(),
        }
    }

    fn apply(&self, columns: &Blocks) -> Blocks {
        Blocks(
            columns
                .0
                .par_iter()
                .map(|block| self.apply_block(block))
                .collect(),
        )
    }

    fn apply_block(&self, block: &[f32]) -> Vec<f32> {
        let mut out = vec![0.0_f32; block.len()];
        for (history, scale) in self.data.iter().zip(&self.history_scale) {
            let mut sum = [0.0_f32; BLOCK];
            for signal in history {
                let item = signal.item as usize;
                let weight = signal.weight * self.item_scale[item];
                let row = &block[item * BLOCK..(item + 1) * BLOCK];
                for (sum, value) in sum.iter_mut().zip(row) {
                    *sum += weight * value;
                }
            }
            for signal in history {
                let item = signal.item as usize;
                let weight = signal.weight * self.item_scale[item] * scale;
                let row = &mut out[item * BLOCK..(item + 1) * BLOCK];
                for (value, sum) in row.iter_mut().zip(&sum) {
                    *value += weight * sum;
                }
            }
        }
        out
    }
}

impl Source for Spectrum {
    fn name(&self) -> &str {
        &self.parameters.name
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        let mut profile = vec![0.0_f32; self.rank];
        for (age, signal) in query.newest(self.parameters.history_max) {
            let item = signal.item as usize;
            if item >= self.items {
                continue;
            }
            let weight = signal.weight * (1.0 + age as f32).powf(-self.parameters.recency_power);
            let row = &self.from[item * self.rank..(item + 1) * self.rank];
            for (sum, value) in profile.iter_mut().zip(row) {
                *sum += weight * value;
            }
        }
        let products = products(&profile, &self.to);
        for (item, score) in products.into_iter().enumerate() {
            if score > 0.0 {
                scores.add(item as u32, score);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::Signal;
    use crate::recommend::conformance::two_tastes;

    /// With every vector kept and no filter, the projection of a history is itself.
    #[test]
    fn with_full_rank_and_no_filter_a_history_is_answered_with_itself() {
        let data = two_tastes();
        let spectral = Spectral {
            rank: 30,
            from_power: 0.0,
            to_power: 0.0,
            ..Spectral::default()
        };
        let fitted = spectral.fit(&data, 3);
        let mut scores = Accumulator::new(24);
        let history = [Signal::plain(2), Signal::plain(7)];
        fitted.score(&Query::new(&history), &mut scores);
        for item in 0..20 {
            let wanted = f32::from(u8::from(item == 2 || item == 7));
            assert!(
                (scores.get(item) - wanted).abs() < 1e-3,
                "{item}: {}",
                scores.get(item)
            );
        }
    }
}
