//! Asks partitions and coordinators, and writes the marker that is missing.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::{
    DescribeProducersRequest, DescribeTransactionsRequest, ListTransactionsRequest, ProducerId,
    TransactionalId, WriteTxnMarkersRequest,
};
use kafka_protocol::protocol::StrBytes;

use super::monitor::TransactionMetrics;
use super::state::{Assessment, CoordinatorState, OpenTransaction, Outcome, assess};
use crate::config::KafkaConfig;
use crate::kafka::protocol::{BrokerId, BrokerRequestError, Cluster, topic_name};

/// Kafka's topic of committed offsets.
const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// Kafka's topic of transactions; without it there are none.
const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// The reason that a producer must not begin a transaction yet.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SettleError {
    /// The coordinator has not ended an earlier transaction yet; it will.
    #[error("{transaction}: {state}; waiting for its coordinator")]
    Pending {
        /// The earlier transaction.
        transaction: Box<OpenTransaction>,
        /// The coordinator's state.
        state: String,
    },
    /// It hangs and cannot be ended from here.
    #[error("{transaction} hangs and cannot be ended: {reason}; by hand: {command}")]
    Stuck {
        /// The hanging transaction.
        transaction: Box<OpenTransaction>,
        /// What the broker answered.
        reason: Box<BrokerRequestError>,
        /// The command for an operator.
        command: String,
    },
    /// Nobody answered what is open.
    #[error("cannot check for an open transaction: {0}")]
    Unknown(#[from] BrokerRequestError),
}

/// An open transaction with what follows for it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Inspected {
    /// The transaction.
    pub(super) transaction: OpenTransaction,
    /// The id that its producer fences with, if a coordinator knows the producer.
    pub(super) transactional_id: Option<String>,
    /// What follows.
    pub(super) assessment: Assessment,
}

/// Looks after the partitions of some topics and, for a group, the partition of its committed offsets.
#[derive(Debug, Clone)]
pub(super) struct TransactionInspector {
    kafka: KafkaConfig,
    client_id: String,
    topics: Vec<String>,
    group_id: Option<String>,
    metrics: TransactionMetrics,
}

impl TransactionInspector {
    /// For all partitions of `topics`, and the offsets of `group_id`.
    pub(super) fn new(
        kafka: &KafkaConfig,
        client_id: &str,
        topics: Vec<String>,
        group_id: Option<String>,
        metrics: TransactionMetrics,
    ) -> Self {
        Self { kafka: kafka.clone(), client_id: client_id.to_owned(), topics, group_id, metrics }
    }

    /// Where Kafka is, for messages.
    pub(super) fn bootstrap_servers(&self) -> &str {
        &self.kafka.bootstrap_servers
    }

    /// Every open transaction, with what follows for each. Those that end meanwhile are left out.
    ///
    /// # Errors
    /// [`BrokerRequestError`].
    pub(super) async fn inspect(&self) -> Result<Vec<Inspected>, BrokerRequestError> {
        self.inspect_at(&mut self.discover().await?).await
    }

    async fn inspect_at(&self, cluster: &mut Cluster) -> Result<Vec<Inspected>, BrokerRequestError> {
        let before = self.open_transactions(cluster).await?;
        if before.is_empty() {
            return Ok(Vec::new());
        }
        let producers = before.iter().map(|open| open.producer_id).collect();
        let coordinators = coordinators_of(cluster, producers).await?;
        let after = self.open_transactions(cluster).await?;
        let still_open = before.into_iter().filter(|open| after.contains(open));
        Ok(still_open
            .map(|transaction| {
                let coordinator = coordinators.get(&transaction.producer_id);
                Inspected {
                    assessment: assess(&transaction, coordinator),
                    transactional_id: coordinator.map(|said| said.transactional_id.clone()),
                    transaction,
                }
            })
            .collect())
    }

    /// Ends what an earlier transaction of `transactional_id` has left open, as its coordinator decided it.
    ///
    /// # Errors
    /// [`SettleError`]: then no transaction of this id may begin.
    pub(super) async fn settle(&self, transactional_id: &str) -> Result<(), SettleError> {
        let mut cluster = self.discover().await?;
        let Some(coordinator) = describe_transaction(&mut cluster, transactional_id).await? else {
            return Ok(());
        };
        let own = |open: &OpenTransaction| open.producer_id == coordinator.producer_id;
        let mut before = self.open_transactions(&mut cluster).await?;
        before.retain(own);
        if before.is_empty() {
            return Ok(());
        }
        let coordinator = describe_transaction(&mut cluster, transactional_id).await?;
        let after = self.open_transactions(&mut cluster).await?;
        for transaction in before.into_iter().filter(|open| after.contains(open)) {
            match assess(&transaction, coordinator.as_ref()) {
                Assessment::Live { state } => {
                    return Err(SettleError::Pending { transaction: Box::new(transaction), state });
                }
                Assessment::OwnerUnknown => {
                    return Err(SettleError::Pending {
                        transaction: Box::new(transaction),
                        state: "unknown".into(),
                    });
                }
                Assessment::Hanging(outcome) => self.end(&mut cluster, &transaction, outcome).await?,
            }
        }
        Ok(())
    }

