//! The exchange's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::market::MarketTime;

/// Maps the wall clock to exchange time: `origin + (wall − origin) · speed`.
///
/// Both agree at the origin. So exchange time depends on the wall clock alone, at any speed: a restarted simulator continues where it
/// would have been.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Clock {
    origin: MarketTime,
    speed: f64,
}

impl Clock {
    /// Exchange time is the wall clock.
    pub const WALL: Self = Self { origin: MarketTime(0), speed: 1.0 };

    /// A clock that runs `speed` times as fast as the wall clock and agrees with it at `origin`. `speed` must be above 0.
    #[must_use]
    pub const fn new(origin: MarketTime, speed: f64) -> Self {
        Self { origin, speed }
    }

    /// The exchange time now, in milliseconds.
    #[must_use]
    pub fn now(&self) -> MarketTime {
        MarketTime(self.now_micros() / 1_000)
    }

    /// As [`Clock::now`], in microseconds.
    #[must_use]
    pub fn now_micros(&self) -> u64 {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(wall)
    }

    /// The exchange time in microseconds at a wall-clock time since 1970.
    fn at(&self, wall: Duration) -> u64 {
        let wall = u64::try_from(wall.as_micros()).unwrap_or(u64::MAX);
        let origin = self.origin.0 * 1_000;
        match wall.checked_sub(origin) {
            Some(since) => origin.saturating_add(scaled(since, self.speed)),
            None => origin.saturating_sub(scaled(origin - wall, self.speed)),
        }
    }

    /// Wall-clock time from now until exchange time is `time`.
    #[must_use]
    pub fn until(&self, time: MarketTime) -> Duration {
        let micros = (time.0 * 1_000).saturating_sub(self.now_micros());
        Duration::from_micros(scaled(micros, 1.0 / self.speed))
    }
}

fn scaled(micros: u64, factor: f64) -> u64 {
    if factor == 1.0 {
        return micros;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "not negative, and `as` saturates"
    )]
    let scaled = (micros as f64 * factor) as u64;
    scaled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_speed_one_it_is_the_wall_clock_wherever_the_origin() {
        let wall = Duration::from_micros(1_786_911_707_538_123);
        assert_eq!(Clock::WALL.at(wall), 1_786_911_707_538_123);
        assert_eq!(Clock::new(MarketTime(1_700_000_000_000), 1.0).at(wall), 1_786_911_707_538_123);
    }

    #[test]
    fn speed_counts_from_the_origin_in_both_directions() {
        let origin = MarketTime(1_786_911_707_000);
        let clock = Clock::new(origin, 10.0);
        let at = |millis: u64| clock.at(Duration::from_millis(millis)) / 1_000;
        assert_eq!(at(origin.0), origin.0);
        assert_eq!(at(origin.0 + 1_000), origin.0 + 10_000);
        assert_eq!(at(origin.0 - 1_000), origin.0 - 10_000);
    }

    #[test]
    fn waiting_takes_less_on_a_faster_clock() {
        let clock = Clock::new(MarketTime(1_786_911_707_000), 100.0);
        let wait = clock.until(clock.now().plus(10_000));
        assert!(wait <= Duration::from_millis(101), "{wait:?}");
        assert_eq!(clock.until(MarketTime(0)), Duration::ZERO);
    }
}
