//! Trained trees in the form in which they are stored and evaluated.

use serde::{Deserialize, Serialize};

/// A sum of decision trees over encoded rows (NaN is missing), plus a base score.
///
/// A tree is a run of nodes in preorder: the left child of a split is the next node, so a node fits into 16
/// bytes and a walk mostly moves forward in memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "StoredForest", into = "StoredForest")]
pub struct Forest {
    base: f64,
    roots: Vec<u32>,
    nodes: Vec<Node>,
    /// How much training weight passed through each node: what TreeSHAP takes for "feature unknown".
    covers: Vec<f64>,
    /// The base and each tree's mean over its covers.
    expected: f64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Node {
    /// Leaf: what the tree adds. Split: what is smaller goes left.
    pub(crate) value: f64,
    /// The place of the right child; 0 in a leaf.
    pub(crate) right: u32,
    pub(crate) feature: u16,
    pub(crate) is_leaf: bool,
    /// Split: whether what is missing goes left.
    pub(crate) missing_left: bool,
}

impl Node {
    pub(crate) fn leaf(value: f64) -> Self {
        Self {
            value,
            right: 0,
            feature: 0,
            is_leaf: true,
            missing_left: false,
        }
    }

    /// A split whose right child is not known yet.
    pub(crate) fn split(feature: u16, value: f64, missing_left: bool) -> Self {
        Self {
            value,
            right: 0,
            feature,
            is_leaf: false,
            missing_left,
        }
    }

    /// Whether an encoded row goes to the left child of a split.
    pub(crate) fn goes_left(&self, row: &[f64]) -> bool {
        let value = row[usize::from(self.feature)];
        if value.is_nan() {
            self.missing_left
        } else {
            value < self.value
        }
    }
}

impl Forest {
    /// A forest without trees, which answers `base`.
    pub(crate) fn new(base: f64) -> Self {
        Self {
            base,
            roots: Vec::new(),
            nodes: Vec::new(),
            covers: Vec::new(),
            expected: base,
        }
    }

    /// The number of trees.
    pub fn trees(&self) -> usize {
        self.roots.len()
    }

    /// The number of nodes over all trees, leaves included.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The feature of each split.
    pub(crate) fn split_features(&self) -> impl Iterator<Item = usize> {
        let splits = self.nodes.iter().filter(|node| !node.is_leaf);
        splits.map(|node| usize::from(node.feature))
    }

    /// The mean raw score over the training rows: what SHAP contributions start from.
    pub fn expected(&self) -> f64 {
        self.expected
    }

    /// The raw score of an encoded row.
    pub fn raw(&self, row: &[f64]) -> f64 {
        self.roots.iter().fold(self.base, |raw, &root| {
            raw + self.nodes[self.leaf(root, row)].value
        })
    }

    /// The raw score of an encoded row after each tree, the base alone first.
    pub(crate) fn raw_by_trees(&self, row: &[f64]) -> impl Iterator<Item = f64> {
        let trees = self.roots.iter().scan(self.base, move |raw, &root| {
            *raw += self.nodes[self.leaf(root, row)].value;
            Some(*raw)
        });
        std::iter::once(self.base).chain(trees)
    }

    pub(crate) fn roots(&self) -> &[u32] {
        &self.roots
    }

    pub(crate) fn node(&self, place: usize) -> &Node {
        &self.nodes[place]
    }

    pub(crate) fn cover(&self, place: usize) -> f64 {
        self.covers[place]
    }

    /// The leaf that an encoded row falls into.
    fn leaf(&self, root: u32, row: &[f64]) -> usize {
        let mut place = root as usize;
        loop {
            let node = &self.nodes[place];
            if node.is_leaf {
                return place;
            }
            place = if node.goes_left(row) {
                place + 1
            } else {
                node.right as usize
            };
        }
    }

    /// Starts a new tree at the next node.
    pub(crate) fn start_tree(&mut self) {
        self.roots.push(self.nodes.len() as u32);
    }

