//! Splits by time, the only ones that show how a model will do tomorrow.
//!
//! Rows are put in the order of their moments and cut into train, validation (calibration, choices) and test. A target is
//! known one horizon after its moment, so a row may only be trained on when its horizon ended before the next part
//! begins: rows in between are dropped and counted. Entities do appear in several parts, because they will in life:
//! the question is what known people do *next*, and a model that has seen someone's past at serving time should be
//! tested on someone whose past it has seen. What must not leak is the future, and the gap keeps it out; that rows of
//! one entity are not independent is taken into account by the intervals, which resample entities.

use serde::{Deserialize, Serialize};

use crate::{EvaluateError, TaskKind};

/// How to cut.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SplitByTime {
    /// The share of rows, oldest first, before the first cut. Default 0.6.
    pub train: f64,
    /// The share of rows between the cuts; 0 for a split into train and test only. Default 0.2; the rest is the test.
    pub validation: f64,
    /// Every part needs that many rows. Default 50.
    pub rows_min: usize,
    /// Every part of a binary task needs that many positives and negatives; train and test of several classes need two
    /// classes. Default 10.
    pub outcomes_min: usize,
}

impl Default for SplitByTime {
    fn default() -> Self {
        Self {
            train: 0.6,
            validation: 0.2,
            rows_min: 50,
            outcomes_min: 10,
        }
    }
}

/// Indices of the rows of each part, in the order of their moments, and what was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Split {
    /// Oldest.
    pub train: Vec<usize>,
    /// In the middle: for calibration and for choices.
    pub validation: Vec<usize>,
    /// Newest: looked at once.
    pub test: Vec<usize>,
    /// Rows that were dropped because their horizon reaches into the next part.
    pub gap: usize,
    /// The first moment that belongs to validation, in microseconds since 1970.
    pub validation_from: i64,
    /// The first moment that belongs to the test, in microseconds since 1970.
    pub test_from: i64,
}

impl SplitByTime {
    /// Cuts rows by their moments (microseconds since 1970). Rows of the same moment stay together.
    ///
    /// # Errors
    /// When there are not as many targets as moments, the shares leave a part without rows, or a part has too few rows
    /// or outcomes; the message says what to do.
    pub fn split(
        &self,
        moments: &[i64],
        horizon_micros: i64,
        task: TaskKind,
        targets: &[f64],
    ) -> Result<Split, EvaluateError> {
        if targets.len() != moments.len() {
            return Err(EvaluateError::Length {
                what: "moments",
                rows: targets.len(),
                found: moments.len(),
            });
        }
        if !(self.train > 0.0 && self.validation >= 0.0 && self.train + self.validation < 1.0) {
            return Err(EvaluateError::Split(format!(
                "the shares {} and {} leave nothing for a part; use shares like 0.6 and 0.2",
                self.train, self.validation
            )));
        }
        if moments.is_empty() {
            return Err(EvaluateError::NoRows);
        }
        let mut order: Vec<usize> = (0..moments.len()).collect();
        order.sort_by_key(|row| moments[*row]);
        let moment_at = |share: f64| {
            let place = (share * order.len() as f64).round() as usize;
            moments[order[place.min(order.len() - 1)]]
        };
        let (validation_from, test_from) = (
            moment_at(self.train),
            moment_at(self.train + self.validation),
        );

        let mut split = Split {
            train: vec![],
            validation: vec![],
            test: vec![],
            gap: 0,
            validation_from,
            test_from,
        };
        for row in order {
            let known_at = moments[row].saturating_add(horizon_micros);
            if moments[row] >= test_from {
                split.test.push(row);
            } else if moments[row] >= validation_from && known_at <= test_from {
                split.validation.push(row);
            } else if moments[row] < validation_from && known_at <= validation_from {
                split.train.push(row);
            } else {
                split.gap += 1;
            }
        }
        for (name, rows) in [
            ("train", &split.train),
            ("validation", &split.validation),
            ("test", &split.test),
        ] {
            if name == "validation" && self.validation == 0.0 {
                continue;
            }
            self.check(name, rows, split.gap, task, targets)?;
        }
        Ok(split)
    }

