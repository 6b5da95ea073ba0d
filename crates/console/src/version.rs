//! A version: what its examination found, why the gate decided as it did, and how it compares.

use std::fmt::Write;

use axum::extract::Path;
use axum::response::Response;
use tidemill_core::ModelName;
use tidemill_core::notation::thousands;
use tidemill_cycle::examine::Examination;
use tidemill_cycle::gain::FeatureGain;
use tidemill_cycle::recommend::RecommendDetail;
use tidemill_cycle::run::RunDetail;
use tidemill_evaluate::{Report, Verdict};
use tidemill_store::catalog::Version;
use tidemill_store::users::Role;

use crate::chart::{self, Curve};
use crate::html::{Html, html};
use crate::layout::{Action, reason_field};
use crate::models::page_below;
use crate::parts::{
    NOTHING, Table, Tone, figure, figures, interval, maybe, number, part_about, section, state,
    text, time,
};
use crate::problem::Problem;
use crate::recommender;
use crate::visit::Visit;

/// How many gains are shown.
const GAINS_SHOWN: usize = 25;

/// The page of a version.
pub(crate) async fn page(
    visit: Visit,
    Path((_, model, number)): Path<(String, String, u32)>,
) -> Result<Response, Problem> {
    let name = visit.model(&model)?;
    let version = visit.project.version(&name, number).await?;
    let champion = visit
        .project
        .stores
        .catalog
        .champion(&visit.project.project.name, &name)
        .await?;
    let is_champion = champion == Some(number);
    let detail = if visit.project.project.recommenders.contains_key(&name) {
        let detail: RecommendDetail =
            serde_json::from_value(version.detail.clone()).unwrap_or_default();
        recommender::detail(&detail)
    } else {
        let detail: RunDetail = serde_json::from_value(version.detail.clone()).unwrap_or_default();
        predictor(&detail)
    };
    let status = match (is_champion, version.passed) {
        (true, _) => state(Tone::Good, "champion: it answers"),
        (false, true) => state(Tone::Quiet, "passed the gate"),
        (false, false) => state(Tone::Warning, "refused by the gate"),
    };
    let body = html!(
        "<p>{status} <span class=\"quiet\">· made {made} · run {run} · artifact <code>{artifact}</code></span></p>{detail}",
        status = status,
        made = time(version.created_at),
        run = version.run.to_string(),
        artifact = version
            .artifact
            .as_str()
            .chars()
            .take(12)
            .collect::<String>(),
        detail = detail,
    );
    let title = format!("{name}@{number}");
    let actions = actions(&visit, &name, &version, champion);
    page_below(&visit, &name, &title, (actions, body))
}

fn actions(visit: &Visit, name: &ModelName, version: &Version, champion: Option<u32>) -> Html {
    let number = version.number;
    let card = html!(
        "<a class=\"button\" href=\"{}\" download>Model card</a>",
        visit.path(&format!("/models/{name}/versions/{number}/card"))
    );
    if champion == Some(number) {
        return card;
    }
    let compare = champion.map(|champion| {
        html!(
            "<a class=\"button\" href=\"{}?a={}&amp;b={}\">Compare with the champion</a>",
            visit.path(&format!("/models/{name}/compare")),
            champion,
            number
        )
    });
    let promote = promote_button(visit, name, number, version.passed);
    html!("{}{}{}", card, compare, promote)
}

/// What lets a version answer, for whoever may; against the gate with a reason.
pub(crate) fn promote_button(visit: &Visit, name: &ModelName, number: u32, passed: bool) -> Html {
    let path = format!("/models/{name}/versions/{number}/promote");
    if passed {
        visit.action(Role::Editor, &Action {
            path: &path,
            button: "Promote",
            means: "This version answers from now on. The present champion stays and can be rolled back to.",
            fields: reason_field(false),
        })
    } else {
        visit.action(Role::Editor, &Action {
            path: &path,
            button: "Promote against the gate",
            means: "The gate refused this version: see why below. If you let it answer all the same, your name and reason are kept in the audit log.",
            fields: html!("{}<label class=\"tick\"><input type=\"checkbox\" name=\"override\" value=\"yes\" required>I overrule the gate</label>", reason_field(true)),
        })
    }
}

