//! The state of one entity: its accumulators, and events stamped in the future that wait for their time.

use std::sync::Arc;

use tidemill_core::project::Operation;
use tidemill_core::{FeatureValue, Span, Timestamp};

use super::cell::{self, Cell, Place};
use super::parts::{PairPlan, Pairs, Part, Session, Shown};
use super::reading::{Reading, feature};
use super::tiles::{Tiles, Windows};
use crate::codec::{DecodeError, Reader, Writer};
use crate::value::Value;

/// The most future events that wait in one state. Further ones count at once, as of now; how many is counted.
pub const PENDING_MAX: usize = 256;

/// The version of the bytes of a state.
const FORMAT: u8 = 3;
/// The version before there were sessions and pairs, which is otherwise the same: it is read, and written anew as the newest.
const FORMAT_WITHOUT_PARTS: u8 = 2;

/// One aggregate: its operation and its windows, `None` for "since the beginning".
#[derive(Debug, Clone, PartialEq)]
pub struct AggregatePlan {
    /// The operation.
    pub operation: Operation,
    /// The windows.
    pub windows: Option<Windows>,
    /// Which of the entity's events it sums up.
    pub part: Part,
}

/// What an event does to one aggregate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Step {
    /// Which aggregate.
    pub aggregate: usize,
    /// The bit of [`Extracted::passed`] that must be set.
    pub condition: Option<u32>,
    /// Which of [`Extracted::values`] it takes.
    pub value: Option<usize>,
    /// For an aggregate of a pair, which of the values names the partner.
    pub partner: Option<usize>,
    /// Whether it takes an attribute away.
    pub removes: bool,
}

/// What is needed to update and read the states of one kind of entity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StatePlan {
    /// The aggregates, in the order of a state's accumulators.
    pub aggregates: Vec<AggregatePlan>,
    /// What to do, for each kind of event that the definitions tell apart.
    pub steps: Vec<Vec<Step>>,
    /// What such an event does to attributes: at once and in the order of the log, whenever it happened.
    pub changes: Vec<Vec<Step>>,
    /// Whether such an event is something that people do, and not one of the system.
    pub acts: Vec<bool>,
    /// How long nothing happens before a session is over, in microseconds, where there are features of sessions.
    pub session_gap: Option<i64>,
    /// What persons are paired with.
    pub pairs: Vec<PairPlan>,
    /// How long after the last event a state begins anew, in microseconds; never where absent.
    pub forget_after: Option<i64>,
}

impl StatePlan {
    /// Whether what was last updated then is forgotten at a moment.
    pub(crate) fn forgets(&self, updated: i64, moment: i64) -> bool {
        self.forget_after
            .is_some_and(|after| moment.saturating_sub(updated) > after)
    }
}

/// What one kind of entity needs of an event: all that is kept of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Extracted {
    /// When it happened, in microseconds.
    pub timestamp: i64,
    /// Its place in the log.
    pub offset: u64,
    /// Which of [`StatePlan::steps`] to take.
    pub steps: u32,
    /// The conditions that hold, a bit each.
    pub passed: u64,
    /// The values.
    pub values: Box<[Value]>,
}

/// What is remembered for one aggregate.
#[derive(Debug, Clone, PartialEq)]
pub enum Accumulator {
    /// For windows: cells by time.
    Tiles(Tiles),
    /// Everything since the beginning, or the newest of it; `None` before the first event.
    Total(Option<Cell>),
    /// A number that decays, and the time in microseconds at which it had that value; zero before the first event.
    Decayed(f64, i64),
    /// What an attribute is, and the offset of the event that says so; `None` before the first one.
    Attribute(Option<(u64, Value)>),
}

