//! How often somebody may try to sign in with a password.

use std::collections::HashMap;

use tidemill_core::{Span, Timestamp};

/// Over how long attempts that failed are counted.
const WINDOW: Span = Span::from_seconds(900);
/// How many may fail for one name.
const OF_NAME_MAX: u32 = 10;
/// How many may fail altogether; it also bounds what is remembered.
const OF_ALL_MAX: u32 = 500;

/// The attempts of the running window that failed.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    since: Option<Timestamp>,
    of_all: u32,
    of_name: HashMap<String, u32>,
}

impl Attempts {
    /// Whether one more may be made for a name.
    pub(crate) fn allowed(&mut self, name: &str, now: Timestamp) -> bool {
        if self.since.is_none_or(|since| now.since(since) >= WINDOW) {
            *self = Self {
                since: Some(now),
                ..Self::default()
            };
        }
        let of_name = self.of_name.get(name).copied().unwrap_or_default();
        self.of_all < OF_ALL_MAX && of_name < OF_NAME_MAX
    }

    /// Counts one that failed.
    pub(crate) fn failed(&mut self, name: &str) {
        self.of_all += 1;
        *self.of_name.entry(name.to_owned()).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::EPOCH + Span::from_seconds(seconds)
    }

    #[test]
    fn after_ten_failures_a_name_has_to_wait() {
        let mut attempts = Attempts::default();
        for _ in 0..10 {
            assert!(attempts.allowed("ada", at(0)));
            attempts.failed("ada");
        }
        assert!(!attempts.allowed("ada", at(899)));
        assert!(attempts.allowed("bob", at(899)));
        assert!(attempts.allowed("ada", at(900)));
    }

    #[test]
    fn many_names_do_not_help() {
        let mut attempts = Attempts::default();
        for name in 0..500 {
            assert!(attempts.allowed(&name.to_string(), at(0)));
            attempts.failed(&name.to_string());
        }
        assert!(!attempts.allowed("ada", at(1)));
    }
}
