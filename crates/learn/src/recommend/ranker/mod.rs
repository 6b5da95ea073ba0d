//! The order of the best candidates, learnt from more than what was taken.

mod bins;
mod facts;
mod grow;
mod rows;

use std::collections::HashSet;
use std::ops::Range;

use rand::SeedableRng;
use rand::seq::index::sample;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureColumn, FeatureValue};

use self::bins::Table;
use self::facts::ItemFacts;
pub use self::grow::ListTrees;
use self::grow::{Growing, Lists};
use self::rows::{Rows, names};
use super::ItemIndex;
use super::background::Background;
use super::blend::{Blend, BlendWeights};
use super::choice::Choice;
use super::examination::{DEPTH, ndcg};
use super::holdout::{Case, ShownList};
use super::interactions::Interactions;
use super::query::Query;
use crate::boosted::Forest;
use crate::encoder::Encoder;

/// Boosted trees that correct the log-odds of the [`Blend`](super::Blend), list by list ([`ListTrees`]). A row is what the sources say of an item, how often and when it was taken, its attributes, the history, what the history says of
/// that very item and of others like it, and the features of the person.
///
/// It is learnt from the lists that were held back: their best candidates, of which some were taken. Where lists were shown and it is known what
/// was taken of them, these are learnt from as well, with the place that an item had as one more column; when answering, no item has a place yet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ranker {
    /// How many of the best candidates are put in a new order.
    pub candidates: usize,
    /// Of these, how many that were not taken are learnt from, drawn at random.
    pub negatives: usize,
    /// At most so many lists are learnt from, and as many that were shown.
    pub lists_max: usize,
    /// How trees are grown.
    pub trees: ListTrees,
    /// It is used if it raises the NDCG of lists that it has not seen by this share and by more than twice the standard error of that.
    pub worth_min: f64,
    /// Whether it is used, whatever it is worth.
    #[serde(default)]
    pub always: bool,
}

impl Default for Ranker {
    fn default() -> Self {
        Self {
            candidates: 100,
            negatives: 50,
            lists_max: 4_000,
            trees: ListTrees::default(),
            worth_min: 0.002,
            always: false,
        }
    }
}

/// A fitted [`Ranker`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FittedRanker {
    candidates: usize,
    forest: Forest,
    facts: ItemFacts,
    persons: Encoder,
}

/// What a ranker was worth on lists that it had not seen: NDCG at 20.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RankerRecord {
    /// How many lists it was measured on.
    pub lists: usize,
    /// How many lists were there that had been shown to somebody; they are learnt from and not measured on.
    pub shown: usize,
    /// How many trees were best.
    pub trees: usize,
    /// The blend alone, over all cases.
    pub blend: f64,
    /// The blend with the ranker.
    pub ranked: f64,
    /// The standard error of the difference between the two.
    pub standard_error: f64,
    /// Whether it is used.
    pub kept: bool,
    /// The columns by which the trees split most, with the share of the splits.
    pub columns: Vec<(String, f64)>,
}

/// What a ranker learns from.
pub(super) struct Learning<'a> {
    pub(super) blend: &'a Blend,
    pub(super) weights: &'a BlendWeights,
    /// The sources in the blend by their places among all, and their names.
    pub(super) kept: &'a [usize],
    pub(super) names: Vec<&'a str>,
    pub(super) choices: &'a [Choice],
    /// Lists that were shown.
    pub(super) shown: &'a [Choice],
    pub(super) cases: &'a [Case],
    pub(super) lists: &'a [ShownList],
    /// What was known when the cases begin.
    pub(super) then: &'a Interactions,
    pub(super) background: &'a Background,
    pub(super) seed: u64,
}

impl<'a> Learning<'a> {
    /// The case of a choice: one that was held back, or a list that was shown.
    fn case(&self, choice: &Choice) -> &'a Case {
        match choice.case().checked_sub(self.cases.len()) {
            None => &self.cases[choice.case()],
            Some(list) => &self.lists[list].case,
        }
    }

    /// The lists that were shown to others than those whom some choices are about.
    fn shown_to_others(&self, choices: &[Choice]) -> Vec<&'a Choice> {
        let persons: HashSet<usize> = choices
            .iter()
            .map(|choice| self.case(choice).person)
            .collect();
        let shown = self.shown.iter();
        shown
            .filter(|shown| !persons.contains(&self.case(shown).person))
            .collect()
    }
}