fn predictor(detail: &RunDetail) -> Html {
    let Some(found) = &detail.examination else {
        return html!(
            "<div class=\"empty\"><p>This version was made before examinations were kept.</p></div>"
        );
    };
    html!(
        "{verdict}{metrics}{compared}{charts}{slices}{gains}{dataset}",
        verdict = verdict(&found.verdict),
        metrics = section(
            "Metrics",
            "On the examined rows, which the version was not trained on, with 95 % intervals.",
            &metrics(&found.challenger)
        ),
        compared = section(
            "Beside others on the same rows",
            "By the metric that the gate compares.",
            &compared(found)
        ),
        charts = section(
            "Curves",
            "On the examined rows. The numbers are below.",
            &curves(&found.challenger)
        ),
        slices = section(
            "Where it is worst",
            "Groups of the examined rows with the lowest quality.",
            &slices(found)
        ),
        gains = section(
            "What moves its answers",
            "The mean absolute contribution of each feature before calibration.",
            &gains(&detail.gains)
        ),
        dataset = section("What it was made from", "", &dataset(detail)),
    )
}

/// The gate's decision, check by check.
pub(crate) fn verdict(verdict: &Verdict) -> Html {
    let mut table = Table::new(
        "gate",
        &[
            "Check",
            "Verdict",
            "#Value",
            "#Needed",
            "95 % interval",
            "In a sentence",
        ],
    );
    // what stopped it first
    let failed = verdict.checks.iter().filter(|check| !check.passed);
    for check in failed.chain(verdict.checks.iter().filter(|check| check.passed)) {
        let shown = if check.passed {
            state(Tone::Good, "passed")
        } else {
            state(Tone::Bad, "failed")
        };
        table.row([
            text(check.name.replace('_', " ")),
            shown,
            text(number(check.value)),
            text(number(check.threshold)),
            interval(check.interval),
            text(&check.sentence),
        ]);
    }
    part_about("The gate", &verdict.summary(), &table.show())
}

fn metrics(report: &Report) -> Html {
    let mut all = figure(
        "rows",
        &text(thousands(report.rows as u64)),
        &html!("{} people", thousands(report.entities as u64)),
    );
    for metric in &report.metrics {
        all.push(&figure(
            metric.metric.label(),
            &text(maybe(metric.value)),
            &interval(metric.interval),
        ));
    }
    figures(&all)
}

fn compared(found: &Examination) -> Html {
    let mut table = Table::new("compared", &["Who", "#Value", "95 % interval"]);
    table.row([
        html!("<strong>this version</strong>"),
        text(maybe(found.value())),
        interval(found.interval()),
    ]);
    for other in found.champion.iter().chain(&found.baselines) {
        table.row([
            text(&other.name),
            text(maybe(other.value)),
            interval(other.interval),
        ]);
    }
    table.show()
}

fn curves(report: &Report) -> Html {
    let mut charts = Html::default();
    let mut numbers = Html::default();
    let diagonal = [(0.0, 0.0), (1.0, 1.0)];
    let mut add = |curve: &Curve<'_>, columns: &'static [&'static str]| {
        if curve.points.is_empty() {
            return;
        }
        charts.push(&curve.show());
        let mut table = Table::new(curve.name, columns);
        for (x, y) in curve.points {
            table.row([text(number(*x)), text(number(*y))]);
        }
        numbers.push(&html!(
            "<details class=\"numbers\"><summary>{}: the numbers</summary>{}</details>",
            curve.name,
            table.show()
        ));
    };
    add(
        &Curve {
            name: "ROC",
            x_name: "false positive rate",
            y_name: "true positive rate",
            points: &report.roc,
            chance: diagonal,
            dots: false,
        },
        &["#False positive rate", "#True positive rate"],
    );
    let base = report.base.unwrap_or_default();
    add(
        &Curve {
            name: "Precision and recall",
            x_name: "recall",
            y_name: "precision",
            points: &report.precision_recall,
            chance: [(0.0, base), (1.0, base)],
            dots: false,
        },
        &["#Recall", "#Precision"],
    );
    let bins: Vec<(f64, f64)> = report
        .calibration
        .iter()
        .map(|bin| (bin.score, bin.outcome))
        .collect();
    let most = bins
        .iter()
        .flat_map(|bin| [bin.0, bin.1])
        .fold(0.0, f64::max);
    add(
        &Curve {
            name: "Calibration",
            x_name: "what it said",
            y_name: "what happened",
            points: &bins,
            chance: [(0.0, 0.0), (most, most)],
            dots: true,
        },
        &["#Mean score", "#Share that came true"],
    );
    let lift = lift(report);
    add(
        &Curve {
            name: "Cumulative lift",
            x_name: "share of people, highest scores first",
            y_name: "times the base rate",
            points: &lift,
            chance: [(0.0, 1.0), (1.0, 1.0)],
            dots: true,
        },
        &["#Share of people", "#Times the base rate"],
    );
    if charts.is_empty() {
        charts
    } else {
        html!("<div class=\"charts\">{}</div>{}", charts, numbers)
    }
}

