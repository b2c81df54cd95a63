//! Reads committed records of a topic, one bounded range of a partition at a time.

use std::sync::Arc;
use std::time::Duration;

use common::Failure;
use common::config::{KafkaConfig, Service};
use common::kafka::client::{Role, config};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout};

use super::{kafka_error, run_blocking};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time without a record before the end of a range.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);
/// From one check of the position to the next while no record comes.
const POLL_TIMEOUT: Duration = Duration::from_millis(20);

/// Offsets of a partition, `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct OffsetRange {
    pub(crate) partition: i32,
    pub(crate) from: i64,
    /// Exclusive. Every transaction below it has ended.
    pub(crate) to: i64,
}

/// Reads one topic.
pub(crate) struct RangeReader {
    consumer: Arc<StreamConsumer>,
    topic: String,
}

impl RangeReader {
    /// Sends no request yet.
    pub(crate) fn new(kafka: &KafkaConfig, topic: &str) -> Result<Self, Failure> {
        let consumer = config(kafka, Service::JdbcSink.name(), &Role::Reader).create();
        let consumer: StreamConsumer = consumer.map_err(|error| kafka_error("client settings", error))?;
        Ok(Self { consumer: Arc::new(consumer), topic: topic.to_owned() })
    }

    /// The readable offsets of each partition.
    ///
    /// # Errors
    /// If Kafka does not respond, or has no such topic.
    pub(crate) async fn ranges(&self) -> Result<Vec<OffsetRange>, Failure> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        run_blocking(move || ranges(&consumer, &topic)).await
    }

    /// Calls `each` with each record of the range, in order.
    ///
    /// # Errors
    /// The error of `each`, or if no record comes for a minute.
    pub(crate) async fn read(
        &self,
        range: OffsetRange,
        mut each: impl AsyncFnMut(&BorrowedMessage<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if range.from >= range.to {
            return Ok(());
        }
        let step = format!("reading {} partition {}", self.topic, range.partition);
        let mut assignment = TopicPartitionList::new();
        let assigned =
            assignment.add_partition_offset(&self.topic, range.partition, Offset::Offset(range.from));
        assigned
            .and_then(|()| self.consumer.assign(&assignment))
            .map_err(|error| kafka_error(&step, error))?;
        let mut last = Instant::now();
        // Transaction markers take offsets too. So the position tells the end, not the last record.
        while self.position()? < range.to {
            let Ok(message) = timeout(POLL_TIMEOUT, self.consumer.recv()).await else {
                if last.elapsed() > STALL_TIMEOUT {
                    return Err(kafka_error(&step, format!("no record for {STALL_TIMEOUT:?}")));
                }
                continue;
            };
            last = Instant::now();
            let message = match message {
                Ok(message) => message,
                // librdkafka reconnects, and continues at its position.
                Err(error) if is_temporary(&error) => continue,
                Err(error) => return Err(kafka_error(&step, error)),
            };
            if message.offset() >= range.to {
                break;
            }
            each(&message).await?;
        }
        Ok(())
    }

    /// The timestamp of the first record of the range, in milliseconds since 1970; `None` without a record.
    pub(crate) async fn first_timestamp(&self, range: OffsetRange) -> Result<Option<i64>, Failure> {
        let mut first = None;
        // `read` does not stop early. So it gets only the few offsets in which the first record must be.
        let few = OffsetRange { to: range.to.min(range.from.saturating_add(MAX_MARKERS)), ..range };
        self.read(few, async |message| {
            first = first.or(message.timestamp().to_millis());
            Ok(())
        })
        .await?;
        Ok(first)
    }

    fn position(&self) -> Result<i64, Failure> {
        let position = self.consumer.position().map_err(|error| kafka_error("the position", error))?;
        Ok(
            match position
                .elements()
                .first()
                .map(rdkafka::topic_partition_list::TopicPartitionListElem::offset)
            {
                Some(Offset::Offset(next)) => next,
                _ => 0,
            },
        )
    }
}

fn ranges(consumer: &StreamConsumer, topic: &str) -> Result<Vec<OffsetRange>, Failure> {
    let step = format!("offsets of topic {topic}");
    let metadata =
        consumer.fetch_metadata(Some(topic), RESPONSE_TIMEOUT).map_err(|error| kafka_error(&step, error))?;
    let partitions = metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions);
    let partitions = partitions.filter(|partitions| !partitions.is_empty());
    let partitions = partitions.ok_or_else(|| kafka_error(&step, "the topic does not exist"))?;
    let range = |partition: i32| {
        let found = consumer.fetch_watermarks(topic, partition, RESPONSE_TIMEOUT);
        let (from, to) = found.map_err(|error| kafka_error(&step, error))?;
        Ok(OffsetRange { partition, from, to })
    };
    partitions.iter().map(|partition| range(partition.id())).collect()
}

/// More transaction markers in a row come only in rare cases.
const MAX_MARKERS: i64 = 64;

fn is_temporary(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut)
    )
}