    /// Appends a node and returns its place.
    pub(crate) fn push(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Tells a split where its right child is.
    pub(crate) fn set_right(&mut self, place: usize, right: usize) {
        self.nodes[place].right = right as u32;
    }

    /// Counts the training weight that passes through each node. `rows` yields encoded rows.
    pub(crate) fn count_covers(
        &mut self,
        rows: usize,
        weights: &[f64],
        encoded: impl Fn(usize, &mut Vec<f64>),
    ) {
        let mean_weight = weights.iter().sum::<f64>() / rows as f64;
        // A leaf that only rows of weight zero reached keeps a trace, so that no branch has probability zero:
        // TreeSHAP divides by it.
        self.covers = self
            .nodes
            .iter()
            .map(|node| {
                if node.is_leaf {
                    1e-3 * mean_weight
                } else {
                    0.0
                }
            })
            .collect();
        let mut row = Vec::new();
        for (index, &weight) in weights.iter().enumerate().take(rows) {
            row.clear();
            encoded(index, &mut row);
            for tree in 0..self.roots.len() {
                let leaf = self.leaf(self.roots[tree], &row);
                self.covers[leaf] += weight;
            }
        }
        // Children stand behind their parents.
        for place in (0..self.nodes.len()).rev() {
            if !self.nodes[place].is_leaf {
                self.covers[place] =
                    self.covers[place + 1] + self.covers[self.nodes[place].right as usize];
            }
        }
        self.expected = self.base + self.mean_over_covers();
    }

    fn mean_over_covers(&self) -> f64 {
        let mut means: Vec<f64> = vec![0.0; self.nodes.len()];
        for place in (0..self.nodes.len()).rev() {
            let node = &self.nodes[place];
            means[place] = if node.is_leaf {
                node.value
            } else {
                let right = node.right as usize;
                (means[place + 1] * self.covers[place + 1] + means[right] * self.covers[right])
                    / self.covers[place]
            };
        }
        self.roots.iter().map(|&root| means[root as usize]).sum()
    }
}

/// The stored form: one list per property, and a letter per node: `v` is a leaf (a value); at `l` and `r` rows without
/// the feature go left and right.
#[derive(Serialize, Deserialize)]
struct StoredForest {
    base: f64,
    roots: Vec<u32>,
    kinds: String,
    features: Vec<u16>,
    values: Vec<f64>,
    rights: Vec<u32>,
    covers: Vec<f64>,
}

impl From<Forest> for StoredForest {
    fn from(forest: Forest) -> Self {
        let kind = |node: &Node| match (node.is_leaf, node.missing_left) {
            (true, _) => 'v',
            (false, true) => 'l',
            (false, false) => 'r',
        };
        Self {
            base: forest.base,
            roots: forest.roots,
            kinds: forest.nodes.iter().map(kind).collect(),
            features: forest.nodes.iter().map(|node| node.feature).collect(),
            values: forest.nodes.iter().map(|node| node.value).collect(),
            rights: forest.nodes.iter().map(|node| node.right).collect(),
            covers: forest.covers,
        }
    }
}

impl TryFrom<StoredForest> for Forest {
    type Error = String;

