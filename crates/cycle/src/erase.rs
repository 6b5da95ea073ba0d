//! Erasing a person: nothing that they did, or that was said about them, is left, and nothing that is learnt or answered from then on
//! knows of it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use tidemill_core::event::PersonKey;
use tidemill_store::catalog::AuditEntry;
use tidemill_store::lake::Erased;

use crate::project_loop::{CycleError, ProjectLoop};

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ErasedPerson {
    /// The ids under which the person was known.
    pub ids: usize,
    /// What was removed from the lake.
    #[serde(flatten)]
    pub erased: Erased,
}

impl ProjectLoop {
    /// Erases a person, by any of their ids. Everything that arrived before is removed from the lake, the log and the state; the states
    /// of features are made anew from what is left, so that items and totals forget them too. Versions that learnt from them go on until
    /// the next ones; they hold no ids. What arrives later begins a new history.
    ///
    /// # Errors
    /// When nothing is known of such a person, or a store fails: ask again then; what is gone already stays gone.
    pub async fn erase(
        self: &Arc<Self>,
        person: &PersonKey,
        actor: &str,
        reason: &str,
    ) -> Result<ErasedPerson, CycleError> {
        let (this, person) = (self.clone(), person.clone());
        let (actor, reason) = (actor.to_owned(), reason.to_owned());
        self.beside(async move {
            let _one_at_a_time = this.running.lock().await;
            this.stores
                .catalog
                .audit(AuditEntry {
                    at: this.clock.now(),
                    project: Some(this.project.name.clone()),
                    actor,
                    action: "erase".to_owned(),
                    subject: "a person".to_owned(),
                    reason,
                })
                .await?;
            this.catch_up().await?;
            this.commit()?;
            let engine = this.engine();
            let known = engine.read_all(&person, this.clock.now())?.known;
            let keys = engine.keys_of(&person)?;
            let landed = this.land(true).await?;
            let erased = this.stores.lake.erase(&this.project.name, &keys).await?;
            if !known && erased == Erased::default() {
                return Err(CycleError::UnknownPerson);
            }
            let names: HashSet<String> = keys.iter().map(ToString::to_string).collect();
            {
                // the consumer waits
                let _feeding = this.feeding.lock();
                engine.forget_timeline(&keys)?;
                this.joiner.erase(&names)?;
                this.decisions.erase(&names)?;
            }
            let joined = this.joiner.cursor().offset;
            let up_to = landed.min(this.commit()?).min(joined);
            this.stores.log.truncate(&this.project.name, up_to)?;
            // answers that were given before cannot be read again as they were
            this.skip_consistency(this.decisions.last())?;
            this.rebuild(engine.set().clone()).await?;
            Ok(ErasedPerson {
                ids: keys.len(),
                erased,
            })
        })
        .await
    }
}
