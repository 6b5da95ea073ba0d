//! What a version has done at one stage of its rollout, beside the champion.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::decision::RolloutArm;
use tidemill_core::feature::FeatureValue;
use tidemill_core::sync::Mutex;

use super::{Pair, Wake};
use crate::registry::Failure;

/// How many of the newest pairs of answers are kept: outcomes are joined to them.
const PAIRS_MAX: usize = 10_000;
/// How many of the newest pairs scores are compared over.
const COMPARED_MAX: usize = 2_000;
/// How many of the newest latencies of each arm are kept.
const LATENCIES_MAX: usize = 1_000;
/// It is looked how scores agree after so many pairs, twice as many, four times as many …
const LOOK_FIRST: u64 = 50;
/// How many people of each arm are told apart.
const PEOPLE_MAX: usize = 20_000;

/// The numbers of one arm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct ArmNumbers {
    /// Answers, failed ones included.
    pub answers: u64,
    /// Of these, panics.
    pub panicked: u64,
    /// Of these, scores that are no numbers, or not as many as were asked for.
    pub not_finite: u64,
    /// Of these, features that could not be read.
    pub unreadable: u64,
    /// Of these, lists that were shorter than the champion's for the same question.
    #[serde(default)]
    pub short: u64,
    /// Answers that took longer than the guardrail allows.
    pub slow: u64,
    /// People, as far as they are told apart.
    pub people: u64,
    /// The median time of the newest answers, in microseconds.
    pub p50_us: Option<u64>,
    /// Of a hundred, one took at least this long, in microseconds.
    pub p99_us: Option<u64>,
}

impl ArmNumbers {
    /// Answers that failed.
    pub fn failed(&self) -> u64 {
        self.panicked + self.not_finite + self.unreadable + self.short
    }
}

/// Everything that was noted, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot<C = (f64, f64)> {
    /// The version that takes over.
    pub challenger: ArmNumbers,
    /// The champion for the same questions in the shadow, for the control in the canary.
    pub control: ArmNumbers,
    /// How often each column of the challenger was missing …
    pub missing: Vec<u64>,
    /// … in so many rows.
    pub rows: u64,
    /// What champion and challenger said to the newest of the same questions.
    pub compared: Vec<C>,
    /// How many questions both answered.
    pub pairs: u64,
    /// Questions that were not answered in the shadow because too many waited.
    pub dropped: u64,
}

/// Notes what a version does. Noting takes a lock for the time of a few additions.
pub struct Tally<P> {
    inner: Mutex<Inner<P>>,
    slow_us: f64,
    wake: Wake,
}

struct Inner<P> {
    challenger: ArmTally,
    control: ArmTally,
    missing: Vec<u64>,
    rows: u64,
    pairs: VecDeque<Arc<P>>,
    pairs_seen: u64,
    dropped: u64,
}

#[derive(Default)]
struct ArmTally {
    numbers: ArmNumbers,
    latencies: VecDeque<u64>,
    people: HashSet<u64>,
}

impl ArmTally {
    fn answered(&mut self, latency_us: u64, is_slow: bool) {
        self.numbers.answers += 1;
        self.numbers.slow += u64::from(is_slow);
        if self.latencies.len() == LATENCIES_MAX {
            self.latencies.pop_front();
        }
        self.latencies.push_back(latency_us);
    }

    fn numbers(&self) -> ArmNumbers {
        let mut sorted: Vec<u64> = self.latencies.iter().copied().collect();
        sorted.sort_unstable();
        let quantile = |share: usize| {
            let place = (sorted.len() * share / 100).min(sorted.len().saturating_sub(1));
            sorted.get(place).copied()
        };
        ArmNumbers {
            people: self.people.len() as u64,
            p50_us: quantile(50),
            p99_us: quantile(99),
            ..self.numbers
        }
    }
}

