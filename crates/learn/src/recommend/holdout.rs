//! What is held back of the training data, so that choices are made by evaluation.

use std::ops::Range;

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::interactions::{Interactions, InteractionsBuilder, Segment, Signal};
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
    /// The person's segment then.
    pub segment: Option<Segment>,
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
            segment: None,
            history,
            targets,
        }
    }

    /// The question that it answers.
    pub fn query(&self) -> Query<'_> {
        Query {
            now: self.now,
            segment: self.segment.as_deref(),
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
        let Division {
            fit,
            mut asked,
            targets,
        } = match self {
            Self::Others => others(data, goal, &mut random),
            Self::Later => later(data, goal),
            Self::Next => last_of_each(data),
            Self::NextInSession => last_sessions(data),
        };
        asked.shuffle(&mut random);
        asked.truncate(cases_max);
        let fit = fit.build(data.items());
        // sessions that are asked about are not among those to fit on
        let known = match self {
            Self::NextInSession => data,
            _ => &fit,
        };
        let case = |asked: Asked| Case {
            person: asked.history as usize,
            now: asked.now,
            segment: None,
            history: known.history(asked.history as usize)[..asked.known as usize].to_vec(),
            targets: targets[asked.targets].to_vec(),
        };
        let cases = asked.into_iter().map(case).collect();
        Holdout {
            fit,
            cases,
            shown: Vec::new(),
        }
    }
}

/// Data without what is held back, and every case that could be asked: what a case holds is copied for those alone that are drawn.
struct Division {
    fit: InteractionsBuilder,
    asked: Vec<Asked>,
    targets: Vec<ItemIndex>,
}

/// A case by where its parts are.
struct Asked {
    /// Whose history.
    history: u32,
    /// How many of its signals are known, the first ones.
    known: u32,
    /// When it is asked.
    now: i64,
    targets: Range<usize>,
}

impl Division {
    fn new(data: &Interactions) -> Self {
        Self {
            fit: Interactions::builder_for(data.histories(), data.len()),
            asked: Vec::new(),
            targets: Vec::new(),
        }
    }

    /// Asks for the targets that were added after the first `start`. Histories are numbered with 32 bits throughout the sources.
    fn ask(&mut self, history: usize, known: usize, start: usize, now: i64) {
        self.asked.push(Asked {
            history: history as u32,
            known: known as u32,
            now,
            targets: start..self.targets.len(),
        });
    }
}

fn others(data: &Interactions, goal: f32, random: &mut ChaCha8Rng) -> Division {
    let mut division = Division::new(data);
    let mut kept: Vec<Signal> = Vec::new();
    for (number, history) in data.iter().enumerate() {
        kept.clear();
        let start = division.targets.len();
        for signal in history {
            match signal.weight >= goal && random.random_bool(OTHERS_SHARE) {
                true => division.targets.push(signal.item),
                false => kept.push(*signal),
            }
        }
        if kept.is_empty() || division.targets.len() == start {
            division.targets.truncate(start);
            division.fit.push(history.iter().copied());
            continue;
        }
        division.fit.push(kept.iter().copied());
        let now = kept.last().map_or(0, |signal| signal.time);
        division.ask(number, kept.len(), start, now);
    }
    division
}

fn later(data: &Interactions, goal: f32) -> Division {
    let Some(until) = newest_begin(data) else {
        return last_of_each(data);
    };
    let mut division = Division::new(data);
    for (number, history) in data.iter().enumerate() {
        let is_old = |signal: &&Signal| signal.time <= until;
        let known = history.iter().filter(is_old).count();
        let start = division.targets.len();
        for signal in history {
            let is_new = signal.time > until && signal.weight >= goal;
            if is_new && !division.targets[start..].contains(&signal.item) {
                division.targets.push(signal.item);
            }
        }
        division.fit.push(history.iter().filter(is_old).copied());
        match known > 0 && division.targets.len() > start {
            true => division.ask(number, known, start, until),
            false => division.targets.truncate(start),
        }
    }
    match division.asked.is_empty() {
        true => last_of_each(data), // nobody came twice
        false => division,
    }
}

/// The last moment before the newest signals; `None` where all are of that time.
fn newest_begin(data: &Interactions) -> Option<i64> {
    let mut times: Vec<i64> = data.signals().iter().map(|signal| signal.time).collect();
    let first = *times.iter().min()?;
    let place = (times.len() as f64 * (1.0 - LATER_SHARE)) as usize;
    let (_, newest, _) = times.select_nth_unstable(place);
    let until = *newest - 1;
    (first <= until).then_some(until)
}

fn last_of_each(data: &Interactions) -> Division {
    let mut division = Division::new(data);
    for (number, history) in data.iter().enumerate() {
        let Some((last, before)) = history.split_last().filter(|(_, rest)| !rest.is_empty()) else {
            division.fit.push(history.iter().copied());
            continue;
        };
        division.fit.push(before.iter().copied());
        let start = division.targets.len();
        division.targets.push(last.item);
        division.ask(number, before.len(), start, last.time);
    }
    division
}

fn last_sessions(data: &Interactions) -> Division {
    let held = (data.histories() as f64 * SESSION_SHARE).ceil() as usize;
    let kept = data.histories() - held.min(data.histories().saturating_sub(1));
    let mut division = Division::new(data);
    let mut known = vec![false; data.items()];
    for history in data.iter().take(kept) {
        division.fit.push(history.iter().copied());
        for signal in history {
            known[signal.item as usize] = true;
        }
    }
    for (number, history) in data.iter().enumerate().skip(kept) {
        for (place, target) in history.iter().enumerate().skip(1) {
            if known[target.item as usize] {
                let start = division.targets.len();
                division.targets.push(target.item);
                division.ask(number, place, start, target.time);
            }
        }
    }
    division
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