/// All that is remembered of one entity.
#[derive(Debug, Clone, PartialEq)]
pub struct EntityState {
    now: i64,
    events: u64,
    /// Those of pairs stay empty: each partner has its own.
    accumulators: Vec<Accumulator>,
    session: Option<Session>,
    /// For each of [`StatePlan::pairs`].
    pairs: Vec<Pairs>,
    /// In the order of timestamps, then offsets; all later than `now`.
    pending: Vec<Extracted>,
}

impl AggregatePlan {
    pub(super) fn start(&self) -> Accumulator {
        match (self.operation, &self.windows) {
            (Operation::Attribute(_), _) => Accumulator::Attribute(None),
            (Operation::Decayed { .. }, _) => Accumulator::Decayed(0.0, 0),
            // The newest in a window are among the newest of all, so there is no need for tiles.
            (Operation::Last(_) | Operation::SinceLast | Operation::Recent { .. }, _) => {
                Accumulator::Total(None)
            }
            (_, Some(_)) => Accumulator::Tiles(Tiles::EMPTY),
            (_, None) => Accumulator::Total(None),
        }
    }

    pub(super) fn add(&self, accumulator: &mut Accumulator, place: Place, value: &Value, now: i64) {
        match accumulator {
            Accumulator::Tiles(tiles) => {
                if let Some(windows) = &self.windows {
                    windows.add(tiles, self.operation, place, value, now);
                }
            }
            Accumulator::Total(Some(cell)) => cell.add(self.operation, place, value),
            Accumulator::Total(empty) => *empty = Cell::of(self.operation, place, value),
            Accumulator::Decayed(amount, at) => {
                let weight = match value {
                    Value::Number(number) => *number,
                    Value::Missing | Value::Category(_) => return,
                };
                (*amount, *at) =
                    decay_to_newer(self.operation, (*amount, *at), (weight, place.timestamp));
            }
            Accumulator::Attribute(is) => *is = Some((place.offset, value.clone())),
        }
    }

    pub(super) fn merge(&self, ours: &mut Accumulator, theirs: Accumulator, now: i64) {
        match (ours, theirs) {
            (Accumulator::Tiles(ours), Accumulator::Tiles(theirs)) => {
                if let Some(windows) = &self.windows {
                    windows.merge(ours, theirs, self.operation, now);
                }
            }
            (Accumulator::Total(Some(ours)), Accumulator::Total(Some(theirs))) => {
                ours.merge(self.operation, &theirs);
            }
            (Accumulator::Total(ours @ None), Accumulator::Total(theirs)) => *ours = theirs,
            (Accumulator::Decayed(amount, at), Accumulator::Decayed(b_amount, b_at)) => {
                (*amount, *at) = decay_to_newer(self.operation, (*amount, *at), (b_amount, b_at));
            }
            (Accumulator::Attribute(ours), Accumulator::Attribute(theirs)) => {
                let changed = |is: &Option<(u64, Value)>| is.as_ref().map(|(offset, _)| *offset);
                if changed(&theirs) > changed(ours) {
                    *ours = theirs;
                }
            }
            _ => {}
        }
    }

    pub(super) fn encode(&self, accumulator: &Accumulator, writer: &mut Writer, now: i64) {
        match accumulator {
            Accumulator::Tiles(tiles) => {
                if let Some(windows) = &self.windows {
                    windows.encode(tiles, writer, now);
                }
            }
            Accumulator::Total(cell) => {
                writer.byte(u8::from(cell.is_some()));
                if let Some(cell) = cell {
                    cell.encode(writer, now);
                }
            }
            Accumulator::Decayed(amount, at) => {
                writer.float(*amount);
                writer.signed(now.wrapping_sub(*at));
            }
            Accumulator::Attribute(is) => {
                writer.byte(u8::from(is.is_some()));
                if let Some((offset, value)) = is {
                    writer.unsigned(*offset);
                    cell::encode_value(value, writer);
                }
            }
        }
    }

