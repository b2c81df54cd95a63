//! The market is a function of seed, options and time: different queries for the same trades agree to the last bit.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's panic is its failure"
)]

use std::collections::{HashMap, HashSet};

use deribit_sim::market::{
    Cursor, Filter, InstrumentKinds, Market, MarketTime, MarketTrade, Options, Take, TickDirection,
};
use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

/// Some day in 2026, at 07:59:00 UTC: contracts expire a minute later.
const BEFORE_EXPIRY: MarketTime = MarketTime(1_786_953_540_000);

fn market(seed: u64, instruments: usize, rate: f64) -> Market {
    Market::new(Options { seed, instruments, rate })
}

fn by_instrument(trades: &[MarketTrade]) -> HashMap<&str, Vec<&MarketTrade>> {
    let mut sorted: HashMap<&str, Vec<&MarketTrade>> = HashMap::new();
    for trade in trades {
        sorted.entry(&trade.instrument_name).or_default().push(trade);
    }
    sorted
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn a_span_holds_what_its_parts_hold(
        seed in any::<u64>(), start in 0_u64..90_000, cuts in proptest::collection::vec(0_u64..4_000, 1..6),
    ) {
        let market = market(seed, 120, 150.0);
        let start = BEFORE_EXPIRY.plus(start);
        let mut at = start;
        let mut parts = Vec::new();
        for cut in cuts {
            parts.extend(market.trades(at..at.plus(cut)));
            at = at.plus(cut);
        }
        prop_assert_eq!(market.trades(start..at), parts);
    }

    #[test]
    fn the_live_feed_is_the_history(
        seed in any::<u64>(), start in 0_u64..90_000, steps in proptest::collection::vec(1_u64..700, 1..20),
    ) {
        let market = market(seed, 150, 200.0);
        let start = BEFORE_EXPIRY.plus(start);
        let mut cursor = Cursor::new(&market, start);
        let mut live = Vec::new();
        for step in steps {
            let to = cursor.at().plus(step);
            live.extend(cursor.advance(&market, to));
        }
        prop_assert_eq!(live, market.trades(start..cursor.at()));
    }

    #[test]
    fn a_trade_is_the_same_by_time_and_by_sequence(
        seed in any::<u64>(), start in 0_u64..90_000,
    ) {
        let market = market(seed, 150, 60.0);
        let start = BEFORE_EXPIRY.plus(start);
        let now = start.plus(3_000);
        for (name, trades) in by_instrument(&market.trades(start..now)) {
            let listing = market.instrument(name).unwrap();
            let (first, last) = (trades[0].trade_seq, trades[trades.len() - 1].trade_seq);
            let together = market.sequence(&listing, first..=last, now);
            prop_assert!(together.iter().eq(trades.iter().copied()), "{}", name);
            for trade in trades {
                let alone = market.sequence(&listing, trade.trade_seq..=trade.trade_seq, now);
                prop_assert_eq!(&alone[..], std::slice::from_ref(trade));
                prop_assert_eq!(alone[0].to_json(), trade.to_json());
            }
        }
    }

    #[test]
    fn pages_cover_a_span_once_from_either_end(seed in any::<u64>(), start in 0_u64..90_000, count in 1_usize..80) {
        let market = market(seed, 100, 60.0);
        let span = BEFORE_EXPIRY.plus(start)..BEFORE_EXPIRY.plus(start + 4_000);
        let filter = Filter { currency: None, kinds: InstrumentKinds::Any };
        let all = market.trades(span.clone());
        let first = market.page(filter, span.clone(), Take::First(count));
        prop_assert_eq!(&first.trades[..], &all[..count.min(all.len())]);
        prop_assert_eq!(first.has_more, all.len() > count);
        let last = market.page(filter, span, Take::Last(count));
        prop_assert!(last.trades.iter().eq(all.iter().rev().take(count)));
        prop_assert_eq!(last.has_more, all.len() > count);
    }
}

