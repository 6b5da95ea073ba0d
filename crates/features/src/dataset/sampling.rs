//! Which observations become rows, where a model learns from a share of them.
//!
//! Whether one does depends on nothing but the seed, whom it is about, and its moment and place in the log: the same
//! events give the same rows in every process, and a larger share holds all rows of a smaller one.

use sha2::{Digest, Sha256};
use tidemill_core::event::PersonKey;
use tidemill_core::project::{PredictModel, Sample};
use tidemill_core::{Offset, Timestamp};

/// Takes a share of the observations of a model.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler {
    sample: Option<Sample>,
    seed: u64,
}

/// An observation, as far as chance is concerned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Drawn<'o> {
    pub(super) person: &'o PersonKey,
    pub(super) moment: Timestamp,
    pub(super) offset: Offset,
}

impl Sampler {
    pub(super) fn new(model: &PredictModel) -> Self {
        Self {
            sample: model.sample,
            seed: model.training.seed,
        }
    }

    /// Whether an observation is left out whatever becomes of it: then nothing needs to be looked up for it.
    pub(super) fn leaves_out(&self, observation: Drawn<'_>) -> bool {
        let share = match self.sample {
            None => return false,
            Some(Sample::Share(share)) => share,
            Some(Sample::ByAnswer { yes, no }) => yes.max(no),
        };
        share < 1.0 && self.draw(observation) >= share
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

    /// How many observations one with that target stands for, the inverse of the probability with which it is taken (Horvitz and
    /// Thompson 1952); absent where it is not taken.
    pub(super) fn weight(&self, observation: Drawn<'_>, target: f64) -> Option<f64> {
        let share = self.share(target);
        (share >= 1.0 || self.draw(observation) < share).then(|| 1.0 / share)
    }

    /// A number from 0 to below 1 that belongs to the observation.
    fn draw(&self, observation: Drawn<'_>) -> f64 {
        let digest = Sha256::new()
            .chain_update(self.seed.to_le_bytes())
            .chain_update(observation.moment.micros().to_le_bytes())
            .chain_update(observation.offset.0.to_le_bytes())
            .chain_update(observation.person.as_str())
            .finalize();
        let bits = digest
            .first_chunk()
            .map_or(0, |bytes| u64::from_le_bytes(*bytes));
        // 53 bits are what a number between 0 and 1 can hold
        (bits >> 11) as f64 / (1u64 << 53) as f64
    }
}
