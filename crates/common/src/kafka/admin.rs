//! Topics: made with the right partitions and settings, or checked if they are there.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::client::{self, Role};
use crate::Failure;
use crate::backoff::{self, Retryable};
use crate::config::{KafkaConfig, TopicsConfig};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A topic as a service needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// The key of the configuration that names it, for messages.
    pub key: &'static str,
    /// How many partitions it has.
    pub partitions: i32,
    /// Replicas; -1: the broker's default.
    pub replication_factor: i32,
    /// How long it keeps its records; `None`: for ever.
    pub retention: Option<Duration>,
    /// The largest record it takes, in bytes; `None`: the broker's default.
    pub max_message_bytes: Option<u32>,
    /// Whether it keeps the newest record of each key, and only that.
    pub compacted: bool,
}

/// Largest record of the dead-letter topic: a frame cut at 512 KiB, or any record that the broker took by its default, with
/// room for headers.
const DEAD_LETTER_BYTES: u32 = 2 * 1024 * 1024;

impl TopicSpec {
    /// Raw trades: kept for ever.
    #[must_use]
    pub fn trades(topics: &TopicsConfig) -> Self {
        Self { retention: None, ..Self::keyed("topics.trades", &topics.trades, topics) }
    }

    /// Closed slices.
    #[must_use]
    pub fn candles(topics: &TopicsConfig) -> Self {
        Self::keyed("topics.candles", &topics.candles, topics)
    }

    /// Averages.
    #[must_use]
    pub fn moving_averages(topics: &TopicsConfig) -> Self {
        Self::keyed("topics.moving_averages", &topics.moving_averages, topics)
    }

    /// Late trades.
    #[must_use]
    pub fn late(topics: &TopicsConfig) -> Self {
        Self::keyed("topics.late", &topics.late, topics)
    }

    /// What could not be understood.
    #[must_use]
    pub fn dead_letter(topics: &TopicsConfig) -> Self {
        let keyed = Self::keyed("topics.dead_letter", &topics.dead_letter, topics);
        Self { max_message_bytes: Some(DEAD_LETTER_BYTES), ..keyed }
    }

    /// How far each partition of the trades is complete.
    #[must_use]
    pub fn watermarks(topics: &TopicsConfig) -> Self {
        let name = format!("{}.watermarks", topics.trades);
        Self { retention: None, compacted: true, ..Self::keyed("topics.trades", &name, topics) }
    }

    /// The producer's own state: one partition, so that it is read to one end and has one order.
    #[must_use]
    pub fn sequences(topics: &TopicsConfig) -> Self {
        let name = format!("{}.sequences", topics.trades);
        let keyed = Self::keyed("topics.trades", &name, topics);
        Self { retention: None, compacted: true, partitions: 1, ..keyed }
    }

    /// Any other topic of ours with the partitions, replicas and retention of `topics`.
    #[must_use]
    pub fn keyed(key: &'static str, name: &str, topics: &TopicsConfig) -> Self {
        Self {
            name: name.to_owned(),
            key,
            partitions: topics.partitions,
            replication_factor: topics.replication_factor,
            retention: Some(*topics.retention),
            max_message_bytes: None,
            compacted: false,
        }
    }

    fn settings(&self) -> BTreeMap<&'static str, String> {
        let retention = self.retention.map_or("-1".to_owned(), |kept| kept.as_millis().to_string());
        let mut settings = BTreeMap::from([("message.timestamp.type", "CreateTime".to_owned())]);
        if self.compacted {
            // Small segments and an eager cleaner: the open segment is never compacted, and a start reads all that is there.
            settings.extend([
                ("cleanup.policy", "compact".to_owned()),
                ("segment.bytes", (16 << 20).to_string()),
                ("segment.ms", (6 * 3_600_000).to_string()),
                ("min.cleanable.dirty.ratio", "0.1".to_owned()),
            ]);
        } else {
            settings.extend([("cleanup.policy", "delete".to_owned()), ("retention.ms", retention)]);
        }
        settings.extend(self.max_message_bytes.map(|bytes| ("max.message.bytes", bytes.to_string())));
        settings
    }
}

