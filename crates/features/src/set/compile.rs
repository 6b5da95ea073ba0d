//! Definitions → columns, steps and expressions, with all problems at once.

use std::collections::{BTreeMap, HashMap};

use tidemill_core::event::Field;
use tidemill_core::project::{
    Aggregate, EntityKind, FeatureDefinition, Formula, Located, Operation, PairedWith, Problem,
    Project, ProjectError, ProjectLimits, ValueUse, did_you_mean,
};
use tidemill_core::{EventKind, FeatureColumn, FeatureType, Span};

use super::draft::{Draft, column_name, place, spans};
use super::ratio::divide;
use super::{
    Condition, Entity, EntityColumn, EntityKey, Inner, Inputs, OTHER_EVENTS, Origin, SYSTEM_EVENTS,
    Source, Test, USER, label,
};
use crate::accumulate::{AggregatePlan, PairPlan, Part, StatePlan, Step, Windows};
use crate::expression::{EventCondition, Fault, unknown_property};

/// The most different conditions on one kind of event of one entity: one bit each.
const CONDITIONS_PER_EVENT_MAX: usize = 64;

/// The most items that are kept of what a person took, for each signal.
pub(crate) const HISTORY_MAX: usize = 50;

pub(super) fn compile(
    project: &Project,
    definitions: &[FeatureDefinition],
) -> Result<Inner, ProjectError> {
    let mut compiler = Compiler {
        project,
        problems: Vec::new(),
        conditions: Vec::new(),
        entities: Vec::new(),
        pairs: Vec::new(),
    };
    compiler.entity(&EntityKind::User, 0);
    let mut columns = Vec::new();
    for definition in definitions {
        match &definition.formula {
            Formula::Aggregate(aggregate) => {
                compiler.aggregate(definition, aggregate, &mut columns);
            }
            Formula::Expression(_) => {
                compiler.entity(&definition.entity, definition.line);
                columns.push(Draft::expression(definition));
            }
            Formula::Ratio(ratio) => {
                compiler.entity(&definition.entity, definition.line);
                compiler.ratio(definition, ratio, definitions, &mut columns);
            }
        }
    }
    compiler.check_names(&columns);
    divide(&mut columns);
    compiler.expressions(&mut columns);
    compiler.look_up_other_entities();
    let histories = compiler.histories();
    compiler.steps();
    let Compiler {
        problems,
        conditions,
        entities,
        pairs,
        ..
    } = compiler;
    ProjectError::check(problems)?;
    let hash = super::hash::hash(project, definitions, &conditions);
    let (mut entities, places) = finish(entities, &columns);
    let has_sessions = entities
        .iter()
        .any(|entity| matches!(entity.key, EntityKey::Session));
    let user = &mut entities[USER].plan;
    user.session_gap = has_sessions.then(|| project.session_gap.micros());
    user.pairs = pairs.into_iter().map(|pair| pair.plan).collect();
    for entity in &mut entities {
        entity.plan.forget_after = match entity.key {
            // items are a catalogue: they are there until they are deleted
            EntityKey::Everything | EntityKey::Item(..) => None,
            _ => project.forget_after.map(Span::micros),
        };
    }
    Ok(Inner {
        definitions: definitions.to_vec(),
        hash,
        columns: columns.into_iter().map(|draft| draft.column).collect(),
        places,
        entities,
        conditions,
        histories,
        declared: project.events.clone(),
    })
}

