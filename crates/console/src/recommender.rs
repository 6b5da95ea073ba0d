//! What is shown of a version that recommends.

use tidemill_core::notation::thousands;
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_learn::recommend::Record;

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
        "{}{}{}{}{}",
        verdict(&found.verdict),
        section(
            "Beside others, for the same people",
            "By the metric that the gate compares, over the whole catalogue.",
            &compared.show()
        ),
        section("Further metrics", "", &further.show()),
        detail.record.as_ref().map(chosen),
        section("What it was made from", "", &made_from),
    )
}

/// Which sources it is made of.
fn chosen(record: &Record) -> Html {
    let header = ["Source", "#Alone", "#All others", "Part of it"];
    let mut sources = Table::new("sources", &header);
    for source in &record.sources {
        sources.row([
            text(source.parameters.name()),
            text(number(source.alone)),
            text(number(source.without)),
            text(if source.kept { "yes" } else { "no" }),
        ]);
    }
    let when = match record.taken_over {
        _ if record.pinned => "Named in the project file and measured in this run".to_owned(),
        0 => "Chosen in this run".to_owned(),
        1 => "Taken over from the run before".to_owned(),
        times => format!("Taken over from a choice {times} runs ago"),
    };
    let ranker = record.ranker.as_ref().map_or_else(String::new, |ranker| {
        let (blend, ranked) = (number(ranker.blend), number(ranker.ranked));
        let verb = if ranker.kept { "orders" } else { "would order" };
        format!(" A ranker {verb} the best candidates: {ranked} with it, {blend} without.")
    });
    let said = format!(
        "{when}, by NDCG at 20 on what was held back of {} signals: together {}.{ranker}",
        thousands(record.chosen_on as u64),
        number(record.blend)
    );
    section("What it is made of", &said, &sources.show())
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
