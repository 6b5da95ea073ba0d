//! What was taken beside what was taken before: whether it may be learnt from.

use std::sync::Arc;

use tidemill_core::Timestamp;
use tidemill_core::feature::{ColumnValues, FeatureColumn, FeatureTable, FeatureType, Unit};
use tidemill_core::project::RecommendModel;
use tidemill_evaluate::Check;
use tidemill_evaluate::gate::NewDataset;
use tidemill_features::dataset::InteractionLog;
use tidemill_learn::recommend::Record;
use tidemill_store::catalog::{Run, RunState};

use super::RecommendDetail;
use crate::accepted::unless_trusted;
use crate::project_loop::{CycleError, ProjectLoop};

/// How many earlier runs say how much is taken.
const RUNS_MAX: u32 = 40;
/// The share of events that say not who or not what may grow by so much without a word …
const INCOMPLETE_EFFECT_MIN: f64 = 0.05;
/// … and is told from this many standard errors on: by chance in one of 1,000 runs.
const INCOMPLETE_ERRORS: f64 = 3.1;

/// The version that answers.
#[derive(Debug, Clone)]
struct Accepted {
    called: String,
    /// When it was made.
    at: Timestamp,
    /// How much had been taken by then, and how many events were incomplete.
    taken: u64,
    incomplete: u64,
}

/// What earlier runs of a model that recommends found.
#[derive(Debug, Clone, Default)]
pub(super) struct TakenBefore {
    accepted: Option<Accepted>,
    /// How much was taken by the time of each, the oldest first.
    taken: Vec<u64>,
    /// What the newest of them chose, and by which definition, if what came of it passed.
    chosen: Option<(String, Record)>,
}

impl TakenBefore {
    /// What was chosen the last time, if the model was defined like that and what came of it passed.
    pub(super) fn choice(&self, definition: &str) -> Option<&Record> {
        let chosen = self.chosen.as_ref();
        let (_, record) = chosen.filter(|(asked, _)| asked == definition)?;
        Some(record)
    }
}

impl ProjectLoop {
    /// What the runs before one found.
    pub(super) async fn taken_before(&self, run: &Run) -> Result<TakenBefore, CycleError> {
        let model = &run.model;
        let catalog = &self.stores.catalog;
        let mut before = TakenBefore::default();
        if let Some(champion) = self.recommender(model)?.champion() {
            let version = self.version(model, champion.number).await?;
            let detail: Option<RecommendDetail> = serde_json::from_value(version.detail).ok();
            before.accepted = detail.map(|detail| Accepted {
                called: format!("{model}@{}", champion.number),
                at: version.created_at,
                taken: detail.signals as u64,
                incomplete: detail.incomplete,
            });
        }
        let runs = catalog.runs(&self.project.name, Some(model), Some(run.id), RUNS_MAX);
        let ended = runs.await?.into_iter().rev();
        for run in ended.filter(|run| run.state != RunState::Running) {
            let detail: Option<RecommendDetail> = serde_json::from_value(run.detail).ok();
            let taken = detail.as_ref().map_or(0, |detail| detail.signals as u64);
            before.taken.extend((taken > 0).then_some(taken));
            let passed = detail.filter(|_| run.state == RunState::Passed);
            before.chosen = passed.and_then(|detail| Some((detail.definition, detail.record?)));
        }
        Ok(before)
    }
}

/// Judges how much was taken, how lately, how fast, and by which signals.
pub(super) fn judge(
    model: &RecommendModel,
    log: &InteractionLog,
    before: &TakenBefore,
    now: Timestamp,
) -> Vec<Check> {
    let names: Vec<Arc<str>> = model
        .signals
        .keys()
        .map(|event| Arc::from(event.as_str()))
        .collect();
    let signals = log.taken.iter();
    let signals = signals.map(|taken| names.get(taken.signal as usize).cloned());
    let column = FeatureColumn {
        name: "signal".to_owned(),
        feature_type: FeatureType::Category,
        label: "signal".to_owned(),
        unit: Unit::Plain,
    };
    let table = FeatureTable::from_columns(
        vec![column],
        vec![ColumnValues::Category(signals.collect())],
    );
    let moments: Vec<i64> = log
        .taken
        .iter()
        .map(|taken| taken.timestamp.micros())
        .collect();
    let accepted = before.accepted.as_ref();
    let new = NewDataset {
        features: &table,
        moments_us: &moments,
        newest_us: now.micros(),
        accepted_until_us: accepted.map(|accepted| accepted.at.micros()),
        earlier_rows: &before.taken,
        trusted: &model.gate.trusted,
    };
    let (mut checks, _) = new.judge();
    // there is one column, and of it only the shares of the signals can change
    checks.retain(|check| {
        !matches!(
            check.name.as_str(),
            "data:nulls" | "data:ranges" | "data:constant"
        )
    });
    let now = (log.taken.len() as u64, log.incomplete);
    checks.extend(before.accepted.as_ref().map(|one| one.incomplete(now)));
    unless_trusted(checks, &model.gate)
}

impl Accepted {
    /// Events since it was made that say not who, or not what, beside those before; `now` is how much was taken and how many events
    /// were incomplete in all.
    fn incomplete(&self, now: (u64, u64)) -> Check {
        let then = (self.taken, self.incomplete);
        let new = (now.0.saturating_sub(then.0), now.1.saturating_sub(then.1));
        let all = |(taken, lacking): (u64, u64)| (taken + lacking).max(1) as f64;
        let share = |of: (u64, u64)| of.1 as f64 / all(of);
        let (was, is, pooled) = (share(then), share(new), share(now));
        let error = (pooled * (1.0 - pooled) * (1.0 / all(then) + 1.0 / all(new))).sqrt();
        // of few events one more is no sign
        let chance = INCOMPLETE_ERRORS * error + 1.0 / all(new);
        let threshold = was + INCOMPLETE_EFFECT_MIN.max(chance);
        let sentence = format!(
            "{:.1} % of the events since {} say not who or not what, {:.1} % before; up to {:.1} % pass",
            is * 100.0,
            self.called,
            was * 100.0,
            threshold * 100.0
        );
        Check::at_most("data:incomplete", is, threshold, sentence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_that_lost_their_item_are_told() {
        let accepted = Accepted {
            called: "for_you@3".to_owned(),
            at: Timestamp::EPOCH,
            taken: 9_900,
            incomplete: 100,
        };
        // one in a hundred, as before; and a few more of few events, as chance has it
        assert!(accepted.incomplete((10_890, 110)).passed);
        assert!(accepted.incomplete((9_918, 102)).passed);
        let lost = accepted.incomplete((10_700, 300));
        assert!(!lost.passed, "{lost:?}");
        assert!(
            lost.sentence
                .starts_with("20.0 % of the events since for_you@3"),
            "{lost:?}"
        );
    }
}
