//! Training of [`Embeddings`] by stochastic gradient steps. Work is cut into shards whose number does not depend on the machine,
//! and their gradients are added in order, so that the result is the same on any number of threads.

use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::sampler::Sampler;
use super::{EmbeddingModel, Embeddings};
use crate::recommend::holdout::Question;
use crate::recommend::interactions::Interactions;
use crate::recommend::vectors::{add_scaled, dot, exponentials, normalise};

/// Shards of a batch.
const SHARDS: usize = 4;

/// One history with what came of it.
struct Example {
    /// Items of the history with the index of their weight.
    history: Vec<(u32, u16)>,
    target: u32,
}

pub(super) fn train(
    parameters: &Embeddings,
    data: &Interactions,
    question: Question,
    seed: u64,
) -> EmbeddingModel {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut trainer = Trainer::new(parameters, data, question, &mut random);
    let all = examples(data, question);
    let fading = data.fading(parameters.half_life);
    let weight = |(history, place): &(u32, u32)| {
        fading(data.history(*history as usize)[*place as usize].time)
    };
    let expected: f64 = all.iter().map(|place| f64::from(weight(place))).sum();
    let total = (expected as usize * parameters.epochs).min(parameters.examples_max);
    let mut done = 0;
    'epochs: while done < total {
        let mut places = all.clone();
        places
            .retain(|place| parameters.half_life == 0.0 || random.random::<f32>() < weight(place));
        places.shuffle(&mut random);
        for batch in places.chunks(parameters.batch) {
            if done >= total {
                break 'epochs;
            }
            let rate = parameters.rate * (1.0 - done as f32 / total as f32);
            trainer.step(batch, rate, &mut random);
            done += batch.len();
        }
        if places.is_empty() {
            break;
        }
    }
    trainer.finish()
}

/// Every signal that has something to be predicted from.
fn examples(data: &Interactions, question: Question) -> Vec<(u32, u32)> {
    let first = usize::from(question != Question::Others);
    let mut places = Vec::with_capacity(data.len());
    for (history, signals) in data.iter().enumerate() {
        if signals.len() > 1 {
            places.extend((first..signals.len()).map(|place| (history as u32, place as u32)));
        }
    }
    places
}

/// A table of vectors with the state of its steps.
struct Table {
    dimensions: usize,
    values: Vec<f32>,
    squares: Vec<f32>,
    gradients: Vec<f32>,
    touched: Vec<u32>,
    is_touched: Vec<bool>,
}

impl Table {
    fn new(rows: usize, dimensions: usize, random: &mut ChaCha8Rng) -> Self {
        let bound = (3.0 / dimensions as f32).sqrt();
        Self {
            dimensions,
            values: (0..rows * dimensions)
                .map(|_| random.random_range(-bound..bound))
                .collect(),
            squares: vec![0.0; rows],
            gradients: vec![0.0; rows * dimensions],
            touched: Vec::new(),
            is_touched: vec![false; rows],
        }
    }

    fn row(&self, row: u32) -> &[f32] {
        let start = row as usize * self.dimensions;
        &self.values[start..start + self.dimensions]
    }

    fn add_gradient(&mut self, row: u32, weight: f32, gradient: &[f32]) {
        if !self.is_touched[row as usize] {
            self.is_touched[row as usize] = true;
            self.touched.push(row);
        }
        let start = row as usize * self.dimensions;
        let sums = &mut self.gradients[start..start + self.dimensions];
        for (sum, value) in sums.iter_mut().zip(gradient) {
            *sum += weight * value;
        }
    }

    fn step(&mut self, rate: f32) {
        let dimensions = self.dimensions;
        for row in self.touched.drain(..) {
            let row = row as usize;
            self.is_touched[row] = false;
            let gradient = &mut self.gradients[row * dimensions..(row + 1) * dimensions];
            self.squares[row] += dot(gradient, gradient) / dimensions as f32;
            let step = rate / (self.squares[row].sqrt() + 1e-10);
            let values = &mut self.values[row * dimensions..(row + 1) * dimensions];
            for (value, gradient) in values.iter_mut().zip(gradient.iter_mut()) {
                *value -= step * *gradient;
                *gradient = 0.0;
            }
        }
    }
}

