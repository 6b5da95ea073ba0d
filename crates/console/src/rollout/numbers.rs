//! The numbers of both versions: beside the guardrails now, and stage by stage.

use tidemill_core::ModelName;
use tidemill_core::notation::thousands;
use tidemill_core::project::RolloutRules;
use tidemill_cycle::rollout::{RolloutStatus, StageNumbers};
use tidemill_serve::rollout::ArmNumbers;
use tidemill_store::catalog::Rollout;

use super::{Passed, stage_name};
use crate::html::{Html, html};
use crate::parts::{NOTHING, Table, Tone, maybe, milliseconds, number, percent, state, text};
use crate::visit::Visit;

/// A feature that only the version that takes over reads, and that is missing more often than in training.
pub(super) struct Gap {
    name: String,
    /// The share of the rows in training.
    usual: f64,
    /// The share of the rows now.
    now: f64,
}

/// The feature with the largest gap; `None` where nothing was read yet or no feature is the version's own.
pub(super) fn gap(visit: &Visit, model: &ModelName) -> Option<Gap> {
    let slot = visit.project.registry.slot(model)?;
    let (challenger, champion) = (slot.challenger()?, slot.champion());
    let found = challenger.tally.snapshot();
    if found.rows == 0 {
        return None;
    }
    let is_shared = |name: &str| {
        let columns = champion.iter().flat_map(|of| &of.package.columns);
        columns.into_iter().any(|column| column.name == name)
    };
    let columns = challenger.version.package.columns.iter();
    let own = columns
        .zip(&challenger.missing_in_training)
        .zip(&found.missing)
        .filter(|((column, _), _)| !is_shared(&column.name));
    let gaps = own.map(|((column, usual), missing)| Gap {
        name: column.name.clone(),
        usual: *usual,
        now: *missing as f64 / found.rows as f64,
    });
    gaps.max_by(|one, other| (one.now - one.usual).total_cmp(&(other.now - other.usual)))
}

/// How a number stands to its limit: a guardrail stops only what is surely beyond it.
fn kept(value: Option<f64>, is_within: impl Fn(f64) -> bool) -> Html {
    match value {
        None => state(Tone::Quiet, "not known yet"),
        Some(value) if is_within(value) => state(Tone::Good, "kept"),
        Some(_) => state(Tone::Warning, "beyond, not surely"),
    }
}

/// Both versions beside what the version that takes over must keep to.
pub(super) fn guardrails(
    (rules, is_of_lists): (&RolloutRules, bool),
    status: &RolloutStatus,
    gap: Option<&Gap>,
) -> Html {
    let Some(line) = &status.rollout else {
        return Html::default();
    };
    let Some(found) = &line.numbers else {
        return Html::default();
    };
    let limits = &rules.guardrails;
    let champion = line.champion.as_deref().unwrap_or("the champion");
    let columns = [
        "Guardrail".to_owned(),
        format!("#{}", line.version),
        format!("#{champion}"),
        "#Limit".to_owned(),
        "State".to_owned(),
    ];
    let mut table = Table::of("guardrails", columns.into());
    let mut add = |name: &str, ours: String, theirs: String, limit: String, state: Html| {
        table.row([text(name), text(ours), text(theirs), text(limit), state]);
    };
    let (ours, theirs) = (&found.challenger, &found.control);
    add(
        "answers that fail",
        failed(ours),
        failed(theirs),
        format!("at most {}", percent_exact(limits.errors)),
        kept(failed_share(ours), |share| share <= limits.errors),
    );
    let p99 = |arm: &ArmNumbers| arm.p99_us.map(|us| us as f64 / 1_000.0);
    add(
        "the slowest of a hundred answers",
        milliseconds(p99(ours)),
        milliseconds(p99(theirs)),
        format!("at most {} ms", number(limits.latency_p99_ms)),
        kept(p99(ours), |ms| ms <= limits.latency_p99_ms),
    );
    add(
        &gap.map_or_else(
            || "features that are missing".to_owned(),
            |gap| format!("{} is missing", gap.name),
        ),
        gap.map_or_else(|| NOTHING.to_owned(), |gap| percent(gap.now)),
        NOTHING.to_owned(),
        gap.map_or_else(
            || format!("{} more than in training", percent_exact(limits.missing)),
            |gap| format!("at most {}", percent((gap.usual + limits.missing).min(1.0))),
        ),
        kept(gap.map(|gap| gap.now - gap.usual), |more| {
            more <= limits.missing
        }),
    );
    if is_of_lists {
        let shared = found.lists.map(|lists| lists.shared);
        add(
            "the champion's items that are in its lists too",
            shared.map_or_else(|| NOTHING.to_owned(), percent),
            NOTHING.to_owned(),
            format!("at least {}", percent(limits.agreement)),
            kept(shared, |shared| shared >= limits.agreement),
        );
    } else {
        let agreement = found.agreement.as_ref();
        let correlation = agreement.and_then(|found| found.rank_correlation);
        add(
            "people in the champion's order (rank correlation)",
            maybe(correlation),
            NOTHING.to_owned(),
            format!("at least {}", number(limits.agreement)),
            kept(correlation, |found| found >= limits.agreement),
        );
        let drift = agreement.map(|found| found.stability_index);
        add(
            "scores distributed as the champion's (stability index)",
            maybe(drift),
            NOTHING.to_owned(),
            format!("at most {}", number(limits.drift)),
            kept(drift, |found| found <= limits.drift),
        );
    }
    let turned = line
        .outcomes
        .and_then(|outcomes| outcomes.same_questions.or(outcomes.arms));
    let may = turned.map(|turned| turned.champion_loss * (1.0 + limits.worse));
    add(
        "how it turned out (loss)",
        maybe(turned.map(|turned| turned.loss)),
        maybe(turned.map(|turned| turned.champion_loss)),
        may.map_or_else(
            || "no horizon has passed".to_owned(),
            |may| format!("at most {}", number(may)),
        ),
        kept(turned.map(|turned| turned.loss), |loss| {
            may.is_none_or(|may| loss <= may)
        }),
    );
    html!(
        "<h3>What it must keep to</h3><p class=\"about\">At this stage, since it began or the server was started. What is surely beyond a limit sends the version back at once; chance alone does not.</p>{}",
        table.show()
    )
}

