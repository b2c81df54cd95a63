//! A transaction that Kafka leaves open is ended as its coordinator decided it, on every kind of topic; one with a living owner is not.
//!
//! A lost marker is what a broker leaves that stops between a coordinator's decision and its marker. Here the coordinator decides a
//! transaction, and then a record of the same producer and epoch is written that it knows nothing of: the same state.

use std::time::{Duration, Instant};

use common::admin::Health;
use common::config::{KafkaConfig, TopicsConfig};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{Role, config};
use common::kafka::hanging_transactions::Transactions;
use common::metrics::Metrics;
use common::shutdown::Shutdown;
use e2e::fixtures::now_millis;
use e2e::ingest::IngestFixture;
use e2e::load::LoadProfile;
use e2e::servers::Servers;
use e2e::wire_producer::{WireProducer, verify_transactions};
use e2e::{PATIENCE, eventually};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::{Mutex, MutexGuard};

use crate::aggregators::Aggregators;

/// The only broker of the tests' servers.
const BROKER: i32 = 1;
/// Longer than a dead owner has before the monitor ends a transaction.
const OWNER_MUST_BE_WAITED_FOR: Duration = Duration::from_secs(25);

/// Whether the broker verifies transactions holds for all tests of this file, so one runs at a time.
static UNVERIFIED: Mutex<()> = Mutex::const_new(());

struct Unverified {
    kafka: KafkaConfig,
    _alone: MutexGuard<'static, ()>,
}

impl Unverified {
    async fn begin(kafka: &KafkaConfig) -> Self {
        let alone = UNVERIFIED.lock().await;
        verify_transactions(kafka, BROKER, false).await.unwrap();
        Self { kafka: kafka.clone(), _alone: alone }
    }

    async fn end(self) {
        verify_transactions(&self.kafka, BROKER, true).await.unwrap();
    }
}

/// Leaves a transaction of `id` hanging in partition 0 of `topic`, with this record.
async fn lose_marker(kafka: &KafkaConfig, id: &str, topic: &str, is_committed: bool, value: &[u8]) {
    let mut producer = WireProducer::fence(kafka, id, 10_000).await.unwrap();
    producer.add_partition(topic, 0).await.unwrap();
    producer.produce(topic, 0, Some(b"key"), b"decided", now_millis()).await.unwrap();
    producer.end(is_committed).await.unwrap();
    producer.produce(topic, 0, Some(b"key"), value, now_millis()).await.unwrap();
}

/// What a read-committed reader finds in partition 0, and whether it can read to the end of the log.
fn read(kafka: &KafkaConfig, topic: &str) -> (Vec<String>, bool) {
    let reader: BaseConsumer = config(kafka, "e2e", &Role::Reader).create().unwrap();
    let uncommitted: BaseConsumer = config(kafka, "e2e", &Role::UncommittedReader).create().unwrap();
    let readable = reader.fetch_watermarks(topic, 0, PATIENCE).unwrap().1;
    let written = uncommitted.fetch_watermarks(topic, 0, PATIENCE).unwrap().1;
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(topic, 0, Offset::Beginning).unwrap();
    reader.assign(&from).unwrap();
    let mut values = Vec::new();
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(record) = reader.poll(Duration::from_millis(50)) {
            let record = record.unwrap();
            values.push(String::from_utf8_lossy(record.payload().unwrap()).into_owned());
        }
        let position = reader.position().unwrap();
        let is_read =
            |at: &TopicPartitionListElem<'_>| matches!(at.offset(), Offset::Offset(at) if at >= readable);
        if readable == 0 || position.elements().iter().all(is_read) {
            break;
        }
    }
    (values, readable == written)
}

/// Topics of one partition, which no service knows.
fn own_topics() -> TopicsConfig {
    let name = |kind: &str| format!("hanging-{kind}-{}", std::process::id());
    TopicsConfig {
        partitions: 1,
        replication_factor: -1,
        retention: common::config::Duration(Duration::from_secs(30 * 24 * 3_600)),
        trades: name("t"),
        candles: name("c"),
        moving_averages: name("m"),
        late: name("l"),
        dead_letter: name("d"),
    }
}

