//! Compares candles and averages with the batch program's answer: bit for bit, and once each.

#[path = "../../../agg-producer/tests/reference/mod.rs"]
mod batch;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, ensure};
use batch::{Numbers, Published, numbers};
use common::avro::schema::{CANDLE, MOVING_AVERAGE, TRADE, WATERMARK};
use common::config::TopicsConfig;
use common::model::{Candle, MovingAverage, Trade, Watermark};
use e2e::Servers;
use e2e::topic::{DecodedTopic, TopicRecord};

pub(crate) use batch::Settings;

/// The aggregator's defaults.
pub(crate) const DEFAULTS: Settings = Settings { size: 300_000, advance: 10_000, grace: 2_000, tau: 150_000 };

/// By instrument and end.
type ByWindow = BTreeMap<(String, i64), Numbers>;

/// Everything in the topics of a pipeline.
pub(crate) struct PublishedTopics {
    trades: Vec<TopicRecord<Trade<'static>>>,
    /// Records of the trades' topic that do not decode, by partition and offset.
    undecodable: BTreeSet<(i32, i64)>,
    watermarks: Vec<TopicRecord<Watermark>>,
    late: Vec<TopicRecord<Trade<'static>>>,
    /// The partition and offset that each dead letter names.
    dead_letters: Vec<(i32, i64)>,
    candles: Vec<TopicRecord<Candle<'static>>>,
    averages: Vec<TopicRecord<MovingAverage<'static>>>,
}

/// The number of records of each kind that were compared.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "printed")]
pub(crate) struct AverageComparison {
    pub(crate) trades: usize,
    pub(crate) late: usize,
    pub(crate) undecodable: usize,
    pub(crate) candles: usize,
    pub(crate) averages: usize,
}

impl PublishedTopics {
    pub(crate) async fn read(servers: &Servers, topics: &TopicsConfig) -> anyhow::Result<Self> {
        // Outputs are read before their inputs. Topics only grow, so if there are averages enough, everything that was committed with them
        // is there as well.
        let averages = DecodedTopic::new(servers, &topics.moving_averages, &MOVING_AVERAGE).read().await?;
        let candles = DecodedTopic::new(servers, &topics.candles, &CANDLE).read().await?;
        let late = DecodedTopic::new(servers, &topics.late, &TRADE).read().await?;
        let dead_letters = DecodedTopic::<Trade<'static>>::new(servers, &topics.dead_letter, &TRADE);
        let (_, dead_letters) = dead_letters.read_decodable().await?;
        let watermarks = format!("{}.watermarks", topics.trades);
        let watermarks = DecodedTopic::new(servers, watermarks, &WATERMARK).read().await?;
        let (trades, undecodable) =
            DecodedTopic::new(servers, &topics.trades, &TRADE).read_decodable().await?;
        Ok(Self {
            trades,
            undecodable: undecodable.iter().map(|record| (record.partition, record.offset)).collect(),
            watermarks,
            late,
            dead_letters: dead_letters.iter().map(origin).collect::<anyhow::Result<_>>()?,
            candles,
            averages,
        })
    }

    /// The number of averages.
    pub(crate) fn averages(&self) -> usize {
        self.averages.len()
    }

    /// The number of averages once everything has been processed.
    pub(crate) fn expected_averages(&self, settings: &Settings) -> anyhow::Result<usize> {
        Ok(self.expected(settings)?.averages.len())
    }

    /// The number of late trades.
    pub(crate) fn late(&self) -> usize {
        self.late.len()
    }

    /// The number of records in the trades' topic.
    pub(crate) fn trade_records(&self) -> usize {
        self.trades.len() + self.undecodable.len()
    }

    /// Slices of which there is more than one candle, by instrument and end.
    pub(crate) fn doubled_candles(&self) -> BTreeSet<(String, i64)> {
        let mut once = BTreeSet::new();
        let candles = self.candles.iter().map(|record| &record.value);
        let keys = candles.map(|candle| (candle.instrument_name.to_string(), candle.end));
        keys.filter(|key| !once.insert(key.clone())).collect()
    }

