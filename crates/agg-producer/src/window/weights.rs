//! The weights of the exponential moving average, made once.

use std::time::Duration;

use crate::window::exp::ExpNegative;
use crate::window::time_windows::TimeWindows;

/// The time constant of the exponential moving average, in milliseconds: a trade this much older than another weighs `1/e` of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tau(f64);

impl Tau {
    /// `None` where it is below `size / 500`: the oldest weights would leave the range of normal doubles.
    #[must_use]
    pub fn new(tau: Duration, windows: &TimeWindows) -> Option<Self> {
        let (size, tau) = (Duration::from_millis(windows.size().unsigned_abs()), Self(millis(tau)));
        (tau.0 > 0.0 && millis(size) / tau.0 <= 500.0).then_some(tau)
    }

    /// In milliseconds.
    #[must_use]
    pub const fn millis(self) -> f64 {
        self.0
    }
}

/// Exact for whole milliseconds and for halves, quarters and so on.
#[expect(clippy::cast_precision_loss, reason = "beyond 2^53 ms, 285,000 years, nobody can tell")]
fn millis(duration: Duration) -> f64 {
    duration.as_millis() as f64 + f64::from(duration.subsec_nanos() % 1_000_000) / 1e6
}

/// `exp(-age/τ)`: the quotient rounded to a double, its exponential rounded correctly.
#[derive(Debug)]
pub struct Weights {
    exp: ExpNegative,
    tau: Tau,
    /// By milliseconds from the trade to its slice's end.
    of_trades: Box<[f64]>,
    /// By slices from the slice's end to the window's.
    of_slices: Box<[f64]>,
}

impl Weights {
    /// Ages within a slice that are tabulated; a trade of a longer slice that is older than this has its weight computed,
    /// which takes a microsecond.
    const LONGEST_TABLE: i64 = 300_000;

    /// Makes the tables: about a microsecond for each millisecond of `advance`.
    #[must_use]
    pub fn new(windows: &TimeWindows, tau: Tau) -> Self {
        let exp = ExpNegative::new();
        let weight = |millis| weight(&exp, tau, millis);
        let of_trades = (0..=windows.advance().min(Self::LONGEST_TABLE)).map(weight).collect();
        let of_slices =
            (0..windows.slices_per_window()).map(|slice| weight(slice * windows.advance())).collect();
        Self { of_trades, of_slices, exp, tau }
    }

    /// The weight of a trade `age` milliseconds before the end of its slice.
    #[must_use]
    pub fn of_trade(&self, age: i64) -> f64 {
        let tabulated = usize::try_from(age).ok().and_then(|age| self.of_trades.get(age));
        tabulated.copied().unwrap_or_else(|| weight(&self.exp, self.tau, age))
    }

    /// The factor for the sums of a slice that ended so many slices before the window did: 0 up to `slices_per_window - 1`.
    #[must_use]
    pub fn of_slice(&self, slices_before: i64) -> f64 {
        let tabulated = usize::try_from(slices_before).ok().and_then(|slice| self.of_slices.get(slice));
        tabulated.copied().expect("a window consists of slices_per_window slices")
    }
}

#[expect(clippy::cast_precision_loss, reason = "ages are at most a window's size, far below 2^53")]
fn weight(exp: &ExpNegative, tau: Tau, millis: i64) -> f64 {
    exp.of(millis as f64 / tau.millis())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn windows(size: u32, advance: u32) -> TimeWindows {
        TimeWindows::new(MS * size, MS * advance, MS).unwrap()
    }

    #[test]
    fn a_weight_beyond_the_table_is_the_one_the_table_would_have() {
        let windows = windows(600_000, 600_000);
        let weights = Weights::new(&windows, Tau::new(MS * 300_000, &windows).unwrap());
        assert_eq!(weights.of_trade(600_000).to_bits(), (-2f64).exp().to_bits());
        assert!(weights.of_trade(300_000) > weights.of_trade(300_001));
    }

    #[test]
    fn the_newest_slice_counts_fully_and_the_oldest_least() {
        let windows = windows(300_000, 10_000);
        let weights = Weights::new(&windows, Tau::new(MS * 150_000, &windows).unwrap());
        assert_eq!(weights.of_slice(0), 1.0);
        assert_eq!(weights.of_slice(15).to_bits(), (-1f64).exp().to_bits());
        assert!(weights.of_slice(29) > weights.of_trade(1) * 0.14);
    }

    #[test]
    fn the_shortest_tau_still_has_weights_in_the_doubles_full_precision() {
        let windows = windows(500_000, 1_000);
        let weights = Weights::new(&windows, Tau::new(MS * 1_000, &windows).unwrap());
        assert!((weights.of_slice(499) * weights.of_trade(1_000)).is_normal());
        assert_eq!(Tau::new(MS * 999, &windows), None);
        assert_eq!(Tau::new(Duration::ZERO, &windows), None);
    }

    #[test]
    fn half_of_an_odd_size_is_a_time_constant_too() {
        assert_eq!(Tau::new(MS * 5 / 2, &windows(5, 5)).map(Tau::millis), Some(2.5));
    }
}
