//! What a trade costs, and what a window costs that is closed, by number of instruments.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use agg_producer::store::aggregator::{Aggregator, Closed, Offset, Trade};
use agg_producer::window::exp::ExpNegative;
use agg_producer::window::time_windows::TimeWindows;
use agg_producer::window::weights::{Tau, Weights};
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};

const INSTRUMENTS: [usize; 3] = [100, 10_000, 100_000];
const ADVANCE_MS: i64 = 10_000;
const SLICES: [u32; 3] = [1, 30, 360];

fn main() {
    divan::main();
}

fn aggregator(slices: u32) -> Aggregator {
    let second = Duration::from_secs(1);
    let windows = TimeWindows::new(second * 10 * slices, second * 10, second * 2).expect("whole slices");
    let tau = Tau::new(second * 150, &windows).expect("long enough");
    Aggregator::new(windows, Arc::new(Weights::new(&windows, tau)), None)
}

fn names(instruments: usize) -> Vec<String> {
    (0..instruments).map(|i| format!("BTC-{}JUN27-{}-C", i % 28, 1000 * i)).collect()
}

/// Every instrument with one trade in each of so many slices; the next trade belongs into the slice after them.
fn filled(slices: u32, names: &[String]) -> (Aggregator, i64) {
    let mut aggregator = aggregator(slices);
    let mut time = 0;
    for _ in 0..slices {
        for name in names {
            add(&mut aggregator, name, time);
        }
        time += ADVANCE_MS;
        close_all(&mut aggregator);
    }
    (aggregator, time)
}

fn add(aggregator: &mut Aggregator, instrument: &str, timestamp: i64) {
    let trade = Trade { offset: Offset(timestamp), instrument, timestamp, price: 100.5, amount: 2.0 };
    black_box(aggregator.add(&trade));
}

fn close_all(aggregator: &mut Aggregator) {
    while aggregator.due().is_some() {
        let keep = |closed: Closed<'_>| {
            black_box(closed);
            Ok::<_, Infallible>(())
        };
        aggregator.close_next(keep).unwrap_or_else(|never| match never {});
    }
}

/// Names by weight 1/rank, as busy instruments come; always the same ones.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 1 and the number of names"
)]
fn drawn(names: &[String]) -> Vec<&str> {
    let mut random = 88_172_645_463_325_252u64;
    let mut draw = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as f64 / u64::MAX as f64
    };
    let mut rank = || (names.len() as f64).powf(draw()) as usize - 1;
    (0..100_000).filter_map(|_| names.get(rank())).map(String::as_str).collect()
}

#[divan::bench(args = INSTRUMENTS)]
fn trade_by_instruments(bencher: Bencher<'_, '_>, instruments: usize) {
    let names = names(instruments);
    trades(bencher, filled(30, &names), &drawn(&names));
}

#[divan::bench(args = SLICES)]
fn trade_by_slices_in_a_window(bencher: Bencher<'_, '_>, slices: u32) {
    let names = names(100);
    trades(bencher, filled(slices, &names), &drawn(&names));
}

fn trades(bencher: Bencher<'_, '_>, (mut aggregator, time): (Aggregator, i64), drawn: &[&str]) {
    bencher.counter(ItemsCount::new(drawn.len())).bench_local(|| {
        for (at, name) in (0..ADVANCE_MS).cycle().zip(drawn) {
            add(&mut aggregator, name, time + at);
        }
    });
}

/// One trade and one window of every instrument, the window of 30 slices.
#[divan::bench(args = INSTRUMENTS, sample_count = 20)]
fn hop_by_instruments(bencher: Bencher<'_, '_>, instruments: usize) {
    let names = names(instruments);
    let (mut aggregator, mut time) = filled(30, &names);
    bencher.counter(ItemsCount::new(instruments)).bench_local(|| {
        time += ADVANCE_MS;
        for name in &names {
            add(&mut aggregator, name, time);
        }
        close_all(&mut aggregator);
    });
}

#[divan::bench]
fn one_weight(bencher: Bencher<'_, '_>) {
    let exp = ExpNegative::new();
    bencher.bench(|| exp.of(black_box(1234.0 / 150_000.0)));
}

#[divan::bench(sample_count = 10)]
fn all_weights_by_default() -> Aggregator {
    aggregator(30)
}
