//! Publishing, on librdkafka's mock cluster: partitions, order and checked deliveries, a broker that goes away.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::time::Duration;

use common::avro::codec::{Decoder, Encoder};
use common::avro::schema::TRADE;
use common::config::KafkaConfig;
use common::kafka::client::{self, Role};
use common::metrics::Metrics;
use common::model::Trade;
use raw_producer::metrics::FeedMetrics;
use raw_producer::publish::Publisher;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

const TOPIC: &str = "deribit.trades";
const WITHIN: Duration = Duration::from_secs(30);

fn cluster() -> (MockCluster<'static, DefaultProducerContext>, KafkaConfig) {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic(TOPIC, 6, 1).unwrap();
    let kafka =
        KafkaConfig { bootstrap_servers: cluster.bootstrap_servers(), properties: Default::default() };
    (cluster, kafka)
}

fn publisher(kafka: &KafkaConfig, metrics: &Metrics) -> Publisher {
    let settings = client::config(kafka, "test", &Role::Producer);
    Publisher::new(&settings, TOPIC, Encoder::new(&TRADE, 7), FeedMetrics::new(metrics)).unwrap()
}

fn trade(instrument: &'static str, trade_seq: i64) -> Trade<'static> {
    Trade {
        instrument_name: instrument.into(),
        trade_seq,
        trade_id: "1".into(),
        timestamp: 1_786_911_707_538 + trade_seq,
        price: 1.0,
        amount: 1.0,
        index_price: 1.0,
        direction: "buy".into(),
        tick_direction: 0,
        received_at: 0,
        mark_price: None,
        contracts: None,
        iv: None,
        liquidation: None,
        block_trade_id: None,
        combo_id: None,
        combo_trade_id: None,
        block_trade_leg_count: None,
        block_rfq_id: None,
    }
}

/// Every record of the topic: key, partition, sequence, record timestamp; in the order of each partition.
fn read(kafka: &KafkaConfig, count: usize) -> Vec<(String, i32, i64, i64)> {
    let consumer: BaseConsumer = client::config(kafka, "test", &Role::Reader).create().unwrap();
    let mut partitions = rdkafka::TopicPartitionList::new();
    for partition in 0..6 {
        partitions.add_partition_offset(TOPIC, partition, rdkafka::Offset::Beginning).unwrap();
    }
    consumer.assign(&partitions).unwrap();
    let mut decoder = Decoder::<Trade<'static>>::new(&TRADE);
    decoder.learn(7, TRADE.schema.clone());
    let end = std::time::Instant::now() + WITHIN;
    let mut records = Vec::new();
    while records.len() < count && std::time::Instant::now() < end {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record.unwrap();
        let trade = decoder.decode(record.payload().unwrap()).unwrap();
        let key = String::from_utf8(record.key().unwrap().to_vec()).unwrap();
        assert_eq!(key, trade.instrument_name);
        records.push((key, record.partition(), trade.trade_seq, record.timestamp().to_millis().unwrap()));
    }
    records
}

#[tokio::test]
async fn each_trade_is_a_record_under_its_instrument_in_order_with_the_exchanges_time() {
    let (_cluster, kafka) = cluster();
    let metrics = Metrics::new("raw_producer");
    let mut publisher = publisher(&kafka, &metrics);
    for seq in 1..=500 {
        publisher.publish(&trade("BTC-PERPETUAL", seq), None).await.unwrap();
        publisher.publish(&trade("ETH-PERPETUAL", seq), None).await.unwrap();
    }
    publisher.flush(WITHIN).await.unwrap();

    let records = tokio::task::spawn_blocking(move || read(&kafka, 1000)).await.unwrap();
    for instrument in ["BTC-PERPETUAL", "ETH-PERPETUAL"] {
        let of: Vec<_> = records.iter().filter(|record| record.0 == instrument).collect();
        assert!(of.iter().all(|record| record.1 == of[0].1), "one instrument, one partition");
        assert_eq!(of.iter().map(|record| record.2).collect::<Vec<_>>(), (1..=500).collect::<Vec<_>>());
        assert!(of.iter().all(|record| record.3 == 1_786_911_707_538 + record.2));
    }
    let shown = metrics.render();
    assert!(shown.contains("raw_producer_trades_published_total 1000"), "{shown}");
    assert!(shown.contains("raw_producer_trades_in_flight 0"), "{shown}");
}

#[tokio::test]
async fn a_broker_that_goes_away_costs_nothing_but_time() {
    let (cluster, kafka) = cluster();
    let mut publisher = publisher(&kafka, &Metrics::new("raw_producer"));
    publisher.publish(&trade("BTC-PERPETUAL", 1), None).await.unwrap();
    cluster.broker_down(1).unwrap();
    for seq in 2..=100 {
        publisher.publish(&trade("BTC-PERPETUAL", seq), None).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    cluster.broker_up(1).unwrap();
    publisher.flush(WITHIN).await.unwrap();
    let records = tokio::task::spawn_blocking(move || read(&kafka, 100)).await.unwrap();
    assert_eq!(records.iter().map(|record| record.2).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
}

#[tokio::test]
async fn trades_that_kafka_never_acknowledged_are_counted_when_it_ends() {
    let (cluster, kafka) = cluster();
    let mut publisher = publisher(&kafka, &Metrics::new("raw_producer"));
    cluster.broker_down(1).unwrap();
    for seq in 1..=3 {
        publisher.publish(&trade("BTC-PERPETUAL", seq), None).await.unwrap();
    }
    let failure = publisher.flush(Duration::from_millis(300)).await.unwrap_err();
    assert!(failure.to_string().starts_with("3 trades were not acknowledged by deribit.trades"), "{failure}");
}
