//! What features are called in reasons that people read.

use tidemill_core::Span;
use tidemill_core::feature::Unit;
use tidemill_core::project::{Aggregate, EntityKind, FeatureDefinition, Operation};

/// `orders in the last 30 days`; for times `last Order Completed`.
pub(super) fn aggregate(
    definition: &FeatureDefinition,
    aggregate: &Aggregate,
    window: Option<Span>,
    rank: usize,
) -> (String, Unit) {
    let base = definition
        .label
        .clone()
        .unwrap_or_else(|| subject(&definition.name, aggregate));
    let mut label = base;
    if rank > 0 {
        label = format!("{label} (number {})", rank + 1);
    }
    match &definition.entity {
        EntityKind::User => {}
        EntityKind::Item => label.push_str(" of the item"),
        EntityKind::Global => label.push_str(" of everybody"),
        EntityKind::Property(name) => label = format!("{label} with the same {}", spaced(name)),
    }
    if let Some(window) = window {
        let last = match crate::accumulate::in_words(window) {
            one if one.starts_with("1 ") => one[2..].to_owned(),
            many => many,
        };
        label = format!("{label} in the last {last}");
    }
    let unit = if aggregate.operation == Operation::SinceLast {
        Unit::SecondsAgo
    } else {
        Unit::Plain
    };
    (label, unit)
}

/// The label of a feature made by an expression.
pub(super) fn expression(definition: &FeatureDefinition) -> String {
    definition
        .label
        .clone()
        .unwrap_or_else(|| spaced(&definition.name))
}

fn subject(name: &str, aggregate: &Aggregate) -> String {
    let operation = aggregate.operation.as_str();
    let bare = name
        .strip_prefix(operation)
        .map_or(name, |rest| rest.trim_start_matches('_'));
    let bare = spaced(if bare.is_empty() { name } else { bare });
    match aggregate.operation {
        Operation::Count | Operation::Sum => spaced(name),
        Operation::Mean => format!("average {bare}"),
        Operation::Min => format!("smallest {bare}"),
        Operation::Max => format!("largest {bare}"),
        Operation::Last(_) => format!("latest {bare}"),
        Operation::Distinct => format!("different {bare}"),
        Operation::Decayed { .. } => format!("recent {bare}"),
        Operation::Top { .. } => format!("most frequent {bare}"),
        Operation::SinceLast if aggregate.events.is_empty() => "last event".to_owned(),
        Operation::SinceLast => format!("last {}", aggregate.events.join(" or ")),
    }
}

fn spaced(name: &str) -> String {
    name.replace('_', " ")
}
