//! What a model answers for many rows.

use serde::{Deserialize, Serialize};

/// Scores of many rows, row by row: probabilities of the positive class (width 1), values (width 1), or one
/// probability per class (width = number of classes, each row sums to 1).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    width: usize,
    values: Vec<f64>,
}

impl Scores {
    /// Row-major values, `width` per row.
    ///
    /// # Panics
    /// When `width` is 0 or the values do not fill whole rows.
    pub fn new(width: usize, values: Vec<f64>) -> Self {
        assert!(width > 0, "a score has at least one value");
        assert_eq!(values.len() % width, 0, "every row has {width} values");
        Self { width, values }
    }

    /// The number of values per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.width
    }

    /// The values of one row.
    pub fn row(&self, row: usize) -> &[f64] {
        &self.values[row * self.width..(row + 1) * self.width]
    }

    /// All values, row by row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// All values, row by row, to be changed in place.
    pub(crate) fn values_mut(&mut self) -> &mut [f64] {
        &mut self.values
    }
}
