//! What a ranker looks at: one row of numbers for a person and an item at a moment. The same code makes the rows to learn from and
//! those to answer with.

use std::collections::HashMap;

use super::facts::{FACTS, ItemFacts};
use crate::recommend::ItemIndex;
use crate::recommend::interactions::Signal;
use crate::recommend::query::Query;

/// The newest signals of a history that are looked at.
const HISTORY_MAX: usize = 500;

/// The names of what is said of a history.
const HISTORY: [&str; 4] = [
    "history",
    "different items",
    "days since the last signal",
    "how popular what was taken is",
];
/// The names of what is said of an item in a history.
const PAIR: [&str; 4] = [
    "times taken before",
    "signals since taken",
    "days since taken by this person",
    "days since taken over the usual gap",
];

/// The names of the columns of a row: of the sources, of the item, the history, both, and the person.
pub(super) fn names(sources: &[&str], facts: &ItemFacts, person: &[String]) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mut all: Vec<String> = Vec::new();
    for source in sources {
        all.extend([format!("{source}: share"), format!("{source}: logarithm")]);
    }
    all.push("log-odds of the blend".to_owned());
    for group in [&FACTS[..], &HISTORY, &PAIR] {
        let group: Vec<String> = owned(group);
        all.extend(group);
    }
    for attribute in &facts.attributes {
        let beside = if attribute.is_category {
            "share of the history"
        } else {
            "beside the history"
        };
        all.extend([
            attribute.name.clone(),
            format!("{}: {beside}", attribute.name),
        ]);
    }
    all.extend(person.iter().cloned());
    all.push("position".to_owned());
    all
}

/// What is known of an item in a history.
#[derive(Default, Clone, Copy)]
struct Met {
    times: f64,
    /// In signals, from the newest.
    age: usize,
    first: i64,
    last: i64,
}

/// What a history says of an attribute.
enum Taste {
    /// The mean of the numbers.
    Mean(f64),
    /// The share of each category.
    Shares(HashMap<u32, f64>),
}

/// Makes the rows of one query.
pub(super) struct Rows<'a> {
    facts: &'a ItemFacts,
    person: &'a [f64],
    now: i64,
    history: [f64; HISTORY.len()],
    met: HashMap<ItemIndex, Met>,
    tastes: Vec<Taste>,
}

impl<'a> Rows<'a> {
    /// `person` has the encoded features of the person.
    pub(super) fn new(facts: &'a ItemFacts, query: &Query<'_>, person: &'a [f64]) -> Self {
        let newest = || query.newest(HISTORY_MAX);
        let mut met: HashMap<ItemIndex, Met> = HashMap::new();
        for (age, signal) in newest() {
            let known = met.entry(signal.item).or_insert(Met {
                times: 0.0,
                age,
                first: signal.time,
                last: signal.time,
            });
            known.times += 1.0;
            known.first = known.first.min(signal.time);
            known.last = known.last.max(signal.time);
        }
        let popular = mean(newest().map(|(_, signal)| facts.taken(signal.item)));
        let last = query.history.last();
        Self {
            facts,
            person,
            now: query.now,
            history: [
                (1.0 + query.history.len() as f64).ln(),
                met.len() as f64 / newest().count().max(1) as f64,
                last.map_or(f64::NAN, |signal| facts.days(signal.time, query.now)),
                popular,
            ],
            tastes: tastes(facts, query.history),
            met,
        }
    }

    /// Appends the row of an item. `said` is what each source says of it.
    pub(super) fn push(
        &self,
        item: ItemIndex,
        said: impl Iterator<Item = f64>,
        odds: f64,
        position: f64,
        out: &mut Vec<f64>,
    ) {
        out.extend(said);
        out.push(odds);
        out.extend(self.facts.row(item));
        out.extend(self.history);
        out.extend(self.pair(item));
        for (attribute, taste) in self.facts.attributes.iter().zip(&self.tastes) {
            let value = attribute.value(item);
            let beside = match taste {
                _ if value.is_nan() => f64::NAN,
                Taste::Shares(shares) => shares.get(&(value as u32)).copied().unwrap_or(0.0),
                Taste::Mean(mean) if attribute.is_positive && *mean > 0.0 => value / mean,
                Taste::Mean(mean) => value - mean,
            };
            out.extend([value, beside]);
        }
        out.extend(self.person);
        out.push(position);
    }

    fn pair(&self, item: ItemIndex) -> [f64; PAIR.len()] {
        let Some(met) = self.met.get(&item) else {
            return [0.0, f64::NAN, f64::NAN, f64::NAN];
        };
        let since = self.facts.days(met.last, self.now);
        let gap = self.facts.days(met.first, met.last) / (met.times - 1.0);
        let over = if gap > 0.0 && gap.is_finite() {
            since / gap
        } else {
            f64::NAN
        };
        [met.times, met.age as f64, since, over]
    }
}

fn tastes(facts: &ItemFacts, history: &[Signal]) -> Vec<Taste> {
    let newest = &history[history.len().saturating_sub(HISTORY_MAX)..];
    let attributes = facts.attributes.iter();
    attributes
        .map(|attribute| {
            let values = newest.iter().map(|signal| attribute.value(signal.item));
            let known = values.filter(|value| !value.is_nan());
            if !attribute.is_category {
                return Taste::Mean(mean(known));
            }
            let mut shares: HashMap<u32, f64> = HashMap::new();
            let mut count = 0.0;
            for value in known {
                *shares.entry(value as u32).or_insert(0.0) += 1.0;
                count += 1.0;
            }
            shares.values_mut().for_each(|share| *share /= count);
            Taste::Shares(shares)
        })
        .collect()
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0.0), |(sum, count), value| (sum + value, count + 1.0));
    sum / count
}
