//! The transactions: one after another, on one thread, because librdkafka's calls wait.
//!
//! After any failure the writer is of no use: what it had sent has an unknown outcome, and nothing is sent again from memory. Its
//! owner fences anew, reads what was committed, and fetches the rest from the exchange.

use std::time::{Duration, Instant};

use common::failpoint::failpoint;
use common::kafka::hanging_transactions::SettleError;
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use tokio::runtime::Handle;
use tokio::sync::mpsc::Receiver;
use tokio::time::timeout;

use super::OutboundRecord;
use super::deliveries::DeliveryReports;
use super::snapshot_records::Owner;
use super::snapshots::SnapshotWriter;

/// A transaction begins at most so often, unless it is full; one that comes later begins at once.
const PACE: Duration = Duration::from_millis(20);
/// A transaction stays open until nothing has come for so long. A bundle of the exchange's comes in several frames, and what misses the
/// transaction of the first waits for that to be committed, and then for the broker to be done with it.
const QUIET: Duration = Duration::from_millis(2);
/// But for no longer than this, should it never be quiet: as long as the exchange collects.
const OPEN_AT_MOST: Duration = Duration::from_millis(100);
/// What comes meanwhile is taken together this often: to be woken for each trade costs both threads more than the trade.
const SIP: Duration = Duration::from_millis(1);
/// What is no trade waits so long for one to go with: as long as the exchange collects them. In a transaction of its own it would hold
/// up the trades that come meanwhile.
const LEISURE: Duration = Duration::from_millis(100);
/// What is learned by a commit is written this long behind it, if no trade comes meanwhile: the exchange has just sent what it had. With the
/// next trades it would make these wait, as a transaction has to be told of each partition first.
const BEHIND: Duration = Duration::from_millis(5);
/// Items in a transaction, about.
pub const BATCH_MAX: usize = 10_000;
/// Without anything to write, the producer is looked after this often.
const IDLE: Duration = Duration::from_secs(1);

/// Kafka ends an earlier transaction within this, or the writer gives up: as long as Kafka lets an abandoned one be open, and some.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
/// Time between two questions whether it has.
const SETTLE_POLL: Duration = Duration::from_millis(100);

/// Writes items in transactions.
pub(crate) struct TransactionWriter {
    producer: TransactionalProducer<DeliveryReports>,
    book: SnapshotWriter,
}

impl TransactionWriter {
    /// A writer by a producer that has fenced off its predecessors; says whose it is before anything else.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub(crate) fn begin(
        mut producer: TransactionalProducer<DeliveryReports>,
        book: SnapshotWriter,
        owner: &Owner,
    ) -> Result<Self, TransactionError> {
        let transaction = producer.begin()?;
        book.send_owner(&transaction, owner)?;
        failpoint("owner-sent");
        transaction.commit()?;
        failpoint("owner-committed");
        Ok(Self { producer, book })
    }

    /// What is known, to be told once it has been read.
    pub(crate) fn book(&mut self) -> &mut SnapshotWriter {
        &mut self.book
    }

    /// Writes until nobody can hand anything in any more, and then what is left.
    ///
    /// # Errors
    /// [`TransactionError`]; what was handed in and is not committed is lost here.
    pub(crate) fn run(
        mut self,
        mut items: Receiver<OutboundRecord>,
        runtime: &Handle,
    ) -> Result<(), TransactionError> {
        let (mut batch, mut last) = (Vec::new(), Instant::now());
        loop {
            let patience = if self.book.has_watermarks() { BEHIND } else { IDLE };
            // Made inside the runtime: a timer needs one.
            let heard = runtime.block_on(async {
                let heard = timeout(patience, items.recv_many(&mut batch, BATCH_MAX)).await;
                timeout(LEISURE, until_trade(&mut batch, &mut items)).await.ok();
                heard
            });
            match heard {
                Ok(0) => break,
                Ok(_) => {}
                Err(_) if self.book.has_watermarks() || self.book.round_is_due() => {}
                Err(_) => {
                    self.producer.poll();
                    continue;
                }
            }
            let due = last + PACE;
            last = Instant::now();
            self.transaction(&mut batch, &mut items, due)?;
        }
        // So that the next start has nothing to read but snapshots.
        self.book.request_round();
        self.transaction(&mut batch, &mut items, last)
    }

    /// Waits until no earlier transaction of this id is open: after a lost connection Kafka may still be ending one.
    fn settle(&mut self) -> Result<(), TransactionError> {
        let begun = Instant::now();
        loop {
            match self.producer.settle() {
                Err(TransactionError::Unsettled(SettleError::Pending { .. } | SettleError::Unknown(_)))
                    if begun.elapsed() < SETTLED_WITHIN =>
                {
                    std::thread::park_timeout(SETTLE_POLL);
                }
                outcome => return outcome,
            }
        }
    }

    /// One transaction with the batch, and with what comes until `due`, and then until it is quiet.
    fn transaction(
        &mut self,
        batch: &mut Vec<OutboundRecord>,
        items: &mut Receiver<OutboundRecord>,
        due: Instant,
    ) -> Result<(), TransactionError> {
        self.settle()?;
        let Self { producer, book } = self;
        let begun = Instant::now();
        if !batch.iter().any(is_trade) {
            batch.retain(|item| !book.keep_watermark(item));
        }
        let transaction = producer.begin()?;
        failpoint("begun");
        book.send_internal(&transaction)?;
        let (mut taken, mut last) = (0, begun);
        loop {
            if !batch.is_empty() {
                last = Instant::now();
            }
            taken += batch.len();
            for item in batch.drain(..) {
                book.send(&transaction, item)?;
            }
            let left = due.max(last + QUIET).saturating_duration_since(Instant::now());
            if taken >= BATCH_MAX || begun.elapsed() >= OPEN_AT_MOST {
                break;
            }
            std::thread::park_timeout(left.min(SIP));
            transaction.poll();
            while batch.len() < BATCH_MAX
                && let Ok(item) = items.try_recv()
            {
                batch.push(item);
            }
            if batch.is_empty() && left.is_zero() {
                break;
            }
        }
        failpoint("produced");
        transaction.commit()?;
        failpoint("committed");
        book.on_commit(begun.elapsed());
        Ok(())
    }
}

/// Until there is a trade in the batch, or no room; at once if nothing is in it.
async fn until_trade(batch: &mut Vec<OutboundRecord>, items: &mut Receiver<OutboundRecord>) {
    while !batch.is_empty() && batch.len() < BATCH_MAX && !batch.iter().any(is_trade) {
        if items.recv_many(batch, BATCH_MAX).await == 0 {
            return;
        }
    }
}

fn is_trade(item: &OutboundRecord) -> bool {
    matches!(item, OutboundRecord::Trade { .. })
}
