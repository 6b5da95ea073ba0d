//! One project at work: its stores, its engine, its models, and where each part of the loop stands.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures::StreamExt;
use futures::stream::BoxStream;
use tidemill_core::project::{FeatureDefinition, Project, ProjectError};
use tidemill_core::sync::Mutex;
use tidemill_core::{Clock, ModelName, Offset, Span, Timestamp};
use tidemill_features::{Engine, EngineOptions, FeatureError, FeatureSet, Rebuild, suggest};
use tidemill_monitor::{AlertBook, AnswerWatch, DataWatch, Metrics, MonitorError, OutcomeJoiner};
use tidemill_serve::recommend::{Catalogue, Rulebook};
use tidemill_serve::{Answerer, DecisionLog, PackageError, Registry};
use tidemill_store::catalog::Run;
use tidemill_store::{LoggedEvent, StoreError, Stores};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::alerting::{Courier, Resting};
use crate::answers::SkewOfDay;
use crate::lanes::TrainingThreads;
use crate::quality::Recent;
use crate::recommend::Shown;
use crate::rollout::Rollouts;

/// How many events the consumer applies at a time.
pub(crate) const CONSUME_EVENTS: usize = 2_000;

/// How many batches of events are read ahead of the thread that folds them.
const BATCHES_AHEAD: usize = 4;

