//! Correctly rounded `exp(-x)`: of all doubles the nearest to the true value, on every machine and in every language.
//!
//! The C library's `exp` is not that; it differs by a unit in the last place between versions and processors. Here the
//! value is computed in fixed point with far more digits than a double has, together with a bound on the error. When both
//! ends of that interval round to the same double, it is the right one, because rounding is monotone. When they do not,
//! more digits are taken (Ziv's strategy).
//!
//! How: `exp(-x) = 2^-n · exp(r)` with `n = ⌈x / ln 2⌉` and `r = n·ln 2 - x`, so that `r` lies in `[0, ln 2]`; then
//! `exp(r) = exp(r / 2^HALVINGS)^(2^HALVINGS)`, the inner one by its Taylor series. Every step truncates, so every error
//! has the same sign, and the result is a lower bound.

mod fixed;

use fixed::Fixed;

/// `r` is halved so often before its series is summed; afterwards the sum is squared as often.
const HALVINGS: u32 = 8;

/// The true value lies less than `2^ERROR_BITS` units of the last fixed-point digit above the computed one.
///
/// With `u` for that unit and `F` fraction bits, at most 1000: `ln 2` is short by at most `(F+1)u`, hence `r` by
/// `n(F+1)u` with `n ≤ 1023`, hence `exp(r)`, whose derivative is at most 2, by `2·1023·(F+1)u < 2^21·u`. Halving cuts `r`
/// by another `2^HALVINGS·u`. A Horner step loses `2u` for its coefficient and `u` for its product, and the next step
/// damps that by `2^-HALVINGS`; the series' tail is below `u`. That is less than `5u` together, which the squarings
/// (`E' ≤ 2·Y·E + u`, the product of all `Y` being at most 2) turn into less than `2^(HALVINGS+4)·u`. The sum of all is
/// below `2^22·u`.
const ERROR_BITS: u32 = 22;

/// Computes `exp(-x)` as the nearest double.
#[derive(Debug)]
pub struct ExpNegative(Exp<4>);

impl ExpNegative {
    /// Prepares the constants, which takes some microseconds.
    #[must_use]
    pub fn new() -> Self {
        Self(Exp::new())
    }

    /// The double nearest to `exp(-x)`.
    ///
    /// # Panics
    /// Where `x` is not between 0 and 700, beyond which results are no normal doubles any more.
    #[must_use]
    pub fn of(&self, x: f64) -> f64 {
        assert!((0.0..=700.0).contains(&x), "exp(-x) is provided for x from 0 to 700, not for {x}");
        // Below 2^-54, exp(-x) > 1 - x lies above the middle between 1 and the next double below it.
        if x < f64::EPSILON / 4.0 {
            return 1.0;
        }
        self.0.nearest(x).or_else(|| Exp::<16>::new().nearest(x)).expect(
            "an exponential of a double comes no closer to a rounding boundary than 2^-158 (Lefèvre, Muller: Worst Cases \
             for Correct Rounding of the Elementary Functions in Double Precision)",
        )
    }
}

impl Default for ExpNegative {
    fn default() -> Self {
        Self::new()
    }
}

/// The constants for `64·(LIMBS - 1)` fraction bits.
#[derive(Debug)]
struct Exp<const LIMBS: usize> {
    ln_2: Fixed<LIMBS>,
    /// `1/j!`, the highest `j` first.
    coefficients: Vec<Fixed<LIMBS>>,
}

impl<const LIMBS: usize> Exp<LIMBS> {
    fn new() -> Self {
        let mut coefficients = inverse_factorials();
        coefficients.reverse();
        Self { ln_2: ln_2(), coefficients }
    }

    /// The nearest double, or `None` if a rounding boundary lies within the error.
    fn nearest(&self, x: f64) -> Option<f64> {
        let (lower, n) = self.scaled(x);
        let upper = lower.plus(&Fixed::units(1 << ERROR_BITS));
        let nearest = lower.to_double(n);
        (nearest == upper.to_double(n)).then_some(nearest)
    }

