//! A list of candidates of which something was taken, as weights and trees are fitted on.

use super::ItemIndex;
use super::accumulator::keep_best;
use super::blend::{Candidates, columns, length_class, weighed};
use super::holdout::{Case, ShownList};

/// A case as the fit sees it: candidates, and the places of those that were taken.
pub(super) struct Choice {
    /// Its place among the cases.
    case: usize,
    items: Vec<ItemIndex>,
    width: usize,
    features: Vec<f32>,
    taken: Vec<usize>,
    targets: usize,
    /// The class of the history's length.
    pub(super) class: usize,
    /// Whether it was shown in the order in which it stands.
    is_shown: bool,
}

impl Choice {
    pub(super) fn shown(
        features: Vec<f32>,
        (number, list): (usize, &ShownList),
        width: usize,
    ) -> Option<Self> {
        let places = list.items.iter().enumerate();
        let taken: Vec<usize> = places
            .filter(|(_, item)| list.case.targets.contains(item))
            .map(|(place, _)| place)
            .collect();
        (!taken.is_empty() && taken.len() < list.items.len()).then(|| Self {
            case: number,
            items: list.items.clone(),
            width,
            features,
            targets: taken.len(),
            taken,
            class: length_class(list.case.history.len()),
            is_shown: true,
        })
    }

    pub(super) fn new(
        candidates: Candidates,
        (number, case): (usize, &Case),
        width: usize,
    ) -> Option<Self> {
        let found = case
            .targets
            .iter()
            .filter_map(|target| candidates.items.binary_search(target).ok());
        let taken: Vec<usize> = found.collect();
        (!taken.is_empty()).then(|| Self {
            case: number,
            items: candidates.items,
            width,
            features: candidates.features,
            taken,
            targets: case.targets.len(),
            class: length_class(case.history.len()),
            is_shown: false,
        })
    }

    /// The place at which a candidate was shown; NaN where it was not.
    pub(super) fn position(&self, place: usize) -> f64 {
        match self.is_shown {
            true => place as f64,
            false => f64::NAN,
        }
    }

    /// Its place among the cases.
    pub(super) fn case(&self) -> usize {
        self.case
    }

    /// The candidate at a place.
    pub(super) fn item(&self, place: usize) -> ItemIndex {
        self.items[place]
    }

    /// What the sources that are kept say of the candidate at a place.
    pub(super) fn said(&self, place: usize, kept: &[usize]) -> impl Iterator<Item = f64> {
        let row = &self.features[place * self.width..(place + 1) * self.width];
        columns(kept)
            .into_iter()
            .map(|column| f64::from(row[column]))
    }

    /// The places of the candidates that were taken.
    pub(super) fn taken(&self) -> &[usize] {
        &self.taken
    }

    /// How many items were taken, candidates or not.
    pub(super) fn targets(&self) -> usize {
        self.targets
    }

    /// The places of a source's best candidates, best first; at most as many as a source brings.
    pub(super) fn best_of(&self, source: usize, limit: usize) -> Vec<usize> {
        let rows = self.features.chunks_exact(self.width).enumerate();
        let shares = rows.map(|(place, row)| (place as u32, row[2 * source]));
        let mut shares: Vec<(u32, f32)> = shares.filter(|(_, share)| *share > 0.0).collect();
        let best = keep_best(&mut shares, limit);
        let best = shares[..best].iter();
        best.map(|(place, _)| *place as usize).collect()
    }

    /// The rows of candidates, of the chosen columns.
    pub(super) fn rows(&self, columns: &[usize]) -> Vec<f64> {
        let rows = self.features.chunks_exact(self.width);
        rows.flat_map(|row| columns.iter().map(|column| f64::from(row[*column])))
            .collect()
    }

    /// Log-odds of the candidates.
    pub(super) fn odds(&self, columns: &[usize], weights: &[f64]) -> Vec<f64> {
        weighed((&self.features, self.width), columns, weights)
    }

    /// Probabilities of the candidates, and the mean log-likelihood of what was taken.
    pub(super) fn probabilities(&self, columns: &[usize], weights: &[f64]) -> (Vec<f64>, f64) {
        let mut odds = self.odds(columns, weights);
        let largest = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let taken: f64 = self.taken.iter().map(|place| odds[*place] - largest).sum();
        let mut total = 0.0;
        for odd in &mut odds {
            *odd = (*odd - largest).exp();
            total += *odd;
        }
        for odd in &mut odds {
            *odd /= total;
        }
        (odds, taken / self.taken.len() as f64 - total.ln())
    }
}
