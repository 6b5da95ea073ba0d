//! Definitions: what becomes of them, and what is said about wrong ones.

use crate::samples::project;
use tidemill_core::feature::Unit;
use tidemill_core::project::Operation;
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
fn every_operation_says_what_it_is() {
    let labels = |features: &str| -> Vec<String> {
        let set = compile(features).unwrap();
        let columns = set.columns().iter();
        columns
            .map(|column| {
                format!(
                    "{} {:?} {} {:?}",
                    column.name, column.feature_type, column.label, column.unit
                )
            })
            .collect()
    };
    let check = |name: &str, rest: &str, expected: &[&str]| {
        let text = format!("[[features.user]]\nname = \"{name}\"\naggregate = {rest}\n");
        assert_eq!(labels(&text), expected, "{rest}");
    };
    let total = "event = \"Order Completed\"\nvalue = \"properties.total\"";
    check(
        "median_basket",
        &format!("\"quantile\"\n{total}\nwindows = [\"30d\"]"),
        &["user.median_basket_30d Number median basket in the last 30 days Plain"],
    );
    check(
        "quantile_basket",
        &format!("\"quantile\"\nq = 0.9\n{total}"),
        &["user.quantile_basket Number 90th percentile of basket Plain"],
    );
    check(
        "basket",
        &format!("\"quantile\"\nq = 0.225\n{total}"),
        &["user.basket Number 22.5th percentile of basket Plain"],
    );
    check(
        "stddev_basket",
        &format!("\"stddev\"\n{total}\nwindows = [\"1d\"]"),
        &["user.stddev_basket_1d Number standard deviation of basket in the last day Plain"],
    );
    check(
        "plan",
        "\"first\"\nevent = \"Order Completed\"\nvalue = \"properties.plan\"",
        &["user.plan Category first plan Plain"],
    );
    check(
        "age",
        "\"since_first\"\nevent = \"Order Completed\"",
        &["user.age Number first Order Completed SecondsAgo"],
    );
    check(
        "age",
        "\"since_first\"",
        &["user.age Number first event SecondsAgo"],
    );
    check(
        "recent_products",
        "\"recent\"\nk = 2\ntype = \"category\"\nvalue = \"properties.product\"\nwindows = [\"7d\"]",
        &[
            "user.recent_products_1_7d Category latest products in the last 7 days Plain",
            "user.recent_products_2_7d Category latest products (number 2) in the last 7 days Plain",
        ],
    );
}

const SPENT_AND_ORDERS: &str = r#"
[[features.user]]
name = "per_order"
aggregate = "ratio"
numerator = "spent"
denominator = "orders"
[[features.user]]
name = "spent"
aggregate = "sum"
value = "properties.total"
windows = ["1d", "7d", "30d"]
[[features.user]]
name = "orders"
aggregate = "count"
windows = ["7d", "30d", "90d"]
"#;