/// The entities with their columns, and for each column its entity and its place there.
fn finish(entities: Vec<EntityDraft>, columns: &[Draft<'_>]) -> (Vec<Entity>, Vec<(usize, usize)>) {
    let mut entity_columns: Vec<Vec<EntityColumn>> = entities.iter().map(|_| Vec::new()).collect();
    let mut places = Vec::new();
    for draft in columns {
        let Some(entity) = entities
            .iter()
            .position(|entity| entity.kind == draft.definition.entity)
        else {
            continue;
        };
        places.push((entity, entity_columns[entity].len()));
        if let Some(source) = &draft.source {
            entity_columns[entity].push(EntityColumn {
                feature_type: draft.column.feature_type,
                source: source.clone(),
            });
        }
    }
    let entities = entities
        .into_iter()
        .zip(entity_columns)
        .enumerate()
        .map(|(index, (entity, columns))| Entity {
            home: match &entity.key {
                EntityKey::Session | EntityKey::Pair(_) => USER,
                _ => index,
            },
            key: entity.key,
            plan: StatePlan {
                aggregates: entity.aggregates,
                steps: entity.steps,
                changes: entity.changes,
                acts: entity.acts,
                ..StatePlan::default()
            },
            columns,
            by_name: entity.by_name,
            inputs: entity.inputs,
            last_key: entity.last_key,
        })
        .collect();
    (entities, places)
}

/// One aggregate with what its steps need.
#[derive(Default)]
struct Reads {
    events: Vec<String>,
    condition: Option<usize>,
    value: Option<(Origin, FeatureType)>,
    /// For a pair, where the partner is found.
    partner: Option<Origin>,
    /// For an attribute, the condition on which it is taken away.
    removed: Option<usize>,
}

/// A kind of pair, and where the partner is found.
struct PairDraft {
    plan: PairPlan,
    partner: Origin,
}

struct EntityDraft {
    kind: EntityKind,
    key: EntityKey,
    aggregates: Vec<AggregatePlan>,
    reads: Vec<Reads>,
    steps: Vec<Vec<Step>>,
    changes: Vec<Vec<Step>>,
    acts: Vec<bool>,
    by_name: HashMap<String, usize>,
    inputs: Vec<Inputs>,
    last_key: Option<usize>,
}

pub(super) struct Compiler<'p> {
    project: &'p Project,
    problems: Vec<Problem>,
    conditions: Vec<Condition>,
    entities: Vec<EntityDraft>,
    pairs: Vec<PairDraft>,
}

impl<'p> Compiler<'p> {
    pub(super) fn problem(&mut self, line: usize, place: String, fault: Fault) {
        self.problems.push(Problem {
            line,
            place,
            message: fault.message,
            hint: fault.hint,
        });
    }

    /// The place of a kind of entity; it comes into being when it is first asked for.
    fn entity(&mut self, kind: &EntityKind, line: usize) -> usize {
        if let Some(index) = self.entities.iter().position(|entity| entity.kind == *kind) {
            return index;
        }
        let key = match kind {
            EntityKind::User => EntityKey::Person,
            EntityKind::Global => EntityKey::Everything,
            EntityKind::Session => EntityKey::Session,
            EntityKind::Request => EntityKey::Request,
            EntityKind::Item => match (self.item_id(kind, line), "properties.id".parse()) {
                (Some(field), Ok(id)) => EntityKey::Item(field, id),
                _ => EntityKey::Everything,
            },
            EntityKind::Property(name) => {
                let field = self.property(kind, name, line);
                field.map_or(EntityKey::Everything, EntityKey::Field)
            }
            EntityKind::Pair { with, .. } => {
                let partner = match with {
                    PairedWith::Item => self.item_id(kind, line).map(Origin::Field),
                    PairedWith::Property(name) => {
                        self.property(kind, name, line).map(Origin::Field)
                    }
                    PairedWith::Attribute(name) => self.attribute_of_items(kind, name, line),
                };
                match partner {
                    Some(partner) => {
                        self.pairs.push(PairDraft {
                            plan: PairPlan::default(),
                            partner,
                        });
                        EntityKey::Pair(self.pairs.len() - 1)
                    }
                    None => EntityKey::Everything,
                }
            }
        };
        self.entities.push(EntityDraft {
            kind: kind.clone(),
            key,
            aggregates: Vec::new(),
            reads: Vec::new(),
            steps: Vec::new(),
            changes: Vec::new(),
            acts: Vec::new(),
            by_name: HashMap::new(),
            inputs: Vec::new(),
            last_key: None,
        });
        self.entities.len() - 1
    }

    /// Where events name items.
    fn item_id(&mut self, kind: &EntityKind, line: usize) -> Option<Field> {
        if let Some(items) = &self.project.items {
            return Some(items.id.clone());
        }
        let hint = "declare [items] with id = \"properties.…\"";
        let fault = Fault::with_hint("no items are declared", hint);
        self.problem(line, format!("features.{}", kind.as_str()), fault);
        None
    }

    fn property(&mut self, kind: &EntityKind, name: &str, line: usize) -> Option<Field> {
        match format!("properties.{name}").parse() {
            Ok(field) => Some(field),
            Err(error) => {
                let fault = Fault::new(tidemill_core::event::FieldError::to_string(&error));
                self.problem(line, format!("features.{}", kind.as_str()), fault);
                None
            }
        }
    }

