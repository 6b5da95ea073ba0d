//! How much each source's word is worth, learnt from what people took.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::ItemIndex;
use super::accumulator::{Accumulator, keep_best};
use super::choice::Choice;
use super::holdout::{Case, ShownList};
use super::query::{Fixed, Query, Source};

/// A conditional logit (McFadden 1974) over the candidates of all sources: the log-odds of an item are a weighted sum of
/// what the sources say of it, twice each: the score over the best one (a mixture of opinions), and its logarithm (a product
/// of opinions). Weights are fitted by Newton's method with a ridge, first over all cases, then for histories of similar
/// length, drawn towards those of all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Blend {
    /// How many candidates each source brings.
    pub candidates: usize,
    /// How strongly weights are drawn to 0, in cases.
    pub ridge: f64,
    /// How strongly weights of a length are drawn to those of all, in cases.
    pub length_ridge: f64,
    /// Steps of Newton's method.
    pub steps: usize,
    /// What the score of each source counts, in the order of the sources, where that is decided and not fitted.
    #[serde(default)]
    pub fixed: Option<Vec<f64>>,
}

impl Default for Blend {
    fn default() -> Self {
        Self {
            candidates: 100,
            ridge: 1.0,
            length_ridge: 20.0,
            steps: 12,
            fixed: None,
        }
    }
}

/// Fitted weights: two for each source, for each [`length_class`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BlendWeights {
    parameters: Blend,
    by_length: Vec<Vec<f64>>,
}

/// Upper ends of the classes of history lengths.
const LENGTHS: [usize; 6] = [1, 2, 4, 9, 29, usize::MAX];
/// Below this share of the best score a source's word counts as silence: e^-10.
const LOG_FLOOR: f32 = 10.0;
/// A class with fewer cases than this has the weights of all.
const CLASS_CASES_MIN: usize = 100;

/// The class of a history's length.
pub fn length_class(length: usize) -> usize {
    LENGTHS
        .iter()
        .position(|end| length <= *end)
        .unwrap_or(LENGTHS.len() - 1)
}

/// The candidates for a case: items, and a row of two numbers per source for each.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidates {
    /// The items, in ascending order.
    pub items: Vec<ItemIndex>,
    /// Row by row, `2 × sources` numbers between 0 and 1.
    pub features: Vec<f32>,
}

/// One accumulator per source, reused between queries.
pub struct Scratch(Vec<Accumulator>);

impl Scratch {
    /// For so many sources over a catalogue: 4 bytes × items × sources.
    pub fn new(sources: usize, items: usize) -> Self {
        Self(vec![Accumulator::new(items); sources])
    }
}

/// What a source says of an item: its score over the largest one, and the logarithm of that, from 0 to 1.
fn said(score: f32, largest: f32) -> [f32; 2] {
    let share = match largest > 0.0 {
        true => (score / largest).min(1.0),
        false => 0.0,
    };
    [share, (1.0 + share.max(1e-30).ln() / LOG_FLOOR).max(0.0)]
}

/// What the sources say of given items, in their order: a row of two numbers per source for each.
fn said_of(
    sources: &[&dyn Source],
    query: &Query<'_>,
    items: &[ItemIndex],
    scratch: &mut Scratch,
) -> Vec<f32> {
    let width = 2 * sources.len();
    let mut features = vec![0.0; width * items.len()];
    for (place, (source, scores)) in sources.iter().zip(&mut scratch.0).enumerate() {
        let fixed = source.fixed(query);
        if fixed.is_none() {
            source.score(query, scores);
        }
        let largest = match &fixed {
            Some(fixed) => fixed.ranking.first().map_or(0.0, |(_, score)| *score),
            None => scores.scores().map(|(_, score)| score).fold(0.0, f32::max),
        };
        for (row, item) in features.chunks_exact_mut(width).zip(items) {
            let known = (*item as usize) < scores.items();
            let score = match &fixed {
                Some(fixed) => fixed.score(*item),
                None if known => scores.get(*item),
                None => 0.0,
            };
            row[2 * place..2 * place + 2].copy_from_slice(&said(score, largest));
        }
        scores.clear();
    }
    features
}

