//! Questions that a version answers again beside the champion, on other threads than those that answer.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tidemill_core::clock::Stopwatch;
use tidemill_core::event::PersonKey;
use tidemill_core::{DecisionId, Timestamp};

use super::{Challenger, Pair, Wake};
use crate::registry::{Champion, Failure, Scored};

/// How many questions wait at most; what comes then is dropped, and counted.
pub const WAITING_MAX: usize = 1_024;

/// A question that was answered, for both versions to answer again.
pub struct Question {
    /// The decision that was given.
    pub decision: DecisionId,
    /// About whom.
    pub person: PersonKey,
    /// When it was asked.
    pub moment: Timestamp,
    /// The version that takes over.
    pub challenger: Arc<Challenger>,
    /// The version that answers.
    pub champion: Arc<Champion>,
}

/// Questions that wait to be answered again.
pub struct ShadowQueue {
    waiting: Mutex<VecDeque<Question>>,
    wake: Wake,
}

impl ShadowQueue {
    /// An empty queue; `wake` is called when something waits.
    pub fn new(wake: Wake) -> Self {
        Self {
            waiting: Mutex::default(),
            wake,
        }
    }

    /// Lets a question wait, unless there are too many; `random` decides whether it is one of the sample.
    pub(crate) fn offer(&self, question: Question, random: u32) {
        if question.challenger.share == 0.0 && !question.challenger.is_sampled(random) {
            return;
        }
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            drop(waiting);
            return question.challenger.tally.dropped();
        }
        waiting.push_back(question);
        drop(waiting);
        (self.wake)();
    }

    /// Answers up to `most` questions, and returns how many there were.
    pub fn work(&self, most: usize) -> usize {
        for done in 0..most {
            let Some(question) = self.waiting.lock().pop_front() else {
                return done;
            };
            question.answer();
        }
        most
    }
}

impl Question {
    /// Asks both versions, one first as often as the other, since whoever comes second finds the features warm.
    fn answer(&self) {
        let Self {
            challenger,
            champion,
            ..
        } = self;
        let is_first = self
            .decision
            .as_bytes()
            .last()
            .is_none_or(|byte| byte % 2 == 0);
        let (ours, theirs) = if is_first {
            let ours = self.ask(&challenger.version);
            (ours, self.ask(champion))
        } else {
            let theirs = self.ask(champion);
            (self.ask(&challenger.version), theirs)
        };
        let is_heard = challenger.share > 0.0;
        match (ours, theirs) {
            // what it does for its own people is noted where they are answered
            ((Err(failure), took), _) if !is_heard => challenger.tally.failed(None, took, &failure),
            ((Ok(ours), our_us), (Ok(theirs), their_us)) if ours.row.known && theirs.row.known => {
                let pair = Pair {
                    decision: self.decision,
                    champion: theirs.scores,
                    challenger: ours.scores,
                };
                if is_heard {
                    challenger.tally.paired(pair);
                } else {
                    challenger
                        .tally
                        .shadowed(pair, &ours.row.values, our_us, their_us);
                }
            }
            _ => {}
        }
    }

    fn ask(&self, version: &Champion) -> (Result<Scored, Failure>, u64) {
        let stopwatch = Stopwatch::start();
        let scored = version.attempt(&self.person, self.moment);
        (scored, stopwatch.micros())
    }
}
