//! What a model has earned: the people who get its answers beside those of its permanent holdout, month by month, in money.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::decision::Fallback;
use tidemill_core::event::PersonKey;
use tidemill_core::{ModelName, Span, Timestamp};
use tidemill_evaluate::experiment::{Arm, SampleRatio, Sequence, compare};
use tidemill_features::dataset::AmountLog;

use crate::project_loop::{CycleError, ProjectLoop};

/// How far back it is looked for what people brought before.
const BEFORE: Span = Span::from_days(90);

/// What a model has earned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueReport {
    /// The model.
    pub model: ModelName,
    /// In what amounts are.
    pub currency: Option<String>,
    /// The share of the people who never get its answers.
    pub holdout: f64,
    /// How long after the first answer of a month what people bring counts.
    pub within: Span,
    /// The months whose horizons have passed, the newest first.
    pub months: Vec<ValueMonth>,
    /// The newest month in a sentence.
    pub sentence: String,
}

/// One month.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ValueMonth {
    /// `2026-10`.
    pub month: String,
    /// People whom a version answered about.
    pub with: u64,
    /// People of the holdout.
    pub without: u64,
    /// What one with brought on average.
    pub mean_with: f64,
    /// What one without brought on average.
    pub mean_without: f64,
    /// The difference that the model makes for one person, after what they brought before has been taken out.
    pub difference: Option<f64>,
    /// An interval of it that holds however often one looks (95 %).
    pub interval: Option<(f64, f64)>,
    /// The difference for all who were with: what the model earned in this month.
    pub value: Option<f64>,
    /// Its interval.
    pub value_interval: Option<(f64, f64)>,
    /// What the holdout cost: the difference for all who were without.
    pub cost: Option<f64>,
    /// By which share knowing what people brought before has made the variance smaller.
    pub variance_reduction: Option<f64>,
    /// How likely the sizes of the two are by chance; below 0.001 nothing is said.
    pub sample_ratio: f64,
    /// Why nothing is said, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub withheld: Option<String>,
}

/// The first answers of a month, by person.
type Exposed = HashMap<String, (Timestamp, bool)>;

impl ProjectLoop {
    /// What a model has earned.
    ///
    /// # Errors
    /// When there is no such model, it has no holdout, the project does not say what counts as money, or a store fails.
    pub async fn value_report(
        self: &Arc<Self>,
        model: &ModelName,
    ) -> Result<ValueReport, CycleError> {
        let (holdout, within) = match self.registry.recommender(model) {
            Some(slot) => (slot.model.holdout, slot.model.within),
            None => {
                let model = &self.slot(model)?.model;
                (model.holdout, model.target.within())
            }
        };
        if holdout == 0.0 {
            return Err(CycleError::NotAllowed(format!(
                "{model} has no holdout to compare with: say holdout = 0.05 in [models.{model}]"
            )));
        }
        let Some((event, amount)) = self.project.value.clone() else {
            return Err(CycleError::NotAllowed(
                "the project file does not say what counts as money: value = \"EVENT.properties.NAME\" in [project]"
                    .to_owned(),
            ));
        };
        let months = self.exposed(model)?;
        self.land(true).await?;
        let name = &self.project.name;
        let snapshot = self.stores.lake.events_snapshot(name).await?;
        let table = self.stores.lake.event_table(name, snapshot).await?;
        let months = tokio::task::spawn_blocking(move || {
            let mut log = AmountLog::read(&*table, &event, &amount)?;
            let told = months.into_iter().rev();
            let told =
                told.map(|(month, exposed)| measured(month, &exposed, &mut log, holdout, within));
            Ok::<Vec<ValueMonth>, CycleError>(told.collect())
        })
        .await
        .map_err(|_| CycleError::Ended("reading what people brought"))??;
        let currency = self.project.currency.clone();
        let sentence = sentence(model, currency.as_deref(), months.first());
        Ok(ValueReport {
            model: model.clone(),
            currency,
            holdout,
            within,
            months,
            sentence,
        })
    }

