//! Offsets that are not told, because somebody's transaction over them seems to be open.
//!
//! Kafka tells no offset over which a transaction is open. One whose member is gone is over after ten seconds. But a broker that stops at
//! the wrong moment can keep the offsets of one that it has already ended, and then nobody is told them ever again. They belong to a
//! transactional id, and go with the next transaction of that id that ends: most often it is this member's own, from a former life.

use std::time::{Duration, Instant};

use common::Failure;
use common::kafka::transaction::TransactionError;
use rdkafka::consumer::Consumer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::Runner;
use super::commit::{aborted, finish_abort};

/// Longer than any transaction may be open.
const PATIENCE: Duration = Duration::from_secs(15);

impl Runner {
    /// Takes note that the offsets of these partitions are not told; after too long ends what may be in the way.
    pub(super) fn not_told(&mut self, partitions: &[i32]) -> Result<(), Failure> {
        let since = *self.not_told_since.get_or_insert_with(Instant::now);
        if since.elapsed() < PATIENCE || !self.writer.is_ready() || self.consumer.assignment_lost() {
            return Ok(());
        }
        self.not_told_since = None;
        tracing::warn!(?partitions, "ending what an older transaction of this member's may have left open");
        self.metrics.swept();
        self.sweep(partitions).or_else(|error| self.settle(error))
    }

    /// A transaction over these partitions' offsets that is aborted: it changes none, and takes older ones of its id with it.
    fn sweep(&mut self, partitions: &[i32]) -> Result<(), TransactionError> {
        let group = self.writer.group_metadata();
        let Self { writer, restore, aborting, .. } = self;
        let Some(producer) = writer.get() else { return Ok(()) };
        finish_abort(producer, aborting)?;
        let mut offsets = TopicPartitionList::new();
        for partition in partitions {
            let mut element = offsets.add_partition(&restore.topic, *partition);
            element.set_offset(Offset::Offset(0)).expect("zero is an offset");
        }
        let transaction = producer.begin()?;
        match transaction.offsets(&offsets, &group) {
            Err(error @ (TransactionError::Fenced(_) | TransactionError::Fatal(_))) => Err(error),
            // Refused does as well: the abort comes all the same.
            _ => aborted(transaction.abort(), aborting),
        }
    }
}
