//! A version that takes over from the champion: whom it answers for, and what is noted of it.
//!
//! In the *shadow* it answers questions again that the champion has answered, from a bounded [`ShadowQueue`], and nobody hears it. In the
//! *canary* it answers for a share of the people; where it fails, the champion answers. What it does is noted in a [`Tally`]; who
//! judges that is not here. Models of all kinds take over alike: what differs between them is in [`Version`].

mod lists;
mod scores;
mod shadow;
mod tally;
mod trial;

use std::sync::Arc;

use tidemill_core::assign::bucket;
use tidemill_core::decision::RolloutArm;
use tidemill_core::event::PersonKey;
use tidemill_core::project::RolloutRules;
use tidemill_core::{DecisionId, ModelName};

pub use lists::ListPair;
pub(crate) use lists::ListQuestion;
pub use scores::ScorePair;
pub(crate) use scores::ScoreQuestion;
pub(crate) use shadow::Question;
pub use shadow::{ShadowQueue, WAITING_MAX};
pub use tally::{ArmNumbers, Snapshot, Tally};
pub(crate) use trial::Trial;

use crate::registry::Champion;

/// Called when something happened that a version may have to be stopped for.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// What can take over.
pub trait Version: Send + Sync {
    /// What both versions said to the same question.
    type Pair: Pair;

    /// The number of the version.
    fn number(&self) -> u32;

    /// How many features it reads of a person.
    fn columns(&self) -> usize;
}

/// What both versions said to the same question.
pub trait Pair: Send + Sync {
    /// What is compared of it.
    type Compared: Clone + Send;

    /// What is compared.
    fn compared(&self) -> Self::Compared;
}

/// A version that wants to answer, at one stage of its rollout.
pub struct Challenger<V: Version = Champion> {
    /// The version.
    pub version: Arc<V>,
    /// The share of the people that it answers for; 0 in the shadow.
    pub share: f64,
    /// The share of the training rows in which each of its columns was missing.
    pub missing_in_training: Vec<f64>,
    /// What it has done at this stage.
    pub tally: Tally<V::Pair>,
    /// The share of the questions that it answers in the shadow.
    sample: f64,
    seed: String,
}

impl<V: Version> Challenger<V> {
    /// A version that answers for that share of the people; `wake` is called when it fails or is slow.
    pub fn new(
        model: &ModelName,
        version: Arc<V>,
        missing_in_training: Vec<f64>,
        share: f64,
        rules: &RolloutRules,
        wake: Wake,
    ) -> Self {
        let slow_us = rules.guardrails.latency_p99_ms * 1_000.0;
        Self {
            tally: Tally::new(version.columns(), slow_us, wake),
            seed: format!("rollout:{model}@{}", version.number()),
            version,
            missing_in_training,
            share,
            sample: rules.sample,
        }
    }

    /// Where a person stands. A growing share keeps those who had it: they are taken from one end of the hash, and as many for the
    /// control from the other, as long as there are enough.
    pub fn arm(&self, person: &PersonKey) -> Option<RolloutArm> {
        if self.share <= 0.0 {
            return None;
        }
        let at = bucket(&self.seed, person.as_str());
        if at < self.share {
            return Some(RolloutArm::Challenger);
        }
        (at >= 1.0 - self.control_share()).then_some(RolloutArm::Control)
    }

    /// The share of the people that are its control.
    pub fn control_share(&self) -> f64 {
        self.share.min(1.0 - self.share)
    }

    /// Whether both versions answer a question again: in the shadow those of the champion that are in the sample, later the challenger's
    /// own. `by` is the version that answered.
    pub(crate) fn is_asked_again(&self, decision: DecisionId, by: Option<u32>) -> bool {
        if self.share > 0.0 {
            return by == Some(self.version.number());
        }
        // the last bytes of an id are random
        let random = decision.as_bytes().last_chunk::<4>();
        let random = random.map_or(0, |bytes| u32::from_be_bytes(*bytes));
        by.is_some() && f64::from(random) < self.sample * (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where people stand at a share, without the version that is at stake.
    fn arms(share: f64) -> Vec<Option<RolloutArm>> {
        let at = |person: usize| {
            let at = bucket("rollout:m@2", &format!("user:{person}"));
            match at {
                at if at < share => Some(RolloutArm::Challenger),
                at if at >= 1.0 - share.min(1.0 - share) => Some(RolloutArm::Control),
                _ => None,
            }
        };
        (0..20_000).map(at).collect()
    }

    #[test]
    fn a_growing_share_keeps_those_who_had_it_and_its_control() {
        let steps = [0.01, 0.1, 0.5, 1.0].map(arms);
        for (steps, share) in steps.windows(2).zip([0.01, 0.1, 0.5]) {
            let count = |arm| steps[0].iter().filter(|of| **of == Some(arm)).count() as f64;
            let wanted = share * 20_000.0;
            for arm in [RolloutArm::Challenger, RolloutArm::Control] {
                let found = count(arm);
                assert!(
                    (found - wanted).abs() < 5.0 * wanted.sqrt(),
                    "{arm:?} {found} of {wanted}"
                );
            }
            let lost = steps[0].iter().zip(&steps[1]).filter(|(before, after)| {
                **before == Some(RolloutArm::Challenger) && before != after
            });
            assert_eq!(lost.count(), 0);
        }
        let changed = steps[0]
            .iter()
            .zip(&steps[2])
            .filter(|(before, after)| **before == Some(RolloutArm::Control) && before != after);
        assert_eq!(changed.count(), 0, "until the share is half of all");
        assert!(
            steps[3]
                .iter()
                .all(|arm| *arm == Some(RolloutArm::Challenger))
        );
    }
}