    /// Appends what the accumulator says at `moment`, for each of the windows: one value, for `top` and `recent` their `k`.
    fn read(
        &self,
        accumulator: &Accumulator,
        windows: impl Iterator<Item = usize>,
        moment: i64,
        row: &mut Vec<FeatureValue>,
    ) {
        match accumulator {
            Accumulator::Tiles(tiles) => {
                if let Some(plan) = &self.windows {
                    plan.read(tiles, self.operation, windows, moment, row);
                }
            }
            Accumulator::Total(cell) => {
                for window in windows {
                    let start = self
                        .windows
                        .as_ref()
                        .map_or(i64::MIN, |windows| windows.start(window, moment));
                    let mut reading = Reading::new(self.operation);
                    if let Some(cell) = cell {
                        reading.add_since(cell, start);
                    }
                    reading.finish(moment, row);
                }
            }
            Accumulator::Decayed(amount, at) => {
                row.push(FeatureValue::number(decayed(
                    self.operation,
                    (*amount, *at),
                    moment,
                )));
            }
            Accumulator::Attribute(is) => {
                let is = is.as_ref().map(|(_, value)| feature(value));
                row.push(is.unwrap_or_default());
            }
        }
    }
}

/// An amount with its time, as it is at a later time: amount · 2^(−elapsed / half-life).
fn decayed(operation: Operation, (amount, at): (f64, i64), moment: i64) -> f64 {
    let Operation::Decayed { half_life } = operation else {
        return amount;
    };
    if amount == 0.0 {
        return 0.0;
    }
    let elapsed = moment.saturating_sub(at).max(0) as f64;
    amount * (-elapsed / half_life.micros() as f64).exp2()
}

fn decay_to_newer(operation: Operation, a: (f64, i64), b: (f64, i64)) -> (f64, i64) {
    let newer = a.1.max(b.1);
    (
        cell::add(decayed(operation, a, newer), decayed(operation, b, newer)),
        newer,
    )
}

impl EntityState {
    /// The state of an entity of which nothing has been seen.
    pub fn new(plan: &StatePlan) -> Self {
        let accumulators = plan.aggregates.iter().map(AggregatePlan::start).collect();
        Self {
            now: 0,
            events: 0,
            accumulators,
            session: None,
            pairs: vec![Pairs::default(); plan.pairs.len()],
            pending: Vec::new(),
        }
    }

    /// How many events it has seen.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Takes an event; `now` is the engine's time at its place in the log and never goes back. Returns whether the event
    /// was stamped in the future and, since too many such events wait already, counted at once instead.
    pub fn update(&mut self, plan: &StatePlan, event: &Extracted, now: Timestamp) -> bool {
        self.forget(plan, now.micros());
        self.advance(plan, now.micros());
        self.events += 1;
        self.change(plan, event);
        if event.timestamp <= self.now {
            self.add(plan, event, event.timestamp);
            return false;
        }
        if self.pending.len() >= PENDING_MAX {
            self.add(plan, event, self.now);
            return true;
        }
        self.wait(event.clone());
        false
    }

    /// Whether what it knows is forgotten at a moment.
    pub(crate) fn is_forgotten(&self, plan: &StatePlan, moment: Timestamp) -> bool {
        plan.forgets(self.now, moment.micros())
    }

    /// Begins anew where nothing has happened for too long.
    fn forget(&mut self, plan: &StatePlan, moment: i64) {
        if plan.forgets(self.now, moment) {
            *self = Self::new(plan);
        }
    }

    fn wait(&mut self, event: Extracted) {
        let key = |event: &Extracted| (event.timestamp, event.offset);
        let index = self
            .pending
            .partition_point(|other| key(other) <= key(&event));
        self.pending.insert(index, event);
    }

