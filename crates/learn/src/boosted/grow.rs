//! Growing trees with the `perpetual` library, and reading what it grew.

use std::collections::HashSet;

use perpetual::objective::Objective;
use perpetual::tree::core::Tree;
use perpetual::{Matrix, PerpetualBooster};

use super::Boosted;
use super::forest::{Forest, Node, NodeKind};
use crate::LearnError;

/// Encoded training rows, by column.
pub(crate) struct Grown<'a> {
    pub(crate) columns: &'a [Vec<f64>],
    /// Which of the columns hold codes.
    pub(crate) is_category: &'a [bool],
    pub(crate) weights: &'a [f64],
}

/// Fewer rows than this say nothing that trees could generalise: the base score alone is the answer.
const ROWS_MIN: usize = 20;

/// The library's histogram holds 84 bytes per bin (`perpetual::bin::Bin`, padded), and it divides the memory that
/// it may use by 0.9 · 0.7; it sets aside 1,000 trees of 256 nodes of about 200 bytes.
const BIN_BYTES: f64 = 88.0;
const ENSEMBLE_BYTES: f64 = 1_000.0 * 256.0 * 300.0;

impl Grown<'_> {
    fn rows(&self) -> usize {
        self.weights.len()
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
        if self.rows() < ROWS_MIN || used.is_empty() || targets.iter().all(|target| *target == first) {
            return Ok(Forest::new(base));
        }
        let booster = self.train(parameters, objective, targets, base, seed, &used)?;
        let features =
            Features { codes: used.iter().map(|&column| self.codes(column)).collect(), columns: used };
        let mut forest = read(&booster, &features)?;
        forest.count_covers(self.rows(), self.weights, |row, encoded| {
            encoded.extend(self.columns.iter().map(|column| column[row]));
        });
        Ok(forest)
    }

    pub(crate) fn train(
        &self,
        parameters: &Boosted,
        objective: Objective,
        targets: &[f64],
        base: f64,
        seed: u64,
        used: &[usize],
    ) -> Result<PerpetualBooster, LearnError> {
        let mut data = Vec::with_capacity(used.len() * self.rows());
        for &column in used {
            match self.codes(column) {
                None => data.extend_from_slice(&self.columns[column]),
                Some(codes) => data.extend(self.columns[column].iter().map(|code| dense(&codes, *code))),
            }
        }
        let matrix = Matrix::new(&data, self.rows(), used.len());
        let categories: HashSet<usize> =
            (0..used.len()).filter(|&place| self.is_category[used[place]]).collect();

        let mut booster = PerpetualBooster { base_score: base, ..PerpetualBooster::default() };
        booster.cfg.objective = objective;
        booster.cfg.budget = parameters.budget;
        booster.cfg.max_bin = parameters.bins;
        booster.cfg.num_threads = Some(parameters.threads.max(1));
        booster.cfg.seed = seed;
        booster.cfg.categorical_features = (!categories.is_empty()).then_some(categories);
        booster.cfg.iteration_limit = Some(parameters.trees_max);
        booster.cfg.timeout = parameters.seconds_max;
        booster.cfg.memory_limit = Some(self.memory_gigabytes(parameters, used));
        // The library's class weights raise the probabilities of the rare class: ours must be believable.
        booster.cfg.auto_class_weights = false;
        let plain = self.weights.iter().all(|weight| *weight == 1.0);
        let weights = if plain { None } else { Some(self.weights) };
        booster.fit(&matrix, targets, weights, None).map_err(|error| LearnError::Boosting(error.to_string()))?;
        // A small linear correction that the library adds to some small regressions: the answer would no longer be
        // a sum of trees.
        booster.regression_head = None;
        Ok(booster)
    }

    /// The codes that occur in a column of categories, rising; `None` for numbers.
    pub(crate) fn codes(&self, column: usize) -> Option<Vec<u32>> {
        if !self.is_category[column] {
            return None;
        }
        let mut codes: Vec<u32> =
            self.columns[column].iter().filter(|code| !code.is_nan()).map(|code| *code as u32).collect();
        codes.sort_unstable();
        codes.dedup();
        Some(codes)
    }

    /// Columns with at least two different values, where missing counts as one.
    pub(crate) fn varying_columns(&self) -> Vec<usize> {
        let varies = |column: &Vec<f64>| {
            let Some(first) = column.first() else { return false };
            column.iter().any(|value| value.is_nan() != first.is_nan() || (!first.is_nan() && value != first))
        };
        (0..self.columns.len()).filter(|&column| varies(&self.columns[column])).collect()
    }

    /// The library sizes its trees by the memory that it may use, and without a limit takes most of the machine's
    /// and grows other trees on another machine. The limit is therefore what `nodes_max` nodes per tree take, at
    /// most `memory_mb_max`.
    fn memory_gigabytes(&self, parameters: &Boosted, used: &[usize]) -> f32 {
        let bins: f64 = used
            .iter()
            .map(|&column| {
                let codes = self.columns[column].iter().copied().filter(|value| !value.is_nan()).fold(0.0, f64::max);
                if self.is_category[column] { codes + 3.0 } else { f64::from(parameters.bins) + 2.0 }
            })
            .sum();
        let histogram = bins * BIN_BYTES + used.len() as f64 * 128.0;
        let rows = self.rows() as f64 * (used.len() as f64 * 2.0 + 20.0);
        let needed = (parameters.nodes_max as f64 * histogram / 0.7 + rows + ENSEMBLE_BYTES) / 0.9;
        (needed.min(parameters.memory_mb_max as f64 * 1e6) / 1e9) as f32
    }
}