    /// An attribute of items as a category: a hidden aggregate of theirs.
    fn attribute_of_items(&mut self, kind: &EntityKind, name: &str, line: usize) -> Option<Origin> {
        self.item_id(kind, line)?;
        let declared = self.project.items.as_ref().map(|items| &items.attributes);
        if let Some(declared) = declared
            && !declared.is_empty()
            && !declared.contains_key(name)
        {
            let fault = Fault {
                message: format!("items have no attribute '{name}'"),
                hint: did_you_mean(name, declared.keys().map(String::as_str)),
            };
            self.problem(line, format!("features.{}", kind.as_str()), fault);
            return None;
        }
        let value: Field = format!("properties.attributes.{name}").parse().ok()?;
        let items = self.entity(&EntityKind::Item, line);
        let aggregate = Aggregate {
            operation: Operation::Attribute(FeatureType::Category),
            events: [EventKind::ItemChanged, EventKind::ItemDeleted]
                .map(|kind| kind.default_name().to_owned())
                .to_vec(),
            condition: None,
            value: Some(value.clone()),
            windows: Vec::new(),
        };
        let reads = Reads {
            value: Some((Origin::Field(value.clone()), FeatureType::Category)),
            removed: Some(self.is_null(&aggregate.events, value)),
            events: aggregate.events.clone(),
            ..Reads::default()
        };
        Some(Origin::OfItem(self.entities[items].add(
            &aggregate,
            Part::Whole,
            reads,
        )))
    }

    /// The condition that a field is there and null.
    fn is_null(&mut self, events: &[String], field: Field) -> usize {
        let same = |known: &Condition| {
            known.events == events && matches!(&known.test, Test::IsNull(of) if *of == field)
        };
        self.conditions.iter().position(same).unwrap_or_else(|| {
            self.conditions.push(Condition {
                events: events.to_vec(),
                test: Test::IsNull(field),
            });
            self.conditions.len() - 1
        })
    }

