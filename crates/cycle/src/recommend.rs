//! Models that recommend: learnt from what everybody took, examined on what they took then, promoted if they pass.

use std::collections::HashMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tidemill_core::clock::Stopwatch;
use tidemill_core::project::RecommendModel;
use tidemill_core::{ModelName, RunId, Span, Timestamp};
use tidemill_evaluate::{Bootstrap, Check, Estimate, RankingMetric, Verdict};
use tidemill_features::dataset::{InteractionLog, interactions};
use tidemill_learn::recommend::{
    Case, Interactions, ItemIndex, Query, Question, Recommender, Record, Signal,
};
use tidemill_serve::recommend::{
    RecommendChampion, RecommendPackage, RecommendSlot, Rulebook, SignalOf,
};
use tidemill_store::StoreError;
use tidemill_store::catalog::{Run, RunState, Version};
use tidemill_store::lake::EventsSnapshot;

use crate::examine::Compared;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// How many items of a list are examined.
const DEPTH: usize = 10;
/// The metric that versions are compared by.
const METRIC: RankingMetric = RankingMetric::Ndcg;
/// What it is called in sentences and records.
pub(crate) const METRIC_NAME: &str = "ndcg@10";
/// The fewest persons of the examined period that are worth comparing on.
const CASES_MIN: usize = 30;
/// The most of them that are looked at.
const CASES_MAX: usize = 5_000;
/// The newest share of the time that is examined on, where the horizon is longer.
const EXAMINED_SHARE: f64 = 0.2;
/// From this budget on, all sources are tried and their parameters searched for.
const THOROUGH_FROM: f64 = 0.5;
/// Histories whose lists prove a packaged model.
const GOLDEN: usize = 20;
/// What everybody takes, at most so many items of it.
const POPULAR_MAX: usize = 500;
/// How much worse than the champion a challenger may be, where the project file says nothing.
const TOLERANCE_DEFAULT: f64 = 0.005;

/// Everything about a run of a model that recommends.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RecommendDetail {
    /// Which events it saw.
    pub snapshot: Option<EventsSnapshot>,
    /// How much was taken, by how many persons, of how many items.
    pub signals: usize,
    /// Persons.
    pub persons: usize,
    /// Items.
    pub items: usize,
    /// Events that say what somebody likes but not who, or not what.
    pub incomplete: u64,
    /// When the examined period begins; nothing from there on was learnt from.
    pub examined_from: Option<Timestamp>,
    /// Persons who took something then.
    pub cases: usize,
    /// Which sources were chosen, and what each is worth.
    pub record: Option<Record>,
    /// What the examination found.
    pub examination: Option<RecommendExamination>,
    /// How long it took, in seconds of real time.
    pub seconds: RecommendSeconds,
}

/// How long each stage took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RecommendSeconds {
    /// Reading what everybody took.
    pub read: f64,
    /// Choosing and fitting.
    pub fit: f64,
    /// Examining.
    pub examine: f64,
}

/// What the examination of a challenger found, over the whole catalogue.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RecommendExamination {
    /// `ndcg@10`.
    pub metric: String,
    /// The challenger.
    pub challenger: Compared,
    /// What everybody takes, on the same persons.
    pub popular: Compared,
    /// The champion on the same persons.
    pub champion: Option<Compared>,
    /// Other metrics of the challenger, by name.
    pub further: std::collections::BTreeMap<String, f64>,
    /// The share of the catalogue that was recommended to anybody.
    pub coverage: f64,
    /// The gate's decision with all its checks.
    pub verdict: Verdict,
}

/// What was learnt and what is asked.
struct Divided {
    train: Interactions,
    /// For each case its history and what was taken then.
    cases: Vec<Case>,
    histories: Vec<Vec<Signal>>,
    examined_from: Timestamp,
}

