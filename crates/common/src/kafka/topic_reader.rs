//! Reads committed records of assigned partitions, by a client that belongs to no group.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};

use super::admin::client_refused;
use super::client::{self, Role};
use crate::Failure;
use crate::config::KafkaConfig;
use crate::model::EventTime;

/// Longest time for one answer of the broker, and the time until it is asked again.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Where a partition is read from.
#[derive(Debug, Clone, Copy)]
pub enum ReadFrom {
    /// This many offsets before its end, or its first record.
    Tail(i64),
    /// Its first record of this time or later, once there is one.
    Time(EventTime),
}

/// Reads some partitions of one topic, committed records only.
pub struct TopicReader {
    kafka: KafkaConfig,
    client_id: &'static str,
    topic: String,
    consumer: BaseConsumer,
    /// Assigned partitions, each with the readable end at the time of assignment; 0 where it was not asked for.
    reading: BTreeMap<i32, i64>,
    wanted: BTreeMap<i32, ReadFrom>,
    /// Wanted partitions that have no record to start from, by Kafka's last answer.
    nothing: BTreeSet<i32>,
    next_attempt: Instant,
}

impl TopicReader {
    /// Creates the client; nothing is assigned yet.
    ///
    /// # Errors
    /// [`Failure::Config`] for settings that librdkafka refuses.
    pub fn new(kafka: &KafkaConfig, client_id: &'static str, topic: String) -> Result<Self, Failure> {
        let settings = client::config(kafka, client_id, &Role::Reader);
        let consumer = settings.create().map_err(|error| client_refused(&error))?;
        let (reading, wanted, nothing) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let kafka = kafka.clone();
        Ok(Self { kafka, client_id, topic, consumer, reading, wanted, nothing, next_attempt: Instant::now() })
    }

    /// Reads a partition from there on; again if it was read before.
    pub fn assign(&mut self, partition: i32, from: ReadFrom) {
        self.unassign(partition);
        self.wanted.insert(partition, from);
        self.next_attempt = Instant::now();
    }

    /// Stops reading a partition.
    pub fn unassign(&mut self, partition: i32) {
        self.wanted.remove(&partition);
        self.nothing.remove(&partition);
        if self.reading.remove(&partition).is_some()
            && let Err(error) = self.consumer.incremental_unassign(&self.list(partition))
        {
            tracing::warn!(topic = self.topic, partition, %error, "cannot unassign the partition");
        }
    }

    /// True if no partition is assigned or wanted.
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
            tracing::debug!(topic = self.topic, %error, "cannot assign partitions yet; retrying");
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

    /// The next record, if one has arrived.
    pub fn poll(&self) -> Option<BorrowedMessage<'_>> {
        loop {
            match self.consumer.poll(Duration::ZERO)? {
                Ok(record) if self.reading.contains_key(&record.partition()) => return Some(record),
                Ok(_) => {}
                // Brokers away and the like: librdkafka goes on trying.
                Err(error) => tracing::debug!(topic = self.topic, %error, "reader error"),
            }
        }
    }

    /// Whether a partition has been read to where it ended when it was begun.
    ///
    /// # Errors
    /// Those of librdkafka.
    pub fn has_read(&self, partition: i32) -> KafkaResult<bool> {
        let Some(end) = self.reading.get(&partition) else { return Ok(false) };
        self.is_past(partition, *end)
    }

    /// Whether a partition has nothing more to read, not even what a transaction hides that is still open. Blocks, and takes another
    /// client for as long.
    ///
    /// # Errors
    /// If Kafka does not tell.
    pub fn has_read_all(&self, partition: i32) -> KafkaResult<bool> {
        let uncommitted: BaseConsumer =
            client::config(&self.kafka, self.client_id, &Role::UncommittedReader).create()?;
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
