//! All sources together, chosen and weighed by evaluation.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::any_source::{FittedSource, SourceParameters};
use super::blend::{Blend, BlendWeights, Choice, Scratch};
use super::embeddings::Embeddings;
use super::holdout::{Case, Question};
use super::interactions::Interactions;
use super::item_graph::ItemGraph;
use super::popular::Popular;
use super::query::{Query, Source};
use super::sessions::SessionNeighbours;
use super::spectral::Spectral;

/// How to learn recommendations. The default is meant for any data; only the question is the caller's to say.
///
/// A part of the data is held back ([`Question`]). Each source with parameters to choose is tried with them one after the other;
/// sources are blended; a source without which the blend is no worse is left out; the rest is fitted again on all data, with the
/// weights that were found. Nothing but the data that is given is looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommender {
    /// What the recommendations are for.
    pub question: Question,
    /// Of [`Question::Others`] and [`Question::Later`]: the least weight of a signal that counts as success; 0 where all do.
    pub goal: f32,
    /// The sources to choose from.
    pub sources: Vec<SourceParameters>,
    /// How they are weighed.
    pub blend: Blend,
    /// At most this many cases are held back to weigh sources; 20 kB each.
    pub cases_max: usize,
    /// At most this many of them choose a source's parameters.
    pub search_cases_max: usize,
    /// With more signals than this, parameters of sources are the default ones and not searched for.
    pub search_signals_max: usize,
    /// Whether what was seen is left out; found out from what was held back where absent.
    pub exclude_seen: Option<bool>,
    /// A source stays if the blend without it loses at least this share of its NDCG.
    pub worth_min: f64,
    /// Where random numbers start.
    pub seed: u64,
}

/// A fitted [`Recommender`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendations {
    exclude_seen: bool,
    sources: Vec<FittedSource>,
    weights: BlendWeights,
    record: Record,
}

/// What was chosen, and by how much: NDCG at 20 on cases that neither sources nor weights were fitted on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How many cases were held back.
    pub cases: usize,
    /// Whether what was seen is not recommended again, because it was never taken again.
    pub exclude_seen: bool,
    /// The blend of the sources that were kept.
    pub blend: f64,
    /// Each source that was tried.
    pub sources: Vec<SourceRecord>,
}

/// What is known of one source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SourceRecord {
    /// Its parameters as chosen.
    pub parameters: SourceParameters,
    /// Its NDCG alone.
    pub alone: f64,
    /// The NDCG of the blend of all others that were still there when it was examined.
    pub without: f64,
    /// Whether it is part of the blend.
    pub kept: bool,
}

/// With more items than this, sources that say something of every item are left out: an answer would take too long.
const DENSE_ITEMS_MAX: usize = 100_000;
/// The depth at which choices are measured.
const DEPTH: usize = 20;
/// Below this share of targets that were seen before, what was seen is not recommended.
const REPEAT_SHARE_MIN: f64 = 0.01;

impl Recommender {
    /// The default for a question.
    pub fn new(question: Question) -> Self {
        let symmetric = ItemGraph {
            name: "goes with".to_owned(),
            ..ItemGraph::default()
        };
        let forward = ItemGraph {
            name: "comes after".to_owned(),
            history_power: 0.5,
            similarity_power: 1.0,
            gap_power: 0.5,
            backward: 0.1,
            recency_power: 1.0,
            ..ItemGraph::default()
        };
        let next = ItemGraph {
            name: "comes next".to_owned(),
            history_power: 0.0,
            similarity_power: 1.0,
            backward: 0.0,
            window: 1,
            history_max: 1,
            ..ItemGraph::default()
        };
        let linear = ItemGraph {
            name: "goes with, linear".to_owned(),
            history_power: 0.5,
            from_power: 0.5,
            to_power: 0.5,
            similarity_power: 1.0,
            ..ItemGraph::default()
        };
        let coarse = Spectral {
            name: "spectral, coarse".to_owned(),
            rank: 64,
            ..Spectral::default()
        };
        Self {
            question,
            goal: 0.0,
            sources: vec![
                SourceParameters::ItemGraph(symmetric),
                SourceParameters::ItemGraph(linear),
                SourceParameters::ItemGraph(forward),
                SourceParameters::ItemGraph(next),
                SourceParameters::SessionNeighbours(SessionNeighbours::default()),
                SourceParameters::Spectral(Spectral::default()),
                SourceParameters::Spectral(coarse),
                SourceParameters::Embeddings(Embeddings::default()),
                SourceParameters::Embeddings(Embeddings {
                    name: "embeddings, one direction".to_owned(),
                    shared: true,
                    ..Embeddings::default()
                }),
                SourceParameters::Popular(Popular::default()),
                SourceParameters::Repeats,
            ],
            blend: Blend::default(),
            cases_max: 8_000,
            search_cases_max: 2_000,
            search_signals_max: 3_000_000,
            exclude_seen: None,
            worth_min: 0.001,
            seed: 1,
        }
    }

