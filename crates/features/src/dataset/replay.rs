//! The parallel part: states are replayed by key, and a row is read at each observation.
//!
//! First the persons, who also say which item, country, … they last had; then those, by their keys. The result does not depend on
//! how the work is divided: each key is replayed alone and in the order of the log.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;
use tidemill_core::feature::ColumnValues;
use tidemill_core::{FeatureTable, FeatureType, FeatureValue, Offset, Timestamp};

use super::Dataset;
use super::collect::{Collected, Collection, Keys, PersonStep, Step, TargetEvent};
use super::people::Person;
use super::record;
use super::sampling::{self, Sampled};
use crate::accumulate::EntityState;
use crate::set::{EntityRead, USER, key_last_had};
use crate::{FeatureError, FeatureSet};

/// Pieces of work per thread: more than one, so that a thread that is done early takes another.
const PIECES_PER_THREAD: usize = 8;

/// Builds the datasets of a collection.
pub(super) fn datasets(
    set: &FeatureSet,
    collection: Collection<'_>,
) -> Result<Vec<Dataset>, FeatureError> {
    let replay = Replay {
        set,
        collection: &collection,
    };
    let (mut columns, lookups) = replay.persons();
    for (request, lookups) in lookups.into_iter().enumerate() {
        for (read, lookups) in lookups {
            let entity = collection.requests[request].request.features.reads()[read].entity;
            replay.keys(entity, &lookups, &mut columns[request][read], request, read);
        }
    }
    let parts: Vec<_> = collection.requests.iter().zip(columns).collect();
    Ok(parts
        .into_iter()
        .map(|(collected, columns)| dataset(set, &collection, collected, columns))
        .collect())
}

/// The columns of one read of one request, being filled row by row.
type Columns = Vec<ColumnValues>;

/// Which key of another entity a row looks up; `None` where the person never had one.
type Lookup = Option<Arc<str>>;

/// For each read of another entity its place among a request's reads, and the keys of all rows.
type Lookups = Vec<(usize, Vec<Lookup>)>;

struct Replay<'c> {
    set: &'c FeatureSet,
    collection: &'c Collection<'c>,
}

/// What one piece of work has read for one request.
#[derive(Default)]
struct Part {
    rows: Vec<usize>,
    /// The values of the user's columns, row after row.
    values: Vec<FeatureValue>,
    /// For each other entity that is read, the keys of the rows.
    keys: Vec<Vec<Lookup>>,
}

impl Part {
    /// Puts the rows where they belong.
    fn put(self, mut user: Option<&mut Columns>, lookups: &mut Lookups) {
        let width = user.as_ref().map_or(0, |columns| columns.len());
        let mut values = self.values.into_iter();
        for (index, row) in self.rows.iter().enumerate() {
            if let Some(columns) = &mut user {
                set_row(columns, *row, values.by_ref().take(width));
            }
            for ((_, keys), found) in lookups.iter_mut().zip(&self.keys) {
                keys[*row].clone_from(&found[index]);
            }
        }
    }
}

fn empty(read: &EntityRead, rows: usize) -> Columns {
    let column = |kind: &FeatureType| match kind {
        FeatureType::Number => ColumnValues::Number(vec![f64::NAN; rows]),
        FeatureType::Category => ColumnValues::Category(vec![None; rows]),
    };
    read.raw_types().iter().map(column).collect()
}

fn set_row(columns: &mut Columns, row: usize, values: impl IntoIterator<Item = FeatureValue>) {
    for (column, value) in columns.iter_mut().zip(values) {
        match (column, value) {
            (ColumnValues::Number(column), FeatureValue::Number(number)) => column[row] = number,
            (ColumnValues::Category(column), FeatureValue::Category(text)) => {
                column[row] = Some(text);
            }
            _ => {}
        }
    }
}

/// Divides consecutive groups (given by their ends) into pieces of about the same size.
fn pieces(ends: &[usize]) -> Vec<std::ops::Range<usize>> {
    let total = ends.last().copied().unwrap_or(0);
    let size = total
        .div_ceil(rayon::current_num_threads() * PIECES_PER_THREAD)
        .max(1);
    let (mut pieces, mut first, mut start) = (Vec::new(), 0, 0);
    for (group, &end) in ends.iter().enumerate() {
        if end - start >= size || group + 1 == ends.len() {
            pieces.push(first..group + 1);
            (first, start) = (group + 1, end);
        }
    }
    pieces
}

/// Sorts indices by a number, keeping the order of equal ones, and says where each group of equal ones ends.
fn group_by(
    count: usize,
    groups: usize,
    group_of: impl Fn(usize) -> u32,
) -> (Vec<u32>, Vec<usize>) {
    let mut ends = vec![0usize; groups];
    for index in 0..count {
        ends[group_of(index) as usize] += 1;
    }
    let mut start = 0;
    for end in &mut ends {
        (start, *end) = (start + *end, start);
    }
    let mut order = vec![0; count];
    for index in 0..count {
        let place = &mut ends[group_of(index) as usize];
        order[*place] = u32::try_from(index).expect("fewer than 2^32 steps");
        *place += 1;
    }
    (order, ends)
}

