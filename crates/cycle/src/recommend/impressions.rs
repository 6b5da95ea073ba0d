//! The lists that people were shown while what is learnt from was held back, and what they took of them.

use std::collections::{HashMap, HashSet};

use tidemill_core::project::RecommendModel;
use tidemill_core::{Decision, Timestamp};
use tidemill_features::dataset::{Interaction, InteractionLog};
use tidemill_learn::recommend::{Case, ItemIndex, ShownList, Signal};

use super::divide::seconds;
use crate::project_loop::{CycleError, ProjectLoop};

/// At most so many of the newest decisions of the log are looked at.
const DECISIONS_MAX: u64 = 200_000;
/// How many are read at a time.
const DECISIONS: usize = 2_000;
/// At most so many lists are learnt from, the newest ones.
const LISTS_MAX: usize = 4_000;

impl ProjectLoop {
    /// Lists of a model that were shown in `[from, until)`, the newest ones.
    pub(super) fn shown_between(
        &self,
        model: &RecommendModel,
        (from, until): (Timestamp, Timestamp),
    ) -> Result<Vec<Decision>, CycleError> {
        let mut after = self.decisions.last().saturating_sub(DECISIONS_MAX);
        let mut shown = Vec::new();
        loop {
            let decisions = self.decisions.read(after, DECISIONS)?;
            let Some(last) = decisions.last() else {
                break;
            };
            after = last.sequence;
            let decisions = decisions.into_iter().map(|decision| decision.value);
            shown.extend(decisions.filter(|decision| {
                decision.model == model.name
                    && !decision.given
                    && (from..until).contains(&decision.moment)
            }));
        }
        let older = shown.len().saturating_sub(LISTS_MAX);
        Ok(shown.split_off(older))
    }
}

/// The lists as cases: with what the person had taken before, and what of the list they took within the horizon, as far as that is
/// known at `until`.
pub(super) fn shown_lists(
    decisions: &[Decision],
    model: &RecommendModel,
    log: &InteractionLog,
    weights: &[f32],
    until: Timestamp,
) -> Vec<ShownList> {
    let asked: HashSet<&str> = decisions
        .iter()
        .map(|shown| shown.entity.as_str())
        .collect();
    let persons = log.persons.iter().enumerate();
    let persons: HashMap<&str, usize> = persons
        .map(|(number, key)| (key.as_str(), number))
        .filter(|(key, _)| asked.contains(key))
        .collect();
    let known: HashSet<usize> = persons.values().copied().collect();
    let mut taken: HashMap<usize, Vec<Interaction>> = HashMap::new();
    let of_known = log
        .taken
        .iter()
        .filter(|one| known.contains(&(one.person as usize)));
    for one in of_known {
        taken.entry(one.person as usize).or_default().push(*one);
    }
    taken
        .values_mut()
        .for_each(|taken| taken.sort_by_key(|one| one.timestamp));
    let numbers: HashMap<&str, ItemIndex> = log.items.iter().map(AsRef::as_ref).zip(0..).collect();
    let goals: HashSet<&str> = model.goals().collect();
    let is_goal: Vec<bool> = model
        .signals
        .keys()
        .map(|event| goals.contains(event.as_str()))
        .collect();
    let lists = decisions.iter().filter_map(|shown| {
        let person = *persons.get(shown.entity.as_str())?;
        let taken = taken.get(&person)?;
        let items = shown.items.iter();
        let items: Vec<ItemIndex> = items
            .filter_map(|shown| numbers.get(shown.item.as_str()).copied())
            .collect();
        let before = taken.partition_point(|one| one.timestamp <= shown.moment);
        let end = (shown.moment + model.within).min(until);
        let within = taken[before..]
            .iter()
            .take_while(|one| one.timestamp <= end);
        let targets = within
            .filter(|one| is_goal[one.signal as usize])
            .map(|one| one.item);
        let targets: Vec<ItemIndex> = targets.filter(|item| items.contains(item)).collect();
        let history = taken[..before].iter().map(|one| Signal {
            item: one.item,
            weight: weights[one.signal as usize],
            time: seconds(one.timestamp),
        });
        let case = Case {
            person,
            now: seconds(shown.moment),
            segment: None,
            history: history.collect(),
            targets,
        };
        Some(ShownList { case, items })
    });
    lists.filter(|list| !list.case.targets.is_empty()).collect()
}
