//! Which observations become rows, where a model learns from a share of them.
//!
//! Whether one does depends on nothing but the seed, whom it is about, and its moment and place in the log: the same
//! events give the same rows in every process, and a larger share holds all rows of a smaller one.

use sha2::{Digest, Sha256};
use tidemill_core::event::PersonKey;
use tidemill_core::project::{PredictModel, Sample};

use super::collect::{Collected, Observation};
use super::record::Drop;

/// Takes a share of the observations of a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler {
    sample: Option<Sample>,
    seed: u64,
}

/// The observations that become rows.
pub(super) struct Sampled {
    /// Their places, ascending.
    pub(super) rows: Vec<usize>,
    /// For each of them how many observations it stands for: the inverse of the probability with which it was taken
    /// (Horvitz and Thompson 1952).
    pub(super) weights: Vec<f64>,
}

impl Sampler {
    pub(super) fn new(model: &PredictModel) -> Self {
        Self {
            sample: model.sample,
            seed: model.training.seed,
        }
    }

    /// Whether an observation is left out whatever becomes of it: then nothing needs to be looked up for it.
    pub(super) fn leaves_out(&self, person: &PersonKey, observation: &Observation) -> bool {
        let share = match self.sample {
            None => return false,
            Some(Sample::Share(share)) => share,
            Some(Sample::ByAnswer { yes, no }) => yes.max(no),
        };
        share < 1.0 && self.draw(person, observation) >= share
    }

    fn share(&self, target: f64) -> f64 {
        match self.sample {
            None => 1.0,
            Some(Sample::Share(share)) => share,
            Some(Sample::ByAnswer { yes, no }) => {
                if target > 0.5 {
                    yes
                } else {
                    no
                }
            }
        }
    }

    /// A number from 0 to below 1 that belongs to the observation.
    fn draw(&self, person: &PersonKey, observation: &Observation) -> f64 {
        let digest = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(observation.moment.micros().to_le_bytes())
            .chain_update(observation.offset.0.to_le_bytes())
            .chain_update(person.as_str())
            .finalize();
        let bits = digest
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // 53 bits are what a number between 0 and 1 can hold
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Takes the share of the observations that is learnt from, now that it is known what became of them; the others are
/// counted as dropped.
pub(super) fn sample(
    collected: &Collected<'_>,
    persons: &[PersonKey],
    targets: &[f64],
    dropped: &mut std::collections::BTreeMap<Drop, u64>,
) -> Sampled {
    let sampler = Sampler::new(collected.request.model);
    let stays = |row: &usize| {
        let observation = &collected.observations[*row];
        let share = sampler.share(targets[*row]);
        share >= 1.0 || sampler.draw(&persons[observation.person as usize], observation) < share
    };
    let rows: Vec<usize> = (0..targets.len()).filter(stays).collect();
    let left_out = targets.len() - rows.len();
    if left_out > 0 {
        *dropped.entry(Drop::Sampled).or_insert(0) += left_out as u64;
    }
    let weights = rows.iter().map(|&row| 1.0 / sampler.share(targets[row]));
    Sampled {
        weights: weights.collect(),
        rows,
    }
}
