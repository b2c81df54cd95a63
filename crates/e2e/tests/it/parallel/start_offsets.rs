//! Where the aggregator starts, and where it refuses to: whatever has become of the group's offsets, it never publishes wrong numbers. A
//! refusal is 78 and names the way to reset the group.

use std::collections::BTreeSet;

use anyhow::bail;
use common::avro::schema::MOVING_AVERAGE;
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{Role, config};
use common::model::MovingAverage;
use e2e::fixtures::now_millis;
use e2e::load::{LoadGenerator, LoadProfile};
use e2e::metric_names::{AGGREGATOR_OPEN_TRANSACTION_AGE, PARTITIONS_LIVE};
use e2e::pipeline::Pipeline;
use e2e::topic::{DecodedTopic, TopicRecord};
use e2e::{Harness, PATIENCE, Service, eventually};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

const CONFIG: i32 = 78;
const MINUTE: u32 = 60_000;
const DAY: i64 = 24 * 3_600_000;

/// A group that has read ten minutes of trades, and was stopped.
struct StoppedGroup {
    pipeline: Pipeline,
    load: LoadGenerator,
    admin: AdminClient<DefaultClientContext>,
}

impl StoppedGroup {
    async fn create(test: &str) -> Self {
        let pipeline = Pipeline::create(&Harness::new(test).unwrap(), 2).await.unwrap();
        let mut load =
            LoadGenerator::new(&pipeline, 20, LoadProfile::REGULAR, now_millis() - 3_600_000).unwrap();
        load.write(1_000, 10 * MINUTE).unwrap();
        let group = Self::of(pipeline, load);
        group.run().await;
        group
    }

    fn of(pipeline: Pipeline, load: LoadGenerator) -> Self {
        let kafka = pipeline.harness.servers.kafka().unwrap();
        let admin = config(&kafka, "e2e", &Role::Admin).create().unwrap();
        Self { pipeline, load, admin }
    }

    /// Runs an aggregator until it has read everything.
    async fn run(&self) {
        self.run_to_end(self.spawn()).await;
    }

    fn spawn(&self) -> Service {
        self.pipeline.harness.spawn("agg-producer", &self.pipeline.launch("0")).unwrap()
    }

    async fn run_to_end(&self, process: Service) {
        self.pipeline.group().unwrap().wait_until_all_read().await.unwrap();
        process.stop().await.unwrap();
    }

    /// Starts an aggregator, with other settings, that must refuse to start and name these things.
    async fn check_refused(&self, changes: &[(&str, &str)], names: &[&str]) {
        let mut launch = self.pipeline.launch("0");
        for (key, value) in changes {
            launch = launch.set(key, *value);
        }
        self.pipeline.harness.run("agg-producer", &launch).await.unwrap().check(CONFIG, names).unwrap();
    }

    /// The keys of all averages.
    async fn averages(&self) -> Vec<(String, i64)> {
        let topics = &self.pipeline.topics;
        let topic =
            DecodedTopic::new(&self.pipeline.harness.servers, &topics.moving_averages, &MOVING_AVERAGE);
        let key =
            |average: MovingAverage<'static>| (average.instrument_name.into_owned(), average.window_end);
        topic.read().await.unwrap().into_iter().map(|record| key(record.value)).collect()
    }

    /// Writes other offsets over the group's, as kafka-consumer-groups would.
    async fn reset_offsets(&self, offset: i64, metadata: &str) {
        let mut offsets = TopicPartitionList::new();
        for partition in 0..self.pipeline.topics.partitions {
            let mut element = offsets.add_partition(&self.pipeline.topics.trades, partition);
            element.set_offset(Offset::Offset(offset)).unwrap();
            element.set_metadata(metadata);
        }
        let group = self.pipeline.group().unwrap();
        let commit = async || Ok(group.observer.commit(&offsets, CommitMode::Sync)?);
        once_the_member_is_gone(commit).await;
    }
}

