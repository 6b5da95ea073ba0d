//! The threads of training, and how runs that compute at the same time share them.

use std::sync::Arc;

use parking_lot::Mutex;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tidemill_store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::background::take_what_is_left;
use crate::project_loop::CycleError;

/// At most so many runs compute at the same time: each holds its rows in memory, and growing trees has stretches that only
/// one thread can work on, which a second run fills.
const LANES_MAX: usize = 2;

/// The threads of training: all of them for what computes alone, or divided among lanes. Whoever computes in lanes holds the lock of
/// runs, so that no more threads work than the budget says.
pub(crate) struct TrainingThreads {
    whole: Arc<ThreadPool>,
    /// Empty where the budget is one thread: runs are one after the other.
    parts: Vec<Arc<ThreadPool>>,
}

impl TrainingThreads {
    /// # Errors
    /// When the operating system gives no threads.
    pub(crate) fn start(threads: usize) -> Result<Self, CycleError> {
        let lanes = threads.min(LANES_MAX);
        let part = |lane: usize| pool(threads / lanes + usize::from(lane < threads % lanes));
        let parts: Result<Vec<_>, CycleError> = match lanes > 1 {
            true => (0..lanes).map(part).collect(),
            false => Ok(Vec::new()),
        };
        Ok(Self {
            whole: pool(threads)?,
            parts: parts?,
        })
    }

    /// Lanes for a number of jobs: one that has all threads for a single job.
    pub(crate) fn lanes(&self, jobs: usize) -> Lanes {
        let pools = match jobs > 1 && !self.parts.is_empty() {
            true => self.parts.clone(),
            false => vec![self.whole.clone()],
        };
        Lanes {
            count: pools.len(),
            permits: Arc::new(Semaphore::new(pools.len())),
            free: Arc::new(Mutex::new(pools)),
        }
    }
}

/// Places to compute at the same time.
pub(crate) struct Lanes {
    count: usize,
    permits: Arc<Semaphore>,
    free: Arc<Mutex<Vec<Arc<ThreadPool>>>>,
}

impl Lanes {
    /// A lane as soon as one is free; those who wait get theirs in the order in which they came.
    pub(crate) async fn free(&self) -> Result<Lane, CycleError> {
        const CLOSED: CycleError = CycleError::Ended("the lanes of training");
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(|_| CLOSED)?;
        let pool = self.free.lock().pop().ok_or(CLOSED)?;
        let free = self.free.clone();
        Ok(Lane(Arc::new(Taken {
            pool,
            count: self.count,
            free,
            _permit: permit,
        })))
    }
}

/// A share of the training budget. It is free for the next one when all of its clones are dropped.
#[derive(Clone)]
pub(crate) struct Lane(Arc<Taken>);

struct Taken {
    pool: Arc<ThreadPool>,
    count: usize,
    free: Arc<Mutex<Vec<Arc<ThreadPool>>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lane {
    /// How many threads it has, 1 or more.
    pub(crate) fn threads(&self) -> usize {
        self.0.pool.current_num_threads()
    }

    /// Its share of an amount that is for all lanes.
    pub(crate) fn share_of(&self, amount: usize) -> usize {
        amount / self.0.count
    }

    /// Computes with the threads of the lane.
    pub(crate) fn install<T: Send>(&self, compute: impl FnOnce() -> T + Send) -> T {
        self.0.pool.install(compute)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // before the permit is given back, which fields are after this
        self.free.lock().push(self.pool.clone());
    }
}

/// Threads that give way to those that serve.
fn pool(threads: usize) -> Result<Arc<ThreadPool>, CycleError> {
    let pool = ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|index| format!("training-{index}"))
        .start_handler(|_| take_what_is_left())
        .build();
    pool.map(Arc::new).map_err(|source| {
        StoreError::Backend {
            action: "start the training threads",
            source: source.into(),
        }
        .into()
    })
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
        check(5, 2, &[2, 3]);
    }
}
