//! Whether candles and averages are what the batch program makes of the trades, bit for bit and once each.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "test code, of which each test file uses a part"
)]

#[path = "../../../agg-producer/tests/reference/mod.rs"]
mod reference;

use std::collections::{BTreeMap, BTreeSet};

use common::avro::schema::{CANDLE, MOVING_AVERAGE, TRADE, WATERMARK};
use common::config::TopicsConfig;
use common::model::{Candle, MovingAverage, Trade, Watermark};
use e2e::Stack;
use e2e::topic::{Record, Topic};
pub(crate) use reference::Settings;
use reference::{Numbers, Published, numbers};

/// The aggregator's defaults.
pub(crate) const DEFAULTS: Settings = Settings { size: 300_000, advance: 10_000, grace: 2_000, tau: 150_000 };

type ByWindow = BTreeMap<(String, i64), Numbers>;

/// Everything there is of a pipeline.
pub(crate) struct Topics {
    trades: Vec<Record<Trade<'static>>>,
    /// Records of the trades' topic that are none, by partition and offset.
    undecodable: BTreeSet<(i32, i64)>,
    watermarks: Vec<Record<Watermark>>,
    late: Vec<Record<Trade<'static>>>,
    /// The same as the dead-letter topic names them.
    dead_letters: Vec<(i32, i64)>,
    candles: Vec<Record<Candle<'static>>>,
    averages: Vec<Record<MovingAverage<'static>>>,
}

/// What was compared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Compared {
    pub(crate) trades: usize,
    pub(crate) late: usize,
    pub(crate) undecodable: usize,
    pub(crate) candles: usize,
    pub(crate) averages: usize,
}

impl Topics {
    pub(crate) async fn read(stack: &Stack, topics: &TopicsConfig) -> Self {
        // What is made of others is read before them: topics only grow, so if there are averages enough, the rest of what went with them
        // is there as well.
        let averages = Topic::new(stack, &topics.moving_averages, &MOVING_AVERAGE).read().await.unwrap();
        let candles = Topic::new(stack, &topics.candles, &CANDLE).read().await.unwrap();
        let late = Topic::new(stack, &topics.late, &TRADE).read().await.unwrap();
        let (_, dead_letters) =
            Topic::<Trade<'static>>::new(stack, &topics.dead_letter, &TRADE).read_decodable().await.unwrap();
        let watermarks = format!("{}.watermarks", topics.trades);
        let watermarks = Topic::new(stack, watermarks, &WATERMARK).read().await.unwrap();
        let (trades, undecodable) = Topic::new(stack, &topics.trades, &TRADE).read_decodable().await.unwrap();
        let origin = |letter: &Record<()>, name: &str| letter.headers.get(name)?.parse::<i64>().ok();
        let origin = |letter: &Record<()>| {
            let partition = origin(letter, "__streams.errors.partition")?;
            Some((i32::try_from(partition).ok()?, origin(letter, "__streams.errors.offset")?))
        };
        Self {
            trades,
            undecodable: undecodable.iter().map(|record| (record.partition, record.offset)).collect(),
            watermarks,
            late,
            dead_letters: dead_letters.iter().filter_map(origin).collect(),
            candles,
            averages,
        }
    }

    pub(crate) fn averages(&self) -> usize {
        self.averages.len()
    }

    /// Late trades.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }

    /// Slices of which there is more than one candle, by instrument and end.
    pub(crate) fn candles_there_twice(&self) -> BTreeSet<(String, i64)> {
        let mut once = BTreeSet::new();
        let keys =
            self.candles.iter().map(|record| (record.value.instrument_name.to_string(), record.value.end));
        keys.filter(|key| !once.insert(key.clone())).collect()
    }

    /// How many averages there are once everything has been processed.
    pub(crate) fn averages_to_come(&self, settings: &Settings) -> usize {
        self.expected(settings).averages.len()
    }

    /// Holds everything against the batch program's answer over the trades less those that are late.
    ///
    /// A watermark counts for the aggregator when it reads it, so which trades are late by one is not to be foretold; but each that is
    /// must be there once, must have had a reason, and must be in no window. A trade that is late by the trades alone must be there.
    pub(crate) fn compare(&self, settings: &Settings) -> Compared {
        self.check_late(settings);
        let expected = self.expected(settings);
        let late = self.late_keys();
        assert!(
            expected.late.is_empty(),
            "{} late trades are in windows, of {}",
            expected.late.len(),
            late.len()
        );
        let candles = by_key(&self.candles, |candle| {
            assert_eq!(candle.end - candle.start, settings.advance);
            ((candle.instrument_name.to_string(), candle.end), numbers_of_candle(candle))
        });
        let averages = by_key(&self.averages, |average| {
            assert_eq!(average.window_end - average.window_start, settings.size);
            ((average.instrument_name.to_string(), average.window_end), numbers_of_average(average))
        });
        assert_same("candles", &candles, &expected.candles);
        assert_same("averages", &averages, &expected.averages);
        let dead_letters: BTreeSet<_> = self.dead_letters.iter().copied().collect();
        assert_eq!(dead_letters, self.undecodable, "what does not decode is a dead letter");
        assert_eq!(dead_letters.len(), self.dead_letters.len(), "dead letters are there once each");
        self.check_order();
        Compared {
            trades: self.trades.len(),
            late: late.len(),
            undecodable: self.undecodable.len(),
            candles: candles.len(),
            averages: averages.len(),
        }
    }