    fn add(&mut self, plan: &StatePlan, event: &Extracted, timestamp: i64) {
        let place = Place {
            timestamp,
            offset: event.offset,
        };
        let kind = event.steps as usize;
        let Some(steps) = plan.steps.get(kind) else {
            return;
        };
        let acts = plan.acts.get(kind).copied().unwrap_or(false);
        let in_session = self.enter_session(plan, timestamp, acts);
        for step in steps.iter().filter(|step| step.is_taken(event)) {
            // Without a value every event weighs one.
            let one = Value::Number(1.0);
            let value = step.value.map_or(&one, |index| &event.values[index]);
            let aggregate = &plan.aggregates[step.aggregate];
            let accumulator = match aggregate.part {
                Part::Session if !in_session => continue,
                Part::Whole | Part::Session => &mut self.accumulators[step.aggregate],
                Part::Pair { pair, of_pair } => {
                    let Some(Value::Category(partner)) =
                        step.partner.map(|index| &event.values[index])
                    else {
                        continue;
                    };
                    let with = self.pairs[pair].with(plan, pair, partner, event.offset);
                    &mut with[of_pair]
                }
            };
            aggregate.add(accumulator, place, value, self.now);
        }
        self.pairs.iter_mut().for_each(Pairs::trim);
    }

    /// Whether something that happens now belongs to the current session, which it may begin or prolong.
    fn enter_session(&mut self, plan: &StatePlan, timestamp: i64, acts: bool) -> bool {
        let Some(gap) = plan.session_gap else {
            return false;
        };
        if let Some(session) = &mut self.session
            && !session.is_over(timestamp, gap)
        {
            return session.take(timestamp, gap, acts);
        }
        if acts {
            self.session = Some(Session::new(timestamp));
            let aggregates = plan.aggregates.iter().zip(&mut self.accumulators);
            aggregates
                .filter(|(aggregate, _)| aggregate.part == Part::Session)
                .for_each(|(aggregate, accumulator)| *accumulator = aggregate.start());
        }
        acts
    }

    /// Changes attributes.
    fn change(&mut self, plan: &StatePlan, event: &Extracted) {
        for (aggregate, value) in plan.changed(event) {
            self.accumulators[aggregate] =
                Accumulator::Attribute(Some((event.offset, value.clone())));
        }
    }

    /// What an attribute is.
    pub(crate) fn attribute(&self, aggregate: usize) -> Value {
        match self.accumulators.get(aggregate) {
            Some(Accumulator::Attribute(Some((_, value)))) => value.clone(),
            _ => Value::Missing,
        }
    }

    /// Moves the state's time on; future events whose time has come are counted.
    fn advance(&mut self, plan: &StatePlan, now: i64) {
        self.now = self.now.max(now);
        let due = self
            .pending
            .partition_point(|event| event.timestamp <= self.now);
        if due > 0 {
            for event in self.pending.drain(..due).collect::<Vec<_>>() {
                self.add(plan, &event, event.timestamp);
            }
        }
    }

    /// Takes over what another entity, which turned out to be the same, has seen.
    pub fn merge(&mut self, plan: &StatePlan, mut other: Self, now: Timestamp) {
        self.forget(plan, now.micros());
        other.forget(plan, now.micros());
        self.advance(plan, now.micros());
        other.advance(plan, now.micros());
        self.events += other.events;
        let session = plan.session_gap.map_or(Shown::Both, |gap| {
            Session::merge(&mut self.session, other.session, gap)
        });
        for ((aggregate, ours), theirs) in plan
            .aggregates
            .iter()
            .zip(&mut self.accumulators)
            .zip(other.accumulators)
        {
            match (aggregate.part, session) {
                (Part::Session, Shown::Ours) => {}
                (Part::Session, Shown::Theirs) => *ours = theirs,
                _ => aggregate.merge(ours, theirs, self.now),
            }
        }
        for (pair, (ours, theirs)) in self.pairs.iter_mut().zip(other.pairs).enumerate() {
            ours.merge(plan, pair, theirs, self.now);
        }
        for event in other.pending {
            self.wait(event);
        }
    }

