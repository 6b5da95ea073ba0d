//! Two versions of a model beside each other.

use axum::extract::{Path, Query};
use axum::response::Response;
use serde::Deserialize;
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_cycle::run::RunDetail;
use tidemill_store::catalog::Version;

use crate::html::{Html, html};
use crate::models::page_below;
use crate::parts::{Table, link, maybe, text};
use crate::problem::Problem;
use crate::recommender;
use crate::visit::Visit;

/// Which two.
#[derive(Debug, Deserialize)]
pub(crate) struct Pair {
    a: u32,
    b: u32,
}

/// Two versions beside each other.
pub(crate) async fn page(
    visit: Visit,
    Path((_, model)): Path<(String, String)>,
    Query(pair): Query<Pair>,
) -> Result<Response, Problem> {
    let name = visit.model(&model)?;
    let (a, b) = (
        visit.project.version(&name, pair.a).await?,
        visit.project.version(&name, pair.b).await?,
    );
    let (left, right) = (columns_of(&a), columns_of(&b));
    let mut table = Table::new("compared", &["What", "#A", "#B", "#Difference"]);
    table.row([
        text("version"),
        link(
            &visit.path(&format!("/models/{name}/versions/{}", a.number)),
            &format!("@{}", a.number),
        ),
        link(
            &visit.path(&format!("/models/{name}/versions/{}", b.number)),
            &format!("@{}", b.number),
        ),
        Html::default(),
    ]);
    for (what, value) in &left {
        let other = right
            .iter()
            .find(|(name, _)| name == what)
            .and_then(|(_, value)| *value);
        let difference = value.zip(other).map(|(a, b)| b - a);
        table.row([
            text(what),
            text(maybe(*value)),
            text(maybe(other)),
            text(maybe(difference)),
        ]);
    }
    let body = html!(
        "<form class=\"filters\" method=\"get\"><label>A<input name=\"a\" type=\"number\" min=\"1\" value=\"{}\"></label><label>B<input name=\"b\" type=\"number\" min=\"1\" value=\"{}\"></label><button class=\"button\">Compare</button></form><p class=\"about\">Each version was examined on the newest rows of its time. The gate compares a challenger with the champion on the same rows: that is on each version's own page.</p>{}",
        pair.a,
        pair.b,
        table.show()
    );
    page_below(&visit, &name, "Compare versions", (Html::default(), body))
}

/// The numbers of a version by name.
fn columns_of(version: &Version) -> Vec<(String, Option<f64>)> {
    let detail: RunDetail = serde_json::from_value(version.detail.clone()).unwrap_or_default();
    let Some(found) = &detail.examination else {
        let detail: RecommendDetail =
            serde_json::from_value(version.detail.clone()).unwrap_or_default();
        return recommender::columns(&detail);
    };
    let mut all: Vec<(String, Option<f64>)> = found
        .challenger
        .metrics
        .iter()
        .map(|metric| (metric.metric.label().to_owned(), metric.value))
        .collect();
    all.push((
        "examined rows".to_owned(),
        Some(found.challenger.rows as f64),
    ));
    all.push((
        "rows of the dataset".to_owned(),
        detail.dataset.as_ref().map(|record| record.rows as f64),
    ));
    all.push((
        "checks failed".to_owned(),
        Some(
            found
                .verdict
                .checks
                .iter()
                .filter(|check| !check.passed)
                .count() as f64,
        ),
    ));
    for gain in detail.gains.iter().take(10) {
        all.push((format!("gain of {}", gain.name), Some(gain.gain)));
    }
    all
}