struct Trainer<'a> {
    parameters: &'a Embeddings,
    data: &'a Interactions,
    question: Question,
    from: Table,
    to: Option<Table>,
    ages: Vec<f32>,
    age_squares: Vec<f32>,
    sampler: Sampler,
}

/// The items that a batch is set against, with their directions.
struct Negatives {
    items: Vec<u32>,
    corrections: Vec<f32>,
    lengths: Vec<f32>,
    directions: Vec<f32>,
}

/// Vectors of length 1, and how long they were.
struct Directions {
    dimensions: usize,
    values: Vec<f32>,
    lengths: Vec<f32>,
}

impl Directions {
    fn new(mut values: Vec<f32>, dimensions: usize) -> Self {
        let lengths = values.chunks_exact_mut(dimensions).map(normalise).collect();
        Self {
            dimensions,
            values,
            lengths,
        }
    }

    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.dimensions..(row + 1) * self.dimensions]
    }
}

/// What a shard of a batch found: gradients of the loss, one row for each example or negative.
struct ShardGradient {
    histories: Vec<f32>,
    targets: Vec<f32>,
    negatives: Vec<f32>,
    ages: Vec<f32>,
}

impl<'a> Trainer<'a> {
    fn new(
        parameters: &'a Embeddings,
        data: &'a Interactions,
        question: Question,
        random: &mut ChaCha8Rng,
    ) -> Self {
        let ages = match question {
            Question::Others => 1,
            _ => parameters.history_max,
        };
        let from = Table::new(data.items(), parameters.dimensions, random);
        let to =
            (!parameters.shared).then(|| Table::new(data.items(), parameters.dimensions, random));
        Self {
            parameters,
            data,
            question,
            from,
            to,
            ages: (0..ages).map(|age| 1.0 / (1.0 + age as f32)).collect(),
            age_squares: vec![0.0; ages],
            sampler: Sampler::new(data),
        }
    }

    fn answers(&self) -> &Table {
        self.to.as_ref().unwrap_or(&self.from)
    }

    fn step(&mut self, batch: &[(u32, u32)], rate: f32, random: &mut ChaCha8Rng) {
        let examples: Vec<Example> = batch
            .iter()
            .map(|(history, place)| self.example(*history, *place, random))
            .collect();
        let negatives = self.negatives(random);
        let shard = examples.len().div_ceil(SHARDS).max(1);
        let gradients: Vec<ShardGradient> = examples
            .par_chunks(shard)
            .map(|examples| self.shard(examples, &negatives))
            .collect();
        self.apply(&examples, shard, &negatives, &gradients, rate);
    }

    fn example(&self, history: u32, place: u32, random: &mut ChaCha8Rng) -> Example {
        let signals = self.data.history(history as usize);
        let place = place as usize;
        let target = signals[place].item;
        let dropped = |random: &mut ChaCha8Rng| {
            self.parameters.dropout > 0.0 && random.random::<f32>() < self.parameters.dropout
        };
        let mut items = Vec::with_capacity(self.parameters.history_max);
        if self.question == Question::Others {
            let wanted = self.parameters.history_max.min(signals.len() - 1);
            let all = wanted == signals.len() - 1;
            for drawn in 0..wanted {
                let other = match all {
                    true => drawn + usize::from(drawn >= place),
                    false => random.random_range(0..signals.len()),
                };
                if other != place && (items.is_empty() || !dropped(random)) {
                    items.push((signals[other].item, 0));
                }
            }
        } else {
            let before = signals[..place].iter().rev();
            for (age, signal) in before.take(self.parameters.history_max).enumerate() {
                if items.is_empty() || !dropped(random) {
                    items.push((signal.item, age as u16));
                }
            }
        }
        Example {
            history: items,
            target,
        }
    }

