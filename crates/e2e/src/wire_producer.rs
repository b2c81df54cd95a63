//! A transactional producer, request by request, that can leave a transaction in states that only a broker's crash leaves otherwise.

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use common::config::KafkaConfig;
use common::kafka::protocol::{BrokerId, Cluster, topic_name};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, GroupId, InitProducerIdRequest,
    ProduceRequest, ProducerId, TransactionalId, TxnOffsetCommitRequest,
};
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{Compression, Record, RecordBatchEncoder, RecordEncodeOptions, TimestampType};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

/// Kafka's answer to a request that comes before the last transaction's markers are written.
const CONCURRENT_TRANSACTIONS: i16 = 51;

/// One producer of one transactional id, on a cluster of one broker.
pub struct WireProducer {
    cluster: Cluster,
    broker: BrokerId,
    transactional_id: TransactionalId,
    producer_id: ProducerId,
    epoch: i16,
    sequence: i32,
}

impl WireProducer {
    /// Fences older producers of this id.
    pub async fn fence(kafka: &KafkaConfig, transactional_id: &str, timeout_ms: i32) -> anyhow::Result<Self> {
        let mut cluster = Cluster::discover(kafka, "wire-producer", &[]).await?;
        let broker = *cluster.brokers().first().context("no broker")?;
        let transactional_id = TransactionalId(StrBytes::from_string(transactional_id.to_owned()));
        let request = InitProducerIdRequest::default()
            .with_transactional_id(Some(transactional_id.clone()))
            .with_transaction_timeout_ms(timeout_ms);
        loop {
            let answer = cluster.send(broker, &request, 4).await?;
            // The coordinator's topic may have to be created first.
            if matches!(answer.error_code, 14..=16 | CONCURRENT_TRANSACTIONS) {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            }
            ensure!(answer.error_code == 0, "InitProducerId: {}", answer.error_code);
            let (producer_id, epoch) = (answer.producer_id, answer.producer_epoch);
            return Ok(Self { cluster, broker, transactional_id, producer_id, epoch, sequence: 0 });
        }
    }

    /// Tells the coordinator that the transaction writes into a partition.
    pub async fn add_partition(&mut self, topic: &str, partition: i32) -> anyhow::Result<()> {
        let topics =
            AddPartitionsToTxnTopic::default().with_name(topic_name(topic)).with_partitions(vec![partition]);
        let request = AddPartitionsToTxnRequest::default()
            .with_v3_and_below_transactional_id(self.transactional_id.clone())
            .with_v3_and_below_producer_id(self.producer_id)
            .with_v3_and_below_producer_epoch(self.epoch)
            .with_v3_and_below_topics(vec![topics]);
        loop {
            let answer = self.cluster.send(self.broker, &request, 3).await?;
            let results = answer.results_by_topic_v3_and_below.iter();
            let code =
                results.flat_map(|topic| &topic.results_by_partition).map(|one| one.partition_error_code);
            match code.max().unwrap_or(0) {
                0 => return Ok(()),
                CONCURRENT_TRANSACTIONS => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                code => anyhow::bail!("AddPartitionsToTxn: {code}"),
            }
        }
    }

    /// Writes one record, whether the coordinator knows of the partition or not.
    pub async fn produce(
        &mut self,
        topic: &str,
        partition: i32,
        key: Option<&[u8]>,
        value: &[u8],
        timestamp: i64,
    ) -> anyhow::Result<()> {
        let record = Record {
            transactional: true,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: self.producer_id.0,
            producer_epoch: self.epoch,
            timestamp_type: TimestampType::Creation,
            offset: 0,
            sequence: self.sequence,
            timestamp,
            key: key.map(Bytes::copy_from_slice),
            value: Some(Bytes::copy_from_slice(value)),
            headers: Default::default(),
        };
        let mut batch = BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: Compression::None };
        RecordBatchEncoder::encode(&mut batch, [&record], &options)?;
        let data = PartitionProduceData::default().with_index(partition).with_records(Some(batch.freeze()));
        let topic = TopicProduceData::default().with_name(topic_name(topic)).with_partition_data(vec![data]);
        let request = ProduceRequest::default()
            .with_transactional_id(Some(self.transactional_id.clone()))
            .with_acks(-1)
            .with_timeout_ms(5_000)
            .with_topic_data(vec![topic]);
        let leader = self.broker;
        let answer = self.cluster.send(leader, &request, 11).await?;
        let produced = answer.responses.iter().flat_map(|topic| &topic.partition_responses);
        let code = produced.map(|one| one.error_code).max().unwrap_or(0);
        ensure!(code == 0, "Produce: {code}");
        self.sequence += 1;
        Ok(())
    }

    /// Tells the coordinator that the transaction commits offsets of `group_id`.
    pub async fn add_offsets(&mut self, group_id: &str) -> anyhow::Result<()> {
        let request = AddOffsetsToTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.epoch)
            .with_group_id(group(group_id));
        let answer = self.cluster.send(self.broker, &request, 3).await?;
        ensure!(answer.error_code == 0, "AddOffsetsToTxn: {}", answer.error_code);
        Ok(())
    }

    /// Writes a committed offset, whether the coordinator knows of the group's offsets or not.
    pub async fn commit_offset(
        &mut self,
        group_id: &str,
        topic: &str,
        partition: i32,
        offset: i64,
    ) -> anyhow::Result<()> {
        let committed = TxnOffsetCommitRequestPartition::default()
            .with_partition_index(partition)
            .with_committed_offset(offset);
        let topic = TxnOffsetCommitRequestTopic::default()
            .with_name(topic_name(topic))
            .with_partitions(vec![committed]);
        let request = TxnOffsetCommitRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_group_id(group(group_id))
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.epoch)
            .with_generation_id(-1)
            .with_topics(vec![topic]);
        let answer = self.cluster.send(self.broker, &request, 3).await?;
        let code = answer.topics.iter().flat_map(|topic| &topic.partitions).map(|one| one.error_code).max();
        ensure!(code == Some(0), "TxnOffsetCommit: {code:?}");
        Ok(())
    }

    /// Ends the transaction; its markers are written when this returns.
    pub async fn end(&mut self, is_committed: bool) -> anyhow::Result<()> {
        let request = EndTxnRequest::default()
            .with_transactional_id(self.transactional_id.clone())
            .with_producer_id(self.producer_id)
            .with_producer_epoch(self.epoch)
            .with_committed(is_committed);
        loop {
            // Asked again, it answers that it is done once the markers are written.
            let answer = self.cluster.send(self.broker, &request, 3).await?;
            match answer.error_code {
                0 => break,
                CONCURRENT_TRANSACTIONS => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                code => anyhow::bail!("EndTxn: {code}"),
            }
        }
        while self.cluster.send(self.broker, &request, 3).await?.error_code == CONCURRENT_TRANSACTIONS {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

fn group(name: &str) -> GroupId {
    GroupId(StrBytes::from_string(name.to_owned()))
}

/// Lets a broker take records of transactions that their coordinator knows nothing of, as brokers did before Kafka 3.6.
pub async fn verify_transactions(kafka: &KafkaConfig, broker: i32, is_verified: bool) -> anyhow::Result<()> {
    let admin: AdminClient<DefaultClientContext> =
        common::kafka::client::config(kafka, "e2e", &common::kafka::client::Role::Admin).create()?;
    let value = is_verified.to_string();
    let change = AlterConfig::new(ResourceSpecifier::Broker(broker))
        .set("transaction.partition.verification.enable", &value);
    for outcome in admin.alter_configs(&[change], &AdminOptions::new()).await? {
        outcome.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    }
    Ok(())
}
