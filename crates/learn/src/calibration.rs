//! Probabilities that can be believed: a monotone map from scores to probabilities, fitted on rows that the model
//! was not trained on.

use serde::{Deserialize, Serialize};

use crate::link::{logit, sigmoid, softmax};
use crate::{Scores, Task};

/// A map from a model's scores to calibrated scores. Part of the artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Calibrator {
    /// Scores are answered as they are.
    #[default]
    None,
    /// sigmoid(slope · logit(p) + intercept), slope > 0: Platt (1999) on log-odds.
    Platt {
        /// Above 1 makes scores bolder, below 1 more modest.
        slope: f64,
        /// Moves all scores up or down.
        intercept: f64,
    },
    /// The monotone step function that fits best (Zadrozny and Elkan 2002), with straight lines from one step to
    /// the next. Scores on the same step become equal, which costs some of the ranking.
    Isotonic {
        /// Rising scores: where each step begins and ends.
        scores: Vec<f64>,
        /// What each becomes: not falling, inside (0, 1).
        probabilities: Vec<f64>,
    },
    /// softmax(ln(p) / temperature): Guo et al. (2017).
    Temperature {
        /// Above 1 makes scores more modest, below 1 bolder.
        temperature: f64,
    },
}

/// What [`choose`] found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The map to use.
    pub calibrator: Calibrator,
    /// Log-loss of the scores as they are.
    pub log_loss_before: f64,
    /// Log-loss of the chosen map on rows that it was not fitted on (cross-fitted over five blocks); as
    /// `log_loss_before` when none was better.
    pub log_loss_after: f64,
}

/// Blocks of neighbouring rows for cross-fitting: rows are in the order of time, and neighbours resemble each other.
const BLOCKS: usize = 5;
/// Fewer rows than this cannot tell a better map from a lucky one.
const ROWS_MIN: usize = 100;
/// Isotonic regression has to be better than Platt by this share of the log-loss: it costs some resolution.
const ISOTONIC_MARGIN: f64 = 0.001;

/// Chooses the map with the smallest log-loss on held-out rows: Platt or isotonic for binary, temperature for
/// several classes; none for regression, when there are fewer than 100 rows, when a class is absent, or when none is
/// better than the scores as they are.
///
/// Each candidate is fitted on four fifths of the rows and judged on the other; the winner is then fitted on all.
///
/// # Panics
/// When `targets` or `weights` have another number of rows than `scores`.
pub fn choose(task: &Task, scores: &Scores, targets: &[f64], weights: &[f64]) -> Choice {
    assert_eq!(
        (targets.len(), weights.len()),
        (scores.rows(), scores.rows()),
        "one target and weight per row"
    );
    let before = log_loss(task, scores, targets, weights);
    let unchanged = Choice {
        calibrator: Calibrator::None,
        log_loss_before: before,
        log_loss_after: before,
    };
    let first = targets.first().copied().unwrap_or_default();
    if *task == Task::Regression
        || targets.len() < ROWS_MIN
        || targets.iter().all(|target| *target == first)
    {
        return unchanged;
    }
    let fits: &[Fit] = match task {
        Task::Multiclass { .. } => &[fit_temperature],
        Task::Binary | Task::Regression => &[fit_platt, fit_isotonic],
    };
    let mut best = (before, Calibrator::None);
    for fit in fits {
        let after = cross_fitted(*fit, task, scores, targets, weights);
        let bar = if matches!(best.1, Calibrator::None) {
            best.0
        } else {
            best.0 * (1.0 - ISOTONIC_MARGIN)
        };
        if after < bar {
            best = (after, fit(scores, targets, weights));
        }
    }
    Choice {
        calibrator: best.1,
        log_loss_before: before,
        log_loss_after: best.0,
    }
}

type Fit = fn(&Scores, &[f64], &[f64]) -> Calibrator;

fn cross_fitted(fit: Fit, task: &Task, scores: &Scores, targets: &[f64], weights: &[f64]) -> f64 {
    let rows = targets.len();
    let mut calibrated = Vec::with_capacity(scores.values().len());
    for block in 0..BLOCKS {
        let (start, end) = (rows * block / BLOCKS, rows * (block + 1) / BLOCKS);
        let outside =
            |list: &[f64], width: usize| [&list[..start * width], &list[end * width..]].concat();
        let width = scores.width();
        let calibrator = fit(
            &Scores::new(width, outside(scores.values(), width)),
            &outside(targets, 1),
            &outside(weights, 1),
        );
        for row in start..end {
            let mut values = scores.row(row).to_vec();
            calibrator.apply_row(&mut values);
            calibrated.extend(values);
        }
    }
    log_loss(
        task,
        &Scores::new(scores.width(), calibrated),
        targets,
        weights,
    )
}

