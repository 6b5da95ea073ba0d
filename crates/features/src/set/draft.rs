//! Columns while they are being made.

use tidemill_core::feature::Unit;
use tidemill_core::project::{Aggregate, FeatureDefinition};
use tidemill_core::{FeatureColumn, FeatureType, Span};

use super::{Source, label};

/// A column that is being made.
pub(super) struct Draft<'d> {
    pub(super) definition: &'d FeatureDefinition,
    pub(super) window: Option<Span>,
    pub(super) column: FeatureColumn,
    pub(super) source: Option<Source>,
}

/// A column's place among those of its entity.
pub(super) fn place_in_entity(column: usize, columns: &[Draft<'_>]) -> usize {
    let entity = &columns[column].definition.entity;
    columns[..column]
        .iter()
        .filter(|other| other.definition.entity == *entity)
        .count()
}

impl<'d> Draft<'d> {
    pub(super) fn expression(definition: &'d FeatureDefinition) -> Self {
        let column = FeatureColumn {
            name: format!("{}.{}", definition.entity.as_str(), definition.name),
            feature_type: FeatureType::Number,
            label: label::expression(definition),
            unit: Unit::Plain,
        };
        Self {
            definition,
            window: None,
            column,
            source: None,
        }
    }

    /// The name without the entity: how expressions of the same entity call it.
    pub(super) fn short_name(&self) -> &str {
        let name = self.column.name.as_str();
        name.strip_prefix(self.definition.entity.as_str())
            .and_then(|name| name.strip_prefix('.'))
            .unwrap_or(name)
    }
}

/// `user.favourite_1_7d`: the entity, the name, the rank of one of several values, the window.
pub(super) fn column_name(
    definition: &FeatureDefinition,
    rank: Option<usize>,
    window: Option<Span>,
) -> String {
    let rank = rank.map_or(String::new(), |rank| format!("_{}", rank + 1));
    let window = window.map_or(String::new(), |window| format!("_{window}"));
    let entity = definition.entity.as_str();
    format!("{entity}.{}{rank}{window}", definition.name)
}

pub(super) fn place(definition: &FeatureDefinition) -> String {
    format!(
        "features.{}.{}",
        definition.entity.as_str(),
        definition.name
    )
}

/// The windows of an aggregate, each with a column of its own; without windows it has one since the beginning.
pub(super) fn spans(aggregate: &Aggregate) -> Vec<Option<Span>> {
    match aggregate.windows.as_slice() {
        [] => vec![None],
        spans => spans.iter().copied().map(Some).collect(),
    }
}
