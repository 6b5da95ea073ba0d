//! How surprising a day must be before it is told: what past days were like, and how often a false alarm may happen.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::history::SHIFT_LAG;
use super::statistic::Family;

/// The share of days on which something false may be said, unless the project file says otherwise.
pub const FALSE_ALARMS: f64 = 0.01;
/// Past days that are looked at.
const DAYS_MAX: usize = 365;
/// With fewer of them nothing is told.
pub const DAYS_MIN: usize = 10;
/// The largest surprises that say how the rest of the tail falls: at least so many, and one in ten of the days.
const TAIL_MIN: usize = 5;
const TAIL_SHARE: usize = 10;
/// How fast the tail may fall and how slowly (the extreme value index): what few days say about it is not believed beyond this.
const TAIL_INDEX: (f64, f64) = (0.2, 0.7);
/// Slow changes are looked at every day over a week, so one that is beyond its threshold stays there for some days, and counts once.
const SHIFT_RUN: f64 = 4.0;
/// No threshold is lower: 1 is what a property's worst days are like.
const THRESHOLD_MIN: f64 = 1.2;
/// What was told counts as at most so many times the threshold, so that one fault does not hide the next.
pub(super) const TOLD_TIMES: f64 = 1.5;

/// The largest surprise of each past day, by family.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Surprises(BTreeMap<Family, VecDeque<f64>>);

impl Surprises {
    /// The surprise that is exceeded on a share of the days by this family.
    /// The largest surprise of a day over everything that was looked at is compared with the same of past days (Westfall and Young,
    /// *Resampling-based multiple testing*, 1993), so however much is looked at, the rate stays; beyond what past days say, the tail is
    /// taken to go on as a power (Weissman, *Estimation of parameters and large quantiles based on the k largest observations*, 1978),
    /// with Hill's index. `None` while too few days are known.
    pub fn threshold(&self, family: Family, share: f64) -> Option<f64> {
        let past = self.0.get(&family)?;
        if past.len() < DAYS_MIN {
            return None;
        }
        let lag = match family {
            Family::Shift => usize::try_from(SHIFT_LAG).unwrap_or(0),
            _ => 0,
        };
        let calibrating = past.len().saturating_sub(lag).max(DAYS_MIN);
        let mut past: Vec<f64> = past.iter().take(calibrating).copied().collect();
        past.sort_by(|one, other| other.total_cmp(one));
        let days = past.len();
        let tail = (days / TAIL_SHARE).max(TAIL_MIN).min(days - 1);
        let base = past[tail].max(0.3); // surprises near zero say nothing about a tail
        let logs = past[..tail]
            .iter()
            .map(|surprise| (surprise / base).max(1.0).ln());
        let index = (logs.sum::<f64>() / tail as f64).clamp(TAIL_INDEX.0, TAIL_INDEX.1);
        let run = if family == Family::Shift {
            SHIFT_RUN
        } else {
            1.0
        };
        let share = share * run;
        let beyond = (tail as f64 / (days as f64 * share)).max(1.0);
        Some((base * beyond.powf(index)).max(THRESHOLD_MIN))
    }

    /// Remembers the largest surprise of a day.
    pub fn push(&mut self, family: Family, surprise: f64) {
        let past = self.0.entry(family).or_default();
        if past.len() >= DAYS_MAX {
            past.pop_front();
        }
        past.push_back(surprise);
    }

    /// How many days it knows of a family.
    pub fn days(&self, family: Family) -> usize {
        self.0.get(&family).map_or(0, VecDeque::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random, from 0 to 1.
    fn random(seed: &mut u64) -> f64 {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 11) as f64 / 2f64.powi(53)
    }

    /// How often a new day exceeds the threshold that `days` before it gave.
    fn rate(days: usize, share: f64, surprise: impl Fn(f64) -> f64) -> f64 {
        let mut seed = 7;
        let mut alarms = 0;
        let rounds = 4_000;
        for _ in 0..rounds {
            let mut surprises = Surprises::default();
            for _ in 0..days {
                surprises.push(Family::Volume, surprise(random(&mut seed)));
            }
            let threshold = surprises.threshold(Family::Volume, share).unwrap();
            alarms += u64::from(surprise(random(&mut seed)) > threshold);
        }
        alarms as f64 / f64::from(rounds)
    }

    #[test]
    fn alarms_are_as_rare_as_was_asked_for() {
        for days in [20, 60, 300] {
            // an exponential and a heavy tail
            for tail in [|u: f64| -u.ln(), |u: f64| u.powf(-0.3)] {
                let rate = rate(days, 0.02, tail);
                assert!(
                    (0.001..=0.03).contains(&rate),
                    "{days} days: {rate} instead of 0.02"
                );
            }
        }
    }

    #[test]
    fn nothing_is_told_before_enough_is_known() {
        let mut surprises = Surprises::default();
        for _ in 1..DAYS_MIN {
            surprises.push(Family::Values, 1.0);
        }
        assert_eq!(surprises.threshold(Family::Values, 0.01), None);
        surprises.push(Family::Values, 1.0);
        assert!(surprises.threshold(Family::Values, 0.01).unwrap() >= THRESHOLD_MIN);
        assert_eq!(surprises.threshold(Family::Volume, 0.01), None);
    }
}