/// A code as the library has to see it: those that occur are numbered from 1 without gaps. While growing, the library
/// tests a set of categories by histogram bin, and when predicting by value (`utils::missing_compare` and
/// `Node::get_child_idx` of 3.0.0-rc.2); only with this numbering are the two the same.
fn dense(codes: &[u32], code: f64) -> f64 {
    if code.is_nan() { f64::NAN } else { codes.partition_point(|known| f64::from(*known) < code) as f64 + 1.0 }
}

/// What is behind the library's features.
pub(crate) struct Features {
    /// The column of each feature.
    pub(crate) columns: Vec<usize>,
    /// The codes of each feature that holds categories: its dense code d stands for the d-th of them, from 1.
    pub(crate) codes: Vec<Option<Vec<u32>>>,
}

/// Reads trees into our form.
pub(crate) fn read(booster: &PerpetualBooster, features: &Features) -> Result<Forest, LearnError> {
    let mut forest = Forest::new(booster.base_score);
    for tree in &booster.trees {
        forest.start_tree();
        read_node(&mut forest, tree, 0, features)?;
    }
    Ok(forest)
}

/// Appends a node and all below it. Recursion is as deep as the tree, which has at most `nodes_max` nodes and is
/// grown best-first, so it stays shallow.
fn read_node(
    forest: &mut Forest,
    tree: &Tree,
    number: usize,
    features: &Features,
) -> Result<usize, LearnError> {
    let unreadable = |what: String| LearnError::Boosting(format!("read a tree: {what}"));
    let node = tree.nodes.get(&number).ok_or_else(|| unreadable(format!("node {number} is missing")))?;
    if node.is_leaf {
        let value = f64::from(node.weight_value);
        if !value.is_finite() {
            return Err(unreadable(format!("leaf {number} has the value {value}")));
        }
        return Ok(forest.push(Node { value, right: 0, feature: 0, kind: NodeKind::Leaf, missing_left: false }));
    }
    let missing_left = node.missing_node == node.left_child;
    if !missing_left && node.missing_node != node.right_child {
        return Err(unreadable(format!("node {number} has a third child for missing values")));
    }
    let feature = features
        .columns
        .get(node.split_feature)
        .and_then(|&column| u16::try_from(column).ok())
        .ok_or_else(|| unreadable(format!("feature {} is not among the first 65,536", node.split_feature)))?;
    let (kind, value) = match &node.left_cats {
        Some(bytes) => {
            let codes = features.codes[node.split_feature]
                .as_ref()
                .ok_or_else(|| unreadable(format!("node {number} splits numbers by category")))?;
            (NodeKind::Category, forest.push_left_codes(left_codes(bytes, codes)) as f64)
        }
        None => (NodeKind::Number, node.split_value),
    };
    let place = forest.push(Node { value, right: 0, feature, kind, missing_left });
    read_node(forest, tree, node.left_child, features)?;
    let right = read_node(forest, tree, node.right_child, features)?;
    forest.set_right(place, right);
    Ok(place)
}

/// The library's bit set of dense codes, 8 a byte, as a set of our codes in words of 64.
fn left_codes(bytes: &[u8], codes: &[u32]) -> Box<[u64]> {
    let is_left = |dense: usize| bytes.get(dense / 8).is_some_and(|byte| byte >> (dense % 8) & 1 == 1);
    let left: Vec<u32> = (1..).zip(codes).filter(|(dense, _)| is_left(*dense)).map(|(_, code)| *code).collect();
    super::forest::words_of(&left)
}