#[test]
fn sequence_numbers_count_up_by_one_over_the_life_of_an_instrument() {
    let market = market(5, 200, 20.0);
    let mut lives = 0;
    for listing in market.expired(BEFORE_EXPIRY.minus(86_400_000), BEFORE_EXPIRY) {
        let end = listing.expires_at();
        let count = market.sequence_before(&listing, end);
        let trades = market.sequence(&listing, 1..=u64::MAX, end.plus(1));
        assert!(trades.iter().map(|trade| trade.trade_seq).eq(1..=count), "{}", listing.name());
        assert!(
            trades
                .iter()
                .all(|trade| listing.is_active(trade.timestamp) && trade.instrument_name == *listing.name())
        );
        assert!(trades.iter().is_sorted_by_key(|trade| (trade.timestamp, trade.trade_id.number)));
        lives += 1;
    }
    assert!(lives > 10, "{lives} instruments expired within the day");
}

#[test]
fn tick_directions_follow_from_the_prices() {
    let market = market(6, 60, 30.0);
    let trades = market.trades(BEFORE_EXPIRY..BEFORE_EXPIRY.plus(120_000));
    for trades in by_instrument(&trades).values() {
        for pair in trades.windows(2) {
            let (before, after) = (pair[0], pair[1]);
            let rose = matches!(before.tick_direction, TickDirection::Plus | TickDirection::ZeroPlus);
            let expected = match after.price.total_cmp(&before.price) {
                _ if after.trade_seq == 1 => TickDirection::Plus,
                std::cmp::Ordering::Greater => TickDirection::Plus,
                std::cmp::Ordering::Less => TickDirection::Minus,
                std::cmp::Ordering::Equal if rose => TickDirection::ZeroPlus,
                std::cmp::Ordering::Equal => TickDirection::ZeroMinus,
            };
            assert_eq!(after.tick_direction, expected, "{before:?} then {after:?}");
        }
    }
}

#[test]
fn trade_ids_are_unique_within_a_currency_and_rise_with_time() {
    let trades = market(7, 300, 3_000.0).trades(BEFORE_EXPIRY..BEFORE_EXPIRY.plus(20_000));
    let mut seen = HashSet::new();
    let mut last = HashMap::new();
    for trade in &trades {
        assert!(seen.insert((trade.currency, trade.trade_id.number)), "{trade:?}");
        let before = last.insert(trade.currency, trade.trade_id.number);
        assert!(before.is_none_or(|before| before < trade.trade_id.number));
    }
    assert!(trades.len() > 20_000);
}

#[test]
fn a_combo_trade_is_on_the_combo_and_on_each_leg() {
    let trades = market(8, 400, 400.0).trades(BEFORE_EXPIRY..BEFORE_EXPIRY.plus(60_000));
    let mut combos = 0;
    for combo in trades.iter().filter(|trade| trade.kind.is_combo()) {
        let on_legs: Vec<_> = trades
            .iter()
            .filter(|trade| trade.combo.as_ref().is_some_and(|leg| leg.trade_id == combo.trade_id))
            .collect();
        assert_eq!(combo.legs.len(), 2);
        assert_eq!(on_legs.len(), 2, "{combo:?}");
        for leg in &combo.legs {
            assert!(on_legs.contains(&leg), "{leg:?}");
            assert_eq!(leg.combo.as_ref().unwrap().combo_id, combo.instrument_name);
            assert_eq!((leg.timestamp, leg.amount), (combo.timestamp, combo.amount));
        }
        combos += 1;
    }
    assert!(combos > 100, "{combos}");
}

#[test]
fn the_market_opens_at_genesis() {
    let market = market(9, 100, 100.0);
    let genesis = MarketTime::GENESIS;
    assert!(market.trades(MarketTime(0)..genesis).is_empty());
    assert!(market.trades(genesis..genesis.plus(10_000)).iter().all(|trade| trade.timestamp >= genesis));
    assert_eq!(market.listings(genesis.minus(1)).count(), 0);
    assert_eq!(market.listings(genesis).count(), 100);
}