/// What can go wrong in the loop. Background steps that fail are counted, logged and tried again.
#[derive(Debug, thiserror::Error)]
pub enum CycleError {
    /// A store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The feature engine failed.
    #[error(transparent)]
    Features(#[from] FeatureError),
    /// The project file does not fit the feature engine: everything that is wrong, with lines.
    #[error(transparent)]
    Project(#[from] ProjectError),
    /// Joining outcomes failed.
    #[error(transparent)]
    Monitor(#[from] MonitorError),
    /// A packaged model was refused.
    #[error("activate {version}")]
    Package {
        /// Which.
        version: String,
        /// Why.
        #[source]
        source: PackageError,
    },
    /// Fitting failed.
    #[error("fit {what}")]
    Learn {
        /// Which learner.
        what: String,
        /// Why.
        #[source]
        source: tidemill_learn::LearnError,
    },
    /// Evaluating failed.
    #[error("evaluate")]
    Evaluate(#[from] tidemill_evaluate::EvaluateError),
    /// There is no such model in the project.
    #[error("there is no model '{0}'")]
    UnknownModel(String),
    /// There is no such version.
    #[error("there is no version {0}")]
    UnknownVersion(String),
    /// Nothing is known of a person.
    #[error("nothing is known of such a person")]
    UnknownPerson,
    /// There is no such dataset.
    #[error("there is no dataset {0}")]
    UnknownDataset(String),
    /// The rows of an old dataset were removed to make room.
    #[error("the rows of dataset {0} were removed, only its record is left")]
    RowsRemoved(String),
    /// A person asked for something that the state of the model does not allow.
    #[error("{0}")]
    NotAllowed(String),
    /// A thread of the loop ended unexpectedly.
    #[error("{0} ended unexpectedly")]
    Ended(&'static str),
}

/// The limits and rhythms of a project's loop.
#[derive(Clone)]
pub struct LoopOptions {
    /// Events that have waited this long land in the lake.
    pub landing_age: Span,
    /// That many waiting events land at once.
    pub landing_events: usize,
    /// Applied events are committed at least after so many.
    pub commit_events: usize,
    /// Events that stay in the log after they have landed, for readers that come a little late.
    pub log_keep_events: u64,
    /// Decisions that stay at hand after they have landed.
    pub decisions_keep: u64,
    /// Datasets of each model whose rows are kept, beside that of the champion.
    pub datasets_keep: usize,
    /// Threads of training.
    pub training_threads: usize,
    /// How much memory the steps of a replay may take before they go to disk, in bytes.
    pub replay_memory_bytes_max: usize,
    /// Which share of the answers is read again offline, from 0 to 1.
    pub consistency_share: f64,
    /// Who brings alerts to webhooks; without anybody they are only shown.
    pub courier: Option<Arc<dyn Courier>>,
    /// The threads that land, train and tidy up; without any of their own, those of the caller do.
    pub background: Option<Handle>,
    /// Entities whose features are held in memory.
    pub cache_entries: usize,
    /// Resamples of bootstrap intervals.
    pub resamples: usize,
}

/// The cores of this machine; 1 where that is not known.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            landing_age: Span::from_seconds(60),
            landing_events: 50_000,
            commit_events: 10_000,
            log_keep_events: 20_000,
            decisions_keep: 200_000,
            datasets_keep: 10,
            training_threads: (cores() / 2).max(1),
            replay_memory_bytes_max: 1 << 30,
            consistency_share: 0.01,
            courier: None,
            background: None,
            cache_entries: EngineOptions::default().cache_entries,
            resamples: 500,
        }
    }
}

/// One project at work.
pub struct ProjectLoop {
    /// The project file.
    pub project: Project,
    /// One backend of every port.
    pub stores: Stores,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Answers questions.
    pub answerer: Answerer,
    /// Versions in memory.
    pub registry: Arc<Registry>,
    /// The items as they are now.
    pub(crate) catalogue: Arc<Catalogue>,
    /// Every answer.
    pub decisions: Arc<DecisionLog>,
    /// Joins outcomes.
    pub joiner: Arc<OutcomeJoiner>,
    /// What arrives, day by day.
    pub data: Arc<DataWatch>,
    /// What is answered, day by day.
    pub answers: Arc<AnswerWatch>,
    /// What is wrong, or was.
    pub alerts: AlertBook,
    /// The process's metrics.
    pub metrics: Arc<Metrics>,
    pub(crate) options: LoopOptions,
    pub(crate) engine: Arc<ArcSwap<Engine>>,
    pub(crate) applied: watch::Sender<Offset>,
    /// Held by whoever applies events: the consumer, or a rebuild that replaces the engine.
    pub(crate) feeding: Mutex<Feeding>,
    /// One run at a time per project, so that training stays within its budget.
    pub(crate) running: tokio::sync::Mutex<()>,
    /// Models that a person trains at the moment.
    pub(crate) turns: Mutex<BTreeSet<ModelName>>,
    /// Runs that were under way when the process ended before, until they go on.
    pub(crate) broken: Mutex<Vec<Run>>,
    /// One landing at a time.
    pub(crate) landing: Arc<tokio::sync::Mutex<()>>,
    pub(crate) training: TrainingThreads,
    /// How versions take over.
    pub(crate) rollouts: Rollouts,
    /// Definitions of features that are still to take over from those that the states were made with.
    pending: Mutex<Option<FeatureSet>>,
    /// When live quality was last looked at for alerts.
    pub(crate) quality_checked: Mutex<Option<Timestamp>>,
    /// Webhooks that failed, by URL: not more than the project file names.
    pub(crate) resting: Mutex<HashMap<String, Resting>>,
    /// When the running day was last looked at.
    pub(crate) running_day_checked: Mutex<Option<Timestamp>>,
    /// What is served otherwise than trained, of the day on which that was last looked at.
    pub(crate) skewed: Mutex<Option<SkewOfDay>>,
    /// The quality that was last shown, by model.
    pub(crate) recent: Recent,
}

/// What the consumer remembers between steps.
#[derive(Debug, Default)]
pub(crate) struct Feeding {
    pub(crate) uncommitted: usize,
    pub(crate) expired_at: Timestamp,
}

impl ProjectLoop {
    /// Opens a project: its feature engine, the decision log, the open decisions, and the champions of its models. Where the
    /// definitions of features have changed it goes on with those before; the new ones take over
    /// ([`switch_over`](Self::switch_over)) when their states are made.
    ///
    /// # Errors
    /// When the project file does not compile, or a store fails.
    pub async fn open(
        project: Project,
        stores: Stores,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        options: LoopOptions,
        random: Box<dyn Fn() -> [u8; 10] + Send + Sync>,
    ) -> Result<Arc<Self>, CycleError> {
        stores
            .catalog
            .put_project(&project.name, &project.text, clock.now())
            .await?;
        let (engine, pending) = open_engine(&project, &stores, &options).await?;
        let engine = Arc::new(ArcSwap::from_pointee(engine));
        let registry = Arc::new(Registry::new(&project));
        let decisions = Arc::new(DecisionLog::open(
            project.name.clone(),
            stores.state.clone(),
        )?);
        let joiner = Arc::new(OutcomeJoiner::open(&project, stores.state.clone())?);
        let shown = Shown {
            joiner: joiner.clone(),
            decisions: decisions.clone(),
        };
        let catalogue = Arc::new(Catalogue::of(engine.load().items()?));
        let rollouts = Rollouts::default();
        let answerer = Answerer::new(
            engine.clone(),
            registry.clone(),
            (catalogue.clone(), project.items.clone()),
            (decisions.clone(), Arc::new(shown)),
            rollouts.shadow.clone(),
            clock.clone(),
            random,
        );
        let applied = watch::Sender::new(engine.load().applied());
        let training = TrainingThreads::start(options.training_threads)?;
        let alerts = AlertBook::new(project.name.clone(), stores.state.clone());
        let data = DataWatch::open(project.name.clone(), stores.state.clone())?;
        let answers = AnswerWatch::open(project.name.clone(), stores.state.clone())?;
        let project_loop = Arc::new(Self {
            data: Arc::new(data),
            answers: Arc::new(answers),
            alerts,
            project,
            stores,
            clock,
            answerer,
            registry,
            catalogue,
            decisions,
            joiner,
            metrics,
            options,
            engine,
            applied,
            feeding: Mutex::default(),
            running: tokio::sync::Mutex::default(),
            turns: Mutex::default(),
            broken: Mutex::default(),
            landing: Arc::default(),
            training,
            rollouts,
            pending: Mutex::new(pending),
            quality_checked: Mutex::default(),
            resting: Mutex::default(),
            running_day_checked: Mutex::default(),
            skewed: Mutex::default(),
            recent: Recent::default(),
        });
        project_loop.check_models()?;
        *project_loop.broken.lock() = project_loop.broken_runs().await?;
        project_loop.activate_all().await?;
        project_loop.forgo_cool_downs()?;
        Ok(project_loop)
    }

    /// The engine that is fed at the moment.
    pub fn engine(&self) -> Arc<Engine> {
        self.engine.load_full()
    }

    /// Waits until the features have seen an event.
    ///
    /// # Errors
    /// When the loop has ended.
    pub async fn applied(&self, offset: Offset) -> Result<(), CycleError> {
        let mut applied = self.applied.subscribe();
        applied
            .wait_for(|at| *at >= offset)
            .await
            .map_err(|_| CycleError::Ended("the consumer"))?;
        Ok(())
    }

    /// Moves the loop on by as much as the clock says is due, and returns the runs that it set off. This is what the
    /// driver of a virtual clock calls; on the real clock [`spawn`](crate::spawn) does.
    ///
    /// # Errors
    /// The first step that failed.
    pub async fn tick(self: &Arc<Self>) -> Result<Vec<Run>, CycleError> {
        self.catch_up().await?;
        self.work_in_the_shadow().await?;
        self.advance_rollouts().await?;
        self.drill_due().await?;
        self.land(false).await?;
        let runs = self.run_due().await?;
        self.check_up_due().await?;
        Ok(runs)
    }

    /// How far the parts of the loop are, for `/metrics`.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn progress(&self) -> Result<tidemill_monitor::metrics::Progress, CycleError> {
        let last = self.stores.log.last(&self.project.name)?;
        let landed = self
            .stores
            .lake
            .events_snapshot(&self.project.name)
            .await?
            .last;
        Ok(tidemill_monitor::metrics::Progress {
            log_offset: last.0,
            features_lag: last.0.saturating_sub(self.engine().applied().0),
            landing_lag: last.0.saturating_sub(landed.0),
            outcomes_waiting: self.joiner.waiting(),
            shadow_waiting: self.shadow_waiting(),
        })
    }

    /// A model of the project.
    ///
    /// # Errors
    /// When there is none with that name.
    pub fn slot(&self, model: &ModelName) -> Result<&tidemill_serve::registry::Slot, CycleError> {
        self.registry
            .slot(model)
            .ok_or_else(|| CycleError::UnknownModel(model.to_string()))
    }

    /// Makes the features follow the project file, or where that names none what is suggested from the events that were seen.
    /// Returns whether they changed.
    ///
    /// # Errors
    /// When rebuilding fails; the features then stay as they were.
    pub(crate) async fn follow_definitions(self: &Arc<Self>) -> Result<bool, CycleError> {
        if self.switch_over().await? {
            return Ok(true);
        }
        if !self.project.features.is_empty() {
            return Ok(false);
        }
        let engine = self.engine();
        let set = FeatureSet::compile(
            &self.project,
            &suggest::suggest(&engine.seen(), &self.project),
        )?;
        if set.hash() == engine.set().hash() {
            return Ok(false);
        }
        drop(engine);
        self.rebuild(set).await?;
        Ok(true)
    }

    /// Whether changed definitions of features still wait for their states to be made.
    pub fn is_switching_over(&self) -> bool {
        self.pending.lock().is_some()
    }

    /// The definitions that hold from now on, or as soon as their states are made.
    pub(crate) fn wanted_set(&self) -> FeatureSet {
        let pending = self.pending.lock().clone();
        pending.unwrap_or_else(|| self.engine().set().clone())
    }

    /// Makes the states of definitions that have changed since the project was last open, while those before go on answering; then
    /// they take over at once. Returns whether there was anything to do.
    ///
    /// # Errors
    /// When rebuilding fails; it is tried again the next time.
    pub(crate) async fn switch_over(self: &Arc<Self>) -> Result<bool, CycleError> {
        let Some(set) = self.pending.lock().clone() else {
            return Ok(false);
        };
        self.rebuild(set).await?;
        *self.pending.lock() = None;
        tracing::info!(project = %self.project.name, "the new definitions of features have taken over");
        Ok(true)
    }

    /// Builds the state of other definitions beside the present one, then lets it take over.
    pub(crate) async fn rebuild(self: &Arc<Self>, set: FeatureSet) -> Result<(), CycleError> {
        self.land(true).await?;
        let rebuild = begin_rebuild(&self.project, set, &self.stores, &self.options)?;
        let rebuild = replay_lake(&self.project, &self.stores, rebuild).await?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || this.take_over(rebuild))
            .await
            .map_err(|_| CycleError::Ended("the rebuild"))??;
        self.activate_all().await
    }

