//! Steps that were written as rows, read back as what a state takes.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch};
use datafusion::arrow::datatypes::Float64Type;
use tidemill_core::FeatureType;

use crate::accumulate::Extracted;
use crate::dataset::asked::Layout;
use crate::value::Value;

/// Takes events out of rows without making anything anew for each of them.
pub(super) struct Extracting {
    /// For each kind of event one that is filled again and again.
    events: Vec<Extracted>,
    /// Equal texts are kept once.
    texts: HashSet<Arc<str>>,
    first: usize,
}

impl Extracting {
    /// From rows whose values begin at the column `first`.
    pub(super) fn new(layout: &Layout, first: usize) -> Self {
        let event = |(steps, columns): (usize, &Vec<usize>)| Extracted {
            timestamp: 0,
            offset: 0,
            steps: u32::try_from(steps).expect("definitions name fewer than 2^32 events"),
            passed: 0,
            values: vec![Value::Missing; columns.len()].into(),
        };
        Self {
            events: layout.of_steps.iter().enumerate().map(event).collect(),
            texts: HashSet::new(),
            first,
        }
    }

    /// The event of a row.
    pub(super) fn event(
        &mut self,
        layout: &Layout,
        batch: &RecordBatch,
        row: usize,
        (steps, passed): (u32, u64),
        (timestamp, offset): (i64, u64),
    ) -> &Extracted {
        let event = &mut self.events[steps as usize];
        (event.timestamp, event.offset, event.passed) = (timestamp, offset, passed);
        let columns = &layout.of_steps[steps as usize];
        for (value, &column) in event.values.iter_mut().zip(columns) {
            let array = batch.column(self.first + column);
            *value = match layout.columns[column].feature_type() {
                FeatureType::Number => {
                    let number = array.as_primitive::<Float64Type>().value(row);
                    if number.is_nan() {
                        Value::Missing
                    } else {
                        Value::Number(number)
                    }
                }
                FeatureType::Category => {
                    let texts = array.as_string::<i32>();
                    if texts.is_null(row) {
                        Value::Missing
                    } else {
                        Value::Category(shared(&mut self.texts, texts.value(row)))
                    }
                }
            };
        }
        event
    }
}

fn shared(texts: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    match texts.get(text) {
        Some(known) => known.clone(),
        None => {
            let new: Arc<str> = text.into();
            texts.insert(new.clone());
            new
        }
    }
}