/// In so many steps it is found out how many trees are best.
const STEPS: usize = 12;
/// So many steps without a better one, and no more trees are tried.
const STEPS_PATIENT: usize = 3;
/// The most columns that a record names.
const COLUMNS_NAMED: usize = 12;

impl Ranker {
    /// Measures what it is worth: learnt from one half of the lists and measured on the other, both ways; with as many trees as are
    /// best there.
    pub(super) fn measure(&self, learning: &Learning<'_>, known: &Known) -> RankerRecord {
        let half = learning.choices.len() / 2;
        let (one, other) = learning.choices.split_at(half);
        let lists = [(one, other), (other, one)].map(|(fit, measure)| {
            let weights = learning.blend.fit_overall(fit, learning.kept);
            let shown = learning.shown_to_others(measure);
            (
                self.lists(learning, known, (fit, &shown), &weights),
                measure,
                weights,
            )
        });
        let mut halves = lists.each_ref().map(|(lists, measure, weights)| {
            Half::new(self, (learning, known), lists, (measure, weights))
        });
        // a case without a candidate that was taken is worth 0 in any order
        let cases = learning.cases.len().max(1) as f64;
        let worths =
            |halves: &[Half<'_>; 2]| -> Vec<f64> { halves.iter().flat_map(Half::worths).collect() };
        let mean = |worths: &[f64]| worths.iter().sum::<f64>() / cases;
        let blend = worths(&halves);
        let (mut best, mut best_step) = (blend.clone(), 0);
        let trees = self.trees.trees_max / STEPS;
        for step in 1..=STEPS {
            halves
                .par_iter_mut()
                .for_each(|half| half.growing.grow(trees));
            let ranked = worths(&halves);
            if mean(&ranked) > mean(&best) {
                (best, best_step) = (ranked, step);
            } else if step >= best_step + STEPS_PATIENT {
                break;
            }
        }
        let gain = mean(&best) - mean(&blend);
        let differences = best
            .iter()
            .zip(&blend)
            .map(|(ranked, blend)| ranked - blend);
        let squares = differences
            .map(|difference| difference * difference)
            .sum::<f64>()
            / cases;
        let standard_error = ((squares - gain * gain).max(0.0) / cases).sqrt();
        RankerRecord {
            lists: best.len(),
            shown: learning.shown.len(),
            trees: best_step * trees,
            blend: mean(&blend),
            ranked: mean(&best),
            standard_error,
            kept: self.always
                || gain > 2.0 * standard_error && gain >= self.worth_min * mean(&blend),
            columns: Vec::new(),
        }
    }

    /// Learns from all lists, to answer from what is known now: `data` with the background's items as they are now.
    pub(super) fn fit(
        &self,
        learning: &Learning<'_>,
        known: Known,
        data: &Interactions,
        record: &mut RankerRecord,
    ) -> FittedRanker {
        let shown: Vec<&Choice> = learning.shown.iter().collect();
        let from = (learning.choices, &shown[..]);
        let lists = self.lists(learning, &known, from, learning.weights);
        let forest = self.trees.fit(&lists, record.trees);
        record.shown = learning.shown.len();
        record.columns = columns_by_splits(&forest, &known.names(learning));
        let items = &learning.background.items;
        FittedRanker {
            candidates: self.candidates,
            forest,
            facts: ItemFacts::new(data, items, &known.attributes),
            persons: known.persons,
        }
    }

    /// The lists to learn from, of those that were held back and those that were shown.
    fn lists(
        &self,
        learning: &Learning<'_>,
        known: &Known,
        (choices, shown): (&[Choice], &[&Choice]),
        weights: &BlendWeights,
    ) -> Lists {
        let step = |lists: usize| lists.div_ceil(self.lists_max).max(1);
        let chosen = choices.iter().step_by(step(choices.len()));
        let shown = shown.iter().copied().step_by(step(shown.len()));
        let chosen: Vec<&Choice> = chosen.chain(shown).collect();
        let lists: Vec<Option<List>> = chosen
            .par_iter()
            .map(|choice| self.list(learning, known, choice, weights))
            .collect();
        gather(lists.into_iter().flatten(), known.width(learning))
    }

    /// The rows of one list: what was taken of its best candidates, and some of the others.
    fn list(
        &self,
        learning: &Learning<'_>,
        known: &Known,
        choice: &Choice,
        weights: &BlendWeights,
    ) -> Option<List> {
        let odds = weights.odds(choice, learning.kept);
        let best = best_places(&odds, self.candidates);
        let is_taken = |place: &usize| choice.taken().contains(place);
        let (taken, others): (Vec<usize>, Vec<usize>) = best.into_iter().partition(is_taken);
        if taken.is_empty() || others.is_empty() {
            return None;
        }
        let mut random = ChaCha8Rng::seed_from_u64(learning.seed ^ choice.case() as u64);
        let drawn = sample(&mut random, others.len(), self.negatives.min(others.len()));
        let share = 1.0 / taken.len() as f64;
        let chosen = drawn.into_iter().map(|draw| others[draw]);
        let chosen: Vec<usize> = taken.iter().copied().chain(chosen).collect();
        let mut list = List::default();
        known.push_rows(learning, choice, (&chosen, &odds), &mut list.rows);
        list.targets.resize(taken.len(), share);
        list.targets.resize(chosen.len(), 0.0);
        list.odds = chosen.iter().map(|place| odds[*place]).collect();
        Some(list)
    }
}

impl FittedRanker {
    /// The features of persons that it reads, in the order of [`Query::person`].
    pub fn person_features(&self) -> &[FeatureColumn] {
        self.persons.columns()
    }