impl Replay<'_> {
    /// Replays all persons. Persons who become one are one group.
    fn persons(&self) -> (Vec<Vec<Columns>>, Vec<Lookups>) {
        let Collection {
            steps,
            finally,
            requests,
            ..
        } = self.collection;
        let group_of = |index: usize| finally[steps[index].person as usize];
        let (order, ends) = group_by(steps.len(), finally.len(), group_of);
        let parts: Vec<Vec<Part>> = pieces(&ends)
            .into_par_iter()
            .map(|groups| {
                let mut parts: Vec<Part> =
                    requests.iter().map(|request| self.part(request)).collect();
                for group in groups {
                    let start = if group == 0 { 0 } else { ends[group - 1] };
                    self.person(
                        order[start..ends[group]]
                            .iter()
                            .map(|&index| &steps[index as usize]),
                        &mut parts,
                    );
                }
                parts
            })
            .collect();
        let mut columns: Vec<Vec<Columns>> = requests
            .iter()
            .map(|request| {
                let rows = request.observations.len();
                request
                    .request
                    .features
                    .reads()
                    .iter()
                    .map(|read| empty(read, rows))
                    .collect()
            })
            .collect();
        let mut lookups: Vec<Lookups> = requests
            .iter()
            .map(|request| {
                let rows = request.observations.len();
                self.others(request)
                    .map(|read| (read, vec![None; rows]))
                    .collect()
            })
            .collect();
        for part in parts {
            for (request, part) in part.into_iter().enumerate() {
                let reads = requests[request].request.features.reads();
                let user = reads.iter().position(|read| read.entity == USER);
                let user = user.map(|user| &mut columns[request][user]);
                part.put(user, &mut lookups[request]);
            }
        }
        (columns, lookups)
    }

    /// The places of reads of other entities than the user.
    fn others<'r>(&self, request: &'r Collected<'_>) -> impl Iterator<Item = usize> + 'r {
        let reads = request.request.features.reads().iter().enumerate();
        reads
            .filter(|(_, read)| read.entity != USER)
            .map(|(place, _)| place)
    }

    fn part(&self, request: &Collected<'_>) -> Part {
        Part {
            keys: self.others(request).map(|_| Vec::new()).collect(),
            ..Part::default()
        }
    }

    /// Replays a person and all who became part of it.
    fn person<'s>(&self, steps: impl Iterator<Item = &'s PersonStep>, parts: &mut [Part]) {
        let user = &self.set.entities()[USER];
        let mut states: HashMap<Person, EntityState> = HashMap::new();
        // What was read since the last change: models that observe at the same event often read the same.
        let mut read_before: Vec<(usize, Person, Timestamp, std::ops::Range<usize>)> = Vec::new();
        for PersonStep { person, now, step } in steps {
            if !matches!(step, Step::Observe { .. }) {
                read_before.clear();
            }
            match step {
                Step::Event(extracted) => {
                    let state = states
                        .entry(*person)
                        .or_insert_with(|| EntityState::new(&user.plan));
                    state.update(&user.plan, extracted, *now);
                }
                Step::Merge(from) => {
                    if let Some(from) = states.remove(from) {
                        let state = states
                            .entry(*person)
                            .or_insert_with(|| EntityState::new(&user.plan));
                        state.merge(&user.plan, from, *now);
                    }
                }
                Step::Observe { request, row } => {
                    let features = &self.collection.requests[*request].request.features;
                    let state = states
                        .entry(*person)
                        .or_insert_with(|| EntityState::new(&user.plan));
                    parts[*request].rows.push(*row);
                    let mut other = 0;
                    for read in features.reads() {
                        if read.entity == USER {
                            let same =
                                |before: &&(usize, Person, Timestamp, std::ops::Range<usize>)| {
                                    let other =
                                        &self.collection.requests[before.0].request.features;
                                    (before.1, before.2) == (*person, *now)
                                        && other.reads_like(features, USER)
                                };
                            let values = match read_before.iter().find(same).cloned() {
                                Some((other, _, _, values)) => parts[other].values[values].to_vec(),
                                None => read.read(user, Some(state), *now),
                            };
                            let part = &mut parts[*request];
                            let start = part.values.len();
                            part.values.extend(values);
                            read_before.push((*request, *person, *now, start..part.values.len()));
                        } else {
                            parts[*request].keys[other].push(key_last_had(
                                self.set,
                                read.entity,
                                state,
                                *now,
                            ));
                            other += 1;
                        }
                    }
                }
            }
        }
    }

    /// Replays the keys of another entity that are looked up, and fills the columns of one read.
    fn keys(
        &self,
        entity: usize,
        lookups: &[Lookup],
        columns: &mut Columns,
        request: usize,
        read: usize,
    ) {
        let Keys { numbers, steps } = &self.collection.keys[entity];
        let definition = &self.set.entities()[entity];
        let collected = &self.collection.requests[request];
        let read = &collected.request.features.reads()[read];
        // Keys that no event of this entity names (only a condition or another event did) have states without events.
        let unseen = u32::try_from(numbers.len()).expect("fewer than 2^32 keys");
        let found: Vec<(usize, u32)> = lookups
            .iter()
            .enumerate()
            .filter_map(|(row, key)| {
                key.as_ref()
                    .map(|key| (row, numbers.get(key).copied().unwrap_or(unseen)))
            })
            .collect();
        let groups = numbers.len() + 1;
        let (step_order, step_ends) = group_by(steps.len(), groups, |index| steps[index].key);
        let (row_order, row_ends) = group_by(found.len(), groups, |index| found[index].1);
        let of = |order: &[u32], ends: &[usize], group: usize| {
            let start = if group == 0 { 0 } else { ends[group - 1] };
            order[start..ends[group]].to_vec()
        };
        let replay = |group: usize| {
            let mut rows: Vec<(Offset, Timestamp, usize)> = of(&row_order, &row_ends, group)
                .into_iter()
                .map(|index| {
                    let row = found[index as usize].0;
                    let observation = &collected.observations[row];
                    (observation.offset, observation.moment, row)
                })
                .collect();
            rows.sort_unstable();
            let mut state = EntityState::new(&definition.plan);
            let mut steps_left = of(&step_order, &step_ends, group).into_iter().peekable();
            let mut values = Vec::with_capacity(rows.len());
            for (offset, moment, row) in rows {
                while let Some(index) =
                    steps_left.next_if(|&index| steps[index as usize].extracted.offset <= offset.0)
                {
                    let step = &steps[index as usize];
                    state.update(&definition.plan, &step.extracted, step.now);
                }
                values.push((row, read.read(definition, Some(&state), moment)));
            }
            values
        };
        let rows: Vec<(usize, Vec<FeatureValue>)> = pieces(&row_ends)
            .into_par_iter()
            .flat_map_iter(|groups| groups.flat_map(&replay).collect::<Vec<_>>())
            .collect();
        for (row, values) in rows {
            set_row(columns, row, values);
        }
    }
}

