//! Growing trees that order lists.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::boosted::{Forest, Node};

/// Gradient boosting for lists. The loss is the cross-entropy between what was taken of a list and a softmax over it (the top-one form of
/// ListNet: Cao et al., ICML 2007), where each item starts from odds that something else has given it: trees learn by how much to correct
/// them. Splits and leaves are those of second order with a ridge (Chen and Guestrin, KDD 2016, equations 5 to 7).
///
/// It is not grown by the library behind [`Boosted`](crate::Boosted): that has no ridge, and an objective of one's own is grown without its
/// checks for generality, so that on a few thousand lists it made all of them worse.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListTrees {
    /// At most so many trees; how many of them are used is found out on lists that they have not seen.
    pub trees_max: usize,
    /// How deep a tree may be.
    pub depth: usize,
    /// Which share of a leaf's value is used.
    pub learning_rate: f64,
    /// How strongly leaves are drawn to 0, in lists.
    pub ridge: f64,
    /// The least curvature on each side of a split, in lists.
    pub curvature_min: f64,
    /// Quantile bins of a column, at most 255; what is missing has one more.
    pub bins: usize,
}

impl Default for ListTrees {
    fn default() -> Self {
        Self {
            trees_max: 120,
            depth: 4,
            learning_rate: 0.1,
            ridge: 10.0,
            curvature_min: 2.0,
            bins: 63,
        }
    }
}

/// Lists of items as rows, one list after the other.
#[derive(Default)]
pub(super) struct Lists {
    /// The columns; NaN is missing.
    pub(super) columns: Vec<Vec<f64>>,
    /// How many rows each list has.
    pub(super) lengths: Vec<usize>,
    /// What was taken: sums to 1 over a list.
    pub(super) targets: Vec<f64>,
    /// The log-odds that the rows start from.
    pub(super) odds: Vec<f64>,
}

impl ListTrees {
    /// Grows so many trees.
    pub(super) fn fit(&self, lists: &Lists, trees: usize) -> Forest {
        let columns: Vec<Binned> = lists
            .columns
            .par_iter()
            .map(|column| Binned::new(column, self.bins))
            .collect();
        let rows = lists.targets.len();
        let mut growing = Growing {
            parameters: self,
            columns: &columns,
            raw: lists.odds.clone(),
            slopes: vec![(0.0, 0.0); rows],
            forest: Forest::new(0.0),
        };
        for _ in 0..trees {
            slopes(lists, &growing.raw, &mut growing.slopes);
            growing.forest.start_tree();
            let all = (0..rows as u32).collect();
            let before = growing.forest.nodes();
            growing.grow(all, 0);
            if growing.forest.nodes() == before + 1 {
                break; // not even one split is worth it, and will not be
            }
        }
        let weights = vec![1.0; rows];
        let Growing { mut forest, .. } = growing;
        forest.count_covers(rows, &weights, |row, encoded| {
            encoded.extend(lists.columns.iter().map(|column| column[row]));
        });
        forest
    }
}

/// The first and second derivative of the loss by each row's log-odds.
fn slopes(lists: &Lists, raw: &[f64], slopes: &mut [(f64, f64)]) {
    let mut start = 0;
    for length in &lists.lengths {
        let rows = start..start + length;
        start = rows.end;
        let odds = &raw[rows.clone()];
        let largest = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = odds.iter().map(|odd| (odd - largest).exp()).sum();
        for row in rows {
            let probability = (raw[row] - largest).exp() / total;
            slopes[row] = (
                probability - lists.targets[row],
                probability * (1.0 - probability),
            );
        }
    }
}

/// A column by its bins: 0 for what is missing, and above it the number of edges that a value reaches, plus 1.
struct Binned {
    edges: Vec<f64>,
    bins: Vec<u8>,
}

impl Binned {
    fn new(column: &[f64], bins: usize) -> Self {
        let mut sorted: Vec<f64> = column.iter().copied().filter(|v| !v.is_nan()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let bins = bins.clamp(2, 254);
        let places = (1..bins).map(|bin| sorted.len() * bin / bins);
        let mut edges: Vec<f64> = places
            .filter_map(|place| sorted.get(place))
            .copied()
            .collect();
        edges.dedup();
        // an edge at the smallest value has nothing to its left
        edges.retain(|edge| sorted.first().is_some_and(|first| edge > first));
        let bin = |value: &f64| match value.is_nan() {
            true => 0,
            false => 1 + edges.partition_point(|edge| edge <= value) as u8,
        };
        let bins = column.iter().map(bin).collect();
        Self { edges, bins }
    }
}

/// Sums of first and second derivatives.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    slope: f64,
    curvature: f64,
}

impl Sums {
    fn add(&mut self, (slope, curvature): (f64, f64)) {
        self.slope += slope;
        self.curvature += curvature;
    }

    fn plus(self, other: Self) -> Self {
        Self {
            slope: self.slope + other.slope,
            curvature: self.curvature + other.curvature,
        }
    }

    fn less(self, other: Self) -> Self {
        Self {
            slope: self.slope - other.slope,
            curvature: self.curvature - other.curvature,
        }
    }

    fn gain(self, ridge: f64) -> f64 {
        self.slope * self.slope / (self.curvature + ridge)
    }
}

/// The best split of a node.
#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    column: usize,
    /// Rows in bins up to this one go left.
    bin: u8,
    edge: f64,
    missing_left: bool,
}