    /// Corrects the log-odds of the best of some items, and those of the others by the mean correction. `said` has the rows of the
    /// sources.
    pub(super) fn correct(
        &self,
        query: &Query<'_>,
        items: &[ItemIndex],
        said: &[f32],
        odds: &mut [f64],
        best: usize,
    ) {
        let person = encoded(&self.persons, query.person);
        let rows = Rows::new(&self.facts, query, &person);
        let width = said.len() / items.len().max(1);
        let best = best_places(odds, best);
        correct(odds, &best, &self.forest, |place, odds, row| {
            let said = said[place * width..(place + 1) * width].iter();
            rows.push(
                items[place],
                said.map(|value| f64::from(*value)),
                odds,
                f64::NAN,
                row,
            );
        });
    }

    /// How many of the best candidates are put in a new order.
    pub(super) fn candidates(&self) -> usize {
        self.candidates
    }
}

/// What is known when the cases begin.
pub(super) struct Known {
    attributes: Encoder,
    facts: ItemFacts,
    persons: Encoder,
}

impl Known {
    pub(super) fn new(learning: &Learning<'_>) -> Self {
        let background = learning.background;
        let attributes = ItemFacts::encoder(&background.items_then);
        let persons = &background.persons;
        let weights = vec![1.0; persons.rows()];
        Self {
            facts: ItemFacts::new(learning.then, &background.items_then, &attributes),
            attributes,
            persons: Encoder::fit(persons, &weights, CATEGORY_PERSONS_MIN, CATEGORIES_MAX),
        }
    }

    fn person(&self, learning: &Learning<'_>, case: usize) -> Vec<f64> {
        let persons = &learning.background.persons;
        match case < persons.rows() {
            true => encoded(&self.persons, &persons.row(case)),
            false => encoded(&self.persons, &[]),
        }
    }

    /// Appends the rows of some candidates.
    fn push_rows(
        &self,
        learning: &Learning<'_>,
        choice: &Choice,
        (places, odds): (&[usize], &[f64]),
        out: &mut Vec<f64>,
    ) {
        let person = self.person(learning, choice.case());
        let rows = Rows::new(&self.facts, &learning.case(choice).query(), &person);
        for place in places {
            let (item, said) = (choice.item(*place), choice.said(*place, learning.kept));
            rows.push(item, said, odds[*place], choice.position(*place), out);
        }
    }

    /// How many values a row has.
    fn width(&self, learning: &Learning<'_>) -> usize {
        self.names(learning).len()
    }

