//! Windows of rows in the order of time, each beside everything before it: how far its values are from what they were.

use std::ops::Range;

use serde::{Deserialize, Serialize};
use tidemill_core::feature::ColumnValues;

use super::quality::FALSE_ALARMS;
use crate::usual::{Distance, PAST_MIN, Usual};

/// The fewest rows of a window.
pub(super) const WINDOW_ROWS_MIN: usize = 30;
/// The most windows: rows before the first are compared with, and not cut.
const WINDOWS_MAX: usize = 60;
/// The last window is compared with those before it only where there are so many in all: the first has nothing before it.
pub(super) const WINDOWS_MIN: usize = PAST_MIN + 2;

/// Rows in the order of time, cut into windows of equally many up to the last row.
pub(super) struct Windows {
    pub(super) all: Vec<Range<usize>>,
    /// Which of them are judged together: those of new rows alone, the last one at least. What is judged says nothing about what is usual.
    pub(super) judged: Range<usize>,
    /// How many questions the false alarms are divided among.
    pub(super) questions: usize,
}

impl Windows {
    /// Of `rows` rows, of which those from `first_new` on are new: windows as large as what is new, but so that there are enough of them.
    /// Each is asked `questions` questions. `None` where there are too few rows.
    pub(super) fn cut(rows: usize, first_new: Option<usize>, questions: usize) -> Option<Self> {
        let new = first_new.map_or(0, |first| rows.saturating_sub(first));
        let most = rows / WINDOWS_MIN;
        let window = if new == 0 { most } else { new.min(most) };
        let window = window.max(WINDOW_ROWS_MIN);
        let count = (rows / window).min(WINDOWS_MAX);
        if count < WINDOWS_MIN {
            return None;
        }
        let first = rows - count * window;
        let starts = (0..count).map(|place| first + place * window);
        let all: Vec<Range<usize>> = starts.map(|start| start..start + window).collect();
        let from = first_new.unwrap_or(rows);
        let from = all.partition_point(|window| window.start < from);
        let judged = from.clamp(PAST_MIN + 1, count - 1)..count;
        Some(Self {
            questions: questions * judged.len(),
            all,
            judged,
        })
    }

    /// How many rows each has.
    pub(super) fn rows(&self) -> usize {
        self.all.first().map_or(0, Range::len)
    }

    /// How many say what is usual: those before the judged ones, without the first, which has nothing before it.
    pub(super) fn past(&self) -> usize {
        self.judged.start - 1
    }

    /// The distance of the judged window that is farthest beyond what it may be, and that; `distances` has one per window. What is
    /// smaller than `effect_min` always may be.
    pub(super) fn farthest(&self, distances: &[Distance], effect_min: f64) -> (f64, f64) {
        let past = distances.iter().take(self.judged.start).skip(1).copied();
        let Some(usual) = Usual::of(past) else {
            return (0.0, 0.0);
        };
        let judged = distances.iter().skip(self.judged.start).map(|distance| {
            let usual = usual.threshold(distance.chance, FALSE_ALARMS, self.questions);
            (distance.value, usual.max(effect_min))
        });
        let share = |pair: &(f64, f64)| pair.0 / pair.1.max(f64::MIN_POSITIVE);
        let farthest = judged.max_by(|one, other| share(one).total_cmp(&share(other)));
        farthest.unwrap_or((0.0, 0.0))
    }
}

/// A question about the values of a feature in a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// How many values are missing.
    Missing,
    /// How many numbers lie outside of all before, or texts are new.
    Range,
    /// How the values are distributed.
    Distribution,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Missing, Self::Range, Self::Distribution];

    /// What its number is.
    pub fn statistic(self) -> &'static str {
        match self {
            Self::Missing => "difference of the share without a value",
            Self::Range => "share of values outside of all before",
            Self::Distribution => {
                "largest distance of distribution functions (Kolmogorov and Smirnov), of texts total variation"
            }
        }
    }

    /// A smaller distance is never told, however unusual it is.
    pub(super) fn effect_min(self) -> f64 {
        match self {
            Self::Missing | Self::Range => 0.05,
            Self::Distribution => 0.2,
        }
    }
}

/// One column, made ready to be looked at window by window.
pub(super) struct Column {
    /// The rows with a value in the order of the values, and where each group of equal ones ends; of texts in groups of the same.
    order: Vec<u32>,
    ends: Vec<usize>,
    is_category: bool,
}

/// A column in one window beside all rows before it.
pub(super) struct Seen {
    missing: Distance,
    range: Distance,
    distribution: Distance,
    /// The share of the most frequent value among those that are there, and how many are.
    pub(super) most_frequent: f64,
    pub(super) present: usize,
}

impl Seen {
    pub(super) fn distance(&self, question: Question) -> Distance {
        match question {
            Question::Missing => self.missing,
            Question::Range => self.range,
            Question::Distribution => self.distribution,
        }
    }
}

