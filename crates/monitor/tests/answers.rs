//! The watch of the answers on a small product whose days are alike: what is planted is told, what is not is not.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

use std::sync::Arc;

use serde_json::{Value, json};
use tidemill_core::{Decision, DecisionId, ModelName, Span, Timestamp};
use tidemill_monitor::answers::{AnswerFinding, AnswerWatch, ReadFeatures, Reads, Watched};
use tidemill_monitor::data::{FALSE_ALARMS, Statistic};
use tidemill_store::lake::Sequenced;
use tidemill_store::memory::MemoryState;

const FEATURES: [&str; 4] = [
    "user.orders_30d",
    "user.spent_30d",
    "user.country",
    "user.seconds_since_order",
];

/// One question as it is answered, before anything is spoilt.
#[derive(Clone)]
struct Said {
    version: u32,
    score: f64,
    label: Option<&'static str>,
    features: [Value; 4],
    fallback: Option<&'static str>,
    /// The items of a list.
    items: Vec<u64>,
}

struct Product {
    watch: AnswerWatch,
    watched: Watched,
    state: Arc<MemoryState>,
    models: Vec<ModelName>,
    sequence: u64,
    seed: u64,
}

impl Product {
    fn new(models: &[&str], seed: u64) -> Self {
        let state = Arc::new(MemoryState::default());
        Self {
            watch: AnswerWatch::open("app".parse().unwrap(), state.clone()).unwrap(),
            state,
            watched: Watched::Predictions,
            models: models.iter().map(|name| name.parse().unwrap()).collect(),
            sequence: 0,
            seed,
        }
    }

    /// The same with models that recommend.
    fn of_lists(models: &[&str], seed: u64) -> Self {
        Self {
            watched: Watched::Lists,
            ..Self::new(models, seed)
        }
    }

    /// Items of a list: some of them are shown much more often than others.
    fn items(&mut self) -> Vec<u64> {
        let mut items = Vec::new();
        while items.len() < 10 {
            let item = (self.random().powi(2) * 90.0) as u64;
            if !items.contains(&item) {
                items.push(item);
            }
        }
        items
    }

