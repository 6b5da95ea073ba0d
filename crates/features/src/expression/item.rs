//! Expressions over items that could be shown to somebody: what may be, and what is worth more.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field as ArrowField, Float64Type};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use serde_json::{Map, Value};
use tidemill_core::project::{ItemDeclaration, Located, Problem, ProjectError, did_you_mean};
use tidemill_core::{FeatureType, FeatureValue, Item, Timestamp};

use super::event::{array_of, data_type, kind_of};
use super::infer::{Kind, infer};
use super::{Compiled, Fault, Parsed};
use crate::FeatureSet;

/// What an expression gives for each item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemResult {
    /// Whether it may be shown: missing counts as no.
    Truth,
    /// How many times more it is worth: missing counts as 1.
    Number,
}

/// A SQL expression over `item.…`, `user.…`, `request.…`, `seen` and `now`, compiled. `item.…` are attributes and `item.id`; `user.…`
/// are features; `request.…` is what the caller passed as context; `seen` says whether the person has taken the item, `now` is the moment.
#[derive(Debug, Clone)]
pub struct ItemExpression {
    compiled: Compiled,
    columns: Vec<(Column, Kind)>,
    result: ItemResult,
}

#[derive(Debug, Clone)]
enum Column {
    Id,
    Attribute(Vec<String>),
    /// Which of [`ItemExpression::features`].
    Feature(String),
    Request(Vec<String>),
    Seen,
    Now,
}

/// For whom and when items are looked at.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// The features of the person that [`ItemExpression::features`] names, by name.
    pub user: &'a BTreeMap<String, FeatureValue>,
    /// What the caller passed.
    pub request: &'a Map<String, Value>,
    /// When.
    pub now: Timestamp,
}

impl ItemExpression {
    /// Compiles an expression of the project file.
    ///
    /// # Errors
    /// What is wrong with it, with its line.
    pub fn of_project(
        text: &Located,
        place: &str,
        result: ItemResult,
        items: Option<&ItemDeclaration>,
        set: &FeatureSet,
    ) -> Result<Self, ProjectError> {
        Self::compiled(&text.text, result, items, set).map_err(|fault| ProjectError {
            problems: vec![Problem {
                line: text.line,
                place: place.to_owned(),
                message: fault.message,
                hint: fault.hint,
            }],
        })
    }

    /// Compiles an expression that a caller sent.
    ///
    /// # Errors
    /// What is wrong with it and, where there is one, the remedy.
    pub fn compile(
        text: &str,
        result: ItemResult,
        items: Option<&ItemDeclaration>,
        set: &FeatureSet,
    ) -> Result<Self, (String, Option<String>)> {
        Self::compiled(text, result, items, set).map_err(|fault| (fault.message, fault.hint))
    }

    fn compiled(
        text: &str,
        result: ItemResult,
        items: Option<&ItemDeclaration>,
        set: &FeatureSet,
    ) -> Result<Self, Fault> {
        let parsed = Parsed::parse(text)?;
        let mut kinds = BTreeMap::new();
        let mut found = Vec::new();
        for name in parsed.names() {
            let (column, kind) = column(name, items, set)?;
            if let Some(kind) = kind {
                kinds.insert(name.clone(), kind);
            }
            found.push((name.clone(), column));
        }
        infer(&parsed.sql.expr, &mut kinds).map_err(|(name, one, other)| {
            Fault::with_hint(
                format!(
                    "{name} is used as {} and as {}",
                    one.in_words(),
                    other.in_words()
                ),
                "declare the attribute under [items] or CAST it",
            )
        })?;
        let kind = |name: &String| kinds.get(name).copied().unwrap_or(Kind::Text);
        let fields = parsed.names().iter();
        let fields = fields
            .map(|name| ArrowField::new(name, data_type(kind(name)), true))
            .collect();
        let columns = found
            .into_iter()
            .map(|(name, column)| (column, kind(&name)))
            .collect();
        let compiled = parsed.compile(fields)?;
        match (result, &compiled.result) {
            (ItemResult::Truth, DataType::Boolean) => {}
            (ItemResult::Truth, other) => {
                let message = format!("a filter is true or false, this is {other}");
                return Err(Fault::with_hint(message, "compare it with something"));
            }
            (ItemResult::Number, DataType::Boolean) => {}
            (ItemResult::Number, other) if other.is_numeric() => {}
            (ItemResult::Number, other) => {
                return Err(Fault::new(format!("a boost is a number, this is {other}")));
            }
        }
        Ok(Self {
            compiled,
            columns,
            result,
        })
    }

