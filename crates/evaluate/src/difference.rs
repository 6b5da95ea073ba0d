//! What people will be told otherwise: the answers of one version beside those of another to the same questions. The same version
//! beside itself gives zero, exactly.

use serde::{Deserialize, Serialize};

use crate::agreement::{edges, part_of, rank_correlation};
use crate::{EvaluateError, Rows, ScoresView, TaskKind};

/// From this probability on a yes/no question is answered with yes.
const YES_FROM: f64 = 0.5;
/// How fast rank-biased overlap loses interest: somebody who looked at one place looks at the next with this probability
/// (Webber, Moffat and Zobel, *A similarity measure for indefinite rankings*, 2010).
const PERSISTENCE: f64 = 0.9;

/// How the answers of a second version differ from those of a first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerDifference {
    /// How many questions both answered.
    pub rows: usize,
    /// The share of them in which another class, or the other side of 0.5, is answered; absent for amounts.
    pub other_side: Option<f64>,
    /// The share in which the score lies in another tenth of the first version's scores; absent for several classes.
    pub other_band: Option<f64>,
    /// The mean absolute difference; of several classes half the sum over them (total variation).
    pub mean: f64,
    /// The largest one.
    pub largest: f64,
    /// Spearman's rank correlation; absent for several classes, and where one of them says the same to everything.
    pub rank_correlation: Option<f64>,
}

impl AnswerDifference {
    /// From the first version's answers to the second's, each row counted by its weight.
    ///
    /// # Errors
    /// When one of them has not one finite score, or one per class, for each row.
    pub fn of(
        rows: &Rows<'_>,
        first: &ScoresView<'_>,
        second: &ScoresView<'_>,
    ) -> Result<Self, EvaluateError> {
        rows.check(first)?;
        rows.check(second)?;
        let width = first.width();
        let weights = rows.weights();
        let total: f64 = weights.iter().sum();
        let pairs = || {
            let pairs = first.values().chunks_exact(width);
            pairs.zip(second.values().chunks_exact(width))
        };
        let share = |differs: &dyn Fn(&[f64], &[f64]) -> bool| {
            let weighted = pairs().zip(weights).filter(|((a, b), _)| differs(a, b));
            weighted.map(|(_, weight)| weight).sum::<f64>() / total
        };
        let distance = |(a, b): (&[f64], &[f64])| {
            let sum: f64 = a.iter().zip(b).map(|(a, b)| (a - b).abs()).sum();
            if width > 1 { sum / 2.0 } else { sum }
        };
        let edges = edges(first.values());
        let band = |scores: &[f64]| scores.first().map(|score| part_of(*score, &edges));
        let is_yes = |scores: &[f64]| scores.first().is_some_and(|score| *score >= YES_FROM);
        let weighted = pairs().map(distance).zip(weights);
        Ok(Self {
            rows: rows.count(),
            other_side: match rows.task() {
                TaskKind::Regression => None,
                TaskKind::Binary => Some(share(&|a, b| is_yes(a) != is_yes(b))),
                TaskKind::Multiclass { .. } => Some(share(&|a, b| likeliest(a) != likeliest(b))),
            },
            other_band: (width == 1).then(|| share(&|a, b| band(a) != band(b))),
            mean: weighted
                .map(|(distance, weight)| distance * weight)
                .sum::<f64>()
                / total,
            largest: pairs().map(distance).fold(0.0, f64::max),
            rank_correlation: match width {
                1 => rank_correlation(first.values(), second.values()),
                _ => None,
            },
        })
    }

    /// The share of the answers that people would notice: another class or side, for amounts another band.
    pub fn changed(&self) -> f64 {
        self.other_side.or(self.other_band).unwrap_or(0.0)
    }

    /// What has changed, in words.
    pub fn sentence(&self, other: &str) -> String {
        let per_cent = |share: f64| format!("{:.1} %", share * 100.0);
        let mut parts = Vec::new();
        if let Some(side) = self.other_side {
            parts.push(format!("{} change their answer", per_cent(side)));
        }
        if let Some(band) = self.other_band {
            parts.push(format!("{} come into another tenth", per_cent(band)));
        }
        parts.push(format!("the mean difference is {:.3}", self.mean));
        if let Some(correlation) = self.rank_correlation {
            parts.push(format!("the rank correlation {correlation:.3}"));
        }
        format!("of {} rows beside {other}, {}", self.rows, parts.join(", "))
    }
}

/// How the lists of a second version differ from those of a first.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ListDifference {
    /// How many lists of each.
    pub lists: usize,
    /// How deep they were compared.
    pub depth: usize,
    /// The mean share of the first version's items that are not in the second's list.
    pub other_items: f64,
    /// One less the mean rank-biased overlap with persistence 0.9: the first places count most.
    pub rank_biased: f64,
    /// The share of lists that begin with another item.
    pub other_first: f64,
}

impl ListDifference {
    /// From the first version's lists to the second's for the same people, no item twice in a list; `None` without lists.
    pub fn of(first: &[Vec<u32>], second: &[Vec<u32>], depth: usize) -> Option<Self> {
        if first.is_empty() || first.len() != second.len() || depth == 0 {
            return None;
        }
        let mean = |of: &dyn Fn(&[u32], &[u32]) -> f64| {
            let pairs = first.iter().zip(second);
            let cut = |list: &'_ [u32]| list.len().min(depth);
            let sum: f64 = pairs.map(|(a, b)| of(&a[..cut(a)], &b[..cut(b)])).sum();
            sum / first.len() as f64
        };
        Some(Self {
            lists: first.len(),
            depth,
            other_items: mean(&other_items),
            rank_biased: mean(&rank_biased_distance),
            other_first: mean(&|a, b| f64::from(u8::from(a.first() != b.first()))),
        })
    }