    /// Compares everything with the batch program's answer over the trades that are not late.
    ///
    /// A watermark counts for the aggregator when it reads it, so a test cannot foretell which trades a watermark makes late. But each late
    /// trade must be there once, must have had a reason, and must be in no window. A trade that is late by the trades alone must be there.
    pub(crate) fn compare(&self, settings: &Settings) -> anyhow::Result<AverageComparison> {
        self.check_late(settings)?;
        let expected = self.expected(settings)?;
        let late = self.late_keys()?;
        let in_windows = expected.late.len();
        ensure!(in_windows == 0, "{in_windows} late trades are in windows, of {}", late.len());
        let candles = by_key(&self.candles, |candle| {
            ensure!(candle.end - candle.start == settings.advance, "{candle:?}");
            Ok(((candle.instrument_name.to_string(), candle.end), numbers_of_candle(candle)))
        })?;
        let averages = by_key(&self.averages, |average| {
            ensure!(average.window_end - average.window_start == settings.size, "{average:?}");
            Ok(((average.instrument_name.to_string(), average.window_end), numbers_of_average(average)))
        })?;
        check_same("candles", &candles, &expected.candles)?;
        check_same("averages", &averages, &expected.averages)?;
        let dead_letters: BTreeSet<_> = self.dead_letters.iter().copied().collect();
        let undecodable = &self.undecodable;
        ensure!(
            dead_letters == *undecodable,
            "dead letters of {dead_letters:?}, undecodable {undecodable:?}"
        );
        ensure!(dead_letters.len() == self.dead_letters.len(), "{TWICE}: dead letters");
        self.check_order()?;
        Ok(AverageComparison {
            trades: self.trades.len(),
            late: late.len(),
            undecodable: undecodable.len(),
            candles: candles.len(),
            averages: averages.len(),
        })
    }

    fn late_keys(&self) -> anyhow::Result<BTreeSet<(String, i64)>> {
        let keys: BTreeSet<_> = self.late.iter().map(|record| key(&record.value)).collect();
        ensure!(keys.len() == self.late.len(), "{TWICE}: late trades");
        Ok(keys)
    }

    /// Each late trade is one of the trades, in its partition, and met a stream time that trades and watermarks account for.
    fn check_late(&self, settings: &Settings) -> anyhow::Result<()> {
        let trades: BTreeMap<_, _> = self.trades.iter().map(|record| (key(&record.value), record)).collect();
        for late in &self.late {
            let trade = trades.get(&key(&late.value)).context("a late trade is a trade")?;
            ensure!((late.partition, &late.value) == (trade.partition, &trade.value), "{late:?}, {trade:?}");
            let header = |name: &str| -> anyhow::Result<i64> {
                Ok(late.headers.get(name).with_context(|| format!("no header {name}"))?.parse()?)
            };
            let (stream_time, start, end) =
                (header("stream_time")?, header("slice_start")?, header("slice_end")?);
            let in_slice = (start..end).contains(&late.value.timestamp) && end - start == settings.advance;
            ensure!(in_slice, "not in its slice: {late:?}");
            ensure!(stream_time >= end + settings.grace, "{stream_time} closes no slice that ends at {end}");
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
            ensure!(by_trade || by_watermark, "nothing accounts for stream time {stream_time}");
        }
        Ok(())
    }