/// The features, targets and record of one request.
fn dataset(
    set: &FeatureSet,
    collection: &Collection<'_>,
    collected: &Collected<'_>,
    mut columns: Vec<Columns>,
) -> Dataset {
    let rows = collected.observations.len();
    let features = &collected.request.features;
    let mut failures = collection.expression_failures + collected.condition_failures;
    for (read, columns) in features.reads().iter().zip(&mut columns) {
        failures += read.derive(columns, rows);
    }
    let features =
        FeatureTable::from_columns(features.columns().to_vec(), features.arrange(&columns));
    let targets = targets(collection, collected);
    let mut dropped = collected.dropped.clone();
    let Sampled { rows, weights } =
        sampling::sample(collected, &collection.persons, &targets, &mut dropped);
    let (features, targets) = if rows.len() < targets.len() {
        let targets = rows.iter().map(|&row| targets[row]).collect();
        (features.take(&rows), targets)
    } else {
        (features, targets)
    };
    let observed = |row: &usize| &collected.observations[*row];
    let mut dataset = Dataset {
        entities: rows
            .iter()
            .map(|row| collection.persons[observed(row).person as usize].clone())
            .collect(),
        moments: rows.iter().map(|row| observed(row).moment).collect(),
        offsets: rows.iter().map(|row| observed(row).offset).collect(),
        weights,
        features,
        targets,
        record: record::begin(set, collection, collected),
    };
    dataset.record.dropped = dropped;
    dataset.record.expression_failures = failures;
    dataset.describe(&collected.request.model.target);
    dataset
}

/// What became of each observation.
fn targets(collection: &Collection<'_>, collected: &Collected<'_>) -> Vec<f64> {
    let finally = &collection.finally;
    let mut events: Vec<TargetEvent> = collected.target_events.clone();
    for event in &mut events {
        event.person = finally[event.person as usize];
    }
    events.par_sort_unstable_by_key(|event| (event.person, event.timestamp, event.offset));
    let tracker = &collected.tracker;
    collected
        .observations
        .par_iter()
        .map(|row| {
            let person = finally[row.person as usize];
            let first = events
                .partition_point(|event| (event.person, event.timestamp) <= (person, row.moment));
            let end = row.moment + tracker.within();
            let mut pending = tracker.pending(row.moment, row.except);
            let after = events[first..]
                .iter()
                .take_while(|event| event.person == person && event.timestamp <= end);
            for event in after {
                if let Some(resolved) =
                    tracker.take(&mut pending, event.timestamp, event.offset, event.happened)
                {
                    return resolved.value;
                }
            }
            // Observations whose horizon has not passed were dropped.
            tracker
                .expire(&pending, end)
                .map_or(f64::NAN, |resolved| resolved.value)
        })
        .collect()
}
