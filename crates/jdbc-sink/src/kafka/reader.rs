//! A topic's committed records, partition by partition, up to stated ends.

use std::sync::Arc;
use std::time::Duration;

use common::Failure;
use common::config::{KafkaConfig, ServiceConfig as _};
use common::kafka::client::{Role, config};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::time::{Instant, timeout};

use super::{blocking, failed};
use crate::Config;

/// How long an answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How long nothing may come of what is there.
const STANDSTILL: Duration = Duration::from_secs(60);
/// From one look at the position to the next while nothing comes.
const PAUSE: Duration = Duration::from_millis(20);

/// Offsets of a partition, `[from, to)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Range {
    /// The partition.
    pub partition: i32,
    /// The first offset.
    pub from: i64,
    /// The first offset behind it. Below it everything is decided: committed or aborted.
    pub to: i64,
}

/// A reader of one topic.
pub struct Reader {
    consumer: Arc<StreamConsumer>,
    topic: String,
}

impl Reader {
    /// A reader that asks nothing yet.
    ///
    /// # Errors
    /// If the configuration is not librdkafka's.
    pub fn new(kafka: &KafkaConfig, topic: &str) -> Result<Self, Failure> {
        let consumer = config(kafka, Config::SERVICE.name(), &Role::Reader).create();
        let consumer: StreamConsumer = consumer.map_err(|error| failed("its settings", error))?;
        Ok(Self { consumer: Arc::new(consumer), topic: topic.to_owned() })
    }

    /// All that is there and decided, in each partition.
    ///
    /// # Errors
    /// If Kafka does not answer, or has no such topic.
    pub async fn extent(&self) -> Result<Vec<Range>, Failure> {
        let (consumer, topic) = (Arc::clone(&self.consumer), self.topic.clone());
        blocking(move || extent(&consumer, &topic)).await
    }

    /// Hands out each record of the range, in order.
    ///
    /// # Errors
    /// What `each` says, or if Kafka gives nothing for a minute.
    pub async fn read(
        &self,
        range: Range,
        mut each: impl AsyncFnMut(&BorrowedMessage<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if range.from >= range.to {
            return Ok(());
        }
        let doing = format!("reading {} partition {}", self.topic, range.partition);
        let mut assignment = TopicPartitionList::new();
        let assigned =
            assignment.add_partition_offset(&self.topic, range.partition, Offset::Offset(range.from));
        assigned.and_then(|()| self.consumer.assign(&assignment)).map_err(|error| failed(&doing, error))?;
        let mut last = Instant::now();
        // Markers of transactions take offsets too, so that the position tells the end, not the last record.
        while self.position()? < range.to {
            let Ok(message) = timeout(PAUSE, self.consumer.recv()).await else {
                if last.elapsed() > STANDSTILL {
                    return Err(failed(&doing, format!("no record for {STANDSTILL:?}")));
                }
                continue;
            };
            last = Instant::now();
            let message = match message {
                Ok(message) => message,
                // librdkafka is connecting anew; it goes on where it was.
                Err(error) if is_passing(&error) => continue,
                Err(error) => return Err(failed(&doing, error)),
            };
            if message.offset() >= range.to {
                break;
            }
            each(&message).await?;
        }
        Ok(())
    }

    /// The first record of the range, if there is any.
    ///
    /// # Errors
    /// As [`Reader::read`].
    pub async fn first(&self, range: Range) -> Result<Option<i64>, Failure> {
        let mut first = None;
        // Nothing stops a reading early: it is cut to the few offsets in which a record stands if there is one.
        let few = Range { to: range.to.min(range.from.saturating_add(FEW)), ..range };
        self.read(few, async |message| {
            first = first.or(message.timestamp().to_millis());
            Ok(())
        })
        .await?;
        Ok(first)
    }

    fn position(&self) -> Result<i64, Failure> {
        let position = self.consumer.position().map_err(|error| failed("its position", error))?;
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

fn extent(consumer: &StreamConsumer, topic: &str) -> Result<Vec<Range>, Failure> {
    let doing = format!("the offsets of topic {topic}");
    let metadata =
        consumer.fetch_metadata(Some(topic), ANSWER_WITHIN).map_err(|error| failed(&doing, error))?;
    let partitions = metadata.topics().first().map(rdkafka::metadata::MetadataTopic::partitions);
    let partitions = partitions.filter(|partitions| !partitions.is_empty());
    let partitions = partitions.ok_or_else(|| failed(&doing, "there is no such topic"))?;
    let range = |partition: i32| {
        let found = consumer.fetch_watermarks(topic, partition, ANSWER_WITHIN);
        let (from, to) = found.map_err(|error| failed(&doing, error))?;
        Ok(Range { partition, from, to })
    };
    partitions.iter().map(|partition| range(partition.id())).collect()
}

/// Between two records there are no more markers than this but in odd cases.
const FEW: i64 = 64;

fn is_passing(error: &rdkafka::error::KafkaError) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut)
    )
}