    /// A lower bound of `exp(-x)·2^n`, and `n`.
    fn scaled(&self, x: f64) -> (Fixed<LIMBS>, u32) {
        let (r, n) = self.reduced(x);
        let s = r.halved(HALVINGS);
        let series = self.coefficients.iter().fold(Fixed::ZERO, |sum, term| sum.times(&s).plus(term));
        let power = (0..HALVINGS).fold(series, |power, _| power.times(&power));
        (power, n)
    }

    /// The smallest `n·ln 2 - x` that is not negative, and its `n`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "x is at most 700; below 0 becomes 0"
    )]
    fn reduced(&self, x: f64) -> (Fixed<LIMBS>, u32) {
        // Never too high, and at most two too low.
        let mut n = (x / std::f64::consts::LN_2 - 1e-9) as u32;
        let x = Fixed::from_double(x);
        let mut multiple = self.ln_2.times_small(u64::from(n));
        while multiple.is_below(&x) {
            multiple = multiple.plus(&self.ln_2);
            n += 1;
        }
        (multiple.minus(&x), n)
    }
}

/// `Σ 1/(j·2^j)`, as many terms as there are fraction bits.
fn ln_2<const LIMBS: usize>() -> Fixed<LIMBS> {
    let mut sum = Fixed::ZERO;
    let mut power = Fixed::integer(1).halved(1);
    for j in 1.. {
        if power.is_zero() {
            break;
        }
        sum = sum.plus(&power.divided_by(j));
        power = power.halved(1);
    }
    sum
}

/// `1/j!` from 0 on, as long as `2^(-HALVINGS·j)/j!` can be seen.
fn inverse_factorials<const LIMBS: usize>() -> Vec<Fixed<LIMBS>> {
    let mut coefficients = vec![Fixed::integer(1)];
    let (mut inverse, mut term) = (Fixed::integer(1), Fixed::<LIMBS>::integer(1));
    for j in 1.. {
        inverse = inverse.divided_by(j);
        term = term.divided_by(j).halved(HALVINGS);
        if term.is_zero() {
            break;
        }
        coefficients.push(inverse);
    }
    coefficients
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_decays_in_no_time() {
        let exp = ExpNegative::new();
        assert_eq!(exp.of(0.0).to_bits(), 1.0f64.to_bits());
        assert_eq!(exp.of(1e-300).to_bits(), 1.0f64.to_bits());
    }

    #[test]
    fn next_to_one_the_boundary_is_where_the_mathematics_has_it() {
        // exp(-x) ≈ 1 - x + x²/2; the doubles below 1 are 2^-53 apart, halfway is 2^-54.
        let (exp, half) = (ExpNegative::new(), 2f64.powi(-54));
        assert_eq!(exp.of(half), 1.0);
        assert_eq!(exp.of(half.next_up()), 1.0 - 2.0 * half);
    }

    #[test]
    fn too_few_digits_are_noticed_and_more_decide() {
        let (short, long) = (Exp::<2>::new(), Exp::<4>::new());
        let arguments = (1_000..100_000).map(|i| f64::from(i) / 1_000.0);
        let undecided: Vec<f64> = arguments.filter(|&x| short.nearest(x).is_none()).collect();
        assert!(!undecided.is_empty());
        assert!(undecided.iter().all(|&x| long.nearest(x).is_some()));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_interval_of_each_precision_contains_that_of_a_far_higher_one(x in prop_oneof![1e-16f64..1e-3, 0f64..700.0]) {
            let (low, n) = Exp::<4>::new().scaled(x.max(1e-16));
            let (high, m) = Exp::<16>::new().scaled(x.max(1e-16));
            prop_assert_eq!(n, m);
            let high = high.cut();
            prop_assert!(!high.is_below(&low));
            prop_assert!(high.is_below(&low.plus(&Fixed::units(1 << ERROR_BITS))));
        }

        #[test]
        fn where_few_digits_decide_they_decide_rightly(x in 1e-6f64..700.0) {
            if let Some(nearest) = Exp::<3>::new().nearest(x) {
                prop_assert_eq!(nearest.to_bits(), ExpNegative::new().of(x).to_bits());
            }
        }
    }
}
