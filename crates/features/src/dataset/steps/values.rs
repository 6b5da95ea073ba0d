//! The values of steps, column by column.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayBuilder, ArrayRef, Float64Array, StringArray, StringBuilder,
};
use tidemill_core::FeatureType;

use super::{BATCH_ROWS, taken};
use crate::dataset::asked::Layout;
use crate::value::Value;

/// Columns that are being filled. Every row gives each column one value.
pub(super) struct Values(Vec<ValueColumn>);

enum ValueColumn {
    /// NaN is missing.
    Number(Vec<f64>),
    Text(StringBuilder),
}

/// Columns that are full.
#[derive(Debug)]
pub(super) struct FullValues(Vec<FullColumn>);

#[derive(Debug)]
enum FullColumn {
    Number(Vec<f64>),
    Text(StringArray),
}

impl Values {
    pub(super) fn new(layout: &Layout) -> Self {
        let column = |kind: &FeatureType| match kind {
            FeatureType::Number => ValueColumn::Number(Vec::new()),
            FeatureType::Category => ValueColumn::Text(StringBuilder::with_capacity(0, 0)),
        };
        Self(layout.columns.iter().map(column).collect())
    }

    /// Makes room for a whole batch at once.
    pub(super) fn reserve(&mut self) {
        for column in &mut self.0 {
            if let ValueColumn::Number(numbers) = column {
                numbers.reserve_exact(BATCH_ROWS);
            }
        }
    }

    pub(super) fn push(&mut self, column: usize, value: &Value) {
        match (&mut self.0[column], value) {
            (ValueColumn::Number(column), Value::Number(number)) => column.push(*number),
            (ValueColumn::Number(column), _) => column.push(f64::NAN),
            (ValueColumn::Text(column), Value::Category(text)) => column.append_value(text),
            (ValueColumn::Text(column), _) => column.append_null(),
        }
    }

    /// Adds a row of full columns, but for the columns of which something else is `known`.
    pub(super) fn push_row(&mut self, from: &FullValues, row: usize, known: &[(usize, Value)]) {
        for (place, (column, from)) in self.0.iter_mut().zip(&from.0).enumerate() {
            let known = known.iter().find(|(of, _)| *of == place);
            match (column, from, known.map(|(_, value)| value)) {
                (ValueColumn::Number(column), FullColumn::Number(from), None) => {
                    column.push(from[row]);
                }
                (ValueColumn::Text(column), FullColumn::Text(from), None) if from.is_valid(row) => {
                    column.append_value(from.value(row));
                }
                (ValueColumn::Number(column), _, Some(Value::Number(number))) => {
                    column.push(*number);
                }
                (ValueColumn::Text(column), _, Some(Value::Category(text))) => {
                    column.append_value(text);
                }
                (ValueColumn::Number(column), _, _) => column.push(f64::NAN),
                (ValueColumn::Text(column), _, _) => column.append_null(),
            }
        }
    }

    /// Makes all columns as long as the rows are.
    pub(super) fn fill(&mut self, rows: usize) {
        for column in &mut self.0 {
            match column {
                ValueColumn::Number(numbers) if numbers.len() < rows => numbers.push(f64::NAN),
                ValueColumn::Text(texts) if ArrayBuilder::len(texts) < rows => texts.append_null(),
                ValueColumn::Number(_) | ValueColumn::Text(_) => {}
            }
        }
    }

    pub(super) fn take(&mut self) -> Vec<ArrayRef> {
        let take = |column: &mut ValueColumn| -> ArrayRef {
            match column {
                ValueColumn::Number(numbers) => Arc::new(Float64Array::from(taken(numbers))),
                ValueColumn::Text(texts) => Arc::new(texts.finish()),
            }
        };
        self.0.iter_mut().map(take).collect()
    }

    pub(super) fn full(self) -> FullValues {
        let full = |column: ValueColumn| match column {
            ValueColumn::Number(numbers) => FullColumn::Number(numbers),
            ValueColumn::Text(mut texts) => FullColumn::Text(texts.finish()),
        };
        FullValues(self.0.into_iter().map(full).collect())
    }
}
