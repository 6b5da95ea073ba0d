//! What was taken, cut in time: to learn from, and to examine on.

use tidemill_core::project::RecommendModel;
use tidemill_core::{Span, Timestamp};
use tidemill_features::dataset::InteractionLog;
use tidemill_learn::recommend::{Case, Interactions, ItemIndex, Signal};

/// The most persons of the examined period that are asked about.
const CASES_MAX: usize = 5_000;
/// The newest share of the time that is examined on, where the horizon is longer.
const EXAMINED_SHARE: f64 = 0.2;
/// What everybody takes, at most so many items of it.
const POPULAR_MAX: usize = 500;

/// What was learnt and what is asked.
pub(super) struct Divided {
    pub(super) train: Interactions,
    /// For each case its history and what was taken then.
    pub(super) cases: Vec<Case>,
    pub(super) examined_from: Timestamp,
}

/// Cuts in time: what was taken before the newest period is learnt from; what was taken in it, by signals that count as success, is asked for.
pub(super) fn divide(
    model: &RecommendModel,
    log: &InteractionLog,
    weights: &[f32],
    now: Timestamp,
) -> Divided {
    let history_from = model.training.history.map(|history| now - history);
    let is_old = |time: Timestamp| history_from.is_some_and(|from| time < from);
    let times = log.taken.iter().map(|taken| taken.timestamp);
    let times = times.filter(|time| !is_old(*time));
    let (first, last) = times.fold((now, Timestamp::EPOCH), |(first, last), time| {
        (first.min(time), last.max(time))
    });
    let span = last.since(first).micros().max(0) as f64 * EXAMINED_SHARE;
    let examined = Span::from_micros((span as i64).min(model.within.micros()));
    let from = last - examined;
    let goals: Vec<&str> = model.goals().collect();
    let is_goal: Vec<bool> = model
        .signals
        .keys()
        .map(|event| goals.contains(&event.as_str()))
        .collect();
    let mut histories: Vec<Vec<Signal>> = vec![Vec::new(); log.persons.len()];
    let mut targets: Vec<Vec<ItemIndex>> = vec![Vec::new(); log.persons.len()];
    for taken in log.taken.iter().filter(|taken| !is_old(taken.timestamp)) {
        let person = taken.person as usize;
        if taken.timestamp <= from {
            histories[person].push(Signal {
                item: taken.item,
                weight: weights[taken.signal as usize],
                time: seconds(taken.timestamp),
            });
        } else if is_goal[taken.signal as usize] && !targets[person].contains(&taken.item) {
            targets[person].push(taken.item);
        }
    }
    let mut train = Interactions::builder();
    for history in &mut histories {
        history.sort_by_key(|signal| signal.time);
        train.push(history.iter().copied());
    }
    let asked = targets.into_iter().zip(histories).enumerate();
    let cases: Vec<Case> = asked
        .filter(|(_, (targets, _))| !targets.is_empty())
        .map(|(person, (targets, history))| Case {
            person,
            now: seconds(from),
            segment: None,
            history,
            targets,
        })
        .collect();
    // of many, every n-th: persons are numbered by their first appearance
    let step = cases.len().div_ceil(CASES_MAX).max(1);
    Divided {
        train: train.build(log.items.len()),
        cases: cases.into_iter().step_by(step).collect(),
        examined_from: from,
    }
}

/// A moment in the time of signals.
pub(super) fn seconds(moment: Timestamp) -> i64 {
    moment.micros() / 1_000_000
}

/// What everybody takes, best first.
pub(super) fn most_taken(data: &Interactions) -> Vec<ItemIndex> {
    let mut counted: Vec<(ItemIndex, f32)> = (0..).zip(data.degrees().iter().copied()).collect();
    counted.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    counted.truncate(POPULAR_MAX);
    counted
        .into_iter()
        .filter(|(_, degree)| *degree > 0.0)
        .map(|(item, _)| item)
        .collect()
}
