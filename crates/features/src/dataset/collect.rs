//! The sequential pass: who is who, where the observations are, and what the definitions need of each event.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use tidemill_core::event::PersonKey;
use tidemill_core::project::{Observe, Problem, ProjectError};
use tidemill_core::{Event, Offset, Span, Timestamp};
use tidemill_store::LoggedEvent;

use super::people::{Active, People, Person};
use super::record::Drop;
use super::sampling::Sampler;
use super::{DatasetRequest, LATE_MAX, OBSERVATIONS_MAX};
use crate::accumulate::Extracted;
use crate::expression::EventCondition;
use crate::identity;
use crate::set::{Conditions, USER};
use crate::target::{Happened, TargetTracker};
use crate::value::Value;
use crate::{FeatureError, FeatureSet};

/// Something that happens to a person's state, in the order of the log.
#[derive(Debug)]
pub(super) enum Step {
    /// An event.
    Event(Extracted),
    /// What another person has seen becomes part of it.
    Merge(Person),
    /// A row is read, for a request.
    Observe { request: usize, row: usize },
}

/// A step with its person and the engine's time.
#[derive(Debug)]
pub(super) struct PersonStep {
    pub(super) person: Person,
    pub(super) now: Timestamp,
    pub(super) step: Step,
}

/// An event that changes the state of another entity than a person.
#[derive(Debug)]
pub(super) struct KeyStep {
    /// The place of its key in [`Keys`].
    pub(super) key: u32,
    pub(super) now: Timestamp,
    pub(super) extracted: Extracted,
}

/// The keys of one kind of entity and what happened to them, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) numbers: HashMap<Arc<str>, u32>,
    pub(super) steps: Vec<KeyStep>,
}

/// A row of a dataset, without its features.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observation {
    pub(super) person: Person,
    pub(super) moment: Timestamp,
    pub(super) offset: Offset,
    /// The event at which it was made.
    pub(super) except: Option<Offset>,
}

/// An event that can decide targets.
#[derive(Debug, Clone, Copy)]
pub(super) struct TargetEvent {
    pub(super) person: Person,
    pub(super) timestamp: Timestamp,
    pub(super) offset: Offset,
    pub(super) happened: Happened,
}

/// What has been collected for one request.
pub(super) struct Collected<'m> {
    pub(super) request: DatasetRequest<'m>,
    pub(super) tracker: TargetTracker,
    sampler: Sampler,
    condition: Option<EventCondition>,
    /// The next moment of a periodic observation.
    next: Option<Timestamp>,
    pub(super) observations: Vec<Observation>,
    pub(super) target_events: Vec<TargetEvent>,
    pub(super) observed: u64,
    pub(super) dropped: BTreeMap<Drop, u64>,
    pub(super) condition_failures: u64,
}

/// All that is left of the events.
pub(super) struct Collection<'m> {
    pub(super) requests: Vec<Collected<'m>>,
    pub(super) steps: Vec<PersonStep>,
    /// By entity; that of the user is empty.
    pub(super) keys: Vec<Keys>,
    pub(super) persons: Vec<PersonKey>,
    /// For each person who it became part of in the end.
    pub(super) finally: Vec<Person>,
    pub(super) known_until: Timestamp,
    pub(super) last_offset: Offset,
    pub(super) expression_failures: u64,
}

pub(super) struct Collector<'m> {
    set: FeatureSet,
    known_until: Timestamp,
    now: Option<Timestamp>,
    last: Offset,
    people: People,
    /// The newest event of each person, where a request asks for it, and the same by time.
    active: Option<Active>,
    texts: HashSet<Arc<str>>,
    requests: Vec<Collected<'m>>,
    steps: Vec<PersonStep>,
    keys: Vec<Keys>,
    expression_failures: u64,
}

impl<'m> Collector<'m> {
    pub(super) fn new(
        set: &FeatureSet,
        requests: &[DatasetRequest<'m>],
        known_until: Timestamp,
    ) -> Result<Self, FeatureError> {
        let requests = requests
            .iter()
            .map(|request| Collected::new(set, request))
            .collect::<Result<Vec<_>, _>>()?;
        let periodic = |collected: &Collected<'_>| {
            matches!(collected.request.model.observe, Observe::Every { .. })
        };
        Ok(Self {
            set: set.clone(),
            known_until,
            now: None,
            last: Offset::ZERO,
            people: People::default(),
            active: requests.iter().any(periodic).then(Active::default),
            texts: HashSet::new(),
            requests,
            steps: Vec::new(),
            keys: set.entities().iter().map(|_| Keys::default()).collect(),
            expression_failures: 0,
        })
    }

