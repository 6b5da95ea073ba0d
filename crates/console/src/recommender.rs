//! What is shown of a version that recommends.

use tidemill_core::notation::thousands;
use tidemill_cycle::recommend::RecommendDetail;

use crate::html::{Html, html};
use crate::parts::{Table, figure, figures, interval, maybe, number, percent, section, text, time};
use crate::version::verdict;

/// The parts of its page.
pub(crate) fn detail(detail: &RecommendDetail) -> Html {
    let Some(found) = &detail.examination else {
        return html!(
            "<div class=\"empty\"><p>This version was made before examinations were kept.</p></div>"
        );
    };
    let mut compared = Table::new("compared", &["Who", "#Value", "95 % interval"]);
    for one in [&found.challenger, &found.popular]
        .into_iter()
        .chain(&found.champion)
    {
        compared.row([
            text(&one.name),
            text(maybe(one.value)),
            interval(one.interval),
        ]);
    }
    let mut further = Table::new("further metrics", &["Metric", "#Value"]);
    for (name, value) in &found.further {
        further.row([text(name), text(number(*value))]);
    }
    let made_from = figures(&html!(
        "{}{}{}{}{}",
        figure(
            "signals",
            &text(thousands(detail.signals as u64)),
            &Html::default()
        ),
        figure(
            "people",
            &text(thousands(detail.persons as u64)),
            &Html::default()
        ),
        figure(
            "items",
            &text(thousands(detail.items as u64)),
            &Html::default()
        ),
        figure(
            "people examined on",
            &text(thousands(detail.cases as u64)),
            &html!("{}", detail.examined_from.map(time))
        ),
        figure(
            "catalogue shown",
            &text(percent(found.coverage)),
            &Html::default()
        ),
    ));
    html!(
        "{}{}{}{}",
        verdict(&found.verdict),
        section(
            "Beside others, for the same people",
            "By the metric that the gate compares, over the whole catalogue.",
            &compared.show()
        ),
        section("Further metrics", "", &further.show()),
        section("What it was made from", "", &made_from),
    )
}

/// Its numbers by name, for comparing two.
pub(crate) fn columns(detail: &RecommendDetail) -> Vec<(String, Option<f64>)> {
    let Some(found) = &detail.examination else {
        return Vec::new();
    };
    let mut all = vec![
        (found.metric.clone(), found.challenger.value),
        ("what everybody takes".to_owned(), found.popular.value),
        ("catalogue shown".to_owned(), Some(found.coverage)),
    ];
    all.extend(
        found
            .further
            .iter()
            .map(|(name, value)| (name.clone(), Some(*value))),
    );
    all
}
