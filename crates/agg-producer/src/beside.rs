//! Reading topics of the pipeline's own beside the group's partitions, by a client that belongs to no group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::Failure;
use common::config::{KafkaConfig, ServiceConfig as _};
use common::kafka::admin::client_refused;
use common::kafka::client::{self, Role};
use common::model::EventTime;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::Config;

/// How long the broker may take to tell where to begin, and when it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Where a partition is read from.
#[derive(Debug, Clone, Copy)]
pub enum ReadFrom {
    /// So many offsets before its end, or its first record.
    Tail(i64),
    /// Its first record of that time or a later one, once there is one.
    Time(EventTime),
}

/// A reader of some partitions of one topic, of committed records only.
pub struct Beside {
    topic: String,
    consumer: BaseConsumer,
    /// With the end of what could be read when it was begun, of those that began by time.
    reading: BTreeMap<i32, i64>,
    wanted: BTreeMap<i32, ReadFrom>,
    /// Of those that are wanted, the ones that Kafka has said to have nothing to begin with.
    nothing: BTreeSet<i32>,
    next_attempt: Instant,
}

impl Beside {
    /// Reads nothing yet.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn new(kafka: &KafkaConfig, topic: String) -> Result<Self, Failure> {
        let settings = client::config(kafka, Config::SERVICE.name(), &Role::Reader);
        let consumer = settings.create().map_err(|error| client_refused(&error))?;
        let (reading, wanted, nothing) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        Ok(Self { topic, consumer, reading, wanted, nothing, next_attempt: Instant::now() })
    }

    /// Reads a partition from there on, once more if it was read before.
    pub fn follow(&mut self, partition: i32, from: ReadFrom) {
        self.leave(partition);
        self.wanted.insert(partition, from);
        self.next_attempt = Instant::now();
    }

    /// Reads a partition no longer.
    pub fn leave(&mut self, partition: i32) {
        self.wanted.remove(&partition);
        self.nothing.remove(&partition);
        if self.reading.remove(&partition).is_some()
            && let Err(error) = self.consumer.incremental_unassign(&self.list(partition))
        {
            tracing::warn!(topic = self.topic, partition, %error, "still read");
        }
    }

    /// Whether it reads no partition.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.reading.is_empty() && self.wanted.is_empty()
    }

    /// Begins what could not be begun yet, if it is time to try again.
    ///
    /// All at once, and each question before the first record is fetched: on a connection answers come in order, and a question
    /// behind a fetch that waits for records waits as long, and the loop with it.
    pub fn begin_wanted(&mut self) {
        if self.wanted.is_empty() || Instant::now() < self.next_attempt {
            return;
        }
        self.next_attempt = Instant::now() + ANSWER_WITHIN;
        if let Err(error) = self.begin() {
            tracing::debug!(topic = self.topic, %error, "cannot be read yet");
        }
    }

    fn begin(&mut self) -> KafkaResult<()> {
        let mut begun = self.first_since()?;
        for (partition, from) in &self.wanted {
            if let ReadFrom::Tail(offsets) = from {
                begun.add_partition_offset(&self.topic, *partition, Offset::OffsetTail(*offsets))?;
            }
        }
        let mut ends = Vec::new();
        for element in begun.elements() {
            let end = match element.offset() {
                Offset::Offset(_) => self.end(element.partition())?,
                _ => 0,
            };
            ends.push((element.partition(), end));
        }
        self.consumer.incremental_assign(&begun)?;
        for (partition, _) in &ends {
            self.wanted.remove(partition);
        }
        self.nothing = self.wanted.keys().copied().collect();
        self.reading.extend(ends);
        Ok(())
    }

    /// Where those begin that begin by time; those not yet for which nothing can be seen so far.
    fn first_since(&self) -> KafkaResult<TopicPartitionList> {
        let (mut asked, mut found) = (TopicPartitionList::new(), TopicPartitionList::new());
        for (partition, from) in &self.wanted {
            if let ReadFrom::Time(time) = from {
                asked.add_partition_offset(&self.topic, *partition, Offset::Offset(*time))?;
            }
        }
        if asked.count() > 0 {
            for element in self.consumer.offsets_for_times(asked, ANSWER_WITHIN)?.elements() {
                element.error()?;
                if let offset @ Offset::Offset(_) = element.offset() {
                    found.add_partition_offset(&self.topic, element.partition(), offset)?;
                }
            }
        }
        Ok(found)
    }

    fn end(&self, partition: i32) -> KafkaResult<i64> {
        Ok(self.consumer.fetch_watermarks(&self.topic, partition, ANSWER_WITHIN)?.1)
    }

    /// The next record, if there is one by now.
    pub fn poll(&self) -> Option<BorrowedMessage<'_>> {
        loop {
            match self.consumer.poll(Duration::ZERO)? {
                Ok(record) if self.reading.contains_key(&record.partition()) => return Some(record),
                Ok(_) => {}
                // Brokers away and the like: librdkafka goes on trying.
                Err(error) => tracing::debug!(topic = self.topic, %error, "read beside"),
            }
        }
    }

    /// Whether a partition has been read to where it ended when it was begun.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn has_read(&self, partition: i32) -> KafkaResult<bool> {
        let Some(end) = self.reading.get(&partition) else { return Ok(false) };
        self.is_past(partition, *end)
    }

    /// Whether a partition has nothing more to read, not even what a transaction hides that is still open. Blocks, and takes another
    /// client for as long.
    ///
    /// # Errors
    /// If Kafka does not tell.
    pub fn has_read_all(&self, kafka: &KafkaConfig, partition: i32) -> KafkaResult<bool> {
        let uncommitted: BaseConsumer =
            client::config(kafka, Config::SERVICE.name(), &Role::UncommittedReader).create()?;
        let (_, written) = uncommitted.fetch_watermarks(&self.topic, partition, ANSWER_WITHIN)?;
        let readable = self.end(partition)?;
        let nothing = self.nothing.contains(&partition);
        Ok(readable == written && (nothing || self.is_past(partition, written)?))
    }

    /// Markers and aborted records are passed as well.
    fn is_past(&self, partition: i32, end: i64) -> KafkaResult<bool> {
        let positions = self.consumer.position()?;
        let position = positions.find_partition(&self.topic, partition).map(|at| at.offset());
        Ok(matches!(position, Some(Offset::Offset(offset)) if offset >= end))
    }

    fn list(&self, partition: i32) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic, partition);
        list
    }
}
