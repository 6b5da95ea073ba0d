//! What each test finds in the facts: whether it passes, since when, by what, and where that is.

use std::collections::BTreeMap;

use serde_json::Value;
use tidemill_core::decision::Fallback;
use tidemill_core::{Span, Timestamp};
use tidemill_store::catalog::{RolloutStage, Run};

use super::Evidence;
use super::facts::{Facts, checks_of};
use crate::quality::AgainstPromise;

/// The fewest versions over which it is judged whether promises are kept, and the share that must be.
const PROMISES_MIN: usize = 3;
const KEPT_MIN: f64 = 0.8;
/// The fewest runs before the newest with which its time is compared.
const RUNS_MIN: usize = 3;
/// The fewest answers from which something is told.
const ANSWERS_MIN: usize = 100;
/// A run that takes that many times longer than the middle of those before has become slow.
const SLOWER_MAX: f64 = 3.0;
/// Runs that take less than this are not compared, in seconds.
const SECONDS_MIN: f64 = 1.0;
/// Where no schedule is given, a version is looked after at least so often.
const EVERY_DEFAULT: Span = Span::from_days(90);
/// A new feature is served soon if a run takes no longer than this, in seconds.
const LEAD_SECONDS_MAX: f64 = 86_400.0;
/// The longest time in which a champion that was examined against no newer one is not too old, in schedules.
const SCHEDULES_MAX: i64 = 2;

type Found = Option<Evidence>;

/// Everything that is found, by test.
pub(super) fn all(facts: &Facts) -> BTreeMap<&'static str, Evidence> {
    let found: [(&'static str, Found); 27] = [
        ("data1", compared_data(facts)),
        ("data2", gains(facts)),
        ("data3", costs(facts)),
        ("data4", allowed(facts)),
        ("data5", erased(facts)),
        ("data6", lead_time(facts)),
        ("data7", read_again(facts)),
        ("model2", promises(facts)),
        ("model3", tuned(facts)),
        ("model4", aged(facts)),
        ("model5", simpler(facts)),
        ("model6", slices(facts)),
        ("model7", declared_slices(facts)),
        ("infrastructure1", reproducible(facts)),
        ("infrastructure2", learns(facts)),
        ("infrastructure3", served(facts)),
        ("infrastructure4", examined(facts)),
        ("infrastructure5", explained(facts)),
        ("infrastructure6", canary(facts)),
        ("infrastructure7", drilled(facts)),
        ("monitoring1", told(facts)),
        ("monitoring2", declared_data(facts)),
        ("monitoring3", read_again(facts)),
        ("monitoring4", young(facts)),
        ("monitoring5", sound(facts)),
        ("monitoring6", fast(facts)),
        ("monitoring7", quality(facts)),
    ];
    found
        .into_iter()
        .filter_map(|(test, found)| Some((test, found?)))
        .collect()
}

fn evidence(passed: bool, at: Timestamp, link: String, sentence: String) -> Evidence {
    Evidence {
        passed,
        at,
        sentence,
        link,
    }
}

fn of_run(facts: &Facts) -> Option<(Timestamp, String)> {
    let champion = facts.champion.as_ref()?;
    let link = format!("/v1/models/{}/runs/{}", facts.model, champion.run);
    Some((champion.created_at, link))
}

fn of_model(facts: &Facts, what: &str) -> String {
    format!("/v1/models/{}/{what}", facts.model)
}

fn compared_data(facts: &Facts) -> Found {
    let at = facts.examined_until?;
    let sentence = format!(
        "what arrives was compared with its own past day by day; {} differences are open",
        facts.data_alerts
    );
    Some(evidence(true, at, "/v1/data".to_owned(), sentence))
}

fn gains(facts: &Facts) -> Found {
    let gains = facts.detail()?["gains"].as_array()?;
    let (at, link) = of_run(facts)?;
    let idle = gains
        .iter()
        .filter(|gain| gain["gain"].as_f64() == Some(0.0))
        .count();
    let first = gains.first()?["feature"]
        .as_str()
        .or_else(|| gains.first()?["name"].as_str());
    let sentence = format!(
        "it was measured how much each of {} features moves the answers, {} most; {idle} move none",
        gains.len(),
        first.unwrap_or("one")
    );
    Some(evidence(idle < gains.len(), at, link, sentence))
}

