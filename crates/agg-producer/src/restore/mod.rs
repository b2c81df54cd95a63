//! Where an assigned partition begins: where the group left it, or where nothing was ever committed.

pub mod candles;
pub mod start_offset;

use std::cell::OnceCell;
use std::ops::RangeInclusive;
use std::time::Duration;

use common::failpoint::without;
use common::kafka::batch_consumer::BatchConsumer;
use common::kafka::offsets;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::TopicPartitionListElem;

use crate::group::rebalance::Rebalances;
use crate::restore::start_offset::{ExistingOutput, RetentionBoundary, StartOffset, StartOffsetFinder};
use crate::store::aggregator::{Offset, ReplayPoint};
use crate::store::checkpoint::{Checkpoint, CheckpointError, Fingerprint};
use crate::store::partition::{Partition, Windowing};

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
    /// How many candles are put back into it.
    pub candles: u64,
    /// Where reading begins. Never one of librdkafka's logical offsets: a seek to one can be undone by an answer that comes late.
    pub from: Offset,
    /// What is committed; `from` if nothing is.
    pub committed: Offset,
}

/// Why a partition cannot be begun.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// Ask again: an unanswered question is never "nothing is committed".
    #[error("cannot fetch committed offsets: {0}")]
    NotAnswered(#[from] KafkaError),
    /// Going on would give wrong numbers.
    #[error("partition {partition} of {topic}: {why}")]
    Refused {
        /// The trades' topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What is wrong with it.
        why: Refusal,
    },
}

/// What there is of a partition that cannot be gone on from.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// A commit.
    #[error("offset {offset} is committed, but {why}")]
    Checkpoint {
        /// The committed offset.
        offset: i64,
        /// What is wrong with it.
        why: CheckpointError,
    },
    /// One that is needed, and that nothing can be made of.
    #[error("a candle cannot be restored: {0}")]
    Candle(String),
    /// They are not there any more.
    #[error("{missing} candles that later windows need are no longer in {topic}")]
    CandlesGone {
        /// Where they were.
        topic: String,
        /// How many.
        missing: u64,
    },
    /// No commit, and yet results.
    #[error("nothing is committed, but {0}")]
    ExistingOutput(ExistingOutput),
    /// It was not there at the start.
    #[error(
        "the topic had topics.partitions = {0}, now it has more: an instrument's trades may go to another partition than before, and the \
         other topics have none for it"
    )]
    Added(i32),
}

/// Begins partitions where the group left them.
#[derive(Debug)]
pub struct Restore {
    /// The trades' topic.
    pub topic: String,
    /// The candles'.
    pub candles: String,
    /// The windows in force.
    pub windowing: Windowing,
    /// The settings in force, with which what is committed must agree.
    pub fingerprint: Fingerprint,
    /// Begins where nothing is committed.
    pub origin: StartOffsetFinder,
    /// How many the topic has.
    pub partitions: i32,
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
        let answers = answered.elements().into_iter().zip(metadata);
        let starter = Starter { restore: self, consumer, lookout: OnceCell::new() };
        answers.map(|(element, metadata)| starter.start(&element, &metadata)).collect()
    }

    /// From which offset up to which a partition can be read. Blocks.
    ///
    /// # Errors
    /// If the broker does not answer.
    pub fn readable(
        &self,
        consumer: &BaseConsumer<Rebalances>,
        partition: i32,
    ) -> KafkaResult<RangeInclusive<Offset>> {
        let (first, end) = consumer.fetch_watermarks(&self.topic, partition, ANSWER_WITHIN)?;
        Ok(Offset(first)..=Offset(end))
    }

    /// Puts a checkpoint among the offsets of a transaction.
    pub fn add_to(&self, offsets: &mut TopicPartitionList, partition: i32, at: &(Offset, Checkpoint)) {
        let (Offset(offset), checkpoint) = at;
        let mut element = offsets.add_partition(&self.topic, partition);
        element.set_offset(rdkafka::Offset::Offset(*offset)).expect("the offset of a record is one");
        element.set_metadata(checkpoint.to_metadata(&self.fingerprint));
    }

    /// Goes on reading at `offset`.
    ///
    /// # Errors
    /// librdkafka's.
    pub fn seek(
        &self,
        consumer: &BaseConsumer<Rebalances>,
        partition: i32,
        offset: Offset,
    ) -> KafkaResult<()> {
        consumer.seek(&self.topic, partition, rdkafka::Offset::Offset(offset.0), SEEK_WITHIN)
    }

    /// Lets a partition flow from its start on.
    ///
    /// # Errors
    /// librdkafka's; a partition that was assigned only now cannot be sought for some milliseconds.
    pub fn begin(
        &self,
        consumer: &BaseConsumer<Rebalances>,
        records: &mut BatchConsumer<Rebalances>,
        start: &Start,
    ) -> KafkaResult<()> {
        self.seek(consumer, start.number, start.from)?;
        records.add(start.number);
        let mut begun = TopicPartitionList::new();
        begun.add_partition(&self.topic, start.number);
        consumer.resume(&begun)
    }
}

/// Decides where partitions begin, one after another.
struct Starter<'r> {
    restore: &'r Restore,
    consumer: &'r BaseConsumer<Rebalances>,
    lookout: OnceCell<RetentionBoundary<'r>>,
}

impl<'r> Starter<'r> {
    fn start(&self, element: &TopicPartitionListElem<'_>, metadata: &[u8]) -> Result<Start, RestoreError> {
        let Restore { topic, windowing, fingerprint, partitions, .. } = self.restore;
        element.error()?;
        let number = element.partition();
        let refused = |why| RestoreError::Refused { topic: topic.clone(), partition: number, why };
        if number >= *partitions {
            return Err(refused(Refusal::Added(*partitions)));
        }
        let rdkafka::Offset::Offset(offset) = element.offset() else {
            if let Some(published) = self.lookout()?.published(number)? {
                return Err(refused(Refusal::ExistingOutput(published)));
            }
            return self.beginning(number);
        };
        let committed = Offset(offset);
        let metadata = String::from_utf8_lossy(metadata);
        let mut checkpoint = Checkpoint::from_metadata(&metadata, committed, fingerprint)
            .map_err(|why| refused(Refusal::Checkpoint { offset, why }))?;
        if without("restore") {
            checkpoint.candles = 0;
            checkpoint.replay = ReplayPoint { offset: committed, stream_time: checkpoint.stream_time };
        }
        Ok(Start {
            number,
            partition: Partition::resumed(windowing, committed, &checkpoint),
            candles: checkpoint.candles,
            from: checkpoint.replay.offset,
            committed,
        })
    }

    fn lookout(&self) -> KafkaResult<&RetentionBoundary<'r>> {
        if let Some(lookout) = self.lookout.get() {
            return Ok(lookout);
        }
        let lookout = self.restore.origin.lookout()?;
        Ok(self.lookout.get_or_init(|| lookout))
    }

    fn beginning(&self, number: i32) -> Result<Start, RestoreError> {
        let Self { restore, consumer, .. } = self;
        let readable = restore.readable(consumer, number)?;
        let StartOffset { from, not_before } = restore.origin.beginning(consumer, number, &readable)?;
        if let Some(not_before) = not_before {
            tracing::info!(
                partition = number,
                from = from.0,
                not_before,
                "skipping older trades: topics.retention would delete their windows at once"
            );
        }
        let partition = Partition::new(&restore.windowing, not_before);
        Ok(Start { number, partition, candles: 0, from, committed: from })
    }
}