    fn negatives(&self, random: &mut ChaCha8Rng) -> Negatives {
        let (items, corrections) = self.sampler.draw(self.parameters.negatives, random);
        let dimensions = self.parameters.dimensions;
        let mut directions = Vec::with_capacity(items.len() * dimensions);
        for item in &items {
            directions.extend_from_slice(self.answers().row(*item));
        }
        let lengths = directions
            .chunks_exact_mut(dimensions)
            .map(normalise)
            .collect();
        Negatives {
            items,
            corrections,
            lengths,
            directions,
        }
    }

    fn shard(&self, examples: &[Example], negatives: &Negatives) -> ShardGradient {
        let dimensions = self.parameters.dimensions;
        let (rows, columns) = (examples.len(), negatives.items.len());
        let profiles = self.profiles(examples);
        let targets = self.targets(examples);
        let profile_matrix = MatRef::from_row_major_slice(&profiles.values, rows, dimensions);
        let negative_matrix =
            MatRef::from_row_major_slice(&negatives.directions, columns, dimensions);
        // cosines first, the loss's derivatives by them afterwards
        let mut derivatives = vec![0.0_f32; rows * columns];
        multiply(
            &mut derivatives,
            (rows, columns),
            profile_matrix,
            negative_matrix.transpose(),
        );
        let mut own = vec![0.0_f32; rows];
        for (row, example) in examples.iter().enumerate() {
            let cosine = dot(profiles.row(row), targets.row(row));
            let cosines = &mut derivatives[row * columns..(row + 1) * columns];
            let sharpness = self.parameters.sharpness;
            own[row] = softmax(cosines, cosine, example.target, negatives, sharpness);
        }
        let derivative_matrix = MatRef::from_row_major_slice(&derivatives, rows, columns);
        let mut by_profile = vec![0.0_f32; rows * dimensions];
        let shape = (rows, dimensions);
        multiply(&mut by_profile, shape, derivative_matrix, negative_matrix);
        let mut by_negative = vec![0.0_f32; columns * dimensions];
        let shape = (columns, dimensions);
        multiply(
            &mut by_negative,
            shape,
            derivative_matrix.transpose(),
            profile_matrix,
        );
        let mut by_target = vec![0.0_f32; rows * dimensions];
        let mut ages = vec![0.0_f32; self.ages.len()];
        for (row, example) in examples.iter().enumerate() {
            let range = row * dimensions..(row + 1) * dimensions;
            let gradient = &mut by_profile[range.clone()];
            add_scaled(gradient, own[row], targets.row(row));
            through_length(gradient, profiles.row(row), profiles.lengths[row]);
            // the weight of the newest signal is never moved, and of Others there is no other
            let moved = example.history.iter().filter(|(_, age)| *age > 0);
            for (item, age) in moved {
                ages[*age as usize] += dot(gradient, self.from.row(*item));
            }
            let gradient = &mut by_target[range];
            add_scaled(gradient, own[row], profiles.row(row));
            through_length(gradient, targets.row(row), targets.lengths[row]);
        }
        ShardGradient {
            histories: by_profile,
            targets: by_target,
            negatives: by_negative,
            ages,
        }
    }

    fn profiles(&self, examples: &[Example]) -> Directions {
        let dimensions = self.parameters.dimensions;
        let mut values = vec![0.0_f32; examples.len() * dimensions];
        for (example, profile) in examples.iter().zip(values.chunks_exact_mut(dimensions)) {
            for (item, age) in &example.history {
                add_scaled(profile, self.ages[*age as usize], self.from.row(*item));
            }
        }
        Directions::new(values, dimensions)
    }

    fn targets(&self, examples: &[Example]) -> Directions {
        let rows = examples
            .iter()
            .map(|example| self.answers().row(example.target));
        let values = rows.flatten().copied().collect();
        Directions::new(values, self.parameters.dimensions)
    }

