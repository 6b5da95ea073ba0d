//! Which sources are worth it, how they are weighed, and whether a ranker helps: found out on what was held back.

use rayon::prelude::*;

use super::ItemIndex;
use super::accumulator::Accumulator;
use super::any_source::SourceParameters;
use super::background::Background;
use super::blend::Blend;
use super::choice::Choice;
use super::holdout::{Case, ShownList};
use super::interactions::Interactions;
use super::live_links::GoingOn;
use super::query::Source;
use super::ranker::{FittedRanker, Known, Learning, RankerRecord};
use super::recommender::{
    DENSE_ITEMS_MAX, Recommendations, Recommender, Record, SourceRecord, fit_each,
};

/// The depth at which choices are measured.
pub(super) const DEPTH: usize = 20;

/// Sources on the cases that were held back.
pub(super) struct Examination<'a> {
    pub(super) recommender: &'a Recommender,
    /// Whether the order within a history means something.
    pub(super) ordered: bool,
    pub(super) fit: &'a Interactions,
    pub(super) cases: &'a [Case],
    pub(super) shown: &'a [ShownList],
    pub(super) background: &'a Background,
    pub(super) exclude_seen: bool,
}

/// The items of the histories of cases, in ascending order.
fn asked<'a>(cases: impl Iterator<Item = &'a Case>, items: usize) -> Vec<ItemIndex> {
    let mut is_asked = vec![false; items];
    for signal in cases.flat_map(|case| &case.history) {
        is_asked[signal.item as usize] = true;
    }
    let items = 0..items as ItemIndex;
    items.filter(|item| is_asked[*item as usize]).collect()
}