    fn names(&self, learning: &Learning<'_>) -> Vec<String> {
        let columns = self.persons.columns().iter();
        let persons: Vec<String> = columns.map(|column| column.name.clone()).collect();
        names(&learning.names, &self.facts, &persons)
    }
}

/// A category of persons with fewer than this is "other".
const CATEGORY_PERSONS_MIN: usize = 10;
/// Categories of persons with a code of their own.
const CATEGORIES_MAX: usize = 250;

/// A person's features as numbers; nothing is known where there are none.
fn encoded(encoder: &Encoder, person: &[FeatureValue]) -> Vec<f64> {
    let width = encoder.columns().len();
    if person.len() != width {
        return vec![f64::NAN; width];
    }
    let mut encoded = Vec::with_capacity(width);
    encoder.encode_row(person, &mut encoded);
    encoded
}

/// One list to learn from, row by row.
#[derive(Default)]
struct List {
    rows: Vec<f64>,
    targets: Vec<f64>,
    odds: Vec<f64>,
}

/// All lists, one after the other.
fn gather(lists: impl Iterator<Item = List>, width: usize) -> Lists {
    let mut all = Lists {
        width,
        ..Lists::default()
    };
    for list in lists {
        all.rows.extend(list.rows);
        all.lengths.push(list.targets.len());
        all.targets.extend(list.targets);
        all.odds.extend(list.odds);
    }
    all
}

/// Trees that grow from one half of the lists, and the lists of the other half, in the order that the trees give them.
struct Half<'a> {
    growing: Growing<'a>,
    measured: Vec<Measured>,
}

/// A list on which trees are measured.
struct Measured {
    /// Its rows among those that are watched.
    rows: Range<usize>,
    taken: HashSet<usize>,
    targets: usize,
}

impl<'a> Half<'a> {
    fn new(
        ranker: &'a Ranker,
        (learning, known): (&Learning<'_>, &Known),
        lists: &'a Lists,
        (measure, weights): (&[Choice], &BlendWeights),
    ) -> Self {
        let mut growing = Growing::new(&ranker.trees, lists);
        let rows: Vec<(Table, Vec<f64>, Measured)> = measure
            .par_iter()
            .map(|choice| {
                let odds = weights.odds(choice, learning.kept);
                let best = best_places(&odds, ranker.candidates);
                let mut rows = Vec::new();
                known.push_rows(learning, choice, (&best, &odds), &mut rows);
                let taken = |(_, place): &(usize, &usize)| choice.taken().contains(place);
                let measured = Measured {
                    rows: 0..best.len(),
                    taken: best
                        .iter()
                        .enumerate()
                        .filter(taken)
                        .map(|(row, _)| row)
                        .collect(),
                    targets: choice.targets(),
                };
                let odds = best.iter().map(|place| odds[*place]).collect();
                (growing.bins.table(&rows), odds, measured)
            })
            .collect();
        let mut measured = Vec::with_capacity(rows.len());
        for (table, odds, mut list) in rows {
            let start = growing.watched.odds.len();
            growing.watched.append(&table, &odds);
            list.rows = start..start + odds.len();
            measured.push(list);
        }
        Self { growing, measured }
    }

    /// NDCG of each list with the trees so far.
    fn worths(&self) -> Vec<f64> {
        let lists = self.measured.par_iter();
        lists
            .map(|list| {
                let odds = &self.growing.watched.odds[list.rows.clone()];
                let best = best_places(odds, DEPTH).into_iter();
                ndcg(best, |row| list.taken.contains(&row), list.targets)
            })
            .collect()
    }
}

/// The places of the best odds, best first; of equal ones the first.
fn best_places(odds: &[f64], limit: usize) -> Vec<usize> {
    let mut places: Vec<usize> = (0..odds.len()).collect();
    let order =
        |one: &usize, other: &usize| odds[*other].total_cmp(&odds[*one]).then(one.cmp(other));
    if limit < places.len() && limit > 0 {
        places.select_nth_unstable_by(limit - 1, order);
        places.truncate(limit);
    }
    places.sort_unstable_by(order);
    places
}

/// Adds a forest's corrections to the odds at some places, and their mean to all others, so that both stay comparable.
fn correct(
    odds: &mut [f64],
    best: &[usize],
    forest: &Forest,
    mut push_row: impl FnMut(usize, f64, &mut Vec<f64>),
) {
    if best.is_empty() {
        return;
    }
    let mut row = Vec::new();
    let corrections: Vec<f64> = best
        .iter()
        .map(|place| {
            row.clear();
            push_row(*place, odds[*place], &mut row);
            forest.raw(&row)
        })
        .collect();
    let mean = corrections.iter().sum::<f64>() / corrections.len() as f64;
    odds.iter_mut().for_each(|odd| *odd += mean);
    for (place, correction) in best.iter().zip(corrections) {
        odds[*place] += correction - mean;
    }
}

fn columns_by_splits(forest: &Forest, names: &[String]) -> Vec<(String, f64)> {
    let mut splits = vec![0.0_f64; names.len()];
    for feature in forest.split_features() {
        splits[feature] += 1.0;
    }
    let all: f64 = splits.iter().sum();
    let shares = names
        .iter()
        .cloned()
        .zip(splits.into_iter().map(|count| count / all.max(1.0)));
    let mut shares: Vec<(String, f64)> = shares.filter(|(_, share)| *share > 0.0).collect();
    shares.sort_by(|one, other| other.1.total_cmp(&one.1));
    shares.truncate(COLUMNS_NAMED);
    shares
}

#[cfg(test)]
mod tests {
    use tidemill_core::feature::{FeatureTable, FeatureType, Unit};

