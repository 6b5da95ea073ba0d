//! Growing trees with the `perpetual` library, and reading what it grew.

use perpetual::bin::Bin;
use perpetual::binning::bin_matrix;
use perpetual::histogram::{FeatureHistogram, NodeHistogram};
use perpetual::objective::Objective;
use perpetual::tree::core::Tree;
use perpetual::{Matrix, PerpetualBooster};

use super::Boosted;
use super::forest::{Forest, Node};
use crate::LearnError;

/// Fewer rows than this say nothing that trees could generalise: the base score alone is the answer.
const ROWS_MIN: usize = 20;

/// Fewer rows than this are too few to tell how many trees help.
const MEASURED_ROWS_MIN: usize = 200;
/// The share of the rows, the newest, on which it is measured how many trees help.
const MEASURED_SHARE: f64 = 0.25;

/// Where at least this share of the first trees helps, the library stops by itself.
const NEARLY_ALL: f64 = 0.9;

/// Encoded training rows, in the order of their moments, by column.
pub(crate) struct Encoded<'a> {
    pub(crate) columns: &'a [Vec<f64>],
    pub(crate) weights: &'a [f64],
}

impl Encoded<'_> {
    fn rows(&self) -> usize {
        self.weights.len()
    }

    /// As [`Self::grow`], with as many trees as were best for the newest quarter of the rows when the others were grown on. The library stops by
    /// itself, but by what its own rows say: where people come again and the world moves on, that is several times too late. Where nearly all of its trees were of use
    /// it decides.
    pub(crate) fn grow_while_it_helps(
        &self,
        parameters: &Boosted,
        objective: &Objective,
        targets: &[f64],
        base: f64,
        seed: u64,
    ) -> Result<Forest, LearnError> {
        if self.rows() < MEASURED_ROWS_MIN {
            return self.grow(parameters, objective.clone(), targets, base, seed);
        }
        let older = self.rows() - (self.rows() as f64 * MEASURED_SHARE) as usize;
        let columns: Vec<Vec<f64>> = self.columns.iter().map(|of| of[..older].to_vec()).collect();
        let first = Encoded {
            columns: &columns,
            weights: &self.weights[..older],
        };
        let tried = first.grow(parameters, objective.clone(), &targets[..older], base, seed)?;
        let mut losses = vec![0.0; tried.trees() + 1];
        let mut row = Vec::with_capacity(self.columns.len());
        for newer in older..self.rows() {
            row.clear();
            row.extend(self.columns.iter().map(|column| column[newer]));
            for (sum, raw) in losses.iter_mut().zip(tried.raw_by_trees(&row)) {
                *sum += self.weights[newer] * loss(objective, raw, targets[newer]);
            }
        }
        let least = losses
            .iter()
            .enumerate()
            .min_by(|one, other| one.1.total_cmp(other.1));
        match least.map_or(0, |(trees, _)| trees) {
            0 => Ok(Forest::new(base)),
            // nearly all of them: it does not stop too late here
            trees if trees as f64 >= NEARLY_ALL * tried.trees() as f64 => {
                self.grow(parameters, objective.clone(), targets, base, seed)
            }
            trees_max => {
                let parameters = Boosted {
                    trees_max,
                    ..parameters.clone()
                };
                self.grow(&parameters, objective.clone(), targets, base, seed)
            }
        }
    }

    /// A forest that minimises `objective`, starting from `base`.
    pub(crate) fn grow(
        &self,
        parameters: &Boosted,
        objective: Objective,
        targets: &[f64],
        base: f64,
        seed: u64,
    ) -> Result<Forest, LearnError> {
        let used = self.varying_columns();
        let first = targets.first().copied().unwrap_or_default();
        if self.rows() < ROWS_MIN
            || used.is_empty()
            || targets.iter().all(|target| *target == first)
        {
            return Ok(Forest::new(base));
        }
        let data = self.gathered(&used);
        let matrix = Matrix::new(&data, self.rows(), used.len());
        let booster = self.train(parameters, objective, targets, base, seed, &matrix)?;
        let mut forest = read(&booster, &used)?;
        forest.count_covers(self.rows(), self.weights, |row, encoded| {
            encoded.extend(self.columns.iter().map(|column| column[row]));
        });
        Ok(forest)
    }

    fn train(
        &self,
        parameters: &Boosted,
        objective: Objective,
        targets: &[f64],
        base: f64,
        seed: u64,
        matrix: &Matrix<'_, f64>,
    ) -> Result<PerpetualBooster, LearnError> {
        let plain = self.weights.iter().all(|weight| *weight == 1.0);
        let weights = if plain { None } else { Some(self.weights) };
        let mut booster = PerpetualBooster {
            base_score: base,
            ..PerpetualBooster::default()
        };
        booster.cfg.objective = objective;
        booster.cfg.budget = parameters.budget;
        booster.cfg.max_bin = parameters.bins;
        booster.cfg.num_threads = Some(parameters.threads.max(1));
        booster.cfg.seed = seed;
        booster.cfg.iteration_limit = Some(parameters.trees_max);
        booster.cfg.timeout = parameters.seconds_max;
        booster.cfg.memory_limit = Some(memory_gigabytes(parameters, weights, matrix)?);
        // The library's class weights raise the probabilities of the rare class: ours must be believable.
        booster.cfg.auto_class_weights = false;
        booster
            .fit(matrix, targets, weights, None)
            .map_err(|error| LearnError::Boosting(error.to_string()))?;
        // A small linear correction that the library adds to some small regressions: the answer would no longer be
        // a sum of trees.
        booster.regression_head = None;
        Ok(booster)
    }

    /// Columns with at least two different values, where missing counts as one.
    fn varying_columns(&self) -> Vec<usize> {
        let varies = |column: &Vec<f64>| {
            let Some(first) = column.first() else {
                return false;
            };
            column.iter().any(|value| {
                value.is_nan() != first.is_nan() || (!first.is_nan() && value != first)
            })
        };
        (0..self.columns.len())
            .filter(|&column| varies(&self.columns[column]))
            .collect()
    }

    fn gathered(&self, used: &[usize]) -> Vec<f64> {
        used.iter()
            .flat_map(|&column| self.columns[column].iter().copied())
            .collect()
    }
}

