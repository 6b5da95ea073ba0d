//! Selections of features, and how they are read from states.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray};
use datafusion::arrow::datatypes::Float64Type;
use tidemill_core::feature::ColumnValues;
use tidemill_core::project::{
    Located, Observe, PredictModel, Problem, ProjectError, RecommendModel, did_you_mean,
};
use tidemill_core::{FeatureColumn, FeatureType, FeatureValue, Timestamp};

use super::request::RequestRead;
use super::{Entity, FeatureSet, Source};
use crate::FeatureError;
use crate::accumulate::{EntityState, StatePlan};
use crate::expression::{EventCondition, to_array};

/// Some columns of a [`FeatureSet`] in a fixed order: what a model reads. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ModelFeatures(Arc<Selection>);

#[derive(Debug)]
struct Selection {
    set: FeatureSet,
    columns: Vec<FeatureColumn>,
    reads: Vec<EntityRead>,
    /// For each plain column of `request` which of `reads` has it, and where.
    layout: Vec<(usize, usize)>,
    request: RequestRead,
}

/// What is read of one entity: first the columns that come from aggregates, then those made of them.
#[derive(Debug, Clone)]
pub(crate) struct EntityRead {
    /// Which entity of the set.
    pub(crate) entity: usize,
    /// The windows that are read, one after the other.
    slots: Vec<(usize, usize)>,
    /// For each column from an aggregate its place in the values of all slots.
    raw: Vec<usize>,
    /// The types of those columns.
    types: Vec<FeatureType>,
    /// Expressions and the columns (of this read) that they take, in an order in which they can be computed.
    derived: Vec<(Arc<crate::expression::RowExpression>, Vec<usize>)>,
}

impl ModelFeatures {
    pub(super) fn new(set: &FeatureSet, selected: &[usize]) -> Self {
        let request = RequestRead::new(set, selected);
        let plain = request.plain.iter();
        let places: Vec<(usize, usize)> = plain.map(|&column| set.0.places[column]).collect();
        let mut reads = Vec::new();
        let mut layout = vec![(0, 0); places.len()];
        for entity in 0..set.entities().len() {
            let of_entity: Vec<usize> = places
                .iter()
                .filter(|(of, _)| *of == entity)
                .map(|(_, column)| *column)
                .collect();
            if of_entity.is_empty() {
                continue;
            }
            let (read, local) = EntityRead::new(set, entity, &of_entity);
            for (index, _) in places
                .iter()
                .enumerate()
                .filter(|(_, (of, _))| *of == entity)
            {
                let column = places[index].1;
                layout[index] = (reads.len(), local[&column]);
            }
            reads.push(read);
        }
        let columns = selected
            .iter()
            .map(|&column| set.0.columns[column].clone())
            .collect();
        Self(Arc::new(Selection {
            set: set.clone(),
            columns,
            reads,
            layout,
            request,
        }))
    }

    /// What the columns are, in order.
    pub fn columns(&self) -> &[FeatureColumn] {
        &self.0.columns
    }

    /// The names of the columns, in order.
    pub fn names(&self) -> Vec<String> {
        self.0
            .columns
            .iter()
            .map(|column| column.name.clone())
            .collect()
    }

    /// The definitions that they were selected from.
    pub fn set(&self) -> &FeatureSet {
        &self.0.set
    }

    pub(crate) fn reads(&self) -> &[EntityRead] {
        &self.0.reads
    }

    /// The columns in their order at one moment, out of what all reads say, and how often an expression failed.
    pub(crate) fn row(
        &self,
        reads: &[Vec<FeatureValue>],
        moment: Timestamp,
    ) -> (Vec<FeatureValue>, u64) {
        let plain = |place: usize| {
            let (read, column) = self.0.layout[place];
            reads[read][column].clone()
        };
        if self.0.request.is_plain() {
            return (self.0.request.plain_places().map(plain).collect(), 0);
        }
        let types = self.0.request.plain.iter();
        let arrays: Vec<ArrayRef> = types
            .enumerate()
            .map(|(place, &column)| {
                let kind = self.0.set.columns()[column].feature_type;
                to_array(&column_of_one(&plain(place), kind))
            })
            .collect();
        let (columns, failures) = self.0.request.complete(&arrays, &[moment.micros()]);
        let values = columns
            .iter()
            .zip(&self.0.columns)
            .map(|(array, column)| value_of_one(array, column.feature_type));
        (values.collect(), failures)
    }