    /// Who was answered about first in each month, and whether a version did.
    fn exposed(&self, model: &ModelName) -> Result<BTreeMap<String, Exposed>, CycleError> {
        let mut months: BTreeMap<String, Exposed> = BTreeMap::new();
        self.joiner.visit(model, Timestamp::EPOCH, |outcome| {
            let is_with = match (outcome.version, outcome.fallback) {
                (Some(_), _) => true,
                (None, Some(Fallback::Holdout)) => false,
                _ => return ControlFlow::Continue(()),
            };
            let month = outcome.moment.to_string().chars().take(7).collect();
            let exposed = months.entry(month).or_default();
            exposed
                .entry(outcome.entity)
                .or_insert((outcome.moment, is_with));
            ControlFlow::Continue(())
        })?;
        Ok(months)
    }
}

fn measured(
    month: String,
    exposed: &Exposed,
    log: &mut AmountLog,
    holdout: f64,
    within: Span,
) -> ValueMonth {
    let (mut without, mut with) = (Arm::default(), Arm::default());
    // in one order, so that sums are the same to the last bit
    let mut people: Vec<(&String, &(Timestamp, bool))> = exposed.iter().collect();
    people.sort();
    for (person, (moment, is_with)) in people {
        let Some(person) = PersonKey::written(person) else {
            continue;
        };
        let brought = log.sum(&person, *moment, within);
        let before = log.sum(&person, *moment - BEFORE, BEFORE);
        let arm = if *is_with { &mut with } else { &mut without };
        arm.add(brought, before);
    }
    let mut ratio = SampleRatio::new(&[holdout, 1.0 - holdout]);
    ratio.add(0, without.people);
    ratio.add(1, with.people);
    let compared = compare(&without, &with, &Sequence::default());
    let withheld = if ratio.is_broken() {
        Some(format!(
            "{} people without and {} with are not the {:.1} % that were meant: something decides who is counted, so nothing can be said",
            without.people,
            with.people,
            holdout * 100.0
        ))
    } else if compared.interval.is_none() {
        Some("there are too few people to say anything yet".to_owned())
    } else {
        None
    };
    let said = withheld.is_none();
    let of_all = |people: u64| move |one: f64| one * people as f64;
    let scaled = |(low, high): (f64, f64)| (low * with.people as f64, high * with.people as f64);
    let mean = |arm: &Arm| if arm.people > 0 { arm.mean() } else { 0.0 };
    ValueMonth {
        month,
        with: with.people,
        without: without.people,
        mean_with: mean(&with),
        mean_without: mean(&without),
        difference: said.then_some(compared.difference),
        interval: compared.interval.filter(|_| said),
        value: said.then_some(compared.difference).map(of_all(with.people)),
        value_interval: compared.interval.filter(|_| said).map(scaled),
        cost: said
            .then_some(compared.difference)
            .map(of_all(without.people)),
        variance_reduction: said.then_some(compared.variance_reduction),
        sample_ratio: ratio.p_value(),
        withheld,
    }
}

/// A month as a manager can repeat it.
fn sentence(model: &ModelName, currency: Option<&str>, newest: Option<&ValueMonth>) -> String {
    let Some(newest) = newest else {
        return format!("nothing can be said of {model} yet: no month's horizon has passed");
    };
    let money = |amount: f64| {
        format!("{amount:.0} {}", currency.unwrap_or(""))
            .trim_end()
            .to_owned()
    };
    let month = &newest.month;
    match (newest.value, newest.value_interval, newest.cost) {
        (Some(value), Some((low, high)), Some(cost)) => {
            let between = format!("between {} and {}", money(low), money(high));
            if low > 0.0 {
                format!(
                    "in {month} {model} earned {} more than without it ({between}); the {} people without it cost {}",
                    money(value),
                    newest.without,
                    money(cost)
                )
            } else if high < 0.0 {
                format!(
                    "in {month} {model} lost {} ({between}): it should not answer",
                    money(-value)
                )
            } else {
                format!("in {month} what {model} earned cannot be told from chance: {between}")
            }
        }
        _ => format!(
            "nothing can be said of {month}: {}",
            newest.withheld.as_deref().unwrap_or("there is too little")
        ),
    }
}