    /// Ends a hanging transaction unless it has changed since it was inspected.
    ///
    /// # Errors
    /// [`SettleError`].
    pub(super) async fn end_if_unchanged(
        &self,
        inspected: &Inspected,
        outcome: Outcome,
    ) -> Result<(), SettleError> {
        let mut cluster = self.discover().await?;
        if !self.inspect_at(&mut cluster).await?.contains(inspected) {
            return Ok(());
        }
        self.end(&mut cluster, &inspected.transaction, outcome).await
    }

    async fn discover(&self) -> Result<Cluster, BrokerRequestError> {
        let mut topics = self.topics.clone();
        topics.push(TRANSACTIONS_TOPIC.to_owned());
        topics.extend(self.group_id.is_some().then(|| OFFSETS_TOPIC.to_owned()));
        Cluster::discover(&self.kafka, &self.client_id, &topics).await
    }

    /// What the leaders of all partitions in question hold open.
    async fn open_transactions(
        &self,
        cluster: &mut Cluster,
    ) -> Result<Vec<OpenTransaction>, BrokerRequestError> {
        let offsets_partition =
            self.group_id.as_deref().map(|group| partition_of(group, cluster.partitions(OFFSETS_TOPIC)));
        let mut open = Vec::new();
        for (broker, mut topics) in cluster.leaders() {
            topics.remove(TRANSACTIONS_TOPIC);
            if let Some(partitions) = topics.get_mut(OFFSETS_TOPIC) {
                partitions.retain(|partition| Some(*partition) == offsets_partition);
            }
            open.extend(open_at(cluster, broker, topics).await?);
        }
        open.sort();
        Ok(open)
    }

    async fn end(
        &self,
        cluster: &mut Cluster,
        transaction: &OpenTransaction,
        outcome: Outcome,
    ) -> Result<(), SettleError> {
        let stuck = |reason| SettleError::Stuck {
            transaction: Box::new(transaction.clone()),
            reason: Box::new(reason),
            command: transaction.abort_command(self.bootstrap_servers()),
        };
        write_marker(cluster, transaction, outcome).await.map_err(|error| match error {
            denied @ BrokerRequestError::Denied { .. } => stuck(denied),
            passing => SettleError::Unknown(passing),
        })?;
        self.metrics.ended(outcome);
        tracing::warn!(%transaction, outcome = outcome.label(), "ended a hanging transaction");
        Ok(())
    }
}

/// Kafka's error for a response, by what is to be done about it.
fn check(request: &'static str, code: i16, permission: &'static str) -> Result<(), BrokerRequestError> {
    match code {
        0 => Ok(()),
        // TOPIC_, GROUP_, CLUSTER_ and TRANSACTIONAL_ID_AUTHORIZATION_FAILED.
        29 | 30 | 31 | 53 => Err(BrokerRequestError::Denied { request, code, permission }),
        _ => Err(BrokerRequestError::Retriable { request, code }),
    }
}

async fn open_at(
    cluster: &mut Cluster,
    broker: BrokerId,
    topics: BTreeMap<String, Vec<i32>>,
) -> Result<Vec<OpenTransaction>, BrokerRequestError> {
    let asked =
        topics.into_iter().filter(|(_, partitions)| !partitions.is_empty()).map(|(topic, partitions)| {
            TopicRequest::default().with_name(topic_name(&topic)).with_partition_indexes(partitions)
        });
    let request = DescribeProducersRequest::default().with_topics(asked.collect());
    if request.topics.is_empty() {
        return Ok(Vec::new());
    }
    let mut open = Vec::new();
    for topic in cluster.send(broker, &request, 0).await?.topics {
        for partition in topic.partitions {
            check("DescribeProducers", partition.error_code, "READ on the topic")?;
            for producer in partition.active_producers {
                if producer.current_txn_start_offset < 0 {
                    continue;
                }
                open.push(OpenTransaction {
                    topic: topic.name.0.to_string(),
                    partition: partition.partition_index,
                    producer_id: producer.producer_id.0,
                    producer_epoch: i16::try_from(producer.producer_epoch).unwrap_or(i16::MAX),
                    coordinator_epoch: producer.coordinator_epoch,
                    first_offset: producer.current_txn_start_offset,
                });
            }
        }
    }
    Ok(open)
}

/// What the coordinators say of these producers.
async fn coordinators_of(
    cluster: &mut Cluster,
    producers: Vec<i64>,
) -> Result<BTreeMap<i64, CoordinatorState>, BrokerRequestError> {
    let mut said = BTreeMap::new();
    let filters = producers.into_iter().map(ProducerId).collect();
    let list = ListTransactionsRequest::default().with_producer_id_filters(filters);
    for broker in cluster.brokers() {
        let answer = cluster.send(broker, &list, 0).await?;
        check("ListTransactions", answer.error_code, "DESCRIBE on the transactional id")?;
        let ids: Vec<TransactionalId> =
            answer.transaction_states.into_iter().map(|listed| listed.transactional_id).collect();
        if !ids.is_empty() {
            let described = describe_at(cluster, broker, ids).await?;
            said.extend(described.into_iter().map(|state| (state.producer_id, state)));
        }
    }
    Ok(said)
}