    pub(super) fn push(&mut self, events: &[LoggedEvent]) -> Result<(), FeatureError> {
        for batch in events.chunks(4_096) {
            let conditions = self.set.conditions(batch);
            self.expression_failures += conditions.failures;
            let occasions: Vec<Vec<bool>> = self
                .requests
                .iter_mut()
                .map(|request| request.occasions(batch))
                .collect();
            for (index, logged) in batch.iter().enumerate() {
                if logged.offset <= self.last {
                    return Err(FeatureError::OutOfOrder {
                        last: self.last.0,
                        found: logged.offset.0,
                    });
                }
                self.take(index, logged, &conditions, &occasions)?;
            }
        }
        Ok(())
    }

    fn take(
        &mut self,
        index: usize,
        logged: &LoggedEvent,
        conditions: &Conditions,
        occasions: &[Vec<bool>],
    ) -> Result<(), FeatureError> {
        let event = &logged.event;
        let now = self
            .now
            .map_or(event.received_at, |now| now.max(event.received_at));
        self.observe_periods(now)?;
        self.now = Some(now);
        self.last = logged.offset;
        let Ok(()) = identity::learn(&mut self.people, event);
        for (from, into) in std::mem::take(&mut self.people.merges) {
            self.steps.push(PersonStep {
                person: into,
                now,
                step: Step::Merge(from),
            });
            if let Some(active) = &mut self.active {
                active.merge(from, into);
            }
        }
        let person = event.person().map(|person| self.people.canonical(&person));
        self.extract(index, logged, conditions, person, now);
        for request in &mut self.requests {
            if let (Some(person), true) = (person, request.tracker.is_relevant(&event.name)) {
                let happened = request.tracker.read(event);
                let (timestamp, offset) = (event.timestamp, logged.offset);
                request.target_events.push(TargetEvent {
                    person,
                    timestamp,
                    offset,
                    happened,
                });
            }
        }
        if let (Some(active), Some(person), false) =
            (&mut self.active, person, event.name.starts_with('$'))
        {
            active.saw(person, event.timestamp.min(now));
        }
        for (request, occasions) in occasions.iter().enumerate() {
            if occasions[index] {
                self.observe_event(request, logged, person, now)?;
            }
        }
        Ok(())
    }

    /// Keeps what the definitions need of an event.
    fn extract(
        &mut self,
        index: usize,
        logged: &LoggedEvent,
        conditions: &Conditions,
        person: Option<Person>,
        now: Timestamp,
    ) {
        let set = self.set.clone();
        for (entity, definition) in set.entities().iter().enumerate() {
            if entity == USER {
                if let Some(person) = person {
                    let extracted = self.share_texts(definition.extract(logged, index, conditions));
                    self.steps.push(PersonStep {
                        person,
                        now,
                        step: Step::Event(extracted),
                    });
                }
            } else if definition.reads(&logged.event)
                && let Some(key) = definition.key_of(&logged.event)
            {
                let extracted = self.share_texts(definition.extract(logged, index, conditions));
                let keys = &mut self.keys[entity];
                let next = u32::try_from(keys.numbers.len()).expect("fewer than 2^32 keys");
                let key = *keys.numbers.entry(key).or_insert(next);
                keys.steps.push(KeyStep {
                    key,
                    now,
                    extracted,
                });
            }
        }
    }

    /// Equal texts are kept once.
    fn share_texts(&mut self, mut extracted: Extracted) -> Extracted {
        for value in &mut extracted.values {
            if let Value::Category(text) = value {
                match self.texts.get(text) {
                    Some(known) => *text = known.clone(),
                    None => {
                        self.texts.insert(text.clone());
                    }
                }
            }
        }
        extracted
    }

    fn observe_event(
        &mut self,
        request: usize,
        logged: &LoggedEvent,
        person: Option<Person>,
        now: Timestamp,
    ) -> Result<(), FeatureError> {
        let collected = &mut self.requests[request];
        collected.observed += 1;
        let Some(person) = person else {
            collected.drop(Drop::NoPerson);
            return Ok(());
        };
        if now.since(logged.event.timestamp) > LATE_MAX {
            collected.drop(Drop::Late);
            return Ok(());
        }
        let offset = logged.offset;
        let observation = Observation {
            person,
            moment: now,
            offset,
            except: Some(offset),
        };
        self.observe(request, observation)
    }

