//! What the aggregator must publish, computed in one go from all trades of a partition, written for reading and not for speed.
//!
//! It shares no code with the service: windows, lateness, sums and even the exponential are its own.

#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "test code")]

pub(crate) mod exponential;

use std::collections::BTreeMap;

use exponential::Exponential;

/// One trade; its place in the list is its place in the partition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trade {
    pub(crate) instrument: String,
    pub(crate) timestamp: i64,
    pub(crate) price: f64,
    pub(crate) amount: f64,
}

/// In milliseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) size: i64,
    pub(crate) advance: i64,
    pub(crate) grace: i64,
    pub(crate) tau: i64,
}

/// All that is published for one partition.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Published {
    /// By instrument and end of the slice.
    pub(crate) candles: BTreeMap<(String, i64), Numbers>,
    /// By instrument and end of the window.
    pub(crate) averages: BTreeMap<(String, i64), Numbers>,
    /// Place in the partition, stream time, start and end of the slice.
    pub(crate) late: Vec<(usize, i64, i64, i64)>,
}

/// A record's numbers by name; doubles as their bits.
pub(crate) type Numbers = BTreeMap<&'static str, u64>;

/// The doubles of a candle.
pub(crate) const CANDLE: [&str; 9] =
    ["open", "high", "low", "close", "volume", "turnover", "price_sum", "ema_sum", "ema_weight"];
/// The doubles of an average.
pub(crate) const AVERAGE: [&str; 8] = ["sma", "ema", "vwap", "open", "high", "low", "close", "volume"];

/// The numbers of a record of so many trades whose doubles have these names.
pub(crate) fn numbers<const N: usize>(
    trade_count: u64,
    names: &[&'static str; N],
    doubles: [f64; N],
) -> Numbers {
    let doubles = names.iter().copied().zip(doubles.map(f64::to_bits));
    [("trade_count", trade_count)].into_iter().chain(doubles).collect()
}

/// The whole answer, without watermarks.
pub(crate) fn publish(settings: &Settings, trades: &[Trade]) -> Published {
    publish_with(settings, trades, &[])
}

/// The whole answer. A watermark is a time, and the number of trades before it.
pub(crate) fn publish_with(settings: &Settings, trades: &[Trade], watermarks: &[(usize, i64)]) -> Published {
    let mut published = Published::default();
    // Lateness, trade by trade in offset order.
    let mut stream_time = i64::MIN;
    let newest =
        |before: usize| watermarks.iter().filter(|(place, _)| *place <= before).map(|(_, time)| *time).max();
    let mut slices: BTreeMap<(String, i64), Vec<&Trade>> = BTreeMap::new();
    for (place, trade) in trades.iter().enumerate() {
        stream_time = stream_time.max(trade.timestamp).max(newest(place).unwrap_or(i64::MIN));
        let start = trade.timestamp - trade.timestamp.rem_euclid(settings.advance);
        let end = start + settings.advance;
        if stream_time >= end + settings.grace {
            published.late.push((place, stream_time, start, end));
        } else {
            slices.entry((trade.instrument.clone(), end)).or_default().push(trade);
        }
    }
    stream_time = stream_time.max(newest(trades.len()).unwrap_or(i64::MIN));
    let exponential = Exponential::new(settings.tau);
    let slices: BTreeMap<_, _> = slices
        .into_iter()
        .map(|(key, trades)| (key.clone(), Sums::of(&trades, key.1, &exponential)))
        .collect();
    let is_closed = |end: i64| stream_time >= end.saturating_add(settings.grace);
    for ((instrument, end), sums) in &slices {
        if is_closed(*end) {
            published.candles.insert((instrument.clone(), *end), sums.candle());
        }
        // Every window that holds the slice: those that end with it or up to `size - advance` later.
        for window_end in (*end..*end + settings.size).step_by(usize::try_from(settings.advance).unwrap()) {
            if is_closed(window_end) {
                let key = (instrument.clone(), window_end);
                let from = window_end - settings.size;
                let first = (instrument.clone(), from + settings.advance);
                let within = slices.range(first..=(instrument.clone(), window_end));
                let within: Vec<_> = within.map(|((_, slice_end), sums)| (*slice_end, sums)).collect();
                published.averages.insert(key, window(&within, window_end, &exponential));
            }
        }
    }
    published
}

struct Sums {
    count: u64,
    open: f64,
    high: f64,
    low: f64,
    close: f64,
    volume: f64,
    turnover: f64,
    price_sum: f64,
    ema_sum: f64,
    ema_weight: f64,
}

impl Sums {
    fn of(trades: &[&Trade], slice_end: i64, exponential: &Exponential) -> Self {
        let first = trades.first().unwrap().price;
        let mut sums = Self {
            count: 0,
            open: first,
            high: first,
            low: first,
            close: trades.last().unwrap().price,
            volume: 0.0,
            turnover: 0.0,
            price_sum: 0.0,
            ema_sum: 0.0,
            ema_weight: 0.0,
        };
        for trade in trades {
            let weight = exponential.decay(slice_end - trade.timestamp);
            sums.count += 1;
            if trade.price > sums.high {
                sums.high = trade.price;
            }
            if trade.price < sums.low {
                sums.low = trade.price;
            }
            sums.volume += trade.amount;
            let paid = trade.price * trade.amount;
            sums.turnover += paid;
            sums.price_sum += trade.price;
            let weighted = trade.price * weight;
            sums.ema_sum += weighted;
            sums.ema_weight += weight;
        }
        sums
    }

    fn candle(&self) -> Numbers {
        let Self { open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight, .. } = *self;
        let doubles = [open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight];
        numbers(self.count, &CANDLE, doubles)
    }
}

/// One window from its slices, which are given with their ends and in time order.
fn window(slices: &[(i64, &Sums)], window_end: i64, exponential: &Exponential) -> Numbers {
    let (mut count, mut volume, mut turnover) = (0, 0.0, 0.0);
    let (mut price_sum, mut ema_sum, mut ema_weight) = (0.0, 0.0, 0.0);
    let mut prices: Option<(f64, f64, f64, f64)> = None;
    for (slice_end, sums) in slices {
        let factor = exponential.decay(window_end - slice_end);
        count += sums.count;
        volume += sums.volume;
        turnover += sums.turnover;
        price_sum += sums.price_sum;
        let decayed = sums.ema_sum * factor;
        ema_sum += decayed;
        let decayed = sums.ema_weight * factor;
        ema_weight += decayed;
        let (open, high, low, _) = prices.unwrap_or((sums.open, sums.high, sums.low, sums.close));
        let high = if sums.high > high { sums.high } else { high };
        let low = if sums.low < low { sums.low } else { low };
        prices = Some((open, high, low, sums.close));
    }
    let (open, high, low, close) = prices.unwrap();
    let sma = price_sum / count as f64;
    let vwap = if volume == 0.0 { sma } else { turnover / volume };
    let within = |mean: f64| mean.clamp(low, high);
    let (sma, ema, vwap) = (within(sma), within(ema_sum / ema_weight), within(vwap));
    numbers(count, &AVERAGE, [sma, ema, vwap, open, high, low, close, volume])
}