struct Growing<'a> {
    parameters: &'a ListTrees,
    columns: &'a [Binned],
    /// The log-odds with the trees so far.
    raw: Vec<f64>,
    slopes: Vec<(f64, f64)>,
    forest: Forest,
}

impl Growing<'_> {
    /// Appends the node of some rows and all below it; the recursion is `depth` deep.
    fn grow(&mut self, rows: Vec<u32>, depth: usize) -> usize {
        let mut all = Sums::default();
        rows.iter()
            .for_each(|row| all.add(self.slopes[*row as usize]));
        let split = match depth < self.parameters.depth {
            true => self.best_split(&rows, all),
            false => None,
        };
        let Some(split) = split else {
            let value = -self.parameters.learning_rate * all.slope
                / (all.curvature + self.parameters.ridge);
            rows.iter().for_each(|row| self.raw[*row as usize] += value);
            return self.forest.push(Node::leaf(value));
        };
        let bins = &self.columns[split.column].bins;
        let goes_left = |row: &u32| match bins[*row as usize] {
            0 => split.missing_left,
            bin => bin <= split.bin,
        };
        let (left, right): (Vec<u32>, Vec<u32>) = rows.into_iter().partition(goes_left);
        let node = Node::split(split.column as u16, split.edge, split.missing_left);
        let place = self.forest.push(node);
        self.grow(left, depth + 1);
        let right = self.grow(right, depth + 1);
        self.forest.set_right(place, right);
        place
    }

    fn best_split(&self, rows: &[u32], all: Sums) -> Option<Split> {
        let splits: Vec<Option<Split>> = (0..self.columns.len())
            .into_par_iter()
            .map(|column| self.best_of_column(column, rows, all))
            .collect();
        let found = splits.into_iter().flatten();
        // of equal ones the first column
        found.reduce(|best, other| if other.gain > best.gain { other } else { best })
    }

    fn best_of_column(&self, column: usize, rows: &[u32], all: Sums) -> Option<Split> {
        let Binned { edges, bins } = &self.columns[column];
        if edges.is_empty() && !bins.contains(&0) {
            return None;
        }
        let mut sums = vec![Sums::default(); edges.len() + 2];
        for row in rows {
            let row = *row as usize;
            sums[usize::from(bins[row])].add(self.slopes[row]);
        }
        let ListTrees {
            ridge,
            curvature_min,
            ..
        } = *self.parameters;
        let missing = sums[0];
        let sides: &[bool] = if missing.curvature > 0.0 {
            &[true, false]
        } else {
            &[false]
        };
        let mut best: Option<Split> = None;
        let mut left = Sums::default();
        for (place, edge) in edges.iter().enumerate() {
            left = left.plus(sums[place + 1]);
            for &missing_left in sides {
                let left = if missing_left {
                    left.plus(missing)
                } else {
                    left
                };
                let right = all.less(left);
                if left.curvature < curvature_min || right.curvature < curvature_min {
                    continue;
                }
                let gain = left.gain(ridge) + right.gain(ridge) - all.gain(ridge);
                if gain > GAIN_MIN && best.is_none_or(|best| gain > best.gain) {
                    best = Some(Split {
                        gain,
                        column,
                        bin: place as u8 + 1,
                        edge: *edge,
                        missing_left,
                    });
                }
            }
        }
        best
    }
}

/// A split must lower the loss by this much, in lists.
const GAIN_MIN: f64 = 1e-3;

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists of ten, of which the one with the largest hidden value is taken; the second column is noise, the third says it only where
    /// it is not missing.
    fn lists(count: usize) -> Lists {
        let mut lists = Lists {
            columns: vec![Vec::new(); 3],
            ..Lists::default()
        };
        for list in 0..count {
            let hidden: Vec<f64> = (0..10)
                .map(|row| ((list * 37 + row * 61) % 101) as f64)
                .collect();
            let most = hidden.iter().copied().fold(0.0, f64::max);
            for (row, value) in hidden.iter().enumerate() {
                let shown = if list % 2 == 0 { f64::NAN } else { *value };
                lists.columns[0].push(*value);
                lists.columns[1].push(((list * 13 + row * 7) % 11) as f64);
                lists.columns[2].push(shown);
                lists.targets.push(f64::from(u8::from(*value == most)));
                lists.odds.push(0.0);
            }
            lists.lengths.push(10);
        }
        lists
    }

    #[test]
    fn it_finds_what_orders_lists_and_is_the_same_again() {
        let lists = lists(300);
        let forest = ListTrees::default().fit(&lists, 40);
        let first = |list: usize| {
            let score = |row: usize| {
                let row: Vec<f64> = lists.columns.iter().map(|column| column[row]).collect();
                forest.raw(&row)
            };
            let rows = list * 10..list * 10 + 10;
            rows.max_by(|one, other| score(*one).total_cmp(&score(*other)))
        };
        let right = (0..300)
            .filter(|list| lists.targets[first(*list).unwrap()] > 0.0)
            .count();
        assert!(right > 250, "{right} of 300");
        assert!(ListTrees::default().fit(&lists, 40) == forest);
    }

    #[test]
    fn nothing_to_learn_gives_no_trees_with_splits() {
        let mut lists = lists(50);
        lists.columns.iter_mut().for_each(|column| column.fill(1.0));
        let forest = ListTrees::default().fit(&lists, 40);
        assert_eq!((forest.trees(), forest.nodes()), (1, 1));
        assert_eq!(
            ListTrees::default().fit(&Lists::default(), 40).raw(&[]),
            0.0
        );
    }
}