/// The mean of −ln of the probability given to what happened, kept 10⁻⁶ away from 0.
fn log_loss(task: &Task, scores: &Scores, targets: &[f64], weights: &[f64]) -> f64 {
    let mut sums = (0.0, 0.0);
    for (row, (&target, &weight)) in targets.iter().zip(weights).enumerate() {
        let probability = match task {
            Task::Binary if target == 0.0 => 1.0 - scores.row(row)[0],
            Task::Binary | Task::Regression => scores.row(row)[0],
            Task::Multiclass { .. } => scores.row(row)[target as usize],
        };
        sums.0 -= weight * probability.clamp(1e-6, 1.0).ln();
        sums.1 += weight;
    }
    sums.0 / sums.1
}

impl Calibrator {
    /// Calibrated scores of many rows.
    pub fn apply(&self, mut scores: Scores) -> Scores {
        let width = scores.width();
        for row in scores.values_mut().chunks_exact_mut(width) {
            self.apply_row(row);
        }
        scores
    }

    /// Calibrates one row in place. A map for probabilities of one class leaves longer rows alone, and the other
    /// way round.
    pub fn apply_row(&self, row: &mut [f64]) {
        match (self, row) {
            (Self::Platt { slope, intercept }, [score]) => {
                *score = sigmoid(slope * logit(*score) + intercept);
            }
            (
                Self::Isotonic {
                    scores,
                    probabilities,
                },
                [score],
            ) => *score = interpolate(scores, probabilities, *score),
            (Self::Temperature { temperature }, row) if row.len() > 1 => {
                for score in row.iter_mut() {
                    *score = score.max(1e-12).ln() / temperature;
                }
                softmax(row);
            }
            _ => {}
        }
    }
}

fn interpolate(scores: &[f64], probabilities: &[f64], score: f64) -> f64 {
    let after = scores.partition_point(|known| *known < score);
    match (after.checked_sub(1), scores.get(after)) {
        (None, None) => score,
        (None, Some(_)) => probabilities[0],
        (Some(before), None) => probabilities[before],
        (Some(before), Some(&next)) => {
            let share = (score - scores[before]) / (next - scores[before]);
            // Between the two, whatever rounding does: the map must not fall.
            (probabilities[before] + share * (probabilities[after] - probabilities[before]))
                .clamp(probabilities[before], probabilities[after])
        }
    }
}

/// Newton's method on the two parameters, with Platt's targets (n₊ + 1)/(n₊ + 2) and 1/(n₋ + 2) in place of 1 and 0.
fn fit_platt(scores: &Scores, targets: &[f64], weights: &[f64]) -> Calibrator {
    let positives: f64 = targets
        .iter()
        .zip(weights)
        .map(|(target, weight)| target * weight)
        .sum();
    let negatives: f64 = weights.iter().sum::<f64>() - positives;
    let (high, low) = (
        (positives + 1.0) / (positives + 2.0),
        1.0 / (negatives + 2.0),
    );
    let x: Vec<f64> = scores.values().iter().map(|score| logit(*score)).collect();
    let (mut slope, mut intercept) = (1.0, 0.0);
    for _ in 0..50 {
        let (mut g, mut h) = ([0.0; 2], [0.0; 3]);
        for ((x, target), weight) in x.iter().zip(targets).zip(weights) {
            let p = sigmoid(slope * x + intercept);
            let error = weight * (p - if *target == 1.0 { high } else { low });
            g = [g[0] + error * x, g[1] + error];
            let curvature = weight * (p * (1.0 - p)).max(1e-12);
            h = [
                h[0] + curvature * x * x,
                h[1] + curvature * x,
                h[2] + curvature,
            ];
        }
        // A trace of ridge keeps the matrix regular when all scores are the same.
        h = [h[0] + 1e-6, h[1], h[2] + 1e-6];
        let determinant = h[0] * h[2] - h[1] * h[1];
        let step = [
            (h[2] * g[0] - h[1] * g[1]) / determinant,
            (h[0] * g[1] - h[1] * g[0]) / determinant,
        ];
        // A bounded step: far from the optimum the quadratic model is not to be trusted.
        let length = (step[0] * step[0] + step[1] * step[1]).sqrt();
        let factor = if length > 2.0 { 2.0 / length } else { 1.0 };
        slope -= factor * step[0];
        intercept -= factor * step[1];
        if length < 1e-10 {
            break;
        }
    }
    // A slope ≤ 0 would turn the ranking around: then the scores say nothing, and no map helps.
    if slope > 0.0 && slope.is_finite() && intercept.is_finite() {
        Calibrator::Platt { slope, intercept }
    } else {
        Calibrator::None
    }
}