#[derive(Debug, thiserror::Error)]
enum TopicError {
    #[error("{0}")]
    Kafka(#[from] KafkaError),
    #[error("topic {topic}: {code}")]
    Refused { topic: String, code: RDKafkaErrorCode },
    #[error("{0}")]
    Wrong(String),
}

impl Retryable for TopicError {
    fn is_retryable(&self) -> bool {
        use RDKafkaErrorCode as Code;
        let lasting = |code: &Code| {
            matches!(
                code,
                Code::TopicAuthorizationFailed
                    | Code::ClusterAuthorizationFailed
                    | Code::PolicyViolation
                    | Code::InvalidTopic
                    | Code::InvalidPartitions
                    | Code::InvalidReplicationFactor
                    | Code::InvalidConfig
            )
        };
        match self {
            Self::Kafka(error) => error.rdkafka_error_code().is_none_or(|code| !lasting(&code)),
            Self::Refused { code, .. } => !lasting(code),
            Self::Wrong(_) => false,
        }
    }
}

impl From<TopicError> for Failure {
    fn from(error: TopicError) -> Self {
        Self::Config(error.to_string())
    }
}

/// Makes the topics that are missing and checks those that are there; waits for Kafka at most for `deadline`.
///
/// # Errors
/// [`Failure::Unavailable`] without Kafka; [`Failure::Config`] for a topic that is not as it must be, saying what is wrong and the way out.
pub async fn ensure_topics(
    kafka: &KafkaConfig,
    service: &str,
    topics: &[TopicSpec],
    deadline: Duration,
) -> Result<(), Failure> {
    let admin: AdminClient<DefaultClientContext> =
        client::config(kafka, service, &Role::Admin).create().map_err(|error| client_refused(&error))?;
    let what = format!("kafka at {}", kafka.bootstrap_servers);
    backoff::until_deadline(&what, deadline, async || {
        create_missing(&admin, topics).await?;
        for topic in topics {
            check_partitions(&admin, topic)?;
        }
        check_settings(&admin, topics).await
    })
    .await
}

/// librdkafka refuses a property when a client is made of it: then `kafka.properties` has one that is wrong.
#[must_use]
pub fn client_refused(error: &KafkaError) -> Failure {
    // Not the value: a password under a misspelt name would be told to everybody.
    let why = match error {
        KafkaError::ClientConfig(_, why, key, _) => format!("{key}: {why}"),
        other => other.to_string(),
    };
    Failure::Config(format!("bad configuration: kafka.properties: {why}"))
}

async fn create_missing(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[TopicSpec],
) -> Result<(), TopicError> {
    let settings: Vec<_> = topics.iter().map(TopicSpec::settings).collect();
    let new: Vec<_> = topics
        .iter()
        .zip(&settings)
        .map(|(topic, settings)| {
            let replication = TopicReplication::Fixed(topic.replication_factor);
            let new = NewTopic::new(&topic.name, topic.partitions, replication);
            settings.iter().fold(new, |new, (name, value)| new.set(name, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    for outcome in admin.create_topics(&new, &options).await? {
        match outcome {
            Ok(topic) => tracing::info!(topic, "topic created"),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(TopicError::Refused { topic, code }),
        }
    }
    Ok(())
}

fn check_partitions(admin: &AdminClient<DefaultClientContext>, topic: &TopicSpec) -> Result<(), TopicError> {
    let metadata = admin.inner().fetch_metadata(Some(&topic.name), TIMEOUT)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic.name);
    let count = found.map_or(0, |found| found.partitions().len());
    let unknown =
        || TopicError::Refused { topic: topic.name.clone(), code: RDKafkaErrorCode::UnknownTopicOrPartition };
    if count == 0 {
        return Err(unknown());
    }
    if i32::try_from(count) == Ok(topic.partitions) {
        return Ok(());
    }
    Err(TopicError::Wrong(format!(
        "topic {} ({}) has {count} partitions; expected {}: a record goes to the partition its trade came from, so all topics need \
         the same count. Set topics.partitions = {count} for every service if all topics have that many, or name another topic",
        topic.name, topic.key, topic.partitions
    )))
}

async fn check_settings(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[TopicSpec],
) -> Result<(), TopicError> {
    let named: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let options = AdminOptions::new().request_timeout(Some(TIMEOUT));
    for (topic, described) in topics.iter().zip(admin.describe_configs(&named, &options).await?) {
        let described = described.map_err(|code| TopicError::Refused { topic: topic.name.clone(), code })?;
        for (name, wanted) in topic.settings() {
            let found = described.get(name).and_then(|entry| entry.value.as_deref()).unwrap_or("nothing");
            if found == wanted {
                continue;
            }
            // These two change what a reader finds; the others only what is kept, which is the operator's to decide.
            if matches!(name, "cleanup.policy" | "message.timestamp.type") {
                let (topic, key) = (&topic.name, topic.key);
                return Err(TopicError::Wrong(format!(
                    "topic {topic} ({key}) has {name} = {found}; expected {wanted}: change it with kafka-configs, or name another topic"
                )));
            }
            tracing::warn!(
                topic = topic.name,
                setting = name,
                found,
                wanted,
                "a topic is set otherwise than we would make it"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Duration as ConfigDuration;

    fn topics() -> TopicsConfig {
        TopicsConfig {
            trades: "t".into(),
            candles: "c".into(),
            moving_averages: "m".into(),
            late: "l".into(),
            dead_letter: "d".into(),
            partitions: 6,
            replication_factor: -1,
            retention: ConfigDuration(Duration::from_secs(3600)),
        }
    }

    #[test]
    fn trades_stay_for_ever_and_the_rest_as_long_as_the_configuration_says() {
        let topics = topics();
        assert_eq!(TopicSpec::trades(&topics).settings()["retention.ms"], "-1");
        for topic in
            [TopicSpec::candles(&topics), TopicSpec::moving_averages(&topics), TopicSpec::late(&topics)]
        {
            assert_eq!(topic.settings()["retention.ms"], "3600000");
            assert_eq!(topic.partitions, 6);
        }
        assert_eq!(TopicSpec::dead_letter(&topics).settings()["max.message.bytes"], "2097152");
        assert_eq!(TopicSpec::watermarks(&topics).settings()["cleanup.policy"], "compact");
        let sequences = TopicSpec::sequences(&topics);
        assert_eq!((sequences.name.as_str(), sequences.partitions), ("t.sequences", 1));
    }

    #[test]
    fn a_lasting_refusal_is_told_from_a_passing_one() {
        let refused = |code| TopicError::Refused { topic: "t".into(), code };
        assert!(!refused(RDKafkaErrorCode::InvalidReplicationFactor).is_retryable());
        assert!(refused(RDKafkaErrorCode::RequestTimedOut).is_retryable());
        assert_eq!(Failure::from(TopicError::Wrong("x".into())).code(), 78);
    }

    #[tokio::test]
    async fn kafka_that_does_not_come_is_named_with_its_address() {
        let kafka = KafkaConfig { bootstrap_servers: "127.0.0.1:1".into(), properties: BTreeMap::new() };
        let end =
            ensure_topics(&kafka, "test", &[TopicSpec::trades(&topics())], Duration::from_millis(300)).await;
        let failure = end.unwrap_err();
        assert_eq!(failure.code(), 69);
        assert!(
            failure.to_string().starts_with("kafka at 127.0.0.1:1 was not available within"),
            "{failure}"
        );
    }
}
