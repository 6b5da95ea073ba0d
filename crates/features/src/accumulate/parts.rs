//! Parts of what a person does: their current session, and what they do with each of the things that they deal with.
//!
//! They are parts of the person's own state, so that two persons who become one bring theirs along, and so that they cost nothing
//! where nobody asks for them.

use std::sync::Arc;

use super::state::{Accumulator, StatePlan};
use crate::codec::{DecodeError, Reader, Writer};

/// The most partners that are kept of one person for one kind of pair. Beyond that, the one that was dealt with the longest ago
/// is forgotten.
pub const PARTNERS_MAX: usize = 64;

/// Which of an entity's events an aggregate sums up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Part {
    /// All.
    #[default]
    Whole,
    /// Those of the current session.
    Session,
    /// Those that are about one partner.
    Pair {
        /// Which of [`StatePlan::pairs`].
        pair: usize,
        /// Its place in [`PairPlan::aggregates`].
        of_pair: usize,
    },
}

impl Part {
    /// Whether the accumulator stands in the state itself.
    pub(super) fn is_own(self) -> bool {
        !matches!(self, Self::Pair { .. })
    }
}

/// One kind of pair.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PairPlan {
    /// The aggregates that each partner has.
    pub aggregates: Vec<usize>,
    /// The aggregate that says with whom the person dealt last.
    pub last: usize,
}

/// A stretch of time without long pauses, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Session {
    start: i64,
    last: i64,
}

/// Whose session counts where two persons become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Ours,
    Theirs,
    Both,
}

impl Session {
    pub(super) fn new(timestamp: i64) -> Self {
        Self {
            start: timestamp,
            last: timestamp,
        }
    }

    /// Whether it is over by then.
    pub(super) fn is_over(&self, moment: i64, gap: i64) -> bool {
        moment > self.last.saturating_add(gap)
    }

    /// Takes something that happened before the session is over; returns whether it belongs to it and not to an earlier one. A
    /// session that has begun is not joined to the one before it by what arrives late.
    pub(super) fn take(&mut self, timestamp: i64, gap: i64, acts: bool) -> bool {
        let belongs = timestamp >= self.start.saturating_sub(gap);
        if belongs && acts {
            self.start = self.start.min(timestamp);
            self.last = self.last.max(timestamp);
        }
        belongs
    }

    /// Two persons became one: the newer session counts, or both where no pause is between them.
    pub(super) fn merge(ours: &mut Option<Self>, theirs: Option<Self>, gap: i64) -> Shown {
        let (Some(own), Some(their)) = (ours.as_mut(), theirs) else {
            if theirs.is_some() {
                *ours = theirs;
                return Shown::Theirs;
            }
            return Shown::Ours;
        };
        if own.is_over(their.start, gap) {
            *own = their;
            Shown::Theirs
        } else if their.is_over(own.start, gap) {
            Shown::Ours
        } else {
            own.start = own.start.min(their.start);
            own.last = own.last.max(their.last);
            Shown::Both
        }
    }

    pub(super) fn encode(session: Option<&Self>, writer: &mut Writer, now: i64) {
        writer.byte(u8::from(session.is_some()));
        if let Some(session) = session {
            writer.signed(now.wrapping_sub(session.last));
            writer.signed(session.last.wrapping_sub(session.start));
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>, now: i64) -> Result<Option<Self>, DecodeError> {
        match reader.byte()? {
            0 => Ok(None),
            1 => {
                let last = reader.time(now)?;
                let start = reader.time(last)?;
                if start > last {
                    return Err(DecodeError("a session ends before it begins"));
                }
                Ok(Some(Self { start, last }))
            }
            _ => Err(DecodeError("a session has an unknown form")),
        }
    }
}

/// What a person does with each partner of one kind, in the order of their names.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Pairs(Vec<Partner>);

#[derive(Debug, Clone, PartialEq)]
struct Partner {
    name: Arc<str>,
    /// The offset of the newest event.
    touched: u64,
    accumulators: Vec<Accumulator>,
}

impl Pairs {
    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0
            .binary_search_by(|partner| partner.name.as_ref().cmp(name))
    }

