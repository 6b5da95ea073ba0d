//! All numbers about one model on one set of rows, as they are stored and shown.

use serde::{Deserialize, Serialize};

use crate::prepared::{CALIBRATION_BINS, bin_of};
use crate::{Bootstrap, EvaluateError, Metric, Rows, ScoresView, TaskKind};

/// Points of a curve at most.
const POINTS_MAX: usize = 100;

/// What is known about the quality of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The kind of question.
    pub task: TaskKind,
    /// How many rows were scored.
    pub rows: usize,
    /// How many different entities they are about.
    pub entities: usize,
    /// The weighted mean of the targets: the share of positives, or the mean value; `None` for several classes.
    pub base: Option<f64>,
    /// Every metric of the task.
    pub metrics: Vec<MetricValue>,
    /// For probabilities: bins of equal weight, by rising score. For several classes: of the most probable one.
    pub calibration: Vec<CalibrationBin>,
    /// For binary tasks, from (0, 0) to (1, 1): false positive rate and true positive rate. At most 100 points.
    pub roc: Vec<(f64, f64)>,
    /// For binary tasks: recall and precision, by falling threshold. At most 100 points.
    pub precision_recall: Vec<(f64, f64)>,
    /// For several classes: each of them.
    pub classes: Vec<ClassSupport>,
}

/// A metric with its 95 % interval (of the level of the [`Bootstrap`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MetricValue {
    /// Which one.
    pub metric: Metric,
    /// `None` where it is not defined.
    pub value: Option<f64>,
    /// Low and high.
    pub interval: Option<(f64, f64)>,
}

/// Rows with similar scores.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// How many.
    pub rows: usize,
    /// Their weight.
    pub weight: f64,
    /// The mean score.
    pub score: f64,
    /// The share of positives (of hits, for several classes).
    pub outcome: f64,
}

/// One class among several.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ClassSupport {
    /// Its place.
    pub class: usize,
    /// Rows in which it happened.
    pub rows: usize,
    /// Its share of the weight.
    pub share: f64,
    /// The weighted share of its rows in which it was the most probable class; `None` without rows.
    pub recall: Option<f64>,
}

impl Report {
    /// Computes everything.
    ///
    /// # Errors
    /// When the scores do not fit the rows.
    pub fn new(
        rows: &Rows<'_>,
        scores: &ScoresView<'_>,
        bootstrap: &Bootstrap,
    ) -> Result<Self, EvaluateError> {
        let metrics = Metric::of(rows.task());
        let estimates = bootstrap.estimates(rows, &metrics, scores)?;
        let total: f64 = rows.weights().iter().sum();
        let base = rows
            .targets()
            .iter()
            .zip(rows.weights())
            .map(|(target, weight)| target * weight)
            .sum::<f64>()
            / total;
        let (roc, precision_recall) = if rows.task() == TaskKind::Binary {
            curves(rows, scores)
        } else {
            (Vec::new(), Vec::new())
        };
        Ok(Self {
            task: rows.task(),
            rows: rows.count(),
            entities: rows.entity_count(),
            base: (!matches!(rows.task(), TaskKind::Multiclass { .. })).then_some(base),
            metrics: metrics
                .into_iter()
                .zip(estimates)
                .map(|(metric, found)| MetricValue {
                    metric,
                    value: found.value,
                    interval: found.interval,
                })
                .collect(),
            calibration: calibration_bins(rows, scores),
            roc,
            precision_recall,
            classes: class_supports(rows, scores),
        })
    }

    /// That nothing could be computed, since answers are no numbers.
    pub fn of_nothing(rows: &Rows<'_>) -> Self {
        Self {
            task: rows.task(),
            rows: rows.count(),
            entities: rows.entity_count(),
            base: None,
            metrics: Vec::new(),
            calibration: Vec::new(),
            roc: Vec::new(),
            precision_recall: Vec::new(),
            classes: Vec::new(),
        }
    }

    /// The value of a metric, if it is of this task and defined.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        self.metrics
            .iter()
            .find(|value| value.metric == metric)?
            .value
    }
}

