//! Erasing a person: nothing that they did, or that was said about them, is left, and nothing that is learnt or answered from then on
//! knows of it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;
use tidemill_core::event::PersonKey;
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
    /// Pieces in quarantine that named them.
    pub quarantined: u64,
}

/// How many quarantined pieces are read in one step.
const PIECES_AT_ONCE: usize = 1_000;

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
            this.audit(&actor, ("erase", "a person"), reason).await?;
            this.catch_up().await?;
            this.commit()?;
            let engine = this.engine();
            let known = engine.read_all(&person, this.clock.now())?.known;
            let keys = engine.keys_of(&person)?;
            let landed = this.land(true).await?;
            let erased = this.stores.lake.erase(&this.project.name, &keys).await?;
            let quarantined = this.erase_quarantined(&keys)?;
            if !known && erased == Erased::default() && quarantined == 0 {
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
                quarantined,
            })
        })
        .await
    }

    fn erase_quarantined(&self, keys: &[PersonKey]) -> Result<u64, CycleError> {
        let (log, name) = (&self.stores.log, &self.project.name);
        let ids: HashSet<&str> = keys.iter().map(PersonKey::id).collect();
        let (mut before, mut forgotten) = (None, 0);
        loop {
            let pieces = log.quarantined(name, before, PIECES_AT_ONCE)?;
            let Some((oldest, _)) = pieces.last() else {
                return Ok(forgotten);
            };
            before = Some(*oldest);
            let theirs = pieces.iter().filter(|(_, piece)| names(&piece.body, &ids));
            let theirs: Vec<u64> = theirs.map(|(id, _)| *id).collect();
            forgotten += log.forget_quarantined(name, &theirs)?;
        }
    }
}

/// Where calls say who somebody is.
const IDENTITY: [&str; 6] = [
    "userId",
    "anonymousId",
    "previousId",
    "user_id",
    "anonymous_id",
    "previous_id",
];

/// Whether what was sent names one of some ids: where calls say it; as any value where nothing says who it is about, as in rows of
/// files; in quotes where it is no JSON.
fn names(body: &str, ids: &HashSet<&str>) -> bool {
    let Ok(value) = serde_json::from_str::<Value>(body) else {
        return ids.iter().any(|id| body.contains(&format!("\"{id}\"")));
    };
    let mut said = Vec::new();
    identities(&value, &mut said);
    if said.is_empty() {
        any(&value, &|value| is_one_of(value, ids))
    } else {
        said.iter().any(|value| is_one_of(value, ids))
    }
}

fn is_one_of(value: &Value, ids: &HashSet<&str>) -> bool {
    match value {
        Value::String(text) => ids.contains(text.as_str()),
        Value::Number(number) => ids.contains(number.to_string().as_str()),
        _ => false,
    }
}

fn identities<'v>(value: &'v Value, said: &mut Vec<&'v Value>) {
    match value {
        Value::Array(values) => values.iter().for_each(|value| identities(value, said)),
        Value::Object(fields) => {
            for (name, value) in fields {
                if IDENTITY.contains(&name.as_str()) {
                    said.push(value);
                }
                identities(value, said);
            }
        }
        _ => {}
    }
}

fn any(value: &Value, holds: &dyn Fn(&Value) -> bool) -> bool {
    match value {
        Value::Array(values) => values.iter().any(|value| any(value, holds)),
        Value::Object(fields) => fields.values().any(|value| any(value, holds)),
        value => holds(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_that_name_a_person_are_told() {
        let ids = HashSet::from(["ada", "42"]);
        let check = |body: &str, expected: bool| assert_eq!(names(body, &ids), expected, "{body}");
        check(r#"{"userId": "ada"}"#, true);
        check(r#"{"userId": 42, "event": ""}"#, true);
        check(
            r#"{"userId": "bob", "properties": {"quantity": 42}}"#,
            false,
        );
        check(
            r#"{"userId": "bob", "context": {"anonymousId": "ada"}}"#,
            true,
        );
        check(r#"{"customer": "42", "total": "x"}"#, true);
        check(r#"{"userId": "adam", "ada": 1}"#, false);
        check(r#"{"userId": "ada", "ev"#, true);
        check("nothing of ada", false);
    }
}
