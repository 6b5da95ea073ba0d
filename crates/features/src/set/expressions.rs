//! Features made of other features of the same entity by SQL expressions.

use std::sync::Arc;

use tidemill_core::FeatureType;
use tidemill_core::project::{EntityKind, Formula, Located, did_you_mean};

use super::Source;
use super::compile::Compiler;
use super::draft::{Draft, place, place_in_entity};
use super::request::{MomentPart, RequestInput, input_type};
use crate::expression::{Fault, Parsed, RowExpression};

impl Compiler<'_> {
    /// Compiles the expressions, those first that others are made of.
    pub(super) fn expressions(&mut self, columns: &mut [Draft<'_>]) {
        let mut waiting: Vec<(usize, Parsed, Vec<RequestInput>)> = Vec::new();
        for index in 0..columns.len() {
            let Formula::Expression(text) = &columns[index].definition.formula else {
                continue;
            };
            let definition = columns[index].definition;
            match parse(text, index, columns) {
                Ok((parsed, inputs)) => waiting.push((index, parsed, inputs)),
                Err(fault) => self.problem(text.line, place(definition), fault),
            }
        }
        loop {
            let ready = |inputs: &[RequestInput]| {
                let mut read = inputs.iter().filter_map(|input| column_of(*input));
                read.all(|input| columns[input].source.is_some())
            };
            let Some(next) = waiting.iter().position(|(_, _, inputs)| ready(inputs)) else {
                break;
            };
            let (index, parsed, inputs) = waiting.remove(next);
            let definition = columns[index].definition;
            let types: Vec<FeatureType> = inputs
                .iter()
                .map(|&input| input_type(input, |column| columns[column].column.feature_type))
                .collect();
            let line = match &definition.formula {
                Formula::Expression(text) => text.line,
                Formula::Aggregate(_) | Formula::Ratio(_) => definition.line,
            };
            match RowExpression::compile(parsed, &types) {
                Ok(expression) => {
                    columns[index].column.feature_type = expression.result();
                    let expression = Arc::new(expression);
                    columns[index].source = Some(if definition.entity == EntityKind::Request {
                        Source::Request { expression, inputs }
                    } else {
                        let inputs = inputs.into_iter().filter_map(column_of);
                        let inputs = inputs.map(|input| place_in_entity(input, columns));
                        Source::Expression {
                            expression,
                            inputs: inputs.collect(),
                        }
                    });
                }
                Err(fault) => self.problem(line, place(definition), fault),
            }
        }
        // What is left waits for itself, unless something it reads has a problem of its own.
        let stuck: Vec<usize> = waiting.iter().map(|(index, _, _)| *index).collect();
        for (index, _, inputs) in &waiting {
            let mut read = inputs.iter().filter_map(|input| column_of(*input));
            if read.all(|input| columns[input].source.is_some() || stuck.contains(&input)) {
                let definition = columns[*index].definition;
                let fault =
                    Fault::new(format!("{} is made of itself", columns[*index].column.name));
                self.problem(definition.line, place(definition), fault);
            }
        }
    }
}

fn column_of(input: RequestInput) -> Option<usize> {
    match input {
        RequestInput::Column(column) => Some(column),
        RequestInput::Moment(_) => None,
    }
}

/// Parses an expression and finds what it reads: columns of its own entity by their short or full names; a request reads those of
/// all entities, by their full names, and the moment.
fn parse(
    text: &Located,
    own: usize,
    columns: &[Draft<'_>],
) -> Result<(Parsed, Vec<RequestInput>), Fault> {
    let entity = &columns[own].definition.entity;
    let is_request = *entity == EntityKind::Request;
    let mut parsed = Parsed::parse(&text.text)?;
    let mut inputs = Vec::new();
    for name in parsed.names().to_vec() {
        let same_entity = |draft: &Draft<'_>| draft.definition.entity == *entity;
        let is_meant = |draft: &Draft<'_>| {
            (same_entity(draft) && draft.short_name() == name)
                || ((same_entity(draft) || is_request) && draft.column.name == name)
        };
        let moment = MomentPart::named(&name).filter(|_| is_request);
        let input = match (columns.iter().position(is_meant), moment) {
            (Some(found), _) => {
                // `user.opens_30d` and `opens_30d` are one column.
                parsed.rename(&name, &columns[found].column.name);
                RequestInput::Column(found)
            }
            (None, Some(part)) => RequestInput::Moment(part),
            (None, None) if is_request => {
                let known = columns.iter().map(|draft| draft.column.name.as_str());
                let parts = MomentPart::ALL.map(MomentPart::as_str);
                return Err(Fault {
                    message: format!("there is no feature '{name}'"),
                    hint: did_you_mean(&name, known.chain(parts))
                        .or_else(|| Some(format!("or one of {}", parts.join(", ")))),
                });
            }
            (None, None) => {
                let known = columns
                    .iter()
                    .filter(|draft| same_entity(draft))
                    .map(Draft::short_name);
                return Err(Fault {
                    message: format!("{} has no feature '{name}'", entity.as_str()),
                    hint: did_you_mean(&name, known),
                });
            }
        };
        if !inputs.contains(&input) {
            inputs.push(input);
        }
    }
    parsed.forget_repeated_names();
    Ok((parsed, inputs))
}