    fn aggregate<'d>(
        &mut self,
        definition: &'d FeatureDefinition,
        aggregate: &Aggregate,
        columns: &mut Vec<Draft<'d>>,
    ) {
        let entity = self.entity(&definition.entity, definition.line);
        let value = self.value(definition, aggregate);
        let condition = aggregate
            .condition
            .as_ref()
            .and_then(|text| self.condition(definition, aggregate, text));
        if matches!(aggregate.operation, Operation::Decayed { .. }) && !aggregate.windows.is_empty()
        {
            let hint = "leave out windows: the half-life says how far back it looks";
            self.problem(
                definition.line,
                place(definition),
                Fault::with_hint("'decayed' has no windows", hint),
            );
        }
        let is_attribute = matches!(aggregate.operation, Operation::Attribute(_));
        let removed = aggregate
            .value
            .clone()
            .filter(|_| is_attribute)
            .map(|field| self.is_null(&aggregate.events, field));
        let reads = Reads {
            events: aggregate.events.clone(),
            condition,
            value: value.map(|(field, kind)| (Origin::Field(field), kind)),
            partner: None,
            removed,
        };
        let index = match self.entities[entity].key {
            EntityKey::Session => self.entities[USER].add(aggregate, Part::Session, reads),
            EntityKey::Pair(pair) => {
                let draft = &mut self.pairs[pair];
                let part = Part::Pair {
                    pair,
                    of_pair: draft.plan.aggregates.len(),
                };
                let reads = Reads {
                    partner: Some(draft.partner.clone()),
                    ..reads
                };
                let index = self.entities[USER].add(aggregate, part, reads);
                draft.plan.aggregates.push(index);
                index
            }
            _ => self.entities[entity].add(aggregate, Part::Whole, reads),
        };
        let (width, feature_type) = (
            aggregate.operation.width(),
            aggregate.operation.feature_type(),
        );
        for (window, span) in spans(aggregate).into_iter().enumerate() {
            for rank in 0..width {
                let name = column_name(definition, (width > 1).then_some(rank), span);
                let (label, unit) = label::aggregate(definition, aggregate, span, rank);
                let column = FeatureColumn {
                    name,
                    feature_type,
                    label,
                    unit,
                };
                let source = Some(Source::Aggregate {
                    aggregate: index,
                    window,
                    rank,
                });
                columns.push(Draft {
                    definition,
                    window: span,
                    column,
                    source,
                });
            }
        }
    }

    /// The field that an aggregate takes, and as what.
    fn value(
        &mut self,
        definition: &FeatureDefinition,
        aggregate: &Aggregate,
    ) -> Option<(Field, FeatureType)> {
        let operation = aggregate.operation;
        if operation.value_use() == ValueUse::Never {
            return None;
        }
        let feature_type = operation.value_type();
        let Some(field) = &aggregate.value else {
            if operation.value_use() == ValueUse::Required {
                let message = format!("'{}' needs a value", operation.as_str());
                let fault = Fault::with_hint(message, "add value = \"properties.…\"");
                self.problem(definition.line, place(definition), fault);
            }
            return None;
        };
        if let Field::Property(path) = field {
            let path = path.to_string();
            if let Err(fault) = unknown_property(&path, &aggregate.events, &self.project.events) {
                self.problem(definition.line, place(definition), fault);
            }
            let declared = aggregate
                .events
                .iter()
                .filter_map(|event| self.project.events.get(event)?.get(&path));
            let texts =
                declared.filter(|rule| rule.property_type.feature_type() != FeatureType::Number);
            let text = texts
                .map(|rule| rule.property_type)
                .find(|kind| kind.as_str() != "bool");
            if let (FeatureType::Number, Some(kind)) = (feature_type, text) {
                let message = format!(
                    "'{}' needs a number, {field} is a {}",
                    operation.as_str(),
                    kind.as_str()
                );
                let fault = Fault::with_hint(message, "use last, distinct or top for words");
                self.problem(definition.line, place(definition), fault);
            }
        }
        Some((field.clone(), feature_type))
    }

    fn condition(
        &mut self,
        definition: &FeatureDefinition,
        aggregate: &Aggregate,
        text: &Located,
    ) -> Option<usize> {
        match EventCondition::compile(&text.text, &aggregate.events, &self.project.events) {
            Ok(compiled) => {
                let same = |known: &Condition| {
                    let is_same = matches!(&known.test, Test::Sql(sql) if sql.text() == text.text);
                    known.events == aggregate.events && is_same
                };
                Some(self.conditions.iter().position(same).unwrap_or_else(|| {
                    self.conditions.push(Condition {
                        events: aggregate.events.clone(),
                        test: Test::Sql(compiled),
                    });
                    self.conditions.len() - 1
                }))
            }
            Err(fault) => {
                self.problem(text.line, place(definition), fault);
                None
            }
        }
    }

    fn check_names(&mut self, columns: &[Draft<'_>]) {
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for draft in columns {
            let line = draft.definition.line;
            if let Some(first) = seen.insert(&draft.column.name, line) {
                let message = format!("the feature {} is there already", draft.column.name);
                let fault = Fault::with_hint(
                    message,
                    format!("the first one is on line {first}: rename one of them"),
                );
                self.problem(line, place(draft.definition), fault);
            }
        }
        if columns.len() > ProjectLimits::FEATURES_MAX {
            let message = format!(
                "{} features, at most {} are allowed",
                columns.len(),
                ProjectLimits::FEATURES_MAX
            );
            let line = columns.last().map_or(0, |draft| draft.definition.line);
            self.problem(line, "features".into(), Fault::new(message));
        }
    }

    /// Features of other entities and of pairs are looked up with the key that the user last had: a hidden aggregate of the user.
    fn look_up_other_entities(&mut self) {
        for index in 1..self.entities.len() {
            let (origin, pair) = match self.entities[index].key.clone() {
                EntityKey::Field(field) | EntityKey::Item(field, _) => (Origin::Field(field), None),
                EntityKey::Pair(pair) => (self.pairs[pair].partner.clone(), Some(pair)),
                _ => continue,
            };
            let aggregate = Aggregate {
                operation: Operation::Last(FeatureType::Category),
                events: Vec::new(),
                condition: None,
                value: None,
                windows: Vec::new(),
            };
            let reads = Reads {
                value: Some((origin, FeatureType::Category)),
                ..Reads::default()
            };
            let last = self.entities[USER].add(&aggregate, Part::Whole, reads);
            match pair {
                Some(pair) => self.pairs[pair].plan.last = last,
                None => self.entities[index].last_key = Some(last),
            }
        }
    }

    /// What persons took, for the models that recommend: the newest items of each signal, hidden aggregates of the user.
    fn histories(&mut self) -> BTreeMap<String, usize> {
        let mut histories = BTreeMap::new();
        let project: &'p Project = self.project;
        let Some(items) = &project.items else {
            return histories;
        };
        let models = project.recommenders.values();
        for event in models.flat_map(|model| model.signals.keys()) {
            if histories.contains_key(event) {
                continue;
            }
            let aggregate = Aggregate {
                operation: Operation::Recent {
                    k: HISTORY_MAX,
                    kind: FeatureType::Category,
                },
                events: vec![event.clone()],
                condition: None,
                value: Some(items.id.clone()),
                windows: Vec::new(),
            };
            let reads = Reads {
                events: aggregate.events.clone(),
                value: Some((Origin::Field(items.id.clone()), FeatureType::Category)),
                ..Reads::default()
            };
            let place = self.entities[USER].add(&aggregate, Part::Whole, reads);
            histories.insert(event.clone(), place);
        }
        histories
    }

    fn steps(&mut self) {
        for index in 0..self.entities.len() {
            let entity = &mut self.entities[index];
            let mut names: Vec<&String> = entity
                .reads
                .iter()
                .flat_map(|reads| &reads.events)
                .collect();
            names.sort();
            names.dedup();
            let kinds: Vec<Option<&str>> = [None, Some("$")]
                .into_iter()
                .chain(names.iter().map(|name| Some(name.as_str())))
                .collect();
            debug_assert_eq!((OTHER_EVENTS, SYSTEM_EVENTS), (0, 1));
            let mut all_inputs = Vec::new();
            for name in kinds {
                let (steps, changes, inputs) = steps_of(name, &entity.reads, &entity.aggregates);
                entity.steps.push(steps);
                entity.changes.push(changes);
                entity
                    .acts
                    .push(!name.is_some_and(|name| name.starts_with('$')));
                all_inputs.push(inputs);
            }
            entity.by_name = names
                .into_iter()
                .cloned()
                .zip(SYSTEM_EVENTS + 1..)
                .collect();
            let crowded = all_inputs
                .iter()
                .any(|inputs: &Inputs| inputs.conditions.len() > CONDITIONS_PER_EVENT_MAX);
            entity.inputs = all_inputs;
            if crowded {
                let place = format!("features.{}", entity.kind.as_str());
                let message = format!(
                    "more than {CONDITIONS_PER_EVENT_MAX} different conditions read the same event"
                );
                self.problem(0, place, Fault::new(message));
            }
        }
    }
}

