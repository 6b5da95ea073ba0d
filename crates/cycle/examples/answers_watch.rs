//! How well the watch of the answers does on the answers that a data folder has: false alarms where nothing was planted, faults that are found,
//! and what it costs.
//!
//! `cargo run --release --workspace --example answers_watch -- FOLDER PROJECT`: FOLDER is what `tidemill demo --exit --data FOLDER` left, PROJECT is
//! the name of its project, `shop`. The folder is read only, and must not be in use.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use tidemill_core::clock::Stopwatch;
use tidemill_core::{Decision, FeatureValue, ModelName, ProjectName, Timestamp};
use tidemill_monitor::answers::{AnswerFinding, AnswerWatch, ReadFeatures, Reads, Watched};
use tidemill_monitor::data::FALSE_ALARMS;
use tidemill_serve::recommend::RecommendPackage;
use tidemill_serve::{DecisionLog, Package};
use tidemill_store::fjall_store::{FjallOptions, FjallStore};
use tidemill_store::lake::Sequenced;
use tidemill_store::local::LocalArtifacts;
use tidemill_store::memory::MemoryState;
use tidemill_store::sqlite::SqliteCatalog;
use tidemill_store::{Artifacts, Catalog, DataFolder};

/// How many decisions are read at a time.
const PAGE: usize = 10_000;

/// A fault of what is served or said, of one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// A feature is missing.
    Nulls,
    /// A number is a hundred times larger.
    Unit,
    /// The odds of a probability are six times larger.
    Scores,
}

/// What was answered, day by day, with what the versions read.
struct Answers {
    days: Vec<(i64, Vec<Sequenced<Decision>>)>,
    reads: Reads,
    models: BTreeMap<ModelName, Watched>,
}

async fn answers(folder: &str, project: &str) -> Result<Answers> {
    let folder = DataFolder::open(folder)?;
    let project: ProjectName = project.parse()?;
    let fjall = FjallStore::open(&folder, &FjallOptions::default())?;
    let catalog = SqliteCatalog::open(&folder).await?;
    let artifacts = LocalArtifacts::open(&folder);
    let log = DecisionLog::open(project.clone(), Arc::new(fjall.state))?;
    let (mut days, mut after): (BTreeMap<i64, Vec<_>>, u64) = (BTreeMap::new(), 0);
    let (mut reads, mut models) = (Reads::new(), BTreeMap::new());
    loop {
        let page = log.read(after, PAGE)?;
        let Some(last) = page.last() else { break };
        after = last.sequence;
        for decision in page {
            let of = &decision.value;
            if let Some(number) = of.version
                && !reads.contains_key(&(of.model.clone(), number))
            {
                let version = catalog.version(&project, &of.model, number).await?;
                let version = version.context("a version that answered is registered")?;
                let (kind, of_version) = read_by(&artifacts.get(&version.artifact).await?)?;
                models.insert(of.model.clone(), kind);
                reads.insert((of.model.clone(), number), Arc::new(of_version));
            }
            days.entry(of.moment.day()).or_default().push(decision);
        }
    }
    ensure!(!days.is_empty(), "{project} has answered nothing there");
    Ok(Answers {
        days: days.into_iter().collect(),
        reads,
        models,
    })
}

/// What a version is asked for, and what it reads, by its package.
fn read_by(package: &[u8]) -> Result<(Watched, ReadFeatures)> {
    let (kind, columns, definition_hash) = match Package::from_bytes(package) {
        Ok(package) => (
            Watched::Predictions,
            package.columns.clone(),
            package.definition_hash,
        ),
        Err(_) => {
            let package = RecommendPackage::from_bytes(package)?;
            (
                Watched::Lists,
                package.person_features(),
                package.definition_hash,
            )
        }
    };
    let reads = ReadFeatures {
        names: columns.into_iter().map(|column| column.name).collect(),
        definition_hash,
    };
    Ok((kind, reads))
}

/// What it took.
struct Cost {
    us_an_answer: f64,
    ms_a_day: f64,
}

/// Lets the days pass, spoilt as `spoil` says; `each` sees what is found after each and says whether to go on.
fn replay(
    answers: &Answers,
    false_alarms: f64,
    spoil: &dyn Fn(i64, &mut Decision),
    each: &mut dyn FnMut(i64, &[AnswerFinding]) -> bool,
) -> Result<Cost> {
    let watch = AnswerWatch::open("shop".parse()?, Arc::new(MemoryState::default()))?;
    let (mut applying, mut examining, mut count, mut days) = (0, 0, 0, 0);
    for (day, decisions) in &answers.days {
        let mut decisions = decisions.clone();
        for decision in &mut decisions {
            spoil(*day, &mut decision.value);
        }
        let stopwatch = Stopwatch::start();
        watch.apply(
            &decisions,
            &|model| answers.models.get(model).copied(),
            &answers.reads,
        )?;
        applying += stopwatch.micros();
        let stopwatch = Stopwatch::start();
        watch.examine(day + 1, false_alarms)?;
        examining += stopwatch.micros();
        count += decisions.len();
        days += 1;
        if !each(*day, &watch.findings()) {
            break;
        }
    }
    Ok(Cost {
        us_an_answer: applying as f64 / count.max(1) as f64,
        ms_a_day: examining as f64 / f64::from(days.max(1)) / 1_000.0,
    })
}

fn date(day: i64) -> String {
    Timestamp::from_micros(day * 86_400_000_000).date()
}

