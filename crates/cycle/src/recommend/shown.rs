//! The lists that people were shown: those whose outcome is waited for, and the newest ones that nobody waits for yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidemill_core::event::PersonKey;
use tidemill_core::{DecisionId, ModelName, Timestamp};
use tidemill_monitor::{MonitorError, OutcomeJoiner};
use tidemill_serve::DecisionLog;
use tidemill_serve::recommend::ShownLately;
use tidemill_store::StoreError;

/// Decisions that were given so lately that the joiner has not opened them; more are not looked at.
const NEWEST_MAX: usize = 10_000;

/// See the module.
pub(crate) struct Shown {
    pub(crate) joiner: Arc<OutcomeJoiner>,
    pub(crate) decisions: Arc<DecisionLog>,
}

impl ShownLately for Shown {
    fn shown(
        &self,
        person: &PersonKey,
        model: &ModelName,
        since: Timestamp,
    ) -> Result<HashMap<String, u32>, StoreError> {
        // in this order: what is opened between the two reads is seen twice rather than not at all, and counted once
        let opened = self.joiner.cursor().decision;
        let mut lists: BTreeMap<DecisionId, Vec<String>> = BTreeMap::new();
        if opened < self.decisions.last() {
            for newest in self.decisions.read(opened, NEWEST_MAX)? {
                let decision = newest.value;
                let is_one = decision.model == *model
                    && decision.entity == person.as_str()
                    && decision.moment >= since
                    && !decision.given;
                if is_one {
                    let items = decision.items.into_iter().map(|shown| shown.item);
                    lists.insert(decision.id, items.collect());
                }
            }
        }
        let open = self.joiner.shown(person, model, since);
        lists.extend(open.map_err(|error| match error {
            MonitorError::Store(error) => error,
            other => StoreError::corrupt("the lists that were shown", other),
        })?);
        let mut counts = HashMap::new();
        for item in lists.into_values().flatten() {
            *counts.entry(item).or_insert(0) += 1;
        }
        Ok(counts)
    }
}
