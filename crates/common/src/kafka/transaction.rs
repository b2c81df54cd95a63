//! Transactions as values: one borrows its producer, so two at once do not compile, and ends by commit or abort.
//!
//! A transaction that is dropped is neither: it stays open at the broker until the next one's `begin` fails or its timeout is over. So
//! every path ends in [`Transaction::commit`] or [`Transaction::abort`].

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::ConsumerGroupMetadata;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer as _, ProducerContext};

use crate::backoff::Retryable;
use crate::failpoint::failpoint;
use crate::kafka::hanging_transactions::{SettleError, TransactionGuard};

/// How long one question to the broker may take before it is asked again.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long a transaction's end may take in all: as long as the broker keeps it open.
const END_WITHIN: Duration = Duration::from_secs(10);
/// One turn of waiting for deliveries; short, because a commit waits for it.
const TURN: Duration = Duration::from_millis(TURN_MILLIS.unsigned_abs() as u64);
/// The same, as librdkafka takes it.
const TURN_MILLIS: i32 = 1;

/// What went wrong, sorted by what is to be done.
#[derive(Debug, thiserror::Error)]
pub enum TransactionError {
    /// A newer producer has this transactional id, or the broker gave this one up: end, or start anew from what is committed.
    #[error("fenced: {0}")]
    Fenced(KafkaError),
    /// Abort, and do it again from what is committed.
    #[error("must be aborted: {0}")]
    Abortable(KafkaError),
    /// Nothing happened; ask again.
    #[error("retriable: {0}")]
    Retriable(KafkaError),
    /// The producer is of no use any more.
    #[error("fatal: {0}")]
    Fatal(KafkaError),
    /// An earlier transaction of this id may be open: nothing has begun, begin later.
    #[error(transparent)]
    Unsettled(#[from] SettleError),
}

impl TransactionError {
    /// librdkafka's code, if the error is librdkafka's.
    #[must_use]
    pub fn code(&self) -> Option<RDKafkaErrorCode> {
        match self {
            Self::Fenced(error) | Self::Abortable(error) | Self::Retriable(error) | Self::Fatal(error) => {
                error.rdkafka_error_code()
            }
            Self::Unsettled(_) => None,
        }
    }

    fn sort(error: KafkaError) -> Self {
        if let KafkaError::Transaction(inner) = &error {
            return match () {
                () if is_fence(inner.code()) => Self::Fenced(error),
                () if inner.is_fatal() => Self::Fatal(error),
                () if inner.txn_requires_abort() => Self::Abortable(error),
                () if inner.is_retriable() => Self::Retriable(error),
                () => Self::Fatal(error),
            };
        }
        match error.rdkafka_error_code() {
            Some(code) if is_fence(code) => Self::Fenced(error),
            Some(RDKafkaErrorCode::QueueFull) => Self::Retriable(error),
            Some(RDKafkaErrorCode::Fatal) => Self::Fatal(error),
            _ => Self::Abortable(error),
        }
    }
}

fn is_fence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(code, Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::FencedInstanceId)
}

impl Retryable for TransactionError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Retriable(_))
    }
}

/// A producer whose transactional id is fenced off: nothing of an older incarnation can land any more.
pub struct TransactionalProducer<C: ProducerContext + 'static = DefaultProducerContext> {
    producer: BaseProducer<C>,
    guard: TransactionGuard,
}

impl<C: ProducerContext + 'static> TransactionalProducer<C> {
    /// Makes the producer and fences older ones of its transactional id. Blocks for at most `within`, and for one attempt more.
    ///
    /// What an older one has left hanging is ended first: fencing makes the coordinator forget how it decided. And once more after
    /// it, as fencing aborts what was open, and a marker of that may be missing as well.
    ///
    /// # Errors
    /// [`TransactionError::Retriable`] if the broker did not answer in time; [`TransactionError::Unsettled`] if an older transaction is
    /// still open; [`TransactionError::Fatal`] for settings that librdkafka refuses.
    pub fn fence(
        config: &ClientConfig,
        context: C,
        mut guard: TransactionGuard,
        within: Duration,
    ) -> Result<Self, TransactionError> {
        let producer: BaseProducer<C> =
            config.create_with_context(context).map_err(TransactionError::Fatal)?;
        let end = Instant::now() + within;
        guard.check_before_fence(end)?;
        loop {
            match producer.init_transactions(ATTEMPT).map_err(TransactionError::sort) {
                Ok(()) => break,
                Err(TransactionError::Retriable(_)) if Instant::now() < end => {}
                Err(error) => return Err(error),
            }
        }
        guard.check_after_fence(end)?;
        Ok(Self { producer, guard })
    }

    /// Makes sure that no earlier transaction of this id is open; [`Self::begin`] does it as well. Costs nothing unless a connection was
    /// lost since the last call.
    ///
    /// # Errors
    /// [`TransactionError::Unsettled`].
    pub fn settle(&mut self) -> Result<(), TransactionError> {
        Ok(self.guard.check_after_disconnect()?)
    }

    /// Opens a transaction.
    ///
    /// # Errors
    /// [`TransactionError`].
    pub fn begin(&mut self) -> Result<Transaction<'_, C>, TransactionError> {
        self.settle()?;
        self.producer.begin_transaction().map_err(TransactionError::sort)?;
        Ok(Transaction { producer: &self.producer })
    }

    /// Serves delivery reports; to be called now and then while no transaction is open.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }
}

