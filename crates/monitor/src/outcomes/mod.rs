//! Joins each decision with what happened in its horizon: whether the target came true, or what of a list was taken.
//!
//! The joiner follows two orders: the decision log and the event log. A decision is *open* until its target
//! event arrives or its horizon has passed; then an [`Outcome`] is stored. Open decisions live in the state
//! store, by person; memory holds one small counter per person who has any.

mod follow;
mod keys;
mod reading;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tidemill_core::event::{EventKind, PersonKey};
use tidemill_core::project::Project;
use tidemill_core::sync::Mutex;
use tidemill_core::{Decision, Event, ModelName, Offset, ProjectName, Timestamp};
use tidemill_features::target::Resolved;
use tidemill_features::{Engine, FeatureError};
use tidemill_store::lake::Sequenced;
use tidemill_store::{LoggedEvent, StateBatch, StateStore, StoreError};

use self::follow::{Follow, Open, Seen};
use self::keys::{
    deadline_of, due_key, open_key, open_prefix, outcome_key, person_of, sequence_of,
};

/// Open decisions: length of the person's key, the key, place in the decision log.
const OPEN: &str = "open_decisions";
/// The same by deadline: deadline, place; the value is the person.
const DUE: &str = "open_due";
/// Outcomes by model, moment of the decision and place: what live quality reads.
const OUTCOMES: &str = "outcomes";
/// Outcomes by their own place, until they have landed; the value is the key in [`OUTCOMES`].
const UNLANDED: &str = "outcomes_unlanded";
/// Where the joiner stands, under the key `cursor`.
const JOINER: &str = "joiner";
const CURSOR: &[u8] = b"cursor";
/// How many entries are read from the state store at a time.
const PAGE: usize = 1_000;
/// How many of the newest decisions about a person are looked at for what they were shown.
pub const SHOWN_MAX: usize = 100;
/// How many deadlines are looked at together: usually one or two have come, and the rest of the page is read in vain.
const DUE_PAGE: usize = 32;