    /// What is fitted in seconds: sources that count, with their default parameters.
    pub fn quick(question: Question) -> Self {
        let mut recommender = Self {
            cases_max: 500,
            search_signals_max: 0,
            ..Self::new(question)
        };
        recommender.sources.retain_mut(|source| match source {
            SourceParameters::ItemGraph(graph) => {
                graph.neighbours = 100;
                true
            }
            SourceParameters::Embeddings(_) | SourceParameters::Spectral(_) => false,
            _ => true,
        });
        let trending = Popular::trending(0.05);
        recommender
            .sources
            .push(SourceParameters::Popular(trending));
        recommender
    }

    /// Chooses, weighs and fits.
    pub fn fit(&self, data: &Interactions) -> Recommendations {
        let holdout = self
            .question
            .hold_back(data, self.goal, self.cases_max, self.seed);
        let found = repeat_share(&holdout.cases) < REPEAT_SHARE_MIN;
        let exclude_seen = self.exclude_seen.unwrap_or(found);
        let examination = Examination {
            recommender: self,
            ordered: self.question != Question::Others || data.has_times(),
            fit: &holdout.fit,
            cases: &holdout.cases,
            exclude_seen,
        };
        let (chosen, weights, record) = examination.choose(data.len());
        drop(holdout);
        let sources = fit_each(&chosen, data.items(), |source| {
            source.fit(data, self.question, self.seed)
        });
        Recommendations {
            exclude_seen,
            sources,
            weights,
            record,
        }
    }
}

/// Fits at the same time where the catalogue is small, since factor models leave cores idle between their steps; else one after the
/// other, since what each needs beside what it makes would add up.
fn fit_each<T: Sync>(
    sources: &[T],
    items: usize,
    fit: impl Fn(&T) -> FittedSource + Send + Sync,
) -> Vec<FittedSource> {
    match items <= DENSE_ITEMS_MAX {
        true => sources.par_iter().with_max_len(1).map(fit).collect(),
        false => sources.iter().map(fit).collect(),
    }
}

fn repeat_share(cases: &[Case]) -> f64 {
    let repeated = |case: &&Case| {
        let seen = |target: &ItemIndex| case.history.iter().any(|signal| signal.item == *target);
        case.targets.iter().any(seen)
    };
    cases.iter().filter(repeated).count() as f64 / cases.len().max(1) as f64
}

/// Sources on the cases that were held back.
struct Examination<'a> {
    recommender: &'a Recommender,
    /// Whether the order within a history means something.
    ordered: bool,
    fit: &'a Interactions,
    cases: &'a [Case],
    exclude_seen: bool,
}

/// The items of the histories of cases, in ascending order.
fn asked(cases: &[Case], items: usize) -> Vec<ItemIndex> {
    let mut is_asked = vec![false; items];
    for signal in cases.iter().flat_map(|case| &case.history) {
        is_asked[signal.item as usize] = true;
    }
    let items = 0..items as ItemIndex;
    items.filter(|item| is_asked[*item as usize]).collect()
}