fn id(finding: &AnswerFinding) -> String {
    format!("{} {}", finding.kind.as_str(), finding.subject())
}

fn untouched(answers: &Answers) -> Result<()> {
    for false_alarms in [FALSE_ALARMS, 0.05, 0.2] {
        let (mut open, mut alarms, mut days) = (Vec::new(), 0, 0);
        let cost = replay(answers, false_alarms, &|_, _| {}, &mut |day, findings| {
            days += 1;
            let new = findings.iter().filter(|found| !open.contains(&id(found)));
            let new: Vec<&AnswerFinding> = new.collect();
            alarms += usize::from(!new.is_empty());
            for finding in new {
                let (surprise, noticed) = (finding.surprise, &finding.noticed);
                let (statistic, model) = (finding.statistic, &finding.model);
                println!(
                    "   {} {model} {} {statistic:?} [{surprise:.2}] {noticed}",
                    date(day),
                    id(finding)
                );
            }
            open = findings.iter().map(id).collect();
            true
        })?;
        println!(
            "{false_alarms}: {alarms} of {days} days with a new finding ({:.4}); {:.2} us an answer, {:.2} ms a day",
            alarms as f64 / f64::from(days),
            cost.us_an_answer,
            cost.ms_a_day
        );
    }
    Ok(())
}

/// The feature that is spoilt: the first whose values are numbers other than zero in most answers of the last days.
fn spoilt_feature(answers: &Answers, model: &ModelName) -> Option<String> {
    let newest = answers.days.iter().rev().take(30);
    let newest = newest.flat_map(|(_, decisions)| decisions);
    let (mut all, mut filled) = (0u64, BTreeMap::<&str, u64>::new());
    for decision in newest
        .map(|one| &one.value)
        .filter(|one| one.model == *model)
    {
        let number = decision.version.unwrap_or_default();
        let Some(reads) = answers.reads.get(&(model.clone(), number)) else {
            continue;
        };
        all += 1;
        for (name, value) in reads.names.iter().zip(&decision.features) {
            let is_filled = value.as_number().abs() > 0.0;
            *filled.entry(name).or_default() += u64::from(is_filled);
        }
    }
    let most = filled
        .into_iter()
        .filter(|(_, count)| *count * 10 > all * 9);
    most.map(|(name, _)| name.to_owned()).next()
}

fn planted(answers: &Answers, fault: Fault) -> Result<()> {
    let (first, last) = (answers.days[0].0, answers.days[answers.days.len() - 1].0);
    let predicts = |of: &(&ModelName, &Watched)| *of.1 == Watched::Predictions;
    for (model, _) in answers.models.iter().filter(predicts) {
        let Some(feature) = spoilt_feature(answers, model) else {
            continue;
        };
        for from in (first + 120..last - 10).step_by(45) {
            let spoil = |day: i64, decision: &mut Decision| {
                if day >= from && decision.model == *model {
                    spoil(fault, &feature, &answers.reads, decision);
                }
            };
            let (mut told, mut days_after) = (None, 0);
            replay(answers, FALSE_ALARMS, &spoil, &mut |day, findings| {
                if day < from {
                    return true;
                }
                let place = findings.iter().position(|found| match fault {
                    Fault::Nulls | Fault::Unit => {
                        found.property == feature && found.models.contains(model)
                    }
                    Fault::Scores => found.is_of_answers() && found.model == *model,
                });
                told =
                    place.map(|place| (days_after, place, findings.len(), findings[place].clone()));
                days_after += 1;
                told.is_none() && days_after < 10
            })?;
            match told {
                Some((after, place, of, finding)) => println!(
                    "{fault:?} {model} {feature} from {}: after {after} days of answers, place {} of {of} [{:.1}]: {}; {}",
                    date(from),
                    place + 1,
                    finding.surprise,
                    finding.noticed,
                    finding.likely
                ),
                None => println!("{fault:?} {model} {feature} from {}: NOT FOUND", date(from)),
            }
        }
    }
    Ok(())
}

fn spoil(fault: Fault, feature: &str, reads: &Reads, decision: &mut Decision) {
    let Some(number) = decision.version else {
        return;
    };
    if fault == Fault::Scores {
        let score = decision.answer.score;
        decision.answer.score = match decision.answer.label {
            Some(_) => 6.0 * score / (1.0 + 5.0 * score),
            None => score * 2.0,
        };
        return;
    }
    let reads = reads.get(&(decision.model.clone(), number));
    let place = reads.and_then(|reads| reads.names.iter().position(|name| name == feature));
    let value = place.and_then(|place| decision.features.get_mut(place));
    if let Some(value) = value {
        *value = match fault {
            Fault::Nulls => FeatureValue::Missing,
            _ => FeatureValue::number(value.as_number() * 100.0),
        };
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: answers_watch FOLDER PROJECT";
    let (folder, project) = (
        arguments.next().context(usage)?,
        arguments.next().context(usage)?,
    );
    let answers = answers(&folder, &project).await?;
    let count: usize = answers.days.iter().map(|(_, day)| day.len()).sum();
    println!(
        "{count} answers of {} models by {} versions on {} days",
        answers.models.len(),
        answers.reads.len(),
        answers.days.len()
    );
    untouched(&answers)?;
    for fault in [Fault::Nulls, Fault::Unit, Fault::Scores] {
        planted(&answers, fault)?;
    }
    Ok(())
}
