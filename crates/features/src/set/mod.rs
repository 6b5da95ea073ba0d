//! The compiled definitions of a project: which columns there are, and what each event does to which state.

mod compile;
mod draft;
mod expressions;
mod extract;
mod hash;
mod label;
mod ratio;
mod request;
mod select;
mod usage;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidemill_core::event::Field;
use tidemill_core::project::{
    FeatureDefinition, PredictModel, Project, ProjectError, RecommendModel,
};
use tidemill_core::{FeatureColumn, FeatureType};

use crate::FeatureError;
use crate::accumulate::StatePlan;
use crate::expression::{Declared, EventCondition, RowExpression};

pub(crate) use extract::{Conditions, key_last_had};
pub(crate) use request::RequestInput;
pub(crate) use select::EntityRead;
pub use select::ModelFeatures;
pub use usage::ColumnSources;

/// The compiled feature definitions of a project. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FeatureSet(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    definitions: Vec<FeatureDefinition>,
    hash: String,
    columns: Vec<FeatureColumn>,
    /// For each column its entity and its place among the entity's columns.
    places: Vec<(usize, usize)>,
    /// The first is the user, always.
    entities: Vec<Entity>,
    conditions: Vec<Condition>,
    /// For each event that says what people like, the user's hidden aggregate with the newest items.
    histories: BTreeMap<String, usize>,
    declared: Declared,
}

/// A condition and the events that it is asked about; none means all.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) events: Vec<String>,
    pub(crate) test: Test,
}

/// What a condition asks of an event.
#[derive(Debug)]
pub(crate) enum Test {
    Sql(EventCondition),
    /// Whether the field is there and null: it takes an attribute away.
    IsNull(Field),
}

/// One kind of entity.
#[derive(Debug)]
pub(crate) struct Entity {
    pub(crate) key: EntityKey,
    /// The entity in whose states it stands: itself, or for sessions and pairs the user.
    pub(crate) home: usize,
    pub(crate) plan: StatePlan,
    pub(crate) columns: Vec<EntityColumn>,
    /// By event name, which of [`StatePlan::steps`]; others have [`OTHER_EVENTS`] or [`SYSTEM_EVENTS`].
    pub(crate) by_name: HashMap<String, usize>,
    /// What to extract of an event, beside [`StatePlan::steps`].
    pub(crate) inputs: Vec<Inputs>,
    /// For other entities than the user: the user's hidden aggregate that holds the key that the user last had.
    pub(crate) last_key: Option<usize>,
}

/// The steps of events that no definition names.
pub(crate) const OTHER_EVENTS: usize = 0;
/// The steps of events of the system (`$identify`, …) that no definition names: they do nothing, so that "all events" are things
/// that people did.
pub(crate) const SYSTEM_EVENTS: usize = 1;

/// Where an event says which entity it is about.
#[derive(Debug, Clone)]
pub(crate) enum EntityKey {
    Person,
    Everything,
    Field(Field),
    /// Events name the item here; changes of items say it in a field of their own.
    Item(Field, Field),
    /// The current session of the person, in the person's state.
    Session,
    /// What the person deals with: a place in the pairs of the user's plan.
    Pair(usize),
    /// Nothing of its own: it is made of the others.
    Request,
}

/// Where a value that an event brings is found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Origin {
    /// In the event.
    Field(Field),
    /// With the item that the event is about: this aggregate of items, as it was just before the event.
    OfItem(usize),
}

/// What is extracted of an event of one name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inputs {
    pub(crate) values: Vec<(Origin, FeatureType)>,
    /// Indices of conditions, in the order of the bits.
    pub(crate) conditions: Vec<usize>,
}

impl Inputs {
    /// The fields of the event that are asked for.
    pub(crate) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.values.iter().filter_map(|(origin, _)| match origin {
            Origin::Field(field) => Some(field),
            Origin::OfItem(_) => None,
        })
    }

    /// The values that are found with items: their places, and the aggregates.
    pub(crate) fn of_items(&self) -> impl Iterator<Item = (usize, usize)> {
        let values = self.values.iter().enumerate();
        values.filter_map(|(place, (origin, _))| match origin {
            Origin::OfItem(aggregate) => Some((place, *aggregate)),
            Origin::Field(_) => None,
        })
    }
}

