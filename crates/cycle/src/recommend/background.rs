//! What is known of the items and the people beside what was taken, as it was when it is asked for.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use tidemill_core::feature::{FeatureColumn, FeatureTable, FeatureValue, Unit};
use tidemill_core::project::{ItemDeclaration, PropertyType};
use tidemill_core::{FeatureType, Item, Timestamp};
use tidemill_features::ModelFeatures;
use tidemill_features::dataset::{InteractionLog, ItemsById, Served, items_at};
use tidemill_learn::recommend::{Background, Description, Holdout, Segment};
use tidemill_store::EventTable;

use super::divide::Divided;
use crate::lanes::Lane;
use crate::project_loop::{CycleError, ProjectLoop};

/// The items at two moments: when what is held back begins, and when what is examined does.
pub(super) struct Catalogues {
    then: ItemsById,
    now: ItemsById,
}

impl Catalogues {
    /// Reads the changes of items up to both moments.
    pub(super) fn read(
        table: &dyn EventTable,
        log: &InteractionLog,
        (then, now): (Timestamp, Timestamp),
    ) -> Result<Self, CycleError> {
        let mut found = items_at(table, &[log.place_at(then), log.place_at(now)])?;
        let now = found.pop().unwrap_or_default();
        let then = found.pop().unwrap_or_default();
        Ok(Self { then, now })
    }

    /// The items that were there and that nobody ever took, in the order of their ids.
    pub(super) fn never_taken(&self, log: &InteractionLog) -> Vec<Arc<str>> {
        let taken: HashSet<&str> = log.items.iter().map(AsRef::as_ref).collect();
        let others = self.now.keys().filter(|id| !taken.contains(id.as_ref()));
        let mut others: Vec<Arc<str>> = others.cloned().collect();
        others.sort_unstable();
        others
    }

    /// What there is to learn from, for items with these numbers.
    pub(super) fn background(&self, declared: &ItemDeclaration, ids: &[Arc<str>]) -> Background {
        if self.now.is_empty() {
            return Background::default();
        }
        Background {
            items_then: attributes(declared, ids, &self.then),
            items: attributes(declared, ids, &self.now),
            described_then: described(ids, &self.then),
            described: described(ids, &self.now),
            ..Background::default()
        }
    }
}

/// The declared attributes that are numbers or short texts out of many. Instants are left out: a date means something else a month later.
fn attributes(declared: &ItemDeclaration, ids: &[Arc<str>], catalogue: &ItemsById) -> FeatureTable {
    let usable = declared.attributes.iter().filter_map(|(name, rule)| {
        let feature_type = match rule.property_type {
            PropertyType::Float | PropertyType::Int | PropertyType::Bool => FeatureType::Number,
            PropertyType::String => FeatureType::Category,
            PropertyType::Text | PropertyType::Timestamp => return None,
        };
        Some(FeatureColumn {
            name: format!("item.{name}"),
            feature_type,
            label: name.clone(),
            unit: Unit::Plain,
        })
    });
    let mut table = FeatureTable::new(usable.collect());
    let columns = table.columns().to_vec();
    let mut row = Vec::with_capacity(columns.len());
    for id in ids {
        let item = catalogue.get(id);
        row.clear();
        row.extend(columns.iter().map(|column| {
            let value = item.and_then(|item| item.attributes.get(&column.label));
            attribute(value, column.feature_type)
        }));
        table.push(&row);
    }
    table
}

fn attribute(value: Option<&Value>, feature_type: FeatureType) -> FeatureValue {
    match (feature_type, value) {
        (FeatureType::Number, Some(Value::Bool(truth))) => {
            FeatureValue::number(f64::from(u8::from(*truth)))
        }
        (FeatureType::Number, Some(Value::Number(number))) => {
            FeatureValue::number(number.as_f64().unwrap_or(f64::NAN))
        }
        (FeatureType::Category, Some(Value::String(text))) => {
            FeatureValue::Category(Arc::from(text.as_str()))
        }
        _ => FeatureValue::Missing,
    }
}

/// A value without spaces is an attribute, told apart from the same word in a text.
fn described(ids: &[Arc<str>], catalogue: &ItemsById) -> Vec<Description> {
    let of = |item: &Arc<Item>| {
        let mut description = Description::default();
        for (name, value) in &item.attributes {
            match value.as_str() {
                Some(text) if text.contains(' ') => {
                    description.text.push_str(text);
                    description.text.push('\n');
                }
                Some(text) => description.attributes.push((name.clone(), text.to_owned())),
                None => {}
            }
        }
        description
    };
    let known = ids.iter().map(|id| catalogue.get(id));
    known.map(|item| item.map(of).unwrap_or_default()).collect()
}

/// The features of those whom cases are about, at the moments of their questions: of those held back, and of those examined.
pub(super) struct Persons {
    pub(super) held_back: FeatureTable,
    pub(super) examined: FeatureTable,
}

impl ProjectLoop {
    /// Reads the features of the persons of all cases as they were when they are asked, in one pass over the events.
    pub(super) async fn persons_of(
        &self,
        features: &ModelFeatures,
        log: &InteractionLog,
        (holdout, divided): (&Holdout, &Divided),
        (table, lane): (Arc<dyn EventTable>, &Lane),
    ) -> Result<Persons, CycleError> {
        if features.columns().is_empty() {
            let none = || FeatureTable::new(Vec::new());
            return Ok(Persons {
                held_back: none(),
                examined: none(),
            });
        }
        let shown = holdout.shown.iter().map(|list| &list.case);
        let held_back = holdout.cases.len() + holdout.shown.len();
        let cases = holdout.cases.iter().chain(shown).chain(&divided.cases);
        let served: Vec<Served> = cases
            .map(|case| {
                let moment = Timestamp::from_micros(case.now.saturating_mul(1_000_000));
                Served {
                    person: log.persons[case.person].clone(),
                    moment,
                    offset: log.place_at(moment),
                }
            })
            .collect();
        let first: Vec<usize> = (0..held_back).collect();
        let rest: Vec<usize> = (held_back..served.len()).collect();
        let rows = self.read_again(features, served, table, lane).await?;
        Ok(Persons {
            held_back: rows.take(&first),
            examined: rows.take(&rest),
        })
    }

    /// Of which segment each person of a log is at these moments, in one pass over the events.
    pub(super) async fn segments_at(
        &self,
        segment: &str,
        log: &InteractionLog,
        moments: [Timestamp; 2],
        (table, lane): (Arc<dyn EventTable>, &Lane),
    ) -> Result<[Vec<Option<Segment>>; 2], CycleError> {
        let features = self.engine().set().select_columns(&[segment])?;
        let at = |moment: Timestamp| {
            let offset = log.place_at(moment);
            let persons = log.persons.iter();
            persons.map(move |person| Served {
                person: person.clone(),
                moment,
                offset,
            })
        };
        let served: Vec<Served> = moments.into_iter().flat_map(at).collect();
        let rows = self.read_again(&features, served, table, lane).await?;
        let mut then = texts(&rows, segment);
        let now = then.split_off(log.persons.len());
        Ok([then, now])
    }
}

/// A column of texts; none where there is no such column.
pub(super) fn texts(table: &FeatureTable, column: &str) -> Vec<Option<Segment>> {
    let Some(place) = table.index_of(column) else {
        return vec![None; table.rows()];
    };
    let values = (0..table.rows()).map(|row| table.value(row, place));
    values
        .map(|value| match value {
            FeatureValue::Category(text) => Some(text),
            _ => None,
        })
        .collect()
}