    /// A number that looks random, from 0 to 1.
    fn random(&mut self) -> f64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.seed >> 11) as f64 / 2f64.powi(53)
    }

    /// Something like a normal number.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.random()).sum::<f64>() - 6.0
    }

    fn reads(&self) -> Reads {
        let of = |version: u32| ReadFeatures {
            names: FEATURES.map(str::to_owned).to_vec(),
            definition_hash: if version < 90 { "a" } else { "b" }.to_owned(),
        };
        let versions = self.models.iter().flat_map(|model| {
            (1..100).map(move |version| ((model.clone(), version), Arc::new(of(version))))
        });
        versions.collect()
    }

    /// Answers some questions of a day by a version; each may be spoilt.
    fn answer(&mut self, day: i64, version: u32, spoil: &dyn Fn(&mut Said)) {
        // days differ a little, and so do those who ask
        let (of_day, count) = (self.normal() * 0.1, 150 + (self.random() * 60.0) as i64);
        let mut decisions = Vec::new();
        for number in 0..count {
            let taste = self.normal() + of_day;
            let country = ["uk", "uk", "uk", "fr", "de"][(self.random() * 5.0) as usize];
            let said = Said {
                version,
                score: 1.0 / (1.0 + (-(taste - 1.0)).exp()),
                label: None,
                features: [
                    json!(((taste + 3.0).max(0.0) * 2.0).round()),
                    json!(20.0 * (taste * 0.8).exp()),
                    if self.random() < 0.1 {
                        Value::Null
                    } else {
                        json!(country)
                    },
                    json!((self.random() * 4e6).round()),
                ],
                fallback: (self.random() < 0.05).then_some("unknown_entity"),
                items: match self.watched {
                    Watched::Predictions => Vec::new(),
                    Watched::Lists => self.items(),
                },
            };
            for model in self.models.clone() {
                let mut said = said.clone();
                spoil(&mut said);
                decisions.push(self.decision(&model, day, number, &said));
            }
        }
        let reads = self.reads();
        self.watch
            .apply(&decisions, &|_| Some(self.watched), &reads)
            .unwrap();
    }

    fn decision(
        &mut self,
        model: &ModelName,
        day: i64,
        number: i64,
        said: &Said,
    ) -> Sequenced<Decision> {
        self.sequence += 1;
        let moment = Timestamp::EPOCH
            + Span::from_micros(Span::from_days(1).micros() * day)
            + Span::from_seconds(number * 60);
        let mut random = [0; 10];
        random[2..].copy_from_slice(&self.sequence.to_be_bytes());
        let is_answer = said.fallback.is_none();
        let label = said.label.map(|label| json!(label));
        let mut answer = json!({ "score": said.score });
        if let Some(label) = label {
            answer["probabilities"] = json!([{ "class": label, "probability": said.score }]);
            answer["label"] = label;
        } else if self.watched == Watched::Predictions {
            answer["label"] = json!(if said.score >= 0.5 { "yes" } else { "no" });
        }
        let log_odds = (said.score / (1.0 - said.score)).ln();
        let items = said.items.iter().map(
            |item| json!({ "item": format!("i{item}"), "score": log_odds, "propensity": 1.0 }),
        );
        let items: Vec<Value> = items.collect();
        let candidates: Vec<Value> = items
            .iter()
            .take(1)
            .map(|item| json!({ "item": item["item"], "score": log_odds }))
            .collect();
        let decision = json!({
            "items": items, "candidates": candidates,
            "id": DecisionId::new(moment, random), "model": model, "version": is_answer.then_some(said.version), "fallback": said.fallback,
            "entity": format!("user:u{number}"), "moment": moment, "offset": 1,
            "features": if is_answer { json!(said.features) } else { json!([]) }, "answer": answer, "latency_us": 1,
        });
        Sequenced {
            sequence: self.sequence,
            value: serde_json::from_value(decision).unwrap(),
        }
    }

    /// Lets days pass; `version_of` says which version answers, `spoil` what becomes of answers. Returns what was told after each.
    fn pass(
        &mut self,
        days: std::ops::Range<i64>,
        version_of: &dyn Fn(i64) -> u32,
        spoil: &dyn Fn(i64, &mut Said),
    ) -> Vec<(i64, Vec<AnswerFinding>)> {
        let mut told = Vec::new();
        for day in days {
            self.answer(day, version_of(day), &|said| spoil(day, said));
            self.watch.examine(day + 1, FALSE_ALARMS).unwrap();
            told.push((day, self.watch.findings()));
        }
        told
    }
}

fn id(finding: &AnswerFinding) -> String {
    format!("{}:{}", finding.kind.as_str(), finding.subject())
}

const ALWAYS_ONE: &dyn Fn(i64) -> u32 = &|_| 1;

/// Plants a fault on a day after two months; it must be told then, first and alone.
#[track_caller]
fn check(models: &[&str], spoil: &dyn Fn(&mut Said), expected: &str, words: &str) {
    let mut product = Product::new(models, 7);
    let planted = 160;
    let told = product.pass(100..planted + 1, ALWAYS_ONE, &|day, said| {
        if day == planted {
            spoil(said);
        }
    });
    let (today, before) = told.split_last().unwrap();
    let false_alarms = before.iter().filter(|(_, findings)| !findings.is_empty());
    assert_eq!(false_alarms.count(), 0);
    let ids: Vec<String> = today.1.iter().map(id).collect();
    assert_eq!(ids, [expected], "{:#?}", today.1);
    let finding = &today.1[0];
    assert!(
        finding.noticed.contains(words) || finding.likely.contains(words),
        "{finding:#?}"
    );
    assert!(!finding.unit.is_empty());
}

#[test]
fn a_feature_that_is_null_in_serving_is_told_first() {
    check(
        &["m"],
        &|said| said.features[1] = Value::Null,
        "feature_drifted:user.spent_30d",
        "absent or null in 100.0 % of the answers",
    );
}