/// One step of the isotonic fit.
#[derive(Clone, Copy)]
struct Block {
    weight: f64,
    target: f64,
    /// The lowest and the highest score on it.
    scores: (f64, f64),
}

/// Pool adjacent violators (Ayer et al. 1955) on rows sorted by score.
fn fit_isotonic(scores: &Scores, targets: &[f64], weights: &[f64]) -> Calibrator {
    let mut order: Vec<usize> = (0..targets.len())
        .filter(|&row| weights[row] > 0.0)
        .collect();
    order.sort_by(|a, b| scores.values()[*a].total_cmp(&scores.values()[*b]));
    let mut blocks: Vec<Block> = Vec::new();
    let mut last_score = f64::NAN;
    for row in order {
        let score = scores.values()[row];
        let mut block = Block {
            weight: weights[row],
            target: targets[row],
            scores: (score, score),
        };
        // Equal scores can only have one answer.
        if score == last_score
            && let Some(last) = blocks.pop()
        {
            block = merge(last, block);
        }
        last_score = score;
        while let Some(last) = blocks.last()
            && last.target >= block.target
        {
            block = merge(*last, block);
            blocks.pop();
        }
        blocks.push(block);
    }
    soften_ends(&mut blocks);
    let (mut scores, mut probabilities) = (Vec::new(), Vec::new());
    for block in &blocks {
        scores.push(block.scores.0);
        probabilities.push(block.target);
        if block.scores.1 > block.scores.0 {
            scores.push(block.scores.1);
            probabilities.push(block.target);
        }
    }
    Calibrator::Isotonic {
        scores,
        probabilities,
    }
}

/// A step on which all n rows agree is improbable to be otherwise, not impossible: half an observation of the other kind
/// is added, as far as the neighbouring step allows. Only the lowest and the highest step can be such.
fn soften_ends(blocks: &mut [Block]) {
    if let [first, rest @ ..] = blocks
        && first.target == 0.0
    {
        let next = rest.first().map_or(0.5, |block| block.target);
        first.target = (0.5 / (first.weight + 1.0)).min(next);
    }
    if let [rest @ .., last] = blocks
        && last.target == 1.0
    {
        let before = rest.last().map_or(0.5, |block| block.target);
        last.target = ((last.weight + 0.5) / (last.weight + 1.0)).max(before);
    }
}

fn merge(a: Block, b: Block) -> Block {
    let weight = a.weight + b.weight;
    let target = (a.target * a.weight + b.target * b.weight) / weight;
    Block {
        weight,
        target,
        scores: (a.scores.0, b.scores.1),
    }
}

