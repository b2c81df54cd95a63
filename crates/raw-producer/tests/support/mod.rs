//! A simulated exchange, the service, and a reader that holds one against the other.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use common::Failure;
use common::avro::codec::Decoder;
use common::avro::schema::{TRADE, WATERMARK};
use common::config::{KafkaConfig, load_from};
use common::kafka::client::{self, Role};
use common::model::{Trade, Watermark};
use common::shutdown::Shutdown;
use deribit_sim::Simulator;
use deribit_sim::market::Millis;
use raw_producer::publish::state::Topic;
use raw_producer::{App, Config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::{Message as _, Offset, TopicPartitionList};
use tokio::task::JoinHandle;

pub(crate) const PARTITIONS: i32 = 6;

/// A record as it stands in a topic.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    pub(crate) key: String,
    pub(crate) timestamp: i64,
    pub(crate) value: Vec<u8>,
}

/// Names of topics that no other test has.
pub(crate) fn topic(test: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("it-{test}-{}-{}.trades", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn exchange(settings: &[(&str, &str)]) -> Simulator {
    let own = [("LISTEN", "127.0.0.1:0"), ("MARKET__RATE", "300")];
    let all = own.iter().chain(settings).map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
    let config: deribit_sim::Config = load_from(None, all).unwrap();
    Simulator::start(&config).await.unwrap()
}

pub(crate) fn config(url: &str, topic: &str, settings: &[(&str, &str)]) -> Config {
    let dead_letter = format!("{topic}.dlq");
    let own = [
        ("DERIBIT__URL", url),
        ("TOPICS__TRADES", topic),
        ("TOPICS__DEAD_LETTER", &dead_letter),
        ("ADMIN__LISTEN", "127.0.0.1:0"),
        ("TRACING__ZIPKIN_URL", ""),
        ("SEQUENCE__RECONCILE_INTERVAL", "2s"),
    ];
    let all = own.iter().chain(settings).map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
    let given = std::env::vars().filter(|(key, _)| key.starts_with("KSTREAM__"));
    load_from(None, given.chain(all)).unwrap()
}

pub(crate) fn url(exchange: &Simulator) -> String {
    format!("ws://{}/ws/api/v2", exchange.addr())
}

/// A service that runs.
pub(crate) struct Running {
    shutdown: Shutdown,
    task: JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let shutdown = Shutdown::new();
        let app = App::build(config).await.unwrap();
        let task = tokio::spawn(app.run(shutdown.clone()));
        Self { shutdown, task }
    }

    pub(crate) async fn stop(self) -> Result<(), Failure> {
        self.shutdown.request("test");
        self.task.await.unwrap()
    }

    /// How it ends by itself.
    pub(crate) async fn end(self) -> Result<(), Failure> {
        self.task.await.unwrap()
    }
}

/// Longer than anything takes that happens at all, on any machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until the topic says that it is whole for `more` milliseconds beyond the exchange's present time.
pub(crate) async fn until_whole(kafka: &KafkaConfig, topic: &str, (exchange, more): (&Simulator, u64)) {
    let through = i64::try_from(exchange.clock().now().plus(more).0).unwrap();
    until(&format!("{topic} is whole through {through}"), || {
        let state = tokio::task::block_in_place(|| find_state(kafka, topic));
        state.is_some_and(|state| state.reconciled_through >= through)
    })
    .await;
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "still waiting: {what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Everything readable in a topic, in order of each partition.
pub(crate) fn read(kafka: &KafkaConfig, topic: &str, partitions: i32) -> Vec<Record> {
    try_read(kafka, topic, partitions).unwrap_or_else(|error| panic!("{topic}: {error}"))
}

fn try_read(kafka: &KafkaConfig, topic: &str, partitions: i32) -> Result<Vec<Record>, KafkaError> {
    let mut settings = client::config(kafka, "test", &Role::Reader);
    settings.set("enable.partition.eof", "true");
    let reader: BaseConsumer = settings.create().unwrap();
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    reader.assign(&assignment).unwrap();
    let (mut open, mut records, end) = (partitions, Vec::new(), Instant::now() + PATIENCE);
    while open > 0 {
        assert!(Instant::now() < end, "{topic} cannot be read to its end");
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => records.push(Record {
                partition: record.partition(),
                offset: record.offset(),
                key: String::from_utf8(record.key().unwrap_or_default().to_vec()).unwrap(),
                timestamp: record.timestamp().to_millis().unwrap_or_default(),
                value: record.payload().unwrap_or_default().to_vec(),
            }),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(records)
}

/// The trades of a topic.
pub(crate) fn trades(records: &[Record]) -> Vec<Trade<'static>> {
    let mut decoder = Decoder::<Trade<'static>>::new(&TRADE);
    let decode = |record: &Record| {
        let id = u32::from_be_bytes(record.value[1..5].try_into().unwrap());
        decoder.learn(id, TRADE.schema.clone());
        decoder.decode(&record.value).unwrap()
    };
    records.iter().map(decode).collect()
}

/// Where the topic starts, and up to where it was found whole.
pub(crate) fn state(kafka: &KafkaConfig, topic: &str) -> Topic {
    find_state(kafka, topic).expect("the topic has a start")
}

/// Nothing while there is no such topic, or nothing in it.
fn find_state(kafka: &KafkaConfig, topic: &str) -> Option<Topic> {
    let records = try_read(kafka, &format!("{topic}.sequences"), 1).ok()?;
    let last = records.iter().rfind(|record| record.key == ":topic")?;
    Some(serde_json::from_slice(&last.value).unwrap())
}

/// Holds the topic against the exchange, from the topic's start up to where it says that it is whole (behind that, trades may have
/// waited for others when the service was stopped): everything once, in order, field by field. Tells how many trades were compared.
pub(crate) fn compare(kafka: &KafkaConfig, topic: &str, exchange: &Simulator) -> usize {
    let found = trades(&read(kafka, topic, PARTITIONS));
    let Topic { start, reconciled_through: until } = state(kafka, topic);
    let mut expected: BTreeMap<String, Vec<Trade<'static>>> = BTreeMap::new();
    let millis = |time: i64| Millis(u64::try_from(time).unwrap());
    for trade in exchange.market().trades(millis(start)..millis(until)) {
        let name = trade.instrument_name.to_string();
        expected.entry(name).or_default().push(as_published(&trade.to_json()));
    }
    let mut all: BTreeMap<String, Vec<Trade<'static>>> = BTreeMap::new();
    for trade in found {
        all.entry(trade.instrument_name.to_string()).or_default().push(Trade { received_at: 0, ..trade });
    }
    let mut compared = 0;
    for (name, found) in &all {
        let steps = found.windows(2).find(|pair| pair[1].trade_seq != pair[0].trade_seq + 1);
        assert!(steps.is_none(), "{name} goes up by one: {steps:?}");
        let first = found.first().map_or(0, |trade| trade.timestamp);
        assert!(first >= start, "{name}: {first} is before the topic's start {start}");
    }
    for (name, mut expected) in expected {
        let mut found: Vec<_> = all.remove(&name).unwrap_or_default();
        expected.sort_by_key(|trade| trade.trade_seq);
        found.retain(|trade| trade.timestamp < until);
        let numbers = |trades: &[Trade<'_>]| trades.iter().map(|t| t.trade_seq).collect::<Vec<_>>();
        assert_eq!(numbers(&found), numbers(&expected), "{name}");
        assert_eq!(found, expected, "{name}");
        compared += found.len();
    }
    assert!(compared > 0, "nothing was compared");
    compared
}

fn as_published(json: &str) -> Trade<'static> {
    let frame = format!(r#"{{"method":"subscription","params":{{"channel":"trades.x","data":[{json}]}}}}"#);
    match raw_producer::deribit::message::parse(&frame, 0) {
        Ok(raw_producer::deribit::message::Frame::Trades(bundle)) => match bundle.trades.into_iter().next() {
            Some(raw_producer::deribit::message::Readable::Trade(trade)) => trade.into_owned(),
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// Holds every watermark of the topic against its trades; tells how many there were.
pub(crate) fn check_watermarks(kafka: &KafkaConfig, topic: &str) -> usize {
    let records = read(kafka, topic, PARTITIONS);
    let mut decoder = Decoder::<Watermark>::new(&WATERMARK);
    let marks = read(kafka, &format!("{topic}.watermarks"), PARTITIONS);
    for mark in &marks {
        let id = u32::from_be_bytes(mark.value[1..5].try_into().unwrap());
        decoder.learn(id, WATERMARK.schema.clone());
        let Watermark { partition, complete_through, offset } = decoder.decode(&mark.value).unwrap();
        assert_eq!((mark.partition, mark.key.as_str()), (partition, partition.to_string().as_str()));
        let of = records.iter().filter(|record| record.partition == partition);
        let behind = of.clone().find(|r| r.timestamp <= complete_through && r.offset >= offset);
        assert!(behind.is_none(), "{complete_through} at {offset}: {behind:?}");
        assert!(
            of.clone().any(|record| record.offset + 1 == offset) || offset == 0,
            "{offset} is behind a trade"
        );
    }
    marks.len()
}