fn costs(facts: &Facts) -> Found {
    let report = facts.features.as_ref()?;
    let timed = report
        .features
        .iter()
        .filter_map(|one| Some((one.read_us?, &one.column.name)));
    let (dearest, name) = timed.max_by(|one, other| one.0.total_cmp(&other.0))?;
    let sentence = format!(
        "what each feature costs was measured on {} people: {name} takes longest, {dearest:.1} µs; {} are used by nothing",
        report.persons,
        report.unused.len()
    );
    Some(evidence(
        true,
        facts.now,
        "/v1/features/report".to_owned(),
        sentence,
    ))
}

fn allowed(facts: &Facts) -> Found {
    if facts.definitions == 0 {
        return None;
    }
    let sentence = match facts.denied.first() {
        Some((feature, word)) => format!(
            "{} of {} definitions read personal fields: {feature} reads '{word}'",
            facts.denied.len(),
            facts.definitions
        ),
        None => format!(
            "none of {} definitions reads a field that names or marks a person",
            facts.definitions
        ),
    };
    let link = "/v1/features".to_owned();
    Some(evidence(facts.denied.is_empty(), facts.now, link, sentence))
}

fn erased(facts: &Facts) -> Found {
    let newest = facts.erasures.first()?;
    let sentence = format!(
        "{} people were erased, as the audit log says",
        facts.erasures.len()
    );
    Some(evidence(true, newest.at, "/v1/audit".to_owned(), sentence))
}

/// How long a run took, over all stages.
fn seconds(detail: &Value) -> Option<f64> {
    let stages = detail["seconds"].as_object()?;
    Some(stages.values().filter_map(Value::as_f64).sum())
}

fn lead_time(facts: &Facts) -> Found {
    let newest = facts.runs.first()?;
    let seconds = seconds(&newest.detail)?;
    let sentence = format!(
        "a run computes all features anew from the events: from definitions to an examined version it took {seconds:.1} s"
    );
    let link = format!("/v1/models/{}/runs/{}", facts.model, newest.id);
    Some(evidence(
        seconds <= LEAD_SECONDS_MAX,
        newest.started_at,
        link,
        sentence,
    ))
}

fn read_again(facts: &Facts) -> Found {
    let report = &facts.consistency;
    let at = report.compared_at.filter(|_| report.values > 0)?;
    let sentence = format!(
        "{} values of {} served answers were computed a second way from the lake: {} differ",
        report.values, report.answers, report.mismatches
    );
    let link = "/v1/features/consistency".to_owned();
    Some(evidence(report.mismatches == 0, at, link, sentence))
}

fn promises(facts: &Facts) -> Found {
    let checkup = facts.checkup.as_ref()?;
    let promises = &checkup.promises;
    if promises.len() < PROMISES_MIN {
        return None;
    }
    let kept = promises.iter().filter(|promise| promise.is_kept()).count();
    let sentence = format!(
        "of {} versions with enough answers {kept} were as good in life as their examination promised, within both intervals",
        promises.len()
    );
    let passed = kept as f64 >= KEPT_MIN * promises.len() as f64;
    Some(evidence(
        passed,
        checkup.at,
        of_model(facts, "staleness"),
        sentence,
    ))
}

fn tuned(facts: &Facts) -> Found {
    let detail = facts.detail()?;
    let (at, link) = of_run(facts)?;
    if facts.is_recommender {
        let sources = detail["record"].as_object()?;
        let sentence = format!(
            "sources and their weights were chosen on a held-back part ({} entries in the record)",
            sources.len()
        );
        return Some(evidence(true, at, link, sentence));
    }
    let others = detail["examination"]["baselines"].as_array()?.len();
    let chosen = if detail["refused"].is_null() {
        "the trees"
    } else {
        "regression"
    };
    let sentence = format!(
        "trees, whose number newer rows told, were tried beside {others} simpler models on rows that none was fitted on; {chosen} answer"
    );
    Some(evidence(others > 1, at, link, sentence))
}

fn aged(facts: &Facts) -> Found {
    let measured = facts.staleness.as_ref()?;
    let bands = measured
        .bands
        .iter()
        .filter(|band| band.value.is_some())
        .count();
    let compared = measured.bands.iter().any(|band| band.loss.is_some()) || facts.is_recommender;
    let passed = bands >= 2 && compared;
    let link = of_model(facts, "staleness");
    Some(evidence(
        passed,
        measured.measured_at,
        link,
        measured.sentence.clone(),
    ))
}

fn simpler(facts: &Facts) -> Found {
    let (at, link) = of_run(facts)?;
    let beaten: Vec<&Value> = named(facts.detail()?, "beats:").collect();
    let worst = beaten
        .iter()
        .find(|check| check["passed"] != true)
        .or(beaten.first())?;
    let sentence = worst["sentence"].as_str().unwrap_or_default().to_owned();
    let passed = beaten.iter().all(|check| check["passed"] == true);
    Some(evidence(passed, at, link, sentence))
}

