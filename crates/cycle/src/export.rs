//! Everything that is stored about a person, for them to have.

use std::sync::Arc;

use serde::Serialize;
use tidemill_core::event::PersonKey;
use tidemill_core::feature::{FeatureColumn, FeatureValue};
use tidemill_core::{Decision, Event, Offset, Outcome, Timestamp};
use tidemill_store::LoggedEvent;
use tidemill_store::lake::About;

use crate::project_loop::{CycleError, ProjectLoop};

/// At most so many events, decisions and outcomes each.
const EXPORTED_MAX: usize = 200_000;

/// Everything about a person.
#[derive(Debug, Clone, Serialize)]
pub struct ExportedPerson {
    /// All ids that they are known by.
    pub ids: Vec<PersonKey>,
    /// When this was true.
    pub moment: Timestamp,
    /// Whether the lists below are all of it: there is a limit to what can be exported at one time.
    pub complete: bool,
    /// What is known of them now.
    pub features: Vec<KnownFeature>,
    /// What they did, oldest first.
    pub events: Vec<PlacedEvent>,
    /// What was answered about them.
    pub decisions: Vec<Decision>,
    /// What became of that.
    pub outcomes: Vec<Outcome>,
}

/// A feature and its value.
#[derive(Debug, Clone, Serialize)]
pub struct KnownFeature {
    /// Which.
    #[serde(flatten)]
    pub column: FeatureColumn,
    /// Its value now.
    pub value: FeatureValue,
}

/// An event and its place in the log.
#[derive(Debug, Clone, Serialize)]
pub struct PlacedEvent {
    /// The place.
    pub offset: Offset,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

impl From<LoggedEvent> for PlacedEvent {
    fn from(LoggedEvent { offset, event }: LoggedEvent) -> Self {
        Self { offset, event }
    }
}

impl ProjectLoop {
    /// Gathers everything that is stored about a person, by any of their ids. What has arrived is landed first. It is noted in the audit
    /// log, without the id.
    ///
    /// # Errors
    /// When nothing is known of such a person, or a store fails.
    pub async fn export(
        self: &Arc<Self>,
        person: &PersonKey,
        actor: &str,
    ) -> Result<ExportedPerson, CycleError> {
        let moment = self.clock.now();
        self.audit(actor, ("export", "a person"), "").await?;
        self.catch_up().await?;
        self.commit()?;
        let engine = self.engine();
        let ids = engine.keys_of(person)?;
        let row = engine.read_all(person, moment)?;
        self.land(true).await?;
        let lake = &self.stores.lake;
        let about = lake.about(&self.project.name, &ids, EXPORTED_MAX).await?;
        if !row.known && about == About::default() {
            return Err(CycleError::UnknownPerson);
        }
        let About {
            events,
            decisions,
            outcomes,
        } = about;
        let longest = events.len().max(decisions.len()).max(outcomes.len());
        let features = engine.set().columns().iter().cloned().zip(row.values);
        Ok(ExportedPerson {
            ids,
            moment,
            complete: longest < EXPORTED_MAX,
            features: features
                .map(|(column, value)| KnownFeature { column, value })
                .collect(),
            events: events.into_iter().map(PlacedEvent::from).collect(),
            decisions,
            outcomes,
        })
    }
}
