//! The weights' exponential, held against values computed elsewhere.

#![allow(clippy::unwrap_used, reason = "test code")]

mod reference;

use agg_producer::window::exp::ExpNegative;
use proptest::prelude::*;

#[test]
fn it_agrees_with_the_vectors_that_mpmath_made() {
    let exp = ExpNegative::new();
    let vectors = include_str!("data/exp_negative.csv").lines();
    let wrong: Vec<_> = vectors
        .map(|line| {
            let (x, expected) = line.split_once(',').unwrap();
            let bits = |text| u64::from_str_radix(text, 16).unwrap();
            (f64::from_bits(bits(x)), bits(expected))
        })
        .filter(|(x, expected)| exp.of(*x).to_bits() != *expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn it_agrees_with_brute_force_at_every_millisecond_of_a_slice_where_the_c_library_does_not() {
    let exp = ExpNegative::new();
    let ages = (1..=10_000).map(|age| f64::from(age) / 150_000.0);
    let hard: Vec<f64> = ages.filter(|x| exp.of(*x).to_bits() != (-x).exp().to_bits()).collect();
    for x in hard {
        assert_eq!(exp.of(x).to_bits(), reference::exponential::nearest(x).to_bits(), "{x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn it_agrees_with_brute_force(x in prop_oneof![0.0f64..1.0, 0.0..500.0, (-60f64..9.0).prop_map(f64::exp2)]) {
        let x = x.min(500.0);
        prop_assert_eq!(ExpNegative::new().of(x).to_bits(), reference::exponential::nearest(x).to_bits());
    }
}
