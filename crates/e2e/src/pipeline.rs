//! The topics of one test, and how aggregators of them are started.

use std::time::Duration;

use anyhow::Context as _;
use common::avro::Schema;
use common::avro::codec::SchemaId;
use common::avro::registry::Registry;
use common::avro::schema::{Contract, TRADE, WATERMARK};
use common::config::{Duration as ConfigDuration, TopicsConfig};
use common::kafka::admin::{TopicSpec, ensure_topics};

use crate::Harness;
use crate::consumer_group::ConsumerGroup;
use crate::eventually::PATIENCE;
use crate::harness::Launch;

/// Topics whose names begin alike.
#[derive(Debug, Clone)]
pub struct Pipeline {
    /// The servers, and the test's name.
    pub harness: Harness,
    /// The topics' names.
    pub topics: TopicsConfig,
    /// The registry's ids.
    pub schemas: InputSchemas,
}

/// What the registry calls the schemas of a pipeline's input.
#[derive(Debug, Clone, Copy, Default)]
pub struct InputSchemas {
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
    /// Creates the topics of trades and watermarks, as the raw producer would.
    pub async fn create(harness: &Harness, partitions: i32) -> anyhow::Result<Self> {
        let topic = |topic: &str| format!("{}.{topic}", harness.name());
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
        let pipeline = Self { harness: harness.clone(), topics, schemas: InputSchemas::default() };
        pipeline.create_inputs().await?;
        let registry = Registry::new(&harness.servers.registry()?)?;
        let schemas = InputSchemas {
            trade: registry.register(&pipeline.topics.trades, &TRADE).await?,
            foreign: registry.register(&pipeline.topics.trades, &foreign()?).await?,
            watermark: registry.register(&pipeline.watermarks(), &WATERMARK).await?,
        };
        Ok(Self { schemas, ..pipeline })
    }

    async fn create_inputs(&self) -> anyhow::Result<()> {
        let specs = [TopicSpec::trades(&self.topics), TopicSpec::watermarks(&self.topics)];
        Ok(ensure_topics(&self.harness.servers.kafka()?, "e2e", &specs, PATIENCE).await?)
    }

    /// The topic of watermarks.
    #[must_use]
    pub fn watermarks(&self) -> String {
        format!("{}.watermarks", self.topics.trades)
    }

    /// Another group of the same trades, whose outputs have `name` in their names.
    #[must_use]
    pub fn second_group(&self, name: &str) -> Self {
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

    /// The same for trades of another topic, which is created.
    pub async fn with_trades(&self, trades: &str) -> anyhow::Result<Self> {
        let topics = TopicsConfig { trades: trades.to_owned(), ..self.topics.clone() };
        let pipeline = Self { topics, ..self.clone() };
        pipeline.create_inputs().await?;
        Ok(pipeline)
    }

    /// The group's id.
    #[must_use]
    pub fn group_id(&self) -> String {
        format!("{}.group", self.topics.candles)
    }

    /// The group that aggregates the trades.
    pub fn group(&self) -> anyhow::Result<ConsumerGroup> {
        let TopicsConfig { trades, partitions, .. } = &self.topics;
        ConsumerGroup::new(&self.harness.servers, &self.group_id(), trades, *partitions)
    }

    /// How an aggregator of the group is started; `instance` tells its processes apart.
    #[must_use]
    pub fn launch(&self, instance: &str) -> Launch {
        let topics = &self.topics;
        let launch = self.harness.launch().set("GROUP_ID", self.group_id()).set("INSTANCE", instance);
        let launch = launch.set("TOPICS__TRADES", &topics.trades).set("TOPICS__CANDLES", &topics.candles);
        let launch = launch.set("TOPICS__MOVING_AVERAGES", &topics.moving_averages);
        let launch = launch.set("TOPICS__LATE", &topics.late).set("TOPICS__DEAD_LETTER", &topics.dead_letter);
        launch.set("TOPICS__PARTITIONS", topics.partitions.to_string())
    }
}
