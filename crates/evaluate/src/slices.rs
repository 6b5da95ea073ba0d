//! Where a model is worst: groups of rows that share a value of one feature.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidemill_core::feature::{ColumnValues, FeatureTable};

use crate::{EvaluateError, Metric, Rows, ScoresView};

/// A group of rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice {
    /// The feature: `user.country`.
    pub feature: String,
    /// Which of its values, in words: `country is Germany`, `orders from 2 to 5`.
    pub name: String,
    /// Indices of the rows.
    pub rows: Vec<usize>,
}

/// How good a model is on a slice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceQuality {
    /// See [`Slice::feature`].
    pub feature: String,
    /// See [`Slice::name`].
    pub name: String,
    /// How many rows.
    pub rows: usize,
    /// The metric on the slice.
    pub value: f64,
    /// The metric on all rows.
    pub overall: f64,
}

/// How to look for the worst slices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SliceSearch {
    /// Smaller slices are not looked at: their metric is mostly noise. Default 100.
    pub rows_min: usize,
    /// Numbers are cut into that many groups of about equal size, and what is missing. Default 4.
    pub number_groups: usize,
    /// How many slices are returned at most. Default 5.
    pub count: usize,
}

impl Default for SliceSearch {
    fn default() -> Self {
        Self {
            rows_min: 100,
            number_groups: 4,
            count: 5,
        }
    }
}

impl SliceSearch {
    /// The slices on which the metric is worse than overall, the most significant first: by how much worse, times the
    /// root of the number of rows, as the standard error of a mean falls with that root.
    ///
    /// # Errors
    /// When the table has another number of rows, or the metric cannot be computed of these rows and scores.
    pub fn worst(
        &self,
        table: &FeatureTable,
        rows: &Rows<'_>,
        scores: &ScoresView<'_>,
        metric: Metric,
    ) -> Result<Vec<SliceQuality>, EvaluateError> {
        let Some(overall) = metric.compute(rows, scores)? else {
            return Ok(Vec::new());
        };
        let mut found: Vec<(f64, SliceQuality)> = Vec::new();
        for column in 0..table.columns().len() {
            for slice in slices(table, column, self.number_groups) {
                // A slice of everything compares a number with itself.
                if slice.rows.len() < self.rows_min || slice.rows.len() == rows.count() {
                    continue;
                }
                let Some(value) = on_slice(&slice.rows, rows, scores, metric)? else {
                    continue;
                };
                let worse = metric.improvement(overall, value);
                if worse > 0.0 {
                    let significance = worse * (slice.rows.len() as f64).sqrt();
                    let Slice {
                        feature,
                        name,
                        rows,
                    } = slice;
                    found.push((
                        significance,
                        SliceQuality {
                            feature,
                            name,
                            rows: rows.len(),
                            value,
                            overall,
                        },
                    ));
                }
            }
        }
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        Ok(found
            .into_iter()
            .take(self.count)
            .map(|(_, quality)| quality)
            .collect())
    }
}

/// A metric on some of the rows; `None` where it is not defined or none of them has weight.
///
/// # Errors
/// When the metric cannot be computed of these rows and scores.
pub fn on_slice(
    slice: &[usize],
    rows: &Rows<'_>,
    scores: &ScoresView<'_>,
    metric: Metric,
) -> Result<Option<f64>, EvaluateError> {
    metric.check(rows.task())?;
    rows.check(scores)?;
    let part = Part::new(slice, rows, scores);
    match part.rows() {
        Err(EvaluateError::NoRows) => Ok(None),
        Err(error) => Err(error),
        Ok(rows) => metric.compute(&rows, &part.scores()?),
    }
}

/// Some rows and their scores, copied.
pub(crate) struct Part {
    task: crate::TaskKind,
    targets: Vec<f64>,
    weights: Vec<f64>,
    entities: Vec<u64>,
    scores: Vec<f64>,
}

impl Part {
    pub(crate) fn new(slice: &[usize], rows: &Rows<'_>, scores: &ScoresView<'_>) -> Self {
        Self {
            task: rows.task(),
            targets: slice.iter().map(|row| rows.targets()[*row]).collect(),
            weights: slice.iter().map(|row| rows.weights()[*row]).collect(),
            entities: slice.iter().map(|row| rows.entities()[*row]).collect(),
            scores: slice
                .iter()
                .flat_map(|row| scores.row(*row))
                .copied()
                .collect(),
        }
    }

    pub(crate) fn rows(&self) -> Result<Rows<'_>, EvaluateError> {
        Rows::new(self.task, &self.targets, &self.weights, &self.entities)
    }

    pub(crate) fn scores(&self) -> Result<ScoresView<'_>, EvaluateError> {
        ScoresView::new(self.task.width(), &self.scores)
    }
}

