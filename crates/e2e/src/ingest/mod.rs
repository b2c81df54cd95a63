//! The raw producer between an exchange of the test's own, in this process, and the real Kafka; and what its topic must hold.

mod compare;
mod foreign;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::Context as _;
use common::config::load_from;
use deribit_sim::Simulator;
use deribit_sim::faults::FaultKind;
use deribit_sim::market::MarketTime;

use crate::metric_names::RECONCILED_THROUGH;
use crate::topic::raw_values;
use crate::{Harness, Launch, PATIENCE, Service, eventually};

pub use compare::TradeComparison;
pub use foreign::Samples;

/// One topic, the exchange that fills it, and how producers of it are started.
pub struct IngestFixture {
    /// The servers, and the test's name.
    pub harness: Harness,
    topic: String,
    /// The topic's first moment.
    start: MarketTime,
    exchange: Option<Simulator>,
    exchange_config: deribit_sim::Config,
    /// Faults that exchanges before the present one have injected.
    faults: BTreeMap<FaultKind, u64>,
    producer: Launch,
    /// Records that others wrote into the topic.
    foreign: usize,
}

impl IngestFixture {
    /// Opens an exchange with this plan of faults and these settings, for a topic of that name that starts now.
    pub async fn open(name: &str, plan: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let harness = Harness::new(name)?;
        let file = harness.file("faults.toml");
        std::fs::write(&file, plan)?;
        let own = [
            ("LISTEN", "127.0.0.1:0"),
            ("MARKET__RATE", "300"),
            ("LIMITS__CREDITS", "false"),
            ("FAULTS__FILE", file.to_str().context("a path in UTF-8")?),
        ];
        let all =
            own.iter().chain(settings).map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
        let mut exchange_config: deribit_sim::Config = load_from(None, all)?;
        let exchange = Simulator::start(&exchange_config).await?;
        // Another one after it is to be where the producer looks for it.
        exchange_config.listen = exchange.addr();
        // The configuration knows whole seconds only.
        let start = MarketTime(exchange.clock().now().0 / 1000 * 1000);
        let topic = format!("{}.trades", harness.name());
        let producer = harness
            .launch()
            .set("DERIBIT__URL", format!("ws://{}/ws/api/v2", exchange.addr()))
            .set("DERIBIT__REQUESTS_PER_SECOND", "200")
            .set("DERIBIT__START_FROM", start_from(start))
            .set("TOPICS__TRADES", &topic)
            .set("TOPICS__DEAD_LETTER", format!("{topic}.dlq"))
            .set("SEQUENCE__RECONCILE_INTERVAL", "2s")
            .set("LOG__FILTER", "info");
        let (exchange, faults) = (Some(exchange), BTreeMap::new());
        Ok(Self { harness, topic, start, exchange, exchange_config, faults, producer, foreign: 0 })
    }

    /// The topic starts that long before now: the trades since then were missed.
    pub fn start_before(&mut self, missed: Duration) {
        self.start = self.start.minus(u64::try_from(missed.as_millis()).unwrap_or(0));
        self.set("DERIBIT__START_FROM", start_from(self.start));
    }

    /// Changes a setting of the producers that are started from now on.
    pub fn set(&mut self, key: &str, value: impl Into<String>) {
        self.producer = self.producer.clone().set(key, value);
    }

    /// Arms a failpoint of the producers that are started from now on; `None` disarms it.
    pub fn arm(&mut self, failpoint: Option<String>) {
        self.producer = self.producer.clone().failpoint(failpoint);
    }

