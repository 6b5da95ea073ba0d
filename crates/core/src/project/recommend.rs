//! Reads models of kind `recommend`.

use std::collections::BTreeMap;

use super::parse::{read_cycle, read_holdout};
use super::reader::{Entry, Table};
use super::rollout::{Answers, read_rollout};
use super::{GateRules, Located, Retrain, RolloutRules, Training};
use crate::id::ModelName;
use crate::time::Span;

/// Which items are for whom.
#[derive(Debug, Clone, PartialEq)]
pub struct RecommendModel {
    /// Its name.
    pub name: ModelName,
    /// What it is for, in words.
    pub question: Option<String>,
    /// The events that say what people like, and how much each says.
    pub signals: BTreeMap<String, f64>,
    /// The features of people that it reads, by name, `*` for any text; absent: all of the user's.
    pub features: Option<Vec<Located>>,
    /// A feature of people with few values, such as their country: what is popular among those with the same one is a source of candidates.
    pub segment: Option<Located>,
    /// How long after an answer what was taken counts as its success.
    pub within: Span,
    /// A SQL boolean expression over `item.…`, `user.…` and `request.…`: what may be shown.
    pub filter: Option<Located>,
    /// A SQL number over the same: odds are multiplied by it.
    pub boost: Option<Located>,
    /// From 0, the best ones, to 1, those that are least alike.
    pub diversity: f64,
    /// Which share of the places is given to items at random, so that something is learnt about them.
    pub explore: f64,
    /// At most so many items with the same value of an attribute.
    pub caps: BTreeMap<String, usize>,
    /// How often an item is shown to the same person without being taken.
    pub frequency_cap: Option<FrequencyCap>,
    /// Whether what somebody has taken already may be shown; found out by evaluation where absent.
    pub repeat: Option<bool>,
    /// Which sources of candidates it has, and no others; chosen by evaluation where absent.
    pub sources: Option<Vec<PinnedSource>>,
    /// Whether a ranker puts the best candidates in order; found out by evaluation where absent.
    pub ranker: Option<bool>,
    /// The share of the people who never get its lists, but what everybody takes.
    pub holdout: f64,
    /// When it is trained again.
    pub retrain: Retrain,
    /// What a challenger must reach.
    pub gate: GateRules,
    /// How a version that passed takes over; at once where absent.
    pub rollout: Option<RolloutRules>,
    /// How it is fitted.
    pub training: Training,
    /// The line on which it begins.
    pub line: usize,
}

/// A source of candidates that a person named.
#[derive(Debug, Clone, PartialEq)]
pub struct PinnedSource {
    /// Its name.
    pub name: Located,
    /// What its word counts beside that of the others; fitted where absent.
    pub weight: Option<f64>,
}

/// An item is not shown to somebody to whom it was shown that often lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrequencyCap {
    /// How many lists.
    pub times: u32,
    /// In how long; at most the model's horizon.
    pub within: Span,
}

impl RecommendModel {
    /// The events that count as success: those that say most.
    pub fn goals(&self) -> impl Iterator<Item = &str> {
        let most = self.signals.values().copied().fold(0.0, f64::max);
        let goals = self
            .signals
            .iter()
            .filter(move |(_, weight)| **weight >= most);
        goals.map(|(event, _)| event.as_str())
    }
}

/// The largest weight of a source: log-odds between what it names first and what it does not name.
const SOURCE_WEIGHT_MAX: f64 = 100.0;
/// The longest horizon that is taken where the file names none.
const WITHIN_DEFAULT: Span = Span::from_days(30);

