//! An aggregator's surroundings in a test: topics, group and records of its own, so that tests do not meet.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use common::avro::Schema;
use common::avro::codec::SchemaId;
use common::avro::registry::Registry;
use common::avro::schema::{Contract, TRADE, WATERMARK};
use common::config::{Duration as ConfigDuration, TopicsConfig};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaResult;
use rdkafka::{Offset, TopicPartitionList};

use crate::Stack;

const DEADLINE: Duration = Duration::from_secs(60);
/// Only so that a test that hangs ends.
const PATIENCE: Duration = Duration::from_secs(120);

/// Longest wait for one committed offset.
const OBSERVED_WITHIN: Duration = Duration::from_secs(2);

/// Topics whose names begin alike.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The servers.
    pub stack: Stack,
    /// The topics' names.
    pub topics: TopicsConfig,
    /// The registry's ids.
    pub schemas: Schemas,
}

/// What the registry calls the schemas of a pipeline's input.
#[derive(Debug, Clone, Copy, Default)]
pub struct Schemas {
    /// Of trades.
    pub trade: SchemaId,
    /// Of trades by somebody whose schema lacks the contract's last field, an optional one, and has one more instead.
    pub foreign: SchemaId,
    /// Of watermarks.
    pub watermark: SchemaId,
}

/// The contract's schema for trades with its last field left out and another one added.
fn foreign() -> anyhow::Result<Contract> {
    let mut json: serde_json::Value = serde_json::from_str(TRADE.text)?;
    let fields = json.get_mut("fields").and_then(serde_json::Value::as_array_mut).context("no fields")?;
    fields.pop();
    fields.push(serde_json::json!({ "name": "venue", "type": ["null", "string"], "default": null }));
    let schema = Schema::parse(&json)?;
    // As often as there are pipelines in a test.
    Ok(Contract { text: json.to_string().leak(), schema })
}

/// Makes of a trade without a last field, in the wire format, what that writer would have written.
pub fn make_foreign(trade: &mut Vec<u8>, id: SchemaId) {
    let [a, b, c, d] = id.to_be_bytes();
    trade.splice(1..5, [a, b, c, d]);
    trade.pop();
    // The union's second branch, a text of one byte.
    trade.extend([2, 2, b'x']);
}

impl Pipeline {
    /// Makes the topics of trades and watermarks, as the raw producer would; `name` with the process's id behind it begins each name.
    pub async fn make(stack: &Stack, name: &str, partitions: i32) -> anyhow::Result<Self> {
        let name = format!("{name}-{}", std::process::id());
        let topic = |topic: &str| format!("{name}.{topic}");
        let topics = TopicsConfig {
            trades: topic("trades"),
            candles: topic("candles"),
            moving_averages: topic("averages"),
            late: topic("late"),
            dead_letter: topic("dlq"),
            partitions,
            replication_factor: -1,
            retention: ConfigDuration(Duration::from_secs(30 * 24 * 3600)),
        };
        let pipeline = Self { stack: stack.clone(), topics, schemas: Schemas::default() };
        let specs = [TopicSpec::trades(&pipeline.topics), TopicSpec::watermarks(&pipeline.topics)];
        ensure_topics(&stack.kafka()?, "e2e", &specs, DEADLINE).await?;
        let registry = Registry::new(&stack.registry()?)?;
        let schemas = Schemas {
            trade: registry.register(&pipeline.topics.trades, &TRADE).await?,
            foreign: registry.register(&pipeline.topics.trades, &foreign()?).await?,
            watermark: registry.register(&pipeline.watermarks(), &WATERMARK).await?,
        };
        Ok(Self { schemas, ..pipeline })
    }

    /// The topic of watermarks.
    #[must_use]
    pub fn watermarks(&self) -> String {
        format!("{}.watermarks", self.topics.trades)
    }

    /// The same trades, with outputs of another name.
    #[must_use]
    pub fn beside(&self, name: &str) -> Self {
        let topic = |topic: &str| format!("{}.{name}.{topic}", self.topics.trades);
        let topics = TopicsConfig {
            candles: topic("candles"),
            moving_averages: topic("averages"),
            late: topic("late"),
            dead_letter: topic("dlq"),
            ..self.topics.clone()
        };
        Self { topics, ..self.clone() }
    }

    /// The same for trades of another topic, which is made.
    pub fn reading(&self, trades: &str) -> anyhow::Result<Self> {
        let topics = TopicsConfig { trades: trades.to_owned(), ..self.topics.clone() };
        let specs = [TopicSpec::trades(&topics), TopicSpec::watermarks(&topics)];
        let kafka = self.stack.kafka()?;
        tokio::runtime::Runtime::new()?.block_on(ensure_topics(&kafka, "e2e", &specs, DEADLINE))?;
        Ok(Self { topics, ..self.clone() })
    }

