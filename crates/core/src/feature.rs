//! Features: what is known about an entity at a moment, as single values and as tables of many rows.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// From this AUC or absolute correlation on, a feature alone tells a target too well to have been known at the moment.
pub const TOO_TELLING_FROM: f64 = 0.98;

/// What kind of value a feature has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// A 64-bit float. Counts, sums, seconds, probabilities.
    Number,
    /// One word out of a set that is not known beforehand: a country, a plan.
    Category,
}

/// One feature of one entity at one moment. In JSON: `null`, a number or a string.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
#[serde(untagged)]
pub enum FeatureValue {
    /// Nothing is known: no such event yet, or an empty window for an operation without a neutral value.
    #[default]
    Missing,
    /// A number, never NaN.
    Number(f64),
    /// A category.
    Category(Arc<str>),
}

impl FeatureValue {
    /// A number, or missing where it is not finite.
    pub fn number(value: f64) -> Self {
        if value.is_finite() {
            Self::Number(value)
        } else {
            Self::Missing
        }
    }

    /// The number; NaN for what is missing or not a number.
    pub fn as_number(&self) -> f64 {
        match self {
            Self::Number(value) => *value,
            Self::Missing | Self::Category(_) => f64::NAN,
        }
    }

    /// The category, if it is one.
    pub fn as_category(&self) -> Option<&str> {
        match self {
            Self::Category(value) => Some(value),
            Self::Missing | Self::Number(_) => None,
        }
    }

    /// Equal to the bit, so that -0.0 differs from 0.0: what "online equals offline" means.
    pub fn same_bits(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.to_bits() == b.to_bits(),
            (a, b) => a == b,
        }
    }
}

/// The name, the type and the meaning of one column of features.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureColumn {
    /// `user.orders_30d`.
    pub name: String,
    /// Number or category.
    #[serde(rename = "type")]
    pub feature_type: FeatureType,
    /// In words, for reasons: `orders in the last 30 days`.
    pub label: String,
    /// How a value is shown in words.
    #[serde(default)]
    pub unit: Unit,
}

/// How a number is said in words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A plain number: `3 orders in the last 30 days`.
    #[default]
    Plain,
    /// Seconds before the moment: `last order 41 days ago`.
    SecondsAgo,
}

/// Rows of features, stored by column. All columns have the same number of rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureTable {
    columns: Vec<FeatureColumn>,
    values: Vec<ColumnValues>,
    rows: usize,
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum ColumnValues {
    /// NaN is missing.
    Number(Vec<f64>),
    /// `None` is missing.
    Category(Vec<Option<Arc<str>>>),
}

impl ColumnValues {
    /// The number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Number(values) => values.len(),
            Self::Category(values) => values.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What kind of values they are.
    pub fn feature_type(&self) -> FeatureType {
        match self {
            Self::Number(_) => FeatureType::Number,
            Self::Category(_) => FeatureType::Category,
        }
    }
}

impl FeatureTable {
    /// A table without rows.
    pub fn new(columns: Vec<FeatureColumn>) -> Self {
        let values = columns
            .iter()
            .map(|column| match column.feature_type {
                FeatureType::Number => ColumnValues::Number(Vec::new()),
                FeatureType::Category => ColumnValues::Category(Vec::new()),
            })
            .collect();
        Self {
            columns,
            values,
            rows: 0,
        }
    }

    /// A table of whole columns.
    ///
    /// # Panics
    /// When the columns differ in length, or their values are not of their types.
    pub fn from_columns(columns: Vec<FeatureColumn>, values: Vec<ColumnValues>) -> Self {
        assert_eq!(columns.len(), values.len(), "every column has values");
        let rows = values.first().map_or(0, ColumnValues::len);
        for (column, values) in columns.iter().zip(&values) {
            assert_eq!(
                values.len(),
                rows,
                "all columns have the same number of rows"
            );
            assert_eq!(
                values.feature_type(),
                column.feature_type,
                "values are of their column's type"
            );
        }
        Self {
            columns,
            values,
            rows,
        }
    }