impl ProjectLoop {
    /// A model that recommends.
    ///
    /// # Errors
    /// When there is none with that name.
    pub fn recommender(&self, model: &ModelName) -> Result<&RecommendSlot, CycleError> {
        let slot = self.registry.recommender(model);
        slot.ok_or_else(|| CycleError::UnknownModel(model.to_string()))
    }

    /// Whether a model recommends.
    pub fn is_recommender(&self, model: &ModelName) -> bool {
        self.registry.recommender(model).is_some()
    }

    /// When a model that recommends is trained next by its schedule.
    pub(crate) fn next_recommend_run(
        &self,
        model: &RecommendModel,
    ) -> Result<Option<Timestamp>, CycleError> {
        let last = self.model_state(&model.name)?.last_run;
        let now = self.clock.now();
        let every = model.retrain.every;
        Ok(every.map(|every| last.map_or(now, |last| last + every)))
    }

    /// The models that recommend and are due, with why.
    pub(crate) fn recommenders_due(&self) -> Result<Vec<(ModelName, &'static str)>, CycleError> {
        let now = self.clock.now();
        let seen = self.engine().seen();
        let mut due = Vec::new();
        for slot in self.registry.recommenders() {
            let model = &slot.model;
            let count = |event: &String| seen.events.get(event).map_or(0, |event| event.count);
            let taken: u64 = model.signals.keys().map(count).sum();
            if taken == 0 {
                continue;
            }
            let state = self.model_state(&model.name)?;
            let is_redefined = |asked: &String| *asked != definition_of(model);
            let Some(last) = state.last_run else {
                due.push((model.name.clone(), "schedule"));
                continue;
            };
            let new = taken.saturating_sub(state.last_targets);
            let enough = model.retrain.min_new_targets.is_none_or(|min| new >= min);
            let rested = model.retrain.every.unwrap_or(Span::from_seconds(3_600));
            if state.definition.as_ref().is_some_and(is_redefined) {
                due.push((model.name.clone(), "new_definition"));
            } else if now >= last + rested && enough {
                let why = if model.retrain.every.is_some() {
                    "schedule"
                } else {
                    "new_targets"
                };
                due.push((model.name.clone(), why));
            }
        }
        Ok(due)
    }

    /// Learns, examines, registers, promotes. The caller holds the lock of runs.
    pub(crate) async fn train_recommender(
        self: &Arc<Self>,
        model: &ModelName,
        trigger: &str,
        actor: &str,
    ) -> Result<Run, CycleError> {
        let now = self.clock.now();
        let mut run = Run {
            id: RunId::new(now, self.answerer.random()),
            project: self.project.name.clone(),
            model: model.clone(),
            trigger: trigger.to_owned(),
            state: RunState::Running,
            started_at: now,
            finished_at: None,
            version: None,
            summary: "under way".to_owned(),
            detail: serde_json::Value::Null,
        };
        self.stores.catalog.put_run(&run).await?;
        let declared = self.recommender(model)?.model.clone();
        let seen = self.engine().seen();
        let count = |event: &String| seen.events.get(event).map_or(0, |event| event.count);
        let mut state = self.model_state(model)?;
        state.last_run = Some(now);
        state.last_targets = declared.signals.keys().map(count).sum();
        state.definition = Some(definition_of(&declared));
        self.put_model_state(model, &state)?;
        let mut detail = RecommendDetail::default();
        match self.learn(&declared, &mut run, &mut detail, actor).await {
            Ok(()) => {}
            Err(error) => {
                run.state = RunState::Failed;
                run.summary = describe(&error);
                tracing::error!(%model, error = run.summary, "the run failed");
            }
        }
        run.finished_at = Some(self.clock.now());
        run.detail = to_json(&detail)?;
        self.stores.catalog.put_run(&run).await?;
        let state = serde_json::to_value(run.state).ok();
        let state = state.as_ref().and_then(|state| state.as_str());
        let project = self.project.name.as_str();
        self.metrics
            .run_ended(project, model.as_str(), state.unwrap_or("ended"));
        Ok(run)
    }