/// A static member stays in its group until its session is over; meanwhile the attempt fails.
async fn once_the_member_is_gone(mut attempt: impl AsyncFnMut() -> anyhow::Result<()>) {
    let succeeds = async || attempt().await.map(|()| true);
    eventually(PATIENCE, "the member is gone", succeeds).await.unwrap();
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn all_done<T>(outcomes: KafkaResult<Vec<Result<T, (String, RDKafkaErrorCode)>>>) -> KafkaResult<()> {
    for outcome in outcomes? {
        outcome.map_err(|(_, code)| KafkaError::AdminOp(code))?;
    }
    Ok(())
}

/// Fails if a key is there twice.
fn as_set(keys: Vec<(String, i64)>) -> BTreeSet<(String, i64)> {
    let count = keys.len();
    let set: BTreeSet<_> = keys.into_iter().collect();
    assert_eq!(set.len(), count, "once each");
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn expired_offsets_do_not_publish_everything_again() {
    let group = StoppedGroup::create("start-expired").await;
    let published = group.averages().await;
    assert!(!published.is_empty());
    let (name, topics) = (group.pipeline.group_id(), &group.pipeline.topics);
    let delete = async || Ok(all_done(group.admin.delete_groups(&[&name], &options()).await)?);
    once_the_member_is_gone(delete).await;
    let names = [topics.candles.as_str(), "--delete-offsets", &name, "topics.candles"];
    group.check_refused(&[], &names).await;
    assert_eq!(group.averages().await, published);

    // The way out that the message names.
    let outputs = [topics.candles.as_str(), &topics.moving_averages, &topics.late];
    all_done(group.admin.delete_topics(&outputs, &options()).await).unwrap();
    group.run().await;
    assert_eq!(as_set(group.averages().await), as_set(published));
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_somebody_else_has_written_are_refused() {
    let group = StoppedGroup::create("start-foreign").await;
    let published = group.averages().await;
    group.reset_offsets(0, "").await;
    group.check_refused(&[], &["0", "\"\"", "--delete-offsets"]).await;
    group.reset_offsets(0, "somebody's").await;
    group.check_refused(&[], &["0", "\"somebody's\"", "--delete-offsets"]).await;
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_records_are_refused_whether_they_were_read_or_not() {
    let mut group = StoppedGroup::create("start-gone").await;
    let published = group.averages().await;
    group.load.write(1_000, MINUTE).unwrap();
    let trades = group.pipeline.topics.trades.clone();
    let mut before = TopicPartitionList::new();
    for partition in 0..2 {
        before.add_partition_offset(&trades, partition, Offset::End).unwrap();
    }
    group.admin.delete_records(&before, &options()).await.unwrap();
    group.check_refused(&[], &[&trades, "--delete-offsets"]).await;
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_candles_are_refused_if_a_window_needs_them() {
    let group = StoppedGroup::create("start-candles").await;
    let published = group.averages().await;
    let candles = group.pipeline.topics.candles.clone();
    let observer = group.pipeline.group().unwrap().observer;
    for left in [20, 0] {
        let mut before = TopicPartitionList::new();
        for partition in 0..2 {
            let (_, end) = observer.fetch_watermarks(&candles, partition, PATIENCE).unwrap();
            before.add_partition_offset(&candles, partition, Offset::Offset(end - left)).unwrap();
        }
        group.admin.delete_records(&before, &options()).await.unwrap();
        group.check_refused(&[], &[&candles, "--delete-offsets"]).await;
    }
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_trades_that_was_created_again_is_refused() {
    let mut group = StoppedGroup::create("start-anew").await;
    let published = group.averages().await;
    let trades = group.pipeline.topics.trades.clone();
    all_done(group.admin.delete_topics(&[&trades], &options()).await).unwrap();
    let spec = TopicSpec::trades(&group.pipeline.topics);
    let kafka = group.pipeline.harness.servers.kafka().unwrap();
    ensure_topics(&kafka, "e2e", &[spec], PATIENCE).await.unwrap();
    group.load.write(3_000, 10 * MINUTE).unwrap();
    group.check_refused(&[], &[&trades, "--delete-offsets"]).await;
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_under_anothers_open_transaction_are_waited_for() {
    let mut group = StoppedGroup::create("start-open").await;
    group.load.write(1_000, MINUTE).unwrap();
    let before = group.averages().await.len();
    let role =
        Role::TransactionalProducer { transactional_id: format!("{}.other", group.pipeline.group_id()) };
    let mut settings = config(&group.pipeline.harness.servers.kafka().unwrap(), "e2e", &role);
    // Longer than anything here takes.
    settings.set("transaction.timeout.ms", "600000");
    let other: BaseProducer = settings.create().unwrap();
    other.init_transactions(PATIENCE).unwrap();
    let (observer, mut zero) = (group.pipeline.group().unwrap().observer, TopicPartitionList::new());
    for partition in 0..2 {
        zero.add_partition_offset(&group.pipeline.topics.trades, partition, Offset::Offset(0)).unwrap();
    }
    let send = async || {
        other.begin_transaction()?;
        let sent = other.send_offsets_to_transaction(&zero, &observer.group_metadata().unwrap(), PATIENCE);
        if let Err(error) = sent {
            other.abort_transaction(PATIENCE)?;
            bail!(error);
        }
        Ok(())
    };
    once_the_member_is_gone(send).await;
    let process = group.spawn();
    // For so long that a hanging one would have been ended.
    process.wait_until_metric(AGGREGATOR_OPEN_TRANSACTION_AGE, 20.0).await.unwrap();
    assert!(process.not_ready().await.unwrap().is_some(), "it does not wait");
    other.abort_transaction(PATIENCE).unwrap();
    group.run_to_end(process).await;
    assert!(as_set(group.averages().await).len() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_windows_and_other_topics_are_refused_with_both_values() {
    let group = StoppedGroup::create("start-changed").await;
    for (key, value, names) in [
        ("WINDOW__SIZE", "1m", ["\"size_ms\":300000", "\"size_ms\":60000", "--delete-offsets"]),
        ("WINDOW__EMA_TAU", "7s", ["\"ema_tau_ms\":150000", "\"ema_tau_ms\":7000", "--delete-offsets"]),
    ] {
        group.check_refused(&[(key, value)], &names).await;
    }
    let elsewhere = format!("{}.elsewhere", group.pipeline.topics.trades);
    group.check_refused(&[("TOPICS__CANDLES", &elsewhere)], &[&elsewhere]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_group_is_kept_off_the_topics_of_the_first() {
    let group = StoppedGroup::create("start-second").await;
    let published = group.averages().await;
    let (first, topics) = (group.pipeline.group_id(), &group.pipeline.topics);
    group.check_refused(&[("GROUP_ID", "second")], &[&topics.candles, &first]).await;
    let own = format!("{}.own", topics.candles);
    group
        .check_refused(&[("GROUP_ID", "second"), ("TOPICS__CANDLES", &own)], &[&topics.moving_averages])
        .await;
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn added_partitions_are_refused_at_a_start_and_while_it_runs() {
    let group = StoppedGroup::create("start-more").await;
    let key = "KAFKA__PROPERTIES__topic_metadata_refresh_interval_ms";
    let launch = group.pipeline.launch("0").set(key, "500");
    let process = group.pipeline.harness.spawn("agg-producer", &launch).unwrap();
    process.wait_until_metric(PARTITIONS_LIVE, 1.0).await.unwrap();
    let trades = group.pipeline.topics.trades.clone();
    all_done(group.admin.create_partitions(&[NewPartitions::new(&trades, 3)], &options()).await).unwrap();
    process.exit(PATIENCE).await.unwrap().check(CONFIG, &["topics.partitions", "2"]).unwrap();
    group.check_refused(&[], &[&trades, "topics.partitions", "3", "2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_skips_what_its_topics_would_delete_at_once_and_publishes_whole_windows_only() {
    let pipeline = Pipeline::create(&Harness::new("start-old").unwrap(), 1).await.unwrap();
    let mut load = LoadGenerator::new(&pipeline, 1, LoadProfile::REGULAR, now_millis() - 40 * DAY).unwrap();
    load.write(100, 10 * MINUTE).unwrap();
    load.now = now_millis() - 29 * DAY - 5 * i64::from(MINUTE);
    load.write(1_200, 20 * MINUTE).unwrap();
    let group = StoppedGroup::of(pipeline, load);
    let before = now_millis() - 29 * DAY;
    group.run().await;
    let averages = group.averages().await;
    let earliest = averages.iter().map(|(_, end)| end - 300_000).min().unwrap();
    assert!((before..before + 120_000).contains(&earliest), "{earliest} against {before}");
    // One trade a second, so that a whole window shows by its count.
    let topics = &group.pipeline.topics;
    let topic = DecodedTopic::new(&group.pipeline.harness.servers, &topics.moving_averages, &MOVING_AVERAGE);
    let count = |record: TopicRecord<MovingAverage<'static>>| record.value.trade_count;
    let counts: Vec<_> = topic.read().await.unwrap().into_iter().map(count).collect();
    assert!(counts.iter().all(|count| *count == 300), "{counts:?}");
    group.run().await;
    assert_eq!(group.averages().await, averages, "a restart publishes nothing twice");
}