    /// What has changed, in words.
    pub fn sentence(&self, other: &str) -> String {
        format!(
            "of {} lists beside {other}, {:.1} % of the first {} items are others, the rank-biased overlap is {:.3}, and {:.1} % \
             begin with another item",
            self.lists,
            self.other_items * 100.0,
            self.depth,
            1.0 - self.rank_biased,
            self.other_first * 100.0
        )
    }
}

fn other_items(a: &[u32], b: &[u32]) -> f64 {
    let longer = a.len().max(b.len());
    if longer == 0 {
        return 0.0;
    }
    let common = a.iter().filter(|item| b.contains(item)).count();
    (longer - common) as f64 / longer as f64
}

/// One less the extrapolated rank-biased overlap (Webber, Moffat and Zobel 2010, equation 30): what is missing of a shorter list
/// counts as different. The weights of all depths add up to one, so that equal lists give zero exactly.
fn rank_biased_distance(a: &[u32], b: &[u32]) -> f64 {
    let depth = a.len().max(b.len());
    let (mut distance, mut weight, mut differing) = (0.0, 1.0, 0.0);
    for d in 1..=depth {
        let (upper_a, upper_b) = (&a[..d.min(a.len())], &b[..d.min(b.len())]);
        let common = upper_a.iter().filter(|item| upper_b.contains(item)).count();
        differing = (d - common) as f64 / d as f64;
        distance += (1.0 - PERSISTENCE) * weight * differing;
        weight *= PERSISTENCE;
    }
    distance + weight * differing
}

/// The class with the largest probability, the first of several.
fn likeliest(scores: &[f64]) -> Option<usize> {
    let places = scores.iter().enumerate().rev();
    let best = places.max_by(|(_, one), (_, other)| one.total_cmp(other));
    best.map(|(place, _)| place)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(task: TaskKind, first: &[f64], second: &[f64], weights: &[f64]) -> AnswerDifference {
        let targets = vec![0.0; weights.len()];
        let entities: Vec<u64> = (0..weights.len() as u64).collect();
        let rows = Rows::new(task, &targets, weights, &entities).unwrap();
        let view = |scores| ScoresView::new(task.width(), scores).unwrap();
        AnswerDifference::of(&rows, &view(first), &view(second)).unwrap()
    }

    #[test]
    fn a_version_beside_itself_gives_zero_exactly() {
        let scores: Vec<f64> = (0..997).map(|row| f64::from(row % 83) / 91.0).collect();
        let same = check(TaskKind::Binary, &scores, &scores, &vec![0.7; scores.len()]);
        assert_eq!(
            (same.other_side, same.other_band, same.mean, same.largest),
            (Some(0.0), Some(0.0), 0.0, 0.0)
        );
        assert_eq!(same.changed(), 0.0);
        let lists: Vec<Vec<u32>> = (0..9)
            .map(|list| (list..list + 3 + list % 7).collect())
            .collect();
        let same = ListDifference::of(&lists, &lists, 10).unwrap();
        assert_eq!(
            (same.other_items, same.rank_biased, same.other_first),
            (0.0, 0.0, 0.0)
        );
    }

    #[test]
    fn what_changes_is_counted_by_weight() {
        let found = check(
            TaskKind::Binary,
            &[0.1, 0.4, 0.6, 0.9],
            &[0.1, 0.6, 0.4, 0.9],
            &[1.0, 3.0, 2.0, 2.0],
        );
        assert_eq!(found.other_side, Some(5.0 / 8.0));
        assert!((found.mean - 0.2 * 5.0 / 8.0).abs() < 1e-12);
        assert!((found.largest - 0.2).abs() < 1e-12);
        assert_eq!(
            found.rank_correlation.map(|r| (r * 10.0).round()),
            Some(8.0)
        );
        let found = check(
            TaskKind::Multiclass { classes: 3 },
            &[0.2, 0.5, 0.3, 0.6, 0.2, 0.2],
            &[0.2, 0.3, 0.5, 0.6, 0.2, 0.2],
            &[1.0, 1.0],
        );
        assert_eq!((found.other_side, found.other_band), (Some(0.5), None));
        assert!((found.largest - 0.2).abs() < 1e-12, "{found:?}");
        let found = check(TaskKind::Regression, &[1.0, 5.0], &[1.0, 50.0], &[1.0, 1.0]);
        assert_eq!(found.other_side, None);
        assert!(found.sentence("m@1").contains("of 2 rows beside m@1"));
    }

    #[test]
    fn lists_are_compared_with_the_first_places_first() {
        let distance = |a: &[u32], b: &[u32]| rank_biased_distance(a, b);
        assert_eq!(distance(&[1, 2, 3], &[4, 5, 6]), 1.0);
        // agreement 0, 1, 1: all of it is lost at the first place only
        assert!((distance(&[1, 2, 3], &[2, 1, 3]) - 0.1).abs() < 1e-12);
        // agreement 1, 1/2, 2/3 with the rest taken as the last
        let expected = 0.1 * 0.9 * 0.5 + (0.1 * 0.81 + 0.729) / 3.0;
        assert!((distance(&[1, 2, 3], &[1, 3, 4]) - expected).abs() < 1e-12);
        assert_eq!(distance(&[], &[]), 0.0);
        assert!(distance(&[1, 2, 3], &[1]) > 0.0);
        let found = ListDifference::of(&[vec![1, 2], vec![3, 4]], &[vec![2, 1], vec![3, 5]], 10);
        let found = found.unwrap();
        assert_eq!((found.other_items, found.other_first), (0.25, 0.5));
        assert_eq!(ListDifference::of(&[], &[], 10), None);
    }
}
