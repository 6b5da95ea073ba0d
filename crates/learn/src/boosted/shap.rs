//! Shapley values of a forest: path-dependent TreeSHAP, Lundberg, Erion and Lee, "Consistent individualized
//! feature attribution for tree ensembles" (2018), Algorithm 2: O(trees · leaves · depth²) per row.

use super::forest::{Forest, Node};

/// One feature on the way from the root to a node.
#[derive(Debug, Clone, Copy)]
struct Step {
    /// The feature; `NONE` for the root.
    feature: u32,
    /// The share of paths that flow through when the feature is unknown.
    unknown: f64,
    /// 1 where the row itself takes this way, else 0.
    known: f64,
    /// The weight of the sets of known features of a given size.
    weight: f64,
}

const NONE: u32 = u32::MAX;

/// Adds to `contributions[feature]` what each feature adds to the raw score of an encoded row. Their sum is
/// `forest.raw(row) − forest.expected()`.
pub(crate) fn contributions(forest: &Forest, row: &[f64], contributions: &mut [f64]) {
    let mut walk = Walk {
        forest,
        row,
        contributions,
        path: Vec::new(),
    };
    for &root in forest.roots() {
        walk.path.clear();
        walk.descend(
            root as usize,
            0,
            0,
            Step {
                feature: NONE,
                unknown: 1.0,
                known: 1.0,
                weight: 0.0,
            },
        );
    }
}

struct Walk<'a> {
    forest: &'a Forest,
    row: &'a [f64],
    contributions: &'a mut [f64],
    /// The paths of all nodes between the root and here, one behind the other.
    path: Vec<Step>,
}

impl Walk<'_> {
    /// Visits a node whose parent's path is `path[start..start + length]`.
    fn descend(&mut self, place: usize, start: usize, length: usize, step: Step) {
        let own = self.path.len();
        self.path.extend_from_within(start..start + length);
        extend(&mut self.path, own, step);
        let node: Node = *self.forest.node(place);
        if node.is_leaf {
            self.credit(own, node.value);
        } else {
            self.split(place, own, node);
        }
        self.path.truncate(own);
    }

    fn credit(&mut self, own: usize, value: f64) {
        let path = &self.path[own..];
        for (place, step) in path.iter().enumerate().skip(1) {
            let weight = weight_without(path, place);
            self.contributions[step.feature as usize] +=
                weight * (step.known - step.unknown) * value;
        }
    }

    fn split(&mut self, place: usize, own: usize, node: Node) {
        let (left, right) = (place + 1, node.right as usize);
        let (taken, other) = if node.goes_left(self.row) {
            (left, right)
        } else {
            (right, left)
        };
        let cover = self.forest.cover(place);
        let (mut unknown, mut known) = (1.0, 1.0);
        // The same feature twice on a path counts once: take its first step out and multiply it in again.
        let feature = u32::from(node.feature);
        if let Some(earlier) = self.path[own..]
            .iter()
            .position(|step| step.feature == feature)
        {
            (unknown, known) = (
                self.path[own + earlier].unknown,
                self.path[own + earlier].known,
            );
            remove(&mut self.path, own, earlier);
        }
        let length = self.path.len() - own;
        let share = |child: usize| unknown * self.forest.cover(child) / cover;
        let (to_taken, to_other) = (share(taken), share(other));
        self.descend(
            taken,
            own,
            length,
            Step {
                feature,
                unknown: to_taken,
                known,
                weight: 0.0,
            },
        );
        self.descend(
            other,
            own,
            length,
            Step {
                feature,
                unknown: to_other,
                known: 0.0,
                weight: 0.0,
            },
        );
    }
}

/// EXTEND of Algorithm 2: adds a step to the path that starts at `own`.
fn extend(path: &mut Vec<Step>, own: usize, step: Step) {
    let length = path.len() - own;
    path.push(Step {
        weight: if length == 0 { 1.0 } else { 0.0 },
        ..step
    });
    let path = &mut path[own..];
    let size = (length + 1) as f64;
    for i in (0..length).rev() {
        path[i + 1].weight += step.known * path[i].weight * (i + 1) as f64 / size;
        path[i].weight *= step.unknown * (length - i) as f64 / size;
    }
}

/// UNWIND of Algorithm 2: undoes [`extend`] of the step at `place`.
fn remove(path: &mut Vec<Step>, own: usize, place: usize) {
    let last = path.len() - own - 1;
    let steps = &mut path[own..];
    let (known, unknown) = (steps[place].known, steps[place].unknown);
    let mut next = steps[last].weight;
    let size = (last + 1) as f64;
    for i in (0..last).rev() {
        if known != 0.0 {
            let before = steps[i].weight;
            steps[i].weight = next * size / ((i + 1) as f64 * known);
            next = before - steps[i].weight * unknown * (last - i) as f64 / size;
        } else {
            steps[i].weight = steps[i].weight * size / (unknown * (last - i) as f64);
        }
    }
    for i in place..last {
        let (feature, unknown, known) = (
            steps[i + 1].feature,
            steps[i + 1].unknown,
            steps[i + 1].known,
        );
        steps[i] = Step {
            feature,
            unknown,
            known,
            weight: steps[i].weight,
        };
    }
    path.pop();
}

