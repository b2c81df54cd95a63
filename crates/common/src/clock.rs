//! Wall-clock time as the contract writes it: whole numbers since 1970-01-01T00:00:00Z.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, as in event times and in Kafka's timestamps; negative on a clock that is set before 1970.
#[must_use]
pub fn now_millis() -> i64 {
    now_micros().div_euclid(1_000)
}

/// Microseconds since 1970; negative on a clock that is set before 1970.
#[must_use]
pub fn now_micros() -> i64 {
    micros(SystemTime::now())
}

fn micros(time: SystemTime) -> i64 {
    let fitting = |micros: u128| i64::try_from(micros).expect("microseconds fit for 292,000 years");
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => fitting(since.as_micros()),
        Err(before) => -fitting(before.duration().as_micros()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_clock_before_1970_counts_backwards() {
        assert_eq!(micros(UNIX_EPOCH + Duration::from_millis(3)), 3_000);
        assert_eq!(micros(UNIX_EPOCH - Duration::from_millis(3)), -3_000);
    }

    #[test]
    fn both_units_show_the_same_time() {
        let before = now_micros();
        let millis = now_millis();
        let after = now_micros();
        assert!((before / 1_000..=after / 1_000).contains(&millis), "{before} {millis} {after}");
    }
}
