//! Versions that predict, beside each other.

use std::sync::Arc;

use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::{DecisionId, Timestamp};

use super::shadow::in_turn;
use super::{Challenger, Pair, Question, Version};
use crate::answer::Answerer;
use crate::registry::{Champion, Failure, Scored};

impl Version for Champion {
    type Pair = ScorePair;

    fn number(&self) -> u32 {
        self.number
    }

    fn columns(&self) -> usize {
        self.package.columns.len()
    }
}

/// The scores of both versions for one question.
#[derive(Debug, Clone, PartialEq)]
pub struct ScorePair {
    /// The decision that was given.
    pub decision: DecisionId,
    /// The champion's scores.
    pub champion: Vec<f64>,
    /// The challenger's scores.
    pub challenger: Vec<f64>,
}

impl Pair for ScorePair {
    /// A number of each: the score, or the probability of the champion's most likely class.
    type Compared = (f64, f64);

    fn compared(&self) -> (f64, f64) {
        let mut best = 0;
        for (place, score) in self.champion.iter().enumerate() {
            if *score > self.champion[best] {
                best = place;
            }
        }
        let of = |scores: &[f64]| scores.get(best).copied().unwrap_or(0.0);
        (of(&self.champion), of(&self.challenger))
    }
}

/// A question about somebody.
pub(crate) struct ScoreQuestion {
    /// The decision that was given.
    pub(crate) decision: DecisionId,
    /// About whom.
    pub(crate) person: PersonKey,
    /// When it was asked.
    pub(crate) moment: Timestamp,
    /// The version that takes over.
    pub(crate) challenger: Arc<Challenger>,
    /// The version that answers.
    pub(crate) champion: Arc<Champion>,
}

impl ScoreQuestion {
    fn ask(&self, version: &Champion) -> (Result<Scored, Failure>, u64) {
        let stopwatch = Stopwatch::start();
        let scored = version.attempt(&self.person, self.moment);
        (scored, stopwatch.micros())
    }
}

impl Question for ScoreQuestion {
    fn ask_again(&self, _: &Answerer) {
        let Self {
            challenger,
            champion,
            ..
        } = self;
        let versions = (&challenger.version, champion);
        let (ours, theirs) = in_turn(self.decision, versions, |version| self.ask(version));
        let is_heard = challenger.share > 0.0;
        match (ours, theirs) {
            // what it does for its own people is noted where they are answered
            ((Err(failure), took), _) if !is_heard => challenger.tally.failed(None, took, &failure),
            ((Ok(ours), our_us), (Ok(theirs), their_us)) if ours.row.known && theirs.row.known => {
                let pair = ScorePair {
                    decision: self.decision,
                    champion: theirs.scores,
                    challenger: ours.scores,
                };
                if is_heard {
                    challenger.tally.paired(pair);
                } else {
                    let row = &ours.row.values;
                    challenger.tally.shadowed(pair, row, our_us, their_us);
                }
            }
            _ => {}
        }
    }

    fn dropped(&self) {
        self.challenger.tally.dropped();
    }
}