/// How many times the base rate came true among those with the highest scores, from the bins of calibration.
fn lift(report: &Report) -> Vec<(f64, f64)> {
    let total: f64 = report.calibration.iter().map(|bin| bin.weight).sum();
    let Some(base) = report.base.filter(|base| *base > 0.0 && total > 0.0) else {
        return Vec::new();
    };
    let (mut weight, mut hits) = (0.0, 0.0);
    let from_the_top = report.calibration.iter().rev().map(|bin| {
        weight += bin.weight;
        hits += bin.weight * bin.outcome;
        (weight / total, hits / weight / base)
    });
    // a binary question only: elsewhere a bin's outcome is not the target
    if report.roc.is_empty() {
        Vec::new()
    } else {
        from_the_top.collect()
    }
}

fn slices(found: &Examination) -> Html {
    let mut table = Table::new("slices", &["Slice", "#Rows", "#Value", "#All rows"]);
    for slice in &found.worst_slices {
        table.row([
            text(&slice.name),
            text(thousands(slice.rows as u64)),
            text(number(slice.value)),
            text(number(slice.overall)),
        ]);
    }
    table.or(&html!(
        "<p>No slice with enough rows is worse than the whole.</p>"
    ))
}

fn gains(gains: &[FeatureGain]) -> Html {
    let most = gains.first().map_or(1.0, |gain| gain.gain).max(1e-12);
    let mut table = Table::new("gains", &["Feature", "#Gain", "Beside the strongest"]);
    for gain in gains.iter().take(GAINS_SHOWN) {
        table.row([
            text(&gain.name),
            text(number(gain.gain)),
            chart::meter(gain.gain / most),
        ]);
    }
    if gains.is_empty() {
        Html::default()
    } else {
        table.show()
    }
}

fn dataset(detail: &RunDetail) -> Html {
    let Some(record) = &detail.dataset else {
        return Html::default();
    };
    let mut dropped = String::new();
    for (why, rows) in &record.dropped {
        let why = serde_json::to_value(why)
            .ok()
            .and_then(|why| why.as_str().map(str::to_owned))
            .unwrap_or_default();
        // writing to a String does not fail
        let _ = write!(
            dropped,
            "{}{} {}",
            if dropped.is_empty() { "" } else { ", " },
            thousands(*rows),
            why.replace('_', " ")
        );
    }
    let parts = detail.parts.map(|parts| {
        figure(
            "fitted on",
            &text(thousands(parts.known as u64)),
            &html!(
                "{} left out between, {} examined from {}",
                thousands(parts.gap as u64),
                thousands(parts.examined as u64),
                time(parts.examined_from)
            ),
        )
    });
    figures(&html!(
        "{}{}{}{}{}",
        figure(
            "rows",
            &text(thousands(record.rows)),
            &html!("of {} observations", thousands(record.observed))
        ),
        parts,
        figure(
            "features",
            &text(thousands(record.features.len() as u64)),
            &html!(
                "definition <code>{}</code>",
                record.definition_hash.chars().take(12).collect::<String>()
            )
        ),
        figure(
            "known until",
            &time(record.known_until),
            &html!(
                "digest <code>{}</code>",
                record.digest.chars().take(12).collect::<String>()
            )
        ),
        figure(
            "left out",
            &text(if dropped.is_empty() {
                NOTHING
            } else {
                &dropped
            }),
            &Html::default()
        ),
    ))
}