    async fn learn(
        self: &Arc<Self>,
        model: &RecommendModel,
        run: &mut Run,
        detail: &mut RecommendDetail,
        actor: &str,
    ) -> Result<(), CycleError> {
        let stopwatch = Stopwatch::start();
        let log = self.taken(model, detail).await?;
        detail.seconds.read = stopwatch.seconds();
        let champion = self.recommender(&model.name)?.champion();
        let (this, declared) = (self.clone(), model.clone());
        let made = tokio::task::spawn_blocking(move || {
            let log = log;
            this.training
                .install(|| this.make_recommender(&declared, &log, champion.as_deref()))
        })
        .await
        .map_err(|_| CycleError::Ended("training"))?;
        let Made {
            package,
            popular,
            divided_from,
            cases,
            examination,
            seconds,
        } = made;
        self.note_popular(model, popular)?;
        detail.examined_from = Some(divided_from);
        detail.cases = cases;
        detail.seconds.fit = seconds.fit;
        detail.seconds.examine = seconds.examine;
        let (Some(package), Some(examination)) = (package, examination) else {
            run.state = RunState::Skipped;
            run.summary = format!(
                "there is too little to learn from yet: {cases} persons took something in the newest period, {CASES_MIN} are needed"
            );
            return Ok(());
        };
        detail.record = Some(package.fitted.record().clone());
        detail.examination = Some(examination.clone());
        let bytes = package.to_bytes().map_err(|source| CycleError::Package {
            version: model.name.to_string(),
            source,
        })?;
        let artifact = self.stores.artifacts.put(bytes).await?;
        let (passed, summary) = (examination.verdict.promoted, examination.verdict.summary());
        let version = Version {
            project: self.project.name.clone(),
            model: model.name.clone(),
            number: 0,
            run: run.id,
            created_at: self.clock.now(),
            artifact,
            passed,
            detail: to_json(detail)?,
        };
        let number = self.stores.catalog.add_version(&version).await?;
        run.version = Some(number);
        run.state = if passed {
            RunState::Passed
        } else {
            RunState::Refused
        };
        run.summary.clone_from(&summary);
        if passed {
            self.change_champion(&model.name, Some(number), actor, "promote", &summary)
                .await?;
        }
        Ok(())
    }

    /// Everything that was taken so far.
    async fn taken(
        self: &Arc<Self>,
        model: &RecommendModel,
        detail: &mut RecommendDetail,
    ) -> Result<InteractionLog, CycleError> {
        self.catch_up().await?;
        self.land(true).await?;
        self.follow_definitions().await?;
        let snapshot = self.stores.lake.events_snapshot(&self.project.name).await?;
        detail.snapshot = Some(snapshot);
        let table = self
            .stores
            .lake
            .event_table(&self.project.name, snapshot)
            .await?;
        let signals: Vec<String> = model.signals.keys().cloned().collect();
        let Some(items) = self.project.items.clone() else {
            return Ok(InteractionLog::default());
        };
        let log = tokio::task::spawn_blocking(move || {
            let signals: Vec<&str> = signals.iter().map(String::as_str).collect();
            interactions(&*table, &items.id, &signals)
        })
        .await
        .map_err(|_| CycleError::Ended("reading events"))??;
        detail.signals = log.taken.len();
        detail.persons = log.persons;
        detail.items = log.items.len();
        detail.incomplete = log.incomplete;
        Ok(log)
    }