impl Blend {
    /// What the sources say, without the items of the history where `exclude_seen`.
    pub fn candidates(
        &self,
        sources: &[&dyn Source],
        query: &Query<'_>,
        exclude_seen: bool,
        scratch: &mut Scratch,
    ) -> Candidates {
        let mut items: Vec<ItemIndex> = Vec::new();
        let mut best = Vec::new();
        let mut largest = Vec::with_capacity(sources.len());
        let fixed: Vec<Option<Fixed<'_>>> =
            sources.iter().map(|source| source.fixed(query)).collect();
        let seen: HashSet<ItemIndex> = match exclude_seen {
            true => query.history.iter().map(|signal| signal.item).collect(),
            false => HashSet::new(),
        };
        for ((source, scores), fixed) in sources.iter().zip(&mut scratch.0).zip(&fixed) {
            if let Some(fixed) = fixed {
                let best = fixed.best(self.candidates, |item| !seen.contains(&item));
                largest.push(best.first().map_or(0.0, |first| fixed.score(*first)));
                items.extend(best);
                continue;
            }
            source.score(query, scores);
            if exclude_seen {
                scores.remove_seen(query.history);
            }
            best.clear();
            best.extend(scores.scores());
            let kept = keep_best(&mut best, self.candidates);
            largest.push(best.first().map_or(0.0, |first| first.1));
            items.extend(best[..kept].iter().map(|(item, _)| *item));
        }
        items.sort_unstable();
        items.dedup();
        let mut features = Vec::with_capacity(items.len() * 2 * sources.len());
        for item in &items {
            for ((scores, fixed), largest) in scratch.0.iter().zip(&fixed).zip(&largest) {
                let score = match fixed {
                    Some(fixed) => fixed.score(*item),
                    None => scores.get(*item),
                };
                features.extend(said(score, *largest));
            }
        }
        for scores in &mut scratch.0 {
            scores.clear();
        }
        Candidates { items, features }
    }

    /// Fits the weights on cases that the sources have not seen.
    pub fn fit(&self, sources: &[&dyn Source], cases: &[Case], exclude_seen: bool) -> BlendWeights {
        let kept: Vec<usize> = (0..sources.len()).collect();
        self.fit_choices(&self.choices(sources, cases, exclude_seen), &kept)
    }

    /// The candidates for each case in which any candidate was taken.
    pub(super) fn choices(
        &self,
        sources: &[&dyn Source],
        cases: &[Case],
        exclude_seen: bool,
    ) -> Vec<Choice> {
        let items = sources
            .iter()
            .map(|source| source.items())
            .max()
            .unwrap_or(0);
        let choices: Vec<Option<Choice>> = cases
            .par_iter()
            .enumerate()
            .map_init(
                || Scratch::new(sources.len(), items),
                |scratch, (number, case)| {
                    let candidates = self.candidates(sources, &case.query(), exclude_seen, scratch);
                    Choice::new(candidates, (number, case), 2 * sources.len())
                },
            )
            .collect();
        choices.into_iter().flatten().collect()
    }

    /// Lists that were shown, of which anything was taken but not all; they are numbered from `first`.
    pub(super) fn shown(
        &self,
        sources: &[&dyn Source],
        shown: &[ShownList],
        first: usize,
    ) -> Vec<Choice> {
        let items = sources.iter().map(|source| source.items()).max();
        let choices: Vec<Option<Choice>> = shown
            .par_iter()
            .enumerate()
            .map_init(
                || Scratch::new(sources.len(), items.unwrap_or(0)),
                |scratch, (number, list)| {
                    let query = list.case.query();
                    let features = said_of(sources, &query, &list.items, scratch);
                    Choice::shown(features, (first + number, list), 2 * sources.len())
                },
            )
            .collect();
        choices.into_iter().flatten().collect()
    }

