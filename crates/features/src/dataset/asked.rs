//! What is asked for, compiled: the models of one pass, the features that they read together, and what is needed of each event.

use tidemill_core::event::Field;
use tidemill_core::project::PredictModel;
use tidemill_core::{FeatureType, Timestamp};
use tidemill_store::EventColumns;

use super::replay::PlanRecipe;
use super::sampling::Sampler;
use super::{DatasetRequest, REQUESTS_MAX, Served};
use crate::expression::EventCondition;
use crate::set::{Entity, EntityRead, Inputs, USER};
use crate::target::TargetTracker;
use crate::{FeatureError, FeatureSet, ModelFeatures};

/// Everything that the operators of one pass need to know. They share it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) set: FeatureSet,
    pub(super) models: Vec<AskedModel>,
    /// What any of the models reads.
    pub(super) features: ModelFeatures,
    /// Where rows are read beside the models' observations, in the order of the log.
    pub(super) served: Vec<Served>,
    pub(super) known_until: Timestamp,
    /// For each entity of the set, where its values stand in a row of steps.
    pub(super) layouts: Vec<Layout>,
    /// What it was made of, where it may be sent to other machines.
    pub(super) recipe: Option<PlanRecipe>,
}

/// One model of the pass.
#[derive(Debug)]
pub(super) struct AskedModel {
    pub(super) model: PredictModel,
    pub(super) features: ModelFeatures,
    pub(super) from: Option<Timestamp>,
    pub(super) tracker: TargetTracker,
    pub(super) sampler: Sampler,
    /// Of an observation at an event.
    pub(super) condition: Option<EventCondition>,
}

/// Where the values of one entity's steps stand in a row. Events of different kinds use the same columns for different fields, so
/// that there are only as many as the kind with most values needs.
#[derive(Debug, Default)]
pub(super) struct Layout {
    /// The types of the columns.
    pub(super) columns: Vec<FeatureType>,
    /// For each kind of event the columns of the values that its steps take, in their order.
    pub(super) of_steps: Vec<Vec<usize>>,
    /// For each model whose target needs one, the column with what an event brings to it.
    pub(super) of_targets: Vec<Option<usize>>,
}

impl Layout {
    fn new(entity: &Entity) -> Self {
        let mut layout = Self::default();
        for inputs in &entity.inputs {
            let mut taken = Vec::new();
            for (_, kind) in &inputs.values {
                let free =
                    |column: &usize| layout.columns[*column] == *kind && !taken.contains(column);
                let column = (0..layout.columns.len()).find(free);
                taken.push(column.unwrap_or_else(|| layout.column(*kind)));
            }
            layout.of_steps.push(taken);
        }
        layout
    }

    /// One more column.
    fn column(&mut self, kind: FeatureType) -> usize {
        self.columns.push(kind);
        self.columns.len() - 1
    }
}

impl Asked {
    pub(super) fn new(
        set: &FeatureSet,
        requests: &[DatasetRequest<'_>],
        known_until: Timestamp,
    ) -> Result<Self, FeatureError> {
        assert!(
            requests.len() <= REQUESTS_MAX,
            "one bit for each model of a pass"
        );
        let models = requests
            .iter()
            .map(|request| AskedModel::new(set, request))
            .collect::<Result<Vec<_>, _>>()?;
        let is_read = |name: &str| {
            let mut columns = models.iter().flat_map(|asked| asked.features.columns());
            columns.any(|column| column.name == name)
        };
        let names = set.columns().iter().map(|column| column.name.as_str());
        let features =
            set.select_columns(&names.filter(|name| is_read(name)).collect::<Vec<_>>())?;
        Ok(Self::of(models, features, Vec::new(), known_until))
    }

    /// Rows at given places instead of the observations of models; the places are in the order of the log.
    pub(super) fn served(features: &ModelFeatures, served: Vec<Served>) -> Self {
        Self::of(Vec::new(), features.clone(), served, Timestamp::EPOCH)
    }

    fn of(
        models: Vec<AskedModel>,
        features: ModelFeatures,
        served: Vec<Served>,
        known_until: Timestamp,
    ) -> Self {
        let set = features.set().clone();
        let mut layouts: Vec<Layout> = set.entities().iter().map(Layout::new).collect();
        let user = &mut layouts[USER];
        for asked in &models {
            let needed = asked.tracker.needs_value();
            let column = needed.then(|| user.column(FeatureType::Number));
            user.of_targets.push(column);
        }
        Self {
            set,
            models,
            features,
            served,
            known_until,
            layouts,
            recipe: None,
        }
    }

    /// What is read of entities with states of their own, other than the user: the place among the reads, and the read.
    pub(super) fn others(&self) -> impl Iterator<Item = (usize, &EntityRead)> {
        let reads = self.features.reads().iter().enumerate();
        reads.filter(|(_, read)| !self.is_of_person(read))
    }

    /// What is read of the state of a person: of the user, the session, pairs.
    pub(super) fn of_person(&self) -> impl Iterator<Item = (usize, &EntityRead)> {
        let reads = self.features.reads().iter().enumerate();
        reads.filter(|(_, read)| self.is_of_person(read))
    }

    fn is_of_person(&self, read: &EntityRead) -> bool {
        self.set.entities()[read.entity].home == USER
    }

    /// Items, where something that events bring to an entity is found with them.
    pub(super) fn looked_up_items(&self, entity: usize) -> Option<&Entity> {
        let mut inputs = self.set.entities()[entity].inputs.iter();
        let looks = inputs.any(|inputs| inputs.of_items().next().is_some());
        let items = self.set.items().filter(|_| looks)?;
        Some(&self.set.entities()[items])
    }

    /// The columns of the events that the pass over an entity needs.
    pub(super) fn event_columns(&self, entity: usize) -> EventColumns {
        let mut fields: Vec<&Field> = self.set.condition_fields().collect();
        let of = &self.set.entities()[entity];
        fields.extend(of.inputs.iter().flat_map(Inputs::fields));
        fields.extend(of.key_field());
        if let Some(items) = self.looked_up_items(entity) {
            fields.extend(items.inputs.iter().flat_map(Inputs::fields));
            fields.extend(items.key_field());
        }
        if entity == USER {
            for asked in &self.models {
                fields.extend(asked.tracker.field());
                fields.extend(asked.condition.iter().flat_map(EventCondition::fields));
            }
        }
        EventColumns::of(fields)
    }
}

impl AskedModel {
    fn new(set: &FeatureSet, request: &DatasetRequest<'_>) -> Result<Self, FeatureError> {
        if request.features.set().hash() != set.hash() {
            return Err(FeatureError::OtherSet);
        }
        let condition = set.occasion(request.model)?;
        Ok(Self {
            model: request.model.clone(),
            features: request.features.clone(),
            from: request.from,
            tracker: TargetTracker::new(&request.model.target),
            sampler: Sampler::new(request.model),
            condition,
        })
    }
}
