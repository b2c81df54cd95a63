//! A sink of a test's own: topics and a database of its own, with the connectors' usual names. One runs at a time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{Role, config};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use serde_json::Value;
use tokio_postgres::Client;

use crate::fixtures::now_millis;
use crate::{Harness, Launch, PATIENCE, Service, ServiceExit, postgres};

/// Partitions of each topic.
const PARTITIONS: i32 = 6;
/// The connector of the trades.
pub const TRADES_CONNECTOR: &str = "kstream-trades";
/// The connector of the averages.
pub const AVERAGES_CONNECTOR: &str = "kstream-moving-averages";

/// Topics, a database, and how the service is started for them.
pub struct SinkFixture {
    /// The servers, and the test's name.
    pub harness: Harness,
    /// The topic of its trades.
    pub trades: String,
    /// The topic of its averages.
    pub averages: String,
    database: String,
}

/// A topic of a test's own, with default settings.
#[must_use]
pub fn plain_topic(name: &str, partitions: i32) -> TopicSpec {
    TopicSpec {
        name: name.to_owned(),
        key: "topics.trades",
        partitions,
        replication_factor: -1,
        retention: None,
        max_message_bytes: None,
        compacted: false,
    }
}

impl SinkFixture {
    /// Creates topics and a database.
    pub async fn create(name: &str) -> anyhow::Result<Self> {
        let harness = Harness::new(name)?;
        // A process id may come again, in a second run over the same servers.
        let prefix = format!("{}-{}", harness.name(), now_millis());
        Self::of(&harness, &format!("{prefix}.trades"), &format!("{prefix}.averages")).await
    }

    /// The same for topics of trades and averages that others fill.
    pub async fn of(harness: &Harness, trades: &str, averages: &str) -> anyhow::Result<Self> {
        let servers = &harness.servers;
        let specs = [trades, averages].map(|topic| plain_topic(topic, PARTITIONS));
        ensure_topics(&servers.kafka()?, "e2e", &specs, PATIENCE).await?;
        let database = harness.name().replace('-', "_");
        let client = postgres::connect(servers).await?;
        client.batch_execute(&format!("DROP DATABASE IF EXISTS {database} WITH (FORCE)")).await?;
        client.batch_execute(&format!("CREATE DATABASE {database}")).await?;
        let (trades, averages) = (trades.to_owned(), averages.to_owned());
        Ok(Self { harness: harness.clone(), trades, averages, database })
    }

    /// How jdbc-sink is started.
    pub fn launch(&self) -> anyhow::Result<Launch> {
        let servers = &self.harness.servers;
        let postgres =
            format!("postgresql://kstream@127.0.0.1:{}/{}", servers.port("POSTGRES_PORT")?, self.database);
        let password_file = servers.root().join("secrets/postgres_password").display().to_string();
        let launch = self.harness.launch().set("TOPICS__TRADES", &self.trades);
        let launch = launch.set("TOPICS__MOVING_AVERAGES", &self.averages);
        let launch = launch.set("CONNECT__URL", servers.url("CONNECT_PORT", "")?);
        let launch = launch.set("CONNECT__WATCH_INTERVAL", "1s");
        // The broker keeps the answer that shows a partition's end back for so long; `verify` reads twelve ends.
        let launch = launch.set("KAFKA__PROPERTIES__FETCH_WAIT_MAX_MS", "10");
        Ok(launch.set("POSTGRES__URL", postgres).set("POSTGRES__PASSWORD_FILE", password_file))
    }

    /// Starts the service and waits until it is ready.
    pub async fn start(&self) -> anyhow::Result<Service> {
        self.start_with(&self.launch()?).await
    }

    /// The same with other settings.
    pub async fn start_with(&self, launch: &Launch) -> anyhow::Result<Service> {
        let service = self.harness.spawn("jdbc-sink", launch)?;
        service.wait_until_ready().await?;
        Ok(service)
    }

    /// Runs a command of the service to its end.
    pub async fn run(&self, arguments: &[&str]) -> anyhow::Result<ServiceExit> {
        self.harness.run("jdbc-sink", &self.launch()?.arguments(arguments)).await
    }

    /// Runs a command that prints JSON.
    pub async fn report(&self, arguments: &[&str]) -> anyhow::Result<(Option<i32>, Value)> {
        let exit = self.run(arguments).await?;
        let report =
            serde_json::from_str(&exit.stdout).with_context(|| format!("{arguments:?}: {exit:?}"))?;
        Ok((exit.code(), report))
    }

    /// Connects to the database.
    pub async fn database(&self) -> anyhow::Result<Client> {
        postgres::connect_to(&self.harness.servers, &self.database).await
    }

    /// The end of each partition of the dead-letter topic that belongs to this topic.
    pub fn dead_letters(&self, topic: &str) -> anyhow::Result<BTreeMap<i32, i64>> {
        let consumer: BaseConsumer = config(&self.harness.servers.kafka()?, "e2e", &Role::Reader).create()?;
        let topic = format!("{topic}.connect-dlq");
        let end = |partition| {
            let (_, end) = consumer.fetch_watermarks(&topic, partition, Duration::from_secs(10))?;
            Ok((partition, end))
        };
        (0..PARTITIONS).map(end).collect()
    }

    /// Sends a request to Connect's REST API.
    pub async fn connect(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> anyhow::Result<()> {
        let url = self.harness.servers.url("CONNECT_PORT", path)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let mut request = crate::http().request(method.clone(), url.clone());
            if let Some(body) = &body {
                request = request.header("content-type", "application/json").body(body.to_string());
            }
            let answer = request.send().await?;
            if answer.status().is_success() {
                return Ok(());
            }
            // Connect rejects requests while it moves tasks.
            let rebalancing = answer.status() == reqwest::StatusCode::CONFLICT && Instant::now() < end;
            if !rebalancing {
                bail!("kafka connect: {path}: {} {}", answer.status(), answer.text().await?);
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Deletes connectors and database.
    pub async fn cleanup(&self) -> anyhow::Result<()> {
        for connector in [TRADES_CONNECTOR, AVERAGES_CONNECTOR] {
            self.connect(reqwest::Method::DELETE, &format!("/connectors/{connector}"), None).await?;
        }
        let client = postgres::connect(&self.harness.servers).await?;
        client.batch_execute(&format!("DROP DATABASE {} WITH (FORCE)", self.database)).await?;
        Ok(())
    }
}