    fn apply(
        &mut self,
        examples: &[Example],
        shard: usize,
        negatives: &Negatives,
        gradients: &[ShardGradient],
        rate: f32,
    ) {
        let dimensions = self.parameters.dimensions;
        let mut age_gradient = vec![0.0_f32; self.ages.len()];
        for (examples, gradient) in examples.chunks(shard).zip(gradients) {
            for (sum, value) in age_gradient.iter_mut().zip(&gradient.ages) {
                *sum += value;
            }
            for (example, own) in examples
                .iter()
                .zip(gradient.histories.chunks_exact(dimensions))
            {
                for (item, age) in &example.history {
                    self.from.add_gradient(*item, self.ages[*age as usize], own);
                }
            }
            let to = self.to.as_mut().unwrap_or(&mut self.from);
            for (example, own) in examples
                .iter()
                .zip(gradient.targets.chunks_exact(dimensions))
            {
                to.add_gradient(example.target, 1.0, own);
            }
        }
        let to = self.to.as_mut().unwrap_or(&mut self.from);
        let mut sum = vec![0.0_f32; dimensions];
        for (place, item) in negatives.items.iter().enumerate() {
            let range = place * dimensions..(place + 1) * dimensions;
            sum.fill(0.0);
            for gradient in gradients {
                add_scaled(&mut sum, 1.0, &gradient.negatives[range.clone()]);
            }
            through_length(
                &mut sum,
                &negatives.directions[range],
                negatives.lengths[place],
            );
            to.add_gradient(*item, 1.0, &sum);
        }
        self.from.step(rate);
        if let Some(to) = self.to.as_mut() {
            to.step(rate);
        }
        self.step_ages(&age_gradient, rate);
    }

    /// The weight of the newest signal stays 1: only ratios matter, because profiles are normalised.
    fn step_ages(&mut self, gradient: &[f32], rate: f32) {
        let ages = self
            .ages
            .iter_mut()
            .zip(&mut self.age_squares)
            .zip(gradient);
        for ((age, squares), gradient) in ages.skip(1) {
            *squares += gradient * gradient;
            *age -= 0.2 * rate * gradient / (squares.sqrt() + 1e-10);
        }
    }

    fn finish(self) -> EmbeddingModel {
        let to = match self.to {
            Some(to) => to.values,
            None => self.from.values.clone(),
        };
        let mut to = to;
        to.chunks_exact_mut(self.parameters.dimensions)
            .for_each(|row| {
                normalise(row);
            });
        for (item, degree) in self.data.degrees().iter().enumerate() {
            if *degree == 0.0 {
                let start = item * self.parameters.dimensions;
                to[start..start + self.parameters.dimensions].fill(0.0);
            }
        }
        EmbeddingModel {
            parameters: self.parameters.clone(),
            items: self.data.items(),
            ages: self.ages,
            from: self.from.values,
            to,
        }
    }
}

fn multiply(out: &mut [f32], shape: (usize, usize), left: MatRef<'_, f32>, right: MatRef<'_, f32>) {
    let out = MatMut::from_row_major_slice_mut(out, shape.0, shape.1);
    matmul(out, Accum::Replace, left, right, 1.0, Par::Seq);
}

/// The gradient of a vector from that of its direction.
fn through_length(gradient: &mut [f32], direction: &[f32], length: f32) {
    let along = dot(gradient, direction);
    for (gradient, direction) in gradient.iter_mut().zip(direction) {
        *gradient = (*gradient - along * direction) / length;
    }
}

/// Turns cosines with the negatives into the loss's derivatives by them, and returns the one by the target's cosine.
fn softmax(
    cosines: &mut [f32],
    own: f32,
    target: u32,
    negatives: &Negatives,
    sharpness: f32,
) -> f32 {
    let own = (sharpness * (own - 1.0)).exp();
    let mut total = own + exponentials(cosines, &negatives.corrections, sharpness);
    for (cosine, item) in cosines.iter_mut().zip(&negatives.items) {
        if *item == target {
            total -= *cosine;
            *cosine = 0.0;
        }
    }
    let scale = sharpness / total;
    for cosine in cosines.iter_mut() {
        *cosine *= scale;
    }
    sharpness * (own / total - 1.0)
}
