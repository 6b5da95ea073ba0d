//! Threads for what nobody waits for: landing, training, tidying up. They are apart from the threads that answer, and
//! give way to them, so that reading a lake or writing a table never stands between a question and its answer.

use std::future::Future;

use tidemill_store::priority::{BEHIND, give_way, take_what_is_left};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::project_loop::{CycleError, ProjectLoop};

/// Threads of lower priority. Dropping this lets them end on their own.
#[derive(Debug)]
pub struct Background {
    handle: Handle,
    /// There until it is dropped.
    runtime: Option<Runtime>,
}

impl Background {
    /// Starts `threads` threads.
    ///
    /// # Errors
    /// When the operating system gives none.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        // landing must go on under full load, or the log would grow without end
        Self::start_as("background", threads, || give_way(BEHIND))
    }

    /// Starts `threads` threads that only take what nobody else wants: for work that holds nothing that others wait for.
    pub(crate) fn start_idle(threads: usize) -> std::io::Result<Self> {
        Self::start_as("idle", threads, take_what_is_left)
    }

    fn start_as(name: &str, threads: usize, on_start: fn()) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .on_thread_start(on_start)
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// How others give work to the threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // an ordinary drop waits for the threads, which a task of another runtime must not
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does work on threads. It goes on when the caller has gone.
///
/// # Errors
/// As the work, and when it panics.
pub(crate) async fn work_on<T: Send + 'static>(
    threads: &Handle,
    work: impl Future<Output = Result<T, CycleError>> + Send + 'static,
) -> Result<T, CycleError> {
    let done = threads.spawn(work).await;
    done.map_err(|_| CycleError::Ended("work on other threads"))?
}

impl ProjectLoop {
    /// The threads for what nobody waits for; the caller's, where there are none of their own.
    pub(crate) fn background(&self) -> Handle {
        let own = self.options.background.clone();
        own.unwrap_or_else(Handle::current)
    }

    /// Does work on those threads. It goes on when the caller has gone.
    pub(crate) async fn beside<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CycleError>> + Send + 'static,
    ) -> Result<T, CycleError> {
        work_on(&self.background(), work).await
    }

    /// Does work in what is left of the processors. It may take long, so it must not hold what others wait for.
    pub(crate) async fn in_spare_time<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, CycleError>> + Send + 'static,
    ) -> Result<T, CycleError> {
        work_on(&self.training.idle(), work).await
    }
}
