//! What was sent and was no event, tried again.

use tidemill_collect::{Intake, IntakeError, ReplayedQuarantine};
use tidemill_store::catalog::AuditEntry;

use crate::project_loop::ProjectLoop;

impl ProjectLoop {
    /// Tries all that is in quarantine again, and writes into the audit log who asked and what came of it.
    ///
    /// # Errors
    /// When a store fails; what was replayed until then stays so.
    pub async fn replay_quarantine(
        &self,
        intake: &Intake,
        actor: &str,
    ) -> Result<ReplayedQuarantine, IntakeError> {
        let replayed = intake.replay_quarantine(&self.project).await?;
        let audit = AuditEntry {
            at: self.clock.now(),
            project: Some(self.project.name.clone()),
            actor: actor.to_owned(),
            action: "replay_quarantine".to_owned(),
            subject: "the quarantine".to_owned(),
            reason: format!("{} became events", replayed.accepted),
        };
        self.stores.catalog.audit(audit).await?;
        Ok(replayed)
    }
}
