//! Intake: a call's bytes in, a receipt out, once everything is on disk.

use std::sync::Arc;

use serde::Serialize;
use tidemill_core::{Clock, Event, Offset, Project, ProjectName};
use tidemill_store::{Appended, EventLog, Quarantined, StoreError};

use crate::items;
use crate::limits::Limits;
use crate::rejection::Rejection;
use crate::segment::{self, Batch, Call, Envelope, RequestError, Shared};
use crate::stats::{CallNames, ProjectCounts, Stats};

/// How many pieces are tried again in one step.
const REPLAYED_AT_ONCE: usize = 1_000;
/// For how many pieces it is said why they are still not events.
const REASONS_MAX: usize = 100;

/// Takes calls, parses them, stores what they hold and counts it. Cheap to share; one for all projects.
pub struct Intake {
    log: Arc<dyn EventLog>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    stats: Stats,
}

/// What became of a call: everything that was sent is in exactly one of the three counts, and all of it is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Receipt {
    /// Events that were stored.
    pub accepted: u64,
    /// Events that had been stored before.
    pub duplicates: u64,
    /// Pieces that are not events and were quarantined.
    pub quarantined: u64,
    /// The place of the last event that was stored; `None` when none was.
    pub last: Option<Offset>,
}

/// What became of the quarantine that was tried again.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ReplayedQuarantine {
    /// Pieces that are events now and have left the quarantine.
    pub accepted: u64,
    /// Pieces that had been stored as events before, and have left it too.
    pub duplicates: u64,
    /// Pieces that are still not events.
    pub still_bad: u64,
    /// Why the newest of them are not: id and reason, in words.
    pub reasons: Vec<(u64, String)>,
}

impl ReplayedQuarantine {
    fn note_bad(&mut self, id: u64, why: String) {
        self.still_bad += 1;
        if self.reasons.len() < REASONS_MAX {
            self.reasons.push((id, why));
        }
    }
}

/// Why a call was not stored. Nothing of it was.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// The call itself is unusable: the caller should not send it again.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// It could not be stored durably: the caller should send it again later.
    #[error("store the events")]
    Store(#[from] StoreError),
}

impl IntakeError {
    /// A stable code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Request(error) => error.code(),
            Self::Store(StoreError::Full { .. }) => "store_full",
            Self::Store(StoreError::Closed) => "store_closed",
            Self::Store(_) => "store_failed",
        }
    }
}

impl Intake {
    /// An intake into that log, by that clock.
    pub fn new(log: Arc<dyn EventLog>, clock: Arc<dyn Clock>, limits: Limits) -> Self {
        Self {
            log,
            clock,
            limits,
            stats: Stats::default(),
        }
    }

    /// The limits of what it takes.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The clock that it asks.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// What it has done since the process started, by project.
    pub fn stats(&self) -> Vec<ProjectCounts> {
        self.stats.snapshot()
    }

    /// Takes a call of the tracking API.
    ///
    /// # Errors
    /// [`IntakeError::Request`] when the call is unusable as a whole, [`IntakeError::Store`] when it could not be stored.
    pub async fn accept(
        &self,
        project: &Project,
        call: Call,
        body: &[u8],
    ) -> Result<Receipt, IntakeError> {
        let parsed = segment::parse_request(call, body, self.clock.now(), &self.limits, project);
        self.append_parsed(&project.name, parsed).await
    }