    /// The columns in their order, out of the columns of all reads at these moments, and how often an expression failed.
    pub(crate) fn arrays(&self, reads: &[Vec<ArrayRef>], moments: &[i64]) -> (Vec<ArrayRef>, u64) {
        let layout = self.0.layout.iter();
        let plain: Vec<ArrayRef> = layout
            .map(|&(read, column)| reads[read][column].clone())
            .collect();
        self.0.request.complete(&plain, moments)
    }
}

fn column_of_one(value: &FeatureValue, kind: FeatureType) -> ColumnValues {
    match kind {
        FeatureType::Number => ColumnValues::Number(vec![value.as_number()]),
        FeatureType::Category => ColumnValues::Category(vec![value.as_category().map(Arc::from)]),
    }
}

fn value_of_one(array: &ArrayRef, kind: FeatureType) -> FeatureValue {
    if array.is_null(0) {
        return FeatureValue::Missing;
    }
    match kind {
        FeatureType::Number => FeatureValue::number(array.as_primitive::<Float64Type>().value(0)),
        FeatureType::Category => {
            FeatureValue::Category(Arc::from(array.as_string::<i32>().value(0)))
        }
    }
}

type Local = std::collections::HashMap<usize, usize>;

impl EntityRead {
    fn new(set: &FeatureSet, index: usize, columns: &[usize]) -> (Self, Local) {
        let (entity, home) = (&set.entities()[index], set.home(index));
        let mut order: Vec<usize> = Vec::new();
        for column in columns {
            visit(entity, *column, &mut order);
        }
        let is_raw =
            |column: &usize| matches!(entity.columns[*column].source, Source::Aggregate { .. });
        let (mut raw_columns, derived_columns): (Vec<usize>, Vec<usize>) =
            order.into_iter().partition(is_raw);
        // The windows of one aggregate are read in one pass, shortest first: they stand together.
        raw_columns.sort_by_key(|column| match entity.columns[*column].source {
            Source::Aggregate {
                aggregate,
                window,
                rank,
            } => (aggregate, window, rank),
            Source::Expression { .. } | Source::Request { .. } => (usize::MAX, 0, 0),
        });
        let mut read = Self {
            entity: index,
            slots: Vec::new(),
            raw: Vec::new(),
            types: Vec::new(),
            derived: Vec::new(),
        };
        let mut starts = Vec::new();
        let mut width = 0;
        for &column in &raw_columns {
            let Source::Aggregate {
                aggregate,
                window,
                rank,
            } = entity.columns[column].source
            else {
                continue;
            };
            let slot = read
                .slots
                .iter()
                .position(|slot| *slot == (aggregate, window))
                .unwrap_or_else(|| {
                    read.slots.push((aggregate, window));
                    starts.push(width);
                    width += home.plan.aggregates[aggregate].operation.width();
                    read.slots.len() - 1
                });
            read.raw.push(starts[slot] + rank);
            read.types.push(entity.columns[column].feature_type);
        }
        let local: Local = raw_columns
            .iter()
            .chain(&derived_columns)
            .copied()
            .zip(0..)
            .collect();
        for column in derived_columns {
            if let Source::Expression { expression, inputs } = &entity.columns[column].source {
                read.derived.push((
                    expression.clone(),
                    inputs.iter().map(|input| local[input]).collect(),
                ));
            }
        }
        (read, local)
    }

    /// The types of the columns that come from aggregates.
    pub(crate) fn raw_types(&self) -> &[FeatureType] {
        &self.types
    }

    /// The types of all columns: those of aggregates, then those made of others.
    pub(crate) fn types(&self) -> impl Iterator<Item = FeatureType> {
        let derived = self
            .derived
            .iter()
            .map(|(expression, _)| expression.result());
        self.types.iter().copied().chain(derived)
    }

    /// The aggregates' columns of one entity at a moment, out of a state with that plan; all missing where it is not known which
    /// entity.
    pub(crate) fn read(
        &self,
        plan: &StatePlan,
        state: Option<&EntityState>,
        moment: Timestamp,
    ) -> Vec<FeatureValue> {
        let mut values = Vec::with_capacity(self.raw.len());
        self.read_into(plan, state, moment, &mut values);
        if self.is_in_order(values.len()) {
            return values;
        }
        self.raw
            .iter()
            .map(|&place| values[place].clone())
            .collect()
    }

