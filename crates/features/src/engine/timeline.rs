//! The newest events of each person, for the pages that show one: a ring of rows per person in the state store.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tidemill_core::event::PersonKey;
use tidemill_core::{Event, Offset, ProjectName};
use tidemill_store::{LoggedEvent, StateBatch, StateStore};

use crate::FeatureError;

/// The table of timelines: a person's key with its length, then a place in the ring → offset and event. The row at place
/// [`HEAD`] says how many events were ever written.
const TIMELINES: &str = "timelines";
const HEAD: u32 = u32::MAX;

/// Timelines, with what has not been committed yet.
pub(super) struct Timelines {
    project: ProjectName,
    store: Arc<dyn StateStore>,
    /// The most events per person; 0 keeps none.
    limit: usize,
    pending: HashMap<PersonKey, Vec<(Offset, Vec<u8>)>>,
    /// Persons who became one, in order.
    merges: Vec<(PersonKey, PersonKey)>,
}

fn prefix(person: &PersonKey) -> Vec<u8> {
    let key = person.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(8 + key.len());
    bytes.extend_from_slice(&(key.len() as u32).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes
}

fn row_key(person: &PersonKey, place: u32) -> Vec<u8> {
    let mut key = prefix(person);
    key.extend_from_slice(&place.to_be_bytes());
    key
}

/// A row: the offset and the event as JSON.
type Row = (Offset, Vec<u8>);

impl Timelines {
    pub(super) fn new(project: ProjectName, store: Arc<dyn StateStore>, limit: usize) -> Self {
        Self {
            project,
            store,
            limit,
            pending: HashMap::new(),
            merges: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, person: &PersonKey, logged: &LoggedEvent) {
        if self.limit == 0 {
            return;
        }
        let Ok(json) = serde_json::to_vec(&logged.event) else {
            return;
        };
        let rows = match self.pending.get_mut(person) {
            Some(rows) => rows,
            None => self.pending.entry(person.clone()).or_default(),
        };
        rows.push((logged.offset, json));
        // Twice the limit, so that old ones are dropped in bulk.
        if rows.len() > 2 * self.limit {
            rows.drain(..rows.len() - self.limit);
        }
    }

    pub(super) fn merge(&mut self, from: &PersonKey, into: &PersonKey) {
        if self.limit == 0 {
            return;
        }
        self.merges.push((from.clone(), into.clone()));
        if let Some(rows) = self.pending.remove(from) {
            let ours = self.pending.entry(into.clone()).or_default();
            ours.extend(rows);
            ours.sort_unstable_by_key(|(offset, _)| *offset);
        }
    }

    /// The newest events of a canonical person, newest first.
    pub(super) fn read(
        &self,
        person: &PersonKey,
        limit: usize,
    ) -> Result<Vec<LoggedEvent>, FeatureError> {
        let mut sources = vec![person];
        for (from, into) in self.merges.iter().rev() {
            if sources.contains(&into) && !sources.contains(&from) {
                sources.push(from);
            }
        }
        let mut rows: BTreeMap<Offset, Vec<u8>> = BTreeMap::new();
        for source in sources {
            rows.extend(self.stored(source)?.0);
        }
        rows.extend(self.pending.get(person).into_iter().flatten().cloned());
        let newest = rows.into_iter().rev().take(limit.min(self.limit));
        newest.map(|(offset, json)| decode(offset, &json)).collect()
    }

    /// The stored rows of a person in the order of the ring, and how many were ever written.
    fn stored(&self, person: &PersonKey) -> Result<(Vec<Row>, u64), FeatureError> {
        let prefix = prefix(person);
        let rows = self
            .store
            .scan(&self.project, TIMELINES, &prefix, None, usize::MAX)?;
        let damaged =
            || FeatureError::damaged(format!("the timeline of {person}"), "a row is too short");
        let (mut events, mut written) = (Vec::new(), 0);
        for (key, value) in rows {
            let (number, rest) = value.split_first_chunk::<8>().ok_or_else(damaged)?;
            let number = u64::from_be_bytes(*number);
            if key.ends_with(&HEAD.to_be_bytes()) {
                written = number;
            } else {
                events.push((Offset(number), rest.to_vec()));
            }
        }
        Ok((events, written))
    }

    /// Adds what has not been committed to a batch.
    pub(super) fn collect(&self, batch: &mut StateBatch) -> Result<(), FeatureError> {
        let mut moved: HashMap<&PersonKey, Vec<Row>> = HashMap::new();
        for (from, into) in &self.merges {
            let (mut rows, _) = self.stored(from)?;
            rows.extend(moved.remove(from).unwrap_or_default());
            self.remove(batch, from)?;
            moved.entry(into).or_default().extend(rows);
        }
        for (person, rows) in &self.pending {
            if !moved.contains_key(person) {
                let head = self
                    .store
                    .get(&self.project, TIMELINES, &row_key(person, HEAD))?;
                let written = head
                    .and_then(|head| Some(u64::from_be_bytes(head.try_into().ok()?)))
                    .unwrap_or(0);
                self.write(batch, person, written, rows);
            }
        }
        for (person, mut rows) in moved {
            let (own, _) = self.stored(person)?;
            rows.extend(own);
            rows.extend(self.pending.get(person).into_iter().flatten().cloned());
            rows.sort_unstable_by_key(|(offset, _)| *offset);
            rows.dedup_by_key(|(offset, _)| *offset);
            self.remove(batch, person)?;
            self.write(
                batch,
                person,
                0,
                &rows[rows.len().saturating_sub(self.limit)..],
            );
        }
        Ok(())
    }

    fn remove(&self, batch: &mut StateBatch, person: &PersonKey) -> Result<(), FeatureError> {
        for (key, _) in
            self.store
                .scan(&self.project, TIMELINES, &prefix(person), None, usize::MAX)?
        {
            batch.remove(TIMELINES, key);
        }
        Ok(())
    }

    /// Removes all that is known of some persons.
    pub(super) fn forget(
        &mut self,
        batch: &mut StateBatch,
        persons: &[PersonKey],
    ) -> Result<(), FeatureError> {
        for person in persons {
            self.pending.remove(person);
            self.remove(batch, person)?;
        }
        let is_one = |person: &PersonKey| persons.contains(person);
        self.merges
            .retain(|(from, into)| !is_one(from) && !is_one(into));
        Ok(())
    }

    fn write(&self, batch: &mut StateBatch, person: &PersonKey, written: u64, rows: &[Row]) {
        let skipped = rows.len().saturating_sub(self.limit);
        for (index, (offset, json)) in rows.iter().enumerate().skip(skipped) {
            let place = (written + index as u64) % self.limit as u64;
            let value = [offset.0.to_be_bytes().as_slice(), json].concat();
            batch.put(TIMELINES, row_key(person, place as u32), value);
        }
        let written = written + rows.len() as u64;
        batch.put(TIMELINES, row_key(person, HEAD), written.to_be_bytes());
    }

    /// What had been collected is committed.
    pub(super) fn committed(&mut self) {
        self.pending.clear();
        self.merges.clear();
    }
}

fn decode(offset: Offset, json: &[u8]) -> Result<LoggedEvent, FeatureError> {
    let event: Event = serde_json::from_slice(json).map_err(|error| {
        FeatureError::damaged(format!("event {offset} of a timeline"), error.to_string())
    })?;
    Ok(LoggedEvent { offset, event })
}
