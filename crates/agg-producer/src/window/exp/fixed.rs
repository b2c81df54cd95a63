//! Fixed-point numbers of a size known at compile time, not negative, every operation truncating.

/// `LIMBS` digits of 64 bits, the lowest first; the highest is the integer part, all others the fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fixed<const LIMBS: usize>([u64; LIMBS]);

impl<const LIMBS: usize> Fixed<LIMBS> {
    pub(super) const ZERO: Self = Self([0; LIMBS]);
    const FRACTION_BITS: usize = 64 * (LIMBS - 1);

    /// `count` units of the last digit.
    pub(super) fn units(count: u64) -> Self {
        let mut limbs = [0; LIMBS];
        if let Some(last_digit) = limbs.first_mut() {
            *last_digit = count;
        }
        Self(limbs)
    }

    pub(super) fn integer(value: u64) -> Self {
        let mut limbs = [0; LIMBS];
        if let Some(integer_part) = limbs.last_mut() {
            *integer_part = value;
        }
        Self(limbs)
    }

    /// The exact value of a double between `2^(52 - FRACTION_BITS)` and 2^53.
    #[expect(clippy::indexing_slicing, reason = "the assertion keeps the lowest bit inside")]
    pub(super) fn from_double(value: f64) -> Self {
        const HIDDEN: u64 = 1 << 52;
        let biased = usize::try_from(value.to_bits() >> 52).expect("sign and exponent are 12 bits");
        let lowest_bit = (Self::FRACTION_BITS + biased).checked_sub(1023 + 52);
        let lowest_bit = lowest_bit.filter(|bit| bit + 53 <= 64 * LIMBS).expect("the double is in range");
        let mantissa = u128::from(value.to_bits() & (HIDDEN - 1) | HIDDEN) << (lowest_bit % 64);
        let mut limbs = [0; LIMBS];
        limbs[lowest_bit / 64] = low_limb(mantissa);
        if let Some(next) = limbs.get_mut(lowest_bit / 64 + 1) {
            *next = low_limb(mantissa >> 64);
        }
        Self(limbs)
    }

    /// `self · 2^-exponent` rounded to the nearest double, halves to even. The result must be a normal one.
    pub(super) fn to_double(self, exponent: u32) -> f64 {
        let Some(top) = self.0.iter().rposition(|&limb| limb != 0) else { return 0.0 };
        let (below, rest) = match self.0.get(..top).and_then(<[u64]>::split_last) {
            Some((&below, rest)) => (below, rest),
            None => (0, [].as_slice()),
        };
        let pair = u128::from(self.0.get(top).copied().unwrap_or(0)) << 64 | u128::from(below);
        let aligned = pair << pair.leading_zeros();
        let mantissa = low_limb(aligned >> 75);
        let dropped = aligned << 53;
        let half = 1u128 << 127;
        let beyond = rest.iter().any(|&limb| limb != 0);
        let up = dropped > half || dropped == half && (beyond || mantissa & 1 == 1);
        // The hidden bit of the mantissa adds the last 1 to the exponent; a carry out of the mantissa does too.
        let weight = 64 * (top as u64 + 1) - u64::from(pair.leading_zeros());
        let biased = weight + 1023 - Self::FRACTION_BITS as u64 - u64::from(exponent) - 2;
        f64::from_bits((biased << 52) + mantissa + u64::from(up))
    }

    pub(super) fn plus(mut self, other: &Self) -> Self {
        let mut carry = false;
        for (limb, &more) in self.0.iter_mut().zip(&other.0) {
            let (sum, first) = limb.overflowing_add(more);
            let (sum, second) = sum.overflowing_add(u64::from(carry));
            (*limb, carry) = (sum, first || second);
        }
        self
    }

    pub(super) fn minus(mut self, other: &Self) -> Self {
        let mut borrow = false;
        for (limb, &less) in self.0.iter_mut().zip(&other.0) {
            let (rest, first) = limb.overflowing_sub(less);
            let (rest, second) = rest.overflowing_sub(u64::from(borrow));
            (*limb, borrow) = (rest, first || second);
        }
        self
    }

