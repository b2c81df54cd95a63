//! A pair of consumer and producer against librdkafka's mock cluster: records in, records out.
//!
//! The mock forgets offsets that were sent with a transaction and shows records before they are committed, so restarts
//! and fences are tested on a real broker, elsewhere.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use agg_producer::Config;
use agg_producer::metrics::AggregatorMetrics;
use agg_producer::stream_thread::{SchemaIds, ThreadBuilder};
use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use common::Failure;
use common::admin::Health;
use common::avro::codec::{Decoder, Encoder};
use common::avro::registry::Registry;
use common::avro::schema::{CANDLE, Contract, MOVING_AVERAGE, TRADE, WATERMARK};
use common::config::load_from;
use common::kafka::client::{self, Role};
use common::kafka::hanging_transactions::Transactions;
use common::metrics::Metrics;
use common::model::{Candle, MovingAverage, Trade, Watermark};
use common::shutdown::Shutdown;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _, OwnedMessage};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const TRADE_ID: u32 = 7;
const CANDLE_ID: u32 = 8;
const AVERAGE_ID: u32 = 9;
const WATERMARK_ID: u32 = 10;
const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(60);
const TOPICS: [&str; 6] = [
    "deribit.trades",
    "deribit.candles",
    "deribit.moving-averages",
    "deribit.trades.late",
    "deribit.trades.dlq",
    "deribit.trades.watermarks",
];

/// A broker, a registry that fails so many times before it answers, and a pair at work between them.
struct Rig {
    cluster: MockCluster<'static, DefaultProducerContext>,
    pairs: ThreadBuilder,
    pair: Option<JoinHandle<Result<(), Failure>>>,
}

impl Rig {
    async fn start(registry_failures: u32) -> Self {
        Self::start_after(registry_failures, |_| {}).await
    }

    /// The same, with something done to the broker before the pair comes.
    async fn start_after(
        registry_failures: u32,
        prepare: impl FnOnce(&MockCluster<'static, DefaultProducerContext>),
    ) -> Self {
        Self::start_asking(registry_failures, prepare, None).await
    }

    /// The same, with open transactions asked for elsewhere than at the broker.
    async fn start_asking(
        registry_failures: u32,
        prepare: impl FnOnce(&MockCluster<'static, DefaultProducerContext>),
        inspected: Option<&Inspected>,
    ) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        prepare(&cluster);
        for topic in TOPICS {
            cluster.create_topic(topic, PARTITIONS, 1).unwrap();
        }
        let registry = registry(registry_failures).await;
        let variables = [
            ("KSTREAM__KAFKA__BOOTSTRAP_SERVERS", cluster.bootstrap_servers()),
            ("KSTREAM__SCHEMA_REGISTRY__URL", registry),
            ("KSTREAM__WINDOW__SIZE", "20s".to_owned()),
            // The mock cannot tell offsets by time.
            ("KSTREAM__TOPICS__RETENTION", "36500d".to_owned()),
        ];
        let config: Config = load_from(None, variables.map(|(key, value)| (key.to_owned(), value))).unwrap();
        let (windowing, fingerprint) = config.windowing().unwrap();
        let metrics = Metrics::new("test");
        let runtime = tokio::runtime::Handle::current();
        let mut inspected_kafka = config.kafka.clone();
        if let Some(inspected) = inspected {
            inspected_kafka.bootstrap_servers.clone_from(&inspected.address);
        }
        let transactions = Transactions::new(&inspected_kafka, "test", Vec::new(), None, &metrics, runtime);
        let pairs = ThreadBuilder {
            registry: Registry::new(&config.schema_registry).unwrap(),
            config: Arc::new(config),
            windowing,
            fingerprint,
            schemas: SchemaIds { candles: CANDLE_ID, averages: AVERAGE_ID, watermarks: Some(WATERMARK_ID) },
            runtime: tokio::runtime::Handle::current(),
            metrics: AggregatorMetrics::new(&metrics),
            transactions,
            health: Health::new(),
            shutdown: Shutdown::new(),
        };
        let (made, seat) = (pairs.clone(), pairs.members().remove(0));
        let pair = Some(std::thread::spawn(move || made.make(seat)?.run()));
        Self { cluster, pairs, pair }
    }

    fn producer(&self) -> BaseProducer {
        client::config(&self.pairs.config.kafka, "test", &Role::Producer).create().unwrap()
    }

    /// The first `count` records of a topic.
    fn read(&self, topic: &str, count: usize) -> Vec<OwnedMessage> {
        let consumer: BaseConsumer =
            client::config(&self.pairs.config.kafka, "test", &Role::Reader).create().unwrap();
        let mut all = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            all.add_partition_offset(topic, partition, rdkafka::Offset::Beginning).unwrap();
        }
        consumer.assign(&all).unwrap();
        (0..count)
            .map(|read| match consumer.poll(PATIENCE) {
                Some(record) => record.unwrap().detach(),
                None => panic!("{topic} has {read} records, not {count}"),
            })
            .collect()
    }

