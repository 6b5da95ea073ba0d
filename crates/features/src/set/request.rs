//! Features of a request: made of the moment at which it is asked and of everything that is known then, whoever it is about.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, Float64Array};
use tidemill_core::{FeatureType, Timestamp};

use super::{FeatureSet, Source};
use crate::expression::{RowExpression, to_array};

/// A part of the moment at which something is asked, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MomentPart {
    Hour,
    Weekday,
    Day,
    Month,
}

impl MomentPart {
    pub(super) const ALL: [Self; 4] = [Self::Hour, Self::Weekday, Self::Day, Self::Month];

    /// How expressions call it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Weekday => "weekday",
            Self::Day => "day",
            Self::Month => "month",
        }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.as_str() == name)
    }

    /// Hours from 0 to 23, days of the week from 1 for Monday to 7, days of the month and months from 1.
    fn of(self, moment: Timestamp) -> f64 {
        f64::from(match self {
            Self::Hour => moment.hour(),
            Self::Weekday => moment.weekday(),
            Self::Day => moment.day_of_month(),
            Self::Month => moment.month(),
        })
    }
}

/// What an expression of a request reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestInput {
    /// A column of the set.
    Column(usize),
    Moment(MomentPart),
}

/// The expressions of a selection that are made of columns of other entities.
#[derive(Debug, Default)]
pub(super) struct RequestRead {
    /// The columns of the set that are read beside those of requests.
    pub(super) plain: Vec<usize>,
    /// Expressions in an order in which they can be computed, each with what it reads.
    derived: Vec<(Arc<RowExpression>, Vec<Input>)>,
    /// For each column of the selection where it is found.
    outputs: Vec<Input>,
}

#[derive(Debug, Clone, Copy)]
enum Input {
    /// One of [`RequestRead::plain`].
    Plain(usize),
    Derived(usize),
    Moment(MomentPart),
}

impl RequestRead {
    /// How the selected columns of a set come about.
    pub(super) fn new(set: &FeatureSet, selected: &[usize]) -> Self {
        let mut read = Self::default();
        let mut derived = Vec::new();
        for &column in selected {
            let output = read.place(set, column, &mut derived);
            read.outputs.push(output);
        }
        read
    }

    fn place(&mut self, set: &FeatureSet, column: usize, known: &mut Vec<usize>) -> Input {
        let (entity, place) = set.0.places[column];
        let Source::Request { expression, inputs } = &set.entities()[entity].columns[place].source
        else {
            let known = self.plain.iter().position(|of| *of == column);
            return Input::Plain(known.unwrap_or_else(|| {
                self.plain.push(column);
                self.plain.len() - 1
            }));
        };
        if let Some(place) = known.iter().position(|of| *of == column) {
            return Input::Derived(place);
        }
        let inputs = inputs
            .iter()
            .map(|input| match input {
                RequestInput::Column(column) => self.place(set, *column, known),
                RequestInput::Moment(part) => Input::Moment(*part),
            })
            .collect();
        known.push(column);
        self.derived.push((expression.clone(), inputs));
        Input::Derived(self.derived.len() - 1)
    }

    /// Whether nothing is made of others.
    pub(super) fn is_plain(&self) -> bool {
        self.derived.is_empty()
    }

    /// The selected columns out of the plain ones, at these moments, and how often an expression failed on a row.
    pub(super) fn complete(&self, plain: &[ArrayRef], moments: &[i64]) -> (Vec<ArrayRef>, u64) {
        let (mut derived, mut failures): (Vec<ArrayRef>, u64) = (Vec::new(), 0);
        for (expression, inputs) in &self.derived {
            let inputs = inputs
                .iter()
                .map(|input| array(*input, plain, &derived, moments));
            let (values, failed) = expression.evaluate(inputs.collect(), moments.len());
            derived.push(to_array(&values));
            failures += failed;
        }
        let outputs = self.outputs.iter();
        let arrays = outputs.map(|output| array(*output, plain, &derived, moments));
        (arrays.collect(), failures)
    }

    /// For each selected column its place among the plain ones, where it is one.
    pub(super) fn plain_places(&self) -> impl Iterator<Item = usize> {
        self.outputs.iter().filter_map(|output| match output {
            Input::Plain(place) => Some(*place),
            Input::Derived(_) | Input::Moment(_) => None,
        })
    }
}

fn array(input: Input, plain: &[ArrayRef], derived: &[ArrayRef], moments: &[i64]) -> ArrayRef {
    match input {
        Input::Plain(place) => plain[place].clone(),
        Input::Derived(place) => derived[place].clone(),
        Input::Moment(part) => {
            let moments = moments.iter().map(|&moment| Timestamp::from_micros(moment));
            Arc::new(Float64Array::from_iter_values(
                moments.map(|moment| part.of(moment)),
            ))
        }
    }
}

/// The type of what is read.
pub(super) fn input_type(
    input: RequestInput,
    of_column: impl Fn(usize) -> FeatureType,
) -> FeatureType {
    match input {
        RequestInput::Column(column) => of_column(column),
        RequestInput::Moment(_) => FeatureType::Number,
    }
}
