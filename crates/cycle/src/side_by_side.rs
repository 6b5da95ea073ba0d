//! Runs that are due together: they compute side by side within the budget of training, and end one after the other in the order in
//! which they began, so that what is recorded does not depend on which was faster.

use std::sync::Arc;

use tidemill_core::{ModelName, Timestamp};
use tidemill_store::catalog::Run;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::datasets::BuiltDataset;
use crate::lanes::Lanes;
use crate::project_loop::{CycleError, ProjectLoop};
use crate::recommend::RecommendRun;
use crate::register::Stage;
use crate::run::{PredictRun, describe};

/// A model that is to be trained, and why.
pub(crate) struct Wanted {
    pub(crate) model: ModelName,
    pub(crate) trigger: String,
}

/// A run whose computing is over.
enum Computed {
    Recommend(Box<RecommendRun>),
    Predict(Box<PredictRun>),
}

/// Runs that have begun and still have to compute, in the order in which they end.
struct AllBegun {
    recommend: Vec<RecommendRun>,
    predict: Vec<PredictRun>,
}

impl AllBegun {
    fn len(&self) -> usize {
        self.recommend.len() + self.predict.len()
    }
}

impl ProjectLoop {
    /// Trains models, those that predict in one pass over the events, and promotes what passes the gate. Their runs come back with
    /// those that recommend first.
    ///
    /// # Errors
    /// When there is no such model, or a store fails before the runs have begun. What goes wrong in one model's run
    /// is written into that run.
    pub async fn train(
        self: &Arc<Self>,
        models: &[ModelName],
        trigger: &str,
        actor: &str,
    ) -> Result<Vec<Run>, CycleError> {
        for model in models {
            self.check_model(model)?;
        }
        let wanted = models.iter().map(|model| Wanted {
            model: model.clone(),
            trigger: trigger.to_owned(),
        });
        self.train_wanted(wanted.collect(), actor).await
    }

    /// Trains models that each have a reason of their own.
    pub(crate) async fn train_wanted(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        actor: &str,
    ) -> Result<Vec<Run>, CycleError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let (this, actor) = (self.clone(), actor.to_owned());
        self.beside(async move { this.train_side_by_side(wanted, &actor).await })
            .await
    }

    async fn train_side_by_side(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        actor: &str,
    ) -> Result<Vec<Run>, CycleError> {
        let _one_at_a_time = self.running.lock().await;
        let now = self.clock.now();
        let mut begun = AllBegun {
            recommend: Vec::new(),
            predict: Vec::new(),
        };
        for Wanted { model, trigger } in wanted {
            match self.is_recommender(&model) {
                true => begun
                    .recommend
                    .push(self.begin_recommender(&model, &trigger, now).await?),
                false => begun.predict.push(self.begin(&model, &trigger, now).await?),
            }
        }
        let lanes = self.training.lanes(begun.len());
        let (started, computing) = mpsc::channel(begun.len().max(1));
        let settled = self.settle(&begun).await;
        let start = self.start(begun, now, settled, (&lanes, started));
        let ((), runs) = tokio::join!(start, self.end_in_order(computing, actor));
        runs
    }

    /// Lands everything, and lets the features follow their definitions: what all runs of a pass learn from.
    async fn settle(self: &Arc<Self>, begun: &AllBegun) -> Result<(), CycleError> {
        self.catch_up().await?;
        self.land(true).await?;
        if self.follow_definitions().await? {
            for one in &begun.predict {
                self.note_definition(&one.run.model)?;
            }
        }
        Ok(())
    }

    /// Starts each run as soon as a lane is free: models that recommend first, which take longest and leave the fewest threads idle at
    /// the end. The others share one pass over the events, which is a job of its own.
    async fn start(
        self: &Arc<Self>,
        mut begun: AllBegun,
        now: Timestamp,
        settled: Result<(), CycleError>,
        (lanes, started): (&Lanes, mpsc::Sender<JoinHandle<Computed>>),
    ) {
        // there is room for all of them
        let send = async |job: JoinHandle<Computed>| drop(started.send(job).await);
        let refused = settled.err().map(|error| describe(&error));
        for mut run in begun.recommend {
            let (this, lane) = (self.clone(), lanes.free().await);
            let refused = refused.clone();
            let job = tokio::spawn(async move {
                match (lane, refused) {
                    (Ok(lane), None) => this.compute_recommender(&mut run, lane).await,
                    (Err(error), _) => run.fail(error),
                    (_, Some(reason)) => run.fail(CycleError::NotAllowed(reason)),
                }
                Computed::Recommend(Box::new(run))
            });
            send(job).await;
        }
        let rows = match refused {
            Some(reason) => Err(CycleError::NotAllowed(reason)),
            None => self.rows_for(&mut begun.predict, now, lanes).await,
        };
        let (mut rows, reason) = match rows {
            Ok(rows) => (rows.into_iter(), String::new()),
            Err(error) => (Vec::new().into_iter(), describe(&error)),
        };
        for mut run in begun.predict {
            let (this, built) = (self.clone(), rows.next());
            let lane = lanes.free().await;
            let refused = CycleError::NotAllowed(reason.clone());
            let job = tokio::spawn(async move {
                match (lane, built) {
                    (Ok(lane), Some(built)) => this.compute(&mut run, Some(built), lane).await,
                    (Err(error), _) => run.fail(error),
                    (_, None) => run.fail(refused),
                }
                Computed::Predict(Box::new(run))
            });
            send(job).await;
        }
    }

    async fn rows_for(
        self: &Arc<Self>,
        runs: &mut [PredictRun],
        now: Timestamp,
        lanes: &Lanes,
    ) -> Result<Vec<BuiltDataset>, CycleError> {
        if runs.is_empty() {
            return Ok(Vec::new());
        }
        let lane = lanes.free().await?;
        let snapshot = self.stores.lake.events_snapshot(&self.project.name).await?;
        for PredictRun { run, detail, .. } in runs.iter_mut() {
            detail.snapshot = Some(snapshot);
            self.reach(run, detail, Stage::Dataset).await?;
        }
        let models: Vec<ModelName> = runs.iter().map(|one| one.run.model.clone()).collect();
        self.rows(&models, (snapshot, now), &lane).await
    }

    /// Registers, promotes and writes down. A store that fails for one run does not keep the others from their ends.
    async fn end_in_order(
        self: &Arc<Self>,
        mut computing: mpsc::Receiver<JoinHandle<Computed>>,
        actor: &str,
    ) -> Result<Vec<Run>, CycleError> {
        let mut ended = Ok(Vec::new());
        while let Some(job) = computing.recv().await {
            let run = match job.await {
                Ok(Computed::Recommend(run)) => self.end(*run, actor).await,
                Ok(Computed::Predict(run)) => self.end(*run, actor).await,
                Err(_) => Err(CycleError::Ended("training")),
            };
            match (&mut ended, run) {
                (Ok(runs), Ok(run)) => runs.push(run),
                (Ok(_), Err(error)) => ended = Err(error),
                (Err(_), _) => {}
            }
        }
        ended
    }
}