#[test]
fn a_changed_unit_is_told_with_what_the_model_made_of_it() {
    let mut product = Product::new(&["m"], 8);
    let told = product.pass(100..161, ALWAYS_ONE, &|day, said| {
        if day == 160 {
            said.features[1] = json!(said.features[1].as_f64().unwrap() * 100.0);
            said.score = 0.97;
        }
    });
    let findings = &told.last().unwrap().1;
    let ids: Vec<String> = findings.iter().map(id).collect();
    assert_eq!(ids, ["feature_drifted:user.spent_30d"]);
    assert!(findings[0].likely.contains("pence"), "{findings:#?}");
    let of_score = findings[0]
        .also
        .iter()
        .find(|also| also.contains("m score"));
    assert!(of_score.is_some(), "{findings:#?}");
}

#[test]
fn a_renamed_text_is_told_by_both_names() {
    check(
        &["m"],
        &|said| {
            if said.features[2] == "uk" {
                said.features[2] = json!("UK");
            }
        },
        "feature_drifted:user.country",
        "was 'uk' renamed to 'UK'?",
    );
}

#[test]
fn scores_that_shift_are_told() {
    check(
        &["m"],
        &|said| {
            let odds = said.score / (1.0 - said.score) * 8.0;
            said.score = odds / (1.0 + odds);
        },
        "predictions_drifted:m",
        "typical probability",
    );
}

#[test]
fn scores_that_are_all_the_same_are_told() {
    check(
        &["m"],
        &|said| said.score = 0.27,
        "predictions_drifted:m",
        "spread",
    );
}

#[test]
fn fallbacks_are_told_with_their_reason() {
    check(
        &["m"],
        &|said| {
            if said.features[3].as_f64().unwrap() < 2e6 {
                said.fallback = Some("version_failed");
            }
        },
        "predictions_drifted:m",
        "why the version fails",
    );
}

#[test]
fn one_feature_of_three_models_is_one_alert() {
    check(
        &["a", "b", "c"],
        &|said| said.features[0] = Value::Null,
        "feature_drifted:user.orders_30d",
        "does an event that it reads still come",
    );
}

#[test]
fn classes_that_move_are_told() {
    let mut product = Product::new(&["next"], 9);
    let class = |said: &mut Said, share_of_a: f64| {
        let place = said.features[3].as_f64().unwrap() / 4e6;
        said.label = Some(match place {
            place if place < share_of_a => "A",
            place if place < 0.8 => "B",
            _ => "none",
        });
    };
    let told = product.pass(100..161, ALWAYS_ONE, &|day, said| {
        class(said, if day == 160 { 0.7 } else { 0.4 });
    });
    for (day, findings) in &told[..60] {
        assert!(findings.is_empty(), "{day}: {findings:#?}");
    }
    let finding = &told[60].1[0];
    assert_eq!(id(finding), "predictions_drifted:next");
    assert!(finding.noticed.contains("more often 'A'"), "{finding:#?}");
}

#[test]
fn a_new_version_that_answers_otherwise_is_no_drift_and_a_shift_within_it_is() {
    let mut product = Product::new(&["m"], 10);
    // each version has a level of its own, from another one a week
    let shift = |version: u32| [0.0, 0.8, -0.6, 1.1, 0.2][version as usize % 5];
    let version_of = |day: i64| 1 + u32::try_from((day - 100) / 7).unwrap();
    let told = product.pass(100..202, &version_of, &|day, said| {
        let planted = if day == 201 { 2.2 } else { 0.0 };
        let odds = said.score / (1.0 - said.score) * f64::exp(shift(said.version) + planted);
        said.score = odds / (1.0 + odds);
    });
    let (today, before) = told.split_last().unwrap();
    for (day, findings) in before {
        assert!(findings.is_empty(), "{day}: {findings:#?}");
    }
    // four days after the fifteenth version began
    let ids: Vec<String> = today.1.iter().map(id).collect();
    assert_eq!(ids, ["predictions_drifted:m"]);
}

#[test]
fn within_a_version_that_is_four_days_old_a_shift_is_told_with_the_change_of_versions() {
    let mut product = Product::new(&["m"], 11);
    let told = product.pass(100..166, &|day| 1 + u32::from(day >= 161), &|day, said| {
        let planted = if day == 165 { 2.2 } else { 0.0 };
        let of_version = if said.version == 2 { 1.0 } else { 0.0 };
        let odds = said.score / (1.0 - said.score) * f64::exp(of_version + planted);
        said.score = odds / (1.0 + odds);
    });
    let (today, before) = told.split_last().unwrap();
    for (day, findings) in before {
        assert!(findings.is_empty(), "{day}: {findings:#?}");
    }
    assert_eq!(today.1.len(), 1, "{:#?}", today.1);
    let noticed = &today.1[0].noticed;
    assert!(
        noticed.contains("m@2 has answered since 1970-06-11, m@1 before"),
        "{noticed}"
    );
}