impl Examination<'_> {
    fn choose(&self, signals: usize) -> (Vec<SourceParameters>, BlendWeights, Record) {
        let recommender = self.recommender;
        let mut records = Vec::new();
        let is_small = self.fit.items() <= DENSE_ITEMS_MAX;
        let asked = asked(self.cases, self.fit.items());
        let usable = recommender
            .sources
            .iter()
            .filter(|source| is_small || !source.is_dense())
            .filter_map(|source| match self.ordered {
                true => Some(source.clone()),
                false => source.without_order(),
            });
        for source in usable {
            let parameters = match signals <= recommender.search_signals_max {
                true => self.search(&source),
                false => source,
            };
            records.push(SourceRecord {
                parameters,
                alone: 0.0,
                without: 0.0,
                kept: true,
            });
        }
        let fitted = fit_each(&records, self.fit.items(), |record| {
            let (question, seed) = (recommender.question, recommender.seed);
            record.parameters.fit_for(self.fit, &asked, question, seed)
        });
        let sources: Vec<&dyn Source> = fitted.iter().map(|source| source as &dyn Source).collect();
        let choices = recommender
            .blend
            .choices(&sources, self.cases, self.exclude_seen);
        drop(fitted);
        for (place, record) in records.iter_mut().enumerate() {
            record.alone = self.measure_alone(&choices, place);
        }
        let blend = self.leave_out(&choices, &mut records);
        let kept = kept(&records);
        let weights = recommender.blend.fit_choices(&choices, &kept);
        let chosen = kept.iter().map(|place| records[*place].parameters.clone());
        let record = Record {
            cases: self.cases.len(),
            exclude_seen: self.exclude_seen,
            blend,
            sources: records.clone(),
        };
        (chosen.collect(), weights, record)
    }

    /// Tries the values of one parameter after the other and keeps the best.
    fn search(&self, source: &SourceParameters) -> SourceParameters {
        let cases = &self.cases[..self.cases.len().min(self.recommender.search_cases_max)];
        let mut best = source.clone();
        let variations = source.variations(self.ordered);
        if variations.is_empty() {
            return best;
        }
        let asked = asked(cases, self.fit.items());
        let measure = |sources: &[SourceParameters]| -> Vec<f64> {
            let how = (self.recommender.question, self.recommender.seed);
            let fitted = SourceParameters::fit_together(sources, self.fit, &asked, how);
            let values = fitted
                .iter()
                .map(|fitted| self.measure_source(fitted, cases));
            values.collect()
        };
        let mut value = measure(std::slice::from_ref(&best)).into_iter().sum();
        for vary in variations {
            let candidates = vary(&best);
            for together in candidates.chunk_by(SourceParameters::is_fitted_with) {
                for (candidate, at) in together.iter().zip(measure(together)) {
                    if at > value {
                        (best, value) = (candidate.clone(), at);
                    }
                }
            }
        }
        best
    }

    /// The NDCG of one source, from what it says of the candidates of all.
    fn measure_alone(&self, choices: &[Choice], source: usize) -> f64 {
        let values: Vec<f64> = choices
            .par_iter()
            .map(|choice| {
                let ranked = choice.best_of(source, DEPTH).into_iter();
                ndcg(
                    ranked,
                    |place| choice.taken().contains(&place),
                    choice.targets(),
                )
            })
            .collect();
        values.iter().sum::<f64>() / self.cases.len().max(1) as f64
    }

    fn measure_source(&self, source: &dyn Source, cases: &[Case]) -> f64 {
        let values: Vec<f64> = cases
            .par_iter()
            .map_init(
                || Accumulator::new(source.items()),
                |scores, case| {
                    source.score(&Query::new(&case.history), scores);
                    if self.exclude_seen {
                        scores.remove_seen(&case.history);
                    }
                    let mut best = Vec::new();
                    scores.best(DEPTH, &mut best);
                    scores.clear();
                    let items = best.iter().map(|(item, _)| *item);
                    ndcg(
                        items,
                        |item| case.targets.contains(&item),
                        case.targets.len(),
                    )
                },
            )
            .collect();
        mean(&values)
    }

    /// Leaves out, one after the other from the least worthy alone, what the blend does not need; says what the rest is worth.
    fn leave_out(&self, choices: &[Choice], records: &mut [SourceRecord]) -> f64 {
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by(|one, other| records[*one].alone.total_cmp(&records[*other].alone));
        let mut value = self.measure_blend(choices, &kept(records));
        for place in order {
            records[place].kept = false;
            let rest = kept(records);
            if rest.is_empty() {
                records[place].kept = true;
                continue;
            }
            let without = self.measure_blend(choices, &rest);
            records[place].without = without;
            if without < value * (1.0 - self.recommender.worth_min) {
                records[place].kept = true;
            } else {
                value = without;
            }
        }
        value
    }

    /// Fits weights for all lengths on one half of the cases and measures on the other, both ways.
    fn measure_blend(&self, choices: &[Choice], kept: &[usize]) -> f64 {
        let half = choices.len() / 2;
        let (one, other) = choices.split_at(half);
        let blend = &self.recommender.blend;
        let both = [(one, other), (other, one)].map(|(fit, measure)| {
            let weights = blend.fit_overall(fit, kept);
            let values: Vec<f64> = measure
                .par_iter()
                .map(|choice| {
                    let ranked = weights.ranked(choice, kept, DEPTH);
                    let hit = |place| choice.taken().contains(&place);
                    ndcg(ranked.into_iter(), hit, choice.targets())
                })
                .collect();
            values.iter().sum::<f64>()
        });
        both.iter().sum::<f64>() / self.cases.len().max(1) as f64
    }
}