    /// Adds what [`read`](Self::read) says to columns; `values` is memory to work in.
    pub(crate) fn read_row_into(
        &self,
        plan: &StatePlan,
        state: Option<&EntityState>,
        moment: Timestamp,
        values: &mut Vec<FeatureValue>,
        columns: &mut [ColumnValues],
    ) {
        values.clear();
        self.read_into(plan, state, moment, values);
        for (column, &place) in columns.iter_mut().zip(&self.raw) {
            let value = &values[place];
            match column {
                ColumnValues::Number(column) => column.push(value.as_number()),
                ColumnValues::Category(column) => column.push(match value {
                    FeatureValue::Category(text) => Some(text.clone()),
                    FeatureValue::Missing | FeatureValue::Number(_) => None,
                }),
            }
        }
    }

    /// The values of all slots.
    fn read_into(
        &self,
        plan: &StatePlan,
        state: Option<&EntityState>,
        moment: Timestamp,
        values: &mut Vec<FeatureValue>,
    ) {
        match state {
            Some(state) => state.read(plan, &self.slots, moment, values),
            None => {
                let width = |slot: &(usize, usize)| plan.aggregates[slot.0].operation.width();
                let width: usize = self.slots.iter().map(width).sum();
                values.resize(width, FeatureValue::Missing);
            }
        }
    }

    /// Whether the columns are the values of all slots as they come.
    fn is_in_order(&self, values: usize) -> bool {
        self.raw.iter().copied().eq(0..values)
    }

    /// Adds the columns that are made of others; returns how often an expression failed on a row.
    pub(crate) fn derive(&self, columns: &mut Vec<ColumnValues>, rows: usize) -> u64 {
        let mut arrays: Vec<Option<ArrayRef>> = vec![None; columns.len() + self.derived.len()];
        let mut failures = 0;
        for (expression, inputs) in &self.derived {
            let inputs = inputs
                .iter()
                .map(|&input| {
                    arrays[input]
                        .get_or_insert_with(|| to_array(&columns[input]))
                        .clone()
                })
                .collect();
            let (values, failed) = expression.evaluate(inputs, rows);
            columns.push(values);
            failures += failed;
        }
        failures
    }

    /// The columns of one row: [`read`](Self::read) and [`derive`](Self::derive).
    pub(crate) fn read_row(
        &self,
        plan: &StatePlan,
        state: Option<&EntityState>,
        moment: Timestamp,
    ) -> (Vec<FeatureValue>, u64) {
        let mut row = self.read(plan, state, moment);
        if self.derived.is_empty() {
            return (row, 0);
        }
        let mut columns: Vec<ColumnValues> = row
            .iter()
            .zip(&self.types)
            .map(|(value, kind)| column_of_one(value, *kind))
            .collect();
        let failures = self.derive(&mut columns, 1);
        row.extend(columns.drain(self.raw.len()..).map(|column| {
            match column {
                ColumnValues::Number(numbers) => FeatureValue::number(numbers[0]),
                ColumnValues::Category(mut texts) => texts
                    .remove(0)
                    .map_or(FeatureValue::Missing, FeatureValue::Category),
            }
        }));
        (row, failures)
    }
}

/// Adds a column after all that it is made of.
fn visit(entity: &Entity, column: usize, order: &mut Vec<usize>) {
    if order.contains(&column) {
        return;
    }
    if let Source::Expression { inputs, .. } = &entity.columns[column].source {
        for input in inputs {
            visit(entity, *input, order);
        }
    }
    order.push(column);
}

/// The places of the columns that any of some patterns names, in the order of the columns.
fn matching(
    set: &FeatureSet,
    patterns: &[Located],
    place: &str,
    problems: &mut Vec<Problem>,
) -> Vec<usize> {
    let columns = set.columns();
    let mut chosen = vec![false; columns.len()];
    for pattern in patterns {
        let mut found = false;
        for (index, column) in columns.iter().enumerate() {
            if matches(&pattern.text, &column.name) {
                (chosen[index], found) = (true, true);
            }
        }
        if !found {
            problems.push(Problem {
                line: pattern.line,
                place: place.to_owned(),
                message: format!("no feature matches '{}'", pattern.text),
                hint: did_you_mean(
                    &pattern.text,
                    columns.iter().map(|column| column.name.as_str()),
                ),
            });
        }
    }
    (0..columns.len()).filter(|&index| chosen[index]).collect()
}

