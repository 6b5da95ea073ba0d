//! May a challenger serve? Checks with their numbers, each with a sentence that a product owner understands.
//!
//! Here are the checks that only need targets and scores: sound output, better than the baselines, not worse than the
//! champion (overall and on declared slices), declared minimums, calibration; of the dataset its [`quality`] and whether a
//! feature [`leak`]s. What needs the artifact or a clock is computed by the caller and given as [`Gate::further`].

pub mod leak;
pub mod quality;
mod verdict;
mod windows;

use serde::{Deserialize, Serialize};

pub use quality::{DataQuality, NewDataset};
pub use verdict::{Check, Verdict};
pub use windows::Question;

use crate::bootstrap::{Bootstrap, Difference};
use crate::metric::Direction;
use crate::report::{CalibrationBin, calibration_bins};
use crate::slices::{Part, Slice};
use crate::{EvaluateError, Metric, Rows, ScoresView, TaskKind};

/// How strict the gate is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Strictness {
    /// How much worse than the champion a challenger may be, in the metric's own unit, where a person decided that.
    pub tolerance: Option<f64>,
    /// The same where nobody did, for metrics with fixed units (AUC, accuracy, correlations). Default 0.005: half a point
    /// of AUC, about what retraining on the same rows with another seed moves.
    pub tolerance_default: f64,
    /// The same as a share of the champion's value, for metrics without fixed units (log-loss, errors, lift). Default
    /// 0.01.
    pub tolerance_share: f64,
    /// The expected calibration error that is allowed beyond what sampling alone would show. Default 0.05.
    pub calibration_error: f64,
    /// Declared slices with fewer rows are not compared. Default 100.
    pub slice_rows_min: usize,
    /// How intervals are computed.
    pub bootstrap: Bootstrap,
}

impl Default for Strictness {
    fn default() -> Self {
        Self {
            tolerance: None,
            tolerance_default: 0.005,
            tolerance_share: 0.01,
            calibration_error: 0.05,
            slice_rows_min: 100,
            bootstrap: Bootstrap::default(),
        }
    }
}

/// Everything that a decision rests on. The rows are the newest ones, which none of the models was trained on.
#[derive(Debug, Clone)]
pub struct Gate<'a> {
    /// Outcomes.
    pub rows: Rows<'a>,
    /// What models are compared by.
    pub metric: Metric,
    /// The scores of the version that wants to serve.
    pub challenger: ScoresView<'a>,
    /// Baselines: a name for the check (`recency_frequency`), how it is called in a sentence (`the recency/frequency
    /// rule`), and its scores.
    pub baselines: Vec<(&'a str, &'a str, ScoresView<'a>)>,
    /// The scores of the version that serves, if there is one, with its name (`will_buy@17`).
    pub champion: Option<(&'a str, ScoresView<'a>)>,
    /// Slices on which the challenger must not be worse than the champion.
    pub slices: &'a [Slice],
    /// What the project demands: at least (errors and losses: at most) that much.
    pub minimums: &'a [(Metric, f64)],
    /// Checks that the caller computed.
    pub further: Vec<Check>,
    /// How strict to be.
    pub strictness: Strictness,
}