    /// The weights of the sources that are kept, the same for all lengths.
    pub(super) fn fit_overall(&self, choices: &[Choice], kept: &[usize]) -> BlendWeights {
        let columns = columns(kept);
        let overall = match &self.fixed {
            Some(fixed) => kept.iter().flat_map(|place| [fixed[*place], 0.0]).collect(),
            None => {
                let all: Vec<&Choice> = choices.iter().collect();
                let start = vec![0.0; columns.len()];
                self.newton(&all, &columns, start, self.ridge)
            }
        };
        BlendWeights {
            parameters: self.clone(),
            by_length: vec![overall; LENGTHS.len()],
        }
    }

    /// The weights of the sources that are kept.
    pub(super) fn fit_choices(&self, choices: &[Choice], kept: &[usize]) -> BlendWeights {
        let columns = columns(kept);
        let overall = self.fit_overall(choices, kept).by_length.swap_remove(0);
        let by_length = (0..LENGTHS.len()).map(|class| {
            let own = choices.iter().filter(|choice| choice.class == class);
            let own: Vec<&Choice> = own.collect();
            match self.fixed.is_some() || own.len() < CLASS_CASES_MIN {
                true => overall.clone(),
                false => self.newton(&own, &columns, overall.clone(), self.length_ridge),
            }
        });
        BlendWeights {
            parameters: self.clone(),
            by_length: by_length.collect(),
        }
    }

    /// Maximises the log-likelihood less `ridge / 2` times the squared distance from where it starts.
    fn newton(
        &self,
        choices: &[&Choice],
        columns: &[usize],
        start: Vec<f64>,
        ridge: f64,
    ) -> Vec<f64> {
        let width = start.len();
        let mut weights = start.clone();
        let mut value = penalised(choices, columns, &weights, &start, ridge);
        for _ in 0..self.steps {
            let (mut gradient, mut hessian) = derivatives(choices, columns, &weights);
            for k in 0..width {
                gradient[k] -= ridge * (weights[k] - start[k]);
                hessian[k * width + k] += ridge;
            }
            let Some(direction) = solve(hessian, gradient) else {
                break;
            };
            let mut length = 1.0;
            let mut improved = false;
            for _ in 0..10 {
                let moved: Vec<f64> = weights
                    .iter()
                    .zip(&direction)
                    .map(|(w, d)| w + length * d)
                    .collect();
                let at = penalised(choices, columns, &moved, &start, ridge);
                if at > value {
                    improved = at - value > 1e-6 * value.abs();
                    (weights, value) = (moved, at);
                    break;
                }
                length *= 0.5;
            }
            if !improved {
                break;
            }
        }
        weights
    }
}

/// The columns of sources.
pub(super) fn columns(kept: &[usize]) -> Vec<usize> {
    kept.iter()
        .flat_map(|source| [2 * source, 2 * source + 1])
        .collect()
}

/// The weighted sums of some columns of rows that are so wide.
pub(super) fn weighed(
    (rows, width): (&[f32], usize),
    columns: &[usize],
    weights: &[f64],
) -> Vec<f64> {
    let rows = rows.chunks_exact(width.max(1));
    rows.map(|row| {
        let terms = columns.iter().zip(weights);
        terms
            .map(|(column, weight)| f64::from(row[*column]) * weight)
            .sum()
    })
    .collect()
}

fn penalised(
    choices: &[&Choice],
    columns: &[usize],
    weights: &[f64],
    centre: &[f64],
    ridge: f64,
) -> f64 {
    let values: Vec<f64> = choices
        .par_iter()
        .map(|choice| choice.probabilities(columns, weights).1)
        .collect();
    let distance: f64 = weights
        .iter()
        .zip(centre)
        .map(|(w, c)| (w - c) * (w - c))
        .sum();
    values.iter().sum::<f64>() - 0.5 * ridge * distance
}

/// The gradient and the negative Hessian of the log-likelihood, added in the order of fixed chunks.
fn derivatives(choices: &[&Choice], columns: &[usize], weights: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let width = weights.len();
    let parts: Vec<(Vec<f64>, Vec<f64>)> = choices
        .par_chunks(64)
        .map(|choices| {
            let mut gradient = vec![0.0; width];
            let mut hessian = vec![0.0; width * width];
            for choice in choices {
                add_derivatives(choice, columns, weights, &mut gradient, &mut hessian);
            }
            (gradient, hessian)
        })
        .collect();
    let mut sum = (vec![0.0; width], vec![0.0; width * width]);
    for (gradient, hessian) in parts {
        sum.0
            .iter_mut()
            .zip(gradient)
            .for_each(|(sum, value)| *sum += value);
        sum.1
            .iter_mut()
            .zip(hessian)
            .for_each(|(sum, value)| *sum += value);
    }
    sum
}

