//! The past days of one subject, as numbers: what was measured, and how far it was from what was expected then.

use std::collections::{BTreeMap, VecDeque};

use tidemill_features::codec::{DecodeError, Reader, Writer};

use super::NEWER;
use super::property::{PropertyDay, VALUES_MAX};
use super::statistic::{Direction, Family, Measure, Statistic, volume_noise};

/// How many days are remembered of each question.
pub const WINDOWS_MAX: usize = 120;
/// Nothing is said before there were so many.
pub const WINDOWS_MIN: usize = 10;
/// How many past windows say what is usual.
const USUAL_WINDOWS: usize = 28;
/// How many of the same weekday do, …
const WEEKDAYS_MAX: usize = 8;
/// … where there are at least so many.
const WEEKDAYS_MIN: usize = 3;
/// From so many on, what is expected has been compared with what came.
const EXPECTING_MIN: usize = 5;
/// From so many days of a new level on, a day is compared with those of its level.
const LEVEL_MIN: usize = 2;
/// What has differed on so many windows in a row has become usual.
pub const BECOMES_USUAL: usize = 14;
/// The week that is compared with the four before it, and how many of its days must be known.
const WEEK: i64 = 7;
const WEEKS_BEFORE: i64 = 28;
/// Slow changes are compared with those that ended so many days ago at least.
pub(super) const SHIFT_LAG: i64 = 21;
const OF_WEEK_MIN: usize = 4;
const OF_WEEKS_BEFORE_MIN: usize = 14;
/// The most values of a property that count as known.
const KNOWN_VALUES_MAX: usize = 2 * VALUES_MAX;
/// How much of a value's usual share is that of the newest day.
const NEWEST_SHARE: f64 = 1.0 / 14.0;
/// The variance of the median of n normal numbers is about so many times that of one, divided by n (π/2).
const MEDIAN_VARIANCE: f64 = std::f64::consts::FRAC_PI_2;
/// A value of which fewer are expected on a day may be absent by chance.
const EXPECTED_MIN: f64 = 5.0;

const FORMAT: u8 = 1;

/// One past day of one question.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// The day.
    pub day: i64,
    /// What was measured.
    pub value: f64,
    /// On how many events or values it stands.
    pub weight: f64,
    /// How far it was from what was expected, where enough was known to expect something.
    pub deviation: Option<f64>,
    /// Whether something was said about it: it does not say what is usual.
    pub told: bool,
    /// Whether another level begins with it: the days before say how far days vary, and not what is usual.
    pub begins: bool,
}

/// The past of one question.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Track {
    /// At most [`WINDOWS_MAX`], oldest first.
    pub windows: VecDeque<Window>,
}

/// How a new measure stands beside the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Judged {
    /// What was expected.
    pub expected: f64,
    /// How far it is from that.
    pub deviation: f64,
    /// That, in units of how far it is on its worst days: 1 is the mean of the largest tenth of the past, chance added. 0 for changes that are
    /// too small or in a direction that harms nobody; `None` where too little is known.
    pub score: Option<f64>,
}

