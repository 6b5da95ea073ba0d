//! A metric made ready to be computed many times on resampled entities: sorted and summed once, each resample is
//! one pass.

use std::collections::HashMap;

use crate::{EvaluateError, Metric, Rows, ScoresView, TaskKind};

/// Bins of equal weight for calibration: enough to see a shape, few enough to fill.
pub(crate) const CALIBRATION_BINS: usize = 12;

/// Which entity each row belongs to, entities numbered from 0 in order of appearance.
pub(crate) struct Clusters {
    /// `None` when all rows are one cluster.
    of_row: Option<Vec<u32>>,
    count: usize,
}

impl Clusters {
    /// All rows together: the multiplicities are `[1]`.
    pub(crate) fn one() -> Self {
        Self {
            of_row: None,
            count: 1,
        }
    }

    pub(crate) fn new(entities: &[u64]) -> Self {
        let mut numbers = HashMap::new();
        let of_row = entities
            .iter()
            .map(|entity| {
                let next = numbers.len() as u32;
                *numbers.entry(*entity).or_insert(next)
            })
            .collect();
        Self {
            of_row: Some(of_row),
            count: numbers.len(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    fn of(&self, row: usize) -> u32 {
        self.of_row.as_ref().map_or(0, |of_row| of_row[row])
    }
}

/// Room to work in, reused from one resample to the next.
#[derive(Default)]
pub(crate) struct Scratch {
    ranks: [Vec<f64>; 2],
}

/// See the module.
pub(crate) struct Prepared {
    metric: Metric,
    data: Data,
}

enum Data {
    /// Metrics that are functions of sums over rows: summed up per entity.
    Sums(Vec<[f64; 4]>),
    /// Rows in the order of falling scores.
    Ranked(Vec<RankedRow>),
    /// Rows as they are, and their orders by target and by score with the ends of ties.
    Orders {
        rows: Vec<(u32, f64)>,
        orders: [Vec<(u32, bool)>; 2],
    },
}

struct RankedRow {
    weight: f64,
    /// weight · (score − outcome).
    excess: f64,
    entity: u32,
    positive: bool,
    last_of_tie: bool,
}

impl Prepared {
    pub(crate) fn new(
        metric: Metric,
        rows: &Rows<'_>,
        scores: &ScoresView<'_>,
        clusters: &Clusters,
    ) -> Result<Self, EvaluateError> {
        metric.check(rows.task())?;
        rows.check(scores)?;
        let data = match metric {
            Metric::Auc
            | Metric::AveragePrecision
            | Metric::Lift10
            | Metric::Lift20
            | Metric::CalibrationError
            | Metric::CalibrationErrorMax => ranked(rows, scores, clusters),
            Metric::Spearman => orders(rows, scores, clusters),
            Metric::LogLoss
            | Metric::Brier
            | Metric::Accuracy
            | Metric::AccuracyAt3
            | Metric::Mae
            | Metric::Rmse
            | Metric::R2
            | Metric::Bias => sums(metric, rows, scores, clusters),
        };
        Ok(Self { metric, data })
    }

    /// The metric when entity e counts `multiplicities[e]` times.
    pub(crate) fn value(&self, multiplicities: &[u32], scratch: &mut Scratch) -> Option<f64> {
        let value = match &self.data {
            Data::Sums(sums) => from_sums(self.metric, sums, multiplicities),
            Data::Orders { rows, orders } => spearman(rows, orders, multiplicities, scratch),
            Data::Ranked(rows) => match self.metric {
                Metric::Auc => auc(rows, multiplicities),
                Metric::AveragePrecision => average_precision(rows, multiplicities),
                Metric::Lift10 => lift(rows, multiplicities, 0.1),
                Metric::Lift20 => lift(rows, multiplicities, 0.2),
                Metric::CalibrationErrorMax => calibration(rows, multiplicities).1,
                _ => calibration(rows, multiplicities).0,
            },
        };
        value.is_finite().then_some(value)
    }
}

fn sums(metric: Metric, rows: &Rows<'_>, scores: &ScoresView<'_>, clusters: &Clusters) -> Data {
    let mut sums = vec![[0.0; 4]; clusters.count()];
    for row in 0..rows.count() {
        let (target, weight) = (rows.targets()[row], rows.weights()[row]);
        let loss = loss(metric, rows.task(), target, scores.row(row));
        let sum = &mut sums[clusters.of(row) as usize];
        sum[0] += weight;
        sum[1] += weight * loss;
        sum[2] += weight * target;
        sum[3] += weight * target * target;
    }
    Data::Sums(sums)
}

/// What one row adds to the mean behind a metric.
fn loss(metric: Metric, task: TaskKind, target: f64, scores: &[f64]) -> f64 {
    let error = scores[0] - target;
    match metric {
        Metric::LogLoss => {
            let probability = match task {
                TaskKind::Multiclass { .. } => scores[target as usize],
                _ if target == 1.0 => scores[0],
                _ => 1.0 - scores[0],
            };
            -probability.clamp(1e-15, 1.0).ln()
        }
        Metric::Accuracy => f64::from(u8::from(rank_of(scores, target as usize) < 1)),
        Metric::AccuracyAt3 => f64::from(u8::from(rank_of(scores, target as usize) < 3)),
        Metric::Mae => error.abs(),
        Metric::Bias => error,
        // Brier, Rmse and R2 are made of squares.
        _ => error * error,
    }
}

/// How many classes come before one; of equally probable ones, those listed first do.
fn rank_of(scores: &[f64], class: usize) -> usize {
    let own = scores[class];
    scores
        .iter()
        .enumerate()
        .filter(|(place, score)| **score > own || (**score == own && *place < class))
        .count()
}

fn from_sums(metric: Metric, sums: &[[f64; 4]], multiplicities: &[u32]) -> f64 {
    let mut total = [0.0; 4];
    for (sum, &multiplicity) in sums.iter().zip(multiplicities) {
        let times = f64::from(multiplicity);
        for (total, sum) in total.iter_mut().zip(sum) {
            *total += times * sum;
        }
    }
    let [weight, loss, target, square] = total;
    match metric {
        Metric::Rmse => (loss / weight).sqrt(),
        Metric::R2 => {
            let spread = square - target * target / weight;
            // What is left of a constant after rounding is not a spread.
            if spread > 1e-12 * square {
                1.0 - loss / spread
            } else {
                f64::NAN
            }
        }
        _ => loss / weight,
    }
}

fn ranked(rows: &Rows<'_>, scores: &ScoresView<'_>, clusters: &Clusters) -> Data {
    // For several classes: the most probable one, and whether it happened.
    let row_of = |row: usize| -> (f64, bool) {
        let (target, scores) = (rows.targets()[row], scores.row(row));
        match rows.task() {
            TaskKind::Multiclass { .. } => (
                scores.iter().copied().fold(f64::MIN, f64::max),
                rank_of(scores, target as usize) == 0,
            ),
            _ => (scores[0], target == 1.0),
        }
    };
    let mut sorted: Vec<(f64, bool, usize)> = (0..rows.count())
        .map(|row| {
            let (score, positive) = row_of(row);
            (score, positive, row)
        })
        .collect();
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let ranked = (0..sorted.len())
        .map(|place| {
            let (score, positive, row) = sorted[place];
            let weight = rows.weights()[row];
            RankedRow {
                weight,
                excess: weight * (score - f64::from(u8::from(positive))),
                entity: clusters.of(row),
                positive,
                last_of_tie: sorted.get(place + 1).is_none_or(|next| next.0 != score),
            }
        })
        .collect();
    Data::Ranked(ranked)
}

fn weight_of(row: &RankedRow, multiplicities: &[u32]) -> f64 {
    row.weight * f64::from(multiplicities[row.entity as usize])
}

/// The sum over ties, from the top: each positive beats the negatives below it and half of those beside it.
fn auc(rows: &[RankedRow], multiplicities: &[u32]) -> f64 {
    let (mut positives, mut negatives) = (0.0, 0.0);
    // Weight of pairs in which the negative stands above, ties one half.
    let mut wrong = 0.0;
    let mut tie = [0.0; 2];
    for row in rows {
        tie[usize::from(row.positive)] += weight_of(row, multiplicities);
        if row.last_of_tie {
            let [negative, positive] = tie;
            wrong += positive * (negatives + 0.5 * negative);
            negatives += negative;
            positives += positive;
            tie = [0.0; 2];
        }
    }
    1.0 - wrong / (positives * negatives)
}

fn average_precision(rows: &[RankedRow], multiplicities: &[u32]) -> f64 {
    let (mut positives, mut all, mut sum, mut tie) = (0.0, 0.0, 0.0, 0.0);
    for row in rows {
        let weight = weight_of(row, multiplicities);
        all += weight;
        if row.positive {
            tie += weight;
        }
        if row.last_of_tie && tie > 0.0 {
            positives += tie;
            sum += tie * positives / all;
            tie = 0.0;
        }
    }
    sum / positives
}

/// Of the tie that crosses the line, the part that fits is taken, with the share of positives of the whole tie.
fn lift(rows: &[RankedRow], multiplicities: &[u32], share: f64) -> f64 {
    let (mut total, mut positives) = (0.0, 0.0);
    for row in rows {
        let weight = weight_of(row, multiplicities);
        total += weight;
        positives += if row.positive { weight } else { 0.0 };
    }
    let mut room = share * total;
    let (mut caught, mut tie, mut tie_positives) = (0.0, 0.0, 0.0);
    for row in rows {
        let weight = weight_of(row, multiplicities);
        tie += weight;
        tie_positives += if row.positive { weight } else { 0.0 };
        if row.last_of_tie && tie > 0.0 {
            let part = (room / tie).min(1.0);
            caught += part * tie_positives;
            room -= part * tie;
            if room <= 0.0 {
                break;
            }
            (tie, tie_positives) = (0.0, 0.0);
        }
    }
    (caught / (share * total)) / (positives / total)
}

/// The mean and the largest distance between scores and outcomes over bins of equal weight. A tie stays together, in
/// the bin of its middle.
fn calibration(rows: &[RankedRow], multiplicities: &[u32]) -> (f64, f64) {
    let total: f64 = rows.iter().map(|row| weight_of(row, multiplicities)).sum();
    let mut bins = [(0.0_f64, 0.0_f64); CALIBRATION_BINS];
    let (mut before, mut tie, mut excess) = (0.0, 0.0, 0.0);
    for row in rows {
        let times = f64::from(multiplicities[row.entity as usize]);
        tie += times * row.weight;
        excess += times * row.excess;
        if row.last_of_tie {
            let bin = &mut bins[bin_of(before + 0.5 * tie, total)];
            bin.0 += tie;
            bin.1 += excess;
            before += tie;
            (tie, excess) = (0.0, 0.0);
        }
    }
    let filled = || bins.iter().filter(|bin| bin.0 > 0.0);
    (
        filled().map(|bin| bin.1.abs()).sum::<f64>() / total,
        filled().map(|bin| bin.1.abs() / bin.0).fold(0.0, f64::max),
    )
}

/// The bin of equal weight that holds what stands at `place` of `total`.
pub(crate) fn bin_of(place: f64, total: f64) -> usize {
    ((place / total * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1)
}

fn orders(rows: &Rows<'_>, scores: &ScoresView<'_>, clusters: &Clusters) -> Data {
    let order = |values: &[f64]| {
        let mut order: Vec<u32> = (0..values.len() as u32).collect();
        order.sort_by(|a, b| values[*a as usize].total_cmp(&values[*b as usize]));
        (0..order.len())
            .map(|place| {
                let own = values[order[place] as usize];
                let last = order
                    .get(place + 1)
                    .is_none_or(|next| values[*next as usize] != own);
                (order[place], last)
            })
            .collect()
    };
    Data::Orders {
        rows: (0..rows.count())
            .map(|row| (clusters.of(row), rows.weights()[row]))
            .collect(),
        orders: [order(rows.targets()), order(scores.values())],
    }
}

/// Pearson's correlation of weighted mid-ranks.
fn spearman(
    rows: &[(u32, f64)],
    orders: &[Vec<(u32, bool)>; 2],
    multiplicities: &[u32],
    scratch: &mut Scratch,
) -> f64 {
    let weight = |row: usize| rows[row].1 * f64::from(multiplicities[rows[row].0 as usize]);
    let mut total = 0.0;
    for (ranks, order) in scratch.ranks.iter_mut().zip(orders) {
        ranks.resize(rows.len(), 0.0);
        let (mut before, mut tie, mut start) = (0.0, 0.0, 0);
        for (place, &(row, last)) in order.iter().enumerate() {
            tie += weight(row as usize);
            if last {
                for &(row, _) in &order[start..=place] {
                    ranks[row as usize] = before + 0.5 * tie;
                }
                before += tie;
                tie = 0.0;
                start = place + 1;
            }
        }
        total = before;
    }
    // Mid-ranks counted this way have the mean total / 2.
    let mean = total / 2.0;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for row in 0..rows.len() {
        let (x, y, w) = (
            scratch.ranks[0][row] - mean,
            scratch.ranks[1][row] - mean,
            weight(row),
        );
        xy += w * x * y;
        xx += w * x * x;
        yy += w * y * y;
    }
    xy / (xx * yy).sqrt()
}