#[test]
fn a_ratio_has_the_windows_that_both_have() {
    let set = compile(&format!(
        "{SPENT_AND_ORDERS}\n[[features.user]]\nname = \"twice\"\nexpression = \"2 * per_order_7d\"\n"
    ))
    .unwrap();
    let columns: Vec<(&str, &str)> = set.columns()[..2]
        .iter()
        .map(|column| (column.name.as_str(), column.label.as_str()))
        .collect();
    assert_eq!(
        columns,
        [
            ("user.per_order_7d", "per order in the last 7 days"),
            ("user.per_order_30d", "per order in the last 30 days"),
        ]
    );
    assert_eq!(set.columns().len(), 9);
    let without = compile(
        &SPENT_AND_ORDERS
            .lines()
            .filter(|line| !line.starts_with("windows"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    assert_eq!(without.unwrap().columns()[0].name, "user.per_order");
}

#[test]
fn ratios_of_what_cannot_be_divided_are_refused() {
    let check = |numerator: &str, denominator: &str, expected: &str| {
        let ratio = format!(
            "[[features.user]]\nname = \"r\"\naggregate = \"ratio\"\nnumerator = \"{numerator}\"\ndenominator = \"{denominator}\"\n"
        );
        let others = r#"
[[features.user]]
name = "ever"
aggregate = "count"
[[features.user]]
name = "favourite"
aggregate = "top"
value = "properties.product"
windows = ["7d"]
[[features.user]]
name = "totals"
aggregate = "recent"
k = 2
type = "number"
value = "properties.total"
[[features.item]]
name = "sold"
aggregate = "count"
windows = ["7d"]
"#;
        let error = compile(&format!("{ratio}{SPENT_AND_ORDERS}{others}")).unwrap_err();
        assert_eq!(error, expected);
    };
    check(
        "spnt",
        "orders",
        "line 10, features.user.r: user has no aggregate 'spnt' (did you mean 'spent'?)",
    );
    check(
        "spent_30d",
        "orders",
        "line 10, features.user.r: user has no aggregate 'spent_30d' (did you mean 'spent'?)",
    );
    check(
        "spent",
        "sold",
        "line 11, features.user.r: user has no aggregate 'sold'",
    );
    check(
        "spent",
        "ever",
        "line 7, features.user.r: 'spent' and 'ever' have no window in common (spent has 1d, 7d, 30d, ever has none)",
    );
    check(
        "favourite",
        "orders",
        "line 10, features.user.r: a ratio needs numbers, 'favourite' is a category",
    );
    check(
        "totals",
        "orders",
        "line 10, features.user.r: a ratio needs one number, 'totals' is several (name one of them in an expression: expression = \"… / …\")",
    );
    check(
        "per_order",
        "orders",
        "line 10, features.user.r: user.per_order is not an aggregate (divide it in an expression: expression = \"… / …\")",
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
fn people_are_divided_by_one_of_their_texts() {
    let declared = r#"
[[features.user]]
name = "plan"
aggregate = "last"
event = "Order Completed"
value = "properties.plan"
[[features.user]]
name = "orders"
aggregate = "count"
[models.m]
kind = "recommend"
signals = { Ordered = 1.0 }
features = ["user.orders"]
segment = "SEGMENT"
"#;
    let select = |segment: &str| {
        let project = project(&format!("{HEAD}{}", declared.replace("SEGMENT", segment)));
        let set = FeatureSet::compile(&project, &project.features).unwrap();
        let model = project.recommenders.values().next().unwrap();
        set.select_for_lists(model)
            .map(|features| features.names())
            .map_err(|error| error.to_string())
    };
    let read = select("user.plan").unwrap();
    assert_eq!(read, ["user.plan", "user.orders"]);
    let error = select("user.plam").unwrap_err();
    assert!(
        error.contains(
            "models.m.segment: there is no feature 'user.plam' (did you mean 'user.plan'?)"
        ),
        "{error}"
    );
    let error = select("user.orders").unwrap_err();
    assert!(
        error.contains("'user.orders' does not divide people by a text (such as user.plan)"),
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
    let of = |aggregate: &str| {
        hash(&format!(
            "[[features.user]]\nname = \"a\"\nvalue = \"properties.total\"\naggregate = {aggregate}\n"
        ))
    };
    let all = [
        "\"quantile\"",
        "\"quantile\"\nq = 0.9",
        "\"recent\"\nk = 2\ntype = \"number\"",
        "\"recent\"\nk = 3\ntype = \"number\"",
        "\"recent\"\nk = 3\ntype = \"category\"",
        "\"first\"\ntype = \"number\"",
        "\"first\"\ntype = \"category\"",
    ];
    let hashes: std::collections::BTreeSet<String> = all.into_iter().map(of).collect();
    assert_eq!(hashes.len(), all.len());
}

/// The examples of the guide are one file that is read and compiled, and it leaves out no operation.
#[test]
fn the_guide_is_true() {
    let guide = include_str!("../../../../docs/features.md");
    let blocks = guide.split("```toml\n").skip(1);
    let text: String = blocks
        .filter_map(|block| block.split("```").next())
        .collect();
    let project = project(&text);
    let set =
        FeatureSet::compile(&project, &project.features).unwrap_or_else(|error| panic!("{error}"));
    for name in Operation::NAMES {
        let shown = text.lines().any(|line| {
            line.strip_prefix("aggregate")
                .is_some_and(|rest| rest.trim_start_matches([' ', '=']) == format!("\"{name}\""))
        });
        assert!(shown, "no example of {name}");
        assert!(
            guide.contains(&format!("| `{name}`")) || guide.contains(&format!("`{name}` |")),
            "{name} is not in the table"
        );
    }
    let names: Vec<&str> = set
        .columns()
        .iter()
        .map(|column| column.name.as_str())
        .collect();
    for expected in [
        "user.spent_per_order_30d",
        "user.favourite_2_90d",
        "user.viewed_5",
        "user.varies",
        "global.p90_basket_7d",
        "item.cheapest",
        "country.dearest_7d",
    ] {
        assert!(names.contains(&expected), "{expected} is not in {names:?}");
    }
    assert!(!names.contains(&"user.spent_per_order_90d"));
}