    /// The last steps of a rebuild, while nobody else feeds the engine.
    fn take_over(&self, rebuild: Rebuild) -> Result<(), CycleError> {
        let mut feeding = self.feeding.lock();
        let old = self.engine();
        loop {
            let events =
                self.stores
                    .log
                    .read(&self.project.name, rebuild.applied(), CONSUME_EVENTS)?;
            if rebuild.applied() >= old.applied() || events.is_empty() {
                break;
            }
            let until = events.partition_point(|event| event.offset <= old.applied());
            rebuild.apply(&events[..until])?;
        }
        old.commit()?;
        let engine = rebuild.finish()?;
        feeding.uncommitted = 0;
        self.engine.store(Arc::new(engine));
        Ok(())
    }
}

/// Opens the feature engine; where the definitions have changed since it was last open, with those before, beside the new ones.
/// Where those before are not known any more, the states are made anew from the lake and the log first.
async fn open_engine(
    project: &Project,
    stores: &Stores,
    options: &LoopOptions,
) -> Result<(Engine, Option<FeatureSet>), CycleError> {
    let definitions = definitions(project, stores)?;
    let set = FeatureSet::compile(project, &definitions)?;
    for model in project.models.values() {
        set.select(model)?;
    }
    for model in project.recommenders.values() {
        set.select_for_lists(model)?;
        Rulebook::compile(project, model, &set)?;
    }
    let (state, engine_options) = (stores.state.clone(), engine_options(options));
    match Engine::open(project, set.clone(), state.clone(), engine_options) {
        Err(FeatureError::NeedsRebuild { .. }) => {}
        other => return Ok((other?, None)),
    }
    if let Some(engine) = Engine::open_as_before(&project.name, state, engine_options)? {
        tracing::info!(project = %project.name, "the definitions of features have changed: those before go on until the state of the new ones is made");
        return Ok((engine, Some(set)));
    }
    tracing::info!(project = %project.name, "the definitions of features have changed: making their state anew");
    let rebuild = begin_rebuild(project, set, stores, options)?;
    let rebuild = replay_lake(project, stores, rebuild).await?;
    loop {
        let events = stores
            .log
            .read(&project.name, rebuild.applied(), CONSUME_EVENTS)?;
        if events.is_empty() {
            break;
        }
        rebuild.apply(&events)?;
    }
    Ok((rebuild.finish()?, None))
}

