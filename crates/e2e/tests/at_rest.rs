//! The feed is paused and everything has caught up: now each part must hold exactly what the one before it holds.
//!
//! Needs `make run FEED=sim` followed by `make pause`; `make test` does both.

#![expect(clippy::unwrap_used, reason = "a test may")]

#[path = "../../agg-producer/tests/reference/mod.rs"]
mod reference;

use std::collections::{BTreeMap, BTreeSet};

use common::avro::schema::{CANDLE, MOVING_AVERAGE, TRADE};
use common::model::{Candle, MovingAverage, Trade};
use e2e::topic::{Record, Topic};
use e2e::{Stack, postgres};
use reference::{Numbers, Published, Settings};

/// The aggregator's defaults.
const SETTINGS: Settings = Settings { size: 300_000, advance: 10_000, grace: 2_000, tau: 150_000 };

async fn trades(stack: &Stack) -> Vec<Record<Trade<'static>>> {
    let trades = Topic::new(stack, "deribit.trades", &TRADE).read().await.unwrap();
    assert!(!trades.is_empty(), "no trades: has the pipeline run?");
    trades
}

/// What the batch program makes of the topic's trades, over all partitions.
fn batch(trades: &[Record<Trade<'static>>]) -> Published {
    let mut all = Published::default();
    let partitions: BTreeSet<i32> = trades.iter().map(|record| record.partition).collect();
    for partition in partitions {
        let of = trades.iter().filter(|record| record.partition == partition);
        let of: Vec<_> = of
            .map(|record| reference::Trade {
                instrument: record.value.instrument_name.to_string(),
                timestamp: record.value.timestamp,
                price: record.value.price,
                amount: record.value.amount,
            })
            .collect();
        let published = reference::publish(&SETTINGS, &of);
        all.candles.extend(published.candles);
        all.averages.extend(published.averages);
        all.late.extend(published.late);
    }
    all
}

/// Once each, or it fails.
fn by_key<T>(
    records: Vec<Record<T>>,
    key: impl Fn(&T) -> (String, i64),
    numbers: impl Fn(&T) -> Numbers,
) -> BTreeMap<(String, i64), Numbers> {
    let mut all = BTreeMap::new();
    for record in records {
        let key = key(&record.value);
        assert_eq!((&record.key, record.timestamp), (&key.0, key.1), "key and timestamp of the record");
        let twice = all.insert(key.clone(), numbers(&record.value));
        assert!(twice.is_none(), "published twice: {key:?}");
    }
    all
}

fn count(trades: i64) -> u64 {
    u64::try_from(trades).unwrap()
}

#[tokio::test]
async fn there_is_one_average_for_each_window_and_its_numbers_are_the_batch_programs_to_the_last_bit() {
    let stack = Stack::find().unwrap();
    let expected = batch(&trades(&stack).await);
    let records = Topic::<MovingAverage<'static>>::new(&stack, "deribit.moving-averages", &MOVING_AVERAGE)
        .read()
        .await
        .unwrap();
    assert!(
        records.iter().all(|record| record.value.window_end - record.value.window_start == SETTINGS.size)
    );
    let numbers = |average: &MovingAverage<'_>| {
        BTreeMap::from([
            ("trade_count", count(average.trade_count)),
            ("sma", average.sma.to_bits()),
            ("ema", average.ema.to_bits()),
            ("vwap", average.vwap.to_bits()),
            ("open", average.open.to_bits()),
            ("high", average.high.to_bits()),
            ("low", average.low.to_bits()),
            ("close", average.close.to_bits()),
            ("volume", average.volume.to_bits()),
        ])
    };
    let found = by_key(records, |average| (average.instrument_name.to_string(), average.window_end), numbers);
    assert_same(&found, &expected.averages);
}

#[tokio::test]
async fn there_is_one_candle_for_each_slice_and_its_numbers_are_the_batch_programs_to_the_last_bit() {
    let stack = Stack::find().unwrap();
    let expected = batch(&trades(&stack).await);
    let records = Topic::<Candle<'static>>::new(&stack, "deribit.candles", &CANDLE).read().await.unwrap();
    assert!(records.iter().all(|record| record.value.end - record.value.start == SETTINGS.advance));
    let numbers = |candle: &Candle<'_>| {
        BTreeMap::from([
            ("trade_count", count(candle.trade_count)),
            ("open", candle.open.to_bits()),
            ("high", candle.high.to_bits()),
            ("low", candle.low.to_bits()),
            ("close", candle.close.to_bits()),
            ("volume", candle.volume.to_bits()),
            ("turnover", candle.turnover.to_bits()),
            ("price_sum", candle.price_sum.to_bits()),
            ("ema_sum", candle.ema_sum.to_bits()),
            ("ema_weight", candle.ema_weight.to_bits()),
        ])
    };
    let found = by_key(records, |candle| (candle.instrument_name.to_string(), candle.end), numbers);
    assert_same(&found, &expected.candles);
}

