//! Where an assigned partition begins: at its first record, or where the group left it.

use std::time::Duration;

use common::kafka::offsets;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionListElem;

use crate::aggregator::Offset;
use crate::checkpoint::{Checkpoint, CheckpointError, Fingerprint};
use crate::partition::{Partition, Windowing};
use crate::rebalance::Rebalances;

/// How long the coordinator may take to tell the committed offsets. Other partitions wait for it.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long a seek may take; it only waits for another thread of librdkafka's.
const SEEK_WITHIN: Duration = Duration::from_secs(1);

/// The start of one partition.
#[derive(Debug)]
pub struct Start {
    /// Which.
    pub number: i32,
    /// Its state, empty.
    pub partition: Partition,
    /// Where reading begins: the first record if nothing is committed.
    pub from: rdkafka::Offset,
    /// What is committed.
    pub committed: Option<Offset>,
}

/// Why a partition cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Ask again: an unanswered question is never "nothing is committed".
    #[error("the committed offsets are not to be had: {0}")]
    NotAnswered(#[from] KafkaError),
    /// Going on from it would give wrong numbers.
    #[error("offset {offset} is committed for partition {partition}, but {why}")]
    Refused {
        /// The partition.
        partition: i32,
        /// The committed offset.
        offset: i64,
        /// What is wrong with it.
        why: CheckpointError,
    },
}

/// Begins partitions where the group left them.
#[derive(Debug)]
pub struct Restore {
    /// The trades' topic.
    pub topic: String,
    /// The windows in force.
    pub windowing: Windowing,
    /// The settings in force, with which what is committed must agree.
    pub fingerprint: Fingerprint,
}

impl Restore {
    /// Asks for the committed offsets of `partitions`. Blocks.
    ///
    /// # Errors
    /// [`RestoreError`].
    pub fn starts(
        &self,
        consumer: &BaseConsumer<Rebalances>,
        partitions: impl IntoIterator<Item = i32>,
    ) -> Result<Vec<Start>, RestoreError> {
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            asked.add_partition(&self.topic, partition);
        }
        let answered = consumer.committed_offsets(asked, ANSWER_WITHIN)?;
        let metadata = offsets::metadata(&answered);
        answered
            .elements()
            .iter()
            .zip(metadata)
            .map(|(element, metadata)| self.start(element, &metadata))
            .collect()
    }

    fn start(&self, element: &TopicPartitionListElem<'_>, metadata: &[u8]) -> Result<Start, RestoreError> {
        element.error()?;
        let number = element.partition();
        let rdkafka::Offset::Offset(offset) = element.offset() else {
            let partition = Partition::new(&self.windowing);
            return Ok(Start { number, partition, from: rdkafka::Offset::Beginning, committed: None });
        };
        let committed = Offset(offset);
        let checkpoint =
            Checkpoint::from_metadata(&String::from_utf8_lossy(metadata), committed, &self.fingerprint)
                .map_err(|why| RestoreError::Refused { partition: number, offset, why })?;
        Ok(Start {
            number,
            partition: Partition::resumed(&self.windowing, committed, &checkpoint),
            from: rdkafka::Offset::Offset(checkpoint.replay.offset.0),
            committed: Some(committed),
        })
    }

    /// Puts a checkpoint among the offsets of a transaction.
    pub fn add_to(&self, offsets: &mut TopicPartitionList, partition: i32, at: &(Offset, Checkpoint)) {
        let (Offset(offset), checkpoint) = at;
        let mut element = offsets.add_partition(&self.topic, partition);
        element.set_offset(rdkafka::Offset::Offset(*offset)).expect("the offset of a record is one");
        element.set_metadata(checkpoint.to_metadata(&self.fingerprint));
    }

    /// Lets a partition flow from its start on.
    ///
    /// # Errors
    /// librdkafka's; a partition that was assigned only now cannot be sought for some milliseconds.
    pub fn begin(&self, consumer: &BaseConsumer<Rebalances>, start: &Start) -> KafkaResult<()> {
        consumer.seek(&self.topic, start.number, start.from, SEEK_WITHIN)?;
        let mut begun = TopicPartitionList::new();
        begun.add_partition(&self.topic, start.number);
        consumer.resume(&begun)
    }
}