impl Track {
    /// Looks at a new measure beside the past. Where a new level begins with it, or has just begun, it is compared with the days of the
    /// levels before, as far as such first days were from theirs; after [`LEVEL_MIN`] days with those of its own level.
    pub fn judge(
        &self,
        statistic: Statistic,
        day: i64,
        measure: &Measure,
        begins: bool,
    ) -> Option<Judged> {
        let compared = self.compared(begins);
        let usual: Vec<&Window> = self.windows.iter().filter(|window| !window.told).collect();
        let Compared { level, alike, .. } = &compared;
        let level_min = if compared.has_levels {
            LEVEL_MIN
        } else {
            EXPECTING_MIN
        };
        if level.len() < level_min || usual.len() < EXPECTING_MIN {
            return None;
        }
        let expected = match statistic {
            _ if statistic.family() == Family::Shift => 0.0,
            Statistic::Volume => expected_volume(level, day),
            _ => median(
                level
                    .iter()
                    .rev()
                    .take(USUAL_WINDOWS)
                    .map(|window| window.value),
            ),
        };
        let deviation = measure.value - expected;
        let counted = match statistic.direction() {
            Direction::Up => deviation.max(0.0),
            Direction::Both => deviation.abs(),
        };
        let noise = match statistic {
            // by chance none may come of a few, but not of many
            Statistic::Volume => volume_noise(measure.weight.max(expected.exp_m1())),
            Statistic::Proportion => {
                let usual = (expected - measure.value).exp() * (measure.weight + 1.0);
                volume_noise(measure.weight.max(usual - 1.0))
            }
            _ => measure.noise,
        };
        let past = past_deviations(alike, statistic, day);
        let enough = usual.len() >= WINDOWS_MIN && past.len() >= EXPECTING_MIN;
        let score = enough.then(|| match counted < statistic.effect_min() {
            true => 0.0,
            false => counted / (mean_of_largest(past) * compared.of_few() + noise),
        });
        Some(Judged {
            expected,
            deviation,
            score,
        })
    }

    /// The days that a new one is compared with.
    fn compared(&self, begins: bool) -> Compared<'_> {
        let mut compared = Compared {
            has_levels: begins,
            ..Compared::default()
        };
        // of each window that says what is usual: whether it was one of the first days of its level
        let mut usual: Vec<(&Window, bool)> = Vec::with_capacity(self.windows.len());
        let (mut of_level, mut levels) = (usize::MAX, 0);
        for window in &self.windows {
            if window.begins {
                (of_level, levels) = (0, levels + 1);
                compared.level.clear();
            }
            if !window.told {
                usual.push((window, of_level < LEVEL_MIN));
                compared.level.push(window);
            }
            of_level = of_level.saturating_add(1);
        }
        compared.has_levels |= levels > 0;
        let is_first = begins || of_level < LEVEL_MIN;
        if is_first {
            compared.level = usual.iter().map(|(window, _)| *window).collect();
        }
        let alike = usual.iter().filter(|(_, first)| *first == is_first);
        compared.alike = alike.map(|(window, _)| *window).collect();
        compared.is_first = is_first;
        compared
    }

    /// Remembers a day.
    pub fn push(&mut self, window: Window) {
        if self.windows.len() >= WINDOWS_MAX {
            self.windows.pop_front();
        }
        self.windows.push_back(window);
        let told = self.windows.iter().rev().take_while(|window| window.told);
        let told = told.count();
        if told >= BECOMES_USUAL {
            self.windows.drain(..self.windows.len() - told);
            for window in &mut self.windows {
                window.told = false;
                window.begins = false;
                window.deviation = None;
            }
        }
    }

    /// The last week up to `day` less the four weeks before it, each weighed by how much came; days about which something was said are left
    /// out. `None` where too few days are known.
    pub fn shift(&self, day: i64) -> Option<Measure> {
        let level = self.windows.iter().rposition(|window| window.begins);
        let level = level.unwrap_or(0);
        let between = |from: i64, to: i64, min: usize| {
            let windows = self.windows.iter().skip(level);
            let of = windows.filter(|window| (from..=to).contains(&window.day) && !window.told);
            let (mut days, mut weight, mut sum) = (0, 0.0, 0.0);
            for window in of {
                days += 1;
                weight += window.weight;
                sum += window.weight * window.value;
            }
            (days >= min && weight > 0.0).then(|| (sum / weight, weight))
        };
        let (week, weight) = between(day - WEEK + 1, day, OF_WEEK_MIN)?;
        let (before, _) = between(
            day - WEEK - WEEKS_BEFORE + 1,
            day - WEEK,
            OF_WEEKS_BEFORE_MIN,
        )?;
        Some(Measure {
            value: week - before,
            weight,
            noise: 0.0,
        })
    }

    /// Whether something was said about its newest day.
    pub fn is_told(&self) -> bool {
        self.windows.back().is_some_and(|window| window.told)
    }

    /// Whether what had differed for long has just become usual.
    pub fn begins_anew(&self) -> bool {
        self.windows.len() == BECOMES_USUAL
            && self.windows.iter().all(|window| window.deviation.is_none())
    }

    /// Whether another level began on one of the last days up to `day`.
    pub fn begun_within(&self, day: i64, days: i64) -> bool {
        let mut newest = self.windows.iter().rev();
        newest.any(|window| window.begins && window.day > day - days)
    }

    /// Whether something was said about it on one of the last days up to `day`.
    pub fn told_within(&self, day: i64, days: i64) -> bool {
        let mut newest = self.windows.iter().rev();
        newest.any(|window| window.told && window.day > day - days)
    }
}

