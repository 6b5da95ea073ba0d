//! Windows made of tiles: one list of tiles serves all windows of an aggregate.
//!
//! A window of length W has a hop h ≤ W/48 and reads, at T, all tiles from ⌊T − W⌋ₕ on: never less than (T − W, T], and at most
//! one hop more. Each event goes into a tile of the finest hop; once a tile has left every window with a finer hop than
//! level *l*, for good because T only grows, it is folded into a tile of level *l*. The levels of an aggregate divide one
//! another, tiles are aligned to the epoch, so tiles never overlap and no window ever cuts one.

use tidemill_core::project::Operation;
use tidemill_core::{FeatureValue, Span};

use super::cell::{Cell, Place};
use super::reading::Reading;
use crate::codec::{DecodeError, Reader, Writer};
use crate::value::Value;

/// The hops, in seconds. Each divides the next.
const HOPS: [i64; 10] = [1, 5, 15, 60, 300, 1_800, 10_800, 43_200, 86_400, 604_800];

/// The hop of a window: the largest of 1 s, 5 s, 15 s, 1 m, 5 m, 30 m, 3 h, 12 h, 1 d, 7 d that is at most a 48th of it; 1 s for
/// windows under 48 s.
pub fn hop(window: Span) -> Span {
    let most = window.micros() / 48;
    let hop = HOPS
        .iter()
        .rev()
        .map(|&seconds| Span::from_seconds(seconds))
        .find(|hop| hop.micros() <= most);
    hop.unwrap_or(Span::from_seconds(1))
}

/// The windows of one aggregate and the levels of tiles that they need.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Each window's length in microseconds and its level.
    windows: Vec<(i64, usize)>,
    /// The hop of each level in microseconds, finest first.
    hops: Vec<i64>,
    /// For each level the longest window that reads it or a finer one.
    longest: Vec<i64>,
}

/// The events of `[start, start + hop of the level)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Tile {
    start: i64,
    level: u8,
    cell: Cell,
}

/// Tiles in the order of time; they get finer with time and never overlap.
#[derive(Debug, Clone)]
pub struct Tiles {
    tiles: Vec<Tile>,
    /// No tile has left its level before this time. Not stored: it follows from the tiles.
    due: i64,
}

impl PartialEq for Tiles {
    fn eq(&self, other: &Self) -> bool {
        self.tiles == other.tiles
    }
}

impl Tiles {
    pub(super) const EMPTY: Self = Self {
        tiles: Vec::new(),
        due: i64::MAX,
    };
}

fn floor(time: i64, hop: i64) -> i64 {
    time.div_euclid(hop) * hop
}

