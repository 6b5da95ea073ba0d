//! One person: what they did, what is known about them, and what the models would say now.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use tidemill_core::decision::{ClassProbability, Fallback};
use tidemill_core::event::PersonKey;
use tidemill_core::{ModelName, Offset, Timestamp};
use tidemill_cycle::{ErasedPerson, ExportedPerson, KnownFeature, PlacedEvent, ProjectLoop};
use tidemill_learn::{Reason, Task};
use tidemill_serve::recommend::{RecommendSlot, RecommendedItem};
use tidemill_serve::registry::Slot;

use crate::app::App;
use crate::gate::Caller;
use crate::page::{InPath, InQuery};
use crate::problem::{ErrorCode, Problem};

/// How many events are shown where nobody says.
const EVENTS_DEFAULT: usize = 50;
/// How many items each model recommends.
const RECOMMENDED: usize = 5;
/// The most events that are shown.
const EVENTS_MAX: usize = 500;

/// How a person is looked at.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Look {
    /// Whether the id is an anonymous one.
    #[serde(default)]
    anonymous: bool,
    /// How many of the newest events.
    #[serde(default)]
    events: Option<usize>,
}

/// A person at a moment.
#[derive(Debug, Serialize)]
pub(crate) struct Person {
    /// The key after joining identities.
    person: PersonKey,
    /// Whether anything is known.
    known: bool,
    /// When this was true.
    moment: Timestamp,
    /// The last event that the features had seen.
    offset: Offset,
    features: Vec<KnownFeature>,
    predictions: Vec<Guess>,
    recommendations: Vec<Likely>,
    /// Newest first.
    timeline: Vec<PlacedEvent>,
}

/// What a model would say now. It is not a decision: nobody acts on it, so it is not logged.
#[derive(Debug, Serialize)]
struct Guess {
    model: ModelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    question: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Fallback>,
    score: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    probability: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    probabilities: Vec<ClassProbability>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason>,
}

/// What a model would recommend now; not a decision either.
#[derive(Debug, Serialize)]
struct Likely {
    model: ModelName,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fallback: Option<Fallback>,
    items: Vec<RecommendedItem>,
}

/// The page about one person.
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
    InQuery(look): InQuery<Look>,
) -> Result<Json<Person>, Problem> {
    let events = look.events.unwrap_or(EVENTS_DEFAULT);
    if events > EVENTS_MAX {
        let detail = format!("events is {events}, at most {EVENTS_MAX} are shown");
        return Err(Problem::new(ErrorCode::BadQuery, detail).field("events"));
    }
    let person = person_of(&id, look.anonymous);
    app.admission
        .heavy(move || read(&caller.project, &person, events))
        .await
        .map(Json)
}

fn person_of(id: &str, is_anonymous: bool) -> PersonKey {
    match is_anonymous {
        true => PersonKey::anonymous(id),
        false => PersonKey::user(id),
    }
}

/// How a person is erased.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Erase {
    /// Whether the id is an anonymous one.
    #[serde(default)]
    anonymous: bool,
    /// Why; it is written into the audit log, the id is not.
    #[serde(default)]
    reason: String,
}

/// Erases a person.
pub(crate) async fn erase(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
    InQuery(erase): InQuery<Erase>,
) -> Result<Json<ErasedPerson>, Problem> {
    let person = person_of(&id, erase.anonymous);
    let actor = caller.actor();
    let work = move || async move {
        let project = &caller.project;
        Ok(project.erase(&person, &actor, &erase.reason).await?)
    };
    app.admission.heavy_async(work).await.map(Json)
}

/// Which person is exported.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Export {
    /// Whether the id is an anonymous one.
    #[serde(default)]
    anonymous: bool,
}

/// Gives everything that is stored about a person.
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    InPath(id): InPath<String>,
    InQuery(export): InQuery<Export>,
) -> Result<Json<ExportedPerson>, Problem> {
    let person = person_of(&id, export.anonymous);
    let actor = caller.actor();
    let work = move || async move { Ok(caller.project.export(&person, &actor).await?) };
    app.admission.heavy_async(work).await.map(Json)
}

fn read(project: &ProjectLoop, person: &PersonKey, events: usize) -> Result<Person, Problem> {
    let moment = project.clock.now();
    let engine = project.engine();
    let row = engine.read_all(person, moment)?;
    let columns = engine.set().columns();
    let features = columns
        .iter()
        .cloned()
        .zip(row.values)
        .map(|(column, value)| KnownFeature { column, value });
    let timeline = engine.timeline(person, events)?;
    let predictions = project
        .registry
        .slots()
        .map(|slot| guess(project, slot, person));
    let recommendations = project
        .registry
        .recommenders()
        .map(|slot| likely(project, slot, person));
    Ok(Person {
        known: row.known,
        moment,
        offset: row.offset,
        features: features.collect(),
        predictions: predictions.collect::<Result<_, _>>()?,
        recommendations: recommendations.collect::<Result<_, _>>()?,
        timeline: timeline.into_iter().map(PlacedEvent::from).collect(),
        person: row.person,
    })
}

fn likely(
    project: &ProjectLoop,
    slot: &RecommendSlot,
    person: &PersonKey,
) -> Result<Likely, Problem> {
    let list = project.answerer.preview_list(slot, person, RECOMMENDED)?;
    Ok(Likely {
        model: list.model,
        version: list.version,
        fallback: list.fallback,
        items: list.items,
    })
}

fn guess(project: &ProjectLoop, slot: &Slot, person: &PersonKey) -> Result<Guess, Problem> {
    let (decision, reasons) = project.answerer.preview(slot, person)?;
    let version = decision.version_id();
    let answer = decision.answer;
    Ok(Guess {
        version: version.map(|version| version.to_string()),
        model: decision.model,
        question: slot.model.question.clone(),
        fallback: decision.fallback,
        probability: (slot.task != Task::Regression).then_some(answer.score),
        score: answer.score,
        label: answer.label,
        probabilities: answer.probabilities,
        reasons,
    })
}
