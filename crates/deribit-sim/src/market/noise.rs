//! Random numbers without state: each is a function of the seed and a coordinate.
//!
//! This module uses integer arithmetic and the IEEE operations `+ - * /`, which give the same results on every processor. It does not call
//! the C library's mathematics, whose last digits differ.

/// A source of random numbers, addressed by coordinate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(u64);

impl Key {
    pub(crate) fn new(seed: u64) -> Self {
        Self(scramble(seed ^ 0x5851_f42d_4c95_7f2d))
    }

    /// An independent source, named by `name` within this one.
    pub(crate) fn child(self, name: u64) -> Self {
        Self(scramble(self.at(name) ^ 0xd6e8_feb8_6659_fd93))
    }

    /// The 64 bits at a coordinate.
    pub(crate) fn at(self, coordinate: u64) -> u64 {
        scramble(self.0.wrapping_add(coordinate.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    /// The number in `[0, 1)` at a coordinate.
    pub(crate) fn unit(self, coordinate: u64) -> f64 {
        unit(self.at(coordinate))
    }
}

/// The finalizer of splitmix64: each input bit flips each output bit with probability one half.
fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The upper 53 bits as a number in `[0, 1)`.
pub(crate) fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// A smooth random wave of time in `[-1, 1]`: random at multiples of `2^period_bits` milliseconds, interpolated in between. Waves of different
/// periods are independent.
pub(crate) fn wave(key: Key, t: u64, period_bits: u32) -> f64 {
    let cell = t >> period_bits;
    let within = (t - (cell << period_bits)) as f64 / (1_u64 << period_bits) as f64;
    let at = |cell: u64| key.unit((cell << 6) | u64::from(period_bits));
    let (a, b) = (at(cell), at(cell + 1));
    let eased = within * within * (3.0 - 2.0 * within);
    2.0 * (a + (b - a) * eased) - 1.0
}

/// `e^x` to about `x²/2048`, by ten squarings.
pub(crate) fn exp(x: f64) -> f64 {
    let mut power = (1.0 + x / 1024.0).max(0.0);
    for _ in 0..10 {
        power *= power;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_one_source_fill_the_unit_interval_evenly() {
        let key = Key::new(7);
        let mut tenths = [0_u32; 10];
        for i in 0..100_000 {
            let place = (key.unit(i) * 10.0).floor();
            let tenth =
                tenths.iter_mut().enumerate().find(|(n, _)| *n as f64 == place).map(|(_, count)| count);
            *tenth.expect("a unit number times ten is below ten") += 1;
        }
        assert!(tenths.iter().all(|&count| (9_500..10_500).contains(&count)), "{tenths:?}");
    }

    #[test]
    fn sources_of_different_names_or_seeds_differ() {
        let key = Key::new(1);
        assert_ne!(key.child(1).at(0), key.child(2).at(0));
        assert_ne!(key.at(0), Key::new(2).at(0));
    }

    #[test]
    fn a_wave_stays_within_its_bounds_and_has_no_jumps() {
        let key = Key::new(3);
        let mut before = wave(key, 0, 8);
        for t in 1..10_000 {
            let now = wave(key, t, 8);
            assert!(now.abs() <= 1.0 && (now - before).abs() < 0.02, "at {t}: {before} to {now}");
            before = now;
        }
    }

    #[test]
    fn exp_is_close_enough_for_prices() {
        for x in [-3.0, -0.5, -0.01, 0.0, 0.2, 1.0_f64] {
            assert!((exp(x) / x.exp() - 1.0).abs() < x * x / 2000.0 + 1e-12, "{x}");
        }
        assert_eq!(exp(-5_000.0), 0.0);
    }
}
