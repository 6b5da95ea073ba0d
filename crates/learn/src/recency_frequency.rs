//! The rule that a marketing team would use without machine learning: how recently, and how often.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{ColumnValues, FeatureColumn, FeatureType, FeatureValue};

use crate::constant::base_scores;
use crate::{LearnError, Learner, Model, Task, TrainingSet};

/// Puts every row into a cell of a grid of recency × frequency quantiles and answers with the mean target of the
/// cell, drawn towards the overall mean where a cell has few rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecencyFrequency {
    /// The name of the number column with the seconds since the last event.
    pub recency: String,
    /// The name of the number column with the count of events over the longest window.
    pub frequency: String,
    /// Quantile bins per column, 1 to 20. Default 5, the classic RFM grid (Hughes 1994). Missing values have a bin of
    /// their own.
    pub bins: usize,
    /// How many rows of overall mean are mixed into each cell, > 0. Default 20.
    pub prior_rows: f64,
}

impl RecencyFrequency {
    /// The rule on these two columns, with the default grid.
    pub fn new(recency: impl Into<String>, frequency: impl Into<String>) -> Self {
        Self {
            recency: recency.into(),
            frequency: frequency.into(),
            bins: 5,
            prior_rows: 20.0,
        }
    }
}

/// See [`RecencyFrequency`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecencyFrequencyModel {
    pub(crate) task: Task,
    pub(crate) columns: Vec<FeatureColumn>,
    recency: Axis,
    frequency: Axis,
    /// Scores of cell (recency bin, frequency bin), recency-major, one list per cell.
    cells: Vec<Vec<f64>>,
    /// The mean score over the training rows of each recency bin: what is known when frequency is not.
    by_recency: Vec<Vec<f64>>,
    /// As `by_recency`, for frequency.
    by_frequency: Vec<Vec<f64>>,
    /// The mean score over all training rows.
    overall: Vec<f64>,
}

/// One side of the grid.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Axis {
    /// The place of the column.
    column: usize,
    /// Rising edges: bin b holds values ≤ edge b and above the one before; the last bin but one all larger ones;
    /// the last bin what is missing.
    edges: Vec<f64>,
}

impl Axis {
    fn fit(column: usize, values: &[f64], bins: usize) -> Self {
        let mut known: Vec<f64> = values
            .iter()
            .copied()
            .filter(|value| value.is_finite())
            .collect();
        known.sort_unstable_by(f64::total_cmp);
        let mut edges: Vec<f64> = Vec::new();
        for bin in 1..bins {
            if let Some(&edge) = known.get((known.len() * bin / bins).saturating_sub(1)) {
                // A count has few distinct values: equal edges would make empty bins, and the largest value as an
                // edge would leave nothing above it.
                if edges.last().is_none_or(|last| edge > *last)
                    && known.last().is_some_and(|last| edge < *last)
                {
                    edges.push(edge);
                }
            }
        }
        Self { column, edges }
    }

    fn bins(&self) -> usize {
        self.edges.len() + 2
    }

    fn bin(&self, value: f64) -> usize {
        if value.is_finite() {
            self.edges.partition_point(|edge| *edge < value)
        } else {
            self.edges.len() + 1
        }
    }
}

impl Learner for RecencyFrequency {
    fn name(&self) -> &str {
        "recency_frequency"
    }

    fn fit(&self, task: &Task, train: &TrainingSet, _seed: u64) -> Result<Model, LearnError> {
        train.check(task)?;
        if !(1..=20).contains(&self.bins) {
            return Err(LearnError::Parameter {
                name: "bins",
                value: self.bins as f64,
                allowed: "1 to 20",
            });
        }
        if !(self.prior_rows.is_finite() && self.prior_rows > 0.0) {
            return Err(LearnError::Parameter {
                name: "prior_rows",
                value: self.prior_rows,
                allowed: "above 0",
            });
        }
        let (recency_column, recencies) = number_column(train, &self.recency)?;
        let (frequency_column, frequencies) = number_column(train, &self.frequency)?;
        let recency = Axis::fit(recency_column, recencies, self.bins);
        let frequency = Axis::fit(frequency_column, frequencies, self.bins);

        let width = task.width();
        let prior = base_scores(task, &train.targets, &train.weights);
        let mut sums = vec![vec![0.0; width]; recency.bins() * frequency.bins()];
        let mut rows = vec![0.0; sums.len()];
        for row in 0..train.rows() {
            let cell =
                recency.bin(recencies[row]) * frequency.bins() + frequency.bin(frequencies[row]);
            let (target, weight) = (train.targets[row], train.weights[row]);
            rows[cell] += weight;
            match task {
                Task::Binary | Task::Regression => sums[cell][0] += weight * target,
                Task::Multiclass { .. } => sums[cell][target as usize] += weight,
            }
        }
        let cells: Vec<Vec<f64>> = sums
            .iter()
            .zip(&rows)
            .map(|(sums, rows)| {
                let smoothed = |(sum, prior): (&f64, &f64)| {
                    (sum + self.prior_rows * prior) / (rows + self.prior_rows)
                };
                sums.iter().zip(&prior).map(smoothed).collect()
            })
            .collect();
        let mean_over = |take: &dyn Fn(usize) -> bool| mean_score(&cells, &rows, take, &prior);
        let across = frequency.bins();
        Ok(Model::RecencyFrequency(RecencyFrequencyModel {
            task: task.clone(),
            columns: train.features.columns().to_vec(),
            by_recency: (0..recency.bins())
                .map(|bin| mean_over(&|cell| cell / across == bin))
                .collect(),
            by_frequency: (0..across)
                .map(|bin| mean_over(&|cell| cell % across == bin))
                .collect(),
            overall: mean_over(&|_| true),
            recency,
            frequency,
            cells,
        }))
    }
}

