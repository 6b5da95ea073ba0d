//! The audit log: who did what, to what, and why.

use tidemill_store::StoreError;
use tidemill_store::catalog::AuditEntry;

use crate::project_loop::ProjectLoop;

impl ProjectLoop {
    /// An entry as of now, for what writes it together with something else.
    pub(crate) fn audit_entry(
        &self,
        actor: &str,
        (action, subject): (impl Into<String>, impl Into<String>),
        reason: impl Into<String>,
    ) -> AuditEntry {
        AuditEntry {
            at: self.clock.now(),
            project: Some(self.project.name.clone()),
            actor: actor.to_owned(),
            action: action.into(),
            subject: subject.into(),
            reason: reason.into(),
        }
    }

    /// Writes an entry.
    ///
    /// # Errors
    /// When the catalog fails.
    pub async fn audit(
        &self,
        actor: &str,
        did: (impl Into<String>, impl Into<String>),
        reason: impl Into<String>,
    ) -> Result<(), StoreError> {
        let entry = self.audit_entry(actor, did, reason);
        self.stores.catalog.audit(entry).await
    }
}
