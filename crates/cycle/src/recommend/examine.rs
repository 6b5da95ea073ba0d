//! Examines a recommender on what people took after the time that it was learnt from.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{FeatureTable, FeatureValue};
use tidemill_core::project::{GateRules, RecommendModel};
use tidemill_evaluate::{Bootstrap, Check, Estimate, ListDifference, RankingMetric, Verdict};
use tidemill_features::dataset::InteractionLog;
use tidemill_learn::recommend::{Case, ItemIndex, Signal};
use tidemill_serve::recommend::{GoldenList, RecommendChampion, RecommendPackage};

use crate::examine::{Compared, changed};
use crate::speed::{fast, small};

/// How many items of a list are examined.
const DEPTH: usize = 10;
/// The metric that versions are compared by.
const METRIC: RankingMetric = RankingMetric::Ndcg;
/// What it is called in sentences and records.
pub(crate) const METRIC_NAME: &str = "ndcg@10";
/// How much worse than the champion a challenger may be, where the project file says nothing.
const TOLERANCE_DEFAULT: f64 = 0.005;

/// What the examination of a challenger found, over the whole catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecommendExamination {
    /// `ndcg@10`.
    pub metric: String,
    /// The challenger.
    pub challenger: Compared,
    /// What everybody takes, on the same persons.
    pub popular: Compared,
    /// The champion on the same persons.
    pub champion: Option<Compared>,
    /// Other metrics of the challenger, by name.
    pub further: BTreeMap<String, f64>,
    /// The share of the catalogue that was recommended to anybody.
    pub coverage: f64,
    /// What people would be shown otherwise than by the champion.
    #[serde(default)]
    pub difference: Option<ListDifference>,
    /// The gate's decision with all its checks.
    pub verdict: Verdict,
}

/// What is examined, and by what rules.
pub(super) struct Examining<'a> {
    pub(super) model: &'a RecommendModel,
    pub(super) log: &'a InteractionLog,
    pub(super) cases: &'a [Case],
    /// The features of those whom the cases are about, a row per case; without columns where nothing is known.
    pub(super) persons: &'a FeatureTable,
    pub(super) resamples: usize,
}