    fn stop(mut self) {
        self.pairs.shutdown.request("test");
        self.pair.take().unwrap().join().unwrap().unwrap();
        drop(self.cluster);
    }
}

/// A broker that knows no request about transactions, and hangs up while it is told to.
struct Inspected {
    address: String,
    hangs_up: Arc<AtomicBool>,
    hung_up: Arc<AtomicU32>,
}

impl Inspected {
    async fn listen() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (hangs_up, hung_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let inspected = Self { address, hangs_up: hangs_up.clone(), hung_up: hung_up.clone() };
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                if hangs_up.load(Ordering::Relaxed) {
                    hung_up.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                // The length, then kind, version and number of the request.
                let mut request = [0; 12];
                connection.read_exact(&mut request).await.unwrap();
                // As ApiVersions 0: no error, and no kind of request.
                let response = [&[0, 0, 0, 10], &request[8..], &[0; 6]].concat();
                connection.write_all(&response).await.unwrap();
                // The client hangs up.
                connection.read_to_end(&mut Vec::new()).await.ok();
            }
        });
        inspected
    }
}

async fn registry(failures: u32) -> String {
    let left = Arc::new(AtomicU32::new(failures));
    let schema = async move || {
        let fails =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok();
        if fails {
            return (
                StatusCode::INTERNAL_SERVER_ERROR,
                r#"{"error_code":50001,"message":"not now"}"#.to_owned(),
            );
        }
        (StatusCode::OK, serde_json::json!({ "schema": TRADE.text }).to_string())
    };
    let unknown = async || (StatusCode::NOT_FOUND, r#"{"error_code":40403,"message":"schema not found"}"#);
    let router = Router::new()
        .route(&format!("/schemas/ids/{TRADE_ID}"), get(schema))
        .route("/schemas/ids/{id}", get(unknown));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

fn trade(instrument: &str, timestamp: i64, price: f64) -> Trade<'_> {
    Trade { instrument_name: Cow::Borrowed(instrument), timestamp, price, amount: 2.0, ..Trade::default() }
}

fn encoded(trade: &Trade<'_>) -> Vec<u8> {
    let mut value = Vec::new();
    Encoder::new(&TRADE, TRADE_ID).encode(trade, &mut value).unwrap();
    value
}

fn decoded<T: DeserializeOwned>(contract: &'static Contract, id: u32, record: &OwnedMessage) -> T {
    let mut decoder = Decoder::new(contract);
    decoder.learn(id, contract.schema.clone());
    decoder.decode(record.payload().unwrap()).unwrap()
}

fn send(producer: &BaseProducer, partition: i32, timestamp: i64, value: Option<&[u8]>) {
    let mut record: BaseRecord<'_, [u8], [u8]> =
        BaseRecord::to(TOPICS[0]).key(b"A".as_slice()).partition(partition).timestamp(timestamp);
    record.payload = value;
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

fn send_trades(producer: &BaseProducer, partition: i32, times_and_prices: &[(i64, f64)]) {
    for (timestamp, price) in times_and_prices {
        send(producer, partition, *timestamp, Some(&encoded(&trade("A", *timestamp, *price))));
    }
    producer.flush(PATIENCE).unwrap();
}

fn headers(record: &OwnedMessage) -> BTreeMap<String, String> {
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
    headers.map(|header| (header.key.to_owned(), text(header.value))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn trades_become_candles_and_averages_in_the_partition_they_came_from() {
    let rig = Rig::start(0).await;
    send_trades(&rig.producer(), 1, &[(1_000, 10.0), (5_000, 20.0), (15_000, 30.0), (40_000, 40.0)]);

    let candles = rig.read(TOPICS[1], 2);
    let spans: Vec<_> = candles
        .iter()
        .map(|record| {
            let candle: Candle<'_> = decoded(&CANDLE, CANDLE_ID, record);
            (candle.start, candle.end, candle.trade_count, candle.open, candle.close)
        })
        .collect();
    assert_eq!(spans, [(0, 10_000, 2, 10.0, 20.0), (10_000, 20_000, 1, 30.0, 30.0)]);
    assert_eq!(headers(&candles[0]), BTreeMap::from([("group".to_owned(), "agg-producer".to_owned())]));

    let averages = rig.read(TOPICS[2], 3);
    let means: Vec<_> = averages
        .iter()
        .map(|record| {
            let average: MovingAverage<'_> = decoded(&MOVING_AVERAGE, AVERAGE_ID, record);
            (average.window_start, average.window_end, average.sma)
        })
        .collect();
    assert_eq!(means, [(-10_000, 10_000, 15.0), (0, 20_000, 20.0), (10_000, 30_000, 30.0)]);
    for record in candles.iter().chain(&averages) {
        assert_eq!((record.partition(), record.key()), (1, Some(b"A".as_slice())));
    }
    assert_eq!(averages[2].timestamp().to_millis(), Some(30_000));
    rig.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_enters_no_window_goes_aside_as_it_came_and_says_why() {
    let rig = Rig::start(0).await;
    let producer = rig.producer();
    send_trades(&producer, 0, &[(1_000, 10.0), (12_000, 20.0), (9_000, 30.0)]);
    send(&producer, 1, 1_000, None);
    send(&producer, 1, 1_000, Some(b"hello"));
    send(&producer, 1, 1_000, Some(&[0, 0, 0, 0, 99, 1]));
    send(&producer, 1, 1_000, Some(&encoded(&trade("A", 999, 1.0))));
    send(&producer, 1, 1_000, Some(&encoded(&trade("A", 1_000, f64::NAN))));
    send(&producer, 1, 1_000, Some(&encoded(&trade("A\0", 1_000, 1.0))));
    producer.flush(PATIENCE).unwrap();

    let late = &rig.read(TOPICS[3], 1)[0];
    assert_eq!(late.payload(), Some(encoded(&trade("A", 9_000, 30.0)).as_slice()));
    assert_eq!((late.partition(), late.timestamp().to_millis()), (0, Some(9_000)));
    let expected = [("slice_end", "10000"), ("slice_start", "0"), ("stream_time", "12000")];
    assert_eq!(headers(late), expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into());

    let set_aside = rig.read(TOPICS[4], 6);
    let told: Vec<_> = set_aside.iter().map(headers).collect();
    let reasons = [
        "the value is null",
        "not in the wire format",
        "the schema registry knows no schema 99",
        "the trade's timestamp is 999, the record's 1000",
        "the price is NaN",
        "the instrument name has control characters",
    ];
    for ((headers, reason), offset) in told.iter().zip(reasons).zip(0..) {
        assert!(headers["__streams.errors.message"].contains(reason), "{headers:?}");
        assert_eq!(headers["__streams.errors.topic"], TOPICS[0]);
        assert_eq!(headers["__streams.errors.partition"], "1");
        assert_eq!(headers["__streams.errors.offset"], offset.to_string());
    }
    assert_eq!(set_aside[0].payload(), None);
    assert_eq!(set_aside[1].payload(), Some(b"hello".as_slice()));
    assert_eq!(
        (set_aside[1].key(), set_aside[1].timestamp().to_millis()),
        (Some(b"A".as_slice()), Some(1_000))
    );
    rig.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_registry_is_away_nothing_is_judged_and_afterwards_nothing_is_missing() {
    let rig = Rig::start(4).await;
    send_trades(&rig.producer(), 0, &[(1_000, 10.0), (2_000, 20.0), (3_000, 60.0), (12_000, 1.0)]);
    let average: MovingAverage<'_> = decoded(&MOVING_AVERAGE, AVERAGE_ID, &rig.read(TOPICS[2], 1)[0]);
    assert_eq!((average.trade_count, average.sma, average.open, average.close), (3, 30.0, 10.0, 60.0));
    rig.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_answers_with_errors_for_a_while_costs_nothing() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let rig = Rig::start(0).await;
    let producer = rig.producer();
    send_trades(&producer, 0, &[(1_000, 10.0), (12_000, 20.0)]);
    rig.read(TOPICS[2], 1);
    let coordinator_moves = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR; 2];
    rig.cluster.request_errors(RDKafkaApiKey::AddOffsetsToTxn, &coordinator_moves);
    let in_doubt = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 2];
    rig.cluster.request_errors(RDKafkaApiKey::EndTxn, &in_doubt);
    send_trades(&producer, 0, &[(25_000, 30.0)]);
    let average: MovingAverage<'_> = decoded(&MOVING_AVERAGE, AVERAGE_ID, &rig.read(TOPICS[2], 2)[1]);
    assert_eq!((average.window_end, average.sma), (20_000, 15.0));
    rig.stop();
}

/// Behind a lost connection nothing is committed before it is known that no earlier transaction is open.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_held_comes_as_soon_as_kafka_answers_what_is_open() {
    let inspected = Inspected::listen().await;
    let rig = Rig::start_asking(0, |_| {}, Some(&inspected)).await;
    let producer = rig.producer();
    send_trades(&producer, 0, &[(1_000, 10.0), (12_000, 20.0)]);
    rig.read(TOPICS[2], 1);
    inspected.hangs_up.store(true, Ordering::Relaxed);
    rig.cluster.broker_down(1).unwrap();
    rig.cluster.broker_up(1).unwrap();
    send_trades(&producer, 0, &[(25_000, 30.0)]);
    let until = Instant::now() + PATIENCE;
    while inspected.hung_up.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < until, "nobody asks what is open");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    inspected.hangs_up.store(false, Ordering::Relaxed);
    let average: MovingAverage<'_> = decoded(&MOVING_AVERAGE, AVERAGE_ID, &rig.read(TOPICS[2], 2)[1]);
    assert_eq!((average.window_end, average.sma), (20_000, 15.0));
    rig.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_are_not_told_are_asked_for_again_and_never_taken_for_none() {
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    let away =
        [RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_COORDINATOR, RDKafkaRespErr::RD_KAFKA_RESP_ERR__TIMED_OUT];
    let rig = Rig::start_after(0, |cluster| {
        cluster.request_errors(RDKafkaApiKey::OffsetFetch, &[away, away, away].concat());
    })
    .await;
    send_trades(&rig.producer(), 0, &[(1_000, 10.0), (12_000, 20.0)]);
    let average: MovingAverage<'_> = decoded(&MOVING_AVERAGE, AVERAGE_ID, &rig.read(TOPICS[2], 1)[0]);
    assert_eq!((average.window_end, average.sma), (10_000, 10.0));
    rig.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_instruments_close_by_the_producers_watermark_in_its_own_partition() {
    let rig = Rig::start(0).await;
    let producer = rig.producer();
    send_trades(&producer, 1, &[(1_000, 10.0), (5_000, 20.0)]);
    for (partition, offset) in [(0, 0), (1, 2)] {
        let watermark = Watermark { partition, complete_through: 12_000, offset };
        let mut value = Vec::new();
        Encoder::new(&WATERMARK, WATERMARK_ID).encode(&watermark, &mut value).unwrap();
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(TOPICS[5]).partition(partition);
        producer.send(record.payload(&value)).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(PATIENCE).unwrap();
    let average: MovingAverage<'_> = decoded(&MOVING_AVERAGE, AVERAGE_ID, &rig.read(TOPICS[2], 1)[0]);
    assert_eq!((average.window_end, average.trade_count, average.sma), (10_000, 2, 15.0));
    // By what the producer said this one cannot be; but if it comes, it is late.
    send_trades(&producer, 1, &[(9_000, 30.0)]);
    assert_eq!(headers(&rig.read(TOPICS[3], 1)[0])["stream_time"], "12000");
    rig.stop();
}