/// All slices of one column, every row in exactly one: by category, or by groups of about equal size of a number; what
/// is missing is a slice of its own.
pub fn slices(table: &FeatureTable, column: usize, number_groups: usize) -> Vec<Slice> {
    let definition = &table.columns()[column];
    let slice = |name: String, rows: Vec<usize>| Slice {
        feature: definition.name.clone(),
        name,
        rows,
    };
    let label = &definition.label;
    match table.values(column) {
        ColumnValues::Category(values) => {
            let mut groups = BTreeMap::<Option<&str>, Vec<usize>>::new();
            for (row, value) in values.iter().enumerate() {
                groups.entry(value.as_deref()).or_default().push(row);
            }
            let name = |value: Option<&str>| format!("{label} is {}", value.unwrap_or("unknown"));
            groups
                .into_iter()
                .map(|(value, rows)| slice(name(value), rows))
                .collect()
        }
        ColumnValues::Number(values) => {
            let (mut known, missing): (Vec<usize>, Vec<usize>) =
                (0..values.len()).partition(|row| values[*row].is_finite());
            known.sort_by(|a, b| values[*a].total_cmp(&values[*b]));
            let mut found = Vec::new();
            while !known.is_empty() {
                let left = number_groups.saturating_sub(found.len()).max(1);
                let mut end = known.len().div_ceil(left);
                // Equal numbers stay together.
                while end < known.len() && values[known[end]] == values[known[end - 1]] {
                    end += 1;
                }
                let rest = known.split_off(end);
                let (low, high) = (values[known[0]], values[known[end - 1]]);
                let name = if low == high {
                    format!("{label} is {}", short(low))
                } else {
                    format!("{label} from {} to {}", short(low), short(high))
                };
                found.push(slice(name, known));
                known = rest;
            }
            if !missing.is_empty() {
                found.push(slice(format!("{label} is unknown"), missing));
            }
            found
        }
    }
}

/// A number for people: whole ones as they are, others with four digits that count.
fn short(number: f64) -> String {
    if number.fract() == 0.0 {
        return format!("{number}");
    }
    let decimals = (3.0 - number.abs().log10().floor()).clamp(0.0, 9.0);
    let text = format!("{number:.*}", decimals as usize);
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TaskKind;
    use tidemill_core::feature::{FeatureColumn, FeatureType, FeatureValue, Unit};

    #[test]
    fn bounds_are_short() {
        for (number, written) in [
            (3.0, "3"),
            (1.721_293_234_472_057_5, "1.721"),
            (1_136.679_999, "1137"),
            (168_469.6, "168470"),
            (0.000_123_456, "0.0001235"),
            (0.5, "0.5"),
            (-12.25, "-12.25"),
        ] {
            assert_eq!(short(number), written);
        }
    }

    fn table(rows: &[(Option<&str>, f64)]) -> FeatureTable {
        let column = |name: &str, feature_type| FeatureColumn {
            name: format!("user.{name}"),
            feature_type,
            label: name.to_owned(),
            unit: Unit::Plain,
        };
        let mut table = FeatureTable::new(vec![
            column("country", FeatureType::Category),
            column("orders", FeatureType::Number),
        ]);
        for (country, orders) in rows {
            let country = country.map_or(FeatureValue::Missing, |country| {
                FeatureValue::Category(country.into())
            });
            table.push(&[country, FeatureValue::number(*orders)]);
        }
        table
    }

    #[test]
    fn every_row_is_in_one_slice_of_each_column() {
        let rows: Vec<(Option<&str>, f64)> = (0..90)
            .map(|i| {
                (
                    ["de", "fr"].get(i % 3).copied(),
                    if i % 10 == 0 {
                        f64::NAN
                    } else {
                        (i % 7) as f64
                    },
                )
            })
            .collect();
        let table = table(&rows);
        let names = |column| -> Vec<(String, usize)> {
            slices(&table, column, 3)
                .into_iter()
                .map(|slice| (slice.name, slice.rows.len()))
                .collect()
        };
        let expected = [
            ("country is unknown", 30),
            ("country is de", 30),
            ("country is fr", 30),
        ];
        assert_eq!(
            names(0),
            expected.map(|(name, rows)| (name.to_owned(), rows))
        );
        let orders = names(1);
        assert_eq!(orders.iter().map(|(_, rows)| rows).sum::<usize>(), 90);
        assert_eq!(orders[0].0, "orders from 0 to 2");
        assert_eq!(orders.last().unwrap(), &("orders is unknown".to_owned(), 9));
    }

    #[test]
    fn the_slice_where_a_model_guesses_is_found() {
        let data: Vec<(Option<&str>, f64)> = (0..1_000)
            .map(|i| (Some(["de", "fr"][i / 10 % 2]), (i % 9) as f64))
            .collect();
        let targets: Vec<f64> = (0..1_000).map(|i| (i % 2) as f64).collect();
        let scores: Vec<f64> = (0..1_000)
            .map(|i| {
                if i / 10 % 2 == 1 {
                    0.5
                } else {
                    0.2 + 0.6 * (i % 2) as f64
                }
            })
            .collect();
        let entities: Vec<u64> = (0..1_000).collect();
        let rows = Rows::new(TaskKind::Binary, &targets, &[1.0; 1_000], &entities).unwrap();
        let scores = ScoresView::new(1, &scores).unwrap();
        let worst = SliceSearch::default()
            .worst(&table(&data), &rows, &scores, Metric::Auc)
            .unwrap();
        assert_eq!(
            (worst[0].name.as_str(), worst[0].rows, worst[0].value),
            ("country is fr", 500, 0.5)
        );
        assert!(worst[0].overall > 0.8);
    }
}