impl<P: Pair> Tally<P> {
    /// Nothing yet, for a version that reads so many columns. Answers that take longer than `slow_us` microseconds are slow.
    pub fn new(columns: usize, slow_us: f64, wake: Wake) -> Self {
        let inner = Inner {
            challenger: ArmTally::default(),
            control: ArmTally::default(),
            missing: vec![0; columns],
            rows: 0,
            pairs: VecDeque::new(),
            pairs_seen: 0,
            dropped: 0,
        };
        Self {
            inner: Mutex::new(inner),
            slow_us,
            wake,
        }
    }

    /// Notes an answer that was given to a person of an arm; `row` is what the challenger read, nothing for the control.
    pub fn answered(&self, arm: RolloutArm, person: &str, latency_us: u64, row: &[FeatureValue]) {
        let is_slow = self.is_slow(latency_us);
        {
            let mut inner = self.inner.lock();
            if arm == RolloutArm::Challenger {
                inner.read(row);
            }
            inner.met(arm, person);
            inner.arm(arm).answered(latency_us, is_slow);
        }
        if is_slow && arm == RolloutArm::Challenger {
            (self.wake)();
        }
    }

    /// Notes that the challenger failed to answer.
    pub fn failed(&self, person: Option<&str>, latency_us: u64, failure: &Failure) {
        {
            let mut inner = self.inner.lock();
            if let Some(person) = person {
                inner.met(RolloutArm::Challenger, person);
            }
            let is_slow = self.is_slow(latency_us);
            inner.challenger.answered(latency_us, is_slow);
            let numbers = &mut inner.challenger.numbers;
            match failure {
                Failure::Panicked => numbers.panicked += 1,
                Failure::NotFinite => numbers.not_finite += 1,
                Failure::Unreadable(_) => numbers.unreadable += 1,
                Failure::Short => numbers.short += 1,
            }
        }
        (self.wake)();
    }

    /// Notes how both answered a question in the shadow, with their times in microseconds.
    pub fn shadowed(&self, pair: P, row: &[FeatureValue], challenger_us: u64, champion_us: u64) {
        let is_slow = self.is_slow(challenger_us);
        let is_time_to_look = {
            let mut inner = self.inner.lock();
            inner.read(row);
            inner.challenger.answered(challenger_us, is_slow);
            inner
                .control
                .answered(champion_us, self.is_slow(champion_us));
            inner.paired(pair)
        };
        if is_slow || is_time_to_look {
            (self.wake)();
        }
    }

    /// Notes what the champion would have said where the challenger answered.
    pub fn paired(&self, pair: P) {
        let is_time_to_look = self.inner.lock().paired(pair);
        if is_time_to_look {
            (self.wake)();
        }
    }

    /// Notes a question that could not wait.
    pub fn dropped(&self) {
        self.inner.lock().dropped += 1;
    }

    /// Everything that was noted.
    pub fn snapshot(&self) -> Snapshot<P::Compared> {
        let inner = self.inner.lock();
        let newest = inner.pairs.len().saturating_sub(COMPARED_MAX);
        Snapshot {
            challenger: inner.challenger.numbers(),
            control: inner.control.numbers(),
            missing: inner.missing.clone(),
            rows: inner.rows,
            compared: inner
                .pairs
                .range(newest..)
                .map(|pair| pair.compared())
                .collect(),
            pairs: inner.pairs_seen,
            dropped: inner.dropped,
        }
    }

    /// The newest pairs of answers, oldest first.
    pub fn pairs(&self) -> Vec<Arc<P>> {
        self.inner.lock().pairs.iter().cloned().collect()
    }

    fn is_slow(&self, latency_us: u64) -> bool {
        latency_us as f64 > self.slow_us
    }
}

impl<P> Inner<P> {
    fn arm(&mut self, arm: RolloutArm) -> &mut ArmTally {
        match arm {
            RolloutArm::Challenger => &mut self.challenger,
            RolloutArm::Control => &mut self.control,
        }
    }