/// The sum of the weights after UNWIND of `place`, without changing the path.
fn weight_without(path: &[Step], place: usize) -> f64 {
    let last = path.len() - 1;
    let (known, unknown) = (path[place].known, path[place].unknown);
    let size = (last + 1) as f64;
    let mut next = path[last].weight;
    let mut total = 0.0;
    for i in (0..last).rev() {
        if known != 0.0 {
            let weight = next * size / ((i + 1) as f64 * known);
            total += weight;
            next = path[i].weight - weight * unknown * (last - i) as f64 / size;
        } else {
            total += path[i].weight * size / (unknown * (last - i) as f64);
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boosted::forest::tests::small;

    /// What the trees say when only the features in `known` (a bit set) are known, by definition.
    fn value(forest: &Forest, place: usize, row: &[f64], known: u32) -> f64 {
        let node = forest.node(place);
        if node.is_leaf {
            return node.value;
        }
        let (left, right) = (place + 1, node.right as usize);
        if known >> node.feature & 1 == 1 {
            return value(
                forest,
                if node.goes_left(row) { left } else { right },
                row,
                known,
            );
        }
        (value(forest, left, row, known) * forest.cover(left)
            + value(forest, right, row, known) * forest.cover(right))
            / forest.cover(place)
    }

    /// Shapley values by their definition: a mean over all orders in which features become known.
    fn by_definition(forest: &Forest, row: &[f64]) -> Vec<f64> {
        let features = row.len() as u32;
        let factorial = |n: u32| (1..=n).map(f64::from).product::<f64>();
        let all = |known: u32| {
            forest
                .roots()
                .iter()
                .map(|&root| value(forest, root as usize, row, known))
                .sum::<f64>()
        };
        (0..features)
            .map(|feature| {
                (0..1_u32 << features)
                    .filter(|known| known >> feature & 1 == 0)
                    .map(|known| {
                        let size = known.count_ones();
                        let weight =
                            factorial(size) * factorial(features - size - 1) / factorial(features);
                        weight * (all(known | 1 << feature) - all(known))
                    })
                    .sum()
            })
            .collect()
    }

    pub(super) fn check(forest: &Forest, row: &[f64]) {
        let mut found = vec![0.0; row.len()];
        contributions(forest, row, &mut found);
        for (found, expected) in found.iter().zip(by_definition(forest, row)) {
            assert!(
                (found - expected).abs() < 1e-9,
                "{found} is not {expected} for {row:?}"
            );
        }
        let sum: f64 = found.iter().sum::<f64>() + forest.expected();
        assert!(
            (sum - forest.raw(row)).abs() < 1e-9,
            "{sum} is not {}",
            forest.raw(row)
        );
    }

    #[test]
    fn values_are_those_of_the_definition() {
        for row in [
            [1.0, 1.0],
            [1.0, 2.0],
            [3.0, 1.0],
            [f64::NAN, 1.0],
            [1.0, f64::NAN],
        ] {
            check(&small(), &row);
        }
    }

    #[test]
    fn a_feature_that_splits_twice_on_a_path_counts_once() {
        // x0 < 8 ? (x1 < 3 ? (x0 < 2 ? 1 : 5) : (x2 < 1 ? -4 : 7)) : (x0 < 9 ? 2 : 11)
        let mut forest = Forest::new(0.0);
        forest.start_tree();
        let mut pending = Vec::new();
        for (feature, value) in [
            (0, 8.0),
            (1, 3.0),
            (0, 2.0),
            (9, 1.0),
            (9, 5.0),
            (2, 1.0),
            (9, -4.0),
            (9, 7.0),
            (0, 9.0),
            (9, 2.0),
            (9, 11.0),
        ] {
            let is_leaf = feature == 9;
            let place = forest.push(if is_leaf {
                Node::leaf(value)
            } else {
                Node::split(feature, value, true)
            });
            if !is_leaf {
                pending.push(place);
            } else if let Some(split) = pending.pop() {
                forest.set_right(split, place + 1);
            }
        }
        let rows: Vec<[f64; 3]> = (0..60)
            .map(|i| {
                [
                    f64::from(i * 7 % 12),
                    f64::from(i * 5 % 6),
                    f64::from(i % 3),
                ]
            })
            .collect();
        forest.count_covers(rows.len(), &vec![1.0; rows.len()], |row, out| {
            out.extend(rows[row]);
        });
        for row in &rows {
            check(&forest, row);
        }
        check(&forest, &[f64::NAN; 3]);
    }
}
