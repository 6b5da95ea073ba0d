//! What a backtest has seen: runs, months, staleness and worth, model by model. This is the JSON of the report.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Result;
use indicatif::ProgressBar;
use serde::Serialize;
use serde_json::Value;
use tidemill_core::{ModelName, Timestamp};
use tidemill_cycle::{ProjectLoop, Staleness};
use tidemill_evaluate::metric::Direction;
use tidemill_store::catalog::{Run, RunState};

use super::worth::{Assumed, Worth};
use crate::replay::Watcher;

/// Everything that is reported.
#[derive(Debug, Serialize)]
pub struct Record {
    /// The project.
    pub project: String,
    /// The first moment at which the loop was at work.
    pub from: Timestamp,
    /// The last.
    pub until: Timestamp,
    /// Events before that, which were only history.
    pub history_events: u64,
    /// Events that were replayed day by day.
    pub events: u64,
    /// Questions that were asked.
    pub questions: u64,
    /// Questions that were too many for their day and were not asked.
    pub questions_left_out: u64,
    /// Whether a server had the original open: what had not landed then is not in here.
    pub beside_server: bool,
    /// What the figures rest on, in sentences.
    pub assumptions: Vec<String>,
    /// The same in numbers.
    pub assumed: Assumed,
    /// The currency of amounts.
    pub currency: String,
    /// The models.
    pub models: Vec<OfModel>,
    /// Values of features that were served and read again from the lake.
    pub values_compared: u64,
    /// Of these, those that differ.
    pub values_that_differ: u64,
    /// How long the replay took, in seconds of real time.
    pub seconds: f64,
}

/// What became of one model.
#[derive(Debug, Serialize)]
pub struct OfModel {
    /// Its name.
    pub model: ModelName,
    /// The question in words.
    pub question: Option<String>,
    /// The metric of months and runs.
    pub metric: String,
    /// Whether larger values are better.
    pub larger_is_better: bool,
    /// Its runs in order.
    pub runs: Vec<OfRun>,
    /// Its months, as far as all outcomes are known.
    pub months: Vec<OfMonth>,
    /// How its versions lose with age.
    pub staleness: Option<Staleness>,
    /// Why that is not known, where it is not.
    pub staleness_unknown: Option<String>,
    /// What it would have been worth.
    pub worth: Option<Worth>,
}

/// What a run came to.
#[derive(Debug, Serialize)]
pub struct OfRun {
    /// When.
    pub at: Timestamp,
    /// What set it off.
    pub trigger: String,
    /// The version that it made.
    pub version: Option<u32>,
    /// `passed`, `refused`, `skipped` or `failed`.
    pub state: RunState,
    /// In a sentence.
    pub summary: String,
    /// The metric on examined rows.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The champion's on the same rows.
    pub champion: Option<f64>,
    /// Every check that did not pass, in words.
    pub reasons: Vec<String>,
}

/// How good the answers of a month turned out.
#[derive(Debug, Serialize)]
pub struct OfMonth {
    /// `2011-10`.
    pub month: String,
    /// Answers of versions.
    pub answers: usize,
    /// Answers of the fallback.
    pub fallbacks: usize,
    /// The versions.
    pub versions: Vec<u32>,
    /// The metric.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// Simple rules on the same answers, by name.
    pub baselines: BTreeMap<String, f64>,
}

impl OfMonth {
    /// The versions as people write them.
    pub fn versions_told(&self) -> String {
        let versions: Vec<String> = self.versions.iter().map(|one| format!("@{one}")).collect();
        versions.join(" ")
    }
}

impl OfModel {
    /// How many runs ended so.
    pub fn count(&self, state: RunState) -> usize {
        self.runs.iter().filter(|run| run.state == state).count()
    }
}

/// Watches a backtest.
pub struct Recorder {
    /// The models.
    pub models: Vec<OfModel>,
    months: BTreeMap<ModelName, Timestamp>,
    bar: ProgressBar,
}

