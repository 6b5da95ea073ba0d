//! A version's model card: a page of Markdown that can be filed, with what was examined and what it was made from
//! (after Mitchell and others, Model Cards for Model Reporting, 2019).

use std::fmt::Write;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use tidemill_core::notation::thousands;
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_cycle::run::RunDetail;
use tidemill_evaluate::Verdict;
use tidemill_store::catalog::Version;

use crate::parts::{maybe, number};
use crate::problem::Problem;
use crate::visit::Visit;

/// How many of the features that move most are named.
const GAINS_NAMED: usize = 15;

/// A card that is being written.
#[derive(Default)]
struct Card(String);

impl Card {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn part(&mut self, title: &str) {
        // writing to a String does not fail
        let _ = write!(self.0, "\n## {title}\n\n");
    }

    fn table(&mut self, columns: &[&str]) {
        self.row(
            &columns
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        );
        self.line(&format!("|{}", "---|".repeat(columns.len())));
    }

    fn row(&mut self, cells: &[String]) {
        let cells = cells.iter().map(|cell| plain(cell));
        self.line(&format!("| {} |", cells.collect::<Vec<_>>().join(" | ")));
    }
}

/// A text in which nothing means anything to Markdown or HTML.
fn plain(text: &str) -> String {
    let mut written = String::new();
    for character in text.chars() {
        match character {
            '\n' | '\r' => written.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '|' | '#' | '!' => {
                written.push('\\');
                written.push(character);
            }
            other => written.push(other),
        }
    }
    written
}

fn interval(of: Option<(f64, f64)>) -> String {
    of.map_or_else(String::new, |(low, high)| {
        format!("{} to {}", number(low), number(high))
    })
}

/// The card, as a file.
pub(crate) async fn get(
    visit: Visit,
    Path((_, model, number)): Path<(String, String, u32)>,
) -> Result<Response, Problem> {
    let name = visit.model(&model)?;
    let version = visit.project.version(&name, number).await?;
    let status = visit.project.model_status(&name).await?;
    let mut card = Card::default();
    card.line(&format!("# {}", plain(&format!("{name}@{number}"))));
    card.line("");
    card.line(&plain(status.question.as_deref().unwrap_or_default()));
    about(&mut card, &visit, &version, status.champion == Some(number));
    let kept = version.detail.clone();
    if visit.project.project.recommenders.contains_key(&name) {
        recommender(&mut card, &serde_json::from_value(kept).unwrap_or_default());
    } else {
        predictor(&mut card, &serde_json::from_value(kept).unwrap_or_default());
    }
    let file = format!("attachment; filename=\"{name}-{number}.md\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            "text/markdown; charset=utf-8".to_owned(),
        ),
        (header::CONTENT_DISPOSITION, file),
    ];
    Ok((headers, card.0).into_response())
}

fn about(card: &mut Card, visit: &Visit, version: &Version, is_champion: bool) {
    card.part("About");
    let state = match (is_champion, version.passed) {
        (true, _) => "it answers",
        (false, true) => "passed the gate",
        (false, false) => "refused by the gate",
    };
    for (what, is) in [
        ("Project", visit.project.project.name.to_string()),
        ("Made", version.created_at.to_string()),
        ("Run", version.run.to_string()),
        ("Artifact (SHA-256)", version.artifact.as_str().to_owned()),
        ("State when this card was written", state.to_owned()),
    ] {
        card.line(&format!("- {what}: {}", plain(&is)));
    }
}

fn gate(card: &mut Card, verdict: &Verdict) {
    card.part("The gate");
    card.line(&plain(&verdict.summary()));
    card.line("");
    card.table(&[
        "check",
        "passed",
        "value",
        "needed",
        "95 % interval",
        "in a sentence",
    ]);
    for check in &verdict.checks {
        card.row(&[
            check.name.replace('_', " "),
            if check.passed { "yes" } else { "no" }.to_owned(),
            number(check.value),
            number(check.threshold),
            interval(check.interval),
            check.sentence.clone(),
        ]);
    }
}

fn compared<'a>(
    card: &mut Card,
    others: impl Iterator<Item = (&'a str, Option<f64>, Option<(f64, f64)>)>,
) {
    card.part("Beside others, on the same rows");
    card.table(&["who", "value", "95 % interval"]);
    for (name, value, within) in others {
        card.row(&[name.to_owned(), maybe(value), interval(within)]);
    }
}

fn predictor(card: &mut Card, detail: &RunDetail) {
    let Some(found) = &detail.examination else {
        card.line("\nThis version was made before examinations were kept.");
        return;
    };
    gate(card, &found.verdict);
    let report = &found.challenger;
    card.part("Metrics");
    card.line(&format!(
        "On {} rows of {} people, which it was not trained on.\n",
        thousands(report.rows as u64),
        thousands(report.entities as u64)
    ));
    card.table(&["metric", "value", "95 % interval"]);
    for metric in &report.metrics {
        card.row(&[
            metric.metric.label().to_owned(),
            maybe(metric.value),
            interval(metric.interval),
        ]);
    }
    let others = found.champion.iter().chain(&found.baselines);
    let others = others.map(|other| (other.name.as_str(), other.value, other.interval));
    compared(
        card,
        [("this version", found.value(), found.interval())]
            .into_iter()
            .chain(others),
    );
    card.part("Where it is worst");
    card.table(&["slice", "rows", "value", "all rows"]);
    for slice in &found.worst_slices {
        card.row(&[
            slice.name.clone(),
            thousands(slice.rows as u64),
            number(slice.value),
            number(slice.overall),
        ]);
    }
    card.part("What moves its answers");
    card.table(&["feature", "mean absolute contribution"]);
    for gain in detail.gains.iter().take(GAINS_NAMED) {
        card.row(&[gain.name.clone(), number(gain.gain)]);
    }
    if let Some(record) = &detail.dataset {
        card.part("What it was made from");
        for (what, is) in [
            ("Rows", thousands(record.rows)),
            ("Features", thousands(record.features.len() as u64)),
            ("Known until", record.known_until.to_string()),
            ("Digest of the dataset", record.digest.clone()),
            ("Definition", record.definition_hash.clone()),
        ] {
            card.line(&format!("- {what}: {}", plain(&is)));
        }
    }
}

fn recommender(card: &mut Card, detail: &RecommendDetail) {
    let Some(found) = &detail.examination else {
        card.line("\nThis version was made before examinations were kept.");
        return;
    };
    gate(card, &found.verdict);
    let all = [&found.challenger, &found.popular]
        .into_iter()
        .chain(&found.champion);
    compared(
        card,
        all.map(|one| (one.name.as_str(), one.value, one.interval)),
    );
    card.part("Further metrics");
    card.table(&["metric", "value"]);
    for (name, value) in &found.further {
        card.row(&[name.clone(), number(*value)]);
    }
    card.part("What it was made from");
    for (what, is) in [
        ("Signals", detail.signals),
        ("People", detail.persons),
        ("Items", detail.items),
        ("People examined on", detail.cases),
    ] {
        card.line(&format!("- {what}: {}", thousands(is as u64)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_stays_text() {
        assert_eq!(
            plain("a|b <script>\n[x](y) _z_"),
            "a\\|b \\<script\\> \\[x\\](y) \\_z\\_"
        );
    }
}
