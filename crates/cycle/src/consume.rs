//! The consumer: every event of the log goes through the feature engine, the outcome joiner and the watch of the data, once and
//! in order.

use std::sync::Arc;

use tidemill_core::{ModelName, Offset, Span};
use tidemill_monitor::MonitorError;
use tidemill_store::{LoggedEvent, StoreError};

use crate::project_loop::{CONSUME_EVENTS, CycleError, Feeding, ProjectLoop};

/// How many decisions are opened at a time.
const OPEN_DECISIONS: usize = 1_000;
/// How often horizons are looked at.
const EXPIRE_EVERY: Span = Span::from_seconds(1);

impl ProjectLoop {
    /// Applies everything that is in the log now.
    ///
    /// # Errors
    /// When a store or the engine fails; what was applied stays applied.
    pub async fn catch_up(self: &Arc<Self>) -> Result<(), CycleError> {
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            while this.step()? > 0 {}
            Ok(())
        })
        .await
        .map_err(|_| CycleError::Ended("the consumer"))?
    }

    /// Applies the next events and returns how much there was to do; 0 at the end of the log.
    pub(crate) fn step(&self) -> Result<usize, CycleError> {
        let mut feeding = self.feeding.lock();
        let engine = self.engine();
        let before = engine.applied();
        let after = before
            .min(self.joiner.cursor().offset)
            .min(self.data.applied());
        let events = self
            .stores
            .log
            .read(&self.project.name, after, CONSUME_EVENTS)?;
        engine.apply(&events)?;
        for logged in events.iter().filter(|logged| logged.offset > before) {
            self.catalogue.apply(&logged.event);
        }
        self.observe_fresh(&events, before)?;
        self.join(&events)?;
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
        Ok(events.len() + self.catch_up_fresh()?)
    }

    /// Opens new decisions and joins them with events.
    fn join(&self, events: &[LoggedEvent]) -> Result<(), MonitorError> {
        let engine = self.engine();
        let between = |after: Offset, up_to: Offset| self.logged_between(after, up_to);
        loop {
            let cursor = self.joiner.cursor();
            if cursor.decision >= self.decisions.last() {
                break;
            }
            let decisions = self.decisions.read(cursor.decision, OPEN_DECISIONS)?;
            if decisions.is_empty() {
                break;
            }
            let popular = |model: &ModelName| match self.registry.recommender(model) {
                Some(slot) => slot.popular(),
                None => Arc::default(),
            };
            self.joiner
                .advance(&decisions, &[], &engine, &between, &popular)?;
        }
        if events.is_empty() {
            return Ok(());
        }
        let popular = |_: &ModelName| Arc::default(); // no decision is opened
        self.joiner
            .advance(&[], events, &engine, &between, &popular)
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