    /// Takes the body of `PUT /v1/items`.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub async fn accept_items(
        &self,
        project: &Project,
        body: &[u8],
    ) -> Result<Receipt, IntakeError> {
        let parsed = items::parse_items(body, self.clock.now(), &self.limits, project);
        self.append_parsed(&project.name, parsed).await
    }

    /// Takes the deletion of an item.
    ///
    /// # Errors
    /// [`IntakeError::Store`] when it could not be stored.
    pub async fn delete_item(&self, project: &Project, id: &str) -> Result<Receipt, IntakeError> {
        let event = items::deletion(id, self.clock.now());
        self.accept_events(&project.name, vec![event], Vec::new())
            .await
    }

    /// Takes events that are ready, and what was quarantined on the way, in one step.
    ///
    /// # Errors
    /// [`IntakeError::Store`] when they could not be stored; then none was.
    pub async fn accept_events(
        &self,
        project: &ProjectName,
        events: Vec<Event>,
        quarantined: Vec<Quarantined>,
    ) -> Result<Receipt, IntakeError> {
        Ok(self.append(project, events, quarantined).await?.0)
    }

    /// As [`accept_events`](Self::accept_events), and says what became of each event.
    pub(crate) async fn append(
        &self,
        project: &ProjectName,
        events: Vec<Event>,
        quarantined: Vec<Quarantined>,
    ) -> Result<(Receipt, Vec<Appended>), IntakeError> {
        if events.is_empty() && quarantined.is_empty() {
            return Ok((Receipt::default(), Vec::new()));
        }
        let names = CallNames::of(&events, &quarantined);
        let mut receipt = Receipt {
            quarantined: quarantined.len() as u64,
            ..Receipt::default()
        };
        let appended = self
            .log
            .append(project, events, quarantined)
            .await
            .inspect_err(|_| self.stats.failed(project))?;
        self.stats.stored(project, &names, &appended);
        for outcome in &appended {
            match outcome {
                Appended::Stored(offset) => {
                    receipt.accepted += 1;
                    receipt.last = Some(*offset);
                }
                Appended::Duplicate => receipt.duplicates += 1,
            }
        }
        Ok((receipt, appended))
    }

    /// Tries all that is in quarantine again, after the project file or the limits were mended: each piece as the call that it came
    /// with and as of the time of its arrival. What a batch said for all of its events was not kept, so the time of an event is taken
    /// as it is. What is an event now leaves the quarantine once it is stored; if that is cut off, it counts as sent again the next
    /// time. What is still not an event stays; rows of imported files are imported again instead.
    ///
    /// # Errors
    /// [`IntakeError::Store`] when a store fails; what was replayed until then stays so.
    pub async fn replay_quarantine(
        &self,
        project: &Project,
    ) -> Result<ReplayedQuarantine, IntakeError> {
        let mut replayed = ReplayedQuarantine::default();
        let mut before = None;
        loop {
            let pieces = self
                .log
                .quarantined(&project.name, before, REPLAYED_AT_ONCE)?;
            let Some((oldest, _)) = pieces.last() else {
                return Ok(replayed);
            };
            before = Some(*oldest);
            let (mut events, mut mended) = (Vec::new(), Vec::new());
            for (id, piece) in &pieces {
                match self.read_again(project, *id, piece) {
                    Ok(event) => {
                        events.push(event);
                        mended.push(*id);
                    }
                    Err(rejection) => replayed.note_bad(*id, rejection.detail),
                }
            }
            let receipt = self
                .accept_events(&project.name, events, Vec::new())
                .await?;
            replayed.accepted += receipt.accepted;
            replayed.duplicates += receipt.duplicates;
            self.log.forget_quarantined(&project.name, &mended)?;
        }
    }

    fn read_again(
        &self,
        project: &Project,
        id: u64,
        piece: &Quarantined,
    ) -> Result<Event, Rejection> {
        // an event without an id of its own gets one from its place: here it is the same however often the piece is tried
        let place = usize::try_from(id).unwrap_or(usize::MAX);
        if piece.source == items::SOURCE {
            return items::parse_item(&piece.body, place, piece.received_at, &self.limits, project);
        }
        let Some(call) = Call::from_source(&piece.source) else {
            return Err(Rejection::invalid(format!(
                "it is a row of '{}': import that source again",
                piece.source
            )));
        };
        let shared = Shared::default();
        let envelope = Envelope {
            received_at: piece.received_at,
            historical: false,
            shared: Ok(&shared),
            limits: &self.limits,
            project,
        };
        segment::parse_text(&piece.body, call.kind(), place, &envelope)
    }

    async fn append_parsed(
        &self,
        project: &ProjectName,
        parsed: Result<Batch, RequestError>,
    ) -> Result<Receipt, IntakeError> {
        let batch = parsed.inspect_err(|_| self.stats.refused(project))?;
        self.accept_events(project, batch.events, batch.quarantined)
            .await
    }
}

#[cfg(test)]
mod tests {
    use tidemill_core::clock::VirtualClock;
    use tidemill_store::QuarantineReason;

    use super::*;
    use crate::memory::MemoryLog;

    struct World {
        log: Arc<MemoryLog>,
        intake: Intake,
        project: Project,
    }

