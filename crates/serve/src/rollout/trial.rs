//! How one question went for a version that takes over.

use std::sync::Arc;

use tidemill_core::Decision;
use tidemill_core::decision::RolloutArm;

use super::{Challenger, Version};
use crate::registry::Failure;

/// What is to be noted of a question that was asked while a version takes over.
pub(crate) struct Trial<V: Version> {
    pub(crate) challenger: Arc<Challenger<V>>,
    /// How long the answer took that is compared, in microseconds.
    pub(crate) latency_us: u64,
    pub(crate) failure: Option<Failure>,
}

impl<V: Version> Trial<V> {
    /// Nothing has happened yet.
    pub(crate) fn new(challenger: Arc<Challenger<V>>) -> Self {
        Self {
            challenger,
            latency_us: 0,
            failure: None,
        }
    }

    /// Notes how it went; nothing of those who stand nowhere.
    pub(crate) fn note(&self, decision: &Decision) {
        let Some(arm) = decision.arm else {
            return;
        };
        let (tally, person) = (&self.challenger.tally, decision.entity.as_str());
        let read = match arm {
            RolloutArm::Challenger => &decision.features[..],
            RolloutArm::Control => &[],
        };
        match &self.failure {
            Some(failure) => tally.failed(Some(person), self.latency_us, failure),
            None => tally.answered(arm, person, self.latency_us, read),
        }
    }

    /// Logs that the version failed, where it did.
    pub(crate) fn report_failure(&self, decision: &Decision) {
        if let Some(failure) = &self.failure {
            let (model, version) = (&decision.model, self.challenger.version.number());
            tracing::error!(%model, version, error = %failure, "the version that takes over failed: the champion answers");
        }
    }
}
