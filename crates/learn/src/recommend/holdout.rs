//! What is held back of the training data, so that choices are made by evaluation.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::interactions::{Interactions, Signal};
use super::query::Query;

/// What the recommendations are for; it decides what is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Any other item that the person will take; the order within a history is not asked for. A fifth of each history is
    /// held back, at random.
    Others,
    /// What the person will take later on. The newest signals of all are held back, and those who have a history before them
    /// are asked about; without times, or where nobody came twice, it is [`Question::Next`].
    Later,
    /// The next item of the person. The last signal of each history is held back.
    Next,
    /// The next item of a session that is not among the training sessions. The last sessions are held back, in the order in
    /// which they were added, and each of their steps is asked for.
    NextInSession,
}

/// A history and what came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Whose history it is, by its place among all histories.
    pub person: usize,
    /// When it is asked, in the time of the signals.
    pub now: i64,
    /// What is known, oldest first.
    pub history: Vec<Signal>,
    /// What was taken then; at least one item.
    pub targets: Vec<ItemIndex>,
}

impl Case {
    /// A case at the time of the history's last signal.
    pub fn new(person: usize, history: Vec<Signal>, targets: Vec<ItemIndex>) -> Self {
        Self {
            person,
            now: history.last().map_or(0, |signal| signal.time),
            history,
            targets,
        }
    }

    /// The question that it answers.
    pub fn query(&self) -> Query<'_> {
        Query {
            now: self.now,
            ..Query::new(&self.history)
        }
    }
}

/// A list that was shown to somebody, and what they took afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct ShownList {
    /// The history before it, and what of the list was taken.
    pub case: Case,
    /// The list, the first place first.
    pub items: Vec<ItemIndex>,
}

/// Training data without what is held back, and that as cases.
#[derive(Debug, Clone, PartialEq)]
pub struct Holdout {
    /// What to fit on.
    pub fit: Interactions,
    /// What to choose by: at most as many as were asked for, drawn at random.
    pub cases: Vec<Case>,
    /// Lists that were shown in the time that is held back, where that is known: what a ranker learns from beside the cases.
    pub shown: Vec<ShownList>,
}

/// The share of sessions that is held back.
const SESSION_SHARE: f64 = 0.05;
/// The newest share of all signals, in time, that is held back.
const LATER_SHARE: f64 = 0.15;
/// The share of a history that is held back.
const OTHERS_SHARE: f64 = 0.2;

impl Question {
    /// Holds a part of the data back and makes at most `cases_max` cases of it.
    ///
    /// Of [`Question::Others`] and [`Question::Later`] only signals of at least `goal` are held back: with purchases weighing more than views, a goal
    /// between the two asks for purchases.
    pub fn hold_back(self, data: &Interactions, goal: f32, cases_max: usize, seed: u64) -> Holdout {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (fit, mut cases) = match self {
            Self::Others => others(data, goal, &mut random),
            Self::Later => later(data, goal),
            Self::Next => last_of_each(data),
            Self::NextInSession => last_sessions(data),
        };
        cases.shuffle(&mut random);
        cases.truncate(cases_max);
        Holdout {
            fit,
            cases,
            shown: Vec::new(),
        }
    }
}

fn others(data: &Interactions, goal: f32, random: &mut ChaCha8Rng) -> (Interactions, Vec<Case>) {
    let mut fit = Interactions::builder();
    let mut cases = Vec::new();
    for (person, history) in data.iter().enumerate() {
        let mut kept: Vec<Signal> = Vec::with_capacity(history.len());
        let mut targets = Vec::new();
        for signal in history {
            match signal.weight >= goal && random.random_bool(OTHERS_SHARE) {
                true => targets.push(signal.item),
                false => kept.push(*signal),
            }
        }
        if kept.is_empty() || targets.is_empty() {
            fit.push(history.iter().copied());
            continue;
        }
        fit.push(kept.iter().copied());
        cases.push(Case::new(person, kept, targets));
    }
    (fit.build(data.items()), cases)
}