pub(super) fn read_recommend(
    name: ModelName,
    mut table: Table<'_, '_>,
    has_items: bool,
) -> Option<RecommendModel> {
    let line = table.line;
    if !has_items {
        let hint = "declare [items] with id = \"properties.…\"".to_owned();
        table.problem(
            "there is nothing to recommend: no items are declared",
            Some(hint),
        );
    }
    let question = table.get("question").and_then(|entry| entry.string());
    let signals = table
        .require("signals", "{ \"Order Completed\" = 1.0 }")
        .and_then(|entry| read_signals(&entry));
    let features = table.get("features").map(|entry| entry.located_list());
    let segment = table.get("segment").and_then(|entry| entry.located());
    let within = match table.get("within") {
        Some(entry) => entry.span(),
        None => Some(WITHIN_DEFAULT),
    };
    let filter = table.get("filter").and_then(|entry| entry.located());
    let boost = table.get("boost").and_then(|entry| entry.located());
    let diversity = read_share(&mut table, "diversity");
    let explore = read_share(&mut table, "explore");
    let caps = table
        .get("caps")
        .map_or_else(BTreeMap::new, |entry| read_caps(&entry));
    let frequency_cap = table
        .get("frequency_cap")
        .and_then(|entry| read_frequency_cap(&entry, within));
    let repeat = table.get("repeat").and_then(|entry| entry.truth());
    let sources = table.get("sources").and_then(|entry| read_sources(&entry));
    let ranker = table.get("ranker").and_then(|entry| entry.truth());
    let holdout = read_holdout(&mut table);
    let (retrain, gate, training) = read_cycle(&mut table);
    let rollout = read_rollout(&mut table, Answers::Lists);
    table.finish();
    Some(RecommendModel {
        name,
        question,
        signals: signals?,
        features,
        segment,
        within: within?,
        filter,
        boost,
        diversity: diversity?,
        explore: explore?,
        caps,
        frequency_cap,
        repeat,
        sources,
        ranker,
        holdout,
        retrain,
        gate,
        rollout,
        training,
        line,
    })
}

/// A list of names, or names with their weights.
fn read_sources(entry: &Entry<'_, '_>) -> Option<Vec<PinnedSource>> {
    let pinned: Vec<PinnedSource> = if entry.is_array() {
        let names = entry.located_list().into_iter();
        names
            .map(|name| PinnedSource { name, weight: None })
            .collect()
    } else {
        let weights = entry.table()?.entries().into_iter();
        let weighed = weights.filter_map(|(name, weight)| {
            let line = weight.line;
            let number = weight.number()?;
            if !(0.0..=SOURCE_WEIGHT_MAX).contains(&number) {
                weight.problem(
                    format!("{number} is out of range: from 0 to {SOURCE_WEIGHT_MAX}"),
                    None,
                );
                return None;
            }
            let name = Located { text: name, line };
            Some(PinnedSource {
                name,
                weight: Some(number),
            })
        });
        weighed.collect()
    };
    let twice = pinned.iter().enumerate().find(|(place, source)| {
        let mut before = pinned[..*place].iter();
        before.any(|before| before.name.text == source.name.text)
    });
    if let Some((_, source)) = twice {
        entry.problem(format!("'{}' is named twice", source.name.text), None);
    }
    if pinned.is_empty() {
        let hint = "leave the key out and evaluation chooses".to_owned();
        entry.problem("name at least one source", Some(hint));
        return None;
    }
    Some(pinned)
}

fn read_share(table: &mut Table<'_, '_>, key: &'static str) -> Option<f64> {
    let Some(entry) = table.get(key) else {
        return Some(0.0);
    };
    let share = entry.number()?;
    if (0.0..=1.0).contains(&share) {
        return Some(share);
    }
    entry.problem(format!("{share} is not a number from 0 to 1"), None);
    None
}

fn read_signals(entry: &Entry<'_, '_>) -> Option<BTreeMap<String, f64>> {
    let mut signals = BTreeMap::new();
    for (event, weight) in entry.table()?.entries() {
        let number = weight.number()?;
        if number <= 0.0 || !number.is_finite() {
            let hint = "leave out what says nothing".to_owned();
            weight.problem(format!("{number} is not above 0"), Some(hint));
            continue;
        }
        signals.insert(event, number);
    }
    if signals.is_empty() {
        entry.problem("name at least one event", None);
        return None;
    }
    Some(signals)
}

fn read_frequency_cap(entry: &Entry<'_, '_>, horizon: Option<Span>) -> Option<FrequencyCap> {
    let mut table = entry.table()?;
    let times = table
        .require("times", "3")
        .and_then(|entry| entry.integer_within(1, 1_000));
    let within = table.require("within", "\"7d\"")?;
    let span = within.span();
    table.finish();
    let (times, span) = (u32::try_from(times?).ok()?, span?);
    if horizon.is_some_and(|horizon| span > horizon) {
        let hint = "lists are remembered for the model's `within`: make that longer".to_owned();
        within.problem(
            format!("{span} is longer than the model's horizon"),
            Some(hint),
        );
        return None;
    }
    Some(FrequencyCap {
        times,
        within: span,
    })
}

