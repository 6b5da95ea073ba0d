//! Changing which version answers: by the gate, or by a person, always with an entry in the audit log.

use tidemill_core::ModelName;
use tidemill_serve::recommend::RecommendSlot;
use tidemill_serve::registry::Slot;

use crate::project_loop::{CycleError, ProjectLoop};

/// Who acts when nobody does.
pub const SYSTEM: &str = "system";
/// How far back a rollback looks for a version that answered before.
const CHAMPIONS_MAX: u32 = 100;

impl ProjectLoop {
    /// Makes a version the champion.
    ///
    /// # Errors
    /// When there is no such version; when the gate refused it and `override_gate` is not set or no reason is given;
    /// when its artifact cannot be activated (the present champion then stays).
    pub async fn promote(
        &self,
        model: &ModelName,
        number: u32,
        actor: &str,
        reason: &str,
        override_gate: bool,
    ) -> Result<(), CycleError> {
        self.check_model(model)?;
        let _one_at_a_time = self.rollouts.changing.lock().await;
        let version = self.version(model, number).await?;
        if !version.passed && !override_gate {
            return Err(CycleError::NotAllowed(format!(
                "the gate refused {model}@{number}; to promote it all the same, override the gate and give a reason"
            )));
        }
        if !version.passed && reason.trim().is_empty() {
            return Err(CycleError::NotAllowed(format!(
                "overriding the gate for {model}@{number} needs a reason"
            )));
        }
        let action = if version.passed {
            "promote"
        } else {
            "promote against the gate"
        };
        self.change_champion(model, Some(number), actor, action, reason)
            .await?;
        let said = format!("{model}@{number} was promoted: {reason}");
        self.end_rollout(model, Some(number), actor, &said).await?;
        Ok(())
    }

    /// Returns to the version that answered before the present one; to the fallback where there was none. While a version takes
    /// over it is that one that is sent back, and the champion stays.
    ///
    /// # Errors
    /// When the model answers with its fallback already, or the earlier version cannot be activated.
    pub async fn rollback(
        &self,
        model: &ModelName,
        actor: &str,
        reason: &str,
    ) -> Result<Option<u32>, CycleError> {
        self.check_model(model)?;
        let _one_at_a_time = self.rollouts.changing.lock().await;
        if self.end_rollout(model, None, actor, reason).await? {
            return Ok(self.place(model)?.champion());
        }
        let history = self
            .stores
            .catalog
            .champions(&self.project.name, model, CHAMPIONS_MAX)
            .await?;
        let Some(present) = history.first().and_then(|(_, number)| *number) else {
            return Err(CycleError::NotAllowed(format!(
                "{model} has no champion to roll back"
            )));
        };
        // versions that were rolled back themselves are younger than what they were rolled back to
        let earlier = history
            .iter()
            .filter_map(|(_, number)| *number)
            .find(|number| *number < present);
        self.change_champion(model, earlier, actor, "rollback", reason)
            .await?;
        Ok(earlier)
    }

    /// That there is such a model, of any kind.
    ///
    /// # Errors
    /// When there is none with that name.
    pub(crate) fn check_model(&self, model: &ModelName) -> Result<(), CycleError> {
        self.place(model).map(drop)
    }

    pub(crate) async fn change_champion(
        &self,
        model: &ModelName,
        number: Option<u32>,
        actor: &str,
        action: &str,
        reason: &str,
    ) -> Result<(), CycleError> {
        let recommender = self.registry.recommender(model);
        let before = recommender.map(RecommendSlot::champion);
        let predicting = self.registry.slot(model).map(Slot::champion);
        // activating proves the artifact first: the catalog never names a champion that cannot answer
        self.activate(model, number).await?;
        let subject = number.map_or_else(
            || format!("{model} fallback"),
            |number| format!("{model}@{number}"),
        );
        let audit = self.audit_entry(actor, (action, subject), reason);
        let recorded = self
            .stores
            .catalog
            .set_champion(&self.project.name, model, number, audit)
            .await;
        if recorded.is_err() {
            if let (Some(slot), Some(before)) = (recommender, before) {
                slot.set_champion(before);
            }
            if let (Some(slot), Some(before)) = (self.registry.slot(model), predicting) {
                slot.set_champion(before);
            }
        }
        Ok(recorded?)
    }
}
