//! `exp(-x)` to the nearest double by brute force: the series of `exp(x)`, as it stands in textbooks, in fixed point with plenty of digits.

use std::cell::RefCell;
use std::collections::HashMap;

use num_bigint::BigUint;

/// `exp(-age/τ)` for whole milliseconds, each computed once.
pub(crate) struct Exponential {
    tau: i64,
    known: RefCell<HashMap<i64, f64>>,
}

impl Exponential {
    pub(crate) fn new(tau: i64) -> Self {
        Self { tau, known: RefCell::default() }
    }

    pub(crate) fn decay(&self, age: i64) -> f64 {
        let compute = || nearest(age as f64 / self.tau as f64);
        *self.known.borrow_mut().entry(age).or_insert_with(compute)
    }
}

/// The double nearest to `exp(-x)`, for `x` from 0 to 500.
pub(crate) fn nearest(x: f64) -> f64 {
    // The hardest doubles need 158 bits; exp(x) takes 1.5·x before the point, and its inverse loses as many behind it.
    let bits = 320 + 4 * (x as u64);
    let one = BigUint::from(1u8) << bits;
    let (mantissa, below_point) = fraction(x);
    let mut sum = one.clone();
    let mut term = one.clone();
    for j in 1u32.. {
        term = term * &mantissa / (BigUint::from(j) << below_point);
        if term == BigUint::ZERO {
            break;
        }
        sum += &term;
    }
    round(&((&one * &one) / sum), bits)
}

/// `x` as mantissa and the number of bits behind the point.
fn fraction(x: f64) -> (BigUint, u64) {
    let (mut mantissa, mut below_point) = (x, 0);
    while mantissa.fract() != 0.0 {
        (mantissa, below_point) = (mantissa * 2.0, below_point + 1);
    }
    (BigUint::from(mantissa as u64), below_point)
}

/// To the nearest double; never half-way, as no exponential but that of 0 is rational.
fn round(value: &BigUint, bits: u64) -> f64 {
    let drop = value.bits() - 53;
    let half = BigUint::from(1u8) << (drop - 1);
    let mantissa = u64::try_from((value + half) >> drop).unwrap();
    let exponent = i32::try_from(drop).unwrap() - i32::try_from(bits).unwrap();
    // In two steps, each exact: the power alone may be too small for a normal double.
    mantissa as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2)
}
