//! Where the aggregator begins, and where it refuses to: whatever has become of the group's offsets, going on never gives wrong
//! numbers. A refusal is 78 and says how to begin anew.
//!
//! Needs `make servers`; `make test` does it.

#![expect(clippy::unwrap_used, reason = "a test may")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::avro::schema::MOVING_AVERAGE;
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{Role, config};
use common::model::MovingAverage;
use e2e::Stack;
use e2e::names::{OPEN_TRANSACTION_AGE, PARTITIONS_LIVE};
use e2e::pipeline::Pipeline;
use e2e::process::{Process, Signal, names, run_to_end};
use e2e::published::now;
use e2e::topic::Topic;
use e2e::unruly::{Load, Unruliness};
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{BaseProducer, Producer as _};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};

const PATIENCE: Duration = Duration::from_secs(120);
const MINUTE: u32 = 60_000;

/// A group that has read ten minutes of trades, and was stopped.
struct Group {
    pipeline: Pipeline,
    load: Load,
    admin: AdminClient<DefaultClientContext>,
}

impl Group {
    async fn that_has_run(name: &str) -> Self {
        let pipeline = Pipeline::make(&Stack::find().unwrap(), name, 2).await.unwrap();
        let mut load = Load::new(&pipeline, 20, Unruliness::NONE, now() - 3_600_000).unwrap();
        load.write(1_000, 10 * MINUTE).unwrap();
        let admin = config(&pipeline.stack.kafka().unwrap(), "e2e", &Role::Admin).create().unwrap();
        let group = Self { pipeline, load, admin };
        group.run();
        group
    }

    fn log(&self) -> PathBuf {
        std::env::temp_dir().join(format!("{}.log", self.pipeline.topics.trades))
    }

    /// Runs an aggregator until it has read everything.
    fn run(&self) {
        self.run_to_end(self.start());
    }

    fn start(&self) -> Process {
        let environment = self.pipeline.environment("0").unwrap();
        Process::start("agg-producer", &environment, &self.log()).unwrap()
    }

    fn run_to_end(&self, running: Process) {
        self.pipeline.wait_until_read().unwrap();
        running.signal(Signal::SIGTERM).unwrap();
        assert!(running.end(PATIENCE).unwrap().status.success());
    }