impl Examining<'_> {
    pub(super) fn examine(
        &self,
        package: &RecommendPackage,
        popular: &[ItemIndex],
        champion: Option<&RecommendChampion>,
        data: Vec<Check>,
    ) -> RecommendExamination {
        let own = |item: ItemIndex| Some(item);
        let ours = self.lists(package, own, own);
        let theirs = self.popular_lists(popular, package.fitted.excludes_seen());
        let reigning = champion.map(|champion| self.reigning_lists(champion));
        let bootstrap = Bootstrap {
            resamples: self.resamples,
            seed: self.model.training.seed,
            ..Bootstrap::default()
        };
        let values = |lists: &[Vec<ItemIndex>]| self.values(lists, METRIC, DEPTH);
        let (ours_values, popular_values) = (values(&ours), values(&theirs));
        let challenger = compared(&self.model.name.to_string(), &bootstrap.mean(&ours_values));
        let mut checks = vec![
            sound(&ours),
            beats(&bootstrap, &ours_values, &popular_values),
        ];
        let mut difference = None;
        let champion = reigning.map(|(name, lists)| {
            difference = ListDifference::of(&lists, &ours, DEPTH);
            if let Some(difference) = &difference {
                let said = difference.sentence(&name);
                checks.push(changed(difference.other_items, said, &self.model.gate));
            }
            let reigning = values(&lists);
            let tolerance = self.model.gate.tolerance.unwrap_or(TOLERANCE_DEFAULT);
            checks.push(no_worse(
                &bootstrap,
                &name,
                &ours_values,
                &reigning,
                tolerance,
            ));
            compared(&name, &bootstrap.mean(&reigning))
        });
        for (metric, least) in &self.model.gate.min {
            checks.push(at_least(metric, *least, challenger.value));
        }
        let (check, packaged) = packaged(package, &self.model.gate);
        checks.extend(check);
        checks.extend(self.fast(package));
        if let Some(packaged) = packaged {
            checks.extend(itself(&ours, &self.lists(&packaged, own, own)));
        }
        checks.extend(data);
        let mut further = BTreeMap::new();
        for metric in RankingMetric::ALL {
            let values = self.values(&ours, metric, DEPTH);
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            further.insert(format!("{}@{DEPTH}", metric.key()), mean);
        }
        let shown: HashSet<ItemIndex> = ours.iter().flatten().copied().collect();
        RecommendExamination {
            metric: METRIC_NAME.to_owned(),
            challenger,
            popular: compared("popular", &bootstrap.mean(&popular_values)),
            champion,
            further,
            coverage: shown.len() as f64 / self.log.items.len().max(1) as f64,
            difference,
            verdict: Verdict::of(checks),
        }
    }

    /// How long it takes to make a list, as the cases ask for it.
    fn fast(&self, package: &RecommendPackage) -> Option<Check> {
        let persons = self.persons(package);
        let scratch = RefCell::new(package.fitted.scratch());
        fast(self.cases.len(), &self.model.gate, |row| {
            let (case, person) = (&self.cases[row], persons.row(row));
            let query = package.query(&case.history, case.now, &person);
            let mut scratch = scratch.borrow_mut();
            std::hint::black_box(package.fitted.recommend(&query, DEPTH, &mut scratch));
        })
    }

    /// What everybody takes, in each case.
    fn popular_lists(&self, popular: &[ItemIndex], excludes_seen: bool) -> Vec<Vec<ItemIndex>> {
        let cases = self.cases.iter();
        cases
            .map(|case| {
                let seen =
                    |item: &ItemIndex| case.history.iter().any(|signal| signal.item == *item);
                let unseen = popular
                    .iter()
                    .copied()
                    .filter(|item| !(excludes_seen && seen(item)));
                unseen.take(DEPTH).collect()
            })
            .collect()
    }

    /// The champion's name and what it recommends in each case, of the items that there are now.
    fn reigning_lists(&self, champion: &RecommendChampion) -> (String, Vec<Vec<ItemIndex>>) {
        let numbers: HashMap<&str, ItemIndex> =
            self.log.items.iter().map(AsRef::as_ref).zip(0..).collect();
        let there = |item: ItemIndex| {
            let id = self.log.items.get(item as usize)?;
            champion.index.get(id).copied()
        };
        let back = |item: ItemIndex| {
            let id = champion.package.items.get(item as usize)?;
            numbers.get(id.as_ref()).copied()
        };
        let name = format!("{}@{}", self.model.name, champion.number);
        (name, self.lists(&champion.package, there, back))
    }

    /// The features of the persons as a package reads them.
    fn persons(&self, package: &RecommendPackage) -> PersonRows<'_> {
        let columns = package.person_features();
        PersonRows {
            table: self.persons,
            columns: columns
                .iter()
                .map(|column| self.persons.index_of(&column.name))
                .collect(),
        }
    }

    /// Questions of the first cases that have a history.
    pub(super) fn golden(&self, package: &RecommendPackage, limit: usize) -> Vec<GoldenList> {
        let persons = self.persons(package);
        let cases = self.cases.iter().enumerate();
        cases
            .filter(|(_, case)| !case.history.is_empty())
            .take(limit)
            .map(|(row, case)| GoldenList {
                history: case.history.clone(),
                now: case.now,
                person: persons.row(row),
                items: Vec::new(),
            })
            .collect()
    }

    /// What a package recommends in each case; `there` and `back` say how it numbers the items.
    fn lists(
        &self,
        package: &RecommendPackage,
        there: impl Fn(ItemIndex) -> Option<ItemIndex>,
        back: impl Fn(ItemIndex) -> Option<ItemIndex>,
    ) -> Vec<Vec<ItemIndex>> {
        let mut scratch = package.fitted.scratch();
        let persons = self.persons(package);
        let cases = self.cases.iter().enumerate();
        cases
            .map(|(row, case)| {
                let person = persons.row(row);
                let history = case.history.iter();
                let history: Vec<Signal> = history
                    .filter_map(|signal| {
                        Some(Signal {
                            item: there(signal.item)?,
                            ..*signal
                        })
                    })
                    .collect();
                let query = package.query(&history, case.now, &person);
                let ranked = package.fitted.recommend(&query, DEPTH, &mut scratch);
                ranked
                    .into_iter()
                    .filter_map(|(item, _)| back(item))
                    .collect()
            })
            .collect()
    }

    fn values(&self, lists: &[Vec<ItemIndex>], metric: RankingMetric, k: usize) -> Vec<f64> {
        let pairs = lists.iter().zip(self.cases);
        pairs
            .map(|(list, case)| metric.at(k, list, &case.targets).unwrap_or(0.0))
            .collect()
    }
}

/// The features of persons in the order in which a version reads them; what is not declared any more is missing.
struct PersonRows<'a> {
    table: &'a FeatureTable,
    columns: Vec<Option<usize>>,
}

impl PersonRows<'_> {
    fn row(&self, row: usize) -> Vec<FeatureValue> {
        let columns = self.columns.iter();
        columns
            .map(|column| match column {
                Some(column) => self.table.value(row, *column),
                None => FeatureValue::Missing,
            })
            .collect()
    }
}

fn compared(name: &str, estimate: &Estimate) -> Compared {
    Compared {
        name: name.to_owned(),
        value: estimate.value,
        interval: estimate.interval,
    }
}