fn kept(records: &[SourceRecord]) -> Vec<usize> {
    let places = records.iter().enumerate();
    places
        .filter(|(_, record)| record.kept)
        .map(|(place, _)| place)
        .collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// NDCG with binary gains; `evaluate` has the metric that reports use.
fn ndcg<T>(ranking: impl Iterator<Item = T>, taken: impl Fn(T) -> bool, targets: usize) -> f64 {
    let gain = |place: usize| 1.0 / ((place + 2) as f64).log2();
    let hits = ranking
        .enumerate()
        .filter_map(|(place, item)| taken(item).then(|| gain(place)));
    hits.sum::<f64>() / (0..targets.min(DEPTH)).map(gain).sum::<f64>()
}

impl Recommendations {
    /// The best `limit` items for a query with their log-odds, best first.
    pub fn recommend(
        &self,
        query: &Query<'_>,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Vec<(ItemIndex, f32)> {
        let sources: Vec<&dyn Source> = self
            .sources
            .iter()
            .map(|source| source as &dyn Source)
            .collect();
        self.weights
            .rank(&sources, query, self.exclude_seen, limit, scratch)
    }

    /// The log-odds of given items for a query, in their order: those of what no source says anything about are 0.
    pub fn score(&self, query: &Query<'_>, items: &[ItemIndex], scratch: &mut Scratch) -> Vec<f32> {
        let sources: Vec<&dyn Source> = self
            .sources
            .iter()
            .map(|source| source as &dyn Source)
            .collect();
        self.weights.score(&sources, query, items, scratch)
    }

    /// How alike two items are to those who take them, from 0 to 1: the weight between them over the largest weight of either.
    pub fn likeness(&self, one: ItemIndex, other: ItemIndex) -> f32 {
        let mut graphs = self.sources.iter().filter_map(|source| match source {
            FittedSource::ItemGraph(graph) => Some(graph),
            _ => None,
        });
        let Some(graph) = graphs.next() else {
            return 0.0;
        };
        let share = |from, to| {
            let strongest = graph
                .neighbours(from)
                .next()
                .map_or(0.0, |(_, weight)| weight);
            let link = graph.neighbours(from).find(|(item, _)| *item == to);
            link.map_or(0.0, |(_, weight)| weight / strongest.max(f32::MIN_POSITIVE))
        };
        share(one, other).max(share(other, one))
    }

    /// Whether what somebody has taken is left out.
    pub fn excludes_seen(&self) -> bool {
        self.exclude_seen
    }

    /// What queries need beside the model, one per thread.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.sources.len(), self.items())
    }

    /// The size of the catalogue.
    pub fn items(&self) -> usize {
        self.sources.iter().map(Source::items).max().unwrap_or(0)
    }

    /// The sources in the blend.
    pub fn sources(&self) -> &[FittedSource] {
        &self.sources
    }

    /// The weights of the blend.
    pub fn weights(&self) -> &BlendWeights {
        &self.weights
    }

    /// What was chosen, and by how much.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::Signal;
    use crate::recommend::conformance::two_tastes;

    fn small(question: Question) -> Recommender {
        let mut recommender = Recommender::new(question);
        for source in &mut recommender.sources {
            match source {
                SourceParameters::Embeddings(embeddings) => {
                    (
                        embeddings.dimensions,
                        embeddings.negatives,
                        embeddings.epochs,
                    ) = (8, 16, 3);
                }
                SourceParameters::Spectral(spectral) => spectral.rank = 8,
                _ => {}
            }
        }
        recommender
    }

    #[test]
    fn it_recommends_by_taste_and_records_why() {
        for question in [
            Question::Others,
            Question::Later,
            Question::Next,
            Question::NextInSession,
        ] {
            let fitted = small(question).fit(&two_tastes());
            let history = [1, 3, 7].map(Signal::plain);
            let ranked = fitted.recommend(&Query::new(&history), 4, &mut fitted.scratch());
            assert!(
                ranked.iter().filter(|(item, _)| item % 2 == 1).count() >= 3,
                "{ranked:?}"
            );
            let record = fitted.record();
            assert!(record.blend > 0.3 && record.cases > 5, "{record:?}");
            let kept = record.sources.iter().filter(|source| source.kept).count();
            assert_eq!(kept, fitted.sources().len());
            let again = small(question).fit(&two_tastes());
            assert!(
                again == fitted,
                "the same data and seed give the same model"
            );
        }
    }

    #[test]
    fn no_data_and_too_little_are_answered() {
        let mut single = Interactions::builder();
        single.push([Signal::plain(0)]);
        for data in [Interactions::builder().build(0), single.build(2)] {
            let fitted = small(Question::Next).fit(&data);
            let history = [Signal::plain(0)];
            fitted.recommend(&Query::new(&history), 3, &mut fitted.scratch());
        }
    }
}