    /// The features of the person that it asks for.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().filter_map(|(column, _)| match column {
            Column::Feature(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Which items may be shown.
    pub fn allows(&self, items: &[(&Item, bool)], asking: Asking<'_>) -> Vec<bool> {
        let Some(result) = self.evaluate(items, asking) else {
            return vec![false; items.len()];
        };
        match result.as_boolean_opt() {
            Some(truths) => truths.iter().map(|truth| truth == Some(true)).collect(),
            None => vec![false; items.len()],
        }
    }

    /// How many times more items are worth; never below 0.
    pub fn factors(&self, items: &[(&Item, bool)], asking: Asking<'_>) -> Vec<f64> {
        let result = self
            .evaluate(items, asking)
            .and_then(|result| cast(&result, &DataType::Float64).ok());
        match result
            .as_ref()
            .and_then(|result| result.as_primitive_opt::<Float64Type>())
        {
            Some(numbers) => numbers
                .iter()
                .map(|number| {
                    number
                        .filter(|number| number.is_finite())
                        .unwrap_or(1.0)
                        .max(0.0)
                })
                .collect(),
            None => vec![1.0; items.len()],
        }
    }

    /// What it gives.
    pub fn result(&self) -> ItemResult {
        self.result
    }

    fn evaluate(&self, items: &[(&Item, bool)], asking: Asking<'_>) -> Option<ArrayRef> {
        let columns = self.columns.iter();
        let arrays: Vec<ArrayRef> = columns
            .map(|(column, kind)| array_of(values(column, items, asking), *kind))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(items.len()));
        let schema = Arc::clone(&self.compiled.schema);
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options).ok()?;
        let value = self.compiled.physical.evaluate(&batch).ok()?;
        value.into_array(items.len()).ok()
    }
}

/// What a name in an expression means, and of which kind it is where that is known.
fn column(
    name: &str,
    items: Option<&ItemDeclaration>,
    set: &FeatureSet,
) -> Result<(Column, Option<Kind>), Fault> {
    let steps = |rest: &str| rest.split('.').map(str::to_owned).collect::<Vec<_>>();
    match name.split_once('.') {
        None if name == "seen" => Ok((Column::Seen, Some(Kind::Truth))),
        None if name == "now" => Ok((Column::Now, Some(Kind::Time))),
        Some(("item", "id")) => Ok((Column::Id, Some(Kind::Text))),
        Some(("item", attribute)) => {
            let declared = items.map(|items| &items.attributes);
            let rule = declared.and_then(|declared| declared.get(attribute));
            if let (Some(declared), None) = (declared, rule)
                && !declared.is_empty()
            {
                return Err(Fault {
                    message: format!("items have no attribute '{attribute}'"),
                    hint: did_you_mean(attribute, declared.keys().map(String::as_str))
                        .or_else(|| Some("declare it under [items]".to_owned())),
                });
            }
            let kind = rule.map(|rule| kind_of(rule.property_type));
            Ok((Column::Attribute(steps(attribute)), kind))
        }
        Some(("request", rest)) => Ok((Column::Request(steps(rest)), None)),
        Some(_) if set.columns().iter().any(|column| column.name == name) => {
            let mut columns = set.columns().iter();
            let found = columns.find(|column| column.name == name);
            let kind = match found.map(|column| column.feature_type) {
                Some(FeatureType::Category) => Kind::Text,
                _ => Kind::Number,
            };
            Ok((Column::Feature(name.to_owned()), Some(kind)))
        }
        _ => {
            let known = set.columns().iter().map(|column| column.name.as_str());
            Err(Fault {
                message: format!("there is no '{name}'"),
                hint: did_you_mean(name, known).or_else(|| {
                    Some(
                        "write item.…, request.…, a feature such as user.orders_30d, seen or now"
                            .to_owned(),
                    )
                }),
            })
        }
    }
}

fn values<'v>(
    column: &'v Column,
    items: &'v [(&'v Item, bool)],
    asking: Asking<'v>,
) -> Box<dyn Iterator<Item = Option<Cow<'v, Value>>> + 'v> {
    let same = |value: Option<Value>| {
        let values = std::iter::repeat_n(value, items.len());
        Box::new(values.map(|value| value.map(Cow::Owned)))
    };
    match column {
        Column::Id => Box::new(
            items
                .iter()
                .map(|(item, _)| Some(Cow::Owned(Value::from(item.id.as_str())))),
        ),
        Column::Attribute(steps) => Box::new(
            items
                .iter()
                .map(|(item, _)| find(&item.attributes, steps).map(Cow::Borrowed)),
        ),
        Column::Seen => Box::new(
            items
                .iter()
                .map(|(_, seen)| Some(Cow::Owned(Value::from(*seen)))),
        ),
        Column::Request(steps) => same(find(asking.request, steps).cloned()),
        Column::Now => same(Some(Value::from(asking.now.to_string()))),
        Column::Feature(name) => same(match asking.user.get(name) {
            Some(FeatureValue::Number(number)) => Some(Value::from(*number)),
            Some(FeatureValue::Category(text)) => Some(Value::from(text.as_ref())),
            Some(FeatureValue::Missing) | None => None,
        }),
    }
}

