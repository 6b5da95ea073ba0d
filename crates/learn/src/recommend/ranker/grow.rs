//! Growing trees that order lists.

use serde::{Deserialize, Serialize};

use super::bins::{Bins, Histogram, Sums, Table};
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
    /// Quantile bins of a column, at most 254; what is missing has one more.
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
    /// How many values a row has.
    pub(super) width: usize,
    /// The rows; NaN is missing.
    pub(super) rows: Vec<f64>,
    /// How many rows each list has.
    pub(super) lengths: Vec<usize>,
    /// What was taken: sums to 1 over a list.
    pub(super) targets: Vec<f64>,
    /// The log-odds that the rows start from.
    pub(super) odds: Vec<f64>,
}

/// Rows that are corrected by trees that are not grown from them.
#[derive(Default)]
pub(super) struct Watched {
    table: Table,
    /// Their log-odds with the trees so far.
    pub(super) odds: Vec<f64>,
}

impl Watched {
    /// Appends rows.
    pub(super) fn append(&mut self, table: &Table, odds: &[f64]) {
        self.table.append(table);
        self.odds.extend_from_slice(odds);
    }
}

/// Trees that grow one after the other.
pub(super) struct Growing<'a> {
    parameters: &'a ListTrees,
    lists: &'a Lists,
    pub(super) bins: Bins,
    table: Table,
    /// The log-odds with the trees so far.
    odds: Vec<f64>,
    slopes: Vec<(f64, f64)>,
    pub(super) watched: Watched,
    forest: Forest,
}

impl ListTrees {
    /// Grows so many trees.
    pub(super) fn fit(&self, lists: &Lists, trees: usize) -> Forest {
        let mut growing = Growing::new(self, lists);
        growing.grow(trees);
        let Growing { mut forest, .. } = growing;
        let rows = lists.targets.len();
        forest.count_covers(rows, &vec![1.0; rows], |row, encoded| {
            encoded.extend(&lists.rows[row * lists.width..(row + 1) * lists.width]);
        });
        forest
    }
}

/// The best split of a node.
#[derive(Clone, Copy)]
struct Split {
    gain: f64,
    column: usize,
    /// Rows in bins up to this one go left.
    bin: u8,
    missing_left: bool,
}

impl Split {
    fn goes_left(self, table: &Table, row: u32) -> bool {
        match table.bin(row, self.column) {
            0 => self.missing_left,
            bin => bin <= self.bin,
        }
    }
}

/// The rows of a node; those that are watched have no part in where it splits.
struct Rows {
    learnt: Vec<u32>,
    watched: Vec<u32>,
}

impl<'a> Growing<'a> {
    pub(super) fn new(parameters: &'a ListTrees, lists: &'a Lists) -> Self {
        let bins = Bins::new(&lists.rows, lists.width, parameters.bins);
        Self {
            parameters,
            lists,
            table: bins.table(&lists.rows),
            bins,
            odds: lists.odds.clone(),
            slopes: vec![(0.0, 0.0); lists.targets.len()],
            watched: Watched::default(),
            forest: Forest::new(0.0),
        }
    }

    /// Grows so many trees more; fewer where not even one split is worth it.
    pub(super) fn grow(&mut self, trees: usize) {
        for _ in 0..trees {
            self.find_slopes();
            self.forest.start_tree();
            let rows = Rows {
                learnt: (0..self.odds.len() as u32).collect(),
                watched: (0..self.watched.odds.len() as u32).collect(),
            };
            let histogram = self.histogram(&rows.learnt);
            let before = self.forest.nodes();
            self.grow_node(rows, Some(histogram), 0);
            if self.forest.nodes() == before + 1 {
                break;
            }
        }
    }

    /// The first and second derivative of the loss by each row's log-odds.
    fn find_slopes(&mut self) {
        let mut start = 0;
        for length in &self.lists.lengths {
            let rows = start..start + length;
            start = rows.end;
            let odds = &self.odds[rows.clone()];
            let largest = odds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = odds.iter().map(|odd| (odd - largest).exp()).sum();
            for row in rows {
                let probability = (self.odds[row] - largest).exp() / total;
                self.slopes[row] = (
                    probability - self.lists.targets[row],
                    probability * (1.0 - probability),
                );
            }
        }
    }

    fn histogram(&self, rows: &[u32]) -> Histogram {
        self.bins.histogram(&self.table, rows, &self.slopes)
    }