    /// What is remembered of a partner.
    pub(super) fn of(&self, name: &str) -> Option<&[Accumulator]> {
        let place = self.place(name).ok()?;
        Some(&self.0[place].accumulators)
    }

    /// What is remembered of each partner.
    pub(super) fn accumulators(&self) -> impl Iterator<Item = &[Accumulator]> {
        self.0.iter().map(|partner| partner.accumulators.as_slice())
    }

    /// What is remembered of a partner with whom the person deals at a place of the log. [`trim`](Self::trim) follows.
    pub(super) fn with(
        &mut self,
        plan: &StatePlan,
        pair: usize,
        name: &Arc<str>,
        offset: u64,
    ) -> &mut [Accumulator] {
        let place = self.place(name).unwrap_or_else(|place| {
            let aggregates = plan.pairs[pair].aggregates.iter();
            let partner = Partner {
                name: name.clone(),
                touched: offset,
                accumulators: aggregates
                    .map(|&aggregate| plan.aggregates[aggregate].start())
                    .collect(),
            };
            self.0.insert(place, partner);
            place
        });
        let partner = &mut self.0[place];
        partner.touched = partner.touched.max(offset);
        &mut partner.accumulators
    }

    /// Forgets those with whom the person dealt the longest ago, where there are too many.
    pub(super) fn trim(&mut self) {
        while self.0.len() > PARTNERS_MAX {
            let partners = self.0.iter().enumerate();
            let oldest = partners.min_by_key(|(_, partner)| partner.touched);
            let Some((oldest, _)) = oldest else {
                return;
            };
            self.0.remove(oldest);
        }
    }

    /// Takes over what another person did, who turned out to be the same.
    pub(super) fn merge(&mut self, plan: &StatePlan, pair: usize, other: Self, now: i64) {
        for theirs in other.0 {
            match self.place(&theirs.name) {
                Err(place) => self.0.insert(place, theirs),
                Ok(place) => {
                    let ours = &mut self.0[place];
                    ours.touched = ours.touched.max(theirs.touched);
                    let aggregates = plan.pairs[pair].aggregates.iter();
                    let both = ours.accumulators.iter_mut().zip(theirs.accumulators);
                    for (&aggregate, (ours, theirs)) in aggregates.zip(both) {
                        plan.aggregates[aggregate].merge(ours, theirs, now);
                    }
                }
            }
        }
        self.trim();
    }

    pub(super) fn encode(&self, plan: &StatePlan, pair: usize, writer: &mut Writer, now: i64) {
        writer.unsigned(self.0.len() as u64);
        for partner in &self.0 {
            writer.text(&partner.name);
            writer.unsigned(partner.touched);
            let aggregates = plan.pairs[pair].aggregates.iter();
            for (&aggregate, accumulator) in aggregates.zip(&partner.accumulators) {
                plan.aggregates[aggregate].encode(accumulator, writer, now);
            }
        }
    }

    pub(super) fn decode(
        plan: &StatePlan,
        pair: usize,
        reader: &mut Reader<'_>,
        now: i64,
    ) -> Result<Self, DecodeError> {
        let mut pairs = Self::default();
        for _ in 0..reader.count()? {
            let (name, touched) = (reader.text()?, reader.unsigned()?);
            let aggregates = plan.pairs[pair].aggregates.iter();
            let accumulators = aggregates
                .map(|&aggregate| plan.aggregates[aggregate].decode(reader, now))
                .collect::<Result<_, _>>()?;
            pairs.0.push(Partner {
                name,
                touched,
                accumulators,
            });
        }
        let in_order = pairs.0.is_sorted_by(|a, b| a.name < b.name);
        if !in_order || pairs.0.len() > PARTNERS_MAX {
            return Err(DecodeError("partners are not in order"));
        }
        Ok(pairs)
    }
}
