//! Features made from other features of the same entity: `opens_30d / 30.0`.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray, Float64Array, StringArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Float64Type};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use tidemill_core::FeatureType;
use tidemill_core::feature::ColumnValues;

use super::{Compiled, Fault, Parsed};

/// A scalar expression over columns of features, compiled. What is not a finite number is missing.
#[derive(Debug, Clone)]
pub struct RowExpression {
    formula: RowFormula,
    result: FeatureType,
}

#[derive(Debug, Clone)]
enum RowFormula {
    Sql(Compiled),
    /// The first column divided by the second.
    Ratio,
}

impl RowExpression {
    /// Compiles a parsed expression whose columns have these types, in the order of [`Parsed::names`].
    pub(crate) fn compile(parsed: Parsed, types: &[FeatureType]) -> Result<Self, Fault> {
        let fields = parsed.names().iter().zip(types).map(|(name, kind)| {
            let data_type = match kind {
                FeatureType::Number => DataType::Float64,
                FeatureType::Category => DataType::Utf8,
            };
            ArrowField::new(name, data_type, true)
        });
        let fields = fields.collect();
        let compiled = parsed.compile(fields)?;
        let result = match &compiled.result {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => FeatureType::Category,
            DataType::Boolean | DataType::Null => FeatureType::Number,
            other if other.is_numeric() => FeatureType::Number,
            other => {
                return Err(Fault::new(format!(
                    "a feature is a number or a text, this is {other}"
                )));
            }
        };
        Ok(Self {
            formula: RowFormula::Sql(compiled),
            result,
        })
    }

    /// One column of numbers divided by another; missing where the other is 0.
    pub(crate) fn ratio() -> Self {
        Self {
            formula: RowFormula::Ratio,
            result: FeatureType::Number,
        }
    }

    /// What it gives: numbers (true and false as 1 and 0) or categories.
    pub fn result(&self) -> FeatureType {
        self.result
    }

    /// Its values for all rows of its input columns, and for how many rows it could not be evaluated (those are missing).
    pub fn evaluate(&self, columns: Vec<ArrayRef>, rows: usize) -> (ColumnValues, u64) {
        if let Some(values) = self.evaluate_batch(columns.clone(), rows) {
            return (values, 0);
        }
        let mut failures = 0;
        let mut all = match self.result {
            FeatureType::Number => ColumnValues::Number(Vec::with_capacity(rows)),
            FeatureType::Category => ColumnValues::Category(Vec::with_capacity(rows)),
        };
        for row in 0..rows {
            let one = self.evaluate_batch(
                columns.iter().map(|column| column.slice(row, 1)).collect(),
                1,
            );
            failures += u64::from(one.is_none());
            match (&mut all, one) {
                (ColumnValues::Number(all), Some(ColumnValues::Number(one))) => all.extend(one),
                (ColumnValues::Category(all), Some(ColumnValues::Category(one))) => all.extend(one),
                (ColumnValues::Number(all), _) => all.push(f64::NAN),
                (ColumnValues::Category(all), _) => all.push(None),
            }
        }
        (all, failures)
    }

    fn evaluate_batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Option<ColumnValues> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let compiled = match &self.formula {
            RowFormula::Sql(compiled) => compiled,
            RowFormula::Ratio => return divide(&columns),
        };
        let batch =
            RecordBatch::try_new_with_options(Arc::clone(&compiled.schema), columns, &options)
                .ok()?;
        let result = compiled
            .physical
            .evaluate(&batch)
            .and_then(|value| value.into_array(rows))
            .ok()?;
        match self.result {
            FeatureType::Number => {
                let result = if *result.data_type() == DataType::Float64 {
                    result
                } else {
                    cast(&result, &DataType::Float64).ok()?
                };
                let numbers = result.as_primitive_opt::<Float64Type>()?;
                Some(ColumnValues::Number(numbers.iter().map(finite).collect()))
            }
            FeatureType::Category => {
                let result = if *result.data_type() == DataType::Utf8 {
                    result
                } else {
                    cast(&result, &DataType::Utf8).ok()?
                };
                let texts = result.as_string_opt::<i32>()?;
                let category =
                    |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Arc::from);
                Some(ColumnValues::Category(texts.iter().map(category).collect()))
            }
        }
    }
}