    /// Appends what each `(aggregate, window)` says at `moment`, which is not before the newest update. Pairs are those with what
    /// the person dealt with last.
    pub fn read(
        &self,
        plan: &StatePlan,
        slots: &[(usize, usize)],
        moment: Timestamp,
        row: &mut Vec<FeatureValue>,
    ) {
        self.read_with(plan, slots, moment, None, row);
    }

    /// As [`read`](Self::read), where `partners` says, for each of [`StatePlan::pairs`], with whom.
    pub fn read_with(
        &self,
        plan: &StatePlan,
        slots: &[(usize, usize)],
        moment: Timestamp,
        partners: Option<&[Option<Arc<str>>]>,
        row: &mut Vec<FeatureValue>,
    ) {
        let moment = moment.micros().max(self.now);
        if self.events > 0 && plan.forgets(self.now, moment) {
            // as one of whom nothing was ever seen
            let moment = Timestamp::from_micros(moment);
            return Self::new(plan).read_with(plan, slots, moment, partners, row);
        }
        if self
            .pending
            .first()
            .is_some_and(|event| event.timestamp <= moment)
        {
            let mut later = self.clone();
            later.advance(plan, moment);
            let moment = Timestamp::from_micros(moment);
            return later.read_with(plan, slots, moment, partners, row);
        }
        let is_over = |gap: i64| match &self.session {
            Some(session) => session.is_over(moment, gap),
            None => true,
        };
        let no_session = plan.session_gap.is_none_or(is_over);
        for windows in slots.chunk_by(|a, b| a.0 == b.0) {
            let aggregate = &plan.aggregates[windows[0].0];
            let known = match aggregate.part {
                Part::Session if no_session => None,
                Part::Whole | Part::Session => Some(&self.accumulators[windows[0].0]),
                Part::Pair { pair, of_pair } => {
                    let partner = match partners {
                        Some(partners) => partners[pair].clone(),
                        None => self.last_partner(plan, pair),
                    };
                    let Some(partner) = partner else {
                        let width = aggregate.operation.width() * windows.len();
                        row.extend(std::iter::repeat_n(FeatureValue::Missing, width));
                        continue;
                    };
                    let with = self.pairs[pair].of(&partner);
                    with.map(|accumulators| &accumulators[of_pair])
                }
            };
            let nothing;
            let accumulator = match known {
                Some(accumulator) => accumulator,
                None => {
                    nothing = aggregate.start();
                    &nothing
                }
            };
            let windows = windows.iter().map(|(_, window)| *window);
            aggregate.read(accumulator, windows, moment, row);
        }
    }

    /// The values of a `recent` aggregate without windows at `moment` with when they came, the newest first.
    pub(crate) fn newest(
        &self,
        plan: &StatePlan,
        aggregate: usize,
        moment: Timestamp,
    ) -> Vec<(Place, Value)> {
        if self.is_forgotten(plan, moment) {
            return Vec::new();
        }
        let is_due = |event: &Extracted| event.timestamp <= moment.micros();
        if self.pending.first().is_some_and(is_due) {
            let mut later = self.clone();
            later.advance(plan, moment.micros());
            return later.newest(plan, aggregate, moment);
        }
        match self.accumulators.get(aggregate) {
            Some(Accumulator::Total(Some(Cell::Latest(latest)))) => latest.since(i64::MIN).to_vec(),
            _ => Vec::new(),
        }
    }

    /// With whom the person dealt last.
    fn last_partner(&self, plan: &StatePlan, pair: usize) -> Option<Arc<str>> {
        let last = plan.pairs[pair].last;
        let mut value = Vec::with_capacity(1);
        plan.aggregates[last].read(
            &self.accumulators[last],
            std::iter::once(0),
            self.now,
            &mut value,
        );
        match value.pop() {
            Some(FeatureValue::Category(partner)) => Some(partner),
            _ => None,
        }
    }