/// Bins of equal weight by rising score; none for regression. Equal scores share a bin, so there may be fewer than 12.
pub fn calibration_bins(rows: &Rows<'_>, scores: &ScoresView<'_>) -> Vec<CalibrationBin> {
    let confidence = |row: usize| -> (f64, f64) {
        let (target, scores) = (rows.targets()[row], scores.row(row));
        match rows.task() {
            TaskKind::Multiclass { .. } => {
                let best = most_probable(scores);
                (scores[best], f64::from(u8::from(best as f64 == target)))
            }
            _ => (scores[0], target),
        }
    };
    if rows.task() == TaskKind::Regression {
        return Vec::new();
    }
    let mut sorted: Vec<(f64, f64, f64)> = (0..rows.count())
        .map(|row| {
            let (score, outcome) = confidence(row);
            (score, outcome, rows.weights()[row])
        })
        .collect();
    // From the top, as the metric counts, so that both cut at the same places.
    sorted.sort_by(|a, b| b.0.total_cmp(&a.0));
    let total: f64 = sorted.iter().map(|row| row.2).sum();
    let mut bins = [CalibrationBin {
        rows: 0,
        weight: 0.0,
        score: 0.0,
        outcome: 0.0,
    }; CALIBRATION_BINS];
    let mut before = 0.0;
    for tie in sorted.chunk_by(|a, b| a.0 == b.0) {
        let weight: f64 = tie.iter().map(|row| row.2).sum();
        let bin = &mut bins[bin_of(before + 0.5 * weight, total)];
        before += weight;
        bin.rows += tie.len();
        bin.weight += weight;
        bin.score += tie.iter().map(|row| row.2 * row.0).sum::<f64>();
        bin.outcome += tie.iter().map(|row| row.2 * row.1).sum::<f64>();
    }
    bins.iter()
        .rev()
        .filter(|bin| bin.weight > 0.0)
        .map(|bin| CalibrationBin {
            score: bin.score / bin.weight,
            outcome: bin.outcome / bin.weight,
            ..*bin
        })
        .collect()
}

fn most_probable(scores: &[f64]) -> usize {
    (0..scores.len()).fold(0, |best, place| {
        if scores[place] > scores[best] {
            place
        } else {
            best
        }
    })
}

type Curve = Vec<(f64, f64)>;

/// The ROC and the precision-recall curve, thinned.
fn curves(rows: &Rows<'_>, scores: &ScoresView<'_>) -> (Curve, Curve) {
    let mut order: Vec<usize> = (0..rows.count()).collect();
    order.sort_by(|a, b| scores.values()[*b].total_cmp(&scores.values()[*a]));
    let positives: f64 = rows
        .targets()
        .iter()
        .zip(rows.weights())
        .map(|(target, weight)| target * weight)
        .sum();
    let negatives: f64 = rows.weights().iter().sum::<f64>() - positives;
    if positives <= 0.0 || negatives <= 0.0 {
        return (Vec::new(), Vec::new());
    }
    let (mut roc, mut precision_recall) = (vec![(0.0, 0.0)], Vec::new());
    let (mut hits, mut alarms) = (0.0, 0.0);
    for tie in order.chunk_by(|a, b| scores.values()[*a] == scores.values()[*b]) {
        for &row in tie {
            hits += rows.weights()[row] * rows.targets()[row];
            alarms += rows.weights()[row] * (1.0 - rows.targets()[row]);
        }
        if hits + alarms > 0.0 {
            roc.push((alarms / negatives, hits / positives));
            precision_recall.push((hits / positives, hits / (hits + alarms)));
        }
    }
    (thin(&roc), thin(&precision_recall))
}

/// At most 100 points, evenly chosen, with the first and the last.
fn thin(points: &[(f64, f64)]) -> Curve {
    if points.len() <= POINTS_MAX {
        return points.to_vec();
    }
    (0..POINTS_MAX)
        .map(|place| points[place * (points.len() - 1) / (POINTS_MAX - 1)])
        .collect()
}

