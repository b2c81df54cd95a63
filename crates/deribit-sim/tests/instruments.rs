//! The instruments of a market.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's panic is its failure"
)]

use std::collections::HashSet;

use deribit_sim::market::{InstrumentKind, Market, MarketTime, Options};
use proptest::prelude::{ProptestConfig, prop_assert, prop_assert_eq, proptest};

fn market(instruments: usize) -> Market {
    Market::new(Options { seed: 1, instruments, rate: 100.0 })
}

/// 2026-08-16T20:21:47Z
const NOW: MarketTime = MarketTime(1_786_911_707_538);

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn as_many_instruments_are_active_as_configured_with_unique_names(
        instruments in 1_usize..600, after in 0_u64..60_000_000_000,
    ) {
        let market = market(instruments);
        let now = NOW.plus(after);
        let listings: Vec<_> = market.listings(now).collect();
        prop_assert_eq!(listings.len(), instruments);
        let names: HashSet<_> = listings.iter().map(|listing| listing.name().clone()).collect();
        prop_assert_eq!(names.len(), instruments);
        for listing in listings {
            prop_assert!(listing.is_active(now));
            let found = market.instrument(listing.name()).unwrap();
            prop_assert_eq!(found.name(), listing.name());
            prop_assert_eq!((found.listed_at(), found.expires_at()), (listing.listed_at(), listing.expires_at()));
        }
    }
}

#[test]
fn every_number_of_instruments_is_met() {
    for instruments in 1..300 {
        assert_eq!(market(instruments).listings(NOW).count(), instruments);
    }
}

#[test]
fn ten_thousand_instruments_have_ten_thousand_names() {
    let market = market(10_000);
    let names: HashSet<_> = market.listings(NOW).map(|listing| listing.name().clone()).collect();
    assert_eq!(names.len(), 10_000);
}

#[test]
fn perpetuals_come_first_then_futures_spot_options_and_combos() {
    let kinds =
        |instruments| market(instruments).listings(NOW).map(|listing| listing.kind()).collect::<Vec<_>>();
    assert_eq!(kinds(9), [InstrumentKind::Future; 9]);
    let kinds = kinds(200);
    let count = |kind| kinds.iter().filter(|other| **other == kind).count();
    let counts = InstrumentKind::ALL.map(count);
    assert_eq!(counts, [24, 152, 8, 8, 8]);
    let names: Vec<_> = market(9).listings(NOW).map(|listing| listing.name().to_string()).collect();
    assert_eq!(names[0], "BTC-PERPETUAL");
    assert!(names[..8].iter().all(|name| name.ends_with("-PERPETUAL")));
}

#[test]
fn names_look_like_the_exchanges() {
    let names: Vec<_> = market(1_000).listings(NOW).map(|listing| listing.name().to_string()).collect();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    for part in [
        "BTC-25JUN27",
        "BTC-17AUG26-",
        "-P",
        "-C",
        "XRP_USDC-",
        "0d",
        "BTC-FS-",
        "_PERP",
        "BTC-STRD-",
        "BTC-PS-",
        "BTC_USDT",
        "BTC_EURR",
    ] {
        assert!(has(part), "no {part} in {names:?}");
    }
}

#[test]
fn an_expired_instrument_is_still_known() {
    let market = market(300);
    let expired: Vec<_> = market.expired(NOW.minus(3 * 86_400_000), NOW).collect();
    assert!(expired.len() > 30, "{}", expired.len());
    for listing in &expired {
        assert!(!listing.is_active(NOW) && listing.expires_at() > NOW.minus(3 * 86_400_000));
        assert_eq!(market.instrument(listing.name()).unwrap().expires_at(), listing.expires_at());
    }
    for name in [
        "",
        "BTC",
        "BTC-PERP",
        "BTC-17AUG26-1-P",
        "LTC-PERPETUAL",
        "BTC-17AUG19",
        "BTC-FS-17AUG19_PERP",
        "BTC--",
    ] {
        assert!(market.instrument(name).is_none(), "{name}");
    }
}

#[test]
fn an_instrument_has_no_trades_outside_its_life() {
    let market = market(200);
    for listing in market.expired(NOW.minus(86_400_000), NOW) {
        assert_eq!(market.sequence_before(&listing, listing.listed_at()), 0);
        assert_eq!(
            market.sequence_before(&listing, listing.expires_at()),
            market.sequence_before(&listing, listing.expires_at().plus(1_000_000_000)),
        );
    }
}