    /// The values of a `recent` or `last` aggregate in one window at `moment`, the newest first; as many as there are, at most `k`.
    /// This is the sequence of what somebody did.
    pub fn sequence(
        &self,
        plan: &StatePlan,
        slot: (usize, usize),
        moment: Timestamp,
    ) -> Vec<FeatureValue> {
        let mut values = Vec::new();
        self.read(plan, &[slot], moment, &mut values);
        values.retain(|value| *value != FeatureValue::Missing);
        values
    }

    /// The bytes that are stored.
    pub fn encode(&self, plan: &StatePlan) -> Vec<u8> {
        let mut writer = Writer::with_capacity(512);
        writer.byte(FORMAT);
        writer.signed(-self.now);
        writer.unsigned(self.events);
        writer.unsigned(self.accumulators.len() as u64);
        for (aggregate, accumulator) in plan.aggregates.iter().zip(&self.accumulators) {
            if aggregate.part.is_own() {
                aggregate.encode(accumulator, &mut writer, self.now);
            }
        }
        if plan.session_gap.is_some() {
            Session::encode(self.session.as_ref(), &mut writer, self.now);
        }
        for (pair, pairs) in self.pairs.iter().enumerate() {
            pairs.encode(plan, pair, &mut writer, self.now);
        }
        writer.unsigned(self.pending.len() as u64);
        self.pending
            .iter()
            .for_each(|event| event.encode(&mut writer));
        writer.finish()
    }

    /// When the state of these bytes was last updated, in microseconds.
    ///
    /// # Errors
    /// When the bytes are damaged.
    pub(crate) fn updated(bytes: &[u8]) -> Result<i64, DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.byte()?;
        reader.time(0)
    }

    /// How many of these bytes are those of each aggregate.
    pub fn sizes(&self, plan: &StatePlan) -> Vec<usize> {
        let bytes = |aggregate: &AggregatePlan, accumulator: &Accumulator| {
            let mut writer = Writer::with_capacity(64);
            aggregate.encode(accumulator, &mut writer, self.now);
            writer.finish().len()
        };
        let aggregates = plan.aggregates.iter().zip(&self.accumulators);
        let size = |(aggregate, accumulator): (&AggregatePlan, &Accumulator)| match aggregate.part {
            Part::Whole | Part::Session => bytes(aggregate, accumulator),
            Part::Pair { pair, of_pair } => {
                let partners = self.pairs[pair].accumulators();
                partners.map(|with| bytes(aggregate, &with[of_pair])).sum()
            }
        };
        aggregates.map(size).collect()
    }

    /// Reads what [`encode`](Self::encode) wrote with the same plan.
    ///
    /// # Errors
    /// When the bytes are damaged or belong to another plan.
    pub fn decode(plan: &StatePlan, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let format = reader.byte()?;
        let has_parts = plan.session_gap.is_some() || !plan.pairs.is_empty();
        if format != FORMAT && (format != FORMAT_WITHOUT_PARTS || has_parts) {
            return Err(DecodeError("the state has an unknown format"));
        }
        let (now, events) = (reader.time(0)?, reader.amount()?);
        if reader.count()? != plan.aggregates.len() {
            return Err(DecodeError("the state has another number of aggregates"));
        }
        let mut accumulators = Vec::with_capacity(plan.aggregates.len());
        for aggregate in &plan.aggregates {
            accumulators.push(if aggregate.part.is_own() {
                aggregate.decode(&mut reader, now)?
            } else {
                aggregate.start()
            });
        }
        let session = match plan.session_gap {
            Some(_) => Session::decode(&mut reader, now)?,
            None => None,
        };
        let pairs = (0..plan.pairs.len())
            .map(|pair| Pairs::decode(plan, pair, &mut reader, now))
            .collect::<Result<Vec<_>, _>>()?;
        let pending = (0..reader.count()?)
            .map(|_| Extracted::decode(&mut reader))
            .collect::<Result<Vec<_>, _>>()?;
        let in_order = pending.is_sorted_by_key(|event| (event.timestamp, event.offset));
        let fits = |event: &Extracted| {
            let steps = plan.steps.get(event.steps as usize);
            steps.is_some_and(|steps| {
                let has = |index: Option<usize>| index.is_none_or(|at| at < event.values.len());
                steps
                    .iter()
                    .all(|step| has(step.value) && has(step.partner))
            })
        };
        if !in_order || !pending.iter().all(fits) {
            return Err(DecodeError("waiting events do not fit"));
        }
        reader.end()?;
        Ok(Self {
            now,
            events,
            accumulators,
            session,
            pairs,
            pending,
        })
    }
}