pub(super) fn select_for_lists(
    set: &FeatureSet,
    model: &RecommendModel,
) -> Result<ModelFeatures, ProjectError> {
    let mut problems = Vec::new();
    let place = format!("models.{}.features", model.name);
    let columns = set.columns().iter().enumerate();
    let selected = match &model.features {
        Some(patterns) => matching(set, patterns, &place, &mut problems),
        None => columns
            .filter(|(_, column)| column.name.starts_with("user."))
            .map(|(index, _)| index)
            .collect(),
    };
    let segment = model.segment.as_ref();
    let segment = segment.and_then(|name| match segment_of(set, model, name) {
        Ok(place) => Some(place),
        Err(problem) => {
            problems.push(problem);
            None
        }
    });
    ProjectError::check(problems)?;
    let mut selected: Vec<usize> = selected;
    selected.extend(segment.filter(|place| !selected.contains(place)));
    selected.sort_unstable();
    Ok(ModelFeatures::new(set, &selected))
}

/// The place of the feature that a model divides people by.
fn segment_of(set: &FeatureSet, model: &RecommendModel, name: &Located) -> Result<usize, Problem> {
    let problem = |message, hint| Problem {
        line: name.line,
        place: format!("models.{}.segment", model.name),
        message,
        hint,
    };
    let is_text = |column: &&FeatureColumn| {
        column.name.starts_with("user.") && column.feature_type == FeatureType::Category
    };
    let columns = set.columns();
    let texts = columns.iter().filter(is_text);
    let mut texts = texts.map(|column| column.name.as_str());
    match columns.iter().position(|column| column.name == name.text) {
        Some(place) if is_text(&&columns[place]) => Ok(place),
        Some(_) => {
            let others: Vec<&str> = texts.collect();
            let hint = (!others.is_empty()).then(|| format!("such as {}", others.join(", ")));
            let message = format!("'{}' does not divide people by a text", name.text);
            Err(problem(message, hint))
        }
        None => {
            let message = format!("there is no feature '{}'", name.text);
            Err(problem(message, did_you_mean(&name.text, &mut texts)))
        }
    }
}

pub(super) fn select(
    set: &FeatureSet,
    model: &PredictModel,
) -> Result<ModelFeatures, ProjectError> {
    let mut problems = Vec::new();
    let place = format!("models.{}.features", model.name);
    let selected = match model.features.is_empty() {
        true => (0..set.columns().len()).collect(),
        false => matching(set, &model.features, &place, &mut problems),
    };
    if let Err(error) = occasion(set, model) {
        problems.extend(error.problems);
    }
    ProjectError::check(problems)?;
    Ok(ModelFeatures::new(set, &selected))
}

/// Which of the events that a model is observed at are occasions; all of them where it says nothing.
pub(super) fn occasion(
    set: &FeatureSet,
    model: &PredictModel,
) -> Result<Option<EventCondition>, ProjectError> {
    let Observe::Event {
        event,
        condition: Some(text),
    } = &model.observe
    else {
        return Ok(None);
    };
    let compiled = EventCondition::compile(&text.text, std::slice::from_ref(event), set.declared());
    compiled.map(Some).map_err(|fault| ProjectError {
        problems: vec![Problem {
            line: text.line,
            place: format!("models.{}.observe", model.name),
            message: fault.message,
            hint: fault.hint,
        }],
    })
}

pub(super) fn select_columns<S: AsRef<str>>(
    set: &FeatureSet,
    names: &[S],
) -> Result<ModelFeatures, FeatureError> {
    let place = |name: &S| {
        set.columns()
            .iter()
            .position(|column| column.name == name.as_ref())
    };
    let unknown: Vec<String> = names
        .iter()
        .filter(|name| place(name).is_none())
        .map(|name| name.as_ref().to_owned())
        .collect();
    if !unknown.is_empty() {
        return Err(FeatureError::UnknownFeatures(unknown));
    }
    Ok(ModelFeatures::new(
        set,
        &names.iter().filter_map(place).collect::<Vec<_>>(),
    ))
}

/// Whether a name fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len())
                .filter(|&at| tail.is_char_boundary(at))
                .any(|at| matches(rest, &tail[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_have_stars() {
        for (pattern, name, expected) in [
            ("user.*", "user.opens_1d", true),
            ("user.*_30d", "user.opens_30d", true),
            ("user.*_30d", "user.opens_7d", false),
            ("*", "item.x", true),
            ("user.opens", "user.opens_30d", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