/// The mean of cells' scores weighted by their rows; the prior where there are no rows.
fn mean_score(
    cells: &[Vec<f64>],
    rows: &[f64],
    take: &dyn Fn(usize) -> bool,
    prior: &[f64],
) -> Vec<f64> {
    let mut sums = vec![0.0; prior.len()];
    let mut total = 0.0;
    for (cell, scores) in cells.iter().enumerate().filter(|(cell, _)| take(*cell)) {
        total += rows[cell];
        for (sum, score) in sums.iter_mut().zip(scores) {
            *sum += rows[cell] * score;
        }
    }
    if total > 0.0 {
        sums.iter().map(|sum| sum / total).collect()
    } else {
        prior.to_vec()
    }
}

fn number_column<'a>(train: &'a TrainingSet, name: &str) -> Result<(usize, &'a [f64]), LearnError> {
    let numbers = |column: &FeatureColumn| column.feature_type == FeatureType::Number;
    let unknown = || LearnError::Column {
        name: name.to_owned(),
        known: train
            .features
            .columns()
            .iter()
            .filter(|column| numbers(column))
            .map(|column| column.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    };
    let column = train.features.index_of(name).ok_or_else(unknown)?;
    match train.features.values(column) {
        ColumnValues::Number(values) => Ok((column, values)),
        ColumnValues::Category(_) => Err(unknown()),
    }
}

impl RecencyFrequencyModel {
    fn bins(&self, row: &[FeatureValue]) -> (usize, usize) {
        let bin = |axis: &Axis| axis.bin(row[axis.column].as_number());
        (bin(&self.recency), bin(&self.frequency))
    }

    pub(crate) fn predict_row(&self, row: &[FeatureValue]) -> Vec<f64> {
        let (recency, frequency) = self.bins(row);
        self.cells[recency * self.frequency.bins() + frequency].clone()
    }

    /// The Shapley values of two players, by their definition: the mean of what a column adds when it comes first
    /// and when it comes second.
    pub(crate) fn contributions(&self, row: &[FeatureValue], output: usize) -> Vec<f64> {
        let (recency, frequency) = self.bins(row);
        let both = self.cells[recency * self.frequency.bins() + frequency][output];
        let (none, first, second) = (
            self.overall[output],
            self.by_recency[recency][output],
            self.by_frequency[frequency][output],
        );
        let mut contributions = vec![0.0; row.len() + 1];
        contributions[self.recency.column] += ((first - none) + (both - second)) / 2.0;
        contributions[self.frequency.column] += ((second - none) + (both - first)) / 2.0;
        contributions[row.len()] = none;
        contributions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::feature::{FeatureTable, Unit};

    fn set(rows: &[(f64, f64, f64)]) -> TrainingSet {
        let column = |name: &str| FeatureColumn {
            name: name.into(),
            feature_type: FeatureType::Number,
            label: name.into(),
            unit: Unit::Plain,
        };
        let mut table = FeatureTable::new(vec![column("r"), column("f")]);
        for (recency, frequency, _) in rows {
            table.push(&[
                FeatureValue::number(*recency),
                FeatureValue::number(*frequency),
            ]);
        }
        TrainingSet::unweighted(table, rows.iter().map(|row| row.2).collect()).unwrap()
    }

    #[test]
    fn recent_and_frequent_scores_higher_and_never_is_a_bin() {
        let rows: Vec<(f64, f64, f64)> = (0..4_000)
            .map(|i| {
                let (recency, frequency) = (f64::from(i % 20), f64::from(i / 200));
                (
                    recency,
                    frequency,
                    f64::from(u8::from(recency < 8.0 && frequency > 8.0)),
                )
            })
            .chain((0..50).map(|_| (f64::NAN, 0.0, 0.0)))
            .collect();
        let model = RecencyFrequency::new("r", "f")
            .fit(&Task::Binary, &set(&rows), 0)
            .unwrap();
        let score = |r: f64, f: f64| {
            model.predict_row(&[FeatureValue::number(r), FeatureValue::number(f)])[0]
        };
        assert!(score(1.0, 19.0) > 0.8);
        assert!(score(19.0, 1.0) < 0.1);
        assert!(score(f64::NAN, 0.0) < 0.1);
        let row = [FeatureValue::Number(1.0), FeatureValue::Number(19.0)];
        let sum: f64 = model.contributions(&row).iter().sum();
        assert!((sum - model.raw_row(&row)[0]).abs() < 1e-12);
    }

    #[test]
    fn an_unknown_column_is_named_with_those_that_there_are() {
        let error = RecencyFrequency::new("r", "orders")
            .fit(&Task::Binary, &set(&[(1.0, 1.0, 1.0)]), 0)
            .unwrap_err();
        assert_eq!(error.to_string(), "find the feature 'orders' among: r, f");
    }
}
