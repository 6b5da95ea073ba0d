//! How much may be under way at once: what goes beyond is refused at once instead of queueing without limit.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{ErrorCode, Problem};

/// Memory for bodies is counted in steps of this many bytes.
const STEP_BYTES: usize = 1024;
/// The most files that are downloaded at one time.
const DOWNLOADS_MAX: usize = 4;
/// How long a list or a batch waits for its turn before it is refused.
const HEAVY_WAIT: Duration = Duration::from_secs(5);

/// The counted places.
pub(crate) struct Admission {
    calls: Arc<Semaphore>,
    events_memory: Arc<Semaphore>,
    other_memory: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    downloads: Arc<Semaphore>,
}

impl Admission {
    pub(crate) fn new(calls: usize, events_bytes: usize, other_bytes: usize, heavy: usize) -> Self {
        let memory = |bytes: usize| {
            Arc::new(Semaphore::new(
                (bytes / STEP_BYTES).min(Semaphore::MAX_PERMITS),
            ))
        };
        Self {
            calls: Arc::new(Semaphore::new(calls)),
            events_memory: memory(events_bytes),
            other_memory: memory(other_bytes),
            heavy: Arc::new(Semaphore::new(heavy)),
            downloads: Arc::new(Semaphore::new(DOWNLOADS_MAX)),
        }
    }

    /// A place for a call that brings events.
    pub(crate) fn events(&self) -> Result<OwnedSemaphorePermit, Problem> {
        self.calls
            .clone()
            .try_acquire_owned()
            .map_err(|_| overloaded("calls that bring events"))
    }

    /// Memory for the body of a call that brings events.
    pub(crate) fn events_memory(&self) -> Memory {
        Memory {
            free: self.events_memory.clone(),
            held: None,
            bytes: 0,
        }
    }

    /// Memory for any other body, so that a flood of events leaves room for questions.
    pub(crate) fn other_memory(&self) -> Memory {
        Memory {
            free: self.other_memory.clone(),
            held: None,
            bytes: 0,
        }
    }

    /// A place for a file that is downloaded, for as long as that takes.
    pub(crate) fn download(&self) -> Result<OwnedSemaphorePermit, Problem> {
        let place = self.downloads.clone().try_acquire_owned();
        place.map_err(|_| overloaded("downloads"))
    }

    /// Does what takes long (a batch, a list, a person's page) beside the threads that answer single questions.
    pub(crate) async fn heavy<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<T, Problem> {
        let place = tokio::time::timeout(HEAVY_WAIT, self.heavy.clone().acquire_owned()).await;
        let place = place
            .ok()
            .and_then(Result::ok)
            .ok_or_else(|| overloaded("lists and batches"))?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place; // held until the work ends, also when the caller has gone
            work()
        });
        done.await.map_err(|error| Problem::internal(&error))?
    }
}

impl Admission {
    /// The same for work that asks the catalog or the lake in between. It goes on when the caller has gone: nothing
    /// that changes a model stops half way.
    pub(crate) async fn heavy_async<T, F>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Problem>>,
    {
        let runtime = tokio::runtime::Handle::current();
        self.heavy(move || runtime.block_on(work())).await
    }
}

/// Memory that a body takes. Given back when it is dropped.
pub(crate) struct Memory {
    free: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    bytes: usize,
}

impl Memory {
    /// Counts more bytes; refuses where all the memory for bodies is taken.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), Problem> {
        self.bytes += bytes;
        let needed = self.bytes.div_ceil(STEP_BYTES);
        let held = self
            .held
            .as_ref()
            .map_or(0, OwnedSemaphorePermit::num_permits);
        let Ok(more) = u32::try_from(needed.saturating_sub(held)) else {
            return Err(overloaded("bytes of bodies"));
        };
        if more == 0 {
            return Ok(());
        }
        let permit = self
            .free
            .clone()
            .try_acquire_many_owned(more)
            .map_err(|_| overloaded("bytes of bodies"))?;
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        Ok(())
    }
}

fn overloaded(what: &str) -> Problem {
    Problem::new(
        ErrorCode::Overloaded,
        format!("too many {what} are under way"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_and_given_back() {
        let admission = Admission::new(1, 4 * STEP_BYTES, 0, 1);
        let mut first = admission.events_memory();
        first.take(STEP_BYTES).unwrap();
        first.take(1).unwrap();
        first.take(STEP_BYTES - 1).unwrap(); // fills the second step
        let mut second = admission.events_memory();
        second.take(2 * STEP_BYTES).unwrap();
        assert_eq!(second.take(1).unwrap_err().code, ErrorCode::Overloaded);
        drop(first);
        second.take(1).unwrap();
    }

    #[test]
    fn calls_beyond_the_limit_are_refused_at_once() {
        let admission = Admission::new(1, 0, 0, 1);
        let first = admission.events().unwrap();
        assert_eq!(admission.events().unwrap_err().code, ErrorCode::Overloaded);
        drop(first);
        assert!(admission.events().is_ok());
    }
}
