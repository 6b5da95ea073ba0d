//! Time as a parameter: everything that needs to know what time it is asks a [`Clock`].
//!
//! The demo, backtests and tests move a [`VirtualClock`]; a server runs on the [`SystemClock`].

use std::sync::atomic::{AtomicI64, Ordering};

use crate::time::Timestamp;

/// Something that says what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> Timestamp;

    /// Whether a driver moves this clock. Background loops then wait for the driver's tick, not for real time.
    fn is_virtual(&self) -> bool {
        false
    }
}

/// The real time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the wall clock"
    )]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
    }
}

/// How long something takes for real, whatever the [`Clock`] says: for latencies, never for what happened when.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch(std::time::Instant);

impl Stopwatch {
    /// Starts it.
    #[allow(
        clippy::disallowed_methods,
        reason = "the one place that reads the monotonic clock"
    )]
    pub fn start() -> Self {
        Self(std::time::Instant::now())
    }

    /// Microseconds since it was started.
    pub fn micros(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Seconds since it was started.
    pub fn seconds(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// A time that its owner moves, and that never goes back.
#[derive(Debug, Default)]
pub struct VirtualClock(AtomicI64);

impl VirtualClock {
    /// A clock that stands at `start`.
    pub const fn at(start: Timestamp) -> Self {
        Self(AtomicI64::new(start.micros()))
    }

    /// Moves the clock to `time`; an earlier time than the present one leaves it where it is.
    pub fn advance_to(&self, time: Timestamp) {
        self.0.fetch_max(time.micros(), Ordering::SeqCst);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn is_virtual(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_virtual_clock_never_goes_back() {
        let clock = VirtualClock::at(Timestamp::from_micros(10));
        clock.advance_to(Timestamp::from_micros(30));
        clock.advance_to(Timestamp::from_micros(20));
        assert_eq!(clock.now(), Timestamp::from_micros(30));
    }
}
