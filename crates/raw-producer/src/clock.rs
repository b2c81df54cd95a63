//! The exchange's clock.

use std::time::Instant;

/// A point in time by the exchange's clock: milliseconds since 1970.
pub(crate) type ExchangeTime = i64;

/// A length of time in milliseconds.
pub(crate) type Millis = i64;

/// The exchange's clock: its last answer, and the time that passed since then on our clock.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExchangeClock {
    answered: ExchangeTime,
    answered_at: Instant,
}

impl ExchangeClock {
    /// A clock that showed `answered` at our time `at`.
    pub(crate) fn new(answered: ExchangeTime, at: Instant) -> Self {
        Self { answered, answered_at: at }
    }

    /// The exchange's time now. It is never later than the true time, unless the two clocks run at different speeds.
    pub(crate) fn now(&self, now: Instant) -> ExchangeTime {
        let passed = now.saturating_duration_since(self.answered_at).as_millis();
        self.answered.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}