fn read_caps(entry: &Entry<'_, '_>) -> BTreeMap<String, usize> {
    let entries = entry.table().map_or_else(Vec::new, |table| table.entries());
    entries
        .into_iter()
        .filter_map(|(attribute, entry)| {
            let most = entry.integer_within(1, 1_000)?;
            Some((attribute, usize::try_from(most).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use crate::project::Project;

    fn read(model: &str) -> Result<Project, String> {
        let text = format!(
            "[project]\nname = \"shop\"\n[items]\nid = \"properties.product\"\n[models.for_you]\nkind = \"recommend\"\n{model}"
        );
        Project::parse(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_model_is_read_with_its_defaults() {
        let project =
            read("signals = { View = 1.0, Buy = 3.0, Gift = 3.0 }\ncaps = { category = 2 }\n")
                .unwrap();
        let model = project.recommenders.values().next().unwrap();
        assert_eq!(model.goals().collect::<Vec<_>>(), ["Buy", "Gift"]);
        assert_eq!(
            (model.diversity, model.explore, model.repeat),
            (0.0, 0.0, None)
        );
        assert_eq!(
            (model.within.to_string().as_str(), model.caps["category"]),
            ("30d", 2)
        );
        assert!(project.models.is_empty());
    }

    #[test]
    fn a_frequency_cap_looks_no_further_back_than_lists_are_remembered() {
        let cap = |within: &str| {
            let text = format!(
                "signals = {{ Buy = 1.0 }}\nwithin = \"20d\"\nfrequency_cap = {{ times = 3, within = \"{within}\" }}\n"
            );
            read(&text).map(|project| project.recommenders.values().next().unwrap().frequency_cap)
        };
        let cap_found = cap("7d").unwrap().unwrap();
        assert_eq!(
            (cap_found.times, cap_found.within.to_string().as_str()),
            (3, "7d")
        );
        let refused = cap("30d").unwrap_err();
        assert!(
            refused.contains("longer than the model's horizon"),
            "{refused}"
        );
    }

    #[test]
    fn sources_are_pinned_by_name_or_with_weights() {
        let pinned = |sources: &str| {
            let project = read(&format!("signals = {{ Buy = 1.0 }}\n{sources}\n"))?;
            let model = project.recommenders.into_values().next().unwrap();
            let sources = model.sources.unwrap_or_default().into_iter();
            let sources = sources.map(|source| (source.name.text, source.weight));
            Ok::<_, String>((sources.collect::<Vec<_>>(), model.ranker))
        };
        let both = pinned("sources = [\"goes with\", \"popular\"]\nranker = false").unwrap();
        let names = ["goes with", "popular"].map(|name| (name.to_owned(), None));
        assert_eq!(both, (names.to_vec(), Some(false)));
        let weighed = pinned("sources = { popular = 0.5 }").unwrap();
        assert_eq!(weighed, (vec![("popular".to_owned(), Some(0.5))], None));
        assert_eq!(pinned("").unwrap(), (Vec::new(), None));
        let refused =
            ["sources = []", "sources = { popular = -1 }"].map(|text| pinned(text).unwrap_err());
        assert!(
            refused[0].contains("name at least one source"),
            "{refused:?}"
        );
        assert!(refused[1].contains("from 0 to 100"), "{refused:?}");
    }

    #[test]
    fn mistakes_have_remedies() {
        let check = |model: &str, expected: Expect| expected.assert_eq(&read(model).unwrap_err());
        check(
            "",
            expect![[
                r#"line 5, models.for_you: 'signals' is missing (for example signals = { "Order Completed" = 1.0 })"#
            ]],
        );
        check(
            "signals = { Buy = 0.0 }\ndiversity = 2\n",
            expect![[r#"
                line 7, models.for_you.signals: name at least one event
                line 7, models.for_you.signals.Buy: 0 is not above 0 (leave out what says nothing)
                line 8, models.for_you.diversity: 2 is not a number from 0 to 1"#]],
        );
    }
}