/// An open transaction.
#[must_use = "a transaction ends by commit or abort"]
pub struct Transaction<'p, C: ProducerContext + 'static = DefaultProducerContext> {
    producer: &'p BaseProducer<C>,
}

impl<C: ProducerContext + 'static> Transaction<'_, C> {
    /// Hands a record to the producer; waits while its queue is full.
    ///
    /// # Errors
    /// [`TransactionError`]; whether the record arrived shows in the commit.
    pub fn send(
        &self,
        record: BaseRecord<'_, [u8], [u8], C::DeliveryOpaque>,
    ) -> Result<(), TransactionError> {
        let (mut record, mut full_since) = (record, None);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                    if full_since.get_or_insert_with(Instant::now).elapsed() < END_WITHIN =>
                {
                    record = back;
                    send_at_once(self.producer);
                    self.producer.poll(Duration::ZERO);
                }
                Err((error, _)) => return Err(TransactionError::sort(error)),
            }
        }
    }

    /// Records whose delivery is not known yet.
    #[must_use]
    pub fn in_flight(&self) -> i32 {
        self.producer.in_flight_count()
    }

    /// Serves delivery reports that have come.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Adds the consumer's offsets, so that input and output are committed as one.
    ///
    /// # Errors
    /// [`TransactionError`]; fenced too when the group has moved on without this member.
    pub fn offsets(
        &self,
        offsets: &TopicPartitionList,
        group: &ConsumerGroupMetadata,
    ) -> Result<(), TransactionError> {
        again(|| self.producer.send_offsets_to_transaction(offsets, group, ATTEMPT))
    }

    /// Commits. Waits for every delivery first: rdkafka's own waiting comes in slices of 100 ms.
    ///
    /// # Errors
    /// [`TransactionError`]; after [`TransactionError::Abortable`] nothing of the transaction is readable once the caller has aborted by
    /// [`TransactionalProducer::abort_failed`].
    pub fn commit(self) -> Result<(), TransactionError> {
        self.deliver();
        failpoint("acknowledged");
        again(|| self.producer.commit_transaction(ATTEMPT))
    }

    fn deliver(&self) {
        let end = Instant::now() + END_WITHIN;
        while self.producer.in_flight_count() > 0 && Instant::now() < end {
            send_at_once(self.producer);
            self.producer.poll(Duration::ZERO);
        }
    }

    /// Aborts: nothing of it will be read.
    ///
    /// # Errors
    /// [`TransactionError`]; then the producer is of no use any more.
    pub fn abort(self) -> Result<(), TransactionError> {
        abort(self.producer)
    }
}

impl<C: ProducerContext + 'static> TransactionalProducer<C> {
    /// Aborts a transaction whose commit was [`TransactionError::Abortable`].
    ///
    /// # Errors
    /// [`TransactionError`]; then the producer is of no use any more.
    pub fn abort_failed(&mut self) -> Result<(), TransactionError> {
        abort(&self.producer)
    }
}

/// Sends what lingers for company, as none will come, and waits a turn for it to be delivered.
#[expect(
    unsafe_code,
    reason = "rdkafka's own flush is over before the threads that send have noticed it, or waits for 100 ms"
)]
fn send_at_once<C: ProducerContext + 'static>(producer: &BaseProducer<C>) {
    // SAFETY: the client is alive, as it is borrowed. Whatever is left undelivered shows in the count of those in flight.
    unsafe { rdkafka::bindings::rd_kafka_flush(producer.client().native_ptr(), TURN_MILLIS) };
}

/// What waits in the queue is purged first, and its reports served: librdkafka's abort waits for them but does not poll.
fn abort<C: ProducerContext + 'static>(producer: &BaseProducer<C>) -> Result<(), TransactionError> {
    producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    again(|| {
        producer.poll(TURN);
        producer.abort_transaction(ATTEMPT / 20)
    })
}

/// Asks again while the answer is that nothing happened yet.
fn again(mut ask: impl FnMut() -> Result<(), KafkaError>) -> Result<(), TransactionError> {
    let end = Instant::now() + END_WITHIN;
    loop {
        match ask().map_err(TransactionError::sort) {
            Err(TransactionError::Retriable(_)) if Instant::now() < end => {}
            outcome => return outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_sorted_by_what_is_to_be_done() {
        let sort = |code| TransactionError::sort(KafkaError::MessageProduction(code));
        assert!(matches!(sort(RDKafkaErrorCode::Fenced), TransactionError::Fenced(_)));
        assert!(matches!(sort(RDKafkaErrorCode::QueueFull), TransactionError::Retriable(_)));
        assert!(matches!(sort(RDKafkaErrorCode::Fatal), TransactionError::Fatal(_)));
        assert!(matches!(sort(RDKafkaErrorCode::MessageSizeTooLarge), TransactionError::Abortable(_)));
        assert!(sort(RDKafkaErrorCode::QueueFull).is_retryable());
    }
}
