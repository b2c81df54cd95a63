//! Two clocks: ours, and the exchange's as far as it is known.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::sequencer::Millis;

/// Our clock, in microseconds since the epoch.
pub(crate) fn now_micros() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
}

/// The exchange's clock: what it said last, and what has passed since on ours.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ExchangeClock {
    said: Millis,
    at: Instant,
}

impl ExchangeClock {
    /// The exchange has just said what time it is.
    pub(crate) fn new(said: Millis, at: Instant) -> Self {
        Self { said, at }
    }

    /// What time it is there; never later than it really is, but for clocks that run at different speeds.
    pub(crate) fn now(&self, now: Instant) -> Millis {
        let passed = now.saturating_duration_since(self.at).as_millis();
        self.said.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}