    /// The product, which must be below 2^64.
    #[expect(clippy::indexing_slicing, reason = "the ranges keep every index below LIMBS")]
    pub(super) fn times(&self, other: &Self) -> Self {
        let mut product = [0; LIMBS];
        // Column by column, as on paper; a column's sum needs up to 128 bits and some more, which are counted in `high`.
        let (mut low, mut high) = (0u128, 0u128);
        for column in 0..2 * LIMBS - 1 {
            for i in column.saturating_sub(LIMBS - 1)..=column.min(LIMBS - 1) {
                let (sum, carry) =
                    low.overflowing_add(u128::from(self.0[i]) * u128::from(other.0[column - i]));
                (low, high) = (sum, high + u128::from(carry));
            }
            if let Some(limb) = column.checked_sub(LIMBS - 1) {
                product[limb] = low_limb(low);
            }
            (low, high) = (low >> 64 | high << 64, high >> 64);
        }
        Self(product)
    }

    pub(super) fn times_small(mut self, factor: u64) -> Self {
        let mut carry = 0;
        for limb in &mut self.0 {
            let product = u128::from(*limb) * u128::from(factor) + carry;
            (*limb, carry) = (low_limb(product), product >> 64);
        }
        self
    }

    pub(super) fn divided_by(mut self, divisor: u64) -> Self {
        let mut remainder = 0;
        for limb in self.0.iter_mut().rev() {
            let dividend = remainder << 64 | u128::from(*limb);
            *limb = low_limb(dividend / u128::from(divisor));
            remainder = dividend % u128::from(divisor);
        }
        self
    }

    /// `self / 2^bits`, for up to 63 bits.
    pub(super) fn halved(mut self, bits: u32) -> Self {
        let mut above = 0;
        for limb in self.0.iter_mut().rev() {
            let pair = (u128::from(above) << 64 | u128::from(*limb)) >> bits;
            (above, *limb) = (*limb, low_limb(pair));
        }
        self
    }

    pub(super) fn is_below(&self, other: &Self) -> bool {
        self.0.iter().rev().lt(other.0.iter().rev())
    }

    /// The same number with fewer digits.
    #[cfg(test)]
    pub(super) fn cut<const FEWER: usize>(&self) -> Fixed<FEWER> {
        let mut limbs = [0; FEWER];
        limbs.copy_from_slice(&self.0[LIMBS - FEWER..]);
        Fixed(limbs)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.0.iter().all(|&limb| limb == 0)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "cutting off is the purpose")]
const fn low_limb(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_double_goes_in_and_comes_out_unchanged(x in 1e-15f64..1e15) {
            prop_assert_eq!(Fixed::<4>::from_double(x).to_double(0).to_bits(), x.to_bits());
        }

        #[test]
        fn rounding_to_a_double_is_that_of_the_processor(a in any::<u64>(), b in 1u64.., scale in 0u32..60) {
            // a·2^-64 + b·2^-128 through u128, whose conversion rounds to nearest, halves to even
            let value = u128::from(a) << 64 | u128::from(b);
            let expected = value as f64 / 2f64.powi(128) / 2f64.powi(scale.cast_signed());
            prop_assert_eq!(Fixed([b, a, 0]).to_double(scale).to_bits(), expected.to_bits());
        }

        #[test]
        fn what_is_added_can_be_taken_away(a: [u64; 3], b: [u64; 3]) {
            prop_assert_eq!(Fixed(a).plus(&Fixed(b)).minus(&Fixed(b)), Fixed(a));
        }

        #[test]
        fn multiplying_by_an_integer_is_repeated_addition(a: [u64; 3], n in 0u64..20) {
            let sum = (0..n).fold(Fixed::ZERO, |sum, _| sum.plus(&Fixed(a)));
            prop_assert_eq!(Fixed(a).times_small(n), sum);
            prop_assert_eq!(Fixed(a).times(&Fixed::integer(n)), sum);
        }

        #[test]
        fn multiplication_by_a_power_of_two_shifts(a: [u64; 2], bits in 1u32..64) {
            let a = Fixed([a[0], a[1], 0]);
            let power = Fixed([0, 1 << (64 - bits), 0]);
            prop_assert_eq!(a.times(&power), a.halved(bits));
            prop_assert_eq!(a.divided_by(1 << bits), a.halved(bits));
        }

        #[test]
        fn a_quotient_is_at_most_one_unit_short(a: [u64; 3], divisor in 2u64..) {
            let a = Fixed([a[0], a[1], a[2] >> 2]);
            let back = a.divided_by(divisor).times_small(divisor);
            prop_assert!(!a.is_below(&back));
            prop_assert!(a.is_below(&back.plus(&Fixed::units(divisor))));
        }
    }
}
