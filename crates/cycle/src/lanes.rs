//! The threads of training, and how runs that compute at the same time share them.

use std::future::Future;
use std::sync::Arc;

use rayon::{ThreadPool, ThreadPoolBuilder};
use tidemill_store::StoreError;
use tidemill_store::priority::take_what_is_left;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::background::{Background, work_on};
use crate::project_loop::CycleError;

/// At most so many runs compute at the same time: each holds its rows in memory, and growing trees has stretches that only
/// one thread can work on, which a second run fills.
const LANES_MAX: usize = 2;

/// The threads of training: one pool for all lanes, so that no thread waits while any run has work that can be divided. Whoever
/// computes in lanes holds the lock of runs, so that no more threads work than the budget says. What reads events for a run has an
/// executor of its own: the replay is most of a run's work, and none of it may stand between a question and its answer.
pub(crate) struct TrainingThreads {
    pool: Arc<ThreadPool>,
    reading: Background,
}

impl TrainingThreads {
    /// # Errors
    /// When the operating system gives no threads.
    pub(crate) fn start(threads: usize) -> Result<Self, CycleError> {
        Ok(Self {
            pool: pool(threads)?,
            // and one for what lands
            reading: Background::start_idle(threads + 1).map_err(no_threads)?,
        })
    }

    /// Where work goes that may take what training leaves and nothing else.
    pub(crate) fn idle(&self) -> Handle {
        self.reading.handle()
    }

    /// Lanes for a number of jobs: one for a single job, and where the budget is one thread.
    pub(crate) fn lanes(&self, jobs: usize) -> Lanes {
        let count = jobs
            .min(LANES_MAX)
            .clamp(1, self.pool.current_num_threads());
        Lanes {
            pool: self.pool.clone(),
            reads: self.reading.handle(),
            count,
            permits: Arc::new(Semaphore::new(count)),
        }
    }
}

/// Places to compute at the same time.
pub(crate) struct Lanes {
    pool: Arc<ThreadPool>,
    reads: Handle,
    count: usize,
    permits: Arc<Semaphore>,
}

impl Lanes {
    /// A lane as soon as one is free; those who wait get theirs in the order in which they came.
    pub(crate) async fn free(&self) -> Result<Lane, CycleError> {
        const CLOSED: CycleError = CycleError::Ended("the lanes of training");
        let permit = self.permits.clone().acquire_owned().await;
        Ok(Lane(Arc::new(Taken {
            pool: self.pool.clone(),
            reads: self.reads.clone(),
            count: self.count,
            _permit: permit.map_err(|_| CLOSED)?,
        })))
    }
}

/// A share of the training budget. It is free for the next one when all of its clones are dropped.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Taken>);

struct Taken {
    pool: Arc<ThreadPool>,
    reads: Handle,
    count: usize,
    _permit: OwnedSemaphorePermit,
}

impl Lane {
    /// How many threads of its own what computes in it may start, 1 or more.
    pub(crate) fn threads(&self) -> usize {
        self.share_of(self.0.pool.current_num_threads())
    }

    /// Its share of an amount that is for all lanes.
    pub(crate) fn share_of(&self, amount: usize) -> usize {
        amount / self.0.count
    }

    /// Computes with the threads of training; what can be divided goes to whichever has nothing to do.
    ///
    /// # Errors
    /// When it panics.
    pub(crate) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CycleError> {
        let lane = self.clone();
        let computing = self
            .0
            .reads
            .spawn_blocking(move || lane.0.pool.install(work));
        computing.await.map_err(|_| CycleError::Ended("training"))
    }

    /// Reads with the threads that read for training: they may have to wait for long, so it must not hold what others wait for.
    ///
    /// # Errors
    /// As the work, and when it panics.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CycleError>> + Send + 'static,
    ) -> Result<T, CycleError> {
        work_on(&self.0.reads, work).await
    }
}

/// Threads that give way to those that serve.
fn pool(threads: usize) -> Result<Arc<ThreadPool>, CycleError> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("training-{index}"))
        .start_handler(|_| take_what_is_left())
        .build();
    pool.map(Arc::new).map_err(no_threads)
}

fn no_threads(source: impl std::error::Error + Send + Sync + 'static) -> CycleError {
    let action = "start the training threads";
    let source = source.into();
    StoreError::Backend { action, source }.into()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// The threads of all lanes that are free at once.
    fn check(threads: usize, jobs: usize, wanted: &[usize]) {
        let lanes = TrainingThreads::start(threads).unwrap().lanes(jobs);
        let mut taken = Vec::new();
        while let Some(lane) = lanes.free().now_or_never() {
            taken.push(lane.unwrap());
        }
        let mut found: Vec<usize> = taken.iter().map(Lane::threads).collect();
        found.sort_unstable();
        assert_eq!(found, wanted, "{threads} threads for {jobs} jobs");
        drop(taken.pop());
        assert!(lanes.free().now_or_never().is_some());
    }

    #[test]
    fn the_budget_is_divided_and_never_exceeded() {
        check(1, 1, &[1]);
        check(1, 4, &[1]);
        check(2, 1, &[2]);
        check(2, 4, &[1, 1]);
        check(5, 2, &[2, 2]);
    }
}
