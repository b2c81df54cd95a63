//! Requests that librdkafka has no API for, sent to the brokers directly.
//!
//! librdkafka carries every record. This client only asks what KIP-664 added to the protocol: which transactions are open in a
//! partition, what their coordinator says, and the marker that ends one. It opens a connection for each inspection and keeps none.

mod connection;
mod sasl;
mod security;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{ApiKey, MetadataRequest, TopicName};
use kafka_protocol::protocol::{Request, StrBytes};

use crate::config::KafkaConfig;
use connection::Connection;
use security::Security;

/// Longest time for one request and its response, connecting included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// What a broker must know: Kafka 3.0 and later do.
const NEEDED: [ApiKey; 5] = [
    ApiKey::Metadata,
    ApiKey::DescribeProducers,
    ApiKey::DescribeTransactions,
    ApiKey::ListTransactions,
    ApiKey::WriteTxnMarkers,
];

/// The reason that a request has no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerRequestError {
    /// No broker answered; it may later.
    #[error("{address}: {reason}")]
    Unreachable {
        /// `host:port` of the broker.
        address: String,
        /// The cause, with what lies behind it.
        reason: String,
    },
    /// The broker answered with an error that may pass, such as a leader that moves.
    #[error("{request}: broker error {code}")]
    Retriable {
        /// The request's name.
        request: &'static str,
        /// Kafka's error code.
        code: i16,
    },
    /// The principal lacks a permission.
    #[error("{request}: not authorized (broker error {code}); it needs {permission}")]
    Denied {
        /// The request's name.
        request: &'static str,
        /// Kafka's error code.
        code: i16,
        /// The missing permission, as an ACL names it.
        permission: &'static str,
    },
    /// The broker or the configuration cannot do this at all.
    #[error("{0}")]
    Unsupported(String),
}

/// Kafka's number of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerId(pub i32);

/// The brokers of a cluster and the leaders of some partitions, as one inspection sees them.
pub struct Cluster {
    client_id: String,
    security: Security,
    addresses: BTreeMap<BrokerId, String>,
    leaders: BTreeMap<BrokerId, BTreeMap<String, Vec<i32>>>,
    partitions: BTreeMap<String, i32>,
    connections: HashMap<BrokerId, Connection>,
}

impl Cluster {
    /// Asks the first bootstrap server that answers for the brokers and for the leaders of `topics`. A topic that does not exist
    /// has no leaders.
    ///
    /// # Errors
    /// [`BrokerRequestError`] of the last server that was asked.
    pub async fn discover(
        kafka: &KafkaConfig,
        client_id: &str,
        topics: &[String],
    ) -> Result<Self, BrokerRequestError> {
        let security = Security::from_properties(&kafka.properties)?;
        let mut failure = BrokerRequestError::Unsupported("kafka.bootstrap_servers is empty".into());
        for address in kafka.bootstrap_servers.split(',').map(str::trim).filter(|address| !address.is_empty())
        {
            match Self::discover_from(address, client_id, &security, topics).await {
                Ok(cluster) => return Ok(cluster),
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    async fn discover_from(
        address: &str,
        client_id: &str,
        security: &Security,
        topics: &[String],
    ) -> Result<Self, BrokerRequestError> {
        let mut connection = Connection::open(address, client_id, security).await?;
        connection.require(&NEEDED).await?;
        let named = |topic: &String| MetadataRequestTopic::default().with_name(Some(topic_name(topic)));
        let request = MetadataRequest::default()
            .with_topics(Some(topics.iter().map(named).collect()))
            .with_allow_auto_topic_creation(false);
        let answer = connection.send(&request, 12).await?;
        let address_of = |host: &str, port: i32| match host.contains(':') {
            true => format!("[{host}]:{port}"),
            false => format!("{host}:{port}"),
        };
        let addresses = answer
            .brokers
            .iter()
            .map(|broker| (BrokerId(broker.node_id.0), address_of(broker.host.as_str(), broker.port)))
            .collect();
        let mut partitions = BTreeMap::new();
        let mut leaders: BTreeMap<BrokerId, BTreeMap<String, Vec<i32>>> = BTreeMap::new();
        for topic in answer.topics {
            let Some(name) = topic.name else { continue };
            let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
            partitions.insert(name.0.to_string(), count);
            for partition in topic.partitions.iter().filter(|partition| partition.leader_id.0 >= 0) {
                let of_leader = leaders.entry(BrokerId(partition.leader_id.0)).or_default();
                of_leader.entry(name.0.to_string()).or_default().push(partition.partition_index);
            }
        }
        Ok(Self {
            client_id: client_id.to_owned(),
            security: security.clone(),
            addresses,
            leaders,
            partitions,
            connections: HashMap::new(),
        })
    }

    /// The partitions that each broker leads, by topic.
    #[must_use]
    pub fn leaders(&self) -> BTreeMap<BrokerId, BTreeMap<String, Vec<i32>>> {
        self.leaders.clone()
    }

    /// How many partitions a topic has; 0 for one that does not exist.
    #[must_use]
    pub fn partitions(&self, topic: &str) -> i32 {
        self.partitions.get(topic).copied().unwrap_or(0)
    }

    /// Every broker that is up.
    #[must_use]
    pub fn brokers(&self) -> Vec<BrokerId> {
        self.addresses.keys().copied().collect()
    }

    /// Sends a request to one broker and waits for its response, at most five seconds.
    ///
    /// # Errors
    /// [`BrokerRequestError`]; what the response itself says is the caller's to check.
    pub async fn send<R: Request>(
        &mut self,
        broker: BrokerId,
        request: &R,
        version: i16,
    ) -> Result<R::Response, BrokerRequestError> {
        if !self.connections.contains_key(&broker) {
            let address = self.addresses.get(&broker).ok_or_else(|| BrokerRequestError::Unreachable {
                address: format!("broker {}", broker.0),
                reason: "not among the cluster's brokers".into(),
            })?;
            let connection = Connection::open(address, &self.client_id, &self.security).await?;
            self.connections.insert(broker, connection);
        }
        let connection = self.connections.get_mut(&broker).expect("inserted above");
        connection.send(request, version).await
    }
}

/// A topic's name in the crate's own type.
#[must_use]
pub fn topic_name(topic: &str) -> TopicName {
    TopicName(StrBytes::from_string(topic.to_owned()))
}
