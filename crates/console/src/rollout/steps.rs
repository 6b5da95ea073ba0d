//! The stages of a rollout as a row of steps.

use tidemill_core::Timestamp;
use tidemill_core::notation::thousands;
use tidemill_core::project::RolloutRules;
use tidemill_cycle::rollout::StageNumbers;
use tidemill_store::catalog::{Rollout, RolloutStage};

use super::{Passed, stage_name};
use crate::chart;
use crate::html::{Html, html};
use crate::parts::{lasting, text, time};

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It is over, and the version kept to its guardrails.
    Done,
    /// It goes on.
    Now,
    /// It is still to come.
    ToCome,
    /// The version was sent back here.
    SentBack,
}

impl Place {
    /// Its class, its sign, and its word.
    fn shown(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Done => ("done", "✓", "done"),
            Self::Now => ("now", "▶", "goes on"),
            Self::ToCome => ("ahead", "○", "to come"),
            Self::SentBack => ("sent", "▲", "sent back"),
        }
    }
}

/// One step of the picture.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Step {
    name: String,
    place: Place,
    /// When, for how long, how far: lines below its name.
    lines: Vec<Html>,
}

impl Step {
    fn ahead(stage: RolloutStage, share: f64) -> Self {
        Self {
            name: stage_name(stage, share),
            place: Place::ToCome,
            lines: Vec::new(),
        }
    }
}

/// The steps before any version.
pub(super) fn ahead(rules: Option<&RolloutRules>) -> Vec<Step> {
    let mut steps = vec![Step::ahead(RolloutStage::Shadow, 0.0)];
    add_ahead(&mut steps, rules, 0.0);
    if let Some(rules) = rules {
        let canaries = rules.canary.iter().map(|_| rules.step);
        let spans = [rules.shadow].into_iter().chain(canaries);
        for (step, span) in steps.iter_mut().zip(spans) {
            let answers = thousands(rules.min_answers);
            step.lines.push(text(format!(
                "at least {} and {answers} answers",
                lasting(span)
            )));
        }
    }
    steps
}

fn add_ahead(steps: &mut Vec<Step>, rules: Option<&RolloutRules>, share: f64) {
    let shares = rules.iter().flat_map(|rules| &rules.canary);
    let larger = shares.filter(|one| **one > share);
    steps.extend(larger.map(|share| Step::ahead(RolloutStage::Canary, *share)));
    steps.push(Step::ahead(RolloutStage::Promoted, 1.0));
}

/// The steps of a rollout: what it has been through, where it is, and what is to come.
pub(super) fn of(
    rollout: &Rollout,
    passed: &[Passed],
    rules: Option<&RolloutRules>,
    found: Option<&StageNumbers>,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps: Vec<Step> = passed.iter().map(over).collect();
    match rollout.stage {
        RolloutStage::Shadow | RolloutStage::Canary => {
            let mut lines = vec![html!("since {}", time(rollout.since))];
            if let Some(rules) = rules {
                lines.push(progress(rollout, rules, found, now));
            }
            steps.push(Step {
                name: stage_name(rollout.stage, rollout.share),
                place: Place::Now,
                lines,
            });
            add_ahead(&mut steps, rules, rollout.share);
        }
        RolloutStage::Promoted => steps.push(Step {
            name: stage_name(rollout.stage, 1.0),
            place: Place::Done,
            lines: vec![html!("since {}", time(rollout.since))],
        }),
        RolloutStage::RolledBack => {
            match steps.last_mut() {
                Some(last) => last.place = Place::SentBack,
                // it could not even begin
                None => steps.push(Step {
                    name: stage_name(RolloutStage::Shadow, 0.0),
                    place: Place::SentBack,
                    lines: vec![time(rollout.since)],
                }),
            }
            let stayed = match rollout.champion {
                Some(number) => format!("{}@{number} stays", rollout.model),
                None => "the fallback stays".to_owned(),
            };
            steps.push(Step {
                name: stayed,
                place: Place::Done,
                lines: vec![html!("since {}", time(rollout.since))],
            });
        }
    }
    steps
}

fn over(passed: &Passed) -> Step {
    let numbers = &passed.numbers;
    let lasted = lasting(passed.until.since(passed.since));
    let (answers, failed) = (numbers.challenger.answers, numbers.challenger.failed());
    Step {
        name: stage_name(passed.stage, passed.share),
        place: Place::Done,
        lines: vec![
            html!("until {}", time(passed.until)),
            text(format!(
                "{lasted}, {} answers, {} failed",
                thousands(answers),
                thousands(failed)
            )),
        ],
    }
}

/// How far a stage is, beside what it needs.
fn progress(
    rollout: &Rollout,
    rules: &RolloutRules,
    found: Option<&StageNumbers>,
    now: Timestamp,
) -> Html {
    let is_shadow = rollout.stage == RolloutStage::Shadow;
    let lasts = if is_shadow { rules.shadow } else { rules.step };
    let passed = now.since(rollout.since);
    let time = gauge(
        "time",
        format!("{} of {}", lasting(passed.min(lasts)), lasting(lasts)),
        passed.seconds() / lasts.seconds().max(1e-6),
    );
    let wanted = rules.min_answers;
    let count = |name: &str, answers: u64| {
        gauge(
            name,
            format!("{} of {}", thousands(answers), thousands(wanted)),
            answers as f64 / wanted.max(1) as f64,
        )
    };
    let answers = found.map(|found| {
        let compared = if is_shadow {
            found.pairs
        } else {
            found.challenger.answers
        };
        count("answers", compared)
    });
    // where everybody gets its answers there is nobody to compare with
    let control = found.filter(|_| !is_shadow && rollout.share < 1.0);
    let control = control.map(|found| count("control", found.control.answers));
    html!("{}{}{}", time, answers, control)
}

