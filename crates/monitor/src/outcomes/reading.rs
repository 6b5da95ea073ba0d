//! What became of decisions, for those who read it, and what is removed again.

use std::collections::HashSet;
use std::ops::ControlFlow;

use tidemill_core::event::PersonKey;
use tidemill_core::{Decision, DecisionId, ModelName, Outcome, Timestamp};
use tidemill_store::StateBatch;
use tidemill_store::lake::Sequenced;

use super::follow::Open;
use super::keys::{due_key, open_key, open_prefix, outcome_key, outcome_prefix, sequence_of};
use super::{
    DUE, MonitorError, OPEN, OUTCOMES, OutcomeJoiner, PAGE, SHOWN_MAX, Step, UNLANDED, decode,
};

impl OutcomeJoiner {
    /// Up to `limit` outcomes after a place in the order in which they became certain.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn unlanded(
        &self,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Sequenced<Outcome>>, MonitorError> {
        let entries = self.state.scan(
            &self.project,
            UNLANDED,
            &[],
            Some(&after.to_be_bytes()),
            limit,
        )?;
        let mut outcomes = Vec::with_capacity(entries.len());
        for (place, key) in entries {
            if let Some(bytes) = self.state.get(&self.project, OUTCOMES, &key)? {
                outcomes.push(Sequenced {
                    sequence: sequence_of(&place),
                    value: decode("an outcome", &bytes)?,
                });
            }
        }
        Ok(outcomes)
    }

    /// Notes that the outcomes up to and including a place have landed.
    ///
    /// # Errors
    /// When the state store fails.
    pub fn landed(&self, up_to: u64) -> Result<(), MonitorError> {
        loop {
            let after = self.inner.lock().landed;
            let page = self.state.scan(
                &self.project,
                UNLANDED,
                &[],
                Some(&after.to_be_bytes()),
                PAGE,
            )?;
            let mut batch = StateBatch::default();
            let mut last = after;
            for (key, _) in page.iter().take_while(|(key, _)| sequence_of(key) <= up_to) {
                batch.remove(UNLANDED, key.clone());
                last = sequence_of(key);
            }
            if batch.is_empty() {
                return Ok(());
            }
            self.state.commit(&self.project, batch)?;
            self.inner.lock().landed = last;
        }
    }

    /// The outcomes of a model's decisions made in `[from, until)`, in the order of the decisions; at most `limit`.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn outcomes(
        &self,
        model: &ModelName,
        from: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Outcome>, MonitorError> {
        let mut outcomes = Vec::new();
        self.visit(model, from, |outcome| {
            if outcome.moment >= until || outcomes.len() == limit {
                return ControlFlow::Break(());
            }
            outcomes.push(outcome);
            ControlFlow::Continue(())
        })?;
        Ok(outcomes)
    }

    /// Removes what is open and what became of decisions about some persons. Call it while nothing else goes on with this joiner;
    /// outcomes must have landed.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn erase(&self, keys: &HashSet<String>) -> Result<(), MonitorError> {
        let mut inner = self.inner.lock();
        let mut batch = StateBatch::default();
        for person in keys {
            let mut step = Step::default();
            self.load(person, &mut step)?;
            for (sequence, open) in step.loaded.remove(person).unwrap_or_default() {
                batch.remove(OPEN, open_key(person, sequence));
                if let Some(follow) = self.followed.get(&open.model) {
                    batch.remove(DUE, due_key(open.moment + follow.within(), sequence));
                }
            }
        }
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .state
                .scan(&self.project, OUTCOMES, &[], after.as_deref(), PAGE)?;
            for (key, value) in &page {
                let outcome: Outcome = decode("an outcome", value)?;
                if keys.contains(&outcome.entity) {
                    batch.remove(OUTCOMES, key.clone());
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => break,
            }
        }
        self.state.commit(&self.project, batch)?;
        inner.people.retain(|person, _| !keys.contains(person));
        Ok(())
    }

    /// The lists of a model that a person was shown since a moment, as far as their horizon has not passed, out of the newest
    /// [`SHOWN_MAX`] decisions about them.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn shown(
        &self,
        person: &PersonKey,
        model: &ModelName,
        since: Timestamp,
    ) -> Result<Vec<(DecisionId, Vec<String>)>, MonitorError> {
        let (prefix, mut after) = (open_prefix(person.as_str()), None);
        let mut newest: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        loop {
            let page = self
                .state
                .scan(&self.project, OPEN, &prefix, after.as_deref(), PAGE)?;
            let full = page.len() == PAGE;
            newest.extend(page);
            newest.drain(..newest.len().saturating_sub(SHOWN_MAX));
            after = newest.last().map(|(key, _)| key.clone());
            if !full {
                break;
            }
        }
        let mut lists = Vec::new();
        for (_, value) in newest {
            let open: Open = decode("an open decision", &value)?;
            if open.model == *model && open.moment >= since {
                lists.push((open.id, open.into_shown()));
            }
        }
        Ok(lists)
    }

    /// The outcome of one decision, once it is certain.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn outcome(&self, decision: &Decision) -> Result<Option<Outcome>, MonitorError> {
        let mut found = None;
        self.visit(&decision.model, decision.moment, |outcome| {
            if outcome.moment > decision.moment {
                return ControlFlow::Break(());
            }
            if outcome.decision == decision.id {
                found = Some(outcome);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// Shows a model's outcomes one after the other, from those of decisions made at `from` on, until told to stop.
    ///
    /// # Errors
    /// When the state store fails or an entry is damaged.
    pub fn visit(
        &self,
        model: &ModelName,
        from: Timestamp,
        mut show: impl FnMut(Outcome) -> ControlFlow<()>,
    ) -> Result<(), MonitorError> {
        let prefix = outcome_prefix(model);
        let mut after = outcome_key(model, from, 0);
        loop {
            let page = self
                .state
                .scan(&self.project, OUTCOMES, &prefix, Some(&after), PAGE)?;
            for (_, value) in &page {
                if show(decode("an outcome", value)?).is_break() {
                    return Ok(());
                }
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after.clone_from(last),
                _ => return Ok(()),
            }
        }
    }
}