impl Recorder {
    /// A recorder of a project that begins at `from`.
    pub async fn new(
        project_loop: &Arc<ProjectLoop>,
        from: Timestamp,
        bar: ProgressBar,
    ) -> Result<Self> {
        let project = &project_loop.project;
        let mut models = Vec::new();
        for model in project.model_names() {
            let status = project_loop.model_status(model).await?;
            let metric = status.metric.parse::<tidemill_evaluate::Metric>();
            models.push(OfModel {
                model: model.clone(),
                question: status.question,
                larger_is_better: metric.map_or(true, |one| one.direction() == Direction::Higher),
                metric: status.metric,
                runs: Vec::new(),
                months: Vec::new(),
                staleness: None,
                staleness_unknown: None,
                worth: None,
            });
        }
        let begun = |one: &OfModel| (one.model.clone(), from.month_start(0));
        Ok(Self {
            months: models.iter().map(begun).collect(),
            models,
            bar,
        })
    }

    /// The months whose outcomes are all known by `now`.
    async fn look_back(&mut self, now: Timestamp, project_loop: &ProjectLoop) -> Result<()> {
        for place in 0..self.models.len() {
            let model = self.models[place].model.clone();
            let within = match project_loop.recommender(&model) {
                Ok(slot) => slot.model.within,
                Err(_) => project_loop.slot(&model)?.model.target.within(),
            };
            while let Some(month) = self.months.get(&model).copied()
                && month.month_start(1) + within <= now
            {
                let found = of_month(project_loop, &model, month).await?;
                self.models[place].months.extend(found);
                self.months.insert(model.clone(), month.month_start(1));
            }
        }
        Ok(())
    }
}

impl Watcher for Recorder {
    async fn morning(&mut self, today: Timestamp, project_loop: &Arc<ProjectLoop>) -> Result<()> {
        self.bar.set_message(today.date());
        if today.day_of_month() == 1 {
            self.look_back(today, project_loop).await?;
        }
        Ok(())
    }

    async fn trained(&mut self, _: Timestamp, runs: &[Run]) -> Result<()> {
        for run in runs {
            let mut models = self.models.iter_mut();
            if let Some(of_model) = models.find(|one| one.model == run.model) {
                of_model.runs.push(of_run(run));
            }
        }
        Ok(())
    }
}

async fn of_month(
    project_loop: &ProjectLoop,
    model: &ModelName,
    month: Timestamp,
) -> Result<Option<OfMonth>> {
    let (from, until) = (month, month.month_start(1));
    let name = month.date()[..7].to_owned();
    let found = if project_loop.is_recommender(model) {
        let lists = project_loop.list_quality(model, from, until)?;
        OfMonth {
            month: name,
            answers: lists.answers,
            fallbacks: lists.fallbacks,
            versions: lists.versions,
            value: lists.ndcg.value,
            interval: lists.ndcg.interval,
            baselines: lists
                .ndcg
                .popular
                .map(|popular| ("what everybody takes".to_owned(), popular))
                .into_iter()
                .collect(),
        }
    } else {
        let live = project_loop.live_quality(model, from, until).await?;
        let primary = live.primary().copied();
        let baselines = live.baselines.iter();
        OfMonth {
            month: name,
            answers: live.answers,
            fallbacks: live.fallbacks,
            value: primary.and_then(|primary| primary.value),
            interval: primary.and_then(|primary| primary.interval),
            baselines: baselines
                .filter_map(|one| Some((one.name.clone(), one.value?)))
                .collect(),
            versions: live.versions,
        }
    };
    Ok((found.answers + found.fallbacks > 0).then_some(found))
}

fn of_run(run: &Run) -> OfRun {
    let examination = &run.detail["examination"];
    let checks = examination["verdict"]["checks"].as_array();
    let failed = checks
        .into_iter()
        .flatten()
        .filter(|check| check["passed"] == false);
    let (value, interval) = examined(examination);
    OfRun {
        at: run.started_at,
        trigger: run.trigger.clone(),
        version: run.version,
        state: run.state,
        summary: run.summary.clone(),
        value,
        interval,
        champion: examination["champion"]["value"].as_f64(),
        reasons: failed
            .filter_map(|check| check["sentence"].as_str().map(str::to_owned))
            .collect(),
    }
}

/// The metric of an examination and its interval: of a report with many metrics, or of lists with one.
fn examined(examination: &Value) -> (Option<f64>, Option<(f64, f64)>) {
    let challenger = &examination["challenger"];
    let metrics = challenger["metrics"].as_array();
    let of_metric = metrics
        .into_iter()
        .flatten()
        .find(|value| value["metric"] == examination["metric"]);
    let found = of_metric.unwrap_or(challenger);
    let interval = &found["interval"];
    let interval = interval[0].as_f64().zip(interval[1].as_f64());
    (found["value"].as_f64(), interval)
}
