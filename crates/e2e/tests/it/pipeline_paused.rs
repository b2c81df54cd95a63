//! The feed is paused and everything has caught up: now each part must hold exactly what the one before it holds.
//!
//! Needs `make run FEED=sim` followed by `make pause`; `make test` does both.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use common::avro::schema::{MOVING_AVERAGE, TRADE};
use common::model::{MovingAverage, Trade};
use e2e::topic::{DecodedTopic, TopicRecord};
use e2e::{Servers, eventually, postgres};

use crate::reference::{DEFAULTS, PublishedTopics};

async fn trades(servers: &Servers) -> Vec<TopicRecord<Trade<'static>>> {
    let trades = DecodedTopic::new(servers, "deribit.trades", &TRADE).read().await.unwrap();
    assert!(!trades.is_empty(), "no trades: has the pipeline run?");
    trades
}

/// The sinks have no lag, but a last watermark may still be on its way to the aggregator.
#[tokio::test]
async fn there_is_one_candle_for_each_slice_and_one_average_for_each_window_with_the_batch_programs_bits() {
    let servers = Servers::find().unwrap();
    let topics = common::config::load_from::<agg_producer::Config>(None, []).unwrap().topics;
    let published = async || {
        let read = PublishedTopics::read(&servers, &topics).await?;
        let (found, expected) = (read.averages(), read.expected_averages(&DEFAULTS)?);
        ensure!(found >= expected, "{found} averages of {expected}");
        println!("{:?}", read.compare(&DEFAULTS).unwrap());
        Ok(true)
    };
    eventually(Duration::from_secs(60), "every average is published", published).await.unwrap();
}

#[tokio::test]
async fn the_table_of_trades_equals_the_topic() {
    let servers = Servers::find().unwrap();
    let trades = trades(&servers).await;
    let rows = postgres::connect(&servers)
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
    let servers = Servers::find().unwrap();
    let averages =
        DecodedTopic::<MovingAverage<'static>>::new(&servers, "deribit.moving-averages", &MOVING_AVERAGE)
            .read()
            .await
            .unwrap();
    let rows = postgres::connect(&servers)
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
