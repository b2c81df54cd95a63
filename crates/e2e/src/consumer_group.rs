//! How far a consumer group has come.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::topic::TopicRecord;
use crate::{PATIENCE, Servers, eventually};

/// How long Kafka may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long an offset may take that an open transaction may hide.
const OPEN_TIMEOUT: Duration = Duration::from_secs(2);

/// A group as seen by one that is no member of it.
pub struct ConsumerGroup {
    /// The client, for what only a client of the group may do.
    pub observer: BaseConsumer,
    topic: String,
    partitions: i32,
}

impl ConsumerGroup {
    /// The group that reads a topic.
    pub fn new(servers: &Servers, group_id: &str, topic: &str, partitions: i32) -> anyhow::Result<Self> {
        let role = Role::GroupObserver { group_id: group_id.to_owned() };
        let observer = config(&servers.kafka()?, "e2e", &role).create()?;
        Ok(Self { observer, topic: topic.to_owned(), partitions })
    }

    /// How many records it has read, over all partitions, by its committed offsets.
    pub fn committed(&self) -> anyhow::Result<i64> {
        Ok(self.offsets()?.values().sum())
    }

    /// The committed offset of a partition; -1 if there is none.
    ///
    /// # Errors
    /// Kafka does not show offsets over which a transaction is open.
    pub fn committed_of(&self, partition: i32) -> anyhow::Result<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topic, partition);
        let committed = self.observer.committed_offsets(asked, OPEN_TIMEOUT)?;
        Ok(committed.elements().first().and_then(|element| element.offset().to_raw()).unwrap_or(-1))
    }

    /// How many records there are, over all partitions.
    pub fn end(&self) -> anyhow::Result<i64> {
        (0..self.partitions).map(|partition| Ok(self.extent(partition)?.1)).sum()
    }

    /// Waits until it has committed that it has read everything that is there.
    pub async fn wait_until_all_read(&self) -> anyhow::Result<()> {
        let all_read = async || {
            for (partition, committed) in self.offsets()? {
                let (first, end) = self.extent(partition)?;
                ensure!(first == end || committed == end, "partition {partition} at {committed} of {end}");
            }
            Ok(true)
        };
        eventually(PATIENCE, &format!("{} is read", self.topic), all_read).await
    }

    /// Waits until it has committed that it has read these records. Behind them there may be markers of transactions.
    pub async fn wait_until_read<T>(&self, records: &[TopicRecord<T>]) -> anyhow::Result<()> {
        let read = async || {
            let offsets = self.offsets()?;
            let unread = records.iter().find(|record| offsets.get(&record.partition) <= Some(&record.offset));
            ensure!(unread.is_none(), "{offsets:?}");
            Ok(true)
        };
        eventually(PATIENCE, &format!("{} is read", self.topic), read).await
    }

    fn extent(&self, partition: i32) -> anyhow::Result<(i64, i64)> {
        Ok(self.observer.fetch_watermarks(&self.topic, partition, ANSWER_TIMEOUT)?)
    }

    /// The committed offsets by partition; 0 where nothing is committed.
    fn offsets(&self) -> anyhow::Result<BTreeMap<i32, i64>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topic, 0, self.partitions - 1);
        let committed = self.observer.committed_offsets(asked, ANSWER_TIMEOUT)?;
        let offset = |offset| if let Offset::Offset(next) = offset { next } else { 0 };
        let elements = committed.elements();
        Ok(elements.iter().map(|element| (element.partition(), offset(element.offset()))).collect())
    }
}