/// The days that a new one is compared with.
#[derive(Default)]
struct Compared<'w> {
    /// Those that say what is expected.
    level: Vec<&'w Window>,
    /// Those that say how far days vary.
    alike: Vec<&'w Window>,
    has_levels: bool,
    /// Whether the day is one of the first of a level.
    is_first: bool,
}

impl Compared<'_> {
    /// How much farther a day may be from the median of a level that is known from few days.
    fn of_few(&self) -> f64 {
        match self.has_levels && !self.is_first {
            true => (1.0 + MEDIAN_VARIANCE / self.level.len().max(1) as f64).sqrt(),
            false => 1.0,
        }
    }
}

/// How far past windows were from what was expected of them; of volumes, where weekdays are known, only those of which the weekday was. Of
/// fallbacks that were fewer than expected nothing is feared: they do not say how far days go that have more.
fn past_deviations(usual: &[&Window], statistic: Statistic, day: i64) -> Vec<f64> {
    let of = |windows: &[&Window]| -> Vec<f64> {
        let deviations = windows.iter().filter_map(|window| window.deviation);
        match statistic {
            Statistic::Fallbacks => deviations.map(|deviation| deviation.max(0.0)).collect(),
            _ => deviations.map(f64::abs).collect(),
        }
    };
    if statistic.family() == Family::Shift {
        // a change that is slow enough would hide behind its own beginning
        let before = usual.partition_point(|window| window.day <= day - SHIFT_LAG);
        return of(&usual[..before]);
    }
    if statistic == Statistic::Volume && same_weekday(usual, day).len() >= WEEKDAYS_MIN {
        let first = usual.first().map_or(day, |window| window.day);
        let known = usual.partition_point(|window| window.day < first + WEEK * WEEKDAYS_MIN as i64);
        let of_weekdays = of(&usual[known..]);
        if of_weekdays.len() >= EXPECTING_MIN {
            return of_weekdays;
        }
    }
    of(usual)
}

/// The mean of the largest tenth: what a property's worst days are like, without one of them deciding.
fn mean_of_largest(mut deviations: Vec<f64>) -> f64 {
    deviations.sort_by(|one, other| other.total_cmp(one));
    let largest = deviations.len().div_ceil(10);
    deviations[..largest].iter().sum::<f64>() / largest as f64
}

/// The newest volumes of the same weekday.
fn same_weekday(usual: &[&Window], day: i64) -> Vec<f64> {
    let same = usual
        .iter()
        .rev()
        .filter(|window| (window.day - day) % WEEK == 0);
    same.take(WEEKDAYS_MAX).map(|window| window.value).collect()
}

/// What came on the same weekday, where enough of them are known; on all days otherwise.
fn expected_volume(usual: &[&Window], day: i64) -> f64 {
    let same = same_weekday(usual, day);
    if same.len() >= WEEKDAYS_MIN {
        return median(same);
    }
    median(
        usual
            .iter()
            .rev()
            .take(USUAL_WINDOWS)
            .map(|window| window.value),
    )
}