/// What a raw score costs, up to what only depends on the target: log-loss of log-odds, half the deviance of a Tweedie variable of power 1.5 with
/// this logarithm of its mean, or the square of the error.
fn loss(objective: &Objective, raw: f64, target: f64) -> f64 {
    match objective {
        Objective::LogLoss => raw.max(0.0) + (-raw.abs()).exp().ln_1p() - target * raw,
        Objective::TweedieLoss { .. } => {
            2.0 * target * (-raw / 2.0).exp() + 2.0 * (raw / 2.0).exp()
        }
        _ => (raw - target).powi(2),
    }
}

/// The library has no limit for the size of a tree but one for memory, from which it derives how many nodes a tree may
/// have; without it, it takes most of the machine's memory and grows other trees on another machine. This is its own
/// calculation (`PerpetualBooster::fit_trees` of 3.0.0-rc.2) the other way round: the limit that gives trees of
/// `nodes_max` nodes, at most `memory_mb_max`.
fn memory_gigabytes(
    parameters: &Boosted,
    weights: Option<&[f64]>,
    matrix: &Matrix<'_, f64>,
) -> Result<f32, LearnError> {
    let bins = bin_matrix(matrix, weights, parameters.bins, f64::NAN, None)
        .map_err(|error| LearnError::Boosting(error.to_string()))?;
    let bytes = |count: usize, size: usize| (count * size) as f64;
    let histogram = bytes(bins.nunique.iter().sum(), size_of::<Bin>())
        + bytes(matrix.cols, size_of::<FeatureHistogram>())
        + bytes(1, size_of::<NodeHistogram>());
    let data = bytes(matrix.rows, 2 * matrix.cols + 20);
    let trees = bytes(parameters.trees_max.min(4_000), 256)
        * size_of::<perpetual::node::Node>() as f64
        * 1.3;
    let needed = (parameters.nodes_max as f64 * histogram / 0.7 + data + trees) / 0.9;
    Ok((needed.min(parameters.memory_mb_max as f64 * 1e6) / 1e9) as f32)
}

/// Reads trees into our form; `used[i]` is the column behind the library's feature i.
fn read(booster: &PerpetualBooster, used: &[usize]) -> Result<Forest, LearnError> {
    let mut forest = Forest::new(booster.base_score);
    for tree in &booster.trees {
        forest.start_tree();
        read_node(&mut forest, tree, 0, used)?;
    }
    Ok(forest)
}

