//! The lander: moves events, decisions and outcomes into the lake, in batches by size and age, each exactly once.

use std::sync::Arc;

use tidemill_core::Offset;
use tidemill_store::StoreError;
use tokio::runtime::Handle;

use crate::background::work_on;
use crate::project_loop::{CycleError, ProjectLoop};

/// How many decisions or outcomes land in one commit.
const LAND_DECISIONS: usize = 20_000;
/// How many batches of events may wait before landing gets a share of the processors of its own.
const BEHIND_BATCHES: u64 = 2;
/// How many decisions are forgotten at a time.
const FORGET: usize = 10_000;

impl ProjectLoop {
    /// Lands what is due by size or age, or everything; returns the last event that has landed.
    ///
    /// # Errors
    /// When a store fails; what has landed stays landed, the rest is tried again.
    pub async fn land(self: &Arc<Self>, everything: bool) -> Result<Offset, CycleError> {
        let one_at_a_time = self.landing.clone().lock_owned().await;
        let name = &self.project.name;
        let landed = self.stores.lake.events_snapshot(name).await?.last;
        let last = self.stores.log.last(name)?;
        let this = self.clone();
        let landing = async move {
            // it goes on when the caller has gone, and so does its turn
            let _one_at_a_time = one_at_a_time;
            this.land_between(landed, last, everything).await
        };
        work_on(&self.where_to_land(last.0 - landed.0), landing).await
    }

    /// Writing tables takes a processor for tenths of a second, which nobody waits for: it takes what is left, unless that has not
    /// been enough. The log must not grow without end.
    fn where_to_land(&self, waiting: u64) -> Handle {
        let keeps_up = waiting <= BEHIND_BATCHES * self.options.landing_events as u64;
        if keeps_up && !self.clock.is_virtual() {
            self.training.idle()
        } else {
            self.background()
        }
    }

    async fn land_between(
        self: &Arc<Self>,
        mut landed: Offset,
        last: Offset,
        everything: bool,
    ) -> Result<Offset, CycleError> {
        let name = &self.project.name;
        if last > landed && (everything || self.is_due(landed, last)?) {
            while landed < last {
                let events = self.read_log(landed).await?;
                if events.is_empty() {
                    break;
                }
                landed = self.stores.lake.land_events(name, &events).await?;
            }
            self.land_answers().await?;
            self.forget_landed(landed)?;
        } else if everything {
            self.land_answers().await?;
        }
        Ok(landed)
    }

    fn is_due(&self, landed: Offset, last: Offset) -> Result<bool, StoreError> {
        if last.0 - landed.0 >= self.options.landing_events as u64 {
            return Ok(true);
        }
        let oldest = self.stores.log.read(&self.project.name, landed, 1)?;
        let now = self.clock.now();
        Ok(oldest
            .first()
            .is_some_and(|event| now.since(event.event.received_at) >= self.options.landing_age))
    }

    async fn read_log(
        self: &Arc<Self>,
        after: Offset,
    ) -> Result<Vec<tidemill_store::LoggedEvent>, CycleError> {
        let this = self.clone();
        let limit = self.options.landing_events;
        tokio::task::spawn_blocking(move || this.stores.log.read(&this.project.name, after, limit))
            .await
            .map_err(|_| CycleError::Ended("reading the log"))?
            .map_err(CycleError::from)
    }

    async fn land_answers(self: &Arc<Self>) -> Result<(), CycleError> {
        let name = &self.project.name;
        let mut landed = self.stores.lake.decisions_landed(name).await?;
        // what is answered meanwhile lands next time: under load there would be no end
        let last = self.decisions.last();
        while landed < last {
            let decisions = self.decisions.read(landed, LAND_DECISIONS)?;
            if decisions.is_empty() {
                break;
            }
            landed = self.stores.lake.land_decisions(name, &decisions).await?;
        }
        let keep_from = landed.saturating_sub(self.options.decisions_keep);
        if keep_from > 0 {
            self.count_answers().await?;
            let done = self.answers.commit()?.min(self.joiner.cursor().decision);
            while self.decisions.forget(keep_from.min(done), FORGET)? == FORGET {}
        }

        let mut landed = self.stores.lake.outcomes_landed(name).await?;
        let last = self.joiner.cursor().outcome;
        while landed < last {
            let outcomes = self.joiner.unlanded(landed, LAND_DECISIONS)?;
            if outcomes.is_empty() {
                break;
            }
            landed = self.stores.lake.land_outcomes(name, &outcomes).await?;
        }
        self.joiner.landed(landed)?;
        Ok(())
    }

    /// Lets the log forget what has landed, been applied and been joined, all durably.
    fn forget_landed(&self, landed: Offset) -> Result<(), CycleError> {
        let done = landed
            .min(self.engine().applied())
            .min(self.joiner.cursor().offset)
            .min(self.data.applied());
        let up_to = Offset(done.0.saturating_sub(self.options.log_keep_events));
        if up_to == Offset::ZERO {
            return Ok(());
        }
        let committed = self.commit()?;
        self.stores
            .log
            .truncate(&self.project.name, up_to.min(committed))?;
        Ok(())
    }
}