fn class_supports(rows: &Rows<'_>, scores: &ScoresView<'_>) -> Vec<ClassSupport> {
    let TaskKind::Multiclass { classes } = rows.task() else {
        return Vec::new();
    };
    let mut counts = vec![(0_usize, 0.0, 0.0); classes];
    for row in 0..rows.count() {
        let class = rows.targets()[row] as usize;
        let weight = rows.weights()[row];
        counts[class].0 += 1;
        counts[class].1 += weight;
        if most_probable(scores.row(row)) == class {
            counts[class].2 += weight;
        }
    }
    let total: f64 = rows.weights().iter().sum();
    counts
        .iter()
        .enumerate()
        .map(|(class, &(rows, weight, hits))| ClassSupport {
            class,
            rows,
            share: weight / total,
            recall: (weight > 0.0).then(|| hits / weight),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_agrees_with_itself_and_is_stored() {
        let count = 1_500;
        let scores: Vec<f64> = (0..count)
            .map(|i| (i * 37 % 1_000) as f64 / 1_000.0)
            .collect();
        let targets: Vec<f64> = (0..count)
            .map(|i| f64::from(u8::from(scores[i] > (i * 17 % 100) as f64 / 100.0)))
            .collect();
        let weights: Vec<f64> = (0..count).map(|i| 1.0 + (i % 3) as f64).collect();
        let entities: Vec<u64> = (0..count as u64).map(|i| i / 3).collect();
        let rows = Rows::new(TaskKind::Binary, &targets, &weights, &entities).unwrap();
        let view = ScoresView::new(1, &scores).unwrap();
        let bootstrap = Bootstrap {
            resamples: 50,
            ..Bootstrap::default()
        };
        let report = Report::new(&rows, &view, &bootstrap).unwrap();
        assert_eq!((report.rows, report.entities), (1_500, 500));

        let total: f64 = weights.iter().sum();
        let error: f64 = report
            .calibration
            .iter()
            .map(|bin| bin.weight / total * (bin.score - bin.outcome).abs())
            .sum();
        assert!((error - report.value(Metric::CalibrationError).unwrap()).abs() < 1e-12);
        assert!(report.calibration.is_sorted_by(|a, b| a.score < b.score));
        assert_eq!(
            report.calibration.iter().map(|bin| bin.rows).sum::<usize>(),
            1_500
        );

        assert!(report.roc.len() <= 100 && report.precision_recall.len() <= 100);
        assert_eq!(
            (report.roc[0], *report.roc.last().unwrap()),
            ((0.0, 0.0), (1.0, 1.0))
        );
        // The trapezoids under the thinned curve are nearly the AUC.
        let area: f64 = report
            .roc
            .windows(2)
            .map(|pair| (pair[1].0 - pair[0].0) * (pair[1].1 + pair[0].1) / 2.0)
            .sum();
        assert!(
            (area - report.value(Metric::Auc).unwrap()).abs() < 0.002,
            "{area}"
        );
        for value in &report.metrics {
            let (low, high) = value.interval.unwrap();
            assert!(low <= high, "{value:?}");
        }
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }

    #[test]
    fn classes_are_counted() {
        let rows = Rows::new(
            TaskKind::Multiclass { classes: 3 },
            &[0.0, 0.0, 1.0],
            &[1.0, 1.0, 2.0],
            &[1, 2, 3],
        )
        .unwrap();
        let scores = [0.6, 0.3, 0.1, 0.1, 0.8, 0.1, 0.2, 0.7, 0.1];
        let report = Report::new(
            &rows,
            &ScoresView::new(3, &scores).unwrap(),
            &Bootstrap::default(),
        )
        .unwrap();
        let expected = [(2, 0.5, Some(0.5)), (1, 0.5, Some(1.0)), (0, 0.0, None)];
        let found: Vec<_> = report
            .classes
            .iter()
            .map(|class| (class.rows, class.share, class.recall))
            .collect();
        assert_eq!(found, expected);
        assert_eq!(report.base, None);
    }
}