    fn observe(&mut self, request: usize, observation: Observation) -> Result<(), FeatureError> {
        let collected = &mut self.requests[request];
        if collected
            .request
            .from
            .is_some_and(|from| observation.moment < from)
        {
            collected.drop(Drop::BeforeStart);
        } else if observation.moment + collected.tracker.within() > self.known_until {
            collected.drop(Drop::Censored);
        } else if collected
            .sampler
            .leaves_out(&self.people.keys[observation.person as usize], &observation)
        {
            collected.drop(Drop::Sampled);
        } else if collected.observations.len() >= OBSERVATIONS_MAX {
            let model = collected.request.model.name.to_string();
            return Err(FeatureError::TooManyObservations {
                model,
                limit: OBSERVATIONS_MAX,
            });
        } else {
            let row = collected.observations.len();
            collected.observations.push(observation);
            let Observation { person, moment, .. } = observation;
            self.steps.push(PersonStep {
                person,
                now: moment,
                step: Step::Observe { request, row },
            });
        }
        Ok(())
    }

    /// Makes the periodic observations at moments before `until`, which see everything up to now.
    fn observe_periods(&mut self, until: Timestamp) -> Result<(), FeatureError> {
        for request in 0..self.requests.len() {
            let Observe::Every {
                period,
                active_within,
            } = self.requests[request].request.model.observe
            else {
                continue;
            };
            let Some(mut moment) = self.requests[request].next else {
                // The first one is at or after the first event.
                let first = until.floor(period);
                self.requests[request].next =
                    Some(if first < until { first + period } else { first });
                continue;
            };
            while moment < until {
                let persons = self
                    .active
                    .as_ref()
                    .map_or(Vec::new(), |active| active.within(moment, active_within));
                for person in persons {
                    self.requests[request].observed += 1;
                    self.observe(
                        request,
                        Observation {
                            person,
                            moment,
                            offset: self.last,
                            except: None,
                        },
                    )?;
                }
                moment = moment + period;
            }
            self.requests[request].next = Some(moment);
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Collection<'m>, FeatureError> {
        if self.now.is_some() {
            self.observe_periods(self.known_until + Span::from_micros(1))?;
        }
        let merged_into = &self.people.merged_into;
        let finally = (0..merged_into.len() as Person)
            .map(|mut person| {
                while merged_into[person as usize] != person {
                    person = merged_into[person as usize];
                }
                person
            })
            .collect();
        Ok(Collection {
            requests: self.requests,
            steps: self.steps,
            keys: self.keys,
            finally,
            persons: self.people.keys,
            known_until: self.known_until,
            last_offset: self.last,
            expression_failures: self.expression_failures,
        })
    }
}

impl<'m> Collected<'m> {
    fn new(set: &FeatureSet, request: &DatasetRequest<'m>) -> Result<Self, FeatureError> {
        if request.features.set().hash() != set.hash() {
            return Err(FeatureError::OtherSet);
        }
        let condition = match &request.model.observe {
            Observe::Event {
                event,
                condition: Some(text),
            } => {
                let compiled = EventCondition::compile(
                    &text.text,
                    std::slice::from_ref(event),
                    set.declared(),
                );
                Some(compiled.map_err(|fault| ProjectError {
                    problems: vec![Problem {
                        line: text.line,
                        place: format!("models.{}.observe", request.model.name),
                        message: fault.message,
                        hint: fault.hint,
                    }],
                })?)
            }
            _ => None,
        };
        Ok(Self {
            tracker: TargetTracker::new(&request.model.target),
            sampler: Sampler::new(request.model),
            request: request.clone(),
            condition,
            next: None,
            observations: Vec::new(),
            target_events: Vec::new(),
            observed: 0,
            dropped: BTreeMap::new(),
            condition_failures: 0,
        })
    }

    fn drop(&mut self, reason: Drop) {
        *self.dropped.entry(reason).or_insert(0) += 1;
    }

    /// Which events of a batch are occasions to observe.
    fn occasions(&mut self, batch: &[LoggedEvent]) -> Vec<bool> {
        let Observe::Event { event, .. } = &self.request.model.observe else {
            return vec![false; batch.len()];
        };
        let is_such = |logged: &LoggedEvent| {
            logged.event.name == *event || (event == "*" && !logged.event.name.starts_with('$'))
        };
        let mut occasions: Vec<bool> = batch.iter().map(is_such).collect();
        let Some(condition) = &self.condition else {
            return occasions;
        };
        let asked: Vec<usize> = (0..batch.len()).filter(|&index| occasions[index]).collect();
        let events: Vec<&Event> = asked.iter().map(|&index| &batch[index].event).collect();
        let (fulfilled, failures) = condition.evaluate(&events);
        self.condition_failures += failures;
        for (index, fulfilled) in asked.into_iter().zip(fulfilled) {
            occasions[index] = fulfilled;
        }
        occasions
    }
}
