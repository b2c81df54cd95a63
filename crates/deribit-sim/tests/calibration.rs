//! The market is like the recorded one. The figures in the comments are those of the recording: four hours of BTC-PERPETUAL (9,147 trades)
//! and 560 trades of bitcoin options. The bounds are wide enough for any seed.

#![allow(
    missing_docs,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test's panic is its failure"
)]

use std::collections::HashMap;
use std::sync::LazyLock;

use deribit_sim::market::{Currency, Direction, InstrumentKind, Market, MarketTime, MarketTrade, Options};

const NOW: MarketTime = MarketTime(1_786_911_707_538);
const HOUR: u64 = 3_600_000;

/// At 3.1 trades/s in total, BTC-PERPETUAL has its recorded 0.65.
fn market(seed: u64) -> Market {
    Market::new(Options { seed, instruments: 200, rate: 3.1 })
}

fn trades_of(market: &Market, name: &str, hours: u64) -> Vec<MarketTrade> {
    let listing = market.instrument(name).unwrap();
    let from = market.sequence_before(&listing, NOW.minus(hours * HOUR)) + 1;
    market.sequence(&listing, from..=u64::MAX, NOW)
}

fn counts(trades: &[MarketTrade], window: u64) -> HashMap<u64, u64> {
    let mut counts = HashMap::new();
    for trade in trades {
        *counts.entry(trade.timestamp.0 / window).or_default() += 1;
    }
    counts
}

/// Variance over mean of the number of trades in windows of `window` milliseconds.
fn dispersion(trades: &[MarketTrade], hours: u64, window: u64) -> f64 {
    let windows = (hours * HOUR) as f64 / window as f64;
    let mean = trades.len() as f64 / windows;
    let squares: u64 = counts(trades, window).values().map(|count| count * count).sum();
    (squares as f64 / windows - mean * mean) / mean
}

fn quantiles(mut values: Vec<f64>, shares: &[f64]) -> Vec<f64> {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a length")]
    let at = |share: &f64| (values.len() as f64 * share) as usize;
    shares.iter().map(|share| values[at(share)]).collect()
}

/// Four markets are tested together, so that no single one decides.
static PERPETUALS: LazyLock<Vec<Vec<MarketTrade>>> =
    LazyLock::new(|| (1..=4).map(|seed| trades_of(&market(seed), "BTC-PERPETUAL", 4)).collect());

fn mean_of(tapes: &[Vec<MarketTrade>], figure: impl Fn(&[MarketTrade]) -> f64) -> f64 {
    tapes.iter().map(|trades| figure(trades)).sum::<f64>() / tapes.len() as f64
}

fn share(trades: &[MarketTrade], holds: impl Fn(&MarketTrade, &MarketTrade) -> bool) -> f64 {
    trades.windows(2).filter(|pair| holds(&pair[0], &pair[1])).count() as f64 / (trades.len() - 1) as f64
}

#[test]
fn trades_cluster_at_every_scale_as_the_recorded_ones_do() {
    let tapes = &PERPETUALS[..];
    // Variance over mean in windows of a millisecond to a minute; a Poisson process has 1 everywhere.
    for (window, recorded) in
        [(1, 5.95), (10, 7.39), (100, 10.6), (1_000, 15.0), (10_000, 25.1), (60_000, 56.4)]
    {
        let simulated = mean_of(tapes, |trades| dispersion(trades, 4, window));
        assert!(
            (recorded / 2.0..recorded * 2.0).contains(&simulated),
            "{window} ms: {simulated}, recorded {recorded}"
        );
    }
    // The busiest tenth of a second has 92 trades.
    let busiest = mean_of(tapes, |trades| counts(trades, 100).into_values().max().unwrap() as f64);
    assert!((45.0..200.0).contains(&busiest), "{busiest}");
}

#[test]
fn the_parts_of_an_order_share_time_side_and_price() {
    let tapes = &PERPETUALS[..];
    let same_time = mean_of(tapes, |trades| share(trades, |a, b| a.timestamp == b.timestamp));
    assert!((0.35..0.65).contains(&same_time), "{same_time}, recorded 0.52");
    let same_side = mean_of(tapes, |trades| share(trades, |a, b| a.direction == b.direction));
    assert!((0.8..0.97).contains(&same_side), "{same_side}, recorded 0.91");
    let same_price = mean_of(tapes, |trades| share(trades, |a, b| a.price == b.price));
    assert!((0.45..0.75).contains(&same_price), "{same_price}, recorded 0.64");
}

