//! All sources together, chosen and weighed by evaluation.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::any_source::{FittedSource, SourceParameters};
use super::background::Background;
use super::blend::{Blend, BlendWeights, Scratch};
use super::content::Content;
use super::embeddings::Embeddings;
use super::examination::Examination;
use super::holdout::{Case, Holdout, Question};
use super::interactions::Interactions;
use super::item_graph::ItemGraph;
use super::live_links::{Extended, GoingOn, LiveLinks};
use super::popular::Popular;
use super::popular_in::PopularIn;
use super::query::{Query, Source};
use super::ranker::{FittedRanker, Ranker, RankerRecord};
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
    /// Whether all sources stay, whatever they are worth.
    #[serde(default)]
    pub keeps_all: bool,
    /// A source stays if the blend without it loses at least this share of its NDCG.
    pub worth_min: f64,
    /// What puts the best candidates in order, where it helps.
    pub ranker: Option<Ranker>,
    /// What was chosen before and is taken over: only weights, trees and sources are fitted then.
    #[serde(default)]
    pub taken_over: Option<Box<Record>>,
    /// Where random numbers start.
    pub seed: u64,
}

/// A fitted [`Recommender`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Recommendations {
    pub(super) exclude_seen: bool,
    pub(super) sources: Vec<FittedSource>,
    pub(super) weights: BlendWeights,
    #[serde(default)]
    pub(super) ranker: Option<FittedRanker>,
    pub(super) record: Record,
    /// In how many histories each item occurs.
    #[serde(default)]
    pub(super) degrees: Vec<f32>,
    /// What the sources say that go on when the model serves, by themselves.
    #[serde(default)]
    pub(super) going_on: Option<GoingOn>,
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
    /// Whether a person named the sources.
    #[serde(default)]
    pub pinned: bool,
    /// What the ranker was worth, where there was one.
    #[serde(default)]
    pub ranker: Option<RankerRecord>,
    /// How many signals it was chosen on.
    #[serde(default)]
    pub chosen_on: usize,
    /// How many times it has been taken over since.
    #[serde(default)]
    pub taken_over: u32,
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

/// A choice is taken over so many times at most …
const TAKEN_OVER_MAX: u32 = 6;
/// … and as long as there are not this many times as many signals as it was made on.
const GROWTH_MAX: f64 = 1.5;

