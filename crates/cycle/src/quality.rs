//! How a model does in life, next to what its examination promised.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::decision::Answer;
use tidemill_core::sync::Mutex;
use tidemill_core::{Decision, ModelName, Span, Timestamp};
use tidemill_evaluate::Bootstrap;
use tidemill_evaluate::metric::Direction;
use tidemill_evaluate::report::MetricValue;
use tidemill_learn::calibration::{self, Calibrator};
use tidemill_learn::{Scores, Task};
use tidemill_monitor::list_quality::{ListQuality, list_quality};
use tidemill_monitor::quality::{
    EXPECTED_ROWS_MAX, EstimatedQuality, LiveQuality, LiveRows, Period, expected, live_quality,
};
use tidemill_serve::Package;
use tidemill_serve::recommend::RecommendSlot;
use tidemill_serve::registry::Slot;
use tidemill_store::catalog::Run;

use crate::examine::{metric_of, task_kind};
use crate::fit::entity_hash;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::recommend::METRIC_NAME;

/// The period over which a model's status shows its live quality.
const RECENT: Span = Span::from_days(30);
/// How long a status shows what was computed for it, where there was any: outcomes become certain slowly, and the intervals take a while.
const FRESH: Span = Span::from_seconds(60);
/// So many of the newest decisions, of all models, are looked at for answers whose outcome is not certain yet.
const UNCERTAIN_MAX: usize = 10_000;
/// So many decisions are read at a time.
const PAGE: usize = 1_000;
/// How many outcomes are looked at, at most; newer periods are shorter where there are more.
const OUTCOMES_MAX: usize = 50_000;

/// A model at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct ModelStatus {
    /// The model.
    pub model: ModelName,
    /// The question in words.
    pub question: Option<String>,
    /// `binary`, `regression`, `multiclass` or `recommend`.
    pub kind: &'static str,
    /// The version that answers.
    pub champion: Option<u32>,
    /// What answers where no version does; of models that recommend it is what everybody takes.
    pub fallback: Option<Answer>,
    /// The metric that versions are compared by.
    pub metric: String,
    /// What the champion's examination promised.
    pub promised: Option<Promised>,
    /// What the newest answers with certain outcomes were worth: those of 30 days.
    pub live: Option<LiveQuality>,
    /// What the probabilities of the answers say that were given since then, whose outcomes are not certain yet: an estimate. Of models
    /// that answer with probabilities.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated: Option<EstimatedQuality>,
    /// What was taken of the newest lists whose horizon has passed: those of 30 days. Of models that recommend.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lists: Option<ListQuality>,
    /// The newest run.
    pub last_run: Option<Run>,
    /// When its schedule trains it next.
    pub next_run: Option<Timestamp>,
}

/// What the examination of a version promised.
#[derive(Debug, Clone, Serialize)]
pub struct Promised {
    /// The metric.
    pub metric: String,
    /// Its value.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<(f64, f64)>,
}

/// What the newest answers with certain outcomes turned out to be worth, beside what was promised of them.
pub(crate) struct AgainstPromise {
    /// The 95 % interval of the examination.
    pub(crate) promised: (f64, f64),
    /// That of the answers.
    pub(crate) live: (f64, f64),
    /// How many they are, and until when they were given.
    pub(crate) answers: usize,
    pub(crate) until: Timestamp,
    direction: Direction,
}

impl AgainstPromise {
    /// Whether they are worse, beyond both intervals.
    pub(crate) fn fell(&self) -> bool {
        let Self { promised, live, .. } = self;
        match self.direction {
            Direction::Higher => live.1 < promised.0,
            Direction::Lower => live.0 > promised.1,
            Direction::Zero => live.0 > promised.1.abs() || live.1 < -promised.0.abs(),
        }
    }
}

impl ModelStatus {
    /// Both, where both are known.
    pub(crate) fn against_promise(&self) -> Option<AgainstPromise> {
        let promised = self.promised.as_ref()?.interval?;
        let (live, answers, until, direction) = match (&self.live, &self.lists) {
            (Some(live), _) => {
                let primary = live.primary()?;
                let direction = primary.metric.direction();
                (primary.interval?, live.answers, live.until, direction)
            }
            (None, Some(lists)) => {
                let interval = lists.ndcg.interval?;
                (interval, lists.answers, lists.until, Direction::Higher)
            }
            (None, None) => return None,
        };
        Some(AgainstPromise {
            promised,
            live,
            answers,
            until,
            direction,
        })
    }
}