    /// The part of a run that computes; it runs on the training threads.
    fn make_recommender(
        &self,
        model: &RecommendModel,
        log: &InteractionLog,
        champion: Option<&RecommendChampion>,
    ) -> Made {
        let stopwatch = Stopwatch::start();
        let weights: Vec<f32> = model
            .signals
            .values()
            .map(|weight| *weight as f32)
            .collect();
        let divided = divide(model, log, &weights, self.clock.now());
        let popular = most_taken(&divided.train);
        let mut made = Made {
            package: None,
            popular: popular
                .iter()
                .map(|item| log.items[*item as usize].clone())
                .collect(),
            divided_from: divided.examined_from,
            cases: divided.cases.len(),
            examination: None,
            seconds: RecommendSeconds::default(),
        };
        if divided.cases.len() < CASES_MIN {
            return made;
        }
        let thorough = model.training.budget.unwrap_or(THOROUGH_FROM) >= THOROUGH_FROM;
        let recommender = match thorough {
            true => Recommender::new(Question::Later),
            false => Recommender::quick(Question::Later),
        };
        let most = weights.iter().copied().fold(0.0, f32::max);
        let recommender = Recommender {
            goal: most,
            seed: model.training.seed,
            exclude_seen: model.repeat.map(|repeat| !repeat),
            ..recommender
        };
        let fitted = recommender.fit(&divided.train);
        let golden = divided
            .histories
            .iter()
            .filter(|history| !history.is_empty());
        let signals = model.signals.iter();
        let package = RecommendPackage::new(
            (self.project.name.clone(), model.name.clone()),
            log.items.clone(),
            signals
                .map(|(event, weight)| SignalOf {
                    event: event.clone(),
                    weight: *weight as f32,
                })
                .collect(),
            fitted,
            popular.clone(),
            divided.examined_from,
            golden.take(GOLDEN).cloned(),
        );
        made.seconds.fit = stopwatch.seconds();
        let examining = Examining {
            model,
            log,
            cases: &divided.cases,
            resamples: self.options.resamples,
        };
        made.examination = Some(examining.examine(&package, &popular, champion));
        made.package = Some(package);
        made.seconds.examine = stopwatch.seconds() - made.seconds.fit;
        made
    }

    fn note_popular(
        &self,
        model: &RecommendModel,
        popular: Vec<Arc<str>>,
    ) -> Result<(), CycleError> {
        let mut state = self.model_state(&model.name)?;
        state.popular = popular.iter().map(ToString::to_string).collect();
        self.put_model_state(&model.name, &state)?;
        self.recommender(&model.name)?.set_popular(popular);
        Ok(())
    }

    /// Lets a version recommend from now on, or what everybody takes.
    pub(crate) async fn activate_recommender(
        &self,
        slot: &RecommendSlot,
        number: Option<u32>,
    ) -> Result<(), CycleError> {
        let model = &slot.model;
        let rules = Rulebook::compile(&self.project, model, self.engine().set())?;
        slot.set_rules(rules);
        let champion = match number {
            Some(number) => {
                let package = self.recommend_package(&model.name, number).await?;
                Some(Arc::new(RecommendChampion::new(number, package)))
            }
            None => None,
        };
        slot.set_champion(champion);
        Ok(())
    }