/// What the coordinator of `transactional_id` says of it; `None` if there never was a transaction of that id.
async fn describe_transaction(
    cluster: &mut Cluster,
    transactional_id: &str,
) -> Result<Option<CoordinatorState>, BrokerRequestError> {
    if cluster.partitions(TRANSACTIONS_TOPIC) == 0 {
        return Ok(None);
    }
    let id = TransactionalId(StrBytes::from_string(transactional_id.to_owned()));
    let mut failure = None;
    for broker in cluster.brokers() {
        match describe_at(cluster, broker, vec![id.clone()]).await {
            Ok(mut described) => return Ok(described.pop()),
            Err(error @ BrokerRequestError::Retriable { .. }) => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(None), Err)
}

async fn describe_at(
    cluster: &mut Cluster,
    broker: BrokerId,
    ids: Vec<TransactionalId>,
) -> Result<Vec<CoordinatorState>, BrokerRequestError> {
    const TRANSACTIONAL_ID_NOT_FOUND: i16 = 105;
    let request = DescribeTransactionsRequest::default().with_transactional_ids(ids);
    let mut said = Vec::new();
    for described in cluster.send(broker, &request, 0).await?.transaction_states {
        if described.error_code == TRANSACTIONAL_ID_NOT_FOUND {
            continue;
        }
        check("DescribeTransactions", described.error_code, "DESCRIBE on the transactional id")?;
        said.push(CoordinatorState {
            transactional_id: described.transactional_id.0.to_string(),
            producer_id: described.producer_id.0,
            producer_epoch: described.producer_epoch,
            state: described.transaction_state.to_string(),
        });
    }
    Ok(said)
}

async fn write_marker(
    cluster: &mut Cluster,
    transaction: &OpenTransaction,
    outcome: Outcome,
) -> Result<(), BrokerRequestError> {
    let OpenTransaction { topic, partition, producer_id, producer_epoch, coordinator_epoch, .. } =
        transaction;
    let leads = |(broker, topics): (BrokerId, BTreeMap<String, Vec<i32>>)| {
        topics.get(topic).is_some_and(|partitions| partitions.contains(partition)).then_some(broker)
    };
    let leader = cluster.leaders().into_iter().find_map(leads);
    let leader = leader.ok_or(BrokerRequestError::Retriable { request: "Metadata", code: 5 })?;
    let marker = WritableTxnMarker::default()
        .with_producer_id(ProducerId(*producer_id))
        .with_producer_epoch(*producer_epoch)
        .with_transaction_result(outcome == Outcome::Commit)
        // No marker of this producer is in the partition yet: any coordinator's epoch is newer than none.
        .with_coordinator_epoch((*coordinator_epoch).max(0))
        .with_topics(vec![
            WritableTxnMarkerTopic::default()
                .with_name(topic_name(topic))
                .with_partition_indexes(vec![*partition]),
        ]);
    let request = WriteTxnMarkersRequest::default().with_markers(vec![marker]);
    for marker in cluster.send(leader, &request, 1).await?.markers {
        for partition in marker.topics.into_iter().flat_map(|topic| topic.partitions) {
            check("WriteTxnMarkers", partition.error_code, "ALTER on the cluster")?;
        }
    }
    Ok(())
}

/// The partition of the offsets topic that holds a group's: Java's hash of its name, as the broker computes it.
fn partition_of(group_id: &str, partitions: i32) -> i32 {
    let hash =
        group_id.encode_utf16().fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
    if partitions == 0 { 0 } else { hash.checked_abs().unwrap_or(0) % partitions }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_offsets_lie_where_javas_hash_of_its_name_says() {
        assert_eq!(partition_of("", 50), 0);
        assert_eq!(partition_of("a", 50), 97 % 50);
        assert_eq!(partition_of("ab", 50), (97 * 31 + 98) % 50);
        let hash =
            "polygenelubricants".encode_utf16().fold(0_i32, |h, u| h.wrapping_mul(31).wrapping_add(u.into()));
        assert_eq!(hash, i32::MIN, "the word whose hash is Java's smallest number");
        assert_eq!(partition_of("polygenelubricants", 50), 0);
        // Seen at a broker with six partitions: negative hashes count by their amount.
        assert_eq!(partition_of("hanging-offsets-true-20572", 6), 5);
        assert_eq!(partition_of("hanging-offsets-false-20572", 6), 2);
    }

    #[test]
    fn an_answer_is_sorted_by_what_can_be_done_about_it() {
        assert!(check("x", 0, "p").is_ok());
        assert!(matches!(check("x", 53, "p"), Err(BrokerRequestError::Denied { .. })));
        assert!(matches!(check("x", 14, "p"), Err(BrokerRequestError::Retriable { code: 14, .. })));
    }
}
