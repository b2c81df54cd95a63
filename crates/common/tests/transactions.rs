//! Injects every kind of broker error into a transaction on librdkafka's mock cluster, and checks its class and that the recovery for that
//! class works.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::time::Duration;

use common::config::KafkaConfig;
use common::kafka::client::{self, Role};
use common::kafka::hanging_transactions::TransactionGuard;
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext};
use rdkafka::types::RDKafkaApiKey as Api;
use rdkafka::types::RDKafkaRespErr::{self, *};
use rdkafka::{Offset, TopicPartitionList};

const WITHIN: Duration = Duration::from_secs(30);

/// A broker, a producer, and a consumer whose offsets are committed in the transactions.
struct TransactionRig {
    cluster: MockCluster<'static, DefaultProducerContext>,
    kafka: KafkaConfig,
    producer: TransactionalProducer,
    consumer: BaseConsumer,
}

impl TransactionRig {
    fn new() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in ["in", "out"] {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        let kafka = KafkaConfig {
            bootstrap_servers: cluster.bootstrap_servers(),
            properties: std::collections::BTreeMap::new(),
        };
        let role = Role::GroupConsumer { group_id: "g".into(), group_instance_id: "g-0".into() };
        let consumer: BaseConsumer = client::config(&kafka, "test", &role).create().unwrap();
        Self { producer: producer(&kafka), cluster, kafka, consumer }
    }

    /// One transaction with a record and an offset.
    fn transact(&mut self) -> Result<(), TransactionError> {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset("in", 0, Offset::Offset(7)).unwrap();
        let group = self.consumer.group_metadata().unwrap();
        let transaction = self.producer.begin()?;
        let record: BaseRecord<'_, [u8], [u8]> = BaseRecord::to("out").payload(b"x");
        let sent = transaction.send(record).and_then(|()| transaction.offsets(&offsets, &group));
        if let Err(error) = sent {
            transaction.abort()?;
            return Err(error);
        }
        match transaction.commit() {
            Err(error @ TransactionError::Abortable(_)) => {
                self.producer.abort_failed()?;
                Err(error)
            }
            ended => ended,
        }
    }
}

fn producer(kafka: &KafkaConfig) -> TransactionalProducer {
    let role = Role::TransactionalProducer { transactional_id: "t".into() };
    let settings = client::config(kafka, "test", &role);
    TransactionalProducer::fence(&settings, DefaultProducerContext, TransactionGuard::disabled(), WITHIN)
        .unwrap()
}

/// Answers each of these requests once with each of these errors, and checks the outcome of the transaction.
fn sorted(
    requests: &[Api],
    errors: &[RDKafkaRespErr],
    is_right: impl Fn(&Result<(), TransactionError>) -> bool,
) {
    for request in requests {
        for error in errors {
            let mut rig = TransactionRig::new();
            rig.transact().unwrap();
            rig.cluster.request_errors(*request, &[*error]);
            let ended = rig.transact();
            assert!(is_right(&ended), "{request:?} answered by {error:?}: {ended:?}");
            if !matches!(ended, Ok(()) | Err(TransactionError::Abortable(_))) {
                rig.producer = producer(&rig.kafka);
            }
            rig.transact().unwrap_or_else(|after| panic!("{request:?} answered by {error:?}, then {after}"));
        }
    }
}

#[test]
fn a_coordinator_that_moves_loads_or_is_busy_is_asked_again() {
    let errors = [
        RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
        RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
    ];
    let requests = [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::TxnOffsetCommit, Api::EndTxn];
    sorted(&requests, &errors, Result::is_ok);
    sorted(&[Api::AddPartitionsToTxn], &[RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS], Result::is_ok);
}

#[test]
fn a_group_that_has_moved_on_and_a_topic_that_is_refused_abort_the_transaction() {
    let abort = |ended: &Result<(), TransactionError>| matches!(ended, Err(TransactionError::Abortable(_)));
    let group = [RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID, RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION];
    sorted(&[Api::TxnOffsetCommit], &group, abort);
    sorted(&[Api::AddPartitionsToTxn], &[RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED], abort);
    sorted(&[Api::AddOffsetsToTxn], &[RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED], abort);
}

#[test]
fn who_is_fenced_is_told_so_and_a_new_producer_goes_on() {
    let fenced = |ended: &Result<(), TransactionError>| matches!(ended, Err(TransactionError::Fenced(_)));
    let requests = [Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::EndTxn];
    sorted(&requests, &[RD_KAFKA_RESP_ERR_PRODUCER_FENCED], fenced);
    sorted(&[Api::TxnOffsetCommit], &[RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID], fenced);
}

#[test]
fn what_breaks_the_protocol_ends_the_producer_and_a_new_one_goes_on() {
    let fatal = |ended: &Result<(), TransactionError>| matches!(ended, Err(TransactionError::Fatal(_)));
    let errors =
        [RD_KAFKA_RESP_ERR_INVALID_TXN_STATE, RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED];
    sorted(&[Api::AddPartitionsToTxn, Api::AddOffsetsToTxn, Api::EndTxn], &errors, fatal);
}

#[test]
fn a_broker_that_is_away_when_transactions_are_opened_is_waited_for() {
    let rig = TransactionRig::new();
    rig.cluster.request_errors(
        Api::InitProducerId,
        &[RD_KAFKA_RESP_ERR_COORDINATOR_NOT_AVAILABLE, RD_KAFKA_RESP_ERR_NOT_COORDINATOR],
    );
    let mut rig = TransactionRig { producer: producer(&rig.kafka), ..rig };
    rig.transact().unwrap();
}
