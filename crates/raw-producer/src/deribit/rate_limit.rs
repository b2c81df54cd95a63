//! How many calls the exchange takes: a pool that each call draws on and that time refills. Without a clock of its own.

use std::time::{Duration, Instant};

/// So many seconds' worth of calls can be made at once.
const BURST_SECONDS: f64 = 5.0;

/// The pool, in calls.
#[derive(Debug)]
pub(crate) struct Credits {
    per_second: f64,
    left: f64,
    counted_at: Instant,
    closed_until: Option<Instant>,
}

impl Credits {
    /// A full pool that is refilled at so many calls a second.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: per_second * BURST_SECONDS, counted_at: now, closed_until: None }
    }

    /// Requests that can be made now.
    pub(crate) fn left(&mut self, now: Instant) -> usize {
        if self.closed_until.is_some_and(|until| now < until) {
            return 0;
        }
        let refilled = now.saturating_duration_since(self.counted_at).as_secs_f64() * self.per_second;
        self.left = (self.left + refilled).min(self.per_second * BURST_SECONDS);
        self.counted_at = now;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between zero and the pool's size"
        )]
        let whole = self.left.max(0.0) as usize;
        whole
    }

    /// A call was made.
    pub(crate) fn spend(&mut self) {
        self.left -= 1.0;
    }

    /// The exchange said that there were too many: the pool is empty, and stays closed for a while.
    pub(crate) fn exhausted(&mut self, now: Instant, pause: Duration) {
        self.left = 0.0;
        self.counted_at = now;
        self.closed_until = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_as_many_as_time_refills() {
        let start = Instant::now();
        let mut credits = Credits::new(20, start);
        assert_eq!(credits.left(start), 100);
        for _ in 0..100 {
            credits.spend();
        }
        assert_eq!(credits.left(start), 0);
        assert_eq!(credits.left(start + Duration::from_millis(500)), 10);
        assert_eq!(credits.left(start + Duration::from_secs(60)), 100);
    }

    #[test]
    fn too_many_calls_close_the_pool_for_a_while() {
        let start = Instant::now();
        let mut credits = Credits::new(20, start);
        credits.exhausted(start, Duration::from_secs(2));
        assert_eq!(credits.left(start + Duration::from_millis(1_900)), 0);
        assert!(credits.left(start + Duration::from_millis(2_100)) > 0);
    }
}