    /// Counts a person. Both arms stop at the same time, so that their sizes stay comparable.
    fn met(&mut self, arm: RolloutArm, person: &str) {
        let is_full = |arm: &ArmTally| arm.people.len() >= PEOPLE_MAX;
        if is_full(&self.challenger) || is_full(&self.control) {
            return;
        }
        let mut hasher = DefaultHasher::new();
        person.hash(&mut hasher);
        self.arm(arm).people.insert(hasher.finish());
    }

    fn read(&mut self, row: &[FeatureValue]) {
        self.rows += 1;
        for (missing, value) in self.missing.iter_mut().zip(row) {
            *missing += u64::from(*value == FeatureValue::Missing);
        }
    }

    /// Keeps a pair; returns whether it is time to look how they agree.
    fn paired(&mut self, pair: P) -> bool {
        if self.pairs.len() == PAIRS_MAX {
            self.pairs.pop_front();
        }
        self.pairs.push_back(Arc::new(pair));
        self.pairs_seen += 1;
        let times = self.pairs_seen / LOOK_FIRST;
        self.pairs_seen.is_multiple_of(LOOK_FIRST) && times.is_power_of_two()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tidemill_core::DecisionId;

    use super::*;
    use crate::rollout::ScorePair;

    fn pair(champion: &[f64], challenger: &[f64]) -> ScorePair {
        ScorePair {
            decision: DecisionId::new(tidemill_core::Timestamp::EPOCH, [1; 10]),
            champion: champion.to_vec(),
            challenger: challenger.to_vec(),
        }
    }

    #[test]
    fn both_arms_are_counted_and_what_is_bad_wakes() {
        let woken = Arc::new(AtomicU32::new(0));
        let count = woken.clone();
        let wake: Wake = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let tally = Tally::new(2, 1_000.0, wake);
        let row = [FeatureValue::Missing, FeatureValue::number(1.0)];
        for person in ["a", "b", "a"] {
            tally.answered(RolloutArm::Challenger, person, 100, &row);
            tally.answered(RolloutArm::Control, person, 5_000, &[]);
        }
        assert_eq!(
            woken.load(Ordering::Relaxed),
            0,
            "a slow champion is not its fault"
        );
        tally.answered(RolloutArm::Challenger, "c", 1_001, &row);
        tally.failed(Some("d"), 7, &Failure::Panicked);
        tally.shadowed(pair(&[0.1], &[0.3]), &row, 200, 2_000);
        tally.paired(pair(&[0.2, 0.5, 0.3], &[0.3, 0.1, 0.6]));
        tally.dropped();
        assert_eq!(woken.load(Ordering::Relaxed), 2);
        let found = tally.snapshot();
        let numbers = &found.challenger;
        assert_eq!((numbers.answers, numbers.slow, numbers.people), (6, 1, 4));
        assert_eq!((numbers.failed(), numbers.panicked), (1, 1));
        assert_eq!((numbers.p50_us, numbers.p99_us), (Some(100), Some(1_001)));
        assert_eq!((found.control.answers, found.control.slow), (4, 4));
        assert_eq!((found.missing, found.rows), (vec![5, 0], 5));
        assert_eq!(found.compared, [(0.1, 0.3), (0.5, 0.1)]);
        assert_eq!((found.pairs, found.dropped), (2, 1));
    }

    #[test]
    fn what_is_kept_is_bounded_and_looks_become_rare() {
        let woken = Arc::new(AtomicU32::new(0));
        let count = woken.clone();
        let wake: Wake = Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        let tally = Tally::new(0, 1_000.0, wake);
        for number in 0..PAIRS_MAX + 5 {
            tally.answered(RolloutArm::Control, &format!("{number}"), 1, &[]);
            tally.paired(pair(&[number as f64], &[0.0]));
        }
        let found = tally.snapshot();
        assert_eq!(tally.pairs().len(), PAIRS_MAX);
        assert_eq!(tally.pairs()[0].champion, [5.0]);
        assert_eq!(woken.load(Ordering::Relaxed), 8, "50, 100, … 6,400");
        assert_eq!(found.compared.len(), COMPARED_MAX);
        assert_eq!(found.pairs as usize, PAIRS_MAX + 5);
    }
}