/// Everybody gets a list, and no item is in it twice.
fn sound(lists: &[Vec<ItemIndex>]) -> Check {
    let is_sound = |list: &&Vec<ItemIndex>| {
        let mut sorted = (*list).clone();
        sorted.sort_unstable();
        sorted.dedup();
        !list.is_empty() && sorted.len() == list.len()
    };
    let good = lists.iter().filter(is_sound).count();
    Check {
        name: "sound".to_owned(),
        value: good as f64,
        threshold: lists.len() as f64,
        interval: None,
        passed: good == lists.len(),
        sentence: match good == lists.len() {
            true => format!("all {good} lists have items, none of them twice"),
            false => format!(
                "{} of {} lists are empty or repeat items",
                lists.len() - good,
                lists.len()
            ),
        },
    }
}

fn beats(bootstrap: &Bootstrap, ours: &[f64], popular: &[f64]) -> Check {
    let difference = bootstrap.mean_difference(ours, popular);
    let (value, interval) = (difference.value.unwrap_or(0.0), difference.interval);
    let passed = interval.is_some_and(|(low, _)| low > 0.0);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let said = if passed {
        "beats"
    } else {
        "does not clearly beat"
    };
    let (low, high) = interval.unwrap_or((f64::NAN, f64::NAN));
    Check {
        name: "beats:popular".to_owned(),
        value,
        threshold: 0.0,
        interval,
        passed,
        sentence: format!(
            "NDCG@{DEPTH} {:.3} {said} what everybody takes ({:.3}): the improvement is {value:.3}, interval {low:.3} to {high:.3}",
            mean(ours),
            mean(popular)
        ),
    }
}

fn no_worse(
    bootstrap: &Bootstrap,
    name: &str,
    ours: &[f64],
    champion: &[f64],
    tolerance: f64,
) -> Check {
    let difference = bootstrap.mean_difference(ours, champion);
    let (value, interval) = (difference.value.unwrap_or(0.0), difference.interval);
    let is_clearly_less = interval.is_some_and(|(_, high)| high < 0.0);
    let passed = !is_clearly_less || value >= -tolerance;
    let said = if passed {
        "is not worse than"
    } else {
        "is worse than"
    };
    let (low, high) = interval.unwrap_or((f64::NAN, f64::NAN));
    Check {
        name: "champion".to_owned(),
        value,
        threshold: -tolerance,
        interval,
        passed,
        sentence: format!(
            "it {said} {name} on the same persons: the difference in NDCG@{DEPTH} is {value:.3}, interval {low:.3} to {high:.3}"
        ),
    }
}

fn at_least(metric: &str, least: f64, value: Option<f64>) -> Check {
    let value = value.unwrap_or(0.0);
    let passed = metric == METRIC_NAME && value >= least;
    Check {
        name: format!("min:{metric}"),
        value,
        threshold: least,
        interval: None,
        passed,
        sentence: match (metric == METRIC_NAME, passed) {
            (false, _) => format!("'{metric}' is not measured here; {METRIC_NAME} is"),
            (true, true) => format!("{metric} {value:.3} reaches {least}"),
            (true, false) => format!("{metric} {value:.3} does not reach {least}"),
        },
    }
}

/// The packaged bytes must read back and give the same lists.
fn packaged(
    package: &RecommendPackage,
    rules: &GateRules,
) -> (Vec<Check>, Option<RecommendPackage>) {
    let histories = package.golden.len() as f64;
    let bytes = package.to_bytes();
    let size = bytes.as_ref().ok().map(|bytes| small(bytes.len(), rules));
    let result = bytes.and_then(|bytes| RecommendPackage::from_bytes(&bytes));
    let sentence = match &result {
        Ok(_) => format!(
            "the packaged model recommends what the trainer did for all {histories} golden histories"
        ),
        Err(error) => format!("the packaged model is not the trained one: {error}"),
    };
    let value = if result.is_ok() { histories } else { 0.0 };
    let check = Check {
        passed: result.is_ok(),
        ..Check::at_least("packaged", value, histories, sentence)
    };
    // bytes that cannot be read have failed already
    (std::iter::once(check).chain(size).collect(), result.ok())
}

/// A version beside itself differs by nothing.
fn itself(ours: &[Vec<ItemIndex>], again: &[Vec<ItemIndex>]) -> Option<Check> {
    let itself = ListDifference::of(ours, again, DEPTH)?;
    let sentence = format!(
        "asked again as it is packaged, {:.1} % of its items are others in {} lists",
        itself.other_items * 100.0,
        itself.lists
    );
    Some(Check::at_most(
        "answers:again",
        itself.rank_biased,
        0.0,
        sentence,
    ))
}
