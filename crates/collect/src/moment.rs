//! When something happened: how senders write instants, and the correction for a wrong client clock.

use tidemill_core::Timestamp;
use tidemill_core::time::TimestampError;

/// Numbers below are no instant: they are rather a date like 20111209 or a mistake.
const EPOCH_NUMBER_MIN: f64 = 1e8;

/// Reads an instant as RFC 3339, as spreadsheets and databases export it (without a zone: UTC), or as a number since the
/// epoch (see [`from_number`]).
///
/// # Errors
/// When it is none of these.
pub fn from_text(text: &str) -> Result<Timestamp, TimestampError> {
    let text = text.trim();
    let numeric = !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numeric && let Some(time) = text.parse().ok().and_then(from_number) {
        return Ok(time);
    }
    text.parse()
}

/// Reads a number since 1970-01-01T00:00:00Z. The unit is told by the size: from 1e8 seconds, from 1e11 milliseconds, from
/// 1e14 microseconds, from 1e17 nanoseconds; each range begins in 1973 and ends in 5138. `None` for smaller, negative
/// and non-finite numbers.
pub fn from_number(number: f64) -> Option<Timestamp> {
    let micros = match number {
        n if !n.is_finite() || n < EPOCH_NUMBER_MIN => return None,
        n if n < 1e11 => n * 1e6,
        n if n < 1e14 => n * 1e3,
        n if n < 1e17 => n,
        n => n / 1e3,
    };
    // a float to integer cast saturates, and every range above ends far below the largest i64
    Some(Timestamp::from_micros(micros.round() as i64))
}

/// The time at which an event happened by the server's clock: `received_at − (sent_at − original)`.
///
/// The client's clock may be wrong, but it is wrong by as much when it stamps as when it sends. Without `sent_at` the
/// original stands; without an original the event happened when it was received.
pub fn corrected(
    received_at: Timestamp,
    sent_at: Option<Timestamp>,
    original: Option<Timestamp>,
) -> Timestamp {
    match (sent_at, original) {
        (Some(sent_at), Some(original)) => received_at - sent_at.since(original),
        (None, Some(original)) => original,
        (_, None) => received_at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_senders_write_them() {
        let expected: Timestamp = "2011-12-09T12:50:00Z".parse().unwrap();
        for text in [
            "2011-12-09T12:50:00.000Z",
            "2011-12-09 12:50",
            "1323435000",
            "1323435000.0",
            "1323435000000",
            "1323435000000000",
        ] {
            assert_eq!(from_text(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "20111209",
            "0",
            "-5",
            "soon",
            "1e9999",
            "9".repeat(400).as_str(),
        ] {
            assert!(from_text(text).is_err(), "{text}");
        }
        assert_eq!(from_number(1_323_435_000_000_000_000.0), Some(expected));
        assert_eq!(from_number(f64::NAN), None);
    }

    #[test]
    fn a_clock_that_is_wrong_is_corrected() {
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000);
        let check = |sent: Option<i64>, original: Option<i64>, expected: i64| {
            assert_eq!(
                corrected(at(1_000), sent.map(at), original.map(at)),
                at(expected)
            );
        };
        // an hour ahead, sent 5 s after it happened
        check(Some(4_600), Some(4_595), 995);
        // an hour behind
        check(Some(-2_600), Some(-2_605), 995);
        check(None, Some(700), 700);
        check(Some(900), None, 1_000);
        check(None, None, 1_000);
    }

    #[test]
    fn extreme_clocks_do_not_overflow() {
        let time = corrected(
            Timestamp::MAX,
            Some(Timestamp::from_micros(i64::MIN)),
            Some(Timestamp::MAX),
        );
        assert_eq!(time, Timestamp::MAX);
    }
}
