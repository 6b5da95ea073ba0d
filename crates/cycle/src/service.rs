//! Drives the loops on the real clock, until told to stop.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::Span;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::project_loop::{CycleError, ProjectLoop};
use crate::run::describe;

/// How often time alone is looked at: landing by age, horizons, schedules.
const TICK: Duration = Duration::from_secs(1);
/// How long a failed step waits before it is tried again.
const RETRY: Duration = Duration::from_secs(1);
/// How long message ids are remembered.
pub const DEDUPLICATION: Span = Span::from_days(7);
/// How often it is looked for what is wrong.
const ALERTING: Duration = Duration::from_secs(5);
/// How often it is looked whether a drill is due.
const DRILLING: Duration = Duration::from_secs(60);
/// How often old message ids are forgotten and small files merged.
const MAINTENANCE: Duration = Duration::from_secs(3_600);
/// How many states are looked at each time for those that are idle, in steps between which others may write.
const EXPIRE_STEPS: usize = 50;
const EXPIRE_STATES: usize = 2_000;

/// Starts the background tasks of a project. They end, with everything committed, soon after `stop` turns true.
pub fn spawn(project_loop: Arc<ProjectLoop>, stop: watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let background = project_loop.background();
    vec![
        // answers are as fresh as the features are: the consumer stands with those that answer
        tokio::spawn(consume(project_loop.clone(), stop.clone())),
        background.spawn(land(project_loop.clone(), stop.clone())),
        background.spawn(run(project_loop.clone(), stop.clone())),
        background.spawn(alert(project_loop.clone(), stop.clone())),
        // a bad version is stopped at once, also while something trains
        tokio::spawn(roll_out(project_loop.clone(), stop.clone())),
        background.spawn(shadow(project_loop.clone(), stop.clone())),
        background.spawn(drill(project_loop.clone(), stop.clone())),
        background.spawn(maintain(project_loop, stop)),
    ]
}

async fn consume(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    let mut tail = match project_loop.stores.log.watch(&project_loop.project.name) {
        Ok(tail) => tail,
        Err(error) => return tracing::error!(%error, "cannot follow the log"),
    };
    while !*stop.borrow() {
        tail.borrow_and_update();
        if let Err(error) = project_loop.catch_up().await {
            failed(&project_loop, "apply events", &error);
            tokio::time::sleep(RETRY).await;
            continue;
        }
        tokio::select! {
            changed = tail.changed() => if changed.is_err() { break },
            () = tokio::time::sleep(TICK) => {}
            _ = stop.changed() => break,
        }
    }
    if let Err(error) = project_loop.commit() {
        failed(&project_loop, "commit the features", &error);
    }
}

async fn land(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    while goes_on_after(TICK, &mut stop).await {
        if let Err(error) = project_loop.land(false).await {
            failed(&project_loop, "land events", &error);
        }
    }
}

async fn run(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    while goes_on_after(TICK, &mut stop).await {
        if let Err(error) = project_loop.run_due().await {
            failed(&project_loop, "train", &error);
        }
    }
}

async fn alert(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    while goes_on_after(ALERTING, &mut stop).await {
        if let Err(error) = project_loop.check_alerts().await {
            failed(&project_loop, "look for what is wrong", &error);
        }
        let Some(courier) = project_loop.options.courier.clone() else {
            continue;
        };
        if let Err(error) = project_loop.tell_alerts(&*courier).await {
            failed(&project_loop, "send alerts", &error);
        }
    }
}

async fn roll_out(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    let alarm = project_loop.rollouts.alarm.clone();
    while goes_on_when(&alarm, &mut stop).await {
        if let Err(error) = project_loop.advance_rollouts().await {
            failed(&project_loop, "look after what takes over", &error);
            tokio::time::sleep(RETRY).await;
        }
    }
}

async fn shadow(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    let waiting = project_loop.rollouts.waiting.clone();
    while goes_on_when(&waiting, &mut stop).await {
        if let Err(error) = project_loop.work_in_the_shadow().await {
            failed(&project_loop, "answer in the shadow", &error);
        }
    }
}

async fn drill(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    while goes_on_after(DRILLING, &mut stop).await {
        if let Err(error) = project_loop.drill_due().await {
            failed(&project_loop, "drill a rollback", &error);
        }
        if let Err(error) = project_loop.check_up_due().await {
            failed(&project_loop, "look the models over", &error);
        }
    }
}

async fn maintain(project_loop: Arc<ProjectLoop>, mut stop: watch::Receiver<bool>) {
    while goes_on_after(MAINTENANCE, &mut stop).await {
        if let Err(error) = project_loop.maintain().await {
            failed(&project_loop, "tidy up", &error);
        }
    }
}

impl ProjectLoop {
    /// Forgets old message ids, removes the state of replaced definitions and of those who are idle, and merges small files of the
    /// lake.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn maintain(self: &Arc<Self>) -> Result<(), CycleError> {
        let importing =
            tidemill_collect::import::unfinished(self.stores.state.as_ref(), &self.project.name);
        if importing.is_ok_and(|imports| imports.is_empty()) {
            let log = self.stores.log.clone();
            let before = self.clock.now() - DEDUPLICATION;
            tokio::task::spawn_blocking(move || log.forget_message_ids(before))
                .await
                .map_err(|_| CycleError::Ended("forgetting message ids"))??;
        }
        let engine = self.engine();
        tokio::task::spawn_blocking(move || {
            while engine.sweep(10_000)? > 0 {}
            for _ in 0..EXPIRE_STEPS {
                if engine.expire(EXPIRE_STATES)?.finished {
                    break;
                }
            }
            Ok::<_, CycleError>(())
        })
        .await
        .map_err(|_| CycleError::Ended("removing old features"))??;
        self.stores.lake.compact(&self.project.name).await?;
        if self.options.consistency_share > 0.0 {
            self.check_consistency(self.options.consistency_share)
                .await?;
        }
        Ok(())
    }
}

/// Waits; returns whether to go on, which is not the case once it is time to stop.
async fn goes_on_after(period: Duration, stop: &mut watch::Receiver<bool>) -> bool {
    if *stop.borrow() {
        return false;
    }
    tokio::select! {
        () = tokio::time::sleep(period) => true,
        _ = stop.changed() => false,
    }
}

/// Waits until told, or for a tick; returns whether to go on, which is not the case once it is time to stop.
async fn goes_on_when(told: &Notify, stop: &mut watch::Receiver<bool>) -> bool {
    if *stop.borrow() {
        return false;
    }
    tokio::select! {
        () = told.notified() => true,
        () = tokio::time::sleep(TICK) => true,
        _ = stop.changed() => false,
    }
}

fn failed(project_loop: &ProjectLoop, action: &str, error: &CycleError) {
    let error = describe(error);
    project_loop
        .metrics
        .loop_failed(project_loop.project.name.as_str());
    tracing::error!(project = %project_loop.project.name, error, "cannot {action}; it is tried again");
}