/// Why joining failed. Nothing is lost: the cursor stays, and joining goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum MonitorError {
    /// The state store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The feature engine failed.
    #[error("find the person of an event")]
    Features(#[from] FeatureError),
    /// A stored entry is damaged.
    #[error("read {what}")]
    Damaged {
        /// Which kind of entry.
        what: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Where the joiner stands in the orders that it follows and in the one that it makes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The last decision that was opened.
    pub decision: u64,
    /// The last event that was observed.
    pub offset: Offset,
    /// The last outcome that was stored.
    pub outcome: u64,
}

/// Joins the decisions of one project with their outcomes. Used by one consumer; reading is free for all.
pub struct OutcomeJoiner {
    project: ProjectName,
    state: Arc<dyn StateStore>,
    followed: BTreeMap<ModelName, Follow>,
    inner: Mutex<Inner>,
}

struct Inner {
    cursor: Cursor,
    /// How many open decisions a person has; saves a read for everybody else's events.
    people: HashMap<String, u32>,
    /// Nothing is due before this. Without it every look at the queue would read its front again, which in a
    /// log-structured store is a field of removed entries.
    next_due: Timestamp,
    /// Everything up to this key was resolved.
    expired: Vec<u8>,
    /// Everything up to this place has landed and was removed.
    landed: u64,
}

/// Changes of one step, read back before they are committed.
#[derive(Default)]
struct Step {
    batch: StateBatch,
    loaded: HashMap<String, BTreeMap<u64, Open>>,
    /// Decisions that this step opens about people who are not loaded.
    opened: HashMap<String, BTreeMap<u64, Open>>,
    /// Decisions that are loaded and have seen something, by person; written once, at the end.
    changed: BTreeSet<(String, u64)>,
    /// Decisions that this step has resolved because their time was over.
    expired: HashSet<u64>,
    /// The earliest deadline of the decisions that this step opens.
    earliest: Option<Timestamp>,
}

/// What everybody takes, most taken first, by model that recommends.
pub type Popular<'p> = dyn Fn(&ModelName) -> Arc<Vec<Arc<str>>> + 'p;

impl Step {
    /// Writes the decisions that have seen something and are still open.
    fn write_changed(&mut self) -> Result<(), MonitorError> {
        for (person, sequence) in std::mem::take(&mut self.changed) {
            let of_person = self.loaded.get(&person);
            if let Some(open) = of_person.and_then(|open| open.get(&sequence)) {
                self.batch
                    .put(OPEN, open_key(&person, sequence), encode(open)?);
            }
        }
        Ok(())
    }
}

impl OutcomeJoiner {
    /// Opens the joiner where it stopped.
    ///
    /// # Errors
    /// When the state store fails or is damaged.
    pub fn open(project: &Project, state: Arc<dyn StateStore>) -> Result<Self, MonitorError> {
        let predicting = project.models.iter();
        let mut followed: BTreeMap<ModelName, Follow> = predicting
            .map(|(name, model)| (name.clone(), Follow::target(model)))
            .collect();
        if let Some(items) = &project.items {
            let recommending = project.recommenders.iter();
            followed.extend(
                recommending.map(|(name, model)| (name.clone(), Follow::taken(model, items))),
            );
        }
        let cursor = match state.get(&project.name, JOINER, CURSOR)? {
            Some(bytes) => decode("the joiner's cursor", &bytes)?,
            None => Cursor::default(),
        };
        let people = people_waiting(&project.name, state.as_ref())?;
        let inner = Mutex::new(Inner {
            cursor,
            people,
            next_due: Timestamp::EPOCH,
            expired: Vec::new(),
            landed: 0,
        });
        Ok(Self {
            project: project.name.clone(),
            state,
            followed,
            inner,
        })
    }

    /// Where the joiner stands.
    pub fn cursor(&self) -> Cursor {
        self.inner.lock().cursor
    }

    /// How many decisions wait for their outcome.
    pub fn waiting(&self) -> u64 {
        self.inner
            .lock()
            .people
            .values()
            .map(|&count| u64::from(count))
            .sum()
    }

    /// Goes one step on: opens the decisions that follow the cursor, then observes the events that follow it.
    /// `between` reads the log, for a decision that was logged after a later event had been observed; `popular` says with what a
    /// list is compared.
    ///
    /// # Errors
    /// When a store fails; the step is then repeated as a whole.
    pub fn advance(
        &self,
        decisions: &[Sequenced<Decision>],
        events: &[LoggedEvent],
        engine: &Engine,
        between: &dyn Fn(Offset, Offset) -> Result<Vec<LoggedEvent>, StoreError>,
        popular: &Popular<'_>,
    ) -> Result<(), MonitorError> {
        let mut inner = self.inner.lock();
        let mut step = Step::default();
        let mut cursor = inner.cursor;
        let mut people = std::mem::take(&mut inner.people);
        let result = (|| {
            let known = cursor.decision;
            for decision in decisions
                .iter()
                .filter(|decision| decision.sequence > known)
            {
                self.open_decision(decision, popular, &mut step, &mut people)?;
                if decision.value.offset < cursor.offset {
                    let late = Some(decision.sequence);
                    for event in between(decision.value.offset, cursor.offset)? {
                        self.observe(&event, late, engine, &mut step, &mut people, &mut cursor)?;
                    }
                }
                cursor.decision = decision.sequence;
            }
            for event in events
                .iter()
                .filter(|event| event.offset > inner.cursor.offset)
            {
                self.observe(event, None, engine, &mut step, &mut people, &mut cursor)?;
                cursor.offset = event.offset;
            }
            Ok(())
        })();
        self.finish(&mut inner, step, people, cursor, result)
    }

    /// Resolves the decisions whose horizon has passed at `now`. Call it once every event up to `now` was observed.
    /// Returns how many were resolved.
    ///
    /// # Errors
    /// When the state store fails; nothing is resolved then.
    pub fn expire(&self, now: Timestamp) -> Result<usize, MonitorError> {
        let mut resolved = 0;
        loop {
            let mut inner = self.inner.lock();
            if now < inner.next_due {
                return Ok(resolved);
            }
            let page = self
                .state
                .scan(&self.project, DUE, &[], Some(&inner.expired), DUE_PAGE)?;
            let due = page
                .iter()
                .take_while(|(key, _)| deadline_of(key) <= now)
                .count();
            let mut step = Step::default();
            let mut cursor = inner.cursor;
            let mut people = std::mem::take(&mut inner.people);
            let result = page[..due].iter().try_for_each(|(key, person)| {
                let person = String::from_utf8_lossy(person).into_owned();
                self.expire_one(key, &person, now, &mut step, &mut people, &mut cursor)
            });
            self.finish(&mut inner, step, people, cursor, result)?;
            resolved += due;
            if let Some((last, _)) = due.checked_sub(1).and_then(|last| page.get(last)) {
                inner.expired.clone_from(last);
            }
            if due < page.len() {
                inner.next_due = deadline_of(&page[due].0);
            } else if page.len() < DUE_PAGE {
                inner.next_due = Timestamp::MAX;
            }
        }
    }

    fn expire_one(
        &self,
        due_key: &[u8],
        person: &str,
        now: Timestamp,
        step: &mut Step,
        people: &mut HashMap<String, u32>,
        cursor: &mut Cursor,
    ) -> Result<(), MonitorError> {
        let sequence = sequence_of(due_key);
        // where the project's horizons changed, a decision may have two deadlines
        let open = match step.expired.insert(sequence) {
            // this one alone, and not all that the person waits for: what is stored is the newest, as this step loads nothing
            true => self
                .state
                .get(&self.project, OPEN, &open_key(person, sequence))?,
            false => None,
        };
        let Some(open) = open else {
            step.batch.remove(DUE, due_key);
            return Ok(());
        };
        let open: Open = decode("an open decision", &open)?;
        let resolved = match self.followed.get(&open.model) {
            Some(follow) => follow.expire(&open, now),
            None => None, // the model left the project file: its decisions have no outcome any more
        };
        self.close(person, sequence, &open, resolved, step, people, cursor)
    }

    /// Commits a step, or puts everything back as it was.
    fn finish(
        &self,
        inner: &mut Inner,
        mut step: Step,
        people: HashMap<String, u32>,
        cursor: Cursor,
        result: Result<(), MonitorError>,
    ) -> Result<(), MonitorError> {
        inner.people = people;
        let committed = result.and_then(|()| {
            step.write_changed()?;
            if cursor == inner.cursor && step.batch.is_empty() {
                return Ok(());
            }
            step.batch.put(JOINER, CURSOR, encode(&cursor)?);
            Ok(self
                .state
                .commit(&self.project, std::mem::take(&mut step.batch))?)
        });
        match committed {
            Ok(()) => {
                inner.cursor = cursor;
                if let Some(earliest) = step.earliest
                    && earliest < inner.next_due
                {
                    inner.next_due = earliest;
                    // a deadline may lie before what was resolved, where the project's horizons changed
                    if earliest <= deadline_of(&inner.expired) {
                        inner.expired.clear();
                    }
                }
            }
            // the counters have run ahead; only what is stored is true
            Err(_) => {
                if let Ok(people) = people_waiting(&self.project, self.state.as_ref()) {
                    inner.people = people;
                }
            }
        }
        committed
    }

    fn open_decision(
        &self,
        decision: &Sequenced<Decision>,
        popular: &Popular<'_>,
        step: &mut Step,
        people: &mut HashMap<String, u32>,
    ) -> Result<(), MonitorError> {
        let value = &decision.value;
        let Some(follow) = self.followed.get(&value.model) else {
            return Ok(());
        };
        let Some(open) = follow.open(value, || popular(&value.model)) else {
            return Ok(());
        };
        let deadline = value.moment + follow.within();
        step.earliest = Some(
            step.earliest
                .map_or(deadline, |earliest| earliest.min(deadline)),
        );
        step.batch.put(
            OPEN,
            open_key(&value.entity, decision.sequence),
            encode(&open)?,
        );
        step.batch.put(
            DUE,
            due_key(deadline, decision.sequence),
            value.entity.as_bytes(),
        );
        // reading all that somebody waits for, to add one, would cost more with every answer about them
        match step.loaded.get_mut(&value.entity) {
            Some(loaded) => loaded,
            None => step.opened.entry(value.entity.clone()).or_default(),
        }
        .insert(decision.sequence, open);
        *people.entry(value.entity.clone()).or_insert(0) += 1;
        Ok(())
    }

    /// Shows an event to the decisions about its person. Where `late` names a decision that was logged after the event
    /// had been observed, only that one is shown it: the others have counted it.
    fn observe(
        &self,
        event: &LoggedEvent,
        late: Option<u64>,
        engine: &Engine,
        step: &mut Step,
        people: &mut HashMap<String, u32>,
        cursor: &mut Cursor,
    ) -> Result<(), MonitorError> {
        if matches!(event.event.kind, EventKind::Identify | EventKind::Alias) {
            for person in people_named(&event.event) {
                let canonical = engine.canonical(&person)?;
                self.move_open(person.as_str(), canonical.as_str(), step, people)?;
            }
        }
        if people.is_empty()
            || !self
                .followed
                .values()
                .any(|follow| follow.is_relevant(&event.event.name))
        {
            return Ok(());
        }
        let Some(person) = event.event.person() else {
            return Ok(());
        };
        let person = engine.canonical(&person)?;
        let person = person.as_str();
        if !people.contains_key(person) {
            return Ok(());
        }
        self.load(person, step)?;
        let mut resolved = Vec::new();
        for (&sequence, open) in step.loaded.get_mut(person).into_iter().flatten() {
            let Some(follow) = self.followed.get(&open.model) else {
                continue;
            };
            if late.is_some_and(|late| late != sequence) {
                continue;
            }
            match follow.observe(open, &event.event, event.offset) {
                Seen::Nothing => {}
                Seen::Something => {
                    step.changed.insert((person.to_owned(), sequence));
                }
                Seen::Enough(outcome) => resolved.push((sequence, outcome)),
            }
        }
        for (sequence, outcome) in resolved {
            let open = step
                .loaded
                .get_mut(person)
                .and_then(|open| open.remove(&sequence));
            if let Some(open) = open {
                self.close(person, sequence, &open, Some(outcome), step, people, cursor)?;
            }
        }
        Ok(())
    }

    /// Decisions about somebody who turned out to be somebody else wait for that person's events from now on.
    fn move_open(
        &self,
        from: &str,
        to: &str,
        step: &mut Step,
        people: &mut HashMap<String, u32>,
    ) -> Result<(), MonitorError> {
        if from == to || !people.contains_key(from) {
            return Ok(());
        }
        self.load(from, step)?;
        self.load(to, step)?;
        let moved = step.loaded.remove(from).unwrap_or_default();
        step.loaded.insert(from.to_owned(), BTreeMap::new());
        let count = people.remove(from).unwrap_or(0);
        *people.entry(to.to_owned()).or_insert(0) += count;
        for (sequence, open) in moved {
            step.batch.remove(OPEN, open_key(from, sequence));
            step.batch.put(OPEN, open_key(to, sequence), encode(&open)?);
            if let Some(follow) = self.followed.get(&open.model) {
                let deadline = open.moment + follow.within();
                step.batch
                    .put(DUE, due_key(deadline, sequence), to.as_bytes());
            }
            step.loaded
                .entry(to.to_owned())
                .or_default()
                .insert(sequence, open);
        }
        Ok(())
    }

    /// Removes an open decision and stores its outcome, if it has one.
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one step, borrowed apart"
    )]
    fn close(
        &self,
        person: &str,
        sequence: u64,
        open: &Open,
        resolved: Option<Resolved>,
        step: &mut Step,
        people: &mut HashMap<String, u32>,
        cursor: &mut Cursor,
    ) -> Result<(), MonitorError> {
        step.batch.remove(OPEN, open_key(person, sequence));
        if let Some(follow) = self.followed.get(&open.model) {
            step.batch
                .remove(DUE, due_key(open.moment + follow.within(), sequence));
        }
        if let Some(count) = people.get_mut(person) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                people.remove(person);
            }
        }
        let Some(resolved) = resolved else {
            return Ok(());
        };
        cursor.outcome += 1;
        let key = outcome_key(&open.model, open.moment, sequence);
        step.batch
            .put(UNLANDED, cursor.outcome.to_be_bytes(), key.clone());
        step.batch
            .put(OUTCOMES, key, encode(&open.outcome(resolved))?);
        Ok(())
    }

    fn load(&self, person: &str, step: &mut Step) -> Result<(), MonitorError> {
        if step.loaded.contains_key(person) {
            return Ok(());
        }
        let mut open = BTreeMap::new();
        let prefix = open_prefix(person);
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self
                .state
                .scan(&self.project, OPEN, &prefix, after.as_deref(), PAGE)?;
            let full = page.len() == PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, value) in page {
                open.insert(sequence_of(&key), decode("an open decision", &value)?);
            }
            if !full {
                break;
            }
        }
        open.extend(step.opened.remove(person).unwrap_or_default());
        step.loaded.insert(person.to_owned(), open);
        Ok(())
    }
}