fn committed(kafka: &KafkaConfig, group: &str, topic: &str) -> Option<i64> {
    let role = Role::GroupObserver { group_id: group.to_owned() };
    let observer: BaseConsumer = config(kafka, "e2e", &role).create().unwrap();
    let mut asked = TopicPartitionList::new();
    asked.add_partition(topic, 0);
    let told = observer.committed_offsets(asked, Duration::from_secs(3)).ok()?;
    told.elements().first().and_then(|element| element.offset().to_raw())
}

/// Watches until dropped.
struct Watching {
    metrics: Metrics,
    shutdown: Shutdown,
}

impl Watching {
    fn begin(kafka: &KafkaConfig, topics: &[String], group: Option<&str>) -> Self {
        let (metrics, health, shutdown) = (Metrics::new("test"), Health::new(), Shutdown::new());
        let runtime = tokio::runtime::Handle::current();
        let group = group.map(str::to_owned);
        let transactions = Transactions::new(kafka, "test", topics.to_vec(), group, &metrics, runtime);
        tokio::spawn(transactions.monitor(health.component("transactions")).run(shutdown.clone()));
        Self { metrics, shutdown }
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().lines().any(|shown| shown == line)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.shutdown.request("the test is over");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_marker_is_written_as_the_coordinator_decided_and_a_living_owner_is_waited_for() {
    let kafka = Servers::find().unwrap().kafka().unwrap();
    let name = |kind: &str| format!("hanging-{kind}-{}", std::process::id());
    let topics_config = own_topics();
    let plain = |kind: &str| TopicSpec::keyed("topics.trades", &name(kind), &topics_config);
    let compacted = |kind: &str| TopicSpec { compacted: true, retention: None, ..plain(kind) };
    let specs = [
        plain("committed"),
        plain("aborted"),
        compacted("compacted-committed"),
        compacted("compacted-aborted"),
        plain("abandoned"),
        plain("living"),
    ];
    ensure_topics(&kafka, "e2e", &specs, PATIENCE).await.unwrap();
    let topics: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    let unverified = Unverified::begin(&kafka).await;
    for (topic, is_committed) in topics.iter().zip([true, false, true, false]) {
        lose_marker(&kafka, &format!("{topic}-id"), topic, is_committed, b"hanging").await;
    }
    for (topic, timeout) in [(&topics[4], 5_000), (&topics[5], 120_000)] {
        let mut producer = WireProducer::fence(&kafka, &format!("{topic}-id"), timeout).await.unwrap();
        producer.add_partition(topic, 0).await.unwrap();
        producer.produce(topic, 0, None, b"open", now_millis()).await.unwrap();
    }
    assert!(topics.iter().all(|topic| !read(&kafka, topic).1), "each holds a transaction open");

    let watching = Watching::begin(&kafka, &topics, None);
    let begun = Instant::now();
    for (topic, expected) in
        topics.iter().zip([vec!["decided", "hanging"], vec![], vec!["decided", "hanging"], vec![], vec![]])
    {
        let readable = async || Ok(read(&kafka, topic).1);
        eventually(PATIENCE, &format!("{topic} is readable to its end"), readable).await.unwrap();
        assert_eq!(read(&kafka, topic).0, expected, "{topic}");
    }
    println!("four hanging transactions were ended within {:.1?}", begun.elapsed());
    assert!(watching.shows("test_hanging_transactions_ended_total{outcome=\"commit\"} 2"));
    assert!(watching.shows("test_hanging_transactions_ended_total{outcome=\"abort\"} 2"));
    tokio::time::sleep(OWNER_MUST_BE_WAITED_FOR.saturating_sub(begun.elapsed())).await;
    assert!(!read(&kafka, &topics[5]).1, "a living owner's transaction is not ended");
    unverified.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_of_a_lost_marker_are_told_again_as_the_coordinator_decided() {
    let kafka = Servers::find().unwrap().kafka().unwrap();
    let topic = own_topics().trades;
    let spec = TopicSpec::keyed("topics.trades", &topic, &own_topics());
    ensure_topics(&kafka, "e2e", &[spec], PATIENCE).await.unwrap();
    let unverified = Unverified::begin(&kafka).await;
    let mut watching = Vec::new();
    for (is_committed, expected) in [(true, 9), (false, 5)] {
        let group = format!("hanging-offsets-{is_committed}-{}", std::process::id());
        let mut producer = WireProducer::fence(&kafka, &format!("{group}-id"), 10_000).await.unwrap();
        for (offset, is_committed) in [(5, true), (6, is_committed)] {
            producer.add_offsets(&group).await.unwrap();
            producer.commit_offset(&group, &topic, 0, offset).await.unwrap();
            producer.end(is_committed).await.unwrap();
        }
        producer.commit_offset(&group, &topic, 0, 9).await.unwrap();
        assert_eq!(committed(&kafka, &group, &topic), None, "an open transaction hides them");
        watching.push((Watching::begin(&kafka, &[], Some(&group)), group, expected));
    }
    for (_, group, expected) in &watching {
        let told = async || Ok(committed(&kafka, group, &topic) == Some(*expected));
        eventually(PATIENCE, &format!("the offsets of {group}"), told).await.unwrap();
    }
    unverified.end().await;
}

/// A member that is gone has left a transaction open in each output topic; candles that the next start needs lie behind it.
#[tokio::test(flavor = "multi_thread")]
async fn an_aggregator_restores_behind_a_transaction_that_a_member_left_open_which_is_gone() {
    let profile = LoadProfile { disordered: 10, old: 5, garbage: 2, foreign: 20 };
    let mut group = Aggregators::create("hanging-restore", 2, 20, profile).await.unwrap();
    group.batch_millis = 6_000;
    let kafka = group.pipeline.harness.servers.kafka().unwrap();
    group.start(0).unwrap();
    for _ in 0..5 {
        group.produce().unwrap();
    }
    group.pipeline.group().unwrap().wait_until_all_read().await.unwrap();
    let unverified = Unverified::begin(&kafka).await;
    let TopicsConfig { candles, moving_averages, late, dead_letter, .. } = &group.pipeline.topics;
    for (thread, topic) in [candles, moving_averages, late, dead_letter].into_iter().enumerate() {
        // Its coordinator aborted it: nothing of it is ever read, so it need not be a candle.
        let id = format!("{}-9-{thread}", group.pipeline.group_id());
        lose_marker(&kafka, &id, topic, false, b"hanging").await;
    }
    for _ in 0..5 {
        group.produce().unwrap();
    }
    group.pipeline.group().unwrap().wait_until_all_read().await.unwrap();
    group.kill(0).unwrap();
    group.start(0).unwrap();
    group.produce().unwrap();
    group.compare().await.unwrap();
    unverified.end().await;
}

/// What the raw producer itself has left open is ended before it reads what was published.
#[tokio::test(flavor = "multi_thread")]
async fn a_raw_producer_ends_what_an_earlier_one_left_open_and_every_trade_is_there_once() {
    let ingest = IngestFixture::open("hanging", "", &[]).await.unwrap();
    let kafka = ingest.harness.servers.kafka().unwrap();
    let producer = ingest.produce().unwrap();
    ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    let unverified = Unverified::begin(&kafka).await;
    let id = format!("{}.raw-producer", ingest.topic());
    for topic in [ingest.topic().to_owned(), format!("{}.sequences", ingest.topic())] {
        lose_marker(&kafka, &id, &topic, false, b"hanging").await;
    }
    let producer = ingest.produce().unwrap();
    producer.wait_until_ready().await.unwrap();
    let through = ingest.wait_until_reconciled(&producer).await.unwrap();
    producer.stop().await.unwrap();
    ingest.compare(through).await.unwrap();
    ingest.check_watermarks().await.unwrap();
    unverified.end().await;
}
