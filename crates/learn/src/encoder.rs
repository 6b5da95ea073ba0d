//! From feature values to the numbers that learners compute with: categories get codes.

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{ColumnValues, FeatureColumn, FeatureTable, FeatureValue};

/// The columns of the training table and a dictionary for each category among them. Part of the artifact.
///
/// Numbers stay what they are; missing and not finite becomes NaN. Categories become codes: 0 for the most
/// frequent one in training, and so on; the last code is "other", which stands for the rare ones of training and for
/// those that training never saw. Where training had no rare ones, an unseen category is missing (NaN), because
/// nothing was learnt about "other".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoder {
    columns: Vec<FeatureColumn>,
    dictionaries: Vec<Option<Dictionary>>,
}

impl Encoder {
    /// Learns the dictionaries. A category needs `rows_min` rows of positive weight for its own code, and the
    /// `categories_max` most frequent ones get one (ties by name).
    pub fn fit(
        table: &FeatureTable,
        weights: &[f64],
        rows_min: usize,
        categories_max: usize,
    ) -> Self {
        let dictionaries = (0..table.columns().len())
            .map(|column| match table.values(column) {
                ColumnValues::Number(_) => None,
                ColumnValues::Category(values) => Some(Dictionary::fit(
                    values
                        .iter()
                        .zip(weights)
                        .filter(|(_, weight)| **weight > 0.0)
                        .filter_map(|(v, _)| v.as_deref()),
                    rows_min,
                    categories_max,
                )),
            })
            .collect();
        Self {
            columns: table.columns().to_vec(),
            dictionaries,
        }
    }

    /// The columns of the training table.
    pub fn columns(&self) -> &[FeatureColumn] {
        &self.columns
    }

    /// How many codes column `column` has, "other" included; `None` for numbers.
    pub fn codes(&self, column: usize) -> Option<usize> {
        self.dictionaries[column]
            .as_ref()
            .map(|dictionary| dictionary.codes.len() + 1)
    }

    /// One value of column `column` as a number.
    pub fn encode(&self, column: usize, value: &FeatureValue) -> f64 {
        match (&self.dictionaries[column], value) {
            (None, FeatureValue::Number(number)) if number.is_finite() => *number,
            (Some(dictionary), FeatureValue::Category(category)) => dictionary.code(category),
            _ => f64::NAN,
        }
    }

    /// A row as numbers, appended to `encoded`.
    pub fn encode_row(&self, row: &[FeatureValue], encoded: &mut Vec<f64>) {
        encoded.extend(
            row.iter()
                .enumerate()
                .map(|(column, value)| self.encode(column, value)),
        );
    }

    /// A column of a table as numbers: for each row what [`Encoder::encode`] says.
    pub fn encode_column(&self, column: usize, values: &ColumnValues) -> Vec<f64> {
        match (&self.dictionaries[column], values) {
            (None, ColumnValues::Number(values)) => values
                .iter()
                .map(|&value| if value.is_finite() { value } else { f64::NAN })
                .collect(),
            (Some(dictionary), ColumnValues::Category(values)) => values
                .iter()
                .map(|value| {
                    value
                        .as_ref()
                        .map_or(f64::NAN, |category| dictionary.code(category))
                })
                .collect(),
            (None, ColumnValues::Category(values)) => vec![f64::NAN; values.len()],
            (Some(_), ColumnValues::Number(values)) => vec![f64::NAN; values.len()],
        }
    }
}

/// The codes of one column's categories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredDictionary", into = "StoredDictionary")]
struct Dictionary {
    codes: HashMap<String, u32>,
    other_seen: bool,
}

/// How a dictionary is stored: the categories in the order of their codes.
#[derive(Serialize, Deserialize)]
struct StoredDictionary {
    categories: Vec<String>,
    other_seen: bool,
}

impl From<StoredDictionary> for Dictionary {
    fn from(stored: StoredDictionary) -> Self {
        Self {
            codes: stored.categories.into_iter().zip(0..).collect(),
            other_seen: stored.other_seen,
        }
    }
}

impl From<Dictionary> for StoredDictionary {
    fn from(dictionary: Dictionary) -> Self {
        let mut categories: Vec<(String, u32)> = dictionary.codes.into_iter().collect();
        categories.sort_unstable_by_key(|(_, code)| *code);
        Self {
            categories: categories
                .into_iter()
                .map(|(category, _)| category)
                .collect(),
            other_seen: dictionary.other_seen,
        }
    }
}

impl Dictionary {
    fn fit<'a>(
        values: impl Iterator<Item = &'a str>,
        rows_min: usize,
        categories_max: usize,
    ) -> Self {
        let mut counts = BTreeMap::<&str, usize>::new();
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
        let mut ordered: Vec<(&str, usize)> = counts.into_iter().collect();
        // Stable, so that equally frequent categories stay in the order of their names.
        ordered.sort_by_key(|(_, rows)| std::cmp::Reverse(*rows));
        let kept = ordered
            .iter()
            .take(categories_max)
            .take_while(|(_, rows)| *rows >= rows_min)
            .count();
        Self {
            codes: ordered[..kept]
                .iter()
                .zip(0..)
                .map(|((category, _), code)| ((*category).to_owned(), code))
                .collect(),
            other_seen: kept < ordered.len(),
        }
    }

    fn code(&self, category: &str) -> f64 {
        match self.codes.get(category) {
            Some(code) => f64::from(*code),
            None if self.other_seen => self.codes.len() as f64,
            None => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidemill_core::feature::{FeatureType, Unit};

    fn table(values: &[Option<&str>]) -> FeatureTable {
        let mut table = FeatureTable::new(vec![FeatureColumn {
            name: "country".into(),
            feature_type: FeatureType::Category,
            label: "country".into(),
            unit: Unit::Plain,
        }]);
        for value in values {
            table.push(&[value.map_or(FeatureValue::Missing, |value| {
                FeatureValue::Category(value.into())
            })]);
        }
        table
    }

    fn check(values: &[Option<&str>], rows_min: usize, asked: &str, expected: f64) {
        let encoder = Encoder::fit(&table(values), &vec![1.0; values.len()], rows_min, 10);
        let stored = serde_json::to_string(&encoder).unwrap();
        let loaded: Encoder = serde_json::from_str(&stored).unwrap();
        assert_eq!(loaded, encoder);
        let code = loaded.encode(0, &FeatureValue::Category(asked.into()));
        assert_eq!(code.to_bits(), expected.to_bits(), "{asked}: {code}");
        assert_eq!(serde_json::to_string(&loaded).unwrap(), stored);
    }

    #[test]
    fn codes_follow_frequency_and_the_rare_are_other() {
        let values = [
            Some("de"),
            Some("fr"),
            Some("de"),
            None,
            Some("at"),
            Some("fr"),
            Some("de"),
        ];
        check(&values, 2, "de", 0.0);
        check(&values, 2, "fr", 1.0);
        check(&values, 2, "at", 2.0);
        check(&values, 2, "never seen", 2.0);
        check(&values, 1, "never seen", f64::NAN);
    }

    #[test]
    fn a_value_of_another_type_is_missing() {
        let encoder = Encoder::fit(&table(&[Some("de")]), &[1.0], 1, 10);
        assert!(encoder.encode(0, &FeatureValue::Number(1.0)).is_nan());
        assert_eq!(encoder.codes(0), Some(2));
    }
}
