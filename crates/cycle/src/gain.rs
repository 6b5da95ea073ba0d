//! How much each feature matters to a version.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tidemill_learn::TrainingSet;
use tidemill_serve::Package;

/// The examined rows that are looked at: evenly spread where there are more. Explaining a row takes far longer than answering it.
const ROWS_MAX: usize = 200;

/// How much a feature moves the answers of a version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureGain {
    /// The feature.
    pub name: String,
    /// The mean of the absolute Shapley values over examined rows, before calibration: in log-odds, or in the unit of an
    /// amount.
    pub gain: f64,
}

/// The gain of every feature on rows that the version was not fitted on, the largest first.
pub(crate) fn gains(package: &Package, rows: &TrainingSet) -> Vec<FeatureGain> {
    let step = rows.rows().div_ceil(ROWS_MAX).max(1);
    let places: Vec<usize> = (0..rows.rows()).step_by(step).collect();
    let contributions: Vec<Vec<f64>> = places
        .par_iter()
        .map(|&row| package.fitted.contributions(&rows.features.row(row)))
        .collect();
    let gain = |column: usize| {
        let sum: f64 = contributions.iter().map(|row| row[column].abs()).sum();
        sum / contributions.len().max(1) as f64
    };
    let columns = package.columns.iter().enumerate();
    let mut gains: Vec<FeatureGain> = columns
        .map(|(place, column)| FeatureGain {
            name: column.name.clone(),
            gain: gain(place),
        })
        .collect();
    gains.sort_by(|a, b| b.gain.total_cmp(&a.gain).then_with(|| a.name.cmp(&b.name)));
    gains
}
