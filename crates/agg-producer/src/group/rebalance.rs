//! What librdkafka tells the consumer between records.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use common::kafka::batch_consumer::pause_beforehand;
use common::kafka::client_log::log_client_error;
use rdkafka::TopicPartitionList;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::topic_partition_list::TopicPartitionListElem;
use rdkafka::types::RDKafkaRespErr;
use serde::Deserialize;

use crate::metrics::AggregatorMetrics;

/// A change of the assignment, after it has been made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// These came, and are paused.
    Assigned(Vec<i32>),
    /// These went.
    Revoked(Vec<i32>),
    /// The group's protocol failed.
    Failed(String),
}

/// The consumer's callbacks. They run inside [`BaseConsumer::poll`], on the thread that polls.
pub struct Rebalances {
    changes: Mutex<Vec<Change>>,
    changed: AtomicBool,
    topic: String,
    metrics: AggregatorMetrics,
}

impl Rebalances {
    /// For a consumer of `topic`.
    #[must_use]
    pub fn new(topic: &str, metrics: AggregatorMetrics) -> Self {
        Self { changes: Mutex::default(), changed: AtomicBool::new(false), topic: topic.to_owned(), metrics }
    }

    /// The changes since the last call; cheap when there are none, as it is asked between any two records.
    pub fn take(&self) -> Vec<Change> {
        if !self.changed.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, change: Change) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).push(change);
        self.changed.store(true, Ordering::Release);
    }
}

impl ConsumerContext for Rebalances {
    /// Assigns and pauses, nothing else: a partition is sought and resumed by the loop, once it knows where to begin. Seeking
    /// here fails, and asking the coordinator here would hold up the whole group.
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        kind: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        let numbers = partitions.elements().iter().map(TopicPartitionListElem::partition).collect();
        let (done, change) = match kind {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                self.metrics.rebalanced("partitions assigned");
                (assign_paused(consumer, partitions), Change::Assigned(numbers))
            }
            _ => {
                self.metrics.rebalanced(if consumer.assignment_lost() { "lost" } else { "revoked" });
                (consumer.incremental_unassign(partitions), Change::Revoked(numbers))
            }
        };
        self.push(done.map_or_else(|error| Change::Failed(error.to_string()), |()| change));
    }
}

/// Assigns partitions of which nothing is fetched before they are sought and resumed.
///
/// # Errors
/// librdkafka's.
pub fn assign_paused(
    consumer: &BaseConsumer<Rebalances>,
    partitions: &mut TopicPartitionList,
) -> KafkaResult<()> {
    // Any number will do, as nothing is fetched before the seek; but it must be one. Without it, or with a logical offset, librdkafka
    // looks one up, and when that answer comes after the seek it asks again and goes there. Were it fetched from and out of range,
    // librdkafka would give the partition up.
    partitions.set_all_offsets(rdkafka::Offset::Offset(0))?;
    pause_beforehand(consumer, partitions)?;
    consumer.incremental_assign(partitions)
}

impl ClientContext for Rebalances {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
    }

    fn stats_raw(&self, statistics: &[u8]) {
        match serde_json::from_slice::<Statistics>(statistics) {
            Ok(statistics) => self.show_lag(&statistics),
            Err(error) => tracing::warn!(%error, "cannot parse librdkafka's statistics"),
        }
    }
}

impl Rebalances {
    fn show_lag(&self, statistics: &Statistics) {
        let partitions = statistics.topics.get(&self.topic).map(|topic| &topic.partitions);
        // Librdkafka's own lag is of offsets that it committed itself; ours go with the producer's transactions.
        for partition in partitions.into_iter().flat_map(HashMap::values) {
            if partition.desired && partition.app_offset >= 0 && partition.ls_offset >= 0 {
                self.metrics.lag(partition.partition, (partition.ls_offset - partition.app_offset).max(0));
            }
        }
    }
}

/// The part of librdkafka's statistics that is read.
#[derive(Deserialize)]
struct Statistics {
    topics: HashMap<String, TopicStatistics>,
}

#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

#[derive(Deserialize)]
struct PartitionStatistics {
    partition: i32,
    desired: bool,
    app_offset: i64,
    ls_offset: i64,
}

/// The producer's callbacks: what fails shows again, sorted, when the transaction is committed.
#[derive(Debug, Default)]
pub struct Deliveries;

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        log_client_error(&error, reason);
    }
}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, delivery: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = delivery {
            // Purged because of an abort: told where that was decided.
            let purged = [RDKafkaErrorCode::PurgeQueue, RDKafkaErrorCode::PurgeInflight];
            if !error.rdkafka_error_code().is_some_and(|code| purged.contains(&code)) {
                tracing::warn!(%error, "record was not delivered");
            }
        }
    }
}