fn add_derivatives(
    choice: &Choice,
    columns: &[usize],
    weights: &[f64],
    gradient: &mut [f64],
    hessian: &mut [f64],
) {
    let width = weights.len();
    let (probabilities, _) = choice.probabilities(columns, weights);
    let rows = choice.rows(columns);
    let mut mean = vec![0.0; width];
    for (row, probability) in rows.chunks_exact(width).zip(&probabilities) {
        for k in 0..width {
            let weighted = probability * row[k];
            mean[k] += weighted;
            if weighted != 0.0 {
                let line = &mut hessian[k * width..(k + 1) * width];
                for (sum, value) in line.iter_mut().zip(row) {
                    *sum += weighted * value;
                }
            }
        }
    }
    for k in 0..width {
        for l in 0..width {
            hessian[k * width + l] -= mean[k] * mean[l];
        }
        let taken: f64 = choice
            .taken()
            .iter()
            .map(|place| rows[place * width + k])
            .sum();
        gradient[k] += taken / choice.taken().len() as f64 - mean[k];
    }
}

/// Solves a symmetric positive definite system by Cholesky's method; `None` if it is not one.
fn solve(mut matrix: Vec<f64>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let width = right.len();
    for k in 0..width {
        for l in 0..=k {
            let sum: f64 = (0..l)
                .map(|m| matrix[k * width + m] * matrix[l * width + m])
                .sum();
            let rest = matrix[k * width + l] - sum;
            if k == l {
                if rest <= 0.0 {
                    return None;
                }
                matrix[k * width + k] = rest.sqrt();
            } else {
                matrix[k * width + l] = rest / matrix[l * width + l];
            }
        }
    }
    for k in 0..width {
        let sum: f64 = (0..k).map(|l| matrix[k * width + l] * right[l]).sum();
        right[k] = (right[k] - sum) / matrix[k * width + k];
    }
    for k in (0..width).rev() {
        let sum: f64 = (k + 1..width)
            .map(|l| matrix[l * width + k] * right[l])
            .sum();
        right[k] = (right[k] - sum) / matrix[k * width + k];
    }
    Some(right)
}

impl BlendWeights {
    /// The weights for a history of this length: two per source.
    pub fn weights(&self, length: usize) -> &[f64] {
        &self.by_length[length_class(length)]
    }

    /// The log-odds of the candidates of a choice, by sources that are kept.
    pub(super) fn odds(&self, choice: &Choice, kept: &[usize]) -> Vec<f64> {
        choice.odds(&columns(kept), &self.by_length[choice.class])
    }