    async fn recommend_package(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<RecommendPackage, CycleError> {
        let version = self.version(model, number).await?;
        let bytes = self.stores.artifacts.get(&version.artifact).await?;
        RecommendPackage::from_bytes(&bytes).map_err(|source| CycleError::Package {
            version: format!("{model}@{number}"),
            source,
        })
    }

    /// What the examination of a version promised.
    pub(crate) async fn recommend_promised(
        &self,
        model: &ModelName,
        number: u32,
    ) -> Result<Option<Compared>, CycleError> {
        let version = self.version(model, number).await?;
        let detail: Option<RecommendDetail> = serde_json::from_value(version.detail).ok();
        let examination = detail.and_then(|detail| detail.examination);
        Ok(examination.map(|examination| examination.challenger))
    }
}

/// What the working thread of a run brings back.
struct Made {
    package: Option<RecommendPackage>,
    popular: Vec<Arc<str>>,
    divided_from: Timestamp,
    cases: usize,
    examination: Option<RecommendExamination>,
    seconds: RecommendSeconds,
}

/// One hash of everything that decides what is learnt.
fn definition_of(model: &RecommendModel) -> String {
    let text = format!("{:?} {:?} {:?}", model.signals, model.within, model.repeat);
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Cuts in time: what was taken before the newest period is learnt from; what was taken in it, by signals that count as success, is asked for.
fn divide(
    model: &RecommendModel,
    log: &InteractionLog,
    weights: &[f32],
    now: Timestamp,
) -> Divided {
    let history_from = model.training.history.map(|history| now - history);
    let is_old = |time: Timestamp| history_from.is_some_and(|from| time < from);
    let times = log.taken.iter().map(|taken| taken.timestamp);
    let times = times.filter(|time| !is_old(*time));
    let (first, last) = times.fold((now, Timestamp::EPOCH), |(first, last), time| {
        (first.min(time), last.max(time))
    });
    let span = last.since(first).micros().max(0) as f64 * EXAMINED_SHARE;
    let examined = Span::from_micros((span as i64).min(model.within.micros()));
    let from = last - examined;
    let goals: Vec<&str> = model.goals().collect();
    let is_goal: Vec<bool> = model
        .signals
        .keys()
        .map(|event| goals.contains(&event.as_str()))
        .collect();
    let mut histories: Vec<Vec<Signal>> = vec![Vec::new(); log.persons];
    let mut targets: Vec<Vec<ItemIndex>> = vec![Vec::new(); log.persons];
    for taken in log.taken.iter().filter(|taken| !is_old(taken.timestamp)) {
        let person = taken.person as usize;
        if taken.timestamp <= from {
            histories[person].push(Signal {
                item: taken.item,
                weight: weights[taken.signal as usize],
                time: taken.timestamp.micros() / 1_000_000,
            });
        } else if is_goal[taken.signal as usize] && !targets[person].contains(&taken.item) {
            targets[person].push(taken.item);
        }
    }
    let mut train = Interactions::builder();
    for history in &mut histories {
        history.sort_by_key(|signal| signal.time);
        train.push(history.iter().copied());
    }
    let asked = targets.into_iter().zip(&histories);
    let cases: Vec<Case> = asked
        .filter(|(targets, _)| !targets.is_empty())
        .map(|(targets, history)| Case {
            history: history.clone(),
            targets,
        })
        .collect();
    // of many, every n-th: persons are numbered by their first appearance
    let step = cases.len().div_ceil(CASES_MAX).max(1);
    Divided {
        train: train.build(log.items.len()),
        cases: cases.into_iter().step_by(step).collect(),
        histories,
        examined_from: from,
    }
}

/// What everybody takes, best first.
fn most_taken(data: &Interactions) -> Vec<ItemIndex> {
    let mut counted: Vec<(ItemIndex, f32)> = (0..).zip(data.degrees().iter().copied()).collect();
    counted.sort_by(|one, other| other.1.total_cmp(&one.1).then(one.0.cmp(&other.0)));
    counted.truncate(POPULAR_MAX);
    counted
        .into_iter()
        .filter(|(_, degree)| *degree > 0.0)
        .map(|(item, _)| item)
        .collect()
}

/// What is examined, and by what rules.
struct Examining<'a> {
    model: &'a RecommendModel,
    log: &'a InteractionLog,
    cases: &'a [Case],
    resamples: usize,
}

impl Examining<'_> {
    fn examine(
        &self,
        package: &RecommendPackage,
        popular: &[ItemIndex],
        champion: Option<&RecommendChampion>,
    ) -> RecommendExamination {
        let own = |item: ItemIndex| Some(item);
        let ours = self.lists(package, own, own);
        let excludes = package.fitted.excludes_seen();
        let theirs: Vec<Vec<ItemIndex>> = self
            .cases
            .iter()
            .map(|case| {
                let seen =
                    |item: &ItemIndex| case.history.iter().any(|signal| signal.item == *item);
                let unseen = popular
                    .iter()
                    .copied()
                    .filter(|item| !(excludes && seen(item)));
                unseen.take(DEPTH).collect()
            })
            .collect();
        let reigning = champion.map(|champion| {
            let numbers: HashMap<&str, ItemIndex> =
                self.log.items.iter().map(AsRef::as_ref).zip(0..).collect();
            let there =
                |item: ItemIndex| champion.index.get(&self.log.items[item as usize]).copied();
            let back = |item: ItemIndex| {
                let id = champion.package.items.get(item as usize)?;
                numbers.get(id.as_ref()).copied()
            };
            let name = format!("{}@{}", self.model.name, champion.number);
            (name, self.lists(&champion.package, there, back))
        });
        let bootstrap = Bootstrap {
            resamples: self.resamples,
            seed: self.model.training.seed,
            ..Bootstrap::default()
        };
        let values = |lists: &[Vec<ItemIndex>]| self.values(lists, METRIC, DEPTH);
        let (ours_values, popular_values) = (values(&ours), values(&theirs));
        let challenger = compared(&self.model.name.to_string(), &bootstrap.mean(&ours_values));
        let mut checks = vec![
            sound(&ours),
            beats(&bootstrap, &ours_values, &popular_values),
        ];
        let champion = reigning.map(|(name, lists)| {
            let reigning = values(&lists);
            let tolerance = self.model.gate.tolerance.unwrap_or(TOLERANCE_DEFAULT);
            checks.push(no_worse(
                &bootstrap,
                &name,
                &ours_values,
                &reigning,
                tolerance,
            ));
            compared(&name, &bootstrap.mean(&reigning))
        });
        for (metric, least) in &self.model.gate.min {
            checks.push(at_least(metric, *least, challenger.value));
        }
        checks.push(packaged(package));
        let mut further = std::collections::BTreeMap::new();
        for metric in RankingMetric::ALL {
            let values = self.values(&ours, metric, DEPTH);
            let name = metric.name().to_lowercase().replace(' ', "_");
            let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
            further.insert(format!("{name}@{DEPTH}"), mean);
        }
        let shown: std::collections::HashSet<ItemIndex> = ours.iter().flatten().copied().collect();
        RecommendExamination {
            metric: METRIC_NAME.to_owned(),
            challenger,
            popular: compared("popular", &bootstrap.mean(&popular_values)),
            champion,
            further,
            coverage: shown.len() as f64 / self.log.items.len().max(1) as f64,
            verdict: Verdict::of(checks),
        }
    }

