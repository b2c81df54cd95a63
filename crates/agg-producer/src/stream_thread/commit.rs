//! Writing what came of the records, together with how far they were processed.

use std::time::Instant;

use common::Failure;
use common::failpoint::{failpoint, without};
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer as _, ConsumerGroupMetadata};

use super::task::{RunningTask, Task};
use super::{CommitDeadline, StreamThread};
use crate::group::rebalance::Deliveries;
use crate::records::encode::{Batch, Filled};
use crate::store::aggregator::Offset;

/// A transaction holds no more records than this, but for one window of all instruments: it has ten seconds.
const MOST_RECORDS: u64 = 50_000;

impl StreamThread {
    /// Commits what is processed, in one transaction or, after a long silence of the partition, in several. Nothing is begun if there
    /// is nothing to say.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        self.urgency = CommitDeadline::Interval;
        self.advance_to_positions();
        while self.writer.is_ready()
            && self.slots.values().filter_map(Task::running).any(RunningTask::has_news)
        {
            let begun = Instant::now();
            let group = self.writer.group_metadata();
            // A lost assignment is another's: the next poll tells which. Asked after the metadata, so that these are of a member: those
            // of none would pass for a commit from outside the group, which the broker does not fence.
            if self.consumer.assignment_lost() {
                break;
            }
            match self.transact(&group) {
                Ok(filled) => {
                    self.metrics.committed(&filled.published, begun.elapsed());
                    self.retry.reset();
                }
                Err(error) => return self.handle_failed_transaction(error),
            }
        }
        self.held = None;
        Ok(())
    }

    /// The consumer's position is past transaction markers, which are no records; without them every console would show a lag
    /// for ever.
    fn advance_to_positions(&mut self) {
        match self.consumer.position() {
            Ok(positions) => {
                for element in positions.elements() {
                    let slot = self.slots.get_mut(&element.partition());
                    if let (rdkafka::Offset::Offset(offset), Some(running)) =
                        (element.offset(), slot.and_then(Task::running_mut))
                    {
                        running.advance_to(Offset(offset));
                    }
                }
            }
            Err(error) => tracing::debug!(%error, "cannot read the consumer's positions"),
        }
    }

    /// Writes what there is to say, and commits it. What was written is given back with the spans that end now.
    fn transact(&mut self, group: &ConsumerGroupMetadata) -> Result<Filled, TransactionError> {
        let Self { writer, publisher, slots, restore, aborting, .. } = self;
        let Some(producer) = writer.get() else { return Ok(Filled::default()) };
        let begun = Instant::now();
        finish_abort(producer, aborting)?;
        let mut offsets = TopicPartitionList::new();
        let transaction = producer.begin()?;
        let mut batch = publisher.fill(&transaction);
        let with_news =
            slots.iter_mut().filter_map(|(partition, slot)| Some((*partition, slot.running_mut()?)));
        let written =
            with_news.filter(|(_, running)| running.has_news()).try_for_each(|(partition, running)| {
                write(&mut batch, partition, running)?;
                restore.add_to(&mut offsets, partition, &running.checkpoint());
                Ok(())
            });
        let filled = batch.filled();
        let transaction = if without("transaction") {
            transaction.commit()?;
            producer.begin()?
        } else {
            transaction
        };
        if filled.published.records() > 0 {
            failpoint("filled");
        }
        let filling = begun.elapsed();
        if let Err(error) = written.and_then(|()| transaction.offsets(&offsets, group)) {
            aborted(transaction.abort(), aborting)?;
            return Err(error);
        }
        let sent_offsets = begun.elapsed();
        match transaction.commit() {
            Ok(()) => {
                let (records, committed) = (filled.published.records(), begun.elapsed());
                tracing::debug!(records, ?filling, ?sent_offsets, ?committed, "transaction");
            }
            Err(error @ TransactionError::Abortable(_)) => {
                aborted(producer.abort_failed(), aborting)?;
                return Err(error);
            }
            // Neither committed nor aborted: only a new producer can find out.
            Err(TransactionError::Retriable(error)) => return Err(TransactionError::Fatal(error)),
            Err(error) => return Err(error),
        }
        failpoint("published");
        for element in offsets.elements() {
            if let Some(running) = slots.get_mut(&element.partition()).and_then(Task::running_mut) {
                running.committed();
            }
        }
        Ok(filled)
    }
}

/// Asks again for an abort that Kafka has not answered.
pub(super) fn finish_abort(
    producer: &mut TransactionalProducer<Deliveries>,
    unanswered: &mut bool,
) -> Result<(), TransactionError> {
    if *unanswered {
        producer.abort_failed()?;
        *unanswered = false;
    }
    Ok(())
}

/// Notes an abort that Kafka has not answered: before it has, nothing new can begin.
pub(super) fn aborted(
    outcome: Result<(), TransactionError>,
    unanswered: &mut bool,
) -> Result<(), TransactionError> {
    match outcome {
        Err(TransactionError::Retriable(error)) => {
            tracing::warn!(%error, "abort has no answer yet; retrying");
            *unanswered = true;
            Ok(())
        }
        outcome => outcome,
    }
}

/// Asides first, then windows as long as the transaction has room; the rest stays due.
fn write(
    batch: &mut Batch<'_, '_>,
    partition: i32,
    running: &mut RunningTask,
) -> Result<(), TransactionError> {
    running.asides.iter().try_for_each(|(record, aside)| batch.aside(record, aside))?;
    while running.partition.is_due() && batch.records() < MOST_RECORDS {
        running.partition.close_next(|closed| batch.closed(partition, &closed))?;
    }
    Ok(())
}
