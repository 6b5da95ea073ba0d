//! Steps that were written as rows, read back as what a state takes.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{Array, AsArray, RecordBatch, StringArray};
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
}

/// The values of a batch of rows.
pub(super) struct ValueColumns<'b>(Vec<ValueColumn<'b>>);

enum ValueColumn<'b> {
    Number(&'b [f64]),
    Text(&'b StringArray),
}

/// The fixed columns of an event.
pub(super) struct EventPlace {
    pub(super) row: usize,
    pub(super) steps: usize,
    pub(super) passed: u64,
    pub(super) timestamp: i64,
    pub(super) offset: u64,
}

impl<'b> ValueColumns<'b> {
    /// The columns of a batch from `first` on.
    pub(super) fn of(layout: &Layout, batch: &'b RecordBatch, first: usize) -> Self {
        let column = |(place, kind): (usize, &FeatureType)| {
            let array = batch.column(first + place);
            match kind {
                FeatureType::Number => {
                    ValueColumn::Number(array.as_primitive::<Float64Type>().values())
                }
                FeatureType::Category => ValueColumn::Text(array.as_string::<i32>()),
            }
        };
        Self(layout.columns.iter().enumerate().map(column).collect())
    }

    /// A number; NaN where it is missing.
    pub(super) fn number(&self, column: usize, row: usize) -> f64 {
        match &self.0[column] {
            ValueColumn::Number(numbers) => numbers[row],
            ValueColumn::Text(_) => f64::NAN,
        }
    }
}

impl Extracting {
    pub(super) fn new(layout: &Layout) -> Self {
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
        }
    }

    /// The event of a row.
    pub(super) fn event(
        &mut self,
        layout: &Layout,
        values: &ValueColumns<'_>,
        place: &EventPlace,
    ) -> &Extracted {
        let event = &mut self.events[place.steps];
        (event.timestamp, event.offset) = (place.timestamp, place.offset);
        event.passed = place.passed;
        let columns = &layout.of_steps[place.steps];
        for (value, &column) in event.values.iter_mut().zip(columns) {
            *value = match &values.0[column] {
                ValueColumn::Number(numbers) if numbers[place.row].is_nan() => Value::Missing,
                ValueColumn::Number(numbers) => Value::Number(numbers[place.row]),
                ValueColumn::Text(texts) if texts.is_null(place.row) => Value::Missing,
                ValueColumn::Text(texts) => {
                    Value::Category(shared(&mut self.texts, texts.value(place.row)))
                }
            };
        }
        event
    }
}

/// The one text that stands for all that are equal to it.
pub(crate) fn shared(texts: &mut HashSet<Arc<str>>, text: &str) -> Arc<str> {
    match texts.get(text) {
        Some(known) => known.clone(),
        None => {
            let new: Arc<str> = text.into();
            texts.insert(new.clone());
            new
        }
    }
}
