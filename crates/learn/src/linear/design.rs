//! From encoded rows to the design matrix of a linear model.

use serde::{Deserialize, Serialize};
use tidemill_core::feature::FeatureTable;

use crate::encoder::Encoder;

/// Standardised values further out than this are drawn in: one wild value must not decide an answer.
const Z_MAX: f64 = 8.0;

/// What becomes of each column. Part of the artifact.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Design {
    pub(crate) encoder: Encoder,
    pub(crate) parts: Vec<Part>,
    /// The number of coefficients per output, without the intercept.
    pub(crate) width: usize,
}

/// The coefficients of one column: where they start, and the means around which contributions are counted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// (x − mean) / scale of the value or its ln(1 + x); 0 for what is missing, which has an indicator as its
    /// second coefficient when training saw missing values.
    Number { at: usize, log: bool, mean: f64, scale: f64, missing_share: f64 },
    /// One coefficient per code and one more for missing.
    Category { at: usize, shares: Vec<f64> },
    /// One value only in training: nothing to learn.
    Unused,
}

impl Design {
    pub(crate) fn fit(table: &FeatureTable, weights: &[f64], rows_min: usize, categories_max: usize) -> Self {
        let encoder = Encoder::fit(table, weights, rows_min, categories_max);
        let mut width = 0;
        let parts = (0..table.columns().len())
            .map(|column| {
                let values = encoder.encode_column(column, table.values(column));
                let part = match encoder.codes(column) {
                    Some(codes) => category_part(&values, weights, codes, width),
                    None => number_part(&values, weights, width),
                };
                width += part.width();
                part
            })
            .collect();
        Self { encoder, parts, width }
    }

    /// Calls `each(coefficient, value)` for what is not zero in column `column`.
    pub(crate) fn terms(&self, column: usize, encoded: f64, mut each: impl FnMut(usize, f64)) {
        match &self.parts[column] {
            Part::Unused => {}
            Part::Number { at, missing_share, .. } if encoded.is_nan() => {
                if *missing_share > 0.0 {
                    each(at + 1, 1.0);
                }
            }
            Part::Number { at, log, mean, scale, .. } => {
                let value = if *log { encoded.max(0.0).ln_1p() } else { encoded };
                each(*at, ((value - mean) / scale).clamp(-Z_MAX, Z_MAX));
            }
            Part::Category { at, shares } => {
                each(at + if encoded.is_nan() { shares.len() - 1 } else { encoded as usize }, 1.0);
            }
        }
    }

    /// The whole table as sparse rows.
    pub(crate) fn rows(&self, table: &FeatureTable) -> SparseRows {
        let columns: Vec<Vec<f64>> = (0..table.columns().len())
            .map(|column| self.encoder.encode_column(column, table.values(column)))
            .collect();
        let mut rows = SparseRows { ends: Vec::with_capacity(table.rows()), places: Vec::new(), values: Vec::new() };
        for row in 0..table.rows() {
            for (column, values) in columns.iter().enumerate() {
                self.terms(column, values[row], |place, value| {
                    rows.places.push(place as u32);
                    rows.values.push(value);
                });
            }
            rows.ends.push(rows.places.len());
        }
        rows
    }
}

impl Part {
    fn width(&self) -> usize {
        match self {
            Self::Number { missing_share, .. } => 1 + usize::from(*missing_share > 0.0),
            Self::Category { shares, .. } => shares.len(),
            Self::Unused => 0,
        }
    }
}

fn number_part(values: &[f64], weights: &[f64], at: usize) -> Part {
    let total: f64 = weights.iter().sum();
    let known = || values.iter().zip(weights).filter(|(value, _)| !value.is_nan());
    let known_weight: f64 = known().map(|(_, weight)| weight).sum();
    let moment = |f: &dyn Fn(f64) -> f64| known().map(|(value, weight)| weight * f(*value)).sum::<f64>() / known_weight;
    let missing_share = if known_weight < total { 1.0 - known_weight / total } else { 0.0 };
    let (mean, log) = if known_weight > 0.0 {
        let mean = moment(&|value| value);
        let deviation = moment(&|value| (value - mean).powi(2)).sqrt();
        // Skewness above 1 counts as highly skewed (Bulmer 1979); the logarithm needs values ≥ 0.
        let skewness = moment(&|value| ((value - mean) / deviation).powi(3));
        let log = skewness > 1.0 && known().all(|(value, _)| *value >= 0.0);
        (if log { moment(&f64::ln_1p) } else { mean }, log)
    } else {
        (0.0, false)
    };
    let transformed = |value: f64| if log { value.ln_1p() } else { value };
    let scale = if known_weight > 0.0 { moment(&|value| (transformed(value) - mean).powi(2)).sqrt() } else { 0.0 };
    if scale > 1e-12 * (1.0 + mean.abs()) && scale.is_finite() && mean.is_finite() {
        Part::Number { at, log, mean, scale, missing_share }
    } else if missing_share > 0.0 && missing_share < 1.0 {
        // Only whether it is known says something.
        Part::Number { at, log: false, mean: if mean.is_finite() { mean } else { 0.0 }, scale: f64::MAX, missing_share }
    } else {
        Part::Unused
    }
}

fn category_part(values: &[f64], weights: &[f64], codes: usize, at: usize) -> Part {
    let mut shares = vec![0.0; codes + 1];
    for (value, weight) in values.iter().zip(weights) {
        shares[if value.is_nan() { codes } else { *value as usize }] += weight;
    }
    if shares.iter().filter(|share| **share > 0.0).count() < 2 {
        return Part::Unused;
    }
    let total: f64 = weights.iter().sum();
    Part::Category { at, shares: shares.iter().map(|share| share / total).collect() }
}

/// Rows of (place, value) pairs; what is not listed is zero.
pub(crate) struct SparseRows {
    ends: Vec<usize>,
    places: Vec<u32>,
    values: Vec<f64>,
}

impl SparseRows {
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        (if row == 0 { 0 } else { self.ends[row - 1] })..self.ends[row]
    }

    /// The inner product of a row and dense coefficients.
    pub(crate) fn dot(&self, row: usize, coefficients: &[f64]) -> f64 {
        let range = self.range(row);
        self.places[range.clone()]
            .iter()
            .zip(&self.values[range])
            .fold(0.0, |sum, (place, value)| sum + coefficients[*place as usize] * value)
    }

    /// Adds `factor` times a row to a dense vector.
    pub(crate) fn add_to(&self, row: usize, factor: f64, dense: &mut [f64]) {
        let range = self.range(row);
        for (place, value) in self.places[range.clone()].iter().zip(&self.values[range]) {
            dense[*place as usize] += factor * value;
        }
    }
}