    fn late_keys(&self) -> BTreeSet<(String, i64)> {
        let keys: BTreeSet<_> = self.late.iter().map(|record| key(&record.value)).collect();
        assert_eq!(keys.len(), self.late.len(), "late trades are there once each");
        keys
    }

    /// Each late trade is one of the trades, in its partition, and met a stream time that trades and watermarks account for.
    fn check_late(&self, settings: &Settings) {
        let trades: BTreeMap<_, _> = self.trades.iter().map(|record| (key(&record.value), record)).collect();
        for late in &self.late {
            let trade = trades.get(&key(&late.value)).expect("a late trade is a trade");
            assert_eq!((late.partition, &late.value), (trade.partition, &trade.value));
            let told = |name: &str| late.headers.get(name).and_then(|text| text.parse::<i64>().ok()).unwrap();
            let (stream_time, start, end) = (told("stream_time"), told("slice_start"), told("slice_end"));
            assert!((start..end).contains(&late.value.timestamp) && end - start == settings.advance);
            assert!(stream_time >= end + settings.grace, "{stream_time} closes no slice that ends at {end}");
            let by_trade = self.trades.iter().any(|record| {
                record.partition == trade.partition
                    && record.offset <= trade.offset
                    && record.value.timestamp == stream_time
            });
            let by_watermark = self.watermarks.iter().any(|record| {
                record.partition == trade.partition
                    && record.value.offset <= trade.offset
                    && record.value.complete_through == stream_time
            });
            assert!(by_trade || by_watermark, "nothing says that it was {stream_time}");
        }
    }

    /// What the batch program makes of the trades that are not late, over all partitions.
    fn expected(&self, settings: &Settings) -> Published {
        let late = self.late_keys();
        let mut all = Published::default();
        let partitions: BTreeSet<i32> = self.trades.iter().map(|record| record.partition).collect();
        for partition in partitions {
            let of = self.trades.iter().filter(|record| record.partition == partition);
            let stream_time = of.clone().map(|record| record.value.timestamp).max();
            let in_time: Vec<_> = of
                .filter(|record| !late.contains(&key(&record.value)))
                .map(|record| reference::Trade {
                    instrument: record.value.instrument_name.to_string(),
                    timestamp: record.value.timestamp,
                    price: record.value.price,
                    amount: record.value.amount,
                })
                .collect();
            let watermarks = self.watermarks.iter().filter(|record| record.partition == partition);
            let newest = watermarks.map(|record| record.value.complete_through).max();
            let end: Vec<_> = newest.max(stream_time).map(|time| (in_time.len(), time)).into_iter().collect();
            let published = reference::publish_with(settings, &in_time, &end);
            all.candles.extend(published.candles);
            all.averages.extend(published.averages);
            all.late.extend(published.late);
        }
        all
    }

    /// Per instrument, windows are published by their ends.
    fn check_order(&self) {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for record in &self.averages {
            let before = last.insert(&record.value.instrument_name, record.value.window_end);
            assert!(before < Some(record.value.window_end), "{before:?} before {:?}", record.value);
        }
    }
}

fn key(trade: &Trade<'_>) -> (String, i64) {
    (trade.instrument_name.to_string(), trade.trade_seq)
}

/// Once each, or it fails.
fn by_key<T>(records: &[Record<T>], of: impl Fn(&T) -> ((String, i64), Numbers)) -> ByWindow {
    let mut all = BTreeMap::new();
    for record in records {
        let (key, numbers) = of(&record.value);
        assert_eq!((&record.key, record.timestamp), (&key.0, key.1), "key and timestamp of the record");
        let twice = all.insert(key.clone(), numbers);
        assert!(twice.is_none(), "published twice: {key:?}");
    }
    all
}

fn count(trades: i64) -> u64 {
    u64::try_from(trades).unwrap()
}

fn numbers_of_average(average: &MovingAverage<'_>) -> Numbers {
    let MovingAverage { trade_count, sma, ema, vwap, open, high, low, close, volume, .. } = *average;
    numbers(count(trade_count), &reference::AVERAGE, [sma, ema, vwap, open, high, low, close, volume])
}

fn numbers_of_candle(candle: &Candle<'_>) -> Numbers {
    let Candle { trade_count, open, high, low, close, volume, .. } = *candle;
    let Candle { turnover, price_sum, ema_sum, ema_weight, .. } = *candle;
    let doubles = [open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight];
    numbers(count(trade_count), &reference::CANDLE, doubles)
}

fn assert_same(what: &str, found: &ByWindow, expected: &ByWindow) {
    assert!(!expected.is_empty(), "no {what} to compare");
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(key)).take(5).collect();
    let surplus: Vec<_> = found.keys().filter(|key| !expected.contains_key(key)).take(5).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{} {what} expected, {} found; missing {missing:?}, surplus {surplus:?}",
        expected.len(),
        found.len()
    );
    for (key, numbers) in expected {
        assert_eq!(found.get(key), Some(numbers), "{what}: {key:?}");
    }
}
