//! Ratios of two aggregates of the same entity: which columns there are, and what they are made of. They keep no state.

use std::sync::Arc;

use tidemill_core::feature::Unit;
use tidemill_core::project::{Aggregate, FeatureDefinition, Formula, Located, Ratio, did_you_mean};
use tidemill_core::{FeatureColumn, FeatureType, Span};

use super::compile::Compiler;
use super::draft::{Draft, column_name, place, place_in_entity, spans};
use super::{Source, label};
use crate::expression::{Fault, RowExpression};

impl Compiler<'_> {
    /// Adds a column for each window that both aggregates have. What they divide is filled in when all columns are there.
    pub(super) fn ratio<'d>(
        &mut self,
        definition: &'d FeatureDefinition,
        ratio: &Ratio,
        definitions: &[FeatureDefinition],
        columns: &mut Vec<Draft<'d>>,
    ) {
        let mut windows = |name: &Located| match windows_of(definition, name, definitions) {
            Ok(windows) => Some(windows),
            Err(fault) => {
                self.problem(name.line, place(definition), fault);
                None
            }
        };
        let (above, below) = (windows(&ratio.numerator), windows(&ratio.denominator));
        let Some((above, below)) = above.zip(below) else {
            return;
        };
        let common: Vec<_> = above.iter().filter(|span| below.contains(span)).collect();
        if common.is_empty() {
            let (numerator, denominator) = (&ratio.numerator.text, &ratio.denominator.text);
            let message = format!("'{numerator}' and '{denominator}' have no window in common");
            let hint = format!(
                "{numerator} {}, {denominator} {}",
                in_words(&above),
                in_words(&below)
            );
            let fault = Fault::with_hint(message, hint);
            self.problem(definition.line, place(definition), fault);
        }
        for &window in common {
            let column = FeatureColumn {
                name: column_name(definition, None, window),
                feature_type: FeatureType::Number,
                label: label::ratio(definition, window),
                unit: Unit::Plain,
            };
            columns.push(Draft {
                definition,
                window,
                column,
                source: None,
            });
        }
    }
}

/// Says what each ratio's columns divide by what.
pub(super) fn divide(columns: &mut [Draft<'_>]) {
    for index in 0..columns.len() {
        let Formula::Ratio(ratio) = &columns[index].definition.formula else {
            continue;
        };
        let (entity, window) = (&columns[index].definition.entity, columns[index].window);
        let of = |name: &Located| {
            let is_meant = |draft: &Draft<'_>| {
                let (definition, of_aggregate) = (
                    draft.definition,
                    matches!(draft.definition.formula, Formula::Aggregate(_)),
                );
                of_aggregate
                    && definition.entity == *entity
                    && definition.name == name.text
                    && draft.window == window
            };
            let column = columns.iter().position(is_meant)?;
            Some(place_in_entity(column, columns))
        };
        let inputs = of(&ratio.numerator).zip(of(&ratio.denominator));
        columns[index].source = inputs.map(|(numerator, denominator)| Source::Expression {
            expression: Arc::new(RowExpression::ratio()),
            inputs: vec![numerator, denominator],
        });
    }
}

/// The windows of the aggregate of that name, if it gives one number for each.
fn windows_of(
    ratio: &FeatureDefinition,
    name: &Located,
    definitions: &[FeatureDefinition],
) -> Result<Vec<Option<Span>>, Fault> {
    let entity = ratio.entity.as_str();
    let of_entity = || {
        definitions
            .iter()
            .filter(|other| other.entity == ratio.entity)
    };
    let mut windows = Vec::new();
    for named in of_entity().filter(|other| other.name == name.text) {
        let Formula::Aggregate(aggregate) = &named.formula else {
            let message = format!("{entity}.{} is not an aggregate", name.text);
            let hint = "divide it in an expression: expression = \"… / …\"";
            return Err(Fault::with_hint(message, hint));
        };
        gives_a_number(name, aggregate)?;
        windows.extend(spans(aggregate));
    }
    if windows.is_empty() {
        let aggregates = of_entity()
            .filter(|other| matches!(other.formula, Formula::Aggregate(_)))
            .map(|other| other.name.as_str());
        return Err(Fault {
            message: format!("{entity} has no aggregate '{}'", name.text),
            hint: did_you_mean(&name.text, aggregates),
        });
    }
    Ok(windows)
}

fn gives_a_number(name: &Located, aggregate: &Aggregate) -> Result<(), Fault> {
    let operation = aggregate.operation;
    if operation.feature_type() != FeatureType::Number {
        let message = format!("a ratio needs numbers, '{}' is a category", name.text);
        return Err(Fault::new(message));
    }
    if operation.width() > 1 {
        let message = format!("a ratio needs one number, '{}' is several", name.text);
        let hint = "name one of them in an expression: expression = \"… / …\"";
        return Err(Fault::with_hint(message, hint));
    }
    Ok(())
}

fn in_words(windows: &[Option<Span>]) -> String {
    let spans: Vec<String> = windows.iter().flatten().map(Span::to_string).collect();
    if spans.is_empty() {
        "has none".to_owned()
    } else {
        format!("has {}", spans.join(", "))
    }
}