    /// Adds a row; a value of another type than its column's counts as missing.
    ///
    /// # Panics
    /// When the row is not as wide as the table.
    pub fn push(&mut self, row: &[FeatureValue]) {
        assert_eq!(
            row.len(),
            self.columns.len(),
            "a row has one value per column"
        );
        for (column, value) in self.values.iter_mut().zip(row) {
            match column {
                ColumnValues::Number(values) => values.push(value.as_number()),
                ColumnValues::Category(values) => values.push(match value {
                    FeatureValue::Category(value) => Some(value.clone()),
                    FeatureValue::Missing | FeatureValue::Number(_) => None,
                }),
            }
        }
        self.rows += 1;
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// What the columns are.
    pub fn columns(&self) -> &[FeatureColumn] {
        &self.columns
    }

    /// The values of column `index`.
    pub fn values(&self, index: usize) -> &ColumnValues {
        &self.values[index]
    }

    /// The place of the column with that name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// One value.
    pub fn value(&self, row: usize, column: usize) -> FeatureValue {
        match &self.values[column] {
            ColumnValues::Number(values) => FeatureValue::number(values[row]),
            ColumnValues::Category(values) => values[row]
                .clone()
                .map_or(FeatureValue::Missing, FeatureValue::Category),
        }
    }

    /// One row.
    pub fn row(&self, row: usize) -> Vec<FeatureValue> {
        (0..self.columns.len())
            .map(|column| self.value(row, column))
            .collect()
    }

    /// The rows with these indices, in that order.
    pub fn take(&self, rows: &[usize]) -> Self {
        let values = self
            .values
            .iter()
            .map(|column| match column {
                ColumnValues::Number(values) => {
                    ColumnValues::Number(rows.iter().map(|&r| values[r]).collect())
                }
                ColumnValues::Category(values) => {
                    ColumnValues::Category(rows.iter().map(|&r| values[r].clone()).collect())
                }
            })
            .collect();
        Self {
            columns: self.columns.clone(),
            values,
            rows: rows.len(),
        }
    }

    /// The columns whose place is in `columns`, in that order.
    pub fn select(&self, columns: &[usize]) -> Self {
        Self {
            columns: columns.iter().map(|&c| self.columns[c].clone()).collect(),
            values: columns.iter().map(|&c| self.values[c].clone()).collect(),
            rows: self.rows,
        }
    }

    /// Adds the rows of a table with the same columns.
    ///
    /// # Panics
    /// When the columns differ.
    pub fn append(&mut self, other: Self) {
        assert_eq!(self.columns, other.columns, "tables with the same columns");
        for (ours, theirs) in self.values.iter_mut().zip(other.values) {
            match (ours, theirs) {
                (ColumnValues::Number(ours), ColumnValues::Number(theirs)) => ours.extend(theirs),
                (ColumnValues::Category(ours), ColumnValues::Category(theirs)) => {
                    ours.extend(theirs);
                }
                _ => unreachable!("equal columns have equal types"),
            }
        }
        self.rows += other.rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, feature_type: FeatureType) -> FeatureColumn {
        FeatureColumn {
            name: name.into(),
            feature_type,
            label: name.into(),
            unit: Unit::Plain,
        }
    }

    #[test]
    fn rows_go_in_and_come_out() {
        let mut table = FeatureTable::new(vec![
            column("n", FeatureType::Number),
            column("c", FeatureType::Category),
        ]);
        let row = [
            FeatureValue::Number(2.0),
            FeatureValue::Category("de".into()),
        ];
        table.push(&row);
        table.push(&[FeatureValue::Missing, FeatureValue::Missing]);
        assert_eq!(table.row(0), row);
        assert_eq!(table.take(&[1, 0]).row(1), row);
        assert_eq!(table.select(&[1]).row(1), [FeatureValue::Missing]);
    }

    #[test]
    fn values_are_plain_json() {
        let values: Vec<FeatureValue> = serde_json::from_str(r#"[null, 1.5, "de"]"#).unwrap();
        assert_eq!(
            values,
            [
                FeatureValue::Missing,
                FeatureValue::Number(1.5),
                FeatureValue::Category("de".into())
            ]
        );
        assert_eq!(
            serde_json::to_string(&values).unwrap(),
            r#"[null,1.5,"de"]"#
        );
    }
}
