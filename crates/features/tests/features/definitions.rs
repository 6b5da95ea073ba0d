//! Definitions: what becomes of them, and what is said about wrong ones.

use crate::samples::project;
use tidemill_core::feature::Unit;
use tidemill_core::{FeatureType, Project};
use tidemill_features::{FeatureError, FeatureSet};

const HEAD: &str = r#"[project]
name = "shop"
[items]
id = "properties.product"
[events."Order Completed"]
properties = { total = "float", product = "string?", plan = "string?" }
"#;

fn compile(features: &str) -> Result<FeatureSet, String> {
    let project = project(&format!("{HEAD}{features}"));
    FeatureSet::compile(&project, &project.features).map_err(|error| error.to_string())
}

fn model(project: &Project) -> &tidemill_core::project::PredictModel {
    project.models.values().next().unwrap()
}

#[test]
fn columns_have_names_types_and_labels() {
    let set = compile(
        r#"
[[features.user]]
name = "orders"
aggregate = "count"
event = "Order Completed"
windows = ["1d", "30d"]
[[features.user]]
name = "since"
aggregate = "since_last"
event = "Order Completed"
[[features.user]]
name = "favourite"
aggregate = "top"
k = 2
value = "properties.product"
windows = ["7d"]
[[features.item]]
name = "mean_total"
aggregate = "mean"
value = "properties.total"
[[features.user]]
name = "daily"
label = "orders a day"
expression = "user.orders_30d / 30"
"#,
    )
    .unwrap();
    let columns: Vec<String> = set
        .columns()
        .iter()
        .map(|column| {
            format!(
                "{} {:?} {} {:?}",
                column.name, column.feature_type, column.label, column.unit
            )
        })
        .collect();
    let expected = [
        "user.orders_1d Number orders in the last day Plain",
        "user.orders_30d Number orders in the last 30 days Plain",
        "user.since Number last Order Completed SecondsAgo",
        "user.favourite_1_7d Category most frequent favourite in the last 7 days Plain",
        "user.favourite_2_7d Category most frequent favourite (number 2) in the last 7 days Plain",
        "item.mean_total Number average total of the item Plain",
        "user.daily Number orders a day Plain",
    ];
    assert_eq!(columns, expected);
    assert_eq!(
        (set.columns()[2].unit, set.columns()[3].feature_type),
        (Unit::SecondsAgo, FeatureType::Category)
    );
}

#[test]
fn problems_come_all_at_once_with_their_lines() {
    let error = compile(
        r#"
[[features.user]]
name = "a"
aggregate = "sum"
event = "Order Completed"
value = "properties.totl"
[[features.user]]
name = "b"
aggregate = "count"
event = "Order Completed"
where = "properties.total + 1"
[[features.user]]
name = "b"
aggregate = "count"
[[features.user]]
name = "c"
expression = "d + 1"
[[features.user]]
name = "d"
expression = "c + 1"
[[features.user]]
name = "e"
expression = "bb + 1"
[[features.user]]
name = "f"
aggregate = "sum"
event = "Order Completed"
value = "properties.plan"
"#,
    )
    .unwrap_err();
    for expected in [
        "line 8, features.user.a: Order Completed has no property 'totl' (did you mean 'total'?)",
        "line 17, features.user.b: a condition is true or false",
        "features.user.b: the feature user.b is there already",
        "features.user.c: user.c is made of itself",
        "features.user.d: user.d is made of itself",
        "features.user.e: user has no feature 'bb' (did you mean 'b'?)",
        "features.user.f: 'sum' needs a number, properties.plan is a string",
    ] {
        assert!(error.contains(expected), "{expected}\nis not in\n{error}");
    }
}

const TWO: &str = r#"
[[features.user]]
name = "orders"
aggregate = "count"
windows = ["1d", "30d"]
[[features.user]]
name = "total"
aggregate = "sum"
value = "properties.total"
[models.m]
kind = "predict"
entity = "user"
observe = { event = "Order Completed", where = "CONDITION" }
target = { event = "Order Completed", within = "7d" }
features = [FEATURES]
"#;

fn select(condition: &str, features: &str) -> Result<Vec<String>, String> {
    let text = format!(
        "{HEAD}{}",
        TWO.replace("CONDITION", condition)
            .replace("FEATURES", features)
    );
    let project = project(&text);
    let set = FeatureSet::compile(&project, &project.features).unwrap();
    set.select(model(&project))
        .map(|features| features.names())
        .map_err(|error| error.to_string())
}

#[test]
fn models_select_columns_by_pattern() {
    let check = |features: &str, expected: &[&str]| {
        assert_eq!(
            select("properties.total > 1", features).unwrap(),
            expected,
            "{features}"
        );
    };
    check(
        r#""user.*""#,
        &["user.orders_1d", "user.orders_30d", "user.total"],
    );
    check(r#""user.total", "*_1d""#, &["user.orders_1d", "user.total"]);
    let error = select("properties.totl > 1", r#""user.orders_31d""#).unwrap_err();
    assert!(
        error.contains("no feature matches 'user.orders_31d' (did you mean 'user.orders_"),
        "{error}"
    );
    assert!(
        error.contains("models.m.observe: Order Completed has no property 'totl'"),
        "{error}"
    );
}

#[test]
fn a_version_reads_its_own_columns_in_its_own_order() {
    let set = compile(TWO.split("[models.m]").next().unwrap()).unwrap();
    let names = ["user.total", "user.orders_1d"];
    assert_eq!(set.select_columns(&names).unwrap().names(), names);
    let missing = set.select_columns(&["user.total", "user.gone"]);
    assert!(matches!(missing, Err(FeatureError::UnknownFeatures(names)) if names == ["user.gone"]));
}

#[test]
fn the_hash_is_that_of_what_is_computed() {
    let base = "[[features.user]]\nname = \"a\"\naggregate = \"count\"\n";
    let hash = |features: &str| compile(features).unwrap().hash().to_owned();
    assert_eq!(hash(base), hash(&format!("\n\n{base}label = \"A\"\n")));
    assert_ne!(hash(base), hash(&format!("{base}windows = [\"1d\"]\n")));
    assert_ne!(
        hash(base),
        hash(&format!("{base}event = \"Order Completed\"\n"))
    );
}