#[test]
fn a_restart_counts_each_answer_once() {
    let (mut whole, mut broken) = (Product::new(&["m"], 12), Product::new(&["m"], 12));
    whole.pass(100..104, ALWAYS_ONE, &|_, _| {});
    for day in 100..104 {
        let before = broken.sequence;
        broken.answer(day, 1, &|_| {});
        if day == 101 {
            broken.watch.commit().unwrap();
        } else if day == 102 {
            // what was counted since then is lost with the process, and comes again from the log
            let name = "app".parse().unwrap();
            let lost = std::mem::replace(
                &mut broken.watch,
                AnswerWatch::open(name, broken.state.clone()).unwrap(),
            );
            assert!(lost.place() > before && broken.watch.place() == before);
            let mut again = Product::new(&["m"], 12);
            again.watch = AnswerWatch::open("app".parse().unwrap(), broken.state.clone()).unwrap();
            for day in 100..103 {
                again.answer(day, 1, &|_| {});
            }
            broken.watch = again.watch;
        }
    }
    assert_eq!(broken.watch.position(), whole.watch.position());
    let model = &whole.models[0];
    for day in 100..104 {
        for version in [None, Some(1)] {
            let of = |product: &Product| product.watch.day(day, model, version).unwrap();
            assert_eq!(of(&broken), of(&whole), "{day} {version:?}");
            assert!(of(&whole).count > 0);
        }
    }
}

#[test]
fn untouched_days_are_told_as_rarely_as_was_asked_for() {
    let (mut days, mut alarms) = (0, 0);
    for seed in 0..9 {
        let mut product = match seed % 3 {
            0 | 1 => Product::new(&["a", "b"], 100 + seed),
            _ => Product::of_lists(&["for_you", "goes_with"], 100 + seed),
        };
        let mut open: Vec<String> = Vec::new();
        let version_of = |day: i64| 1 + u32::try_from((day - 100) / 30).unwrap();
        for (_, findings) in product.pass(100..300, &version_of, &|_, _| {}) {
            let now: Vec<String> = findings.iter().map(id).collect();
            days += 1;
            alarms += usize::from(now.iter().any(|id| !open.contains(id)));
            open = now;
        }
    }
    let rate = f64::from(u32::try_from(alarms).unwrap()) / f64::from(days);
    assert!(rate <= 2.0 * FALSE_ALARMS, "{alarms} of {days} days");
}

/// Lets a product live untouched until a day, and then spoilt until something is told under a name; returns on which day of the fault that
/// was, with what was told then. What chance tells of something else is counted by `untouched_days_are_told_as_rarely_as_was_asked_for`.
#[track_caller]
fn until_told(
    product: &mut Product,
    planted: i64,
    expected: &str,
    spoil: &dyn Fn(i64, &mut Said),
) -> (i64, AnswerFinding) {
    for (day, findings) in product.pass(100..planted, ALWAYS_ONE, &|_, _| {}) {
        let is_told = findings.iter().any(|finding| id(finding) == expected);
        assert!(!is_told, "{day}: {findings:#?}");
    }
    for day in planted..planted + 35 {
        let mut told = product.pass(day..day + 1, ALWAYS_ONE, spoil).remove(0).1;
        told.retain(|finding| id(finding) == expected);
        if let Some(finding) = told.pop() {
            return (day - planted, finding);
        }
    }
    panic!("nothing was told of {expected}");
}

/// Multiplies the odds of a score.
fn times_odds(said: &mut Said, factor: f64) {
    let odds = said.score / (1.0 - said.score) * factor;
    said.score = odds / (1.0 + odds);
}

