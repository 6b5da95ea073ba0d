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
    /// One coefficient per scale, all 0 for what is missing, and one for that if training saw it.
    Number {
        at: usize,
        scales: Vec<Scale>,
        missing_share: f64,
    },
    /// One coefficient per code and one more for missing.
    Category { at: usize, shares: Vec<f64> },
    /// One value only in training: nothing to learn.
    Unused,
}

/// A number seen as (x − mean) / deviation, or its ln(1 + x) so.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Scale {
    log: bool,
    mean: f64,
    deviation: f64,
}

impl Scale {
    fn of(&self, value: f64) -> f64 {
        let value = if self.log {
            value.max(0.0).ln_1p()
        } else {
            value
        };
        ((value - self.mean) / self.deviation).clamp(-Z_MAX, Z_MAX)
    }
}

impl Design {
    pub(crate) fn fit(
        table: &FeatureTable,
        weights: &[f64],
        rows_min: usize,
        categories_max: usize,
    ) -> Self {
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
        Self {
            encoder,
            parts,
            width,
        }
    }

    /// Calls `each(coefficient, value)` for what is not zero in column `column`.
    pub(crate) fn terms(&self, column: usize, encoded: f64, mut each: impl FnMut(usize, f64)) {
        match &self.parts[column] {
            Part::Unused => {}
            Part::Number {
                at,
                scales,
                missing_share,
            } => {
                if !encoded.is_nan() {
                    for (place, scale) in scales.iter().enumerate() {
                        each(at + place, scale.of(encoded));
                    }
                } else if *missing_share > 0.0 {
                    each(at + scales.len(), 1.0);
                }
            }
            Part::Category { at, shares } => {
                each(
                    at + if encoded.is_nan() {
                        shares.len() - 1
                    } else {
                        encoded as usize
                    },
                    1.0,
                );
            }
        }
    }

    /// The whole table as sparse rows.
    pub(crate) fn rows(&self, table: &FeatureTable) -> SparseRows {
        let columns: Vec<Vec<f64>> = (0..table.columns().len())
            .map(|column| self.encoder.encode_column(column, table.values(column)))
            .collect();
        let mut rows = SparseRows {
            ends: Vec::with_capacity(table.rows()),
            places: Vec::new(),
            values: Vec::new(),
        };
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
            Self::Number {
                scales,
                missing_share,
                ..
            } => scales.len() + usize::from(*missing_share > 0.0),
            Self::Category { shares, .. } => shares.len(),
            Self::Unused => 0,
        }
    }
}

/// A skewed number that is never negative is also seen by its logarithm: which of the two says more, the coefficients tell.
fn number_part(values: &[f64], weights: &[f64], at: usize) -> Part {
    /// Highly skewed, by the rule of Bulmer (1979).
    const SKEWNESS_MIN: f64 = 1.0;
    let known: Vec<(f64, f64)> = values
        .iter()
        .zip(weights)
        .filter(|(value, _)| !value.is_nan())
        .map(|(value, weight)| (*value, *weight))
        .collect();
    let known_weight: f64 = known.iter().map(|(_, weight)| weight).sum();
    let missing_weight: f64 = weights.iter().sum::<f64>() - known_weight;
    let mut scales = Vec::new();
    if let Some((scale, skewness)) = scale(&known, false) {
        scales.push(scale);
        if skewness > SKEWNESS_MIN && known.iter().all(|(value, _)| *value >= 0.0) {
            scales.extend(self::scale(&known, true).map(|(scale, _)| scale));
        }
    }
    // What is always missing says nothing by being missing.
    let missing_share = if known_weight > 0.0 && missing_weight > 0.0 {
        missing_weight / (known_weight + missing_weight)
    } else {
        0.0
    };
    if scales.is_empty() && missing_share == 0.0 {
        Part::Unused
    } else {
        Part::Number {
            at,
            scales,
            missing_share,
        }
    }
}

/// The scale of weighted numbers and their skewness; `None` when they do not vary, or too much to be squared.
fn scale(known: &[(f64, f64)], log: bool) -> Option<(Scale, f64)> {
    let total: f64 = known.iter().map(|(_, weight)| weight).sum();
    let seen = |value: f64| if log { value.ln_1p() } else { value };
    let moment = |f: &dyn Fn(f64) -> f64| {
        let sum: f64 = known
            .iter()
            .map(|(value, weight)| weight * f(seen(*value)))
            .sum();
        sum / total
    };
    let mean = moment(&|value| value);
    let deviation = moment(&|value| (value - mean).powi(2)).sqrt();
    let skewness = moment(&|value| ((value - mean) / deviation).powi(3));
    let varies = deviation.is_finite() && deviation > 1e-12 * (1.0 + mean.abs());
    varies.then_some((
        Scale {
            log,
            mean,
            deviation,
        },
        skewness,
    ))
}

fn category_part(values: &[f64], weights: &[f64], codes: usize, at: usize) -> Part {
    let mut shares = vec![0.0; codes + 1];
    for (value, weight) in values.iter().zip(weights) {
        shares[if value.is_nan() {
            codes
        } else {
            *value as usize
        }] += weight;
    }
    if shares.iter().filter(|share| **share > 0.0).count() < 2 {
        return Part::Unused;
    }
    let total: f64 = weights.iter().sum();
    Part::Category {
        at,
        shares: shares.iter().map(|share| share / total).collect(),
    }
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
            .fold(0.0, |sum, (place, value)| {
                sum + coefficients[*place as usize] * value
            })
    }

    /// Adds `factor` times a row to a dense vector.
    pub(crate) fn add_to(&self, row: usize, factor: f64, dense: &mut [f64]) {
        let range = self.range(row);
        for (place, value) in self.places[range.clone()].iter().zip(&self.values[range]) {
            dense[*place as usize] += factor * value;
        }
    }
}