    /// Disables a guarantee of the producers that are started from now on.
    pub fn disable_guarantee(&mut self, guarantee: &'static str) {
        self.producer = self.producer.clone().disable_guarantee(Some(guarantee));
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Starts a producer.
    pub fn produce(&self) -> anyhow::Result<Service> {
        self.harness.spawn("raw-producer", &self.producer)
    }

    /// Starts an aggregator of the topic, with windows of 10 s that advance by 1 s. Its group has the topic's name.
    pub fn aggregate(&self) -> anyhow::Result<Service> {
        let (topic, producer) = (&self.topic, &self.producer);
        let mut launch = self
            .harness
            .launch()
            .set("TOPICS__TRADES", topic)
            .set("TOPICS__CANDLES", format!("{topic}.candles"))
            .set("TOPICS__MOVING_AVERAGES", self.averages())
            .set("TOPICS__LATE", format!("{topic}.late"))
            .set("TOPICS__DEAD_LETTER", format!("{topic}.dlq"))
            .set("GROUP_ID", topic)
            .set("WINDOW__SIZE", "10s")
            .set("WINDOW__ADVANCE", "1s");
        const SHARED: &str = "TOPICS__PARTITIONS";
        if let Some(partitions) = producer.get(SHARED) {
            launch = launch.set(SHARED, partitions);
        }
        self.harness.spawn("agg-producer", &launch)
    }

    /// The topic of that aggregator's averages.
    #[must_use]
    pub fn averages(&self) -> String {
        format!("{}.averages", self.topic)
    }

    /// Closes the exchange.
    pub async fn close_exchange(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        for (kind, times) in exchange.faults() {
            *self.faults.entry(kind).or_default() += times;
        }
        exchange.stop().await;
    }

    /// Opens the exchange where it was, with the same market; its plan of faults begins again.
    pub async fn open_exchange(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Simulator::start(&self.exchange_config).await {
                Ok(exchange) => {
                    self.exchange = Some(exchange);
                    return Ok(());
                }
                // Connections that are not quite gone may hold the port for a moment.
                Err(_) if Instant::now() < end => tokio::time::sleep(Duration::from_millis(100)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn exchange(&self) -> anyhow::Result<&Simulator> {
        self.exchange.as_ref().context("the exchange is closed")
    }

    /// How often each kind of fault was injected.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<FaultKind, u64> {
        let mut all = self.faults.clone();
        for (kind, times) in self.exchange.iter().flat_map(Simulator::faults) {
            *all.entry(kind).or_default() += times;
        }
        all
    }

    /// How often producers have logged in by key, and how often they have refreshed a token.
    pub fn logins(&self) -> anyhow::Result<(u64, u64)> {
        Ok(self.exchange()?.logins())
    }

    /// The exchange's time.
    pub fn now(&self) -> anyhow::Result<MarketTime> {
        Ok(self.exchange()?.clock().now())
    }

    /// Waits until a producer has compared everything before the present time with history. Returns that time.
    pub async fn wait_until_reconciled(&self, producer: &Service) -> anyhow::Result<MarketTime> {
        let through = self.now()?;
        producer.wait_until_metric(RECONCILED_THROUGH, through.0 as f64 / 1000.0).await?;
        Ok(through)
    }

    /// Waits until each of these faults has been injected at least that often.
    pub async fn wait_until_injected(&self, faults: &BTreeMap<FaultKind, u64>) -> anyhow::Result<()> {
        let injected = async || {
            let injected = self.faults();
            let enough =
                |(kind, times): (&FaultKind, &u64)| injected.get(kind).is_some_and(|found| found >= times);
            anyhow::ensure!(faults.iter().all(enough), "{injected:?} of {faults:?}");
            Ok(true)
        };
        eventually(PATIENCE, "faults are injected", injected).await
    }

    /// The producer that owns the topic, by the newest record that says so.
    pub fn owner(&self) -> anyhow::Result<String> {
        let records = raw_values(&self.harness.servers, &format!("{}.sequences", self.topic))?;
        let (_, newest) = records.iter().rfind(|(key, _)| key == ":owner").context("no owner")?;
        let owner: serde_json::Value = serde_json::from_slice(newest)?;
        Ok(owner.get("owner").and_then(serde_json::Value::as_str).context("no name")?.to_owned())
    }
}

fn start_from(start: MarketTime) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(start.0)).to_string()
}