/// The gate's checks whose names begin so, in what a run has found.
fn named<'d>(detail: &'d Value, start: &'static str) -> impl Iterator<Item = &'d Value> {
    checks_of(detail).iter().filter(move |check| {
        let name = check["name"].as_str();
        name.is_some_and(|name| name.starts_with(start))
    })
}

fn slices(facts: &Facts) -> Found {
    let worst = facts.detail()?["examination"]["worst_slices"].as_array()?;
    let (at, link) = of_run(facts)?;
    let sentence = match worst.first().and_then(|slice| slice["name"].as_str()) {
        Some(name) => format!(
            "the worst slices were searched for: {} were found, {name} first",
            worst.len()
        ),
        None => "the worst slices were searched for, and none is clearly worse".to_owned(),
    };
    Some(evidence(true, at, link, sentence))
}

fn declared_slices(facts: &Facts) -> Found {
    if facts.slices.is_empty() {
        return None;
    }
    // the first version has no champion to be compared with: its run then tells of no slice
    let compared = |run: &Run| named(&run.detail, "slice:").next().is_some();
    let run = facts.runs.iter().find(|run| compared(run))?;
    let compared: Vec<&Value> = named(&run.detail, "slice:").collect();
    let worse = compared
        .iter()
        .filter(|check| check["passed"] != true)
        .count();
    let link = format!("/v1/models/{}/runs/{}", facts.model, run.id);
    let sentence = format!(
        "{} was compared with the champion on {} declared slices of {}: {worse} were worse",
        run.version
            .map_or("a version".to_owned(), |number| format!("@{number}")),
        compared.len(),
        facts.slices.join(", ")
    );
    Some(evidence(true, run.started_at, link, sentence))
}

fn reproducible(facts: &Facts) -> Found {
    let played = facts.rehearsal.as_ref()?;
    let same = if played.is_reproducible {
        "the same bytes"
    } else {
        "different bytes"
    };
    let sentence = format!("two fits on the same {} rows made {same}", played.rows);
    Some(evidence(
        played.is_reproducible,
        played.at,
        of_model(facts, "staleness"),
        sentence,
    ))
}

fn learns(facts: &Facts) -> Found {
    let played = facts.rehearsal.as_ref()?;
    let number =
        |value: Option<f64>| value.map_or("not defined".to_owned(), |value| format!("{value:.3}"));
    let sentence = format!(
        "a small model was fitted and read back: its {} is {}, that of the plain answer {}",
        played.metric.label(),
        number(played.fitted),
        number(played.constant)
    );
    Some(evidence(
        played.learns,
        played.at,
        of_model(facts, "staleness"),
        sentence,
    ))
}

fn served(facts: &Facts) -> Found {
    let played = facts.rehearsal.as_ref()?;
    let sentence = format!(
        "from kept rows a model was fitted, packaged, read back and asked: it answered {} of {} people",
        played.answered, played.asked
    );
    Some(evidence(
        played.is_served(),
        played.at,
        of_model(facts, "staleness"),
        sentence,
    ))
}

fn examined(facts: &Facts) -> Found {
    let champion = facts.champion.as_ref()?;
    let passed = facts
        .checks()
        .iter()
        .filter(|check| check["passed"] == true)
        .count();
    let sentence = format!(
        "{passed} of {} checks passed before {}@{} answered",
        facts.checks().len(),
        facts.model,
        champion.number
    );
    let link = of_model(facts, &format!("versions/{}", champion.number));
    Some(evidence(
        champion.passed && passed > 0,
        champion.created_at,
        link,
        sentence,
    ))
}

fn explained(facts: &Facts) -> Found {
    let (at, decision, reasons) = facts.explained.as_ref()?;
    let sentence = format!(
        "the newest answer was looked into: its features, its version and {reasons} reasons or candidates"
    );
    Some(evidence(
        *reasons > 0,
        *at,
        format!("/v1/decisions/{decision}"),
        sentence,
    ))
}

fn canary(facts: &Facts) -> Found {
    let rollout = facts.rollout.as_ref()?;
    let is_of_champion = facts
        .champion
        .as_ref()
        .is_some_and(|one| one.number == rollout.version);
    let through = rollout.stage == RolloutStage::Promoted && is_of_champion;
    let passed = through || rollout.stage == RolloutStage::RolledBack;
    let sentence = format!(
        "{}@{} took over in stages and is {}: {}",
        facts.model,
        rollout.version,
        rollout.stage.as_str(),
        rollout.reason
    );
    Some(evidence(
        passed,
        rollout.since,
        of_model(facts, "rollout"),
        sentence,
    ))
}

