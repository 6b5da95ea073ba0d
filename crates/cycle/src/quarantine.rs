//! What was sent and was no event, tried again.

use tidemill_collect::{Intake, IntakeError, ReplayedQuarantine};

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
        let what = ("replay_quarantine", "the quarantine");
        let reason = format!("{} became events", replayed.accepted);
        self.audit(actor, what, reason).await?;
        Ok(replayed)
    }
}