impl Windows {
    /// Windows of these lengths, at least one.
    pub fn new(spans: &[Span]) -> Self {
        let hop_of = |span: &Span| hop(*span).micros();
        let mut hops: Vec<i64> = spans.iter().map(hop_of).collect();
        hops.sort_unstable();
        hops.dedup();
        let level_of = |span: &Span| hops.partition_point(|hop| *hop < hop_of(span));
        let windows: Vec<(i64, usize)> = spans
            .iter()
            .map(|span| (span.micros(), level_of(span)))
            .collect();
        let longest = (0..hops.len())
            .map(|level| {
                windows
                    .iter()
                    .filter(|(_, of)| *of == level)
                    .map(|(span, _)| *span)
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        Self {
            windows,
            hops,
            longest,
        }
    }

    /// The first instant that a window still reads at `moment`.
    pub fn start(&self, window: usize, moment: i64) -> i64 {
        let (span, level) = self.windows[window];
        floor(moment.saturating_sub(span), self.hops[level])
    }

    /// When a tile of `[start, end of its hop)` leaves all windows of its level and finer ones, and where it goes then: the next
    /// coarser level or, from the last one, nowhere. A window reads from ⌊T − W⌋ₕ on, and the end of a coarser tile is a multiple of
    /// h, so it is left behind exactly from end + W on.
    fn leaves(&self, start: i64, level: usize) -> i64 {
        let hop = self.hops[(level + 1).min(self.hops.len() - 1)];
        floor(start, hop)
            .saturating_add(hop)
            .saturating_add(self.longest[level])
    }

    /// The coarsest tile that may hold this instant: its start and level; `None` when no window will read it again.
    fn place(&self, timestamp: i64, now: i64) -> Option<(i64, u8)> {
        self.place_from(timestamp, 0, now)
    }

    /// The same for an instant that has reached a level already.
    fn place_from(&self, timestamp: i64, mut level: usize, now: i64) -> Option<(i64, u8)> {
        while self.leaves(timestamp, level) <= now {
            level += 1;
            if level == self.hops.len() {
                return None;
            }
        }
        Some((floor(timestamp, self.hops[level]), level as u8))
    }

    /// Adds an event with `timestamp <= now`.
    pub(super) fn add(
        &self,
        tiles: &mut Tiles,
        operation: Operation,
        place: Place,
        value: &Value,
        now: i64,
    ) {
        self.compact(tiles, operation, now);
        let list = &mut tiles.tiles;
        // Most events are the newest, and many come close together.
        if let Some(last) = list.last_mut() {
            let after = place.timestamp - last.start;
            if last.level == 0 && (0..self.hops[0]).contains(&after) {
                return last.cell.add(operation, place, value);
            }
        }
        let Some((start, level)) = self.place(place.timestamp, now) else {
            return;
        };
        let index = match list.last() {
            Some(last) if last.start >= start => list.partition_point(|tile| tile.start < start),
            _ => list.len(),
        };
        match list.get_mut(index) {
            Some(tile) if tile.start == start => tile.cell.add(operation, place, value),
            _ => {
                if let Some(cell) = Cell::of(operation, place, value) {
                    list.insert(index, Tile { start, level, cell });
                    tiles.due = tiles.due.min(self.leaves(start, usize::from(level)));
                }
            }
        }
    }

    /// Folds tiles that left the finer windows into coarser ones and forgets those that left all.
    pub(super) fn compact(&self, tiles: &mut Tiles, operation: Operation, now: i64) {
        if now < tiles.due {
            return;
        }
        let list = &mut tiles.tiles;
        let mut kept = 0;
        // Of each level the oldest tiles leave; after the first one that stays, all of them stay.
        let mut staying = None;
        for index in 0..list.len() {
            let (start, level) = (list[index].start, list[index].level);
            if staying != Some(level) {
                let Some(place) = self.place_from(start, usize::from(level), now) else {
                    continue;
                };
                if place == (start, level) {
                    staying = Some(level);
                } else if kept > 0 && list[kept - 1].start == place.0 {
                    let (before, rest) = list.split_at_mut(index);
                    before[kept - 1].cell.merge(operation, &rest[0].cell);
                    continue;
                }
                (list[index].start, list[index].level) = place;
            }
            list.swap(kept, index);
            kept += 1;
        }
        list.truncate(kept);
        tiles.due = self.due(list);
    }

    /// When the first of the tiles leaves its level: of each level the oldest does.
    fn due(&self, tiles: &[Tile]) -> i64 {
        let oldest = (0..self.hops.len()).filter_map(|level| {
            let index = tiles.partition_point(|tile| usize::from(tile.level) > level);
            tiles
                .get(index)
                .filter(|tile| usize::from(tile.level) == level)
        });
        oldest
            .map(|tile| self.leaves(tile.start, usize::from(tile.level)))
            .min()
            .unwrap_or(i64::MAX)
    }

    /// Adds the tiles of another list; `ours` come before theirs where both have a tile.
    pub(super) fn merge(
        &self,
        ours: &mut Tiles,
        mut theirs: Tiles,
        operation: Operation,
        now: i64,
    ) {
        self.compact(ours, operation, now);
        self.compact(&mut theirs, operation, now);
        for tile in theirs.tiles {
            let index = ours.tiles.partition_point(|other| other.start < tile.start);
            match ours.tiles.get_mut(index) {
                Some(other) if other.start == tile.start => other.cell.merge(operation, &tile.cell),
                _ => ours.tiles.insert(index, tile),
            }
        }
        ours.due = self.due(&ours.tiles);
    }

    /// What the windows say at `moment`, one after the other. All of them are read in one pass from the newest tile to the oldest,
    /// so that many windows cost about as much as the longest.
    pub(super) fn read(
        &self,
        tiles: &Tiles,
        operation: Operation,
        windows: impl Iterator<Item = usize>,
        moment: i64,
        row: &mut Vec<FeatureValue>,
    ) {
        let mut reading = Reading::new(operation);
        let mut first = tiles.tiles.len();
        let mut start_before = i64::MAX;
        for window in windows {
            let start = self.start(window, moment);
            if start > start_before {
                // Windows are declared shortest first; in another order each is read on its own.
                (reading, first) = (Reading::new(operation), tiles.tiles.len());
            }
            start_before = start;
            while first > 0 && tiles.tiles[first - 1].start >= start {
                first -= 1;
                reading.add(&tiles.tiles[first].cell);
            }
            reading.finish(moment, row);
        }
    }

    pub(super) fn encode(&self, tiles: &Tiles, writer: &mut Writer, reference: i64) {
        let tiles = &tiles.tiles;
        writer.unsigned(tiles.len() as u64);
        let unit = self.hops[0];
        let mut previous = floor(reference, unit);
        for (index, tile) in tiles.iter().enumerate() {
            let steps = (tile.start - previous) / unit;
            if index == 0 {
                writer.signed(steps);
                writer.byte(tile.level);
            } else {
                writer.unsigned((steps as u64) << 4 | u64::from(tile.level));
            }
            tile.cell.encode(writer, reference);
            previous = tile.start;
        }
    }

    pub(super) fn decode(
        &self,
        operation: Operation,
        reader: &mut Reader<'_>,
        reference: i64,
    ) -> Result<Tiles, DecodeError> {
        let unit = self.hops[0];
        let mut tiles: Vec<Tile> = Vec::new();
        for index in 0..reader.count()? {
            let previous = tiles
                .last()
                .map_or(floor(reference, unit), |tile| tile.start);
            let (steps, level) = if index == 0 {
                (reader.signed()?, reader.byte()?)
            } else {
                let packed = reader.unsigned()?;
                ((packed >> 4) as i64, (packed & 15) as u8)
            };
            let start = steps
                .checked_mul(unit)
                .and_then(|step| previous.checked_add(step));
            let start = start.filter(|start| start.unsigned_abs() <= 1 << 60);
            let start = start.ok_or(DecodeError("a tile is out of time"))?;
            let hop = *self
                .hops
                .get(usize::from(level))
                .ok_or(DecodeError("a tile has an unknown level"))?;
            let end_of_previous = tiles
                .last()
                .map(|tile| tile.start + self.hops[usize::from(tile.level)]);
            let overlaps = end_of_previous.is_some_and(|end| start < end);
            let gets_coarser = tiles.last().is_some_and(|tile| tile.level < level);
            if floor(start, hop) != start || overlaps || gets_coarser {
                return Err(DecodeError("a tile is not in its place"));
            }
            tiles.push(Tile {
                start,
                level,
                cell: Cell::decode(operation, reader, reference)?,
            });
        }
        let due = self.due(&tiles);
        Ok(Tiles { tiles, due })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hops_are_at_most_a_48th() {
        let check = |window: &str, expected: &str| {
            assert_eq!(
                hop(window.parse().unwrap()).to_string(),
                expected,
                "{window}"
            );
        };
        check("10s", "1s");
        check("48s", "1s");
        check("1h", "1m");
        check("1d", "30m");
        check("7d", "3h");
        check("30d", "12h");
        check("90d", "1d");
        check("365d", "7d");
        assert!(HOPS.windows(2).all(|pair| pair[1] % pair[0] == 0));
    }

    const SECOND: i64 = 1_000_000;

    proptest! {
        /// Against brute force: a window counts everything in (T − W, T] and nothing before T − W − hop.
        #[test]
        fn windows_are_never_shorter_and_at_most_a_hop_longer(
            spans in prop::sample::subsequence(vec!["30s", "61s", "5m", "1h", "100m", "1d", "7d", "30d"], 1..=5),
            steps in prop::collection::vec((0i64..40_000, 0i64..400_000), 1..60),
            wait in 0i64..300_000,
        ) {
            let spans: Vec<Span> = spans.iter().map(|span| span.parse().unwrap()).collect();
            let windows = Windows::new(&spans);
            let mut tiles = Tiles::EMPTY;
            let mut now = 1_300_000_000 * SECOND;
            let mut times = Vec::new();
            for (offset, (step, late)) in steps.into_iter().enumerate() {
                now += step * SECOND / 7;
                // Every third event is late.
                let timestamp = if late % 3 == 0 { now - late * SECOND } else { now };
                times.push(timestamp);
                let place = Place { timestamp, offset: offset as u64 };
                windows.add(&mut tiles, Operation::Count, place, &Value::Missing, now);
            }
            let moment = now + wait * SECOND / 3;
            let mut row = Vec::new();
            windows.read(&tiles, Operation::Count, 0..spans.len(), moment, &mut row);
            for (index, span) in spans.iter().enumerate() {
                let mut alone = Vec::new();
                windows.read(&tiles, Operation::Count, [index].into_iter(), moment, &mut alone);
                prop_assert_eq!(&alone[0], &row[index]);
                let FeatureValue::Number(found) = row[index] else { panic!("counts are numbers") };
                let since = |start: i64| times.iter().filter(|time| **time > start).count() as f64;
                let start = moment - span.micros();
                prop_assert!(since(start) <= found, "{span}: {found} of {}", since(start));
                prop_assert!(found <= since(start - hop(*span).micros()), "{span}: {found}");
            }
            // Flat in windows: at most what each window's tiles need.
            prop_assert!(tiles.tiles.len() <= 240 * spans.len());
        }
    }
}
