//! The pipeline runs on the simulated exchange: what comes out of it is compared with what the exchange says it has traded.
//!
//! Needs `make run FEED=sim`; `make test` does it.

#![expect(clippy::panic, reason = "a test may")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::avro::schema::{MOVING_AVERAGE, TRADE, WATERMARK};
use common::model::{MovingAverage, Trade, Watermark};
use e2e::exchange::{contract_fields, topic_fields};
use e2e::topic::{Record, Topic};
use e2e::zipkin::{self, Span, way_up};
use e2e::{Stack, exchange};

/// Of `deribit.trades`, as its topic is made.
const PARTITIONS: usize = 6;

type TradeRecord = Record<Trade<'static>>;

fn by_instrument<'a>(trades: &'a [TradeRecord]) -> BTreeMap<&'a str, Vec<&'a TradeRecord>> {
    let mut by: BTreeMap<&str, Vec<&'a TradeRecord>> = BTreeMap::new();
    for record in trades {
        by.entry(&record.value.instrument_name).or_default().push(record);
    }
    by
}

/// The time up to which every partition is complete by the producer's own watermarks, once it is past `enough`. An instrument's first trades
/// may wait for history while others of its partition go on, so the newest trades do not tell.
async fn complete_through(stack: &Stack, enough: i64) -> anyhow::Result<i64> {
    let topic = Topic::<Watermark>::new(stack, "deribit.trades.watermarks", &WATERMARK);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let marks = topic.read().await?;
        let newest: BTreeMap<_, _> =
            marks.iter().map(|mark| (mark.value.partition, mark.value.complete_through)).collect();
        let slowest = newest.values().copied().min().unwrap_or(i64::MIN);
        if newest.len() == PARTITIONS && slowest >= enough {
            return Ok(slowest);
        }
        assert!(Instant::now() < deadline, "{newest:?}, and not {PARTITIONS} partitions through {enough}");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn oldest(trades: &[TradeRecord]) -> Option<i64> {
    trades.iter().map(|record| record.value.timestamp).min()
}

fn millis(comparable: &serde_json::Value) -> i64 {
    let number =
        comparable.as_str().and_then(|text| text.split(' ').nth(1)).and_then(|text| text.parse::<i64>().ok());
    number.unwrap_or_else(|| panic!("not a number: {comparable}"))
}

#[tokio::test]
async fn the_topic_has_every_trade_of_the_exchange_once_and_in_order() {
    let stack = Stack::find().unwrap();
    let topic = Topic::<Trade<'static>>::new(&stack, "deribit.trades", &TRADE);
    let enough = oldest(&topic.read().await.unwrap()).unwrap() + 5_000;
    let complete_through = complete_through(&stack, enough).await.unwrap();
    // After the watermarks: what they speak of is there by now.
    let trades = topic.read().await.unwrap();
    assert!(trades.len() > 100, "only {} trades", trades.len());
    let first = oldest(&trades).unwrap();
    let last = trades.iter().map(|record| record.value.timestamp).max().unwrap();

    let mut there: BTreeMap<(String, i64), exchange::Fields> = BTreeMap::new();
    for fields in exchange::trades(&stack, first, last).await.unwrap() {
        let key =
            (fields["instrument_name"].as_str().unwrap().to_owned(), fields["trade_seq"].as_i64().unwrap());
        there.insert(key, contract_fields(fields));
    }
    let by_instrument = by_instrument(&trades);
    for (instrument, records) in &by_instrument {
        let partition = records[0].partition;
        for pair in records.windows(2) {
            assert_eq!(pair[1].value.trade_seq, pair[0].value.trade_seq + 1, "{instrument} in offset order");
        }
        for record in records {
            assert_eq!((record.key.as_str(), record.partition), (*instrument, partition));
            assert_eq!(record.timestamp, record.value.timestamp);
            let key = ((*instrument).to_owned(), record.value.trade_seq);
            let exchanged = there.get(&key).unwrap_or_else(|| panic!("the exchange has no {key:?}"));
            assert_eq!(&topic_fields(&record.value), exchanged);
        }
    }
    // The topic begins at a time, and the first trade that is there is at that time or later.
    let expected: Vec<_> = there
        .iter()
        .filter(|(_, fields)| (first..=complete_through).contains(&millis(&fields["timestamp"])))
        .map(|(key, _)| key)
        .collect();
    assert!(!expected.is_empty(), "nothing to expect between {first} and {complete_through}");
    for (instrument, seq) in expected {
        let found = by_instrument
            .get(instrument.as_str())
            .is_some_and(|records| records.iter().any(|record| record.value.trade_seq == *seq));
        assert!(
            found,
            "{instrument} {seq} of the exchange is not in the topic, which is complete through {complete_through}"
        );
    }
}

/// The way from an average of the aggregator up to the socket, if the trace has it.
fn way(trace: &[Span]) -> Option<Vec<&Span>> {
    let average = trace
        .iter()
        .find(|span| span.service() == "agg-producer" && span.name.contains("moving-averages"))?;
    let way = way_up(trace, average);
    way.last().is_some_and(|root| root.service() == "raw-producer" && root.parent_id.is_none()).then_some(way)
}

#[tokio::test]
async fn zipkin_leads_from_the_socket_through_both_services_to_the_average() {
    let stack = Stack::find().unwrap();
    // A window closes every ten seconds, and spans are sent every second.
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let traces = zipkin::traces(&stack, "agg-producer").await.unwrap();
        if let Some(way) = traces.iter().find_map(|trace| way(trace)) {
            let services: Vec<_> = way.iter().map(|span| span.service()).collect();
            assert!(services.contains(&"agg-producer") && services.contains(&"raw-producer"), "{way:?}");
            assert_eq!(way.last().unwrap().name, "websocket receive");
            assert!(way.iter().all(|span| span.kind.is_some() && span.duration.is_some()), "{way:?}");
            return;
        }
        assert!(Instant::now() < deadline, "of {} traces none leads to an average", traces.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// The tests at rest compare what is there by then: it has to be more than the one window that `make run` waits for.
#[tokio::test]
async fn one_window_after_the_other_is_published() {
    let stack = Stack::find().unwrap();
    let averages = Topic::<MovingAverage<'static>>::new(&stack, "deribit.moving-averages", &MOVING_AVERAGE);
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let records = averages.read().await.unwrap();
        let ends: BTreeSet<i64> = records.iter().map(|record| record.value.window_end).collect();
        if ends.len() >= 3 {
            return;
        }
        assert!(Instant::now() < deadline, "{} averages, of the windows that end at {ends:?}", records.len());
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn every_service_is_live_ready_and_shows_what_it_does() {
    let stack = Stack::find().unwrap();
    for (port, metric) in [
        ("RAW_PRODUCER_PORT", "raw_producer_trades_published_total"),
        ("AGG_PRODUCER_PORT", "agg_producer_"),
        ("JDBC_SINK_PORT", "jdbc_sink_"),
        ("DERIBIT_SIM_ADMIN_PORT", "deribit_sim_"),
    ] {
        for path in ["/live", "/ready"] {
            let until = Instant::now() + Duration::from_secs(60);
            loop {
                let answer = e2e::get(stack.url(port, path).unwrap()).await.unwrap();
                if answer.status() == 200 {
                    break;
                }
                let why = answer.text().await.unwrap();
                assert!(Instant::now() < until, "{port} {path}: {why}");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        let metrics = e2e::get(stack.url(port, "/metrics").unwrap()).await.unwrap().text().await.unwrap();
        assert!(metrics.contains(metric), "{port}: {metrics}");
    }
}