impl Column {
    pub(super) fn new(values: &ColumnValues) -> Self {
        let rows = values.len();
        let mut order: Vec<u32> = (0..u32::try_from(rows).unwrap_or(u32::MAX)).collect();
        // the places are those of `values`
        match values {
            ColumnValues::Number(numbers) => {
                order.retain(|row| numbers[*row as usize].is_finite());
                let number = |row: &u32| numbers[*row as usize];
                order.sort_unstable_by(|a, b| number(a).total_cmp(&number(b)));
            }
            ColumnValues::Category(texts) => {
                order.retain(|row| texts[*row as usize].is_some());
                order.sort_unstable_by_key(|row| texts[*row as usize].as_deref());
            }
        }
        let is_same = |a: &u32, b: &u32| match values {
            ColumnValues::Number(numbers) => numbers[*a as usize] == numbers[*b as usize],
            ColumnValues::Category(texts) => texts[*a as usize] == texts[*b as usize],
        };
        let mut ends = Vec::new();
        for group in order.chunk_by(is_same) {
            ends.push(ends.last().unwrap_or(&0) + group.len());
        }
        Self {
            order,
            ends,
            is_category: matches!(values, ColumnValues::Category(_)),
        }
    }

    /// Whether there are two values that differ.
    pub(super) fn varies(&self) -> bool {
        self.ends.len() > 1
    }

    /// The rows of a window beside all rows before it.
    pub(super) fn see(&self, window: &Range<usize>) -> Seen {
        let mut groups = Vec::with_capacity(self.ends.len());
        let (mut from, mut before, mut now) = (0, 0usize, 0usize);
        for end in &self.ends {
            let (mut of_before, mut of_now) = (0usize, 0usize);
            for row in &self.order[from..*end] {
                let row = *row as usize;
                of_before += usize::from(row < window.start);
                of_now += usize::from(window.contains(&row));
            }
            from = *end;
            before += of_before;
            now += of_now;
            if of_before + of_now > 0 {
                groups.push((of_before, of_now));
            }
        }
        let all = (window.start as f64, window.len() as f64);
        let most_frequent = groups.iter().map(|group| group.1).max().unwrap_or(0);
        Seen {
            missing: missing((before as f64, now as f64), all),
            range: self.outside(&groups, (before, now)),
            distribution: match self.is_category {
                true => total_variation(&groups, (before, now)),
                false => largest_step(&groups, (before, now)),
            },
            most_frequent: most_frequent as f64 / now.max(1) as f64,
            present: now,
        }
    }

    /// Numbers beyond the first or the last of those before; texts that never were.
    fn outside(&self, groups: &[(usize, usize)], (before, now): (usize, usize)) -> Distance {
        let outside: usize = match self.is_category {
            true => {
                let new = groups.iter().filter(|group| group.0 == 0);
                new.map(|group| group.1).sum()
            }
            false => {
                let is_before = |group: &(usize, usize)| group.0 > 0;
                let first = groups.iter().position(is_before).unwrap_or(groups.len());
                let last = groups
                    .iter()
                    .rposition(is_before)
                    .map_or(first, |last| last + 1);
                let ends = groups[..first].iter().chain(&groups[last..]);
                ends.map(|group| group.1).sum()
            }
        };
        if before == 0 || now == 0 {
            return NOTHING;
        }
        Distance {
            value: outside as f64 / now as f64,
            // of n values that are alike the next lies beyond all with the probability 2 / (n + 1); a few do now and then
            chance: 2.0 / (before as f64 + 1.0) + 3.0 / now as f64,
        }
    }
}

/// Where there is nothing to compare.
const NOTHING: Distance = Distance {
    value: 0.0,
    chance: 1.0,
};

fn missing(present: (f64, f64), all: (f64, f64)) -> Distance {
    if all.0 == 0.0 || all.1 == 0.0 {
        return NOTHING;
    }
    let (before, now) = (1.0 - present.0 / all.0, 1.0 - present.1 / all.1);
    let pooled = 1.0 - (present.0 + present.1) / (all.0 + all.1);
    Distance {
        value: (now - before).abs(),
        chance: (pooled * (1.0 - pooled) * (1.0 / all.0 + 1.0 / all.1)).sqrt() + 1.0 / all.1,
    }
}

/// Kolmogorov and Smirnov; the mean of their statistic is 0.87 √(1/n + 1/m) where nothing has changed.
fn largest_step(groups: &[(usize, usize)], (before, now): (usize, usize)) -> Distance {
    if before == 0 || now == 0 {
        return NOTHING;
    }
    let (before, now) = (before as f64, now as f64);
    let (mut below, mut largest) = ((0.0, 0.0), 0.0f64);
    for (of_before, of_now) in groups {
        below.0 += *of_before as f64;
        below.1 += *of_now as f64;
        largest = largest.max((below.0 / before - below.1 / now).abs());
    }
    Distance {
        value: largest,
        chance: 0.87 * (1.0 / before + 1.0 / now).sqrt(),
    }
}

/// Half the sum of the differences of shares. Each of them is √(2 p (1 − p) / π · (1/n + 1/m)) on average where nothing has changed.
fn total_variation(groups: &[(usize, usize)], (before, now): (usize, usize)) -> Distance {
    if before == 0 || now == 0 {
        return NOTHING;
    }
    let (before, now) = (before as f64, now as f64);
    let (mut value, mut chance) = (0.0, 0.0);
    for (of_before, of_now) in groups {
        let shares = (*of_before as f64 / before, *of_now as f64 / now);
        value += (shares.0 - shares.1).abs() / 2.0;
        let pooled = (of_before + of_now) as f64 / (before + now);
        let variance = pooled * (1.0 - pooled) * (1.0 / before + 1.0 / now);
        chance += (2.0 * variance / std::f64::consts::PI).sqrt() / 2.0;
    }
    Distance {
        value,
        chance: chance + 1.0 / now,
    }
}