fn find<'v>(object: &'v Map<String, Value>, steps: &[String]) -> Option<&'v Value> {
    let (first, rest) = steps.split_first()?;
    let found = rest.iter().try_fold(object.get(first)?, |value, step| {
        value.as_object()?.get(step)
    });
    found.filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::Project;

    use super::*;

    const PROJECT: &str = "[project]\nname = \"shop\"\n[items]\nid = \"properties.product\"\n\
         attributes = { price = \"float?\", category = \"string?\", published = \"timestamp?\" }\n\
         [[features.user]]\nname = \"country\"\naggregate = \"last\"\ntype = \"category\"\nvalue = \"properties.country\"\n";

    fn compile(text: &str, result: ItemResult) -> Result<ItemExpression, (String, Option<String>)> {
        let project = Project::parse(PROJECT).unwrap();
        let set = FeatureSet::compile(&project, &project.features).unwrap();
        ItemExpression::compile(text, result, project.items.as_ref(), &set)
    }

    fn items() -> Vec<Item> {
        let item = |id: &str, attributes: Value| Item {
            id: id.to_owned(),
            attributes: attributes.as_object().unwrap().clone(),
            updated_at: Timestamp::EPOCH,
        };
        vec![
            item(
                "a",
                json!({"price": 5, "category": "tea", "published": "2026-01-01T00:00:00Z"}),
            ),
            item(
                "b",
                json!({"price": 20, "category": "cups", "published": "2026-02-01T00:00:00Z"}),
            ),
            item("c", json!({"category": "tea"})),
        ]
    }

    fn allowed(text: &str) -> Vec<bool> {
        let expression = compile(text, ItemResult::Truth).unwrap();
        let items = items();
        let looked_at: Vec<(&Item, bool)> =
            items.iter().map(|item| (item, item.id == "b")).collect();
        let user = BTreeMap::from([(
            "user.country".to_owned(),
            FeatureValue::Category("DE".into()),
        )]);
        let request = json!({"page": {"category": "tea"}, "most": 10});
        let asking = Asking {
            user: &user,
            request: request.as_object().unwrap(),
            now: "2026-02-03T00:00:00Z".parse().unwrap(),
        };
        expression.allows(&looked_at, asking)
    }

    #[test]
    fn filters_see_items_people_and_requests() {
        assert_eq!(allowed("item.price < request.most"), [true, false, false]);
        assert_eq!(
            allowed("item.category = request.page.category"),
            [true, false, true]
        );
        assert_eq!(
            allowed("NOT seen AND user.country = 'DE'"),
            [true, false, true]
        );
        assert_eq!(
            allowed("item.published > now - INTERVAL '7 days'"),
            [false, true, false]
        );
        assert_eq!(
            allowed("item.id IN ('a', 'c') AND item.price IS NULL"),
            [false, false, true]
        );
    }

    #[test]
    fn boosts_are_factors() {
        let expression = compile(
            "CASE WHEN item.category = 'tea' THEN 2.0 ELSE 1.0 / item.price END",
            ItemResult::Number,
        )
        .unwrap();
        let items = items();
        let looked_at: Vec<(&Item, bool)> = items.iter().map(|item| (item, false)).collect();
        let (user, request) = (BTreeMap::new(), Map::new());
        let asking = Asking {
            user: &user,
            request: &request,
            now: Timestamp::EPOCH,
        };
        assert_eq!(expression.factors(&looked_at, asking), [2.0, 0.05, 2.0]);
    }

    #[test]
    fn mistakes_have_remedies() {
        let check = |text: &str, message: &str, hint: &str| {
            let (found, remedy) = compile(text, ItemResult::Truth).unwrap_err();
            assert!(found.contains(message), "{text}: {found}");
            assert!(
                remedy.clone().unwrap_or_default().contains(hint),
                "{text}: {remedy:?}"
            );
        };
        check("item.prize < 3", "no attribute 'prize'", "price");
        check(
            "user.cuntry = 'DE'",
            "there is no 'user.cuntry'",
            "user.country",
        );
        check("price < 3", "there is no 'price'", "item.");
        check("item.price", "true or false", "compare");
    }
}