    /// What a package recommends in each case; `there` and `back` say how it numbers the items.
    fn lists(
        &self,
        package: &RecommendPackage,
        there: impl Fn(ItemIndex) -> Option<ItemIndex>,
        back: impl Fn(ItemIndex) -> Option<ItemIndex>,
    ) -> Vec<Vec<ItemIndex>> {
        let mut scratch = package.fitted.scratch();
        let cases = self.cases.iter();
        cases
            .map(|case| {
                let history = case.history.iter();
                let history: Vec<Signal> = history
                    .filter_map(|signal| {
                        Some(Signal {
                            item: there(signal.item)?,
                            ..*signal
                        })
                    })
                    .collect();
                let query = Query::new(&history);
                let ranked = package.fitted.recommend(&query, DEPTH, &mut scratch);
                ranked
                    .into_iter()
                    .filter_map(|(item, _)| back(item))
                    .collect()
            })
            .collect()
    }

    fn values(&self, lists: &[Vec<ItemIndex>], metric: RankingMetric, k: usize) -> Vec<f64> {
        let pairs = lists.iter().zip(self.cases);
        pairs
            .map(|(list, case)| metric.at(k, list, &case.targets).unwrap_or(0.0))
            .collect()
    }
}

fn compared(name: &str, estimate: &Estimate) -> Compared {
    Compared {
        name: name.to_owned(),
        value: estimate.value,
        interval: estimate.interval,
    }
}

