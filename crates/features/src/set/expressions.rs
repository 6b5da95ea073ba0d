//! Features made of other features of the same entity by SQL expressions.

use std::sync::Arc;

use tidemill_core::FeatureType;
use tidemill_core::project::{Formula, Located, did_you_mean};

use super::Source;
use super::compile::Compiler;
use super::draft::{Draft, place, place_in_entity};
use crate::expression::{Fault, Parsed, RowExpression};

impl Compiler<'_> {
    /// Compiles the expressions, those first that others are made of.
    pub(super) fn expressions(&mut self, columns: &mut [Draft<'_>]) {
        let mut waiting: Vec<(usize, Parsed, Vec<usize>)> = Vec::new();
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
            let ready =
                |inputs: &[usize]| inputs.iter().all(|&input| columns[input].source.is_some());
            let Some(next) = waiting.iter().position(|(_, _, inputs)| ready(inputs)) else {
                break;
            };
            let (index, parsed, inputs) = waiting.remove(next);
            let definition = columns[index].definition;
            let types: Vec<FeatureType> = inputs
                .iter()
                .map(|&input| columns[input].column.feature_type)
                .collect();
            let line = match &definition.formula {
                Formula::Expression(text) => text.line,
                Formula::Aggregate(_) | Formula::Ratio(_) => definition.line,
            };
            match RowExpression::compile(parsed, &types) {
                Ok(expression) => {
                    let inputs = inputs
                        .iter()
                        .map(|&input| place_in_entity(input, columns))
                        .collect();
                    columns[index].column.feature_type = expression.result();
                    columns[index].source = Some(Source::Expression {
                        expression: Arc::new(expression),
                        inputs,
                    });
                }
                Err(fault) => self.problem(line, place(definition), fault),
            }
        }
        // What is left waits for itself, unless something it reads has a problem of its own.
        let stuck: Vec<usize> = waiting.iter().map(|(index, _, _)| *index).collect();
        for (index, _, inputs) in &waiting {
            if inputs
                .iter()
                .all(|input| columns[*input].source.is_some() || stuck.contains(input))
            {
                let definition = columns[*index].definition;
                let fault =
                    Fault::new(format!("{} is made of itself", columns[*index].column.name));
                self.problem(definition.line, place(definition), fault);
            }
        }
    }
}

/// Parses an expression and finds the columns that it reads.
fn parse(text: &Located, own: usize, columns: &[Draft<'_>]) -> Result<(Parsed, Vec<usize>), Fault> {
    let entity = &columns[own].definition.entity;
    let mut parsed = Parsed::parse(&text.text)?;
    let mut inputs = Vec::new();
    for name in parsed.names().to_vec() {
        let same_entity = |draft: &Draft<'_>| draft.definition.entity == *entity;
        let found = columns.iter().position(|draft| {
            same_entity(draft) && (draft.short_name() == name || draft.column.name == name)
        });
        let Some(found) = found else {
            let known = columns
                .iter()
                .filter(|draft| same_entity(draft))
                .map(Draft::short_name);
            return Err(Fault {
                message: format!("{} has no feature '{name}'", entity.as_str()),
                hint: did_you_mean(&name, known),
            });
        };
        // `user.opens_30d` and `opens_30d` are one column.
        parsed.rename(&name, &columns[found].column.name);
        if !inputs.contains(&found) {
            inputs.push(found);
        }
    }
    parsed.forget_repeated_names();
    Ok((parsed, inputs))
}