    /// Checks all that evaluation relies on, so that a damaged artifact is refused instead of looping or reading
    /// out of bounds: each tree is a complete preorder run, and every place exists.
    fn try_from(stored: StoredForest) -> Result<Self, String> {
        let count = stored.kinds.len();
        let lengths = [
            stored.features.len(),
            stored.values.len(),
            stored.rights.len(),
            stored.covers.len(),
        ];
        if lengths.iter().any(|length| *length != count) {
            return Err(format!(
                "read a forest of {count} nodes: its lists have {lengths:?} entries"
            ));
        }
        let mut nodes = Vec::with_capacity(count);
        for (place, letter) in stored.kinds.chars().enumerate() {
            if !matches!(letter, 'v' | 'l' | 'r') {
                return Err(format!(
                    "read node {place} of a forest: unknown kind '{letter}'"
                ));
            }
            nodes.push(Node {
                value: stored.values[place],
                right: stored.rights[place],
                feature: stored.features[place],
                is_leaf: letter == 'v',
                missing_left: letter == 'l',
            });
        }
        check_runs(&nodes, &stored.roots)?;
        let mut forest = Self {
            base: stored.base,
            roots: stored.roots,
            nodes,
            covers: stored.covers,
            expected: stored.base,
        };
        forest.expected += forest.mean_over_covers();
        Ok(forest)
    }
}

/// Walks every tree in preorder and checks that nodes, roots and right children stand where a walk finds them.
fn check_runs(nodes: &[Node], roots: &[u32]) -> Result<(), String> {
    let mut place = 0;
    for &root in roots {
        if root as usize != place {
            return Err(format!(
                "read a forest: a tree starts at node {root}, not at {place}"
            ));
        }
        // Places where a right child has to start.
        let mut pending = Vec::new();
        loop {
            let node = nodes
                .get(place)
                .ok_or_else(|| format!("read a forest: node {place} is missing"))?;
            place += 1;
            if !node.is_leaf {
                pending.push(node.right);
                continue;
            }
            match pending.pop() {
                None => break,
                Some(right) if right as usize == place => {}
                Some(right) => {
                    return Err(format!(
                        "read a forest: a right child is at {right}, not at {place}"
                    ));
                }
            }
        }
    }
    if place == nodes.len() {
        Ok(())
    } else {
        Err(format!(
            "read a forest: nodes from {place} on belong to no tree"
        ))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// `x0 < 2 ? (x1 < 5 ? 10 : 20) : 30`, missing x0 goes right, missing x1 goes left.
    pub(crate) fn small() -> Forest {
        let mut forest = Forest::new(0.5);
        forest.start_tree();
        let root = forest.push(Node::split(0, 2.0, false));
        let split = forest.push(Node::split(1, 5.0, true));
        forest.push(Node::leaf(10.0));
        let right = forest.push(Node::leaf(20.0));
        forest.set_right(split, right);
        let right = forest.push(Node::leaf(30.0));
        forest.set_right(root, right);
        let rows = [[1.0, 1.0], [1.0, 6.0], [1.0, 7.0], [5.0, 1.0]];
        forest.count_covers(4, &[1.0; 4], |row, out| out.extend(rows[row]));
        forest
    }

    fn check(row: [f64; 2], expected: f64) {
        assert_eq!(small().raw(&row), expected + 0.5, "{row:?}");
    }

    #[test]
    fn rows_fall_into_their_leaves() {
        check([1.0, 1.0], 10.0);
        check([1.0, 5.0], 20.0);
        check([1.0, 5000.0], 20.0);
        check([1.0, f64::NAN], 10.0);
        check([2.0, 1.0], 30.0);
        check([f64::NAN, 1.0], 30.0);
    }

    #[test]
    fn the_expected_score_is_the_mean_over_training_rows() {
        assert!((small().expected() - (0.5 + 80.0 / 4.0)).abs() < 0.02);
    }

    #[test]
    fn it_is_stored_and_read_back() {
        let stored = serde_json::to_string(&small()).unwrap();
        let loaded: Forest = serde_json::from_str(&stored).unwrap();
        assert_eq!(loaded, small());
        assert_eq!(serde_json::to_string(&loaded).unwrap(), stored);
    }

    #[test]
    fn a_damaged_forest_is_refused() {
        let stored = serde_json::to_string(&small()).unwrap();
        for (from, to) in [
            ("\"roots\":[0]", "\"roots\":[1]"),
            ("\"rights\":[4,", "\"rights\":[0,"),
            ("\"kinds\":\"rlv", "\"kinds\":\"vlv"),
            ("\"kinds\":\"rlv", "\"kinds\":\"rlx"),
            ("\"features\":[0,", "\"features\":["),
        ] {
            assert!(stored.contains(from), "{stored}");
            assert!(
                serde_json::from_str::<Forest>(&stored.replace(from, to)).is_err(),
                "{from} → {to}"
            );
        }
    }
}