fn drilled(facts: &Facts) -> Found {
    let drill = facts.drill.as_ref()?;
    Some(evidence(
        drill.passed,
        drill.at,
        of_model(facts, "rollout"),
        drill.sentence(),
    ))
}

fn told(facts: &Facts) -> Found {
    let at = facts.examined_until?;
    let sentence = format!(
        "kinds of events, properties, types and values that change open an alert; {} are open",
        facts.data_alerts
    );
    Some(evidence(
        true,
        at,
        "/v1/alerts?resolved=true".to_owned(),
        sentence,
    ))
}

fn declared_data(facts: &Facts) -> Found {
    let (last, stored, quarantined) = facts.arrived;
    let at = last.filter(|_| facts.declared > 0)?;
    let sentence = format!(
        "{} kinds of events are declared and checked as they arrive: {stored} were stored, {quarantined} quarantined with their reason",
        facts.declared
    );
    Some(evidence(true, at, "/v1/events/counts".to_owned(), sentence))
}

fn young(facts: &Facts) -> Found {
    let champion = facts.champion.as_ref()?;
    let newest = facts.runs.first()?;
    let every = facts.every.unwrap_or(EVERY_DEFAULT);
    let looked_after = facts.now.since(newest.started_at);
    let passed = looked_after.micros() <= every.micros().saturating_mul(SCHEDULES_MAX);
    let age = facts.now.since(champion.created_at).days();
    let sentence = format!(
        "{}@{} is {age:.0} days old; {:.0} days ago the newest version was made and examined beside it",
        facts.model,
        champion.number,
        looked_after.days()
    );
    let link = format!("/v1/models/{}/runs/{}", facts.model, newest.id);
    Some(evidence(passed, newest.started_at, link, sentence))
}

fn sound(facts: &Facts) -> Found {
    let answers: Vec<_> = facts
        .decisions
        .iter()
        .filter(|one| one.version.is_some())
        .collect();
    let newest = answers.first().filter(|_| answers.len() >= ANSWERS_MIN)?;
    let failed = |one: &&tidemill_core::Decision| one.fallback == Some(Fallback::VersionFailed);
    let failed = facts.decisions.iter().filter(failed).count();
    let unsound = answers
        .iter()
        .filter(|one| !one.answer.score.is_finite())
        .count();
    let sentence = format!(
        "of the newest {} answers {unsound} are no finite numbers, and {failed} times the version failed",
        answers.len()
    );
    Some(evidence(
        failed + unsound == 0,
        newest.moment,
        "/v1/decisions".to_owned(),
        sentence,
    ))
}

fn fast(facts: &Facts) -> Found {
    let took: Vec<f64> = facts
        .runs
        .iter()
        .filter_map(|run| seconds(&run.detail))
        .collect();
    let (newest, before) = took.split_first()?;
    if before.len() < RUNS_MIN {
        return None;
    }
    let mut before = before.to_vec();
    before.sort_by(f64::total_cmp);
    let middle = before[before.len() / 2];
    let mut latencies: Vec<u64> = facts.decisions.iter().map(|one| one.latency_us).collect();
    latencies.sort_unstable();
    let p99 = latencies.get(latencies.len().saturating_sub(1) * 99 / 100);
    let sentence = format!(
        "the newest run took {newest:.1} s, those before {middle:.1} s; 99 of 100 answers take at most {} µs",
        p99.map_or("?".to_owned(), u64::to_string)
    );
    let passed = *newest <= (middle * SLOWER_MAX).max(SECONDS_MIN);
    let at = facts.runs.first()?.started_at;
    Some(evidence(passed, at, of_model(facts, "runs"), sentence))
}

fn quality(facts: &Facts) -> Found {
    let status = &facts.status;
    let found = status.against_promise()?;
    let AgainstPromise {
        promised,
        live,
        answers,
        until,
        ..
    } = found;
    if answers < ANSWERS_MIN {
        return None;
    }
    let sentence = format!(
        "over the newest {answers} answers with known outcomes {} is between {:.3} and {:.3}; promised were {:.3} to {:.3}",
        status.metric, live.0, live.1, promised.0, promised.1
    );
    // what is known up to now is as new as it can be: the horizon had to pass
    let at = (until + facts.within).min(facts.now);
    let link = format!("/v1/models/{}", facts.model);
    Some(evidence(!found.fell(), at, link, sentence))
}
