//! Instants and lengths of time, both in whole microseconds, and how people write them.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const MICROS_PER_SECOND: i64 = 1_000_000;
const MICROS_PER_DAY: i64 = 86_400 * MICROS_PER_SECOND;

/// An instant: microseconds since 1970-01-01T00:00:00Z. Written and read as RFC 3339 in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// The earliest instant that an event may carry: 1970-01-01.
    pub const EPOCH: Timestamp = Timestamp(0);
    /// Later than every real instant.
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    /// The instant that many microseconds after the epoch.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// The instant that many milliseconds after the epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis.saturating_mul(1_000))
    }

    /// Microseconds since the epoch.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Seconds since the epoch, with the fraction.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / MICROS_PER_SECOND as f64
    }

    /// How long after `earlier` this is; negative when it is before.
    pub const fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }

    /// The start of the tile of length `hop` that holds this instant; tiles are aligned to the epoch.
    pub const fn floor(self, hop: Span) -> Timestamp {
        Timestamp(self.0.div_euclid(hop.0) * hop.0)
    }

    /// The calendar day in UTC, as `2011-12-09`: the partition of the lake.
    pub fn date(self) -> String {
        self.to_chrono().format("%Y-%m-%d").to_string()
    }

    /// Days since the epoch in UTC.
    pub const fn day(self) -> i64 {
        self.0.div_euclid(MICROS_PER_DAY)
    }

    /// The first instant of the UTC calendar month `months` after the one that holds this instant.
    pub fn month_start(self, months: i32) -> Timestamp {
        let date = self.to_chrono().date_naive();
        let index = date.year() * 12 + date.month0() as i32 + months;
        let (year, month0) = (index.div_euclid(12), index.rem_euclid(12));
        NaiveDate::from_ymd_opt(year, month0 as u32 + 1, 1)
            .and_then(|d| d.and_hms_opt(0, 0, 0))
            .map_or(Timestamp::MAX, |d| {
                Timestamp(d.and_utc().timestamp_micros())
            })
    }

    /// The hour in UTC, from 0 to 23.
    pub fn hour(self) -> u32 {
        self.to_chrono().hour()
    }

    /// The day of the week in UTC, from 1 for Monday to 7.
    pub fn weekday(self) -> u32 {
        self.to_chrono().weekday().number_from_monday()
    }

    /// The day of the month in UTC, from 1.
    pub fn day_of_month(self) -> u32 {
        self.to_chrono().day()
    }

    /// The month in UTC, from 1 to 12.
    pub fn month(self) -> u32 {
        self.to_chrono().month()
    }

    fn to_chrono(self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.0).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            &self
                .to_chrono()
                .to_rfc3339_opts(SecondsFormat::Micros, true),
        )
    }
}

/// What was wrong with a written instant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a time: write it like 2011-12-09T12:50:00Z")]
pub struct TimestampError(pub String);

impl FromStr for Timestamp {
    type Err = TimestampError;

    /// Reads RFC 3339, and what spreadsheets and databases export: `2011-12-09 12:50:00` (taken as UTC) and
    /// `2011-12-09`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Ok(time) = DateTime::parse_from_rfc3339(text) {
            return Ok(Self(time.timestamp_micros()));
        }
        for format in [
            "%Y-%m-%d %H:%M:%S%.f",
            "%Y-%m-%dT%H:%M:%S%.f",
            "%Y-%m-%d %H:%M",
        ] {
            if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
                return Ok(Self(time.and_utc().timestamp_micros()));
            }
        }
        for format in ["%Y-%m-%dT%H:%M:%S%.f%z", "%Y-%m-%d %H:%M:%S%.f%:z"] {
            if let Ok(time) = DateTime::parse_from_str(text, format) {
                return Ok(Self(time.timestamp_micros()));
            }
        }
        NaiveDate::parse_from_str(text, "%Y-%m-%d")
            .ok()
            .and_then(|date| date.and_hms_opt(0, 0, 0))
            .map(|time| Self(time.and_utc().timestamp_micros()))
            .ok_or_else(|| TimestampError(text.chars().take(64).collect()))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A length of time in microseconds, written `90s`, `5m`, `1h`, `30d`, `2w`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i64);

impl Span {
    /// No time at all.
    pub const ZERO: Span = Span(0);

    /// That many microseconds.
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// That many seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds * MICROS_PER_SECOND)
    }

    /// That many days of 24 hours.
    pub const fn from_days(days: i64) -> Self {
        Self(days * MICROS_PER_DAY)
    }

    /// Microseconds.
    pub const fn micros(self) -> i64 {
        self.0
    }

    /// Seconds, with the fraction.
    pub fn seconds(self) -> f64 {
        self.0 as f64 / MICROS_PER_SECOND as f64
    }

    /// Days of 24 hours, with the fraction.
    pub fn days(self) -> f64 {
        self.0 as f64 / MICROS_PER_DAY as f64
    }
}

/// The units in which a span is written, largest first.
const UNITS: [(&str, i64); 5] = [
    ("w", 7 * MICROS_PER_DAY),
    ("d", MICROS_PER_DAY),
    ("h", 3_600 * MICROS_PER_SECOND),
    ("m", 60 * MICROS_PER_SECOND),
    ("s", MICROS_PER_SECOND),
];