impl EntityDraft {
    /// One more aggregate.
    fn add(&mut self, aggregate: &Aggregate, part: Part, reads: Reads) -> usize {
        let windows = (!aggregate.windows.is_empty()).then(|| Windows::new(&aggregate.windows));
        self.aggregates.push(AggregatePlan {
            operation: aggregate.operation,
            windows,
            part,
        });
        self.reads.push(reads);
        self.aggregates.len() - 1
    }
}

/// What an event of this name does, to attributes apart from the rest; `None` stands for all names that no definition names.
fn steps_of(
    name: Option<&str>,
    reads: &[Reads],
    aggregates: &[AggregatePlan],
) -> (Vec<Step>, Vec<Step>, Inputs) {
    let (mut steps, mut changes, mut inputs) = (Vec::new(), Vec::new(), Inputs::default());
    for (aggregate, reads) in reads.iter().enumerate() {
        let is_read = match name {
            None => reads.events.is_empty(),
            Some(name) if reads.events.is_empty() => !name.starts_with('$'),
            Some(name) => reads.events.iter().any(|event| event == name),
        };
        if !is_read {
            continue;
        }
        if matches!(aggregates[aggregate].operation, Operation::Attribute(_)) {
            let is_deleted = name == Some(EventKind::ItemDeleted.default_name());
            let removes = |condition| Step {
                aggregate,
                condition,
                removes: true,
                ..Step::default()
            };
            if is_deleted {
                changes.push(removes(None));
                continue;
            }
            let value = reads.value.clone();
            changes.push(Step {
                aggregate,
                value: value.map(|value| index_of(&mut inputs.values, value)),
                ..Step::default()
            });
            if let Some(condition) = reads.removed {
                let bit = index_of(&mut inputs.conditions, condition) as u32;
                changes.push(removes(Some(bit)));
            }
            continue;
        }
        let condition = reads
            .condition
            .map(|condition| index_of(&mut inputs.conditions, condition) as u32);
        let value = reads
            .value
            .clone()
            .map(|value| index_of(&mut inputs.values, value));
        let partner = reads
            .partner
            .clone()
            .map(|partner| index_of(&mut inputs.values, (partner, FeatureType::Category)));
        steps.push(Step {
            aggregate,
            condition,
            value,
            partner,
            removes: false,
        });
    }
    (steps, changes, inputs)
}

/// The place of a value in a list, to which it is added where it is not there.
fn index_of<T: PartialEq>(list: &mut Vec<T>, value: T) -> usize {
    list.iter()
        .position(|known| *known == value)
        .unwrap_or_else(|| {
            list.push(value);
            list.len() - 1
        })
}
