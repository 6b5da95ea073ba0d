//! Questions that a version answers again beside the champion, on other threads than those that answer.

use std::collections::VecDeque;

use tidemill_core::DecisionId;
use tidemill_core::sync::Mutex;

use super::Wake;
use crate::answer::Answerer;

/// How many questions wait at most; what comes then is dropped, and counted.
pub const WAITING_MAX: usize = 1_024;

/// A question that was answered, for both versions to answer again.
pub(crate) trait Question: Send {
    /// Asks both versions and notes what they say.
    fn ask_again(&self, answerer: &Answerer);

    /// Notes that it could not wait.
    fn dropped(&self);
}

/// Questions that wait to be answered again.
pub struct ShadowQueue {
    waiting: Mutex<VecDeque<Box<dyn Question>>>,
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

    /// Lets a question wait, unless there are too many.
    pub(crate) fn offer(&self, question: Box<dyn Question>) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= WAITING_MAX {
            drop(waiting);
            return question.dropped();
        }
        waiting.push_back(question);
        drop(waiting);
        (self.wake)();
    }

    /// How many questions wait.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// Answers up to `most` questions, and returns how many there were.
    pub fn work(&self, most: usize, answerer: &Answerer) -> usize {
        for done in 0..most {
            let Some(question) = self.waiting.lock().pop_front() else {
                return done;
            };
            question.ask_again(answerer);
        }
        most
    }
}

/// Asks both versions, the challenger first as often as the champion, since whoever comes second finds the features warm: what the challenger
/// says, and what the champion does.
pub(super) fn in_turn<V, T>(
    decision: DecisionId,
    (challenger, champion): (&V, &V),
    ask: impl Fn(&V) -> T,
) -> (T, T) {
    let last = decision.as_bytes().last();
    if last.is_none_or(|byte| byte % 2 == 0) {
        let ours = ask(challenger);
        (ours, ask(champion))
    } else {
        let theirs = ask(champion);
        (ask(challenger), theirs)
    }
}
