//! What happened in each step of time, the newest so many of them.

use std::collections::VecDeque;

use tidemill_core::{Span, Timestamp};

use super::Over;

/// One step of time.
#[derive(Debug, Clone, PartialEq)]
pub struct Step<T> {
    /// When it began.
    pub at: Timestamp,
    /// What happened in it.
    pub of: T,
}

/// The newest steps in which something happened.
#[derive(Debug)]
pub(super) struct Ring<T> {
    over: Over,
    steps: VecDeque<Step<T>>,
}

impl<T: Clone + Default> Ring<T> {
    pub(super) fn new(over: Over) -> Self {
        Self {
            over,
            steps: VecDeque::new(),
        }
    }

    /// What happens in the step of `now`. A clock that was set back stays in the newest step.
    pub(super) fn at(&mut self, now: Timestamp) -> &mut T {
        let at = self.over.step_of(now);
        if self.steps.back().is_none_or(|newest| newest.at < at) {
            while self.steps.len() >= self.over.steps() {
                self.steps.pop_front();
            }
            let of = T::default();
            self.steps.push_back(Step { at, of });
        }
        let newest = self.steps.len() - 1; // there is one by now
        &mut self.steps[newest].of
    }

    /// The steps that lie in the time that is looked back over from `now`, oldest first.
    pub(super) fn steps(&self, now: Timestamp) -> Vec<Step<T>> {
        let step = self.over.step().micros();
        let before = i64::try_from(self.over.steps())
            .unwrap_or(i64::MAX)
            .saturating_sub(1)
            .saturating_mul(step);
        let from = self.over.step_of(now) - Span::from_micros(before);
        let lately = self.steps.iter().filter(|step| step.at >= from);
        lately.cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minute(number: i64) -> Timestamp {
        Timestamp::EPOCH + Span::from_seconds(number * 60 + 7)
    }

    #[test]
    fn old_steps_make_room_and_are_not_shown() {
        let mut ring: Ring<u32> = Ring::new(Over::Hour);
        for number in 0..200 {
            *ring.at(minute(number)) += 1;
            *ring.at(minute(number)) += 1;
        }
        assert_eq!(ring.steps.len(), 60);
        let steps = ring.steps(minute(199));
        assert_eq!(steps.len(), 60);
        assert_eq!(steps[0].at, minute(140) - Span::from_seconds(7));
        assert!(steps.iter().all(|step| step.of == 2));
        // an hour of silence later nothing is left
        assert_eq!(ring.steps(minute(229)).len(), 30);
        assert_eq!(ring.steps(minute(400)), []);
    }

    #[test]
    fn a_clock_that_is_set_back_breaks_nothing() {
        let mut ring: Ring<u32> = Ring::new(Over::Day);
        *ring.at(minute(1_000)) += 1;
        *ring.at(minute(5)) += 1;
        assert_eq!(ring.steps(minute(1_000))[0].of, 2);
    }
}