    /// Starts one that must end by itself with an error that names these things.
    fn refused(&self, changes: &[(&str, &str)], words: &[&str]) {
        let mut environment = self.pipeline.environment("0").unwrap();
        environment.extend(changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
        let environment: Vec<_> =
            environment.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let output = run_to_end("agg-producer", &[], &environment).unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{said}");
        for word in words {
            assert!(names(&said, word), "{word:?} is not in: {said}");
        }
    }

    async fn averages(&self) -> Vec<(String, i64)> {
        let topic = Topic::new(&self.pipeline.stack, &self.pipeline.topics.moving_averages, &MOVING_AVERAGE);
        let key =
            |average: MovingAverage<'static>| (average.instrument_name.into_owned(), average.window_end);
        topic.read().await.unwrap().into_iter().map(|record| key(record.value)).collect()
    }

    /// Writes other offsets where the group's stood, as kafka-consumer-groups would.
    fn reset_offsets(&self, offset: i64, metadata: &str) {
        let mut offsets = TopicPartitionList::new();
        for partition in 0..self.pipeline.topics.partitions {
            let mut element = offsets.add_partition(&self.pipeline.topics.trades, partition);
            element.set_offset(Offset::Offset(offset)).unwrap();
            element.set_metadata(metadata);
        }
        let observer = self.pipeline.observer().unwrap();
        when_the_member_is_gone(|| observer.commit(&offsets, CommitMode::Sync));
    }
}

/// A static member stays in its group until its session is over.
fn when_the_member_is_gone(mut attempt: impl FnMut() -> KafkaResult<()>) {
    let until = Instant::now() + PATIENCE;
    while let Err(error) = attempt() {
        assert!(Instant::now() < until, "{error}");
        std::thread::park_timeout(Duration::from_millis(200));
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

fn done<T>(outcomes: KafkaResult<Vec<Result<T, (String, RDKafkaErrorCode)>>>) -> KafkaResult<()> {
    for outcome in outcomes? {
        outcome.map_err(|(_, code)| rdkafka::error::KafkaError::AdminOp(code))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_have_expired_are_no_reason_to_publish_everything_again() {
    let group = Group::that_has_run("start-expired").await;
    let published = group.averages().await;
    assert!(!published.is_empty());
    let name = group.pipeline.group();
    let runtime = tokio::runtime::Handle::current();
    tokio::task::block_in_place(|| {
        when_the_member_is_gone(|| done(runtime.block_on(group.admin.delete_groups(&[&name], &options()))));
    });
    group.refused(&[], &[&group.pipeline.topics.candles, "--delete-offsets", &name, "topics.candles"]);
    assert_eq!(group.averages().await, published);

    // The way out that the message tells.
    let topics = &group.pipeline.topics;
    let outputs = [topics.candles.as_str(), &topics.moving_averages, &topics.late];
    done(group.admin.delete_topics(&outputs, &options()).await).unwrap();
    group.run();
    assert_eq!(as_set(group.averages().await), as_set(published));
}

fn as_set(keys: Vec<(String, i64)>) -> BTreeSet<(String, i64)> {
    let count = keys.len();
    let set: BTreeSet<_> = keys.into_iter().collect();
    assert_eq!(set.len(), count, "once each");
    set
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_that_somebody_else_has_written_are_refused() {
    let group = Group::that_has_run("start-foreign").await;
    let published = group.averages().await;
    group.reset_offsets(0, "");
    group.refused(&[], &["offset 0", "\"\"", "--delete-offsets"]);
    group.reset_offsets(0, "somebody's");
    group.refused(&[], &["offset 0", "\"somebody's\""]);
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_are_gone_are_refused_whether_they_were_read_or_not() {
    let mut group = Group::that_has_run("start-gone").await;
    let published = group.averages().await;
    group.load.write(1_000, MINUTE).unwrap();
    let trades = group.pipeline.topics.trades.clone();
    let mut before = TopicPartitionList::new();
    for partition in 0..2 {
        before.add_partition_offset(&trades, partition, Offset::End).unwrap();
    }
    group.admin.delete_records(&before, &options()).await.unwrap();
    group.refused(&[], &[&trades, "--delete-offsets"]);
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn candles_that_are_gone_are_refused_if_a_window_needs_them() {
    let group = Group::that_has_run("start-candles").await;
    let published = group.averages().await;
    let candles = group.pipeline.topics.candles.clone();
    let observer = group.pipeline.observer().unwrap();
    for left in [20, 0] {
        let mut before = TopicPartitionList::new();
        for partition in 0..2 {
            let (_, end) = observer.fetch_watermarks(&candles, partition, PATIENCE).unwrap();
            before.add_partition_offset(&candles, partition, Offset::Offset(end - left)).unwrap();
        }
        group.admin.delete_records(&before, &options()).await.unwrap();
        group.refused(&[], &[&candles, "--delete-offsets"]);
    }
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_trades_that_was_made_anew_is_refused() {
    let mut group = Group::that_has_run("start-anew").await;
    let published = group.averages().await;
    let trades = group.pipeline.topics.trades.clone();
    done(group.admin.delete_topics(&[&trades], &options()).await).unwrap();
    let spec = TopicSpec::trades(&group.pipeline.topics);
    ensure_topics(&group.pipeline.stack.kafka().unwrap(), "e2e", &[spec], PATIENCE).await.unwrap();
    group.load.write(3_000, 10 * MINUTE).unwrap();
    group.refused(&[], &[&trades, "--delete-offsets"]);
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_under_anothers_open_transaction_are_waited_for_and_what_is_done_about_it_meanwhile_changes_nothing()
 {
    let mut group = Group::that_has_run("start-open").await;
    group.load.write(1_000, MINUTE).unwrap();
    let before = group.averages().await.len();
    let role = Role::TransactionalProducer { transactional_id: format!("{}.other", group.pipeline.group()) };
    let mut settings = config(&group.pipeline.stack.kafka().unwrap(), "e2e", &role);
    // Longer than anything here takes.
    settings.set("transaction.timeout.ms", "600000");
    let other: BaseProducer = settings.create().unwrap();
    other.init_transactions(PATIENCE).unwrap();
    let (observer, mut zero) = (group.pipeline.observer().unwrap(), TopicPartitionList::new());
    for partition in 0..2 {
        zero.add_partition_offset(&group.pipeline.topics.trades, partition, Offset::Offset(0)).unwrap();
    }
    when_the_member_is_gone(|| {
        other.begin_transaction()?;
        let sent = other.send_offsets_to_transaction(&zero, &observer.group_metadata().unwrap(), PATIENCE);
        if sent.is_err() {
            other.abort_transaction(PATIENCE)?;
        }
        sent
    });
    let running = group.start();
    let until = Instant::now() + PATIENCE;
    let age = format!("agg_producer{OPEN_TRANSACTION_AGE}");
    while running.metrics().await.get(&age).unwrap_or(0.0) < 15.0 {
        assert!(Instant::now() < until, "it does not notice the open transaction");
        std::thread::park_timeout(Duration::from_millis(200));
    }
    other.abort_transaction(PATIENCE).unwrap();
    group.run_to_end(running);
    assert!(as_set(group.averages().await).len() > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_windows_and_other_topics_are_refused_with_what_was_and_what_is() {
    let group = Group::that_has_run("start-changed").await;
    for (key, value, words) in [
        ("KSTREAM__WINDOW__SIZE", "1m", ["\"size_ms\":300000", "\"size_ms\":60000"]),
        ("KSTREAM__WINDOW__EMA_TAU", "7s", ["\"ema_tau_ms\":150000", "\"ema_tau_ms\":7000"]),
    ] {
        group.refused(&[(key, value)], &words);
        group.refused(&[(key, value)], &["--delete-offsets"]);
    }
    let elsewhere = format!("{}.elsewhere", group.pipeline.topics.trades);
    group.refused(&[("KSTREAM__TOPICS__CANDLES", &elsewhere)], &[&elsewhere]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_group_is_kept_off_the_topics_of_the_first() {
    let group = Group::that_has_run("start-second").await;
    let published = group.averages().await;
    let first = group.pipeline.group();
    group.refused(&[("KSTREAM__GROUP_ID", "second")], &[&group.pipeline.topics.candles, &first]);
    let own = format!("{}.own", group.pipeline.topics.candles);
    group.refused(
        &[("KSTREAM__GROUP_ID", "second"), ("KSTREAM__TOPICS__CANDLES", &own)],
        &[&group.pipeline.topics.moving_averages],
    );
    assert_eq!(group.averages().await, published);
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_refused_at_a_start_and_while_it_runs() {
    let group = Group::that_has_run("start-more").await;
    let environment = group.pipeline.environment("0").unwrap();
    let running = Process::start("agg-producer", &with_quick_metadata(environment), &group.log()).unwrap();
    let until = Instant::now() + PATIENCE;
    while running.metrics().await.count(PARTITIONS_LIVE) < 1 {
        assert!(Instant::now() < until, "no partition becomes live");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    let trades = group.pipeline.topics.trades.clone();
    done(group.admin.create_partitions(&[NewPartitions::new(&trades, 3)], &options()).await).unwrap();
    let ended = running.end(PATIENCE).unwrap();
    assert_eq!(ended.status.code(), Some(78));
    assert!(names(&ended.error, "topics.partitions") && names(&ended.error, "2"), "{}", ended.error);
    group.refused(&[], &[&trades, "topics.partitions", "3", "2"]);
}

fn with_quick_metadata(mut environment: Vec<(String, String)>) -> Vec<(String, String)> {
    let key = "KSTREAM__KAFKA__PROPERTIES__topic_metadata_refresh_interval_ms";
    environment.push((key.to_owned(), "500".to_owned()));
    environment
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_group_passes_over_what_its_topics_would_forget_at_once_and_publishes_whole_windows_only() {
    let pipeline = Pipeline::make(&Stack::find().unwrap(), "start-old", 1).await.unwrap();
    let day = 24 * 3_600_000;
    let mut load = Load::new(&pipeline, 1, Unruliness::NONE, now() - 40 * day).unwrap();
    load.write(100, 10 * MINUTE).unwrap();
    load.now = now() - 29 * day - 5 * 60_000;
    load.write(1_200, 20 * MINUTE).unwrap();
    let admin = config(&pipeline.stack.kafka().unwrap(), "e2e", &Role::Admin).create().unwrap();
    let group = Group { pipeline, load, admin };
    let before = now() - 29 * day;
    group.run();
    let averages = group.averages().await;
    let earliest = averages.iter().map(|(_, end)| end - 300_000).min().unwrap();
    assert!((before..before + 120_000).contains(&earliest), "{earliest} against {before}");
    // One trade a second, so that a window that is whole is known by its count.
    let topic = Topic::new(&group.pipeline.stack, &group.pipeline.topics.moving_averages, &MOVING_AVERAGE);
    let counts = topic.read().await.unwrap();
    let counts: Vec<_> = counts
        .into_iter()
        .map(|record: e2e::topic::Record<MovingAverage<'static>>| record.value.trade_count)
        .collect();
    assert!(counts.iter().all(|count| *count == 300), "{counts:?}");
    group.run();
    assert_eq!(group.averages().await, averages, "a restart publishes nothing twice");
}
