//! What a simulated market costs: `cargo bench -p deribit-sim`.

#![allow(missing_docs, clippy::unwrap_used)]

use deribit_sim::market::{Cursor, Filter, Market, MarketTime, Options, Take};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

fn main() {
    divan::main();
}

const NOW: MarketTime = MarketTime(1_786_911_707_538);

fn market(instruments: usize) -> Market {
    Market::new(Options { seed: 1, instruments, rate: 1_000.0 })
}

/// The live feed of one second at 1,000 trades a second, in bundles of 100 ms, JSON included. An item is a trade.
#[divan::bench(args = [100, 1_000, 10_000])]
fn live_second(bencher: Bencher<'_, '_>, instruments: usize) {
    let market = market(instruments);
    let second = |from: MarketTime| {
        let mut cursor = Cursor::new(&market, from);
        move |market: &Market| {
            let mut json = String::new();
            let mut trades = 0_usize;
            for _ in 0..10 {
                for trade in cursor.advance(market, cursor.at().plus(100)) {
                    json.clear();
                    trade.write_json(&mut json);
                    black_box(&json);
                    trades += 1;
                }
            }
            trades
        }
    };
    let trades = second(NOW)(&market);
    bencher
        .counter(ItemsCount::new(trades))
        .with_inputs(|| second(NOW))
        .bench_local_values(|mut run| run(&market));
}

/// Building the heap of next trades, as each first subscriber does.
#[divan::bench(args = [1_000, 10_000])]
fn start(bencher: Bencher<'_, '_>, instruments: usize) {
    let market = market(instruments);
    bencher.bench_local(|| Cursor::new(&market, black_box(NOW)));
}

/// A page of 1,000 trades of one instrument by sequence.
#[divan::bench]
fn page_by_sequence(bencher: Bencher<'_, '_>) {
    let market = market(1_000);
    let perpetual = market.instrument("BTC-PERPETUAL").unwrap();
    bencher
        .counter(ItemsCount::new(1_000_usize))
        .bench_local(|| market.sequence(&perpetual, 5_001..=6_000, NOW));
}

/// A page of 1,000 trades of all instruments by time.
#[divan::bench(args = [1_000, 10_000])]
fn page_by_time(bencher: Bencher<'_, '_>, instruments: usize) {
    let market = market(instruments);
    let span = NOW.minus(3_600_000)..NOW;
    bencher
        .counter(ItemsCount::new(1_000_usize))
        .bench_local(|| market.page(Filter::default(), span.clone(), Take::First(1_000)));
}

/// Looking up an instrument by its name.
#[divan::bench(args = ["BTC-PERPETUAL", "BTC-FS-25JUN27_PERP", "BTC-25JUN27-65000-P"])]
fn by_name(bencher: Bencher<'_, '_>, name: &str) {
    let market = market(10_000);
    bencher.bench_local(|| market.instrument(black_box(name)));
}