/// A number; what is not finite is missing.
fn finite(number: Option<f64>) -> f64 {
    number
        .filter(|number| number.is_finite())
        .unwrap_or(f64::NAN)
}

fn divide(columns: &[ArrayRef]) -> Option<ColumnValues> {
    let numbers = |place: usize| columns.get(place)?.as_primitive_opt::<Float64Type>();
    let pairs = numbers(0)?.iter().zip(numbers(1)?);
    let ratio = |(numerator, denominator): (Option<f64>, Option<f64>)| {
        finite(numerator.zip(denominator).map(|(a, b)| a / b))
    };
    Some(ColumnValues::Number(pairs.map(ratio).collect()))
}

/// A column of features as an Arrow array; what is missing is NULL.
pub(crate) fn to_array(values: &ColumnValues) -> ArrayRef {
    match values {
        ColumnValues::Number(numbers) => Arc::new(Float64Array::from_iter(
            numbers
                .iter()
                .map(|number| (!number.is_nan()).then_some(*number)),
        )),
        ColumnValues::Category(texts) => {
            Arc::new(StringArray::from_iter(texts.iter().map(Option::as_deref)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, a: Option<f64>, c: Option<&str>, expected: ColumnValues) {
        let parsed = Parsed::parse(text).unwrap();
        let types: Vec<FeatureType> = parsed
            .names()
            .iter()
            .map(|name| {
                if name == "c" {
                    FeatureType::Category
                } else {
                    FeatureType::Number
                }
            })
            .collect();
        let columns = parsed.names().iter().map(|name| {
            to_array(&if name == "c" {
                ColumnValues::Category(vec![c.map(Arc::from)])
            } else {
                ColumnValues::Number(vec![a.unwrap_or(f64::NAN)])
            })
        });
        let columns = columns.collect();
        let (found, failures) = RowExpression::compile(parsed, &types)
            .unwrap()
            .evaluate(columns, 1);
        assert_eq!(
            (format!("{found:?}"), failures),
            (format!("{expected:?}"), 0),
            "{text}"
        );
    }

    #[test]
    fn ratios_are_missing_where_nothing_is_divided_or_by_nothing() {
        let column = |numbers: &[f64]| to_array(&ColumnValues::Number(numbers.to_vec()));
        let missing = f64::NAN;
        let columns = vec![
            column(&[3.0, 3.0, 0.0, missing, 3.0, 1e300]),
            column(&[2.0, 0.0, 0.0, 2.0, missing, 1e-300]),
        ];
        let (found, failures) = RowExpression::ratio().evaluate(columns, 6);
        let expected = [1.5, missing, missing, missing, missing, missing];
        assert_eq!(
            (format!("{found:?}"), failures),
            (format!("{:?}", ColumnValues::Number(expected.to_vec())), 0)
        );
    }

    #[test]
    fn expressions_give_numbers_and_categories() {
        let number = |number: f64| ColumnValues::Number(vec![number]);
        check("a / 30.0", Some(15.0), None, number(0.5));
        check("a / 0", Some(15.0), None, number(f64::NAN));
        check("a / 30.0", None, None, number(f64::NAN));
        check("coalesce(a, 7) + 1", None, None, number(8.0));
        check("a > 3", Some(4.0), None, number(1.0));
        check("c = 'x'", None, Some("x"), number(1.0));
        check(
            "upper(c)",
            None,
            Some("x"),
            ColumnValues::Category(vec![Some("X".into())]),
        );
        check(
            "CASE WHEN a > 1 THEN 'many' ELSE 'few' END",
            Some(2.0),
            None,
            ColumnValues::Category(vec![Some("many".into())]),
        );
        check("1", None, None, number(1.0));
    }
}
