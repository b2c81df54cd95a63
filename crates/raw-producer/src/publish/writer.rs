//! Writes transactions, one after another, on a thread of its own, because librdkafka's calls block.
//!
//! After any error the writer is useless: the outcome of its last transaction is unknown, and nothing is sent again from memory. The
//! supervisor fences again, reads what was committed, and requests the rest from the exchange.

use std::time::{Duration, Instant};

use common::failpoint::failpoint;
use common::kafka::hanging_transactions::SettleError;
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::OutboundRecord;
use super::deliveries::DeliveryReports;
use super::pacing::{BATCH_MAX, NextCommit, PacedTransaction, Pacing};
use super::snapshot_records::Owner;
use super::snapshots::SnapshotWriter;

/// Bound for Kafka to end an earlier transaction: a little longer than Kafka keeps an abandoned one open.
const SETTLE_TIMEOUT: Duration = Duration::from_secs(15);
/// Pause between two checks whether it has.
const SETTLE_POLL: Duration = Duration::from_millis(100);

/// Writes records in transactions.
pub(crate) struct TransactionWriter {
    producer: TransactionalProducer<DeliveryReports>,
    snapshots: SnapshotWriter,
    pacing: Pacing,
}

impl TransactionWriter {
    /// Writes the owner record before anything else. The producer must have fenced its predecessors.
    pub(super) fn start(
        mut producer: TransactionalProducer<DeliveryReports>,
        snapshots: SnapshotWriter,
        owner: &Owner,
    ) -> Result<Self, TransactionError> {
        let transaction = producer.begin()?;
        snapshots.send_owner(&transaction, owner)?;
        failpoint("owner-sent");
        transaction.commit()?;
        failpoint("owner-committed");
        Ok(Self { producer, snapshots, pacing: Pacing::measured() })
    }

    /// For the state that recovery has found.
    pub(super) fn snapshots(&mut self) -> &mut SnapshotWriter {
        &mut self.snapshots
    }

    /// Writes until the channel is closed, and then what is left in it. After an error, uncommitted records are lost here.
    pub(crate) fn run(
        mut self,
        mut records: Receiver<OutboundRecord>,
        runtime: &Handle,
    ) -> Result<(), TransactionError> {
        let (mut batch, mut begun) = (Vec::new(), Instant::now());
        loop {
            let wait = self.pacing.idle_wait(self.snapshots.has_watermarks());
            // Timers must be created inside the runtime.
            let received = runtime.block_on(async {
                let received = timeout(wait, records.recv_many(&mut batch, BATCH_MAX)).await;
                timeout(self.pacing.linger(), wait_for_trade(&mut batch, &mut records)).await.ok();
                received
            });
            match received {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if self.snapshots.has_watermarks() || self.snapshots.round_is_due() => {}
                Err(_) => {
                    self.producer.poll();
                    continue;
                }
            }
            let next_begin = self.pacing.next_begin(begun);
            begun = Instant::now();
            self.write_transaction(&mut batch, &mut records, next_begin)?;
        }
        // The next start then reads nothing but snapshots.
        self.snapshots.request_round();
        self.write_transaction(&mut batch, &mut records, begun)
    }

    /// Waits until no earlier transaction of this id is open: after a lost connection Kafka may still be ending one.
    fn settle(&mut self) -> Result<(), TransactionError> {
        let begun = Instant::now();
        loop {
            match self.producer.settle() {
                Err(TransactionError::Unsettled(SettleError::Pending { .. } | SettleError::Unknown(_)))
                    if begun.elapsed() < SETTLE_TIMEOUT =>
                {
                    std::thread::park_timeout(SETTLE_POLL);
                }
                outcome => return outcome,
            }
        }
    }

    /// Writes one transaction, with the batch and with the records that come until [`Pacing`] says that it is due.
    fn write_transaction(
        &mut self,
        batch: &mut Vec<OutboundRecord>,
        records: &mut Receiver<OutboundRecord>,
        next_begin: Instant,
    ) -> Result<(), TransactionError> {
        self.settle()?;
        let Self { producer, snapshots, pacing } = self;
        let begun = Instant::now();
        if !batch.iter().any(is_trade) {
            batch.retain(|record| !snapshots.keep_watermark(record));
        }
        let transaction = producer.begin()?;
        failpoint("begun");
        snapshots.send_internal(&transaction)?;
        let mut open = PacedTransaction { begun, next_begin, last_record: begun, records: 0 };
        loop {
            if !batch.is_empty() {
                open.last_record = Instant::now();
            }
            open.records += batch.len();
            for record in batch.drain(..) {
                snapshots.send(&transaction, record)?;
            }
            let now = Instant::now();
            let NextCommit::At(due) = pacing.next_commit(&open, now) else { break };
            std::thread::park_timeout(pacing.poll_wait(due, now));
            transaction.poll();
            while batch.len() < BATCH_MAX
                && let Ok(record) = records.try_recv()
            {
                batch.push(record);
            }
            if batch.is_empty() && due <= now {
                break;
            }
        }
        failpoint("produced");
        transaction.commit()?;
        failpoint("committed");
        snapshots.on_commit(begun.elapsed());
        Ok(())
    }
}

/// Returns when the batch contains a trade or is full; at once if it is empty.
async fn wait_for_trade(batch: &mut Vec<OutboundRecord>, records: &mut Receiver<OutboundRecord>) {
    while !batch.is_empty() && batch.len() < BATCH_MAX && !batch.iter().any(is_trade) {
        if records.recv_many(batch, BATCH_MAX).await == 0 {
            return;
        }
    }
}

fn is_trade(record: &OutboundRecord) -> bool {
    matches!(record, OutboundRecord::Trade { .. })
}