fn gauge(name: &str, value: String, share: f64) -> Html {
    html!(
        "<span class=\"gauge\"><span>{}</span><span>{}</span>{}</span>",
        name,
        value,
        chart::meter(share.min(1.0))
    )
}

/// The row of steps.
pub(super) fn picture(name: &str, steps: &[Step]) -> Html {
    let shown = steps.iter().map(|step| {
        let (class, sign, word) = step.place.shown();
        let current = match step.place {
            Place::Now => html!(" aria-current=\"step\""),
            _ => Html::default(),
        };
        let lines = step
            .lines
            .iter()
            .map(|line| html!("<span class=\"quiet\">{}</span>", line));
        html!(
            "<li class=\"{class}\"{current}><span class=\"word\"><span aria-hidden=\"true\">{sign}</span> {word}</span><strong>{name}</strong>{lines}</li>",
            class = class,
            current = current,
            sign = sign,
            word = word,
            name = step.name,
            lines = lines.collect::<Html>(),
        )
    });
    html!(
        "<ol class=\"steps\" aria-label=\"{}\">{}</ol>",
        name,
        shown.collect::<Html>()
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tidemill_core::Span;

    use super::*;

    fn rollout(stage: RolloutStage, share: f64) -> Rollout {
        Rollout {
            project: "shop".parse().unwrap(),
            model: "will_return".parse().unwrap(),
            position: 1,
            version: 4,
            champion: Some(3),
            stage,
            share,
            started_at: Timestamp::EPOCH,
            since: Timestamp::EPOCH,
            actor: "system".to_owned(),
            reason: "it passed".to_owned(),
            detail: json!({}),
        }
    }

    fn been(stage: RolloutStage, share: f64) -> Passed {
        Passed {
            stage,
            share,
            since: Timestamp::EPOCH,
            until: Timestamp::EPOCH + Span::from_seconds(3_600),
            numbers: StageNumbers {
                challenger: Default::default(),
                control: Default::default(),
                pairs: 0,
                dropped: 0,
                agreement: None,
                lists: None,
            },
        }
    }

    fn check(rollout: &Rollout, passed: &[Passed], expected: &[(&str, Place)]) {
        let rules = RolloutRules {
            canary: vec![0.1, 0.5],
            ..RolloutRules::default()
        };
        let steps = of(rollout, passed, Some(&rules), None, Timestamp::EPOCH);
        let found: Vec<(&str, Place)> = steps
            .iter()
            .map(|step| (step.name.as_str(), step.place))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_over_comes_before_what_goes_on_and_what_is_to_come() {
        let shadow = been(RolloutStage::Shadow, 0.0);
        check(
            &rollout(RolloutStage::Shadow, 0.0),
            &[],
            &[
                ("Shadow", Place::Now),
                ("Canary 10 %", Place::ToCome),
                ("Canary 50 %", Place::ToCome),
                ("Champion", Place::ToCome),
            ],
        );
        check(
            &rollout(RolloutStage::Canary, 0.1),
            std::slice::from_ref(&shadow),
            &[
                ("Shadow", Place::Done),
                ("Canary 10 %", Place::Now),
                ("Canary 50 %", Place::ToCome),
                ("Champion", Place::ToCome),
            ],
        );
        // a person was faster than the stages
        check(
            &rollout(RolloutStage::Promoted, 1.0),
            &[shadow],
            &[("Shadow", Place::Done), ("Champion", Place::Done)],
        );
    }

    #[test]
    fn it_is_seen_where_a_version_was_sent_back() {
        let back = rollout(RolloutStage::RolledBack, 0.0);
        let passed = [
            been(RolloutStage::Shadow, 0.0),
            been(RolloutStage::Canary, 0.1),
        ];
        check(
            &back,
            &passed,
            &[
                ("Shadow", Place::Done),
                ("Canary 10 %", Place::SentBack),
                ("will_return@3 stays", Place::Done),
            ],
        );
        check(
            &back,
            &[],
            &[
                ("Shadow", Place::SentBack),
                ("will_return@3 stays", Place::Done),
            ],
        );
    }

    #[test]
    fn a_stage_says_how_far_it_is() {
        let mut numbers = been(RolloutStage::Canary, 0.1).numbers;
        numbers.challenger.answers = 57;
        numbers.control.answers = 1_200;
        let now = Timestamp::EPOCH + Span::from_seconds(1_800);
        let said = |rollout: &Rollout| {
            progress(rollout, &RolloutRules::default(), Some(&numbers), now).into_string()
        };
        let canary = said(&rollout(RolloutStage::Canary, 0.1));
        for part in ["30 min of 1 h", "57 of 100", "1,200 of 100"] {
            assert!(canary.contains(part), "{canary}");
        }
        let everybody = said(&rollout(RolloutStage::Canary, 1.0));
        assert!(!everybody.contains("control"), "{everybody}");
    }
}