#[test]
fn a_shift_of_scores_that_single_days_do_not_show_is_told_by_the_week() {
    let mut product = Product::new(&["m"], 13);
    let shifted = |_: i64, said: &mut Said| times_odds(said, 1.4);
    let (days, found) = until_told(&mut product, 210, "predictions_drifted:m", &shifted);
    assert!((3..=9).contains(&days), "on day {days}: {found:#?}");
    assert_eq!(found.statistic, Statistic::ScoreShift);
    assert_eq!(found.unit, "times the odds in the last week");
    assert!(
        found.noticed.contains("larger in the last week"),
        "{found:#?}"
    );
}

#[test]
fn scores_that_move_a_little_every_day_are_told_by_the_week() {
    let mut product = Product::new(&["m"], 14);
    let drifting =
        |day: i64, said: &mut Said| times_odds(said, f64::exp(-0.03 * (day - 209) as f64));
    let (days, found) = until_told(&mut product, 210, "predictions_drifted:m", &drifting);
    assert!(days <= 20, "on day {days}: {found:#?}");
    assert_eq!(found.statistic, Statistic::ScoreShift, "{found:#?}");
    assert!(found.now < 1.0, "{found:#?}");
}

#[test]
fn another_version_is_no_shift_of_scores() {
    let mut product = Product::new(&["m"], 15);
    let version_of = |day: i64| 1 + u32::from(day >= 210);
    let told = product.pass(100..245, &version_of, &|_, said| {
        times_odds(said, if said.version == 2 { 1.4 } else { 1.0 });
    });
    for (day, findings) in told {
        assert!(findings.is_empty(), "{day}: {findings:#?}");
    }
}

#[test]
fn a_fallback_that_had_vanished_is_told_when_it_comes_back() {
    let mut product = Product::new(&["m"], 16);
    let told = product.pass(100..186, ALWAYS_ONE, &|day, said| {
        // by a digit that says nothing of anything else
        let fails = said.features[3].as_f64().unwrap() % 10.0 < 3.0;
        if fails && !(150..185).contains(&day) {
            said.fallback = Some("version_failed");
        }
    });
    let (today, before) = told.split_last().unwrap();
    for (day, findings) in before {
        assert!(findings.is_empty(), "{day}: {findings:#?}");
    }
    let ids: Vec<String> = today.1.iter().map(id).collect();
    assert_eq!(ids, ["predictions_drifted:m"], "{:#?}", today.1);
    assert_eq!(today.1[0].property, "version_failed");
}

/// Plants a fault in the lists of a model on a day after two months.
#[track_caller]
fn check_lists(spoil: &dyn Fn(&mut Said), expected: &str, statistic: Statistic, words: &str) {
    let mut product = Product::of_lists(&["for_you"], 17);
    let (days, finding) = until_told(&mut product, 160, expected, &|_, said| spoil(said));
    assert_eq!(days, 0, "{finding:#?}");
    assert_eq!(finding.statistic, statistic, "{finding:#?}");
    let is_said = finding.noticed.contains(words) || finding.likely.contains(words);
    assert!(is_said && !finding.unit.is_empty(), "{finding:#?}");
}

#[test]
fn lists_that_are_shorter_are_told() {
    check_lists(
        &|said| said.items.truncate(7),
        "predictions_drifted:for_you",
        Statistic::ListLength,
        "7.0 items on average, where 10.0 is usual",
    );
}

#[test]
fn lists_that_show_the_same_few_items_are_told() {
    check_lists(
        &|said| said.items = (0..10).collect(),
        "predictions_drifted:for_you",
        Statistic::Concentration,
        "the ten items that it shows most are 100.0 %",
    );
}

#[test]
fn scores_of_lists_that_shift_are_told() {
    check_lists(
        &|said| times_odds(said, 8.0),
        "predictions_drifted:for_you",
        Statistic::ScoreLevel,
        "typical probability",
    );
}

#[test]
fn a_feature_that_a_ranker_is_served_as_null_is_told() {
    check_lists(
        &|said| said.features[1] = Value::Null,
        "feature_drifted:user.spent_30d",
        Statistic::Missing,
        "absent or null in 100.0 % of the answers",
    );
}

#[test]
fn lists_of_the_fallback_are_told() {
    check_lists(
        &|said| {
            if said.features[3].as_f64().unwrap() < 2e6 {
                said.fallback = Some("no_version");
            }
        },
        "predictions_drifted:for_you",
        Statistic::Fallbacks,
        "was its version withdrawn?",
    );
}