impl Examination<'_> {
    /// The sources that are worth it, and all else of the model.
    pub(super) fn choose(&self, data: &Interactions) -> (Vec<SourceParameters>, Recommendations) {
        let recommender = self.recommender;
        let usable = self.usable();
        let blend = &self.blend_of(&usable);
        // what was chosen among other sources is no choice among these
        let before = recommender.taken_over.as_deref().filter(|before| {
            let tried = before.sources.iter().map(|source| source.parameters.name());
            tried.eq(usable.iter().map(SourceParameters::name))
        });
        let mut records = match before {
            Some(before) => {
                let kept = before.sources.iter().filter(|source| source.kept);
                kept.cloned().collect()
            }
            None => self.searched(usable, data),
        };
        let described = &self.background.described_then;
        let shown = self.shown.iter().map(|list| &list.case);
        let asked = asked(self.cases.iter().chain(shown), self.fit.items());
        let fitted = fit_each(&records, self.fit.items(), |record| {
            let (question, seed) = (recommender.question, recommender.seed);
            let known = (&asked[..], &described[..]);
            record.parameters.fit_for(self.fit, known, question, seed)
        });
        let sources: Vec<&dyn Source> = fitted.iter().map(|source| source as &dyn Source).collect();
        let choices = blend.choices(&sources, self.cases, self.exclude_seen);
        let shown = match recommender.ranker.is_some() {
            true => blend.shown(&sources, self.shown, self.cases.len()),
            false => Vec::new(),
        };
        drop(fitted);
        for (place, record) in records.iter_mut().enumerate() {
            record.alone = self.measure_alone(&choices, place);
        }
        let together = match before {
            Some(_) => self.measure_blend(blend, &choices, &kept(&records)),
            None => self.leave_out(blend, &choices, &mut records),
        };
        let kept = kept(&records);
        let weights = blend.fit_choices(&choices, &kept);
        let chosen: Vec<SourceParameters> = kept
            .iter()
            .map(|place| records[*place].parameters.clone())
            .collect();
        let going_on = GoingOn::fit(blend, &choices, (&chosen, &kept));
        let learning = Learning {
            blend,
            weights: &weights,
            kept: &kept,
            names: chosen.iter().map(SourceParameters::name).collect(),
            choices: &choices,
            shown: &shown,
            cases: self.cases,
            lists: self.shown,
            then: self.fit,
            background: self.background,
            seed: recommender.seed,
        };
        let ranked_before = before.map(|before| before.ranker.as_ref());
        let (ranker, ranked) = self.rank(&learning, data, ranked_before);
        if let Some(before) = before {
            // what was left out then stands where it stood
            let mut measured = records.into_iter();
            let all = before.sources.iter().map(|source| match source.kept {
                true => measured.next().unwrap_or_else(|| source.clone()),
                false => source.clone(),
            });
            records = all.collect();
        }
        let record = Record {
            cases: self.cases.len(),
            exclude_seen: self.exclude_seen,
            blend: together,
            sources: records,
            pinned: recommender.keeps_all,
            ranker: ranked,
            chosen_on: before.map_or(data.len(), |before| before.chosen_on),
            taken_over: before.map_or(0, |before| before.taken_over + 1),
        };
        let fitted = Recommendations {
            exclude_seen: self.exclude_seen,
            sources: Vec::new(),
            weights,
            ranker,
            record,
            degrees: Vec::new(),
            going_on,
        };
        (chosen, fitted)
    }

    /// The sources that can be used with such data.
    fn usable(&self) -> Vec<SourceParameters> {
        let is_small = self.fit.items() <= DENSE_ITEMS_MAX;
        let is_described = |source: &&SourceParameters| {
            let described = &self.background.described_then;
            !(described.is_empty() && matches!(source, SourceParameters::Content(_)))
        };
        let has_segments = |source: &&SourceParameters| {
            let segments = self.fit.segments();
            !(segments.is_empty() && matches!(source, SourceParameters::PopularIn(_)))
        };
        let sources = self.recommender.sources.iter();
        sources
            .filter(|source| is_small || !source.is_dense())
            .filter(is_described)
            .filter(has_segments)
            .filter_map(|source| match self.ordered {
                true => Some(source.clone()),
                false => source.without_order(),
            })
            .collect()
    }

    /// How these of the sources are weighed.
    fn blend_of(&self, usable: &[SourceParameters]) -> Blend {
        let Recommender { blend, sources, .. } = self.recommender;
        let weight = |source: &SourceParameters, fixed: &[f64]| {
            let place = sources
                .iter()
                .position(|known| known.name() == source.name());
            place
                .and_then(|place| fixed.get(place).copied())
                .unwrap_or(0.0)
        };
        Blend {
            fixed: blend
                .fixed
                .as_deref()
                .map(|fixed| usable.iter().map(|source| weight(source, fixed)).collect()),
            ..blend.clone()
        }
    }

    /// Sources with the parameters that are best alone.
    fn searched(&self, sources: Vec<SourceParameters>, data: &Interactions) -> Vec<SourceRecord> {
        let is_searched = data.len() <= self.recommender.search_signals_max;
        let records = sources.into_iter().map(|source| SourceRecord {
            parameters: match is_searched {
                true => self.search(&source),
                false => source,
            },
            alone: 0.0,
            without: 0.0,
            kept: true,
        });
        records.collect()
    }

    /// A ranker where it helps, and what it was worth; as it was before, where that is taken over.
    fn rank(
        &self,
        learning: &Learning<'_>,
        data: &Interactions,
        before: Option<Option<&RankerRecord>>,
    ) -> (Option<FittedRanker>, Option<RankerRecord>) {
        let Some(ranker) = &self.recommender.ranker else {
            return (None, None);
        };
        let before = before.flatten();
        if let Some(left_out) = before.filter(|before| !before.kept) {
            return (None, Some(left_out.clone()));
        }
        let known = Known::new(learning);
        let mut record = match before {
            Some(before) => before.clone(),
            None => ranker.measure(learning, &known),
        };
        let fitted = match record.kept {
            true => Some(ranker.fit(learning, known, data, &mut record)),
            false => None,
        };
        (fitted, Some(record))
    }

    /// Tries the values of one parameter after the other and keeps the best.
    fn search(&self, source: &SourceParameters) -> SourceParameters {
        let cases = &self.cases[..self.cases.len().min(self.recommender.search_cases_max)];
        let mut best = source.clone();
        let variations = source.variations(self.ordered);
        if variations.is_empty() {
            return best;
        }
        let asked = asked(cases.iter(), self.fit.items());
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
                    source.score(&case.query(), scores);
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
    fn leave_out(&self, blend: &Blend, choices: &[Choice], records: &mut [SourceRecord]) -> f64 {
        let mut order: Vec<usize> = (0..records.len()).collect();
        order.sort_by(|one, other| records[*one].alone.total_cmp(&records[*other].alone));
        let mut value = self.measure_blend(blend, choices, &kept(records));
        for place in order {
            records[place].kept = false;
            let rest = kept(records);
            if rest.is_empty() {
                records[place].kept = true;
                continue;
            }
            let without = self.measure_blend(blend, choices, &rest);
            records[place].without = without;
            let is_worth_it = without < value * (1.0 - self.recommender.worth_min);
            if is_worth_it || self.recommender.keeps_all {
                records[place].kept = true;
            } else {
                value = without;
            }
        }
        value
    }

    /// Fits weights for all lengths on one half of the cases and measures on the other, both ways.
    fn measure_blend(&self, blend: &Blend, choices: &[Choice], kept: &[usize]) -> f64 {
        let half = choices.len() / 2;
        let (one, other) = choices.split_at(half);
        let measured = |fit, measure: &[Choice]| {
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
        };
        let (first, second) = rayon::join(|| measured(one, other), || measured(other, one));
        (first + second) / self.cases.len().max(1) as f64
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
pub(super) fn ndcg<T>(
    ranking: impl Iterator<Item = T>,
    taken: impl Fn(T) -> bool,
    targets: usize,
) -> f64 {
    let gain = |place: usize| 1.0 / ((place + 2) as f64).log2();
    let hits = ranking
        .enumerate()
        .filter_map(|(place, item)| taken(item).then(|| gain(place)));
    hits.sum::<f64>() / (0..targets.min(DEPTH)).map(gain).sum::<f64>()
}