/// The definitions of the project file, or what is suggested from the events that were seen so far.
fn definitions(project: &Project, stores: &Stores) -> Result<Vec<FeatureDefinition>, CycleError> {
    if project.features.is_empty() {
        let seen = tidemill_features::read_seen(&project.name, stores.state.as_ref())?;
        return Ok(suggest::suggest(&seen, project));
    }
    Ok(project.features.clone())
}

fn engine_options(options: &LoopOptions) -> EngineOptions {
    EngineOptions {
        cache_entries: options.cache_entries,
        ..EngineOptions::default()
    }
}

fn begin_rebuild(
    project: &Project,
    set: FeatureSet,
    stores: &Stores,
    options: &LoopOptions,
) -> Result<Rebuild, CycleError> {
    Ok(Rebuild::begin(
        project,
        set,
        stores.state.clone(),
        engine_options(options),
    )?)
}

/// Applies everything that has landed.
async fn replay_lake(
    project: &Project,
    stores: &Stores,
    rebuild: Rebuild,
) -> Result<Rebuild, CycleError> {
    let snapshot = stores.lake.events_snapshot(&project.name).await?;
    let events = stores.lake.read_events(&project.name, snapshot).await?;
    fold_batches(events, move |batches| {
        for events in batches {
            rebuild.apply(&events)?;
        }
        Ok(rebuild)
    })
    .await
}

/// Folds batches of events on a thread that may block, while the next batches are read.
async fn fold_batches<T: Send + 'static>(
    mut events: BoxStream<'static, Result<Vec<LoggedEvent>, StoreError>>,
    fold: impl FnOnce(&mut (dyn Iterator<Item = Vec<LoggedEvent>> + Send)) -> Result<T, CycleError>
    + Send
    + 'static,
) -> Result<T, CycleError> {
    let (sender, mut receiver) = tokio::sync::mpsc::channel(BATCHES_AHEAD);
    let folding = tokio::task::spawn_blocking(move || {
        fold(&mut std::iter::from_fn(|| receiver.blocking_recv()))
    });
    let mut broken = None;
    while let Some(batch) = events.next().await {
        match batch {
            Ok(batch) => {
                if sender.send(batch).await.is_err() {
                    break; // folding has failed, and says why below
                }
            }
            Err(error) => {
                broken = Some(error);
                break;
            }
        }
    }
    drop(sender);
    let folded = folding
        .await
        .map_err(|_| CycleError::Ended("reading events"))?;
    match broken {
        Some(error) => Err(error.into()),
        None => folded,
    }
}