/// How many open decisions each person has.
fn people_waiting(
    project: &ProjectName,
    state: &dyn StateStore,
) -> Result<HashMap<String, u32>, StoreError> {
    let mut people = HashMap::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = state.scan(project, OPEN, &[], after.as_deref(), PAGE)?;
        let Some((last, _)) = page.last() else {
            return Ok(people);
        };
        after = Some(last.clone());
        for (key, _) in &page {
            *people.entry(person_of(key)).or_insert(0) += 1;
        }
    }
}

/// Every key under which an identifying event names its person.
fn people_named(event: &Event) -> Vec<PersonKey> {
    let mut people = Vec::new();
    people.extend(event.anonymous_id.as_deref().map(PersonKey::anonymous));
    people.extend(event.previous_id.as_deref().map(PersonKey::anonymous));
    people.extend(event.previous_id.as_deref().map(PersonKey::user));
    people.extend(event.user_id.as_deref().map(PersonKey::user));
    people
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, MonitorError> {
    serde_json::to_vec(value).map_err(|source| MonitorError::Damaged {
        what: "an entry to be stored",
        source,
    })
}

fn decode<T: for<'de> Deserialize<'de>>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, MonitorError> {
    serde_json::from_slice(bytes).map_err(|source| MonitorError::Damaged { what, source })
}
