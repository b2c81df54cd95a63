//! The exchange's rate limit: each request costs one credit, and time refills them. The clock is handed in.

use std::time::{Duration, Instant};

/// Size of the pool, in seconds of refill.
const BURST_SECONDS: f64 = 5.0;

/// The credits that are left. The exchange counts them too and closes a connection that overdraws.
#[derive(Debug)]
pub(crate) struct Credits {
    per_second: f64,
    left: f64,
    counted_at: Instant,
    closed_until: Option<Instant>,
}

impl Credits {
    /// A full pool.
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, left: per_second * BURST_SECONDS, counted_at: now, closed_until: None }
    }

    /// Number of requests that may be sent now.
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

    /// Takes one credit, even if none is left: the exchange counts the request in any case.
    pub(crate) fn spend(&mut self) {
        self.left -= 1.0;
    }

    /// Empties the pool and closes it for `pause`, after the exchange has rejected a request.
    pub(crate) fn close(&mut self, now: Instant, pause: Duration) {
        self.left = 0.0;
        self.counted_at = now;
        self.closed_until = Some(now + pause);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_burst_time_refills_the_pool() {
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
    fn a_closed_pool_has_no_credits_until_the_pause_is_over() {
        let start = Instant::now();
        let mut credits = Credits::new(20, start);
        credits.close(start, Duration::from_secs(2));
        assert_eq!(credits.left(start + Duration::from_millis(1_900)), 0);
        assert!(credits.left(start + Duration::from_millis(2_100)) > 0);
    }
}
