//! A factor model for any history: items as directions, a history as the weighted sum of its items' directions.

mod sampler;
mod training;

use serde::{Deserialize, Serialize};

use super::accumulator::Accumulator;
use super::holdout::Question;
use super::interactions::{Interactions, Signal};
use super::query::{Query, Source};
use super::vectors::{add_scaled, normalise, products};

/// A softmax over the catalogue of the cosine between a history and an item, times `sharpness`.
///
/// Each item has a direction as part of a history and one as an answer. A history is the sum of its items' directions,
/// weighted by learnt weights of their age in steps. Trained on every signal after (or, for [`Question::Others`], beside)
/// its history, with a sampled softmax whose negatives are shared by a batch and corrected for how they were drawn (Bengio and Senécal
/// 2008). Cosines instead of products keep frequent items from winning by their length: NISER (Gupta et al. 2019) for sessions, SSM
/// (Wu et al. 2022) for people. Steps are row-wise Adagrad (Duchi et al. 2011), falling to 0.
///
/// Time: `epochs × signals × negatives × 6 × dimensions` operations; memory: 20 × items × dimensions bytes while it is fitted. A
/// query costs items × dimensions operations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embeddings {
    /// A name for tables.
    pub name: String,
    /// Length of a direction.
    pub dimensions: usize,
    /// Passes over the signals.
    pub epochs: usize,
    /// At most this many training examples in all; fewer passes where that is not enough for `epochs`.
    pub examples_max: usize,
    /// Examples between two steps.
    pub batch: usize,
    /// Items that each example is set against.
    pub negatives: usize,
    /// The first step's size.
    pub rate: f32,
    /// Cosines are multiplied by this.
    pub sharpness: f32,
    /// How many signals of a history are read, the last ones (of [`Question::Others`]: as many at random while training).
    pub history_max: usize,
    /// The share of a history's signals that are left out at random while training.
    pub dropout: f32,
    /// An example is drawn half as often after this share of the data's span of time; 0 where age does not matter.
    pub half_life: f32,
    /// Whether an item has one direction for both uses.
    pub shared: bool,
}

impl Default for Embeddings {
    fn default() -> Self {
        Self {
            name: "embeddings".to_owned(),
            dimensions: 64,
            epochs: 10,
            examples_max: 10_000_000,
            batch: 512,
            negatives: 1024,
            rate: 0.1,
            sharpness: 12.0,
            history_max: 50,
            dropout: 0.2,
            half_life: 0.0,
            shared: false,
        }
    }
}

/// A fitted [`Embeddings`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingModel {
    parameters: Embeddings,
    items: usize,
    /// Weights of the signals of a history by their age in steps.
    ages: Vec<f32>,
    from: Vec<f32>,
    to: Vec<f32>,
}

impl Embeddings {
    /// Trains.
    pub fn fit(&self, data: &Interactions, question: Question, seed: u64) -> EmbeddingModel {
        training::train(self, data, question, seed)
    }
}

impl EmbeddingModel {
    /// The weights by age that were learnt.
    pub fn ages(&self) -> &[f32] {
        &self.ages
    }

    fn profile(&self, history: &[Signal]) -> Vec<f32> {
        let dimensions = self.parameters.dimensions;
        let mut profile = vec![0.0_f32; dimensions];
        for (age, signal) in history.iter().rev().enumerate() {
            let item = signal.item as usize;
            let weight = self.ages[age.min(self.ages.len() - 1)];
            if item < self.items && (age < self.ages.len() || self.ages.len() == 1) {
                let row = &self.from[item * dimensions..(item + 1) * dimensions];
                add_scaled(&mut profile, weight, row);
            }
        }
        normalise(&mut profile);
        profile
    }
}

impl Source for EmbeddingModel {
    fn name(&self) -> &str {
        &self.parameters.name
    }

    fn items(&self) -> usize {
        self.items
    }

    fn score(&self, query: &Query<'_>, scores: &mut Accumulator) {
        if query.history.is_empty() {
            return;
        }
        let profile = self.profile(query.history);
        let cosines = products(&profile, &self.to);
        for (item, cosine) in cosines.into_iter().enumerate() {
            if cosine > 0.0 {
                scores.add(
                    item as u32,
                    (self.parameters.sharpness * (cosine - 1.0)).exp(),
                );
            }
        }
    }
}