/// With more items than this, sources that say something of every item are left out: an answer would take too long.
pub(super) const DENSE_ITEMS_MAX: usize = 100_000;
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
                SourceParameters::PopularIn(PopularIn::default()),
                SourceParameters::Repeats,
                SourceParameters::Content(Content::default()),
            ],
            blend: Blend::default(),
            cases_max: 8_000,
            search_cases_max: 2_000,
            search_signals_max: 3_000_000,
            exclude_seen: None,
            keeps_all: false,
            worth_min: 0.001,
            ranker: Some(Ranker::default()),
            taken_over: None,
            seed: 1,
        }
    }

    /// What is fitted in seconds: sources that count, with their default parameters.
    pub fn quick(question: Question) -> Self {
        let mut recommender = Self {
            cases_max: 2_000,
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

    /// Takes over what was chosen before, where it is still good: it was not taken over too often, and there is not much more to learn
    /// from than it was chosen on. Among other sources than these it is chosen anew in any case.
    #[must_use]
    pub fn taking_over(self, chosen: &Record, signals: usize) -> Self {
        let is_good = chosen.taken_over < TAKEN_OVER_MAX
            && (signals as f64) < GROWTH_MAX * chosen.chosen_on as f64
            && self.ranker.is_some() == chosen.ranker.is_some();
        Self {
            taken_over: is_good.then(|| Box::new(chosen.clone())),
            ..self
        }
    }

    /// What is held back to choose by.
    pub fn hold_back(&self, data: &Interactions) -> Holdout {
        self.question
            .hold_back(data, self.goal, self.cases_max, self.seed)
    }

    /// Chooses, weighs and fits by what was taken alone.
    pub fn fit(&self, data: &Interactions) -> Recommendations {
        self.fit_with(data, self.hold_back(data), &Background::default())
    }

    /// Chooses, weighs and fits. The holdout is that of [`hold_back`](Self::hold_back) on the same data; the background knows its cases.
    pub fn fit_with(
        &self,
        data: &Interactions,
        holdout: Holdout,
        background: &Background,
    ) -> Recommendations {
        let found = repeat_share(&holdout.cases) < REPEAT_SHARE_MIN;
        let exclude_seen = self.exclude_seen.unwrap_or(found);
        let examination = Examination {
            recommender: self,
            ordered: self.question != Question::Others || data.has_times(),
            fit: &holdout.fit,
            cases: &holdout.cases,
            shown: &holdout.shown,
            background,
            exclude_seen,
        };
        let (chosen, mut fitted) = examination.choose(data);
        drop(holdout);
        let described = &background.described;
        fitted.sources = fit_each(&chosen, data.items(), |source| {
            source.fit_described(data, described, self.question, self.seed)
        });
        fitted.degrees = data.degrees().to_vec();
        fitted
    }
}

/// Fits at the same time where the catalogue is small, since factor models leave cores idle between their steps; else one after the
/// other, since what each needs beside what it makes would add up.
pub(super) fn fit_each<T: Sync>(
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

impl Recommendations {
    /// The best `limit` items for a query with their log-odds, best first.
    pub fn recommend(
        &self,
        query: &Query<'_>,
        limit: usize,
        scratch: &mut Scratch,
    ) -> Vec<(ItemIndex, f32)> {
        self.recommend_live(query, limit, scratch, None)
    }

    /// The same, with items that came since among the candidates. Needs [`scratch_live`](Self::scratch_live).
    pub fn recommend_live(
        &self,
        query: &Query<'_>,
        limit: usize,
        scratch: &mut Scratch,
        live: Option<&LiveLinks>,
    ) -> Vec<(ItemIndex, f32)> {
        let extended = self.extended(live);
        let sources = self.all_sources(&extended);
        let order = |items: &[ItemIndex], said: &[f32], odds: &mut [f64]| {
            if let Some(ranker) = &self.ranker {
                ranker.correct(query, items, said, odds, ranker.candidates());
            }
            self.place_fresh(live, query, (items, said), odds);
        };
        self.weights
            .rank(&sources, (query, self.exclude_seen), limit, scratch, order)
    }

    /// The log-odds of given items for a query, in their order: those of what no source says anything about are 0.
    pub fn score(
        &self,
        query: &Query<'_>,
        items: &[ItemIndex],
        scratch: &mut Scratch,
        live: Option<&LiveLinks>,
    ) -> Vec<f32> {
        let extended = self.extended(live);
        let sources = self.all_sources(&extended);
        let order = |items: &[ItemIndex], said: &[f32], odds: &mut [f64]| {
            if let Some(ranker) = &self.ranker {
                ranker.correct(query, items, said, odds, items.len());
            }
            self.place_fresh(live, query, (items, said), odds);
        };
        self.weights.score(&sources, query, items, scratch, order)
    }

    fn place_fresh(
        &self,
        live: Option<&LiveLinks>,
        query: &Query<'_>,
        rows: (&[ItemIndex], &[f32]),
        odds: &mut [f64],
    ) {
        if let (Some(live), Some(going_on)) = (live, &self.going_on) {
            going_on.place(live, query, (rows, self.sources.len()), odds);
        }
    }

    fn extended<'a>(&'a self, live: Option<&'a LiveLinks>) -> Option<Vec<Extended<'a>>> {
        live.map(|live| live.extend(&self.sources))
    }

    fn all_sources<'a>(&'a self, extended: &'a Option<Vec<Extended<'a>>>) -> Vec<&'a dyn Source> {
        match extended {
            Some(extended) => extended
                .iter()
                .map(|source| source as &dyn Source)
                .collect(),
            None => self
                .sources
                .iter()
                .map(|source| source as &dyn Source)
                .collect(),
        }
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

    /// Whether an item is among those that are taken most in a segment, where a source of the model knows that.
    pub fn is_popular_in(&self, segment: &str, item: ItemIndex) -> bool {
        let mut rankings = self.sources.iter().filter_map(|source| match source {
            FittedSource::PopularIn(popular) => Some(popular.ranking(Some(segment))),
            _ => None,
        });
        rankings.any(|ranking| ranking.iter().any(|(popular, _)| *popular == item))
    }

    /// The same model, spoilt: none of its log-odds is a number.
    #[must_use]
    pub fn without_numbers(self) -> Self {
        Self {
            weights: self.weights.without_numbers(),
            ..self
        }
    }

    /// Whether what somebody has taken is left out.
    pub fn excludes_seen(&self) -> bool {
        self.exclude_seen
    }

    /// What queries need beside the model, one per thread.
    pub fn scratch(&self) -> Scratch {
        Scratch::new(self.sources.len(), self.items())
    }

    /// The same with room for items that came since.
    pub fn scratch_live(&self) -> Scratch {
        let items = self.items() + LiveLinks::room(self.items());
        Scratch::new(self.sources.len(), items)
    }

    /// Whether anybody had taken an item when it was learnt.
    pub fn has_learnt(&self, item: ItemIndex) -> bool {
        let degree = self.degrees.get(item as usize);
        self.degrees.is_empty() || degree.is_some_and(|degree| *degree > 0.0)
    }

    /// In how many histories each item occurred when it was learnt; empty where that was not kept.
    pub fn degrees(&self) -> &[f32] {
        &self.degrees
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

    /// What puts the best candidates in order, where it helps.
    pub fn ranker(&self) -> Option<&FittedRanker> {
        self.ranker.as_ref()
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
    fn a_choice_is_taken_over_and_made_anew_in_time() {
        let data = two_tastes();
        let recommender = small(Question::Later);
        let first = recommender.fit(&data);
        let again = |chosen: &Record, signals| {
            let next = recommender.clone().taking_over(chosen, signals);
            next.fit(&data)
        };
        let mut chosen = first.record().clone();
        for times in 1..=TAKEN_OVER_MAX {
            let next = again(&chosen, data.len());
            let names = |model: &Recommendations| -> Vec<String> {
                let sources = model.sources().iter();
                sources.map(|source| source.name().to_owned()).collect()
            };
            assert_eq!(names(&next), names(&first));
            let same = [&next, &first].map(|model| {
                let kept = model.record().sources.iter();
                let kept = kept.map(|source| (source.parameters.clone(), source.kept));
                kept.collect::<Vec<_>>()
            });
            assert_eq!(same[0], same[1]);
            assert_eq!(next.record().taken_over, times);
            assert_eq!(next.record().chosen_on, data.len());
            chosen = next.record().clone();
        }
        // too often, and on much less
        assert_eq!(again(&chosen, data.len()).record().taken_over, 0);
        let small = first.record();
        assert_eq!(again(small, 2 * data.len()).record().taken_over, 0);
        // among other sources
        let mut other = first.record().clone();
        other.sources.pop();
        assert_eq!(again(&other, data.len()).record().taken_over, 0);
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