    fn world(project: &str) -> World {
        let log = Arc::new(MemoryLog::default());
        let clock = Arc::new(VirtualClock::at("2024-03-01T12:00:00Z".parse().unwrap()));
        let project = Project::parse(&format!("[project]\nname = 'shop'\n{project}")).unwrap();
        World {
            intake: Intake::new(log.clone(), clock, Limits::default()),
            log,
            project,
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap()
            .block_on(future)
    }

    const BATCH: &[u8] = br#"{"batch": [
        {"type": "track", "event": "A", "userId": "u", "messageId": "m1"},
        {"type": "track", "event": "A", "userId": "u", "messageId": "m1"},
        {"type": "track", "event": "B", "userId": "u", "messageId": "m2"},
        {"type": "track", "event": "B"},
        7]}"#;

    #[test]
    fn every_piece_is_counted_once() {
        let world = world("");
        let receipt = block_on(world.intake.accept(&world.project, Call::Batch, BATCH)).unwrap();
        assert_eq!(
            receipt,
            Receipt {
                accepted: 2,
                duplicates: 1,
                quarantined: 2,
                last: Some(Offset(2))
            }
        );
        let again = block_on(world.intake.accept(&world.project, Call::Batch, BATCH)).unwrap();
        assert_eq!(
            again,
            Receipt {
                accepted: 0,
                duplicates: 3,
                quarantined: 2,
                last: None
            }
        );
        assert!(block_on(world.intake.accept(&world.project, Call::Batch, b"x")).is_err());
        let counts = ProjectCounts {
            project: "shop".parse().unwrap(),
            accepted: 2,
            duplicates: 4,
            quarantined: [
                (QuarantineReason::MissingField, 2),
                (QuarantineReason::Unreadable, 2),
            ]
            .into(),
            refused_calls: 1,
            failed_calls: 0,
            events: [("A".to_owned(), 1), ("B".to_owned(), 1)].into(),
        };
        assert_eq!(world.intake.stats(), [counts]);
    }

    #[test]
    fn a_full_store_is_told_from_a_bad_call() {
        let world = world("");
        *world.log.appends_left.lock() = Some(0);
        let error = block_on(world.intake.accept(&world.project, Call::Batch, BATCH)).unwrap_err();
        assert_eq!(error.code(), "store_full");
        let error = block_on(world.intake.accept(&world.project, Call::Batch, b"{}")).unwrap_err();
        assert_eq!(error.code(), "batch_absent");
        let stats = &world.intake.stats()[0];
        assert_eq!(
            (stats.accepted, stats.refused_calls, stats.failed_calls),
            (0, 1, 1)
        );
        // nothing to store needs no store
        assert_eq!(
            block_on(
                world
                    .intake
                    .accept(&world.project, Call::Batch, b"{\"batch\": []}")
            )
            .unwrap(),
            Receipt::default()
        );
    }

    #[test]
    fn event_names_are_counted_up_to_a_limit() {
        let world = world("");
        for n in 0..600 {
            let body = format!(r#"{{"event": "E{n}", "userId": "u", "messageId": "m{n}"}}"#);
            block_on(
                world
                    .intake
                    .accept(&world.project, Call::Track, body.as_bytes()),
            )
            .unwrap();
        }
        let events = &world.intake.stats()[0].events;
        assert_eq!(
            (
                events.len(),
                events["(other)"],
                events.values().sum::<u64>()
            ),
            (501, 100, 600)
        );
    }

    #[test]
    fn what_was_quarantined_is_replayed_after_a_fix() {
        let strict = world(
            "[events.A]\nproperties = { n = 'int' }\n[items]\nid = 'properties.item'\nattributes = { price = 'float' }",
        );
        let track = br#"{"event": "A", "userId": "u", "messageId": "m", "properties": {"n": "1"}}"#;
        let batch = br#"{"batch": [{"type": "track", "event": "A", "userId": "u"}, {"type": "track", "userId": "u"}]}"#;
        block_on(strict.intake.accept(&strict.project, Call::Track, track)).unwrap();
        block_on(strict.intake.accept(&strict.project, Call::Batch, batch)).unwrap();
        block_on(strict.intake.accept_items(
            &strict.project,
            br#"{"id": "i", "attributes": {"price": "9"}}"#,
        ))
        .unwrap();
        let pieces = {
            let mut kept = strict.log.quarantined.lock();
            let row = Quarantined {
                source: "history".to_owned(),
                ..kept[0].clone()
            };
            kept.push(row);
            kept.clone()
        };
        assert_eq!(pieces.len(), 5);
        let mended = Project::parse("[project]\nname = 'shop'").unwrap();
        let replay = || block_on(strict.intake.replay_quarantine(&mended)).unwrap();
        let replayed = replay();
        assert_eq!(
            (replayed.accepted, replayed.duplicates, replayed.still_bad),
            (3, 0, 2)
        );
        let still_bad: Vec<u64> = replayed.reasons.iter().map(|(id, _)| *id).collect();
        assert_eq!(still_bad, [4, 2], "the newest first");
        assert_eq!(strict.log.quarantined.lock().len(), 2);

        // cut off before the pieces had left: they count as sent again
        *strict.log.quarantined.lock() = pieces;
        let replayed = replay();
        assert_eq!(
            (replayed.accepted, replayed.duplicates, replayed.still_bad),
            (0, 3, 2)
        );
    }

    #[test]
    fn items_come_and_go() {
        let world = world("");
        block_on(
            world
                .intake
                .accept_items(&world.project, br#"[{"id": "i1"}, {"id": "i2"}]"#),
        )
        .unwrap();
        block_on(world.intake.delete_item(&world.project, "i1")).unwrap();
        let names: Vec<String> = world
            .log
            .events
            .lock()
            .iter()
            .map(|event| event.name.clone())
            .collect();
        assert_eq!(names, ["$item_changed", "$item_changed", "$item_deleted"]);
    }
}