/// Appends a node and all below it, and returns its place. The recursion is as deep as the tree, which has at most
/// `nodes_max` nodes.
fn read_node(
    forest: &mut Forest,
    tree: &Tree,
    number: usize,
    used: &[usize],
) -> Result<usize, LearnError> {
    let unreadable = |what: String| LearnError::Boosting(format!("read a tree: {what}"));
    let node = tree
        .nodes
        .get(&number)
        .ok_or_else(|| unreadable(format!("node {number} is missing")))?;
    if node.is_leaf {
        let value = f64::from(node.weight_value);
        if !value.is_finite() {
            return Err(unreadable(format!("leaf {number} has the value {value}")));
        }
        return Ok(forest.push(Node::leaf(value)));
    }
    let missing_left = node.missing_node == node.left_child;
    if node.left_cats.is_some() || (!missing_left && node.missing_node != node.right_child) {
        return Err(unreadable(format!(
            "node {number} is not a split of numbers in two"
        )));
    }
    let feature = used
        .get(node.split_feature)
        .and_then(|&column| u16::try_from(column).ok())
        .ok_or_else(|| {
            unreadable(format!(
                "feature {} is not among the first 65,536",
                node.split_feature
            ))
        })?;
    let place = forest.push(Node::split(feature, node.split_value, missing_left));
    read_node(forest, tree, node.left_child, used)?;
    let right = read_node(forest, tree, node.right_child, used)?;
    forest.set_right(place, right);
    Ok(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Columns with missing values, many and few distinct ones, and one that is constant.
    fn columns(rows: usize) -> Vec<Vec<f64>> {
        let column = |f: &dyn Fn(usize) -> f64| (0..rows).map(f).collect();
        vec![
            column(&|row| {
                if row % 11 == 0 {
                    f64::NAN
                } else {
                    (row * 7_919 % 1_000) as f64 / 10.0
                }
            }),
            column(&|_| 3.0),
            column(&|row| (row * 31 % 7) as f64),
            column(&|row| {
                if row % 3 == 0 {
                    f64::NAN
                } else {
                    (row * 17 % 5) as f64
                }
            }),
        ]
    }

    fn check(objective: Objective, base: f64, target: impl Fn(f64) -> f64, weighted: bool) {
        let columns = columns(1_500);
        let signal = |row: usize| {
            columns[2][row] + columns[0][row].max(20.0).ln() + f64::from(columns[3][row].is_nan())
        };
        let targets: Vec<f64> = (0..1_500)
            .map(|row| target(signal(row) + (row * 13 % 10) as f64 / 10.0))
            .collect();
        let weights: Vec<f64> = (0..1_500)
            .map(|row| {
                if weighted {
                    1.0 + (row % 2) as f64
                } else {
                    1.0
                }
            })
            .collect();
        let encoded = Encoded {
            columns: &columns,
            weights: &weights,
        };
        let parameters = Boosted::default();

        let used = encoded.varying_columns();
        assert_eq!(used, [0, 2, 3]);
        let data = encoded.gathered(&used);
        let matrix = Matrix::new(&data, 1_500, used.len());
        let booster = encoded
            .train(&parameters, objective.clone(), &targets, base, 3, &matrix)
            .unwrap();
        let expected = booster.predict(&matrix, false);
        let forest = encoded
            .grow(&parameters, objective.clone(), &targets, base, 3)
            .unwrap();
        assert!(forest.trees() > 3, "{} trees", forest.trees());
        for (row, expected) in expected.iter().enumerate() {
            let encoded: Vec<f64> = columns.iter().map(|column| column[row]).collect();
            assert_eq!(
                forest.raw(&encoded).to_bits(),
                expected.to_bits(),
                "row {row}"
            );
        }
        for tree in &booster.trees {
            assert!(
                tree.nodes.len() <= parameters.nodes_max + 2,
                "{} nodes",
                tree.nodes.len()
            );
        }
        let two = Boosted {
            threads: 2,
            ..parameters
        };
        assert_eq!(
            encoded.grow(&two, objective, &targets, base, 3).unwrap(),
            forest
        );
    }

    /// What was so in the older rows and is not any more is not learnt beyond what helps.
    #[test]
    fn trees_that_no_longer_help_are_not_grown() {
        let columns = columns(2_000);
        let weights = vec![1.0; 2_000];
        let encoded = Encoded {
            columns: &columns,
            weights: &weights,
        };
        let target = |row: usize, turns: bool| {
            let high = columns[2][row] > 3.0;
            f64::from(u8::from(high != (turns && row >= 1_500)))
        };
        let trees = |turns: bool| {
            let targets: Vec<f64> = (0..2_000).map(|row| target(row, turns)).collect();
            let parameters = Boosted::default();
            let grown =
                encoded.grow_while_it_helps(&parameters, &Objective::LogLoss, &targets, 0.0, 3);
            grown.unwrap().trees()
        };
        assert!(trees(false) > 3, "{}", trees(false));
        assert_eq!(trees(true), 0);
    }

    #[test]
    fn losses_are_least_where_the_mean_is() {
        for (objective, best) in [
            (Objective::LogLoss, (0.25_f64 / 0.75).ln()),
            (Objective::SquaredLoss, 0.25),
            (Objective::TweedieLoss { p: Some(1.5) }, 0.25_f64.ln()),
        ] {
            let mean =
                |raw: f64| 0.25 * loss(&objective, raw, 1.0) + 0.75 * loss(&objective, raw, 0.0);
            assert!(mean(best) < mean(best + 0.1), "{best}");
            assert!(mean(best) < mean(best - 0.1), "{best}");
        }
    }

    #[test]
    fn our_answers_are_the_librarys_for_classes() {
        let positive = |signal: f64| f64::from(u8::from(signal > 7.0));
        check(Objective::LogLoss, -0.2, positive, false);
        check(Objective::LogLoss, -0.2, positive, true);
    }

    #[test]
    fn our_answers_are_the_librarys_for_values() {
        check(Objective::SquaredLoss, 7.0, |signal| signal, false);
        check(
            Objective::TweedieLoss { p: Some(1.5) },
            1.0,
            |signal| if signal > 6.0 { signal } else { 0.0 },
            true,
        );
    }
}