impl ProjectLoop {
    /// The quality of a model's answers in `[from, until)`, as far as their whole horizon has passed: an answer that
    /// came true early would otherwise count before one that did not.
    ///
    /// # Errors
    /// When there is no such model or a store fails.
    pub async fn live_quality(
        &self,
        model: &ModelName,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<LiveQuality, CycleError> {
        let (quality, _) = self.judged(self.slot(model)?, from, until).await?;
        Ok(quality)
    }

    /// The quality of answers of a period, and their scores.
    async fn judged(
        &self,
        slot: &Slot,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(LiveQuality, Vec<f64>), CycleError> {
        let (rows, period) = self.live_rows(slot, from, until).await?;
        let metric = metric_of(&slot.model, &slot.task)?;
        let quality = live_quality(&rows, period, metric, &self.bootstrap())?;
        Ok((quality, rows.scores))
    }

    /// The same, and beside it what was expected of these answers before their outcomes were known.
    ///
    /// # Errors
    /// As [`live_quality`](Self::live_quality).
    pub async fn live_quality_and_estimate(
        &self,
        model: &ModelName,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<LiveQuality, CycleError> {
        let slot = self.slot(model)?;
        let (mut quality, scores) = self.judged(slot, from, until).await?;
        // what was known when the last of them was given, of none of themselves
        let known = from.min(until - slot.model.target.within());
        let expected = self.expected(slot, known, &scores)?;
        quality.expected = expected.map(|(expected, _)| expected);
        Ok(quality)
    }

    /// What answers with these scores will be worth, as it is expected from what came of those that were given before a moment, and how many
    /// of those there were.
    fn expected(
        &self,
        slot: &Slot,
        before: Timestamp,
        scores: &[f64],
    ) -> Result<Option<(MetricValue, usize)>, CycleError> {
        // amounts are no probabilities; and where nothing was answered, what came before need not be read
        if slot.task == Task::Regression || scores.is_empty() {
            return Ok(None);
        }
        let (metric, kind) = (metric_of(&slot.model, &slot.task)?, task_kind(&slot.task));
        let model = &slot.model.name;
        let outcomes = self
            .joiner
            .outcomes(model, before - RECENT, before, OUTCOMES_MAX)?;
        let mut rows = Gathered::new(&slot.task);
        for outcome in outcomes {
            if outcome.version.is_some()
                && let Some(decision) = self.decisions.get(outcome.decision)?
            {
                rows.push(&decision, outcome.value, outcome.class.as_deref());
            }
        }
        let answered = rows.targets.len();
        let (width, weights) = (kind.width(), vec![1.0; answered]);
        let past = Scores::new(width, rows.scores);
        let calibrator = calibration::choose(&slot.task, &past, &rows.targets, &weights).calibrator;
        let mut probabilities = scores.to_vec();
        let by_row = probabilities.chunks_exact_mut(width);
        by_row.for_each(|row| calibrator.apply_row(row));
        let said = (scores, &probabilities[..]);
        let expected = expected(kind, said, metric, &self.bootstrap())?;
        let recalibrated_on = match calibrator {
            Calibrator::None => 0,
            _ => answered,
        };
        Ok(expected.map(|expected| (expected, recalibrated_on)))
    }

    /// Answers of a period with their outcomes, as far as those are certain.
    async fn live_rows(
        &self,
        slot: &Slot,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<(LiveRows, Period), CycleError> {
        let model = &slot.model.name;
        let until = until.min(self.clock.now() - slot.model.target.within());
        let outcomes = self.joiner.outcomes(model, from, until, OUTCOMES_MAX)?;
        let mut packages: BTreeMap<u32, Arc<Package>> = BTreeMap::new();
        let mut rows = Gathered::new(&slot.task);
        for outcome in outcomes {
            let Some(number) = outcome.version else {
                rows.fallbacks += 1;
                continue;
            };
            // those that are only in the lake by now would each take a look into its files
            let Some(decision) = self.decisions.get(outcome.decision)? else {
                rows.not_kept += 1;
                continue;
            };
            if let std::collections::btree_map::Entry::Vacant(e) = packages.entry(number) {
                e.insert(Arc::new(self.package(model, number).await?));
            }
            let is_known = rows.push(&decision, outcome.value, outcome.class.as_deref());
            if let (true, Some(package)) = (is_known, packages.get(&number)) {
                rows.push_baselines(package, &decision);
            }
        }
        let versions: BTreeSet<u32> = packages.keys().copied().collect();
        let period = Period {
            from,
            until,
            fallbacks: rows.fallbacks,
            not_kept: rows.not_kept,
            versions: versions.into_iter().collect(),
        };
        Ok((rows.finish(), period))
    }

    /// A model at a glance.
    ///
    /// # Errors
    /// When there is no such model or a store fails.
    pub async fn model_status(&self, model: &ModelName) -> Result<ModelStatus, CycleError> {
        if let Some(slot) = self.registry.recommender(model) {
            return self.recommender_status(slot).await;
        }
        let slot = self.slot(model)?;
        let metric = metric_of(&slot.model, &slot.task)?;
        let champion = slot.champion().map(|champion| champion.number);
        let promised = match champion {
            Some(number) => self
                .promised(model, number)
                .await?
                .map(|promised| Promised {
                    metric: promised.metric.name().to_owned(),
                    value: promised.value,
                    interval: promised.interval,
                }),
            None => None,
        };
        let until = self.clock.now() - slot.model.target.within();
        let live = self.recent_quality(model, until).await?;
        let runs = self
            .stores
            .catalog
            .runs(&self.project.name, Some(model), None, 1)
            .await?;
        Ok(ModelStatus {
            model: model.clone(),
            question: slot.model.question.clone(),
            kind: match slot.task {
                Task::Binary => "binary",
                Task::Regression => "regression",
                Task::Multiclass { .. } => "multiclass",
            },
            champion,
            fallback: Some((*slot.fallback()).clone()),
            metric: metric.name().to_owned(),
            promised,
            live: (live.answers + live.fallbacks > 0).then_some(live),
            estimated: self.recent_estimate(model)?,
            lists: None,
            last_run: runs.into_iter().next(),
            next_run: self.next_run(model)?,
        })
    }

    async fn recommender_status(&self, slot: &RecommendSlot) -> Result<ModelStatus, CycleError> {
        let model = &slot.model.name;
        let champion = slot.champion().map(|champion| champion.number);
        let promised = match champion {
            Some(number) => self.recommend_promised(model, number).await?,
            None => None,
        };
        let lists = self.recent_lists(model)?;
        let runs = self
            .stores
            .catalog
            .runs(&self.project.name, Some(model), None, 1)
            .await?;
        Ok(ModelStatus {
            model: model.clone(),
            question: slot.model.question.clone(),
            kind: "recommend",
            champion,
            fallback: None,
            metric: METRIC_NAME.to_owned(),
            promised: promised.map(|promised| Promised {
                metric: METRIC_NAME.to_owned(),
                value: promised.value,
                interval: promised.interval,
            }),
            live: None,
            estimated: None,
            lists: (lists.answers + lists.fallbacks > 0).then_some(lists),
            last_run: runs.into_iter().next(),
            next_run: self.next_recommend_run(&slot.model)?,
        })
    }

    /// What was taken of the lists of a model shown in `[from, until)`, as far as their whole horizon has passed.
    ///
    /// # Errors
    /// When there is no such model or a store fails.
    pub fn list_quality(
        &self,
        model: &ModelName,
        from: Timestamp,
        until: Timestamp,
    ) -> Result<ListQuality, CycleError> {
        let slot = self.recommender(model)?;
        let until = until.min(self.clock.now() - slot.model.within);
        let outcomes = self.joiner.outcomes(model, from, until, OUTCOMES_MAX)?;
        let versions: BTreeSet<u32> = outcomes.iter().filter_map(|one| one.version).collect();
        let fallbacks = outcomes.iter().filter(|one| one.version.is_none()).count();
        let period = Period {
            from,
            until,
            fallbacks,
            not_kept: 0,
            versions: versions.into_iter().collect(),
        };
        Ok(list_quality(&outcomes, period, &self.bootstrap()))
    }

    fn recent_lists(&self, model: &ModelName) -> Result<ListQuality, CycleError> {
        let until = self.clock.now() - self.recommender(model)?.model.within;
        if let Some(known) = self.recent.lists.get(model, until) {
            return Ok(known);
        }
        let computed = self.list_quality(model, until - RECENT, until)?;
        if computed.answers + computed.fallbacks > 0 {
            self.recent.lists.put(model, until, &computed);
        }
        Ok(computed)
    }

    /// What the answers of a model say of their own quality that were given within its horizon.
    fn recent_estimate(&self, model: &ModelName) -> Result<Option<EstimatedQuality>, CycleError> {
        if self.slot(model)?.task == Task::Regression {
            return Ok(None); // amounts are no probabilities
        }
        let now = self.clock.now();
        if let Some(known) = self.recent.estimated.get(model, now) {
            return Ok(known);
        }
        // decisions of all models stand in one order: one pass is for all of them
        let mut uncertain: BTreeMap<&ModelName, Uncertain<'_>> = BTreeMap::new();
        for slot in self.registry.slots() {
            if slot.task != Task::Regression {
                let since = now - slot.model.target.within();
                uncertain.insert(&slot.model.name, Uncertain::since(since, &slot.task));
            }
        }
        let first = uncertain.values().map(|one| one.since).min();
        let (mut before, mut looked_at) = (None, 0);
        while looked_at < UNCERTAIN_MAX {
            let page = self.decisions.newest(before, PAGE)?;
            let oldest = page
                .last()
                .map(|oldest| (oldest.sequence, oldest.value.moment));
            looked_at += page.len();
            for decision in page {
                if let Some(uncertain) = uncertain.get_mut(&decision.value.model) {
                    uncertain.push(&decision.value);
                }
            }
            match oldest {
                Some((sequence, moment)) if Some(moment) >= first => before = Some(sequence),
                _ => break,
            }
        }
        let mut found = None;
        for slot in self.registry.slots() {
            let Some(uncertain) = uncertain.get(&slot.model.name) else {
                continue;
            };
            let expected = self.expected(slot, uncertain.since, &uncertain.scores)?;
            let estimated = expected.map(|(expected, recalibrated_on)| EstimatedQuality {
                from: uncertain.from,
                until: uncertain.until,
                answers: uncertain.answers,
                recalibrated_on,
                expected,
            });
            // that there is nothing is cheap to see again, unless there are many decisions of others
            if estimated.is_some() || looked_at > PAGE {
                let estimates = &self.recent.estimated;
                estimates.put(&slot.model.name, now, &estimated);
            }
            if slot.model.name == *model {
                found = estimated;
            }
        }
        Ok(found)
    }

    fn bootstrap(&self) -> Bootstrap {
        Bootstrap {
            resamples: self.options.resamples,
            ..Bootstrap::default()
        }
    }

    async fn recent_quality(
        &self,
        model: &ModelName,
        until: Timestamp,
    ) -> Result<LiveQuality, CycleError> {
        if let Some(known) = self.recent.live.get(model, until) {
            return Ok(known);
        }
        let computed = self
            .live_quality_and_estimate(model, until - RECENT, until)
            .await?;
        if computed.answers + computed.fallbacks > 0 {
            self.recent.live.put(model, until, &computed);
        }
        Ok(computed)
    }

    /// What the examination of a version found by the metric that versions are compared by.
    ///
    /// # Errors
    /// When there is no such version or the catalog fails.
    pub async fn promised(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<MetricValue>, CycleError> {
        let detail = self.run_detail(model, number).await?;
        let examination = detail.and_then(|detail| detail.examination);
        Ok(examination.map(|examination| MetricValue {
            metric: examination.metric,
            value: examination.value(),
            interval: examination.interval(),
        }))
    }
}

/// What was computed lately for the status of models. What was found where there was nothing yet is found again at once.
#[derive(Default)]
pub(crate) struct Recent {
    live: ByModel<LiveQuality>,
    lists: ByModel<ListQuality>,
    estimated: ByModel<Option<EstimatedQuality>>,
}

/// Something by model, with the moment as of which it holds.
struct ByModel<T>(Mutex<BTreeMap<ModelName, (Timestamp, T)>>);

impl<T> Default for ByModel<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> ByModel<T> {
    /// What is known, if it is not older than [`FRESH`].
    fn get(&self, model: &ModelName, at: Timestamp) -> Option<T> {
        let known = self.0.lock();
        let (as_of, value) = known.get(model)?;
        (at.since(*as_of) < FRESH).then(|| value.clone())
    }

    fn put(&self, model: &ModelName, at: Timestamp, value: &T) {
        self.0.lock().insert(model.clone(), (at, value.clone()));
    }
}

/// Answers of versions whose outcomes are not certain yet.
struct Uncertain<'t> {
    since: Timestamp,
    task: &'t Task,
    from: Timestamp,
    until: Timestamp,
    answers: usize,
    scores: Vec<f64>,
}

impl<'t> Uncertain<'t> {
    fn since(since: Timestamp, task: &'t Task) -> Self {
        Self {
            since,
            task,
            from: Timestamp::MAX,
            until: since,
            answers: 0,
            scores: Vec::new(),
        }
    }

    fn push(&mut self, decision: &Decision) {
        let moment = decision.moment;
        if moment < self.since || decision.version.is_none() || self.answers == EXPECTED_ROWS_MAX {
            return;
        }
        self.scores.extend(scores_of(self.task, &decision.answer));
        self.answers += 1;
        (self.from, self.until) = (self.from.min(moment), self.until.max(moment));
    }
}

/// The scores of an answer, as metrics read them: the probability, the amount, or the probability of each class.
fn scores_of(task: &Task, answer: &Answer) -> Vec<f64> {
    match task {
        Task::Binary | Task::Regression => vec![answer.score],
        Task::Multiclass { classes } => {
            let said = |class: &String| {
                let mut known = answer.probabilities.iter();
                let said = known.find(|known| known.class == *class);
                said.map_or(0.0, |said| said.probability)
            };
            classes.iter().map(said).collect()
        }
    }
}

/// Decisions with their outcomes, gathered row by row.
struct Gathered<'t> {
    task: &'t Task,
    targets: Vec<f64>,
    scores: Vec<f64>,
    entities: Vec<u64>,
    baselines: BTreeMap<String, Vec<f64>>,
    fallbacks: usize,
    not_kept: usize,
}

impl<'t> Gathered<'t> {
    fn new(task: &'t Task) -> Self {
        Self {
            task,
            targets: Vec::new(),
            scores: Vec::new(),
            entities: Vec::new(),
            baselines: BTreeMap::new(),
            fallbacks: 0,
            not_kept: 0,
        }
    }

    /// Adds an answer; whether what came of it is among what could be answered.
    fn push(&mut self, decision: &Decision, value: f64, class: Option<&str>) -> bool {
        let target = match self.task {
            Task::Binary | Task::Regression => value,
            Task::Multiclass { classes } => {
                let Some(place) = classes
                    .iter()
                    .position(|known| Some(known.as_str()) == class)
                else {
                    self.fallbacks += 1; // the classes were declared otherwise when this was answered
                    return false;
                };
                place as f64
            }
        };
        self.targets.push(target);
        self.scores.extend(scores_of(self.task, &decision.answer));
        self.entities.push(entity_hash(&decision.entity));
        true
    }

    /// What the baselines of the version that answered would have said.
    fn push_baselines(&mut self, package: &Package, decision: &Decision) {
        for baseline in &package.baselines {
            let scores = self.baselines.entry(baseline.name.clone()).or_default();
            scores.extend(baseline.fitted.predict_row(&decision.features));
        }
    }

    fn finish(self) -> LiveRows {
        let full = self.scores.len();
        // a baseline that one of the versions did not have cannot be compared over all rows
        let baselines = self
            .baselines
            .into_iter()
            .filter(|(_, scores)| scores.len() == full)
            .collect();
        LiveRows {
            task: task_kind(self.task),
            targets: self.targets,
            scores: self.scores,
            entities: self.entities,
            baselines,
        }
    }
}