impl AggregatePlan {
    pub(super) fn decode(
        &self,
        reader: &mut Reader<'_>,
        now: i64,
    ) -> Result<Accumulator, DecodeError> {
        Ok(match self.start() {
            Accumulator::Tiles(_) => Accumulator::Tiles(match &self.windows {
                Some(windows) => windows.decode(self.operation, reader, now)?,
                None => Tiles::EMPTY,
            }),
            Accumulator::Total(_) => Accumulator::Total(match reader.byte()? {
                0 => None,
                1 => Some(Cell::decode(self.operation, reader, now)?),
                _ => return Err(DecodeError("a total has an unknown form")),
            }),
            Accumulator::Decayed(..) => {
                let amount = reader.float()?;
                Accumulator::Decayed(amount, reader.time(now)?)
            }
            Accumulator::Attribute(_) => Accumulator::Attribute(match reader.byte()? {
                0 => None,
                1 => Some((reader.unsigned()?, cell::decode_value(reader)?)),
                _ => return Err(DecodeError("an attribute has an unknown form")),
            }),
        })
    }
}

impl Step {
    fn is_taken(&self, event: &Extracted) -> bool {
        self.condition
            .is_none_or(|bit| event.passed & (1 << bit) != 0)
    }
}

impl StatePlan {
    /// The attributes that an event changes, and what they are from then on.
    pub(crate) fn changed<'e>(
        &'e self,
        event: &'e Extracted,
    ) -> impl Iterator<Item = (usize, &'e Value)> {
        let changes = self.changes.get(event.steps as usize).into_iter().flatten();
        changes
            .filter(|step| step.is_taken(event))
            .filter_map(|step| {
                let value = step.value.map(|index| &event.values[index]);
                match value {
                    _ if step.removes => Some((step.aggregate, &Value::Missing)),
                    // what an event does not say stays as it was
                    Some(Value::Missing) | None => None,
                    Some(value) => Some((step.aggregate, value)),
                }
            })
    }
}

impl Extracted {
    fn encode(&self, writer: &mut Writer) {
        writer.signed(-self.timestamp);
        writer.unsigned(self.offset);
        writer.unsigned(u64::from(self.steps));
        writer.unsigned(self.passed);
        writer.unsigned(self.values.len() as u64);
        self.values
            .iter()
            .for_each(|value| cell::encode_value(value, writer));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            timestamp: reader.time(0)?,
            offset: reader.unsigned()?,
            steps: u32::try_from(reader.unsigned()?)
                .map_err(|_| DecodeError("a step is unknown"))?,
            passed: reader.unsigned()?,
            values: (0..reader.count()?)
                .map(|_| cell::decode_value(reader))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// The label of a window: `30 days`.
pub(crate) fn in_words(span: Span) -> String {
    const UNITS: [(&str, i64); 4] = [
        ("day", 86_400),
        ("hour", 3_600),
        ("minute", 60),
        ("second", 1),
    ];
    let seconds = span.micros() / 1_000_000;
    let (unit, size) = UNITS
        .iter()
        .find(|(_, size)| seconds % size == 0)
        .unwrap_or(&UNITS[3]);
    let count = seconds / size;
    if count == 1 {
        format!("1 {unit}")
    } else {
        format!("{count} {unit}s")
    }
}

#[cfg(test)]
mod tests;
