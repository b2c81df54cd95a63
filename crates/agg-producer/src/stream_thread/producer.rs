//! A producer that is of no use any more is made anew; what was not committed is read again.
//!
//! That a transaction has timed out and that another process has taken the name look alike to a producer. But who takes a name also
//! takes its place in the group, which ends the consumer: so after a fence the consumer is given the time to say so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Failure;
use common::kafka::hanging_transactions::{SettleError, TransactionGuard};
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::StreamThread;
use crate::group::rebalance::{Deliveries, Rebalances};

/// Two heartbeats: by then the group's coordinator has told the consumer if another has its place.
const DOUBT: Duration = Duration::from_secs(3);
/// How long one attempt may take; the group's changes wait for it.
const ATTEMPT: Duration = Duration::from_secs(2);

/// A time in which no transaction begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitHold {
    /// When the first of the attempts failed.
    pub(super) since: Instant,
    /// When the next one is due.
    pub(super) until: Instant,
}

/// A producer, and what another one of its id is made with.
pub(super) struct Fenced {
    pub(super) producer: TransactionalProducer<Deliveries>,
    pub(super) settings: ClientConfig,
    pub(super) guard: TransactionGuard,
}

/// The producer, or how to come by another one.
pub(super) struct ProducerHandle {
    producer: Option<TransactionalProducer<Deliveries>>,
    settings: ClientConfig,
    guard: TransactionGuard,
    /// The member in whose name offsets are committed.
    member: Arc<BaseConsumer<Rebalances>>,
    next_attempt: Instant,
}

impl ProducerHandle {
    pub(super) fn new(fenced: Fenced, member: Arc<BaseConsumer<Rebalances>>) -> Self {
        let Fenced { producer, settings, guard } = fenced;
        Self { producer: Some(producer), settings, guard, member, next_attempt: Instant::now() }
    }

    /// By which the broker tells a member that is in its place from one that was.
    pub(super) fn group_metadata(&self) -> ConsumerGroupMetadata {
        self.member.group_metadata().expect("the consumer has a group.id")
    }

    pub(super) fn get(&mut self) -> Option<&mut TransactionalProducer<Deliveries>> {
        self.producer.as_mut()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.producer.is_some()
    }
}

impl StreamThread {
    /// What follows from a transaction that was not committed: state is ahead of what was published, and has to go back.
    pub(super) fn handle_failed_transaction(&mut self, error: TransactionError) -> Result<(), Failure> {
        match error {
            TransactionError::Unsettled(why) => return self.hold_commit(&why),
            TransactionError::Abortable(error) | TransactionError::Retriable(error) => {
                tracing::warn!(%error, "transaction aborted; restarting from the last committed transaction");
            }
            TransactionError::Fenced(error) => self.drop_producer(&error, DOUBT),
            TransactionError::Fatal(error) => self.drop_producer(&error, Duration::ZERO),
        }
        self.metrics.aborted();
        self.held = None;
        let all: Vec<i32> = self.slots.keys().copied().collect();
        self.restart(&all)
    }

    fn drop_producer(&mut self, error: &KafkaError, wait: Duration) {
        tracing::warn!(%error, ?wait, "producer failed; recreating it");
        self.aborting = false;
        self.writer.producer = None;
        self.producer_wanted_since = Instant::now();
        self.writer.next_attempt = Instant::now() + wait;
    }

    /// Makes the producer anew if there is none. Only then can be asked what is committed: until it has fenced off the old one, that
    /// one's last transaction may still be decided either way.
    pub(super) fn recreate_producer(&mut self) -> Result<(), Failure> {
        if self.writer.is_ready() || Instant::now() < self.writer.next_attempt {
            return Ok(());
        }
        let ProducerHandle { settings, guard, .. } = &self.writer;
        match TransactionalProducer::fence(settings, Deliveries, guard.clone(), ATTEMPT) {
            Ok(producer) => {
                tracing::info!(member = self.identity.member, "producer recreated");
                self.writer.producer = Some(producer);
                self.next_start = Instant::now();
            }
            Err(error) => {
                if error.code() == Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) {
                    let member = &self.identity.member;
                    return Err(Failure::Config(format!("kafka refuses transactions to {member}: {error}")));
                }
                self.give_up_if_overdue(self.producer_wanted_since, || format!("no producer: {error}"))?;
                let retry_in = self.retry.next_delay();
                tracing::warn!(%error, ?retry_in, "no producer yet");
                self.writer.next_attempt = Instant::now() + retry_in;
            }
        }
        Ok(())
    }

    /// Begins no transaction for now, as an earlier one of this member may be open: nothing was begun, and state stays as it is.
    fn hold_commit(&mut self, why: &SettleError) -> Result<(), Failure> {
        if let SettleError::Stuck { .. } = why {
            return Err(Failure::Other(anyhow::anyhow!("{why}")));
        }
        let now = Instant::now();
        let since = self.held.map_or(now, |held| held.since);
        self.give_up_if_overdue(since, || format!("no commit: {why}"))?;
        let retry_in = self.retry.next_delay();
        tracing::warn!(%why, ?retry_in, "no transaction begins yet");
        self.held = Some(CommitHold { since, until: now + retry_in });
        Ok(())
    }

    /// Ends the process if Kafka should have ended a wait by now: its supervisor starts it again, with new clients.
    pub(super) fn give_up_if_overdue(
        &self,
        since: Instant,
        what: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.transactions.overdue(since) {
            None => Ok(()),
            Some(why) => Err(Failure::Other(anyhow::anyhow!("{}; {why}", what()))),
        }
    }
}
