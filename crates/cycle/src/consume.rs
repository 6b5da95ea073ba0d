//! The consumer: every event of the log goes through the feature engine, the outcome joiner and the watch of the data, once and
//! in order.

use std::sync::Arc;
use std::time::Duration;

use tidemill_core::{ModelName, Offset, Span};
use tidemill_monitor::MonitorError;
use tidemill_store::{LoggedEvent, StoreError};

use crate::project_loop::{CONSUME_EVENTS, CycleError, Feeding, ProjectLoop};

/// How much is read at a time.
#[derive(Debug, Clone, Copy)]
struct Bite {
    events: usize,
    decisions: usize,
}

/// What has the least to do for each event: for who waits for nothing else.
const LARGE: Bite = Bite {
    events: CONSUME_EVENTS,
    decisions: 1_000,
};
/// What takes less than a millisecond: a thread that answers may have to wait for so long until it gets the processor, and for the
/// lock of the store.
const SMALL: Bite = Bite {
    events: 64,
    decisions: 8,
};
/// How long the processor is left to others between small bites; as good as whatever the system's timers make of it.
const BETWEEN: Duration = Duration::from_micros(50);
/// How many events may wait before large bites are taken. Who is so far behind answers from old features anyway.
const FAR_BEHIND: u64 = 4_096;
/// How often horizons are looked at.
const EXPIRE_EVERY: Span = Span::from_seconds(1);

impl ProjectLoop {
    /// Applies everything that is in the log now; what was applied stays applied. On the real clock and not far behind it takes small
    /// bites, between which those who answer get the processor.
    ///
    /// # Errors
    /// When a store or the engine fails.
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), CycleError> {
        let this = self.clone();
        let work = move || {
            loop {
                let large = this.clock.is_virtual() || this.is_far_behind()?;
                if this.step(if large { LARGE } else { SMALL })? == 0 {
                    return Ok(());
                }
                if !large {
                    leave_the_processor();
                }
            }
        };
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| CycleError::Ended("the consumer"))?
    }

    fn is_far_behind(&self) -> Result<bool, StoreError> {
        let last = self.stores.log.last(&self.project.name)?;
        Ok(last.0.saturating_sub(self.engine().applied().0) > FAR_BEHIND)
    }

    /// Applies the next events and returns how much there was to do; 0 at the end of the log.
    fn step(&self, bite: Bite) -> Result<usize, CycleError> {
        let mut feeding = self.feeding.lock();
        let engine = self.engine();
        let before = engine.applied();
        let after = before
            .min(self.joiner.cursor().offset)
            .min(self.data.applied());
        let events = self
            .stores
            .log
            .read(&self.project.name, after, bite.events)?;
        engine.apply(&events)?;
        for logged in events.iter().filter(|logged| logged.offset > before) {
            self.catalogue.apply(&logged.event);
        }
        self.observe_fresh(&events, before)?;
        let opened = self.join(&events, bite.decisions)?;
        self.data.apply(&events)?;
        self.applied.send_replace(engine.applied());
        feeding.uncommitted += events.len();
        if feeding.uncommitted >= self.options.commit_events {
            engine.commit()?;
            feeding.uncommitted = 0;
        }
        if events.is_empty() {
            self.idle(&mut feeding)?;
        }
        Ok(events.len() + opened + self.catch_up_fresh()?)
    }

    /// Opens the next decisions, up to `limit`. Once all are open it joins them with events; until then the events come again.
    /// Returns how many it opened.
    fn join(&self, events: &[LoggedEvent], limit: usize) -> Result<usize, MonitorError> {
        let engine = self.engine();
        let between = |after: Offset, up_to: Offset| self.logged_between(after, up_to);
        let after = self.joiner.cursor().decision;
        let last = self.decisions.last();
        let decisions = if after < last {
            self.decisions.read(after, limit)?
        } else {
            Vec::new()
        };
        let all_open = decisions
            .last()
            .is_none_or(|decision| decision.sequence >= last);
        let popular = |model: &ModelName| match self.registry.recommender(model) {
            Some(slot) => slot.popular(),
            None => Arc::default(),
        };
        let events = if all_open { events } else { &[] };
        if !(decisions.is_empty() && events.is_empty()) {
            self.joiner
                .advance(&decisions, events, &engine, &between, &popular)?;
        }
        Ok(decisions.len())
    }

    fn logged_between(&self, after: Offset, up_to: Offset) -> Result<Vec<LoggedEvent>, StoreError> {
        let count = usize::try_from(up_to.0.saturating_sub(after.0)).unwrap_or(usize::MAX);
        self.stores
            .log
            .read(&self.project.name, after, count.min(100_000))
    }

    /// At the end of the log: what only passing time brings about.
    fn idle(&self, feeding: &mut Feeding) -> Result<(), CycleError> {
        let now = self.clock.now();
        if now.since(feeding.expired_at) >= EXPIRE_EVERY || self.clock.is_virtual() {
            self.joiner.expire(now)?;
            feeding.expired_at = now;
        }
        if feeding.uncommitted > 0 && !self.clock.is_virtual() {
            self.engine().commit()?;
            feeding.uncommitted = 0;
        }
        if !self.clock.is_virtual() {
            self.data.commit_if_due(now)?;
        }
        Ok(())
    }

    /// Commits what was applied and makes it durable: before the process ends, and before the log forgets.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn commit(&self) -> Result<Offset, CycleError> {
        let mut feeding = self.feeding.lock();
        let committed = self.engine().commit()?;
        feeding.uncommitted = 0;
        let counted = self.data.commit()?;
        self.answers.commit()?;
        self.stores.state.flush()?;
        Ok(committed.min(counted))
    }
}

/// To whoever waits for it.
#[expect(
    clippy::disallowed_methods,
    reason = "it waits for nothing; yielding would give it to threads that only take what is left"
)]
fn leave_the_processor() {
    std::thread::sleep(BETWEEN);
}