fn assert_same(found: &BTreeMap<(String, i64), Numbers>, expected: &BTreeMap<(String, i64), Numbers>) {
    assert!(!expected.is_empty(), "nothing to compare");
    let missing: Vec<_> = expected.keys().filter(|key| !found.contains_key(key)).take(5).collect();
    let surplus: Vec<_> = found.keys().filter(|key| !expected.contains_key(key)).take(5).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "{} expected, {} found; missing {missing:?}, surplus {surplus:?}",
        expected.len(),
        found.len()
    );
    for (key, numbers) in expected {
        assert_eq!(&found[key], numbers, "{key:?}");
    }
}

#[tokio::test]
async fn the_table_of_trades_equals_the_topic() {
    let stack = Stack::find().unwrap();
    let trades = trades(&stack).await;
    let rows = postgres::connect(&stack)
        .await
        .unwrap()
        .query(
            "SELECT *, (extract(epoch FROM timestamp) * 1000)::bigint AS millis, \
         (extract(epoch FROM received_at) * 1000000)::bigint AS micros FROM trades",
            &[],
        )
        .await
        .unwrap();
    let mut table = BTreeMap::new();
    for row in &rows {
        let trade = Trade {
            instrument_name: row.get::<_, String>("instrument_name").into(),
            trade_seq: row.get("trade_seq"),
            trade_id: row.get::<_, String>("trade_id").into(),
            timestamp: row.get("millis"),
            price: row.get("price"),
            amount: row.get("amount"),
            index_price: row.get("index_price"),
            direction: row.get::<_, String>("direction").into(),
            tick_direction: row.get("tick_direction"),
            received_at: row.get("micros"),
            mark_price: row.get("mark_price"),
            contracts: row.get("contracts"),
            iv: row.get("iv"),
            liquidation: row.get::<_, Option<String>>("liquidation").map(Into::into),
            block_trade_id: row.get::<_, Option<String>>("block_trade_id").map(Into::into),
            combo_id: row.get::<_, Option<String>>("combo_id").map(Into::into),
            combo_trade_id: row.get::<_, Option<String>>("combo_trade_id").map(Into::into),
            block_trade_leg_count: row.get("block_trade_leg_count"),
            block_rfq_id: row.get("block_rfq_id"),
        };
        table.insert((trade.instrument_name.to_string(), trade.trade_seq), trade);
    }
    assert_eq!(rows.len(), trades.len(), "rows and records");
    for record in &trades {
        let key = (record.value.instrument_name.to_string(), record.value.trade_seq);
        let row = table.get(&key).unwrap_or_else(|| panic!("no row for {key:?}"));
        assert_eq!(row.price.to_bits(), record.value.price.to_bits(), "{key:?}");
        assert_eq!(row, &record.value);
    }
}

#[tokio::test]
async fn the_table_of_averages_equals_the_topic() {
    let stack = Stack::find().unwrap();
    let averages = Topic::<MovingAverage<'static>>::new(&stack, "deribit.moving-averages", &MOVING_AVERAGE)
        .read()
        .await
        .unwrap();
    let rows = postgres::connect(&stack)
        .await
        .unwrap()
        .query(
            "SELECT *, (extract(epoch FROM window_start) * 1000)::bigint AS start_millis, \
         (extract(epoch FROM window_end) * 1000)::bigint AS end_millis FROM moving_averages",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(rows.len(), averages.len(), "rows and records");
    let mut table = BTreeMap::new();
    for row in &rows {
        let average = MovingAverage {
            instrument_name: row.get::<_, String>("instrument_name").into(),
            window_start: row.get("start_millis"),
            window_end: row.get("end_millis"),
            trade_count: row.get("trade_count"),
            sma: row.get("sma"),
            ema: row.get("ema"),
            vwap: row.get("vwap"),
            open: row.get("open"),
            high: row.get("high"),
            low: row.get("low"),
            close: row.get("close"),
            volume: row.get("volume"),
        };
        table.insert((average.instrument_name.to_string(), average.window_end), average);
    }
    for record in &averages {
        let key = (record.value.instrument_name.to_string(), record.value.window_end);
        assert_eq!(table.get(&key), Some(&record.value), "{key:?}");
    }
}