#[test]
fn prices_step_and_amounts_spread_as_recorded() {
    let trades = PERPETUALS.concat();
    let steps = trades.windows(2).map(|pair| ((pair[1].price - pair[0].price) / 0.5).abs()).collect();
    for (simulated, recorded) in quantiles(steps, &[0.9, 0.95, 0.99]).into_iter().zip([8.0, 13.0, 26.0]) {
        assert!(
            (recorded / 2.0..recorded * 2.0).contains(&simulated),
            "{simulated} ticks, recorded {recorded}"
        );
    }
    let amounts = trades.iter().map(|trade| trade.amount).collect();
    let recorded = [30.0, 100.0, 770.0, 4_990.0, 11_940.0, 52_080.0];
    for (simulated, recorded) in
        quantiles(amounts, &[0.1, 0.25, 0.5, 0.75, 0.9, 0.99]).into_iter().zip(recorded)
    {
        assert!(
            (recorded / 1.5..recorded * 1.5).contains(&simulated),
            "{simulated} dollars, recorded {recorded}"
        );
    }
    assert!(trades.iter().all(|trade| trade.amount % 10.0 == 0.0 && trade.contracts == trade.amount / 10.0));
    let bought =
        trades.iter().filter(|trade| trade.direction == Direction::Buy).count() as f64 / trades.len() as f64;
    assert!((0.35..0.65).contains(&bought), "{bought}, recorded 0.495");
}

#[test]
fn options_have_the_recorded_sizes_and_volatilities() {
    let trades = market(1).trades(NOW.minus(4 * HOUR)..NOW);
    let options: Vec<_> = trades
        .iter()
        .filter(|trade| trade.kind == InstrumentKind::Option && trade.currency == Currency::Btc)
        .collect();
    let sizes = quantiles(options.iter().map(|trade| trade.amount).collect(), &[0.5, 0.75, 0.9, 0.99]);
    for (simulated, recorded) in sizes.into_iter().zip([0.1, 0.5, 2.0, 21.0]) {
        assert!((recorded / 2.0..=recorded * 2.0).contains(&simulated), "{simulated}, recorded {recorded}");
    }
    let volatilities = quantiles(options.iter().filter_map(|trade| trade.iv).collect(), &[0.1, 0.5, 0.9]);
    for (simulated, recorded) in volatilities.into_iter().zip([18.6, 35.7, 43.9]) {
        assert!((recorded / 2.0..recorded * 2.0).contains(&simulated), "{simulated} %, recorded {recorded}");
    }
}

#[test]
fn trades_come_at_the_rate_asked_for_and_mostly_of_perpetuals() {
    let market = Market::new(Options { seed: 3, instruments: 200, rate: 10.0 });
    let trades = market.trades(NOW.minus(HOUR)..NOW);
    let rate = trades.len() as f64 / 3_600.0;
    assert!((6.0..15.0).contains(&rate), "{rate} a second");
    let perpetuals = trades.iter().filter(|trade| trade.instrument_name.ends_with("-PERPETUAL")).count();
    assert!(perpetuals * 2 > trades.len(), "{perpetuals} of {}", trades.len());
}

#[test]
fn what_is_rare_at_the_exchange_occurs() {
    let market = Market::new(Options { seed: 4, instruments: 400, rate: 100.0 });
    let trades = market.trades(NOW.minus(HOUR / 5)..NOW);
    let occurs = |what: &str, holds: &dyn Fn(&MarketTrade) -> bool| {
        let times = trades.iter().filter(|trade| holds(trade)).count();
        assert!(times > 0 && times * 2 < trades.len(), "{what}: {times} of {}", trades.len());
    };
    for liquidated in ["M", "T", "MT"] {
        occurs(liquidated, &|trade| trade.liquidation == Some(liquidated));
    }
    occurs("a block trade", &|trade| trade.block.is_some());
    occurs("a block from a request for quotes", &|trade| {
        trade.block.is_some_and(|block| block.rfq.is_some())
    });
    occurs("a combo's trade as a number", &|trade| trade.combo.as_ref().is_some_and(|combo| combo.as_number));
    occurs("a combo's trade as a string", &|trade| {
        trade.combo.as_ref().is_some_and(|combo| !combo.as_number)
    });
    occurs("an option without volatility", &|trade| trade.iv == Some(0.0));
    occurs("numbers above 2^53", &|trade| trade.starbase.is_some_and(|starbase| starbase.match_id > 1 << 53));
    occurs("a number with an exponent", &|trade| trade.to_json().contains("e3,"));
}