/// Golden-section search over ln(temperature): the log-loss is unimodal in it.
fn fit_temperature(scores: &Scores, targets: &[f64], weights: &[f64]) -> Calibrator {
    let loss = |ln_temperature: f64| {
        let calibrator = Calibrator::Temperature {
            temperature: ln_temperature.exp(),
        };
        let mut sum = 0.0;
        let mut row = Vec::with_capacity(scores.width());
        for (index, (&target, &weight)) in targets.iter().zip(weights).enumerate() {
            row.clear();
            row.extend_from_slice(scores.row(index));
            calibrator.apply_row(&mut row);
            sum -= weight * row[target as usize].max(1e-12).ln();
        }
        sum
    };
    let ratio = (5.0_f64.sqrt() - 1.0) / 2.0;
    // Temperatures from 0.1 to 10.
    let (mut low, mut high) = (-(10.0_f64.ln()), 10.0_f64.ln());
    let (mut a, mut b) = (high - ratio * (high - low), low + ratio * (high - low));
    let (mut at_a, mut at_b) = (loss(a), loss(b));
    while high - low > 1e-4 {
        if at_a < at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - ratio * (high - low);
            at_a = loss(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + ratio * (high - low);
            at_b = loss(b);
        }
    }
    Calibrator::Temperature {
        temperature: ((low + high) / 2.0).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows whose score p happens with probability `truth(p)`, as weights, so that nothing is random.
    fn rows(truth: impl Fn(f64) -> f64) -> (Scores, Vec<f64>, Vec<f64>) {
        let (mut scores, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        // Spread over all blocks: block by block each sees the whole range.
        for step in 0..1_000 {
            let p = (f64::from(step * 37 % 500) + 0.5) / 500.0;
            for (target, weight) in [(1.0, truth(p)), (0.0, 1.0 - truth(p))] {
                scores.push(p);
                targets.push(target);
                weights.push(weight);
            }
        }
        (Scores::new(1, scores), targets, weights)
    }

    fn check(truth: impl Fn(f64) -> f64, expected: impl Fn(&Calibrator) -> bool) {
        let (scores, targets, weights) = rows(&truth);
        let choice = choose(&Task::Binary, &scores, &targets, &weights);
        assert!(expected(&choice.calibrator), "{choice:?}");
        assert!(choice.log_loss_after <= choice.log_loss_before);
        let mut last = 0.0;
        for step in 0..=1_000 {
            let mut row = [f64::from(step) / 1_000.0];
            choice.calibrator.apply_row(&mut row);
            assert!(row[0] >= last, "{row:?} after {last}");
            if choice.calibrator != Calibrator::None {
                assert!(row[0] > 0.0 && row[0] < 1.0, "{row:?}");
            }
            if (100..=900).contains(&step) {
                let truth = truth(f64::from(step) / 1_000.0);
                assert!(
                    (row[0] - truth).abs() < 0.06,
                    "{row:?} is not {truth} at {step}"
                );
            }
            last = row[0];
        }
    }

    #[test]
    fn believable_scores_stay_as_they_are() {
        check(
            |p| p,
            |calibrator| matches!(calibrator, Calibrator::None | Calibrator::Platt { .. }),
        );
    }

    #[test]
    fn too_bold_scores_are_drawn_in() {
        check(
            |p| sigmoid(0.5 * logit(p) - 0.7),
            |calibrator| matches!(calibrator, Calibrator::Platt { .. }),
        );
    }

    #[test]
    fn a_step_needs_isotonic_regression() {
        check(
            |p| {
                if p < 0.35 {
                    0.1
                } else {
                    0.1 + 0.8 * ((p - 0.35) / 0.3).min(1.0)
                }
            },
            |calibrator| matches!(calibrator, Calibrator::Isotonic { .. }),
        );
    }

    #[test]
    fn a_temperature_is_found() {
        let (mut scores, mut targets, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for step in 0..300 {
            let logs = [f64::from(step % 7) / 2.0, f64::from(step % 5) / 2.0, 0.0];
            let (mut truth, mut bold) = (logs, logs.map(|log| 2.0 * log));
            softmax(&mut truth);
            softmax(&mut bold);
            for (class, weight) in truth.iter().enumerate() {
                scores.extend(bold);
                targets.push(class as f64);
                weights.push(*weight);
            }
        }
        let task = Task::Multiclass {
            classes: vec!["a".into(), "b".into(), "c".into()],
        };
        let choice = choose(&task, &Scores::new(3, scores), &targets, &weights);
        let Calibrator::Temperature { temperature } = choice.calibrator else {
            panic!("{choice:?}")
        };
        assert!((temperature - 2.0).abs() < 0.01, "{temperature}");
    }

    #[test]
    fn one_class_or_few_rows_are_left_alone() {
        let scores = Scores::new(1, vec![0.3; 200]);
        assert_eq!(
            choose(&Task::Binary, &scores, &[1.0; 200], &[1.0; 200]).calibrator,
            Calibrator::None
        );
        let scores = Scores::new(1, vec![0.3; 50]);
        let targets: Vec<f64> = (0..50).map(|i| f64::from(i % 2)).collect();
        assert_eq!(
            choose(&Task::Binary, &scores, &targets, &[1.0; 50]).calibrator,
            Calibrator::None
        );
    }
}