/// The middle one, or the mean of the two in the middle; 0 of none.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => 0.0,
        length if length % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}

/// The texts and truths that a property usually has.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct KnownValues {
    /// The usual share of each.
    pub shares: BTreeMap<String, f64>,
    /// Whether there are too many to know them.
    pub is_open_ended: bool,
    /// How many days went into it.
    pub days: u64,
}

impl KnownValues {
    /// The share of the day's values that are new, and the usual share of those that are missing today; `None` where values are not
    /// known, or too few came.
    pub fn compare(&self, property: &PropertyDay) -> Option<(Measure, Measure)> {
        let total = (property.values.values().sum::<u64>() + property.other_values) as f64;
        if self.is_open_ended || self.shares.is_empty() || total < EXPECTED_MIN {
            return None;
        }
        let of_new = property
            .values
            .iter()
            .filter(|(value, _)| !self.shares.contains_key(*value));
        let new = of_new.map(|(_, count)| *count).sum::<u64>() + property.other_values;
        let gone = self.shares.iter().filter(|(value, share)| {
            *share * total >= EXPECTED_MIN && !property.values.contains_key(*value)
        });
        let vanished = gone.map(|(_, share)| share).sum::<f64>() + 0.0;
        let mut vanished = Measure::share(vanished * total, total);
        // what is absent although five are expected is no chance
        vanished.noise = 1.0 / total;
        Some((Measure::share(new as f64, total), vanished))
    }

    /// Half the sum of the differences between the day's shares and the usual ones (total variation); `None` where values are not known,
    /// or too few came.
    pub fn moved(&self, property: &PropertyDay) -> Option<Measure> {
        let total = property.values.values().sum::<u64>() as f64;
        if self.is_open_ended || self.shares.is_empty() || total < EXPECTED_MIN {
            return None;
        }
        let share =
            |value: &String| property.values.get(value).copied().unwrap_or(0) as f64 / total;
        let usual = |value: &String| self.shares.get(value).copied().unwrap_or(0.0);
        let new = property.values.keys();
        let new = new.filter(|value| !self.shares.contains_key(*value));
        let (mut moved, mut noise) = (0.0, 0.0);
        for value in self.shares.keys().chain(new) {
            moved += (share(value) - usual(value)).abs() / 2.0;
            noise += (usual(value) * (1.0 - usual(value)).max(0.0) / total).sqrt() / 2.0;
        }
        Some(Measure {
            value: moved,
            weight: total,
            noise: noise + 1.0 / total,
        })
    }

    /// Learns from a day.
    pub fn learn(&mut self, property: &PropertyDay) {
        let total = (property.values.values().sum::<u64>() + property.other_values) as f64;
        if total == 0.0 {
            return;
        }
        self.is_open_ended |= property.is_open_ended();
        if self.is_open_ended {
            self.shares.clear();
            return;
        }
        self.days += 1;
        let newest = (1.0 / self.days as f64).max(NEWEST_SHARE);
        for share in self.shares.values_mut() {
            *share *= 1.0 - newest;
        }
        for (value, count) in &property.values {
            *self.shares.entry(value.clone()).or_default() += newest * *count as f64 / total;
        }
        if self.shares.len() > KNOWN_VALUES_MAX {
            self.is_open_ended = true;
            self.shares.clear();
        }
    }

    /// Begins anew with a day.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}

/// Everything that is remembered of one subject beyond its sketches.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// By property (the empty name for the subject itself) and question.
    pub tracks: BTreeMap<(String, Statistic), Track>,
    /// By property.
    pub values: BTreeMap<String, KnownValues>,
}