impl Gate<'_> {
    /// Runs all checks. When the output is not sound, the comparisons cannot be computed and are left out; the verdict is
    /// then a rejection.
    ///
    /// # Errors
    /// When scores do not have one row per target, or a metric is of another task. Unsound *scores of the challenger* are a
    /// failed check, not an error.
    pub fn decide(self) -> Result<Verdict, EvaluateError> {
        self.metric.check(self.rows.task())?;
        let sound = self.sound()?;
        let mut checks = vec![sound];
        if checks[0].passed {
            checks.extend(self.against_baselines()?);
            checks.push(self.against_champion()?);
            checks.extend(self.against_champion_on_slices()?);
            for &(metric, minimum) in self.minimums {
                checks.push(self.minimum(metric, minimum)?);
            }
            checks.extend(self.calibrated());
        }
        checks.extend(self.further);
        Ok(Verdict::of(checks))
    }

    /// Finite, in range, not constant.
    fn sound(&self) -> Result<Check, EvaluateError> {
        let values = self.challenger.values();
        // Lengths and widths are the caller's mistakes; only what a model did is a failed check.
        match self.rows.check(&self.challenger) {
            Ok(()) | Err(EvaluateError::Score { .. }) => {}
            Err(error) => return Err(error),
        }
        let probabilities = self.rows.task() != TaskKind::Regression;
        let width = self.challenger.width();
        let wrong = |row: &[f64]| {
            row.iter()
                .any(|value| !value.is_finite() || (probabilities && !(0.0..=1.0).contains(value)))
                || (width > 1 && (row.iter().sum::<f64>() - 1.0).abs() > 1e-6)
        };
        let bad = values.chunks_exact(width).filter(|row| wrong(row)).count();
        let constant = self.rows.count() > 1
            && values
                .chunks_exact(width)
                .all(|row| row == &values[..width]);
        let range = if probabilities {
            "finite and between 0 and 1"
        } else {
            "finite"
        };
        let sentence = if bad > 0 {
            format!("{bad} of {} answers are not {range}", self.rows.count())
        } else if constant {
            format!("all {} answers are the same", self.rows.count())
        } else {
            format!(
                "all {} answers are {range}, and they differ",
                self.rows.count()
            )
        };
        Ok(Check {
            passed: bad == 0 && !constant,
            ..Check::at_most("sound", bad as f64, 0.0, sentence)
        })
    }

    fn against_baselines(&self) -> Result<Vec<Check>, EvaluateError> {
        let others: Vec<ScoresView<'_>> = self
            .baselines
            .iter()
            .map(|(_, _, scores)| *scores)
            .collect();
        let differences =
            self.strictness
                .bootstrap
                .paired(&self.rows, self.metric, &self.challenger, &others)?;
        Ok(self
            .baselines
            .iter()
            .zip(&differences)
            .map(|((name, called, _), difference)| {
                self.beats(&format!("beats:{name}"), called, difference)
            })
            .collect())
    }

    fn beats(&self, name: &str, called: &str, difference: &Difference) -> Check {
        let label = self.metric.label();
        let (Some(value), Some(other), Some(improvement)) =
            (difference.value, difference.other, difference.improvement)
        else {
            return undefined(
                name,
                format!(
                    "{label} cannot be compared with {called}: {}",
                    self.why_undefined()
                ),
            );
        };
        let passed = difference.interval.is_some_and(|(low, _)| low > 0.0);
        let verb = if passed {
            "beats"
        } else {
            "does not clearly beat"
        };
        let said = format!(
            "{label} {} {verb} {called} ({}) {} {}, {}",
            number(value),
            number(other),
            if passed { "by" } else { ": the improvement is" },
            number(improvement),
            interval(difference.interval)
        );
        Check {
            name: name.to_owned(),
            value: improvement,
            threshold: 0.0,
            interval: difference.interval,
            passed,
            sentence: said.replace(" : ", ": "),
        }
    }

    fn against_champion(&self) -> Result<Check, EvaluateError> {
        let Some((called, scores)) = &self.champion else {
            let sentence = "there is no champion yet: this is the first version".to_owned();
            return Ok(Check::not_judged("champion", sentence));
        };
        let difference = self.strictness.bootstrap.paired(
            &self.rows,
            self.metric,
            &self.challenger,
            &[*scores],
        )?[0];
        let label = self.metric.label();
        let (Some(value), Some(other), Some(improvement)) =
            (difference.value, difference.other, difference.improvement)
        else {
            let sentence = format!(
                "{label} cannot be compared with the champion {called}: {}",
                self.why_undefined()
            );
            return Ok(undefined("champion", sentence));
        };
        let threshold = -self.tolerance(other);
        // the challenger learnt from newer rows, so a tie goes to it: it passes when it did at least as well on
        // these rows, or is surely not worse by more than the tolerance
        let passed =
            improvement >= 0.0 || difference.interval.is_some_and(|(low, _)| low > threshold);
        let relation = if difference.interval.is_some_and(|(low, _)| low > 0.0) {
            "better than"
        } else if passed {
            "not worse than"
        } else {
            "not surely as good as"
        };
        let sentence = format!(
            "{label} {} is {relation} the champion {called} ({}): the improvement is {}, {}, and may not be surely below {}",
            number(value),
            number(other),
            number(improvement),
            interval(difference.interval),
            number(threshold)
        );
        let (name, interval) = ("champion".to_owned(), difference.interval);
        Ok(Check {
            name,
            value: improvement,
            threshold,
            interval,
            passed,
            sentence,
        })
    }

    /// A slice has few rows and a wide interval, so here the burden of proof is the other way round: the check fails when
    /// the challenger is surely worse than the champion by more than the tolerance.
    fn against_champion_on_slices(&self) -> Result<Vec<Check>, EvaluateError> {
        let Some((called, champion)) = &self.champion else {
            return Ok(Vec::new());
        };
        let mut checks = Vec::new();
        for slice in self.slices {
            let name = format!("slice:{}", slice.name);
            if slice.rows.len() < self.strictness.slice_rows_min {
                let (found, needed) = (slice.rows.len(), self.strictness.slice_rows_min);
                let sentence = format!(
                    "not compared where {}: {found} rows of the {needed} it needs",
                    slice.name
                );
                checks.push(Check::not_judged(&name, sentence));
                continue;
            }
            let (ours, theirs) = (
                Part::new(&slice.rows, &self.rows, &self.challenger),
                Part::new(&slice.rows, &self.rows, champion),
            );
            let difference = match ours.rows() {
                // All rows of the slice have weight zero.
                Err(EvaluateError::NoRows) => None,
                Err(error) => return Err(error),
                Ok(rows) => Some(
                    self.strictness.bootstrap.paired(
                        &rows,
                        self.metric,
                        &ours.scores()?,
                        &[theirs.scores()?],
                    )?[0],
                ),
            };
            checks.push(self.slice_check(name, &slice.name, called, difference));
        }
        Ok(checks)
    }

    fn slice_check(
        &self,
        name: String,
        slice: &str,
        called: &str,
        difference: Option<Difference>,
    ) -> Check {
        let label = self.metric.label();
        let Some(Difference {
            value: Some(value),
            other: Some(other),
            improvement: Some(improvement),
            interval: found,
            ..
        }) = difference
        else {
            let sentence = format!("not compared where {slice}: {label} is not defined there");
            return Check::not_judged(&name, sentence);
        };
        let threshold = -self.tolerance(other);
        let passed = found.is_none_or(|(_, high)| high >= threshold);
        let relation = if passed {
            "not surely worse than"
        } else {
            "worse than"
        };
        let sentence = format!(
            "where {slice}, {label} {} is {relation} the champion {called} ({}): the improvement is {}, {}",
            number(value),
            number(other),
            number(improvement),
            interval(found)
        );
        Check {
            name,
            value: improvement,
            threshold,
            interval: found,
            passed,
            sentence,
        }
    }

    fn minimum(&self, metric: Metric, minimum: f64) -> Result<Check, EvaluateError> {
        let name = format!("min:{metric}");
        let estimate = self
            .strictness
            .bootstrap
            .estimate(&self.rows, metric, &self.challenger)?;
        let label = metric.label();
        let Some(value) = estimate.value else {
            return Ok(undefined(
                &name,
                format!("{label} cannot be computed: {}", self.why_undefined()),
            ));
        };
        let passed = metric.improvement(value, minimum) >= 0.0;
        let (reaches, misses) = match metric.direction() {
            Direction::Higher => (
                "reaches the declared minimum",
                "is below the declared minimum",
            ),
            Direction::Lower | Direction::Zero => (
                "is within the declared limit",
                "is above the declared limit",
            ),
        };
        let sentence = format!(
            "{label} {} {} {}, {}",
            number(value),
            if passed { reaches } else { misses },
            number(minimum),
            interval(estimate.interval)
        );
        Ok(Check {
            name,
            value,
            threshold: minimum,
            interval: estimate.interval,
            passed,
            sentence,
        })
    }

    /// Even perfect probabilities show a calibration error on a sample: in a bin of effectively n rows with the rate p, the
    /// mean distance is √(2/π) · √(p (1 − p)/n), that of a normal variable. That much, averaged over the bins, is added to
    /// what is allowed.
    fn calibrated(&self) -> Option<Check> {
        if self.rows.task() == TaskKind::Regression {
            return None;
        }
        let bins = calibration_bins(&self.rows, &self.challenger);
        let total: f64 = bins.iter().map(|bin| bin.weight).sum();
        let mean = |of: &dyn Fn(&CalibrationBin) -> f64| {
            bins.iter()
                .map(|bin| bin.weight / total * of(bin))
                .sum::<f64>()
        };
        let value = mean(&|bin| (bin.score - bin.outcome).abs());
        // Unequal weights make fewer rows of many: Kish's effective number.
        let weights = self.rows.weights();
        let kish = total * total
            / weights.iter().map(|weight| weight * weight).sum::<f64>()
            / weights.len() as f64;
        let allowance = mean(&|bin| {
            let rows = (bin.rows as f64 * kish).max(1.0);
            (2.0 / std::f64::consts::PI * bin.score * (1.0 - bin.score) / rows).sqrt()
        });
        let threshold = self.strictness.calibration_error + allowance;
        let passed = value <= threshold;
        let sentence = format!(
            "{} are off by {} on average, {} the {} that is allowed on {} rows",
            if self.rows.task() == TaskKind::Binary {
                "probabilities"
            } else {
                "probabilities of the likeliest class"
            },
            number(value),
            if passed { "within" } else { "more than" },
            number(threshold),
            self.rows.count()
        );
        Some(Check::at_most("calibrated", value, threshold, sentence))
    }

    fn tolerance(&self, champion: f64) -> f64 {
        if let Some(decided) = self.strictness.tolerance {
            return decided;
        }
        match self.metric {
            Metric::Auc
            | Metric::AveragePrecision
            | Metric::CalibrationError
            | Metric::CalibrationErrorMax
            | Metric::Accuracy
            | Metric::AccuracyAt3
            | Metric::Spearman
            | Metric::R2 => self.strictness.tolerance_default,
            Metric::LogLoss
            | Metric::Brier
            | Metric::Lift10
            | Metric::Lift20
            | Metric::Mae
            | Metric::Rmse
            | Metric::Bias => self.strictness.tolerance_share * champion.abs(),
        }
    }

    fn why_undefined(&self) -> String {
        let first = self.rows.targets()[0];
        if self.rows.targets().iter().all(|target| *target == first) {
            format!("all {} outcomes are the same", self.rows.count())
        } else {
            "one of them answers all rows the same".to_owned()
        }
    }
}

fn undefined(name: &str, sentence: String) -> Check {
    Check {
        passed: false,
        ..Check::not_judged(name, sentence)
    }
}

fn interval(interval: Option<(f64, f64)>) -> String {
    match interval {
        Some((low, high)) => format!("interval {} to {}", number(low), number(high)),
        None => "without an interval, as there are too few different entities".to_owned(),
    }
}

/// Three decimals below 100, else whole numbers.
fn number(value: f64) -> String {
    let text = if value.abs() < 100.0 {
        format!("{value:.3}")
    } else {
        format!("{value:.0}")
    };
    // Minus zero is zero to a person.
    if text
        .trim_start_matches('-')
        .bytes()
        .all(|byte| matches!(byte, b'0' | b'.'))
    {
        text.trim_start_matches('-').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests;