    /// The batch program's answer over the trades that are not late, of all partitions.
    fn expected(&self, settings: &Settings) -> anyhow::Result<Published> {
        let late = self.late_keys()?;
        let mut all = Published::default();
        let partitions: BTreeSet<i32> = self.trades.iter().map(|record| record.partition).collect();
        for partition in partitions {
            let of = self.trades.iter().filter(|record| record.partition == partition);
            let stream_time = of.clone().map(|record| record.value.timestamp).max();
            let in_time: Vec<_> = of
                .filter(|record| !late.contains(&key(&record.value)))
                .map(|record| batch::Trade {
                    instrument: record.value.instrument_name.to_string(),
                    timestamp: record.value.timestamp,
                    price: record.value.price,
                    amount: record.value.amount,
                })
                .collect();
            let watermarks = self.watermarks.iter().filter(|record| record.partition == partition);
            let newest = watermarks.map(|record| record.value.complete_through).max();
            let end: Vec<_> = newest.max(stream_time).map(|time| (in_time.len(), time)).into_iter().collect();
            let published = batch::publish_with(settings, &in_time, &end);
            all.candles.extend(published.candles);
            all.averages.extend(published.averages);
            all.late.extend(published.late);
        }
        Ok(all)
    }

    /// Each instrument's windows are published by their ends.
    fn check_order(&self) -> anyhow::Result<()> {
        let mut last: BTreeMap<&str, i64> = BTreeMap::new();
        for record in &self.averages {
            let before = last.insert(&record.value.instrument_name, record.value.window_end);
            ensure!(before < Some(record.value.window_end), "{before:?} before {:?}", record.value);
        }
        Ok(())
    }
}

/// How every difference begins that is a record too many.
pub(crate) const TWICE: &str = "published twice";

fn origin(letter: &TopicRecord<()>) -> anyhow::Result<(i32, i64)> {
    let header = |name: &str| letter.headers.get(name).with_context(|| format!("{letter:?} has no {name}"));
    Ok((header("__streams.errors.partition")?.parse()?, header("__streams.errors.offset")?.parse()?))
}

fn key(trade: &Trade<'_>) -> (String, i64) {
    (trade.instrument_name.to_string(), trade.trade_seq)
}

/// Fails if there are two of a key.
fn by_key<T>(
    records: &[TopicRecord<T>],
    of: impl Fn(&T) -> anyhow::Result<((String, i64), Numbers)>,
) -> anyhow::Result<ByWindow> {
    let mut all = BTreeMap::new();
    for record in records {
        let (key, numbers) = of(&record.value)?;
        let is_keyed = (&record.key, record.timestamp) == (&key.0, key.1);
        ensure!(is_keyed, "key {} and timestamp {} of {key:?}", record.key, record.timestamp);
        ensure!(all.insert(key.clone(), numbers).is_none(), "{TWICE}: {key:?}");
    }
    Ok(all)
}

fn numbers_of_average(average: &MovingAverage<'_>) -> Numbers {
    let MovingAverage { trade_count, sma, ema, vwap, open, high, low, close, volume, .. } = *average;
    let doubles = [sma, ema, vwap, open, high, low, close, volume];
    numbers(trade_count.cast_unsigned(), &batch::AVERAGE, doubles)
}

fn numbers_of_candle(candle: &Candle<'_>) -> Numbers {
    let Candle { trade_count, open, high, low, close, volume, .. } = *candle;
    let Candle { turnover, price_sum, ema_sum, ema_weight, .. } = *candle;
    let doubles = [open, high, low, close, volume, turnover, price_sum, ema_sum, ema_weight];
    numbers(trade_count.cast_unsigned(), &batch::CANDLE, doubles)
}

fn check_same(what: &str, found: &ByWindow, expected: &ByWindow) -> anyhow::Result<()> {
    ensure!(!expected.is_empty(), "no {what} to compare");
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(key)).take(5).collect();
    let surplus: Vec<_> = found.keys().filter(|key| !expected.contains_key(key)).take(5).collect();
    ensure!(
        missing.is_empty() && surplus.is_empty(),
        "{} {what} expected, {} found; missing {missing:?}, surplus {surplus:?}",
        expected.len(),
        found.len()
    );
    for (key, numbers) in expected {
        let found = found.get(key);
        ensure!(found == Some(numbers), "{what}: {key:?}: {found:?} instead of {numbers:?}");
    }
    Ok(())
}