impl History {
    /// Forgets properties that have been absent for as long as is usual for anything.
    pub fn forget_absent(&mut self) {
        let is_absent = |track: &Track| {
            let mut newest = track.windows.iter().rev().take(USUAL_WINDOWS);
            track.windows.len() >= USUAL_WINDOWS && newest.all(|window| window.value >= 1.0)
        };
        let absent = self
            .tracks
            .iter()
            .filter(|((_, statistic), track)| *statistic == Statistic::Missing && is_absent(track));
        let absent: Vec<String> = absent.map(|((property, _), _)| property.clone()).collect();
        for property in absent {
            self.tracks.retain(|(other, _), _| *other != property);
            self.values.remove(&property);
        }
    }

    /// Forgets what has not been measured for as long as anything is remembered.
    pub fn forget_silent(&mut self, day: i64) {
        let longest = i64::try_from(WINDOWS_MAX).unwrap_or(i64::MAX);
        let mut silent = Vec::new();
        self.tracks.retain(|(property, _), track| {
            let newest = track.windows.back();
            let is_silent = newest.is_none_or(|window| day - window.day > longest);
            if is_silent {
                silent.push(property.clone());
            }
            !is_silent
        });
        let tracks = &self.tracks;
        silent.retain(|property| !tracks.keys().any(|(known, _)| known == property));
        self.values.retain(|property, _| !silent.contains(property));
    }

    /// The bytes that are stored.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(4_096);
        writer.byte(FORMAT);
        writer.unsigned(self.tracks.len() as u64);
        for ((property, statistic), track) in &self.tracks {
            writer.text(property);
            let place = Statistic::ALL.iter().position(|other| other == statistic);
            writer.unsigned(place.unwrap_or(0) as u64);
            writer.unsigned(track.windows.len() as u64);
            let mut before = 0;
            for window in &track.windows {
                writer.signed(window.day - before);
                before = window.day;
                writer.float(window.value);
                writer.float(window.weight);
                let deviates = u8::from(window.deviation.is_some());
                let flags = u8::from(window.told) | deviates << 1 | u8::from(window.begins) << 2;
                writer.byte(flags);
                if let Some(deviation) = window.deviation {
                    writer.float(deviation);
                }
            }
        }
        writer.unsigned(self.values.len() as u64);
        for (property, known) in &self.values {
            writer.text(property);
            writer.byte(u8::from(known.is_open_ended));
            writer.unsigned(known.days);
            writer.unsigned(known.shares.len() as u64);
            for (value, share) in &known.shares {
                writer.text(value);
                writer.float(*share);
            }
        }
        writer.finish()
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    /// When it did not, or in a newer form.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.byte()? != FORMAT {
            return Err(NEWER);
        }
        let mut history = Self::default();
        for _ in 0..reader.count()? {
            let property = reader.text()?.to_string();
            let place = usize::try_from(reader.unsigned()?).ok();
            let statistic = place.and_then(|place| Statistic::ALL.get(place));
            let statistic = *statistic.ok_or(DecodeError("a statistic is unknown"))?;
            let mut track = Track::default();
            let mut day = 0;
            for _ in 0..reader.count()? {
                day = i64::saturating_add(day, reader.signed()?);
                track.windows.push_back(read_window(day, &mut reader)?);
            }
            history.tracks.insert((property, statistic), track);
        }
        for _ in 0..reader.count()? {
            let property = reader.text()?.to_string();
            let mut known = KnownValues {
                is_open_ended: reader.byte()? != 0,
                days: reader.amount()?,
                ..KnownValues::default()
            };
            for _ in 0..reader.count()? {
                let value = reader.text()?.to_string();
                known.shares.insert(value, reader.float()?);
            }
            history.values.insert(property, known);
        }
        reader.end()?;
        Ok(history)
    }
}

fn read_window(day: i64, reader: &mut Reader<'_>) -> Result<Window, DecodeError> {
    let (value, weight) = (reader.float()?, reader.float()?);
    let flags = reader.byte()?;
    Ok(Window {
        day,
        value,
        weight,
        told: flags & 1 != 0,
        begins: flags & 4 != 0,
        deviation: (flags & 2 != 0).then(|| reader.float()).transpose()?,
    })
}