    /// The group that the environment names.
    #[must_use]
    pub fn group(&self) -> String {
        format!("{}.group", self.topics.candles)
    }

    /// What an aggregator is told by its environment.
    pub fn environment(&self, instance: &str) -> anyhow::Result<Vec<(String, String)>> {
        let Self { stack, topics, .. } = self;
        let settings = [
            ("KAFKA__BOOTSTRAP_SERVERS", stack.kafka()?.bootstrap_servers),
            ("SCHEMA_REGISTRY__URL", stack.registry()?.url.to_string()),
            ("ADMIN__LISTEN", "127.0.0.1:0".into()),
            ("TRACING__ZIPKIN_URL", String::new()),
            ("GROUP_ID", self.group()),
            ("INSTANCE", instance.into()),
            ("TOPICS__TRADES", topics.trades.clone()),
            ("TOPICS__CANDLES", topics.candles.clone()),
            ("TOPICS__MOVING_AVERAGES", topics.moving_averages.clone()),
            ("TOPICS__LATE", topics.late.clone()),
            ("TOPICS__DEAD_LETTER", topics.dead_letter.clone()),
            ("TOPICS__PARTITIONS", topics.partitions.to_string()),
        ];
        Ok(settings.into_iter().map(|(key, value)| (format!("KSTREAM__{key}"), value)).collect())
    }

    /// Waits until the group has committed that it has read every trade there is.
    pub fn wait_until_read(&self) -> anyhow::Result<()> {
        let observer = self.observer()?;
        let until = Instant::now() + PATIENCE;
        let mut behind = String::new();
        while Instant::now() < until {
            match self.behind(&observer) {
                Ok(None) => return Ok(()),
                Ok(Some(partition)) => behind = partition,
                Err(error) => behind = error.to_string(),
            }
            std::thread::park_timeout(Duration::from_millis(50));
        }
        bail!("group {} does not read on: {behind}", self.group())
    }

    /// How many records the group has read, over all partitions, by what it has committed.
    pub fn committed(&self) -> anyhow::Result<i64> {
        self.committed_by(&self.observer()?)
    }

    /// The same, asked by one [`Self::observer`] again and again.
    pub fn committed_by(&self, observer: &BaseConsumer) -> anyhow::Result<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topics.trades, 0, self.topics.partitions - 1);
        let committed = observer.committed_offsets(asked, PATIENCE)?;
        Ok(committed.elements().iter().map(|element| element.offset().to_raw().unwrap_or(0).max(0)).sum())
    }

    /// The committed offset of a partition.
    ///
    /// # Errors
    /// If Kafka does not tell, also because a transaction over it is open.
    pub fn committed_of(&self, observer: &BaseConsumer, partition: i32) -> KafkaResult<i64> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&self.topics.trades, partition);
        let committed = observer.committed_offsets(asked, OBSERVED_WITHIN)?;
        Ok(committed.elements().first().and_then(|element| element.offset().to_raw()).unwrap_or(-1))
    }

    /// How many records there are, over all partitions.
    pub fn end_by(&self, observer: &BaseConsumer) -> anyhow::Result<i64> {
        let ends = (0..self.topics.partitions)
            .map(|partition| Ok(observer.fetch_watermarks(&self.topics.trades, partition, PATIENCE)?.1));
        ends.sum()
    }

    /// Asks how far the group has come, and is no member of it.
    pub fn observer(&self) -> anyhow::Result<BaseConsumer> {
        let role = Role::GroupObserver { group_id: self.group() };
        Ok(config(&self.stack.kafka()?, "e2e", &role).create()?)
    }

    /// A partition that has not been read to its end.
    fn behind(&self, observer: &BaseConsumer) -> KafkaResult<Option<String>> {
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&self.topics.trades, 0, self.topics.partitions - 1);
        let committed = observer.committed_offsets(asked, PATIENCE)?;
        for element in committed.elements() {
            let (first, end) = observer.fetch_watermarks(element.topic(), element.partition(), PATIENCE)?;
            if first < end && element.offset() != Offset::Offset(end) {
                let (partition, offset) = (element.partition(), element.offset());
                return Ok(Some(format!("partition {partition} at {offset:?} of {end}")));
            }
        }
        Ok(None)
    }
}

/// The setting of an aggregator's session.
#[must_use]
pub fn session(lasts: Duration) -> (String, String) {
    ("KSTREAM__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS".to_owned(), lasts.as_millis().to_string())
}