    /// Appends the node of some rows and all below it; the recursion is `depth` deep. At the greatest depth there is no histogram.
    fn grow_node(&mut self, rows: Rows, histogram: Option<Histogram>, depth: usize) -> usize {
        let mut all = Sums::default();
        let slopes = rows.learnt.iter().map(|row| self.slopes[*row as usize]);
        slopes.for_each(|slope| all.add(slope));
        let best = histogram
            .as_ref()
            .and_then(|histogram| self.best_split(histogram, all));
        let (Some(split), Some(histogram)) = (best, histogram) else {
            return self.push_leaf(&rows, all);
        };
        let place = self.forest.push(Node::split(
            self.bins.place(split.column) as u16,
            self.bins.edge(split.column, split.bin),
            split.missing_left,
        ));
        let goes_left = |row: &u32| split.goes_left(&self.table, *row);
        let (left, right) = rows.learnt.into_iter().partition(goes_left);
        let goes_left = |row: &u32| split.goes_left(&self.watched.table, *row);
        let (watched_left, watched_right) = rows.watched.into_iter().partition(goes_left);
        let [left, right] = [(left, watched_left), (right, watched_right)]
            .map(|(learnt, watched)| Rows { learnt, watched });
        let (of_left, of_right) = match depth + 1 < self.parameters.depth {
            true => {
                let (of_left, of_right) = self.halves(histogram, &left.learnt, &right.learnt);
                (Some(of_left), Some(of_right))
            }
            false => (None, None),
        };
        self.grow_node(left, of_left, depth + 1);
        let right = self.grow_node(right, of_right, depth + 1);
        self.forest.set_right(place, right);
        place
    }

    /// The histograms of two halves: the rows of the smaller are summed, those of the other are the rest.
    fn halves(&self, all: Histogram, left: &[u32], right: &[u32]) -> (Histogram, Histogram) {
        if left.len() <= right.len() {
            let left = self.histogram(left);
            let right = all.without(&left);
            (left, right)
        } else {
            let right = self.histogram(right);
            let left = all.without(&right);
            (left, right)
        }
    }

    fn push_leaf(&mut self, rows: &Rows, all: Sums) -> usize {
        let ListTrees {
            learning_rate,
            ridge,
            ..
        } = *self.parameters;
        let value = -learning_rate * all.slope / (all.curvature + ridge);
        for row in &rows.learnt {
            self.odds[*row as usize] += value;
        }
        for row in &rows.watched {
            self.watched.odds[*row as usize] += value;
        }
        self.forest.push(Node::leaf(value))
    }

    fn best_split(&self, histogram: &Histogram, all: Sums) -> Option<Split> {
        let splits = self.bins.each(histogram, |column, missing, bins| {
            best_of_column(self.parameters, column, (missing, bins), all)
        });
        let found = splits.into_iter().flatten();
        // of equal ones the first column
        found.reduce(|best, other| if other.gain > best.gain { other } else { best })
    }
}

fn best_of_column(
    parameters: &ListTrees,
    column: usize,
    (missing, bins): (Sums, &[Sums]),
    all: Sums,
) -> Option<Split> {
    let ListTrees {
        ridge,
        curvature_min,
        ..
    } = *parameters;
    // what a subtraction leaves of nothing is not quite nothing
    let some_missing = missing.curvature > 1e-9 * all.curvature;
    let sides: &[bool] = if some_missing {
        &[true, false]
    } else {
        &[false]
    };
    let mut best: Option<Split> = None;
    let mut left = Sums::default();
    for (place, bin) in bins.iter().enumerate().take(bins.len() - 1) {
        left = left.plus(*bin);
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
                    missing_left,
                });
            }
        }
    }
    best
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
            width: 3,
            ..Lists::default()
        };
        for list in 0..count {
            let hidden: Vec<f64> = (0..10)
                .map(|row| ((list * 37 + row * 61) % 101) as f64)
                .collect();
            let most = hidden.iter().copied().fold(0.0, f64::max);
            for (row, value) in hidden.iter().enumerate() {
                let shown = if list % 2 == 0 { f64::NAN } else { *value };
                let noise = ((list * 13 + row * 7) % 11) as f64;
                lists.rows.extend([*value, noise, shown]);
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
            let score = |row: usize| forest.raw(&lists.rows[row * 3..row * 3 + 3]);
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
        lists.rows.fill(1.0);
        let forest = ListTrees::default().fit(&lists, 40);
        assert_eq!((forest.trees(), forest.nodes()), (1, 1));
        assert_eq!(
            ListTrees::default().fit(&Lists::default(), 40).raw(&[]),
            0.0
        );
    }
}