/// Everybody gets a list, and no item is in it twice.
fn sound(lists: &[Vec<ItemIndex>]) -> Check {
    let is_sound = |list: &&Vec<ItemIndex>| {
        let mut sorted = (*list).clone();
        sorted.sort_unstable();
        sorted.dedup();
        !list.is_empty() && sorted.len() == list.len()
    };
    let good = lists.iter().filter(is_sound).count();
    Check {
        name: "sound".to_owned(),
        value: good as f64,
        threshold: lists.len() as f64,
        interval: None,
        passed: good == lists.len(),
        sentence: match good == lists.len() {
            true => format!("all {good} lists have items, none of them twice"),
            false => format!(
                "{} of {} lists are empty or repeat items",
                lists.len() - good,
                lists.len()
            ),
        },
    }
}

fn beats(bootstrap: &Bootstrap, ours: &[f64], popular: &[f64]) -> Check {
    let difference = bootstrap.mean_difference(ours, popular);
    let (value, interval) = (difference.value.unwrap_or(0.0), difference.interval);
    let passed = interval.is_some_and(|(low, _)| low > 0.0);
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let said = if passed {
        "beats"
    } else {
        "does not clearly beat"
    };
    let (low, high) = interval.unwrap_or((f64::NAN, f64::NAN));
    Check {
        name: "beats:popular".to_owned(),
        value,
        threshold: 0.0,
        interval,
        passed,
        sentence: format!(
            "NDCG@{DEPTH} {:.3} {said} what everybody takes ({:.3}): the improvement is {value:.3}, interval {low:.3} to {high:.3}",
            mean(ours),
            mean(popular)
        ),
    }
}

fn no_worse(
    bootstrap: &Bootstrap,
    name: &str,
    ours: &[f64],
    champion: &[f64],
    tolerance: f64,
) -> Check {
    let difference = bootstrap.mean_difference(ours, champion);
    let (value, interval) = (difference.value.unwrap_or(0.0), difference.interval);
    let is_clearly_less = interval.is_some_and(|(_, high)| high < 0.0);
    let passed = !is_clearly_less || value >= -tolerance;
    let said = if passed {
        "is not worse than"
    } else {
        "is worse than"
    };
    let (low, high) = interval.unwrap_or((f64::NAN, f64::NAN));
    Check {
        name: "champion".to_owned(),
        value,
        threshold: -tolerance,
        interval,
        passed,
        sentence: format!(
            "it {said} {name} on the same persons: the difference in NDCG@{DEPTH} is {value:.3}, interval {low:.3} to {high:.3}"
        ),
    }
}

fn at_least(metric: &str, least: f64, value: Option<f64>) -> Check {
    let value = value.unwrap_or(0.0);
    let passed = metric == METRIC_NAME && value >= least;
    Check {
        name: format!("min:{metric}"),
        value,
        threshold: least,
        interval: None,
        passed,
        sentence: match (metric == METRIC_NAME, passed) {
            (false, _) => format!("'{metric}' is not measured here; {METRIC_NAME} is"),
            (true, true) => format!("{metric} {value:.3} reaches {least}"),
            (true, false) => format!("{metric} {value:.3} does not reach {least}"),
        },
    }
}

/// The packaged bytes must read back and give the same lists.
fn packaged(package: &RecommendPackage) -> Check {
    let histories = package.golden.len() as f64;
    let bytes = package.to_bytes();
    let result = bytes.and_then(|bytes| RecommendPackage::from_bytes(&bytes));
    Check {
        name: "packaged".to_owned(),
        value: if result.is_ok() { histories } else { 0.0 },
        threshold: histories,
        interval: None,
        passed: result.is_ok(),
        sentence: match &result {
            Ok(_) => format!(
                "the packaged model recommends what the trainer did for all {histories} golden histories"
            ),
            Err(error) => format!("the packaged model is not the trained one: {error}"),
        },
    }
}

fn to_json(detail: &RecommendDetail) -> Result<serde_json::Value, CycleError> {
    serde_json::to_value(detail).map_err(|source| {
        StoreError::Backend {
            action: "encode the record of a run",
            source: source.into(),
        }
        .into()
    })
}