impl fmt::Display for Span {
    /// The largest unit that divides it (weeks only when read, so that `7d` stays `7d`).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, micros) in &UNITS[1..] {
            if self.0 != 0 && self.0 % micros == 0 {
                return write!(f, "{}{unit}", self.0 / micros);
            }
        }
        write!(f, "{}s", self.seconds())
    }
}

/// What was wrong with a written length of time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a length of time: write a whole number and a unit, like 90s, 5m, 1h, 30d or 2w"
)]
pub struct SpanError(pub String);

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SpanError(text.chars().take(64).collect());
        let text = text.trim();
        let (unit, micros) = UNITS
            .iter()
            .find(|(unit, _)| text.ends_with(unit))
            .ok_or_else(error)?;
        let number: i64 = text[..text.len() - unit.len()]
            .trim()
            .parse()
            .map_err(|_| error())?;
        if number <= 0 {
            return Err(error());
        }
        number.checked_mul(*micros).map(Self).ok_or_else(error)
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    /// What people write, and everything that was [written](fmt::Display): also nothing, and fractions of a second.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        let as_written = || {
            let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
            let micros = (seconds * MICROS_PER_SECOND as f64).round();
            (micros.abs() < 9e15).then_some(Self(micros as i64))
        };
        let parsed = text.parse();
        parsed
            .or_else(|error: SpanError| as_written().ok_or_else(|| serde::de::Error::custom(error)))
    }
}

/// Reads spans of requests, for `#[serde(deserialize_with)]`: only what people write, a whole number above 0 with a unit.
pub mod written {
    use std::borrow::Cow;

    use serde::{Deserialize, Deserializer, de::Error};

    use super::Span;

    /// One that has to be there.
    ///
    /// # Errors
    /// When it is not such a text.
    pub fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }

    /// One that may be null.
    ///
    /// # Errors
    /// When it is neither null nor such a text.
    pub fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
        let text = Option::<Cow<'_, str>>::deserialize(deserializer)?;
        let span = text.map(|text| text.parse()).transpose();
        span.map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_people_write_them() {
        let expected = "2011-12-09T12:50:00.000000Z";
        for text in [
            "2011-12-09T12:50:00Z",
            "2011-12-09T13:50:00+01:00",
            "2011-12-09 12:50:00",
            "2011-12-09 12:50",
            "2011-12-09T12:50:00.000+0000",
        ] {
            assert_eq!(
                text.parse::<Timestamp>().unwrap().to_string(),
                expected,
                "{text}"
            );
        }
        assert!("09/12/2011".parse::<Timestamp>().is_err());
    }

    #[test]
    fn every_span_that_was_stored_is_read_back() {
        for micros in [
            0,
            1,
            25_000,
            3_270,
            90_000_000,
            -1_500_000,
            86_400_000_000,
            i64::from(u32::MAX),
        ] {
            let span = Span(micros);
            let stored = serde_json::to_string(&span).unwrap();
            assert_eq!(
                serde_json::from_str::<Span>(&stored).unwrap(),
                span,
                "{stored}"
            );
        }
        for refused in ["\"\"", "\"soon\"", "\"1e99s\"", "\"NaNs\"", "\"12\""] {
            assert!(serde_json::from_str::<Span>(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn requests_name_spans_as_people_do() {
        #[derive(Debug, Deserialize)]
        struct Asked {
            #[serde(deserialize_with = "written::required")]
            one: Span,
            #[serde(default, deserialize_with = "written::optional")]
            other: Option<Span>,
        }
        let read = |json: &str| serde_json::from_str::<Asked>(json);
        let asked = read(r#"{"one": "2h"}"#).unwrap();
        assert_eq!((asked.one, asked.other), (Span::from_seconds(7_200), None));
        assert_eq!(read(r#"{"one": "2h", "other": null}"#).unwrap().other, None);
        for refused in [
            r#"{"one": "0s"}"#,
            r#"{"one": "-5s"}"#,
            r#"{"one": "1h", "other": "0.5s"}"#,
        ] {
            let error = read(refused).unwrap_err().to_string();
            assert!(error.contains("is not a length of time"), "{error}");
        }
    }

    #[test]
    fn spans_are_read_and_written() {
        for (text, written) in [
            ("90s", "90s"),
            ("5m", "5m"),
            ("48h", "2d"),
            ("2w", "14d"),
            ("1h", "1h"),
        ] {
            assert_eq!(text.parse::<Span>().unwrap().to_string(), written);
        }
        for text in ["", "d", "0d", "-1d", "1.5d", "30", "9999999999999w"] {
            assert!(text.parse::<Span>().is_err(), "{text}");
        }
    }

    #[test]
    fn months_start_on_the_first() {
        let time: Timestamp = "2011-11-30T23:00:00Z".parse().unwrap();
        assert_eq!(time.month_start(0).date(), "2011-11-01");
        assert_eq!(time.month_start(1).date(), "2011-12-01");
        assert_eq!(time.month_start(-11).date(), "2010-12-01");
    }

    #[test]
    fn tiles_are_aligned_before_the_epoch_too() {
        let hop = Span::from_seconds(60);
        assert_eq!(
            Timestamp::from_micros(-1).floor(hop),
            Timestamp::from_micros(-60_000_000)
        );
        assert_eq!(
            Timestamp::from_micros(60_000_001).floor(hop),
            Timestamp::from_micros(60_000_000)
        );
    }
}