    /// The best `limit` items with their log-odds, best first; without the items of the history where the query says so. `order` may
    /// change the log-odds of the candidates by what the sources say of them.
    pub fn rank(
        &self,
        sources: &[&dyn Source],
        (query, exclude_seen): (&Query<'_>, bool),
        limit: usize,
        scratch: &mut Scratch,
        order: impl FnOnce(&[ItemIndex], &[f32], &mut [f64]),
    ) -> Vec<(ItemIndex, f32)> {
        let candidates = self
            .parameters
            .candidates(sources, query, exclude_seen, scratch);
        let mut odds = self.sums(&candidates.features, query);
        order(&candidates.items, &candidates.features, &mut odds);
        let odds = odds.into_iter().map(|odd| odd as f32);
        let mut ranked: Vec<(ItemIndex, f32)> =
            candidates.items.iter().copied().zip(odds).collect();
        let kept = keep_best(&mut ranked, limit);
        ranked.truncate(kept);
        ranked
    }

    /// The log-odds of given items, in their order; `order` as in [`rank`](Self::rank).
    pub fn score(
        &self,
        sources: &[&dyn Source],
        query: &Query<'_>,
        items: &[ItemIndex],
        scratch: &mut Scratch,
        order: impl FnOnce(&[ItemIndex], &[f32], &mut [f64]),
    ) -> Vec<f32> {
        let features = said_of(sources, query, items, scratch);
        let mut odds = self.sums(&features, query);
        odds.resize(items.len(), 0.0); // without any source
        order(items, &features, &mut odds);
        odds.into_iter().map(|odd| odd as f32).collect()
    }

    /// The same with weights that are no numbers.
    pub(super) fn without_numbers(mut self) -> Self {
        let classes = self.by_length.iter_mut().flatten();
        classes.for_each(|weight| *weight = f64::NAN);
        self
    }

    /// What the weights make of the columns of some of the sources, of rows of all.
    pub(super) fn sums_of(
        &self,
        sources: &[usize],
        (features, width): (&[f32], usize),
        query: &Query<'_>,
    ) -> Vec<f64> {
        let weights = self.weights(query.history.len());
        weighed((features, width), &columns(sources), weights)
    }

    /// What the weights make of rows.
    fn sums(&self, features: &[f32], query: &Query<'_>) -> Vec<f64> {
        let weights = self.weights(query.history.len());
        let all: Vec<usize> = (0..weights.len()).collect();
        weighed((features, weights.len()), &all, weights)
    }

    /// The places of a case's best candidates, best first.
    pub(super) fn ranked(&self, choice: &Choice, kept: &[usize], limit: usize) -> Vec<usize> {
        let odds = self.odds(choice, kept);
        let places = odds.iter().enumerate();
        let mut ranked: Vec<(u32, f32)> = places
            .map(|(place, odd)| (place as u32, *odd as f32))
            .collect();
        let best = keep_best(&mut ranked, limit);
        ranked[..best]
            .iter()
            .map(|(place, _)| *place as usize)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recommend::Signal;

    /// Says the same of every query.
    struct Opinion(Vec<f32>);

    impl Source for Opinion {
        fn name(&self) -> &str {
            "opinion"
        }

        fn items(&self) -> usize {
            self.0.len()
        }

        fn score(&self, _: &Query<'_>, scores: &mut Accumulator) {
            for (item, score) in self.0.iter().enumerate() {
                scores.add(item as ItemIndex, *score);
            }
        }
    }

    fn cases(target: impl Fn(u32) -> ItemIndex) -> Vec<Case> {
        let case = |number| Case::new(0, vec![Signal::plain(3)], vec![target(number)]);
        (0..300).map(case).collect()
    }

    #[test]
    fn the_source_that_is_right_gets_the_weight() {
        let right = Opinion(vec![0.1, 0.5, 1.0, 0.2]);
        let wrong = Opinion(vec![1.0, 0.2, 0.1, 0.3]);
        let sources: [&dyn Source; 2] = [&wrong, &right];
        let weights =
            Blend::default().fit(&sources, &cases(|n| if n % 3 == 0 { 1 } else { 2 }), true);
        let history = [Signal::plain(3)];
        let query = Query::new(&history);
        let ranked = weights.rank(
            &sources,
            (&query, true),
            5,
            &mut Scratch::new(2, 4),
            |_, _, _| {},
        );
        let items: Vec<ItemIndex> = ranked.iter().map(|(item, _)| *item).collect();
        assert_eq!(items, [2, 1, 0], "what was seen is left out");
        // the log-odds are those of the shares: two to one
        assert!(
            (f64::from(ranked[0].1 - ranked[1].1) - 2.0_f64.ln()).abs() < 0.1,
            "{ranked:?}"
        );
    }

    #[test]
    fn cholesky_solves_and_refuses() {
        let solved = solve(vec![4.0, 2.0, 2.0, 3.0], vec![10.0, 9.0]).unwrap();
        assert!((solved[0] - 1.5).abs() < 1e-12 && (solved[1] - 2.0).abs() < 1e-12);
        assert_eq!(solve(vec![1.0, 2.0, 2.0, 1.0], vec![1.0, 1.0]), None);
    }
}