/// What was noted stage by stage, also of the one that goes on.
pub(super) fn stages(
    called: &str,
    passed: &[Passed],
    now: Option<(&Rollout, &StageNumbers)>,
) -> Html {
    let over = passed
        .iter()
        .map(|one| (stage_name(one.stage, one.share), &one.numbers));
    let now = now
        .iter()
        .map(|(rollout, found)| (stage_name(rollout.stage, rollout.share), *found));
    let mut table = Table::new(
        format!("numbers of {called} by stage"),
        &[
            "Stage",
            "Who",
            "#Answers",
            "#Failed",
            "#Median",
            "#p99",
            "#People",
            "#Agreement",
            "#Stability index",
        ],
    );
    let mut is_empty = true;
    for (stage, found) in over.chain(now) {
        is_empty = false;
        let agreement = found.agreement.as_ref();
        let shared = found.lists.map(|lists| percent(lists.shared));
        let correlation = || maybe(agreement.and_then(|found| found.rank_correlation));
        let compared = [
            shared.unwrap_or_else(correlation),
            maybe(agreement.map(|found| found.stability_index)),
        ];
        let nothing = || [NOTHING.to_owned(), NOTHING.to_owned()];
        for (who, arm, [correlation, drift]) in [
            (called, &found.challenger, compared),
            ("control", &found.control, nothing()),
        ] {
            let ms = |us: Option<u64>| milliseconds(us.map(|us| us as f64 / 1_000.0));
            table.row([
                text(&stage),
                text(who),
                text(thousands(arm.answers)),
                text(thousands(arm.failed())),
                text(ms(arm.p50_us)),
                text(ms(arm.p99_us)),
                text(if arm.people == 0 {
                    NOTHING.to_owned()
                } else {
                    thousands(arm.people)
                }),
                text(correlation),
                text(drift),
            ]);
        }
    }
    if is_empty {
        return Html::default();
    }
    html!(
        "<details class=\"numbers\"><summary>Both versions, stage by stage</summary><p class=\"about\">The control is the champion: for the same questions in the shadow, for as many other people in the canary. Scores agree by their rank correlation, lists by the share of the champion's items that they have too.</p>{}</details>",
        table.show()
    )
}

fn failed_share(arm: &ArmNumbers) -> Option<f64> {
    (arm.answers > 0).then(|| arm.failed() as f64 / arm.answers as f64)
}

fn failed(arm: &ArmNumbers) -> String {
    format!("{} of {}", thousands(arm.failed()), thousands(arm.answers))
}

/// A small share that one decimal would round away.
fn percent_exact(share: f64) -> String {
    format!("{} %", (share * 100_000.0).round() / 1_000.0)
}
