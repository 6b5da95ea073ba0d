//! Why one piece cannot become an event.

use serde::{Deserialize, Serialize};
use tidemill_core::Timestamp;
use tidemill_store::{QuarantineReason, Quarantined};

/// Why one piece cannot become an event: the typed reason, and a sentence that names the field and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rejection {
    pub(crate) reason: QuarantineReason,
    pub(crate) detail: String,
}

impl Rejection {
    pub(crate) fn new(reason: QuarantineReason, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }

    pub(crate) fn unreadable(detail: impl Into<String>) -> Self {
        Self::new(QuarantineReason::Unreadable, detail)
    }

    pub(crate) fn missing(detail: impl Into<String>) -> Self {
        Self::new(QuarantineReason::MissingField, detail)
    }

    pub(crate) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(QuarantineReason::InvalidField, detail)
    }

    pub(crate) fn time(detail: impl Into<String>) -> Self {
        Self::new(QuarantineReason::BadTime, detail)
    }

    pub(crate) fn too_large(bytes: usize, bytes_max: usize) -> Self {
        let detail = format!(
            "{bytes} bytes, an event may have {bytes_max}: send less in properties, or split it"
        );
        Self::new(QuarantineReason::TooLarge, detail)
    }

    /// The piece as it is kept.
    pub(crate) fn quarantine(
        self,
        body: impl Into<String>,
        source: &str,
        received_at: Timestamp,
    ) -> Quarantined {
        Quarantined {
            body: body.into(),
            reason: self.reason,
            detail: self.detail,
            source: source.to_owned(),
            received_at,
        }
    }
}