/// A column of an entity.
#[derive(Debug, Clone)]
pub(crate) struct EntityColumn {
    pub(crate) feature_type: FeatureType,
    pub(crate) source: Source,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// An aggregate's window; for `top` and `recent` which of its values.
    Aggregate {
        aggregate: usize,
        window: usize,
        rank: usize,
    },
    /// An expression, or a ratio, over earlier-computed columns of the same entity.
    Expression {
        expression: Arc<RowExpression>,
        inputs: Vec<usize>,
    },
    /// An expression over columns of the whole set and the moment.
    Request {
        expression: Arc<RowExpression>,
        inputs: Vec<RequestInput>,
    },
}

/// The user's place among the entities.
pub(crate) const USER: usize = 0;

impl FeatureSet {
    /// Compiles definitions: those of the project file or suggested ones.
    ///
    /// # Errors
    /// All that is wrong, each with its line: names that collide, properties that declared events do not have, SQL that does not
    /// compile or is not allowed, aggregates without what they need.
    pub fn compile(
        project: &Project,
        definitions: &[FeatureDefinition],
    ) -> Result<Self, ProjectError> {
        compile::compile(project, definitions).map(|inner| Self(Arc::new(inner)))
    }

    /// What it was compiled from.
    pub fn definitions(&self) -> &[FeatureDefinition] {
        &self.0.definitions
    }

    /// A hash of all that decides what is in the states: SHA-256 in hexadecimal. Equal hashes read each other's states.
    pub fn hash(&self) -> &str {
        &self.0.hash
    }

    /// All columns, in the order of the definitions.
    pub fn columns(&self) -> &[FeatureColumn] {
        &self.0.columns
    }

    /// The features that a model names, in the order of the columns; without names all of them. Its observe condition is checked
    /// with them.
    ///
    /// # Errors
    /// Names that match nothing, and a condition that does not compile, each with its line.
    pub fn select(&self, model: &PredictModel) -> Result<ModelFeatures, ProjectError> {
        select::select(self, model)
    }

    /// Which of the events that a model is observed at are occasions to ask; all of them where it says nothing.
    ///
    /// # Errors
    /// A condition that does not compile, with its line.
    pub fn occasion(&self, model: &PredictModel) -> Result<Option<EventCondition>, ProjectError> {
        select::occasion(self, model)
    }

    /// The features of people that a model reads which recommends, in the order of the columns; where it names none, all of the user's.
    ///
    /// # Errors
    /// Names that match nothing, each with its line.
    pub fn select_for_lists(&self, model: &RecommendModel) -> Result<ModelFeatures, ProjectError> {
        select::select_for_lists(self, model)
    }

    /// The columns with these names, in this order: what a stored version was trained with.
    ///
    /// # Errors
    /// The names that these definitions do not have.
    pub fn select_columns<S: AsRef<str>>(
        &self,
        names: &[S],
    ) -> Result<ModelFeatures, FeatureError> {
        select::select_columns(self, names)
    }

    /// All columns.
    pub fn select_all(&self) -> ModelFeatures {
        ModelFeatures::new(self, &(0..self.0.columns.len()).collect::<Vec<_>>())
    }

    pub(crate) fn entities(&self) -> &[Entity] {
        &self.0.entities
    }

    /// The user's aggregate that holds what was taken by such events.
    pub(crate) fn history(&self, event: &str) -> Option<usize> {
        self.0.histories.get(event).copied()
    }

    /// The entity in whose states another one's aggregates stand.
    pub(crate) fn home(&self, entity: usize) -> &Entity {
        &self.0.entities[self.0.entities[entity].home]
    }

    /// Items, where there are features of them.
    pub(crate) fn items(&self) -> Option<usize> {
        let is_items = |entity: &Entity| matches!(entity.key, EntityKey::Item(..));
        self.0.entities.iter().position(is_items)
    }

    /// What a kind of entity is called.
    pub(crate) fn entity_name(&self, entity: usize) -> &str {
        let mut places = self.0.places.iter().zip(&self.0.columns);
        let column = places.find(|((of, _), _)| *of == entity);
        column.map_or("user", |(_, column)| {
            column
                .name
                .rsplit_once('.')
                .map_or("user", |(name, _)| name)
        })
    }

    pub(crate) fn condition_fields(&self) -> impl Iterator<Item = &Field> {
        let conditions = self.0.conditions.iter();
        conditions.flat_map(|condition| match &condition.test {
            Test::Sql(compiled) => compiled.fields().collect::<Vec<_>>(),
            Test::IsNull(field) => vec![field],
        })
    }

    pub(crate) fn declared(&self) -> &Declared {
        &self.0.declared
    }
}
