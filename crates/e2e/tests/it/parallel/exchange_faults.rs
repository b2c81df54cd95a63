//! Faults of the exchange and of the connection to it: the topic has every trade once and in order.

use std::collections::BTreeMap;
use std::time::Duration;

use common::avro::schema::{CANDLE, TRADE};
use common::model::{Candle, Trade};
use deribit_sim::faults::FaultKind;
use e2e::consumer_group::ConsumerGroup;
use e2e::ingest::IngestFixture;
use e2e::metric_names::{CONFIRMED_HOLES, GAP_REQUESTS, TRADES_PUBLISHED};
use e2e::topic::DecodedTopic;
use tokio::time::sleep;

/// A dropped trade may be an instrument's last: only the next comparison with history shows it, and watermarks do not wait for that. The same
/// goes for one that is overtaken.
const SILENT: [FaultKind; 4] = [FaultKind::Drop, FaultKind::Thin, FaultKind::Garbage, FaultKind::Reorder];

/// A test of one kind of fault, which strikes that often at most.
async fn alone(kind: FaultKind, plan: &str, times: u64) {
    let plan = format!("[[fault]]\nkind = \"{kind}\"\n{plan}\ntimes = {times}");
    let ingest = IngestFixture::open(&format!("alone-{kind}"), &plan, &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    ingest.wait_until_injected(&BTreeMap::from([(kind, times)])).await.unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    let compared = ingest.compare(through).await.unwrap();
    if !SILENT.contains(&kind) {
        ingest.check_watermarks().await.unwrap();
    }
    println!("{kind} {times} times: {compared:?}");
}

/// A test for each kind, so that they run side by side.
macro_rules! alone {
    ($($name:ident: $kind:ident, $plan:literal, $times:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            alone(FaultKind::$kind, $plan, $times).await;
        }
    )*};
}

alone! {
    dropped_trades_are_fetched: Drop, "one_in = 5", 20;
    thinned_trades_are_fetched: Thin, "one_in = 5", 20;
    duplicates_are_published_once: Duplicate, "one_in = 5", 20;
    reordered_trades_are_put_in_order: Reorder, "one_in = 5", 20;
    garbage_costs_no_trade: Garbage, "one_in = 5", 20;
    oversized_frames_cost_no_trade: Oversize, "every_trades = 300", 2;
    stalls_cost_no_trade: Stall, "one_in = 10\nlasts = \"1s\"", 3;
    a_half_open_connection_costs_no_trade: HalfOpen, "every_trades = 300", 1;
    cut_connections_cost_no_trade: Cut, "every_trades = 300", 3;
    rate_limits_cost_no_trade: RateLimit, "one_in = 5", 3;
    truncated_history_costs_no_trade: Truncate, "one_in = 2", 10;
    history_that_lags_costs_no_trade: Lag, "one_in = 2\nlasts = \"2s\"", 10;
    refused_connections_cost_no_trade: Refuse, "one_in = 1", 2;
    maintenance_costs_no_trade: Maintenance, "every_trades = 500\nlasts = \"3s\"", 2;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_without_a_trade_are_skipped_and_nothing_else_is() {
    let plan = "[[fault]]\nkind = \"hole\"\none_in = 100";
    let ingest = IngestFixture::open("holes", plan, &[]).await.unwrap();
    let producer = ingest.produce().unwrap();
    producer.wait_until_metric(CONFIRMED_HOLES, 10.0).await.unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    println!("10 holes and more: {:?}", ingest.compare(through).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exchange_may_be_away_for_ten_minutes_of_its_own_time() {
    // Half a minute of ours. At that speed the producer's estimate of the exchange's time lags.
    let origin = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    let settings = [("MARKET__SPEED", "20"), ("MARKET__ORIGIN", &origin), ("MARKET__RATE", "20")];
    let mut ingest = IngestFixture::open("away", "", &settings).await.unwrap();
    ingest.set("SEQUENCE__MAX_AHEAD", "30m");
    let producer = ingest.produce().unwrap();
    let left = ingest.wait_until_reconciled(&producer).await.unwrap();
    ingest.close_exchange().await;
    sleep(Duration::from_secs(30)).await;
    ingest.open_exchange().await.unwrap();
    let away = (ingest.now().unwrap().0 - left.0) / 1000;
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    println!("exchange away for {away} s of its time: {:?}", ingest.compare(through).await.unwrap());
    assert!(away >= 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_is_filled_while_it_blocks_its_partition_makes_no_trade_late() {
    // Two instruments so busy that none is silent for a second: each gap shows by the next number, before the window's grace is over.
    let settings = [("MARKET__INSTRUMENTS", "2"), ("MARKET__RATE", "500")];
    let plan = r#"
        fault = [
            { kind = "drop", one_in = 20, times = 30 },
            { kind = "thin", one_in = 20, times = 30 },
            { kind = "reorder", one_in = 20, times = 30 },
        ]
    "#;
    let mut ingest = IngestFixture::open("in-time", plan, &settings).await.unwrap();
    // However slow the machine is, a gap is filled before that.
    ingest.set("SEQUENCE__HOLD_MAX", "5m");
    // So that a gap of one instrument holds back the other.
    ingest.set("TOPICS__PARTITIONS", "1");
    let producer = ingest.produce().unwrap();
    let faults = BTreeMap::from([(FaultKind::Drop, 30), (FaultKind::Thin, 30), (FaultKind::Reorder, 30)]);
    producer.wait_until_metric(TRADES_PUBLISHED, 1.0).await.unwrap();
    let aggregator = ingest.aggregate().unwrap();
    ingest.wait_until_injected(&faults).await.unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    let gaps = producer.metrics().await.unwrap().count(GAP_REQUESTS);
    producer.stop().await.unwrap();
    let compared = ingest.compare(through).await.unwrap();
    let (servers, topic) = (&ingest.harness.servers, ingest.topic());
    let trades = DecodedTopic::<Trade<'static>>::new(servers, topic, &TRADE).read().await.unwrap();
    ConsumerGroup::new(servers, topic, topic, 1).unwrap().wait_until_read(&trades).await.unwrap();
    aggregator.stop().await.unwrap();
    let candles = DecodedTopic::<Candle<'static>>::new(servers, format!("{topic}.candles"), &CANDLE);
    let late = DecodedTopic::<Trade<'static>>::new(servers, format!("{topic}.late"), &TRADE);
    let (candles, late) = (candles.read().await.unwrap(), late.read().await.unwrap());
    println!("{gaps} requests about gaps: {compared:?}, {} candles, {} late", candles.len(), late.len());
    assert!(gaps > 0 && !candles.is_empty());
    assert!(late.is_empty(), "{late:?}");
}