    use super::*;
    use crate::recommend::{Question, Recommender, Signal};

    const PEOPLE: usize = 1_200;

    /// Everybody looks at the same few things first; what they take then is red or blue, as they are themselves.
    fn data() -> Interactions {
        let mut data = Interactions::builder();
        for person in 0..PEOPLE {
            let mut signals: Vec<Signal> = [person % 4, 1 + person % 4]
                .map(|item| Signal::plain(item as ItemIndex))
                .to_vec();
            signals.push(Signal::plain(
                (10 + 2 * (person % 5) + colour(person)) as ItemIndex,
            ));
            for (step, signal) in signals.iter_mut().enumerate() {
                signal.time = (person + 1_000 * step) as i64;
            }
            data.push(signals);
        }
        data.build(20)
    }

    fn colour(person: usize) -> usize {
        usize::from(person % 7 > 3)
    }

    fn persons(cases: &[Case]) -> FeatureTable {
        let mut table = FeatureTable::new(vec![FeatureColumn {
            name: "user.colour".to_owned(),
            feature_type: FeatureType::Category,
            label: "colour".to_owned(),
            unit: Unit::Plain,
        }]);
        for case in cases {
            table.push(&[of(case.person)]);
        }
        table
    }

    fn of(person: usize) -> FeatureValue {
        FeatureValue::Category(["red", "blue"][colour(person)].into())
    }

    #[test]
    fn what_is_known_of_a_person_orders_their_list() {
        let data = data();
        let recommender = Recommender::quick(Question::Later);
        let holdout = recommender.hold_back(&data);
        let background = Background {
            persons: persons(&holdout.cases),
            ..Background::default()
        };
        let fitted = recommender.fit_with(&data, holdout, &background);
        let record = fitted.record().ranker.clone().unwrap();
        assert!(
            record.kept && record.ranked > 1.2 * record.blend,
            "{record:?}"
        );
        assert!(
            record.columns.iter().any(|(name, _)| name == "user.colour"),
            "{record:?}"
        );
        let history = [1, 2].map(Signal::plain);
        for person in [0, 5] {
            let known = [of(person)];
            let query = Query {
                person: &known,
                ..Query::new(&history)
            };
            let ranked = fitted.recommend(&query, 5, &mut fitted.scratch());
            let own =
                |(item, _): &&(ItemIndex, f32)| *item >= 10 && *item as usize % 2 == colour(person);
            assert!(
                ranked.iter().filter(own).count() >= 4,
                "{person}: {ranked:?}"
            );
            let items: Vec<ItemIndex> = ranked.iter().map(|(item, _)| *item).collect();
            let scores = fitted.score(&query, &items, &mut fitted.scratch(), None);
            assert!(
                scores.windows(2).all(|pair| pair[0] >= pair[1]),
                "{scores:?}"
            );
        }
        let unknown = fitted.recommend(&Query::new(&history), 5, &mut fitted.scratch());
        assert_eq!(unknown.len(), 5, "nothing has to be known of a person");
    }

    #[test]
    fn where_nothing_more_is_known_it_stays_out() {
        let fitted = Recommender::quick(Question::Later).fit(&data());
        let record = fitted.record().ranker.clone().unwrap();
        assert!(!record.kept && fitted.ranker().is_none(), "{record:?}");
    }
}