fn later(data: &Interactions, goal: f32) -> (Interactions, Vec<Case>) {
    let mut times: Vec<i64> = data.signals().iter().map(|signal| signal.time).collect();
    times.sort_unstable();
    let place = (times.len() as f64 * (1.0 - LATER_SHARE)) as usize;
    let until = times.get(place).map_or(0, |time| time - 1);
    if times.first().is_none_or(|first| *first > until) {
        return last_of_each(data);
    }
    let mut fit = Interactions::builder();
    let mut cases = Vec::new();
    for (person, history) in data.iter().enumerate() {
        let is_old = |signal: &&Signal| signal.time <= until;
        let kept: Vec<Signal> = history.iter().filter(is_old).copied().collect();
        let mut targets: Vec<ItemIndex> = Vec::new();
        for signal in history {
            let is_new = signal.time > until && signal.weight >= goal;
            if is_new && !targets.contains(&signal.item) {
                targets.push(signal.item);
            }
        }
        fit.push(kept.iter().copied());
        if !kept.is_empty() && !targets.is_empty() {
            cases.push(Case {
                person,
                now: until,
                history: kept,
                targets,
            });
        }
    }
    if cases.is_empty() {
        return last_of_each(data); // nobody came twice
    }
    (fit.build(data.items()), cases)
}

fn last_of_each(data: &Interactions) -> (Interactions, Vec<Case>) {
    let mut fit = Interactions::builder();
    let mut cases = Vec::new();
    for (person, history) in data.iter().enumerate() {
        let Some((last, before)) = history.split_last().filter(|(_, rest)| !rest.is_empty()) else {
            fit.push(history.iter().copied());
            continue;
        };
        fit.push(before.iter().copied());
        cases.push(Case {
            person,
            now: last.time,
            history: before.to_vec(),
            targets: vec![last.item],
        });
    }
    (fit.build(data.items()), cases)
}

fn last_sessions(data: &Interactions) -> (Interactions, Vec<Case>) {
    let held = (data.histories() as f64 * SESSION_SHARE).ceil() as usize;
    let kept = data.histories() - held.min(data.histories().saturating_sub(1));
    let mut fit = Interactions::builder();
    let mut known = vec![false; data.items()];
    for history in data.iter().take(kept) {
        fit.push(history.iter().copied());
        for signal in history {
            known[signal.item as usize] = true;
        }
    }
    let mut cases = Vec::new();
    for (person, history) in data.iter().enumerate().skip(kept) {
        for place in 1..history.len() {
            let target = history[place].item;
            if known[target as usize] {
                cases.push(Case {
                    person,
                    now: history[place].time,
                    history: history[..place].to_vec(),
                    targets: vec![target],
                });
            }
        }
    }
    (fit.build(data.items()), cases)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_later_is_held_back_in_time() {
        let mut data = Interactions::builder();
        let signal = |item, time| Signal {
            time,
            ..Signal::plain(item)
        };
        data.push((0..10).map(|n| signal(n, i64::from(n))));
        data.push([signal(3, 2), signal(4, 9), signal(4, 9)]);
        data.push([signal(5, 9)]);
        let data = data.build(10);
        let held = Question::Later.hold_back(&data, 0.0, 10, 1);
        // the newest are those at 9
        assert_eq!(held.fit.len(), 9 + 1);
        let mut targets: Vec<Vec<ItemIndex>> =
            held.cases.into_iter().map(|case| case.targets).collect();
        targets.sort();
        assert_eq!(targets, [vec![4], vec![9]]);
        let mut timeless = Interactions::builder();
        timeless.push([0, 1, 2].map(Signal::plain));
        let held = Question::Later.hold_back(&timeless.build(3), 0.0, 10, 1);
        assert_eq!(held.cases[0].targets, [2]);
    }
}