    fn check(
        &self,
        part: &str,
        rows: &[usize],
        gap: usize,
        task: TaskKind,
        targets: &[f64],
    ) -> Result<(), EvaluateError> {
        let error = |what: String| {
            Err(EvaluateError::Split(format!(
                "the {part} part has {what}, and {gap} rows fell into the gaps of one horizon; \
                 collect over a longer time, observe more often, or shorten the horizon"
            )))
        };
        if rows.len() < self.rows_min {
            return error(format!(
                "{} rows of the {} it needs",
                rows.len(),
                self.rows_min
            ));
        }
        if task == TaskKind::Binary {
            let positives = rows.iter().filter(|row| targets[**row] == 1.0).count();
            for (what, found) in [
                ("positive", positives),
                ("negative", rows.len() - positives),
            ] {
                if found < self.outcomes_min {
                    return error(format!(
                        "{found} {what} outcomes of the {} it needs",
                        self.outcomes_min
                    ));
                }
            }
        }
        if let TaskKind::Multiclass { .. } = task
            && rows.iter().all(|row| targets[*row] == targets[rows[0]])
        {
            return error("only one class".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn alternating(count: usize) -> Vec<f64> {
        (0..count).map(|row| (row % 2) as f64).collect()
    }

    #[test]
    fn parts_follow_each_other_with_a_gap() {
        let moments: Vec<i64> = (0..1_000).collect();
        let split = SplitByTime::default()
            .split(&moments, 30, TaskKind::Binary, &alternating(1_000))
            .unwrap();
        assert_eq!((split.validation_from, split.test_from), (600, 800));
        assert_eq!(
            (split.train.last(), split.validation.first()),
            (Some(&570), Some(&600))
        );
        assert_eq!(
            (split.validation.last(), split.test.first()),
            (Some(&770), Some(&800))
        );
        assert_eq!(split.gap, 58);
    }

    fn check(moments: &[i64], horizon: i64, targets: &[f64], expected: &str) {
        let error = SplitByTime::default()
            .split(moments, horizon, TaskKind::Binary, targets)
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn small_parts_are_refused_with_advice() {
        let moments: Vec<i64> = (0..1_000).collect();
        check(
            &moments[..100],
            1,
            &alternating(100),
            "the validation part has 20 rows of the 50 it needs",
        );
        check(
            &moments,
            10_000,
            &alternating(1_000),
            "the train part has 0 rows of the 50 it needs, and 800 rows fell",
        );
        check(
            &moments,
            1,
            &vec![0.0; 1_000],
            "0 positive outcomes of the 10 it needs",
        );
        check(&moments, 1, &vec![1.0; 1_000], "shorten the horizon");
        check(&[], 1, &[], "no rows");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_nothing_leaks(
            moments in prop::collection::vec(0_i64..500, 1..400),
            horizon in 0_i64..100,
        ) {
            let settings = SplitByTime { rows_min: 0, outcomes_min: 0, ..SplitByTime::default() };
            let targets = alternating(moments.len());
            let split = settings.split(&moments, horizon, TaskKind::Binary, &targets).unwrap();
            let parts = [&split.train, &split.validation, &split.test];
            let mut all: Vec<usize> = parts.into_iter().flatten().copied().collect();
            prop_assert_eq!(all.len() + split.gap, moments.len());
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len() + split.gap, moments.len());
            for (older, newer) in [(0, 1), (1, 2), (0, 2)] {
                let known_at = parts[older].iter().map(|row| moments[*row] + horizon).max();
                let begins = parts[newer].iter().map(|row| moments[*row]).min();
                if let (Some(known_at), Some(begins)) = (known_at, begins) {
                    prop_assert!(known_at <= begins);
                }
            }
        }
    }
}
