//! The raw producer between an exchange of the test's own, in this process, and the real Kafka; and what its topic must hold.

mod compare;
mod watch;
mod write;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use common::config::load_from;
use deribit_sim::Simulator;
use deribit_sim::faults::Kind;
use deribit_sim::market::Millis;

use crate::process::{Process, Signal};
use crate::{Stack, free_port};

pub use compare::Compared;
pub use write::Samples;

/// Longer than anything takes that happens at all, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// How long Kafka may take for an answer.
const ATTEMPT: Duration = Duration::from_secs(30);

/// One topic, the exchange that it is filled from, and where the producer is told of both.
pub struct Ingest {
    stack: Stack,
    topic: String,
    /// Where the topic starts.
    start: Millis,
    exchange: Option<Simulator>,
    settings: deribit_sim::Config,
    /// What exchanges before the present one have done.
    faults: BTreeMap<Kind, u64>,
    admin: u16,
    environment: BTreeMap<&'static str, String>,
    bin: Option<PathBuf>,
    failpoint: Option<String>,
    without: Option<&'static str>,
    /// Records that somebody else wrote into the topic.
    foreign: usize,
}

impl Ingest {
    /// Opens an exchange with this plan of faults and these settings, for a topic of that name that starts now.
    pub async fn open(name: &str, plan: &str, settings: &[(&str, &str)]) -> anyhow::Result<Self> {
        let stack = Stack::find()?;
        let topic = format!("{name}-{}.trades", std::process::id());
        let file = std::env::temp_dir().join(format!("{topic}.faults.toml"));
        std::fs::write(&file, plan)?;
        let own = [
            ("LISTEN", "127.0.0.1:0"),
            ("MARKET__RATE", "300"),
            ("LIMITS__CREDITS", "false"),
            ("FAULTS__FILE", file.to_str().context("a path in UTF-8")?),
        ];
        let all =
            own.iter().chain(settings).map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
        let mut settings: deribit_sim::Config = load_from(None, all)?;
        let exchange = Simulator::start(&settings).await?;
        // Should it be opened again, then where the producer looks for it.
        settings.listen = exchange.addr();
        // The configuration knows whole seconds only.
        let start = Millis(exchange.clock().now().0 / 1000 * 1000);
        let admin = free_port()?;
        let environment = environment(&stack, (&topic, exchange.addr(), start, admin))?;
        let (exchange, faults) = (Some(exchange), BTreeMap::new());
        Ok(Self {
            stack,
            topic,
            start,
            exchange,
            settings,
            faults,
            admin,
            environment,
            bin: None,
            failpoint: None,
            without: None,
            foreign: 0,
        })
    }

    /// The topic starts so long before now, and what was traded since was missed.
    pub fn start_before(&mut self, missed: Duration) {
        self.start = self.start.minus(u64::try_from(missed.as_millis()).unwrap_or(0));
        self.set("DERIBIT__START_FROM", start_from(self.start));
    }

    /// Says something else to the producers that are started from now on.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.environment.insert(key, value.into());
    }

    /// Producers that are started from now on end when they pass that point for so many times; they must be built with failpoints.
    pub fn arm(&mut self, point: &str, times: u64) {
        self.failpoint = Some(format!("{point}:{times}"));
    }

    /// The same, and they stop there instead, as by SIGSTOP.
    pub fn arm_to_stop(&mut self, point: &str, times: u64) {
        self.failpoint = Some(format!("{point}:{times}:stop"));
    }

    /// Producers that are started from now on lack that guarantee; they must be built with failpoints.
    pub fn take_out(&mut self, guarantee: &'static str) {
        self.without = Some(guarantee);
    }

    /// Producers that are started from now on pass every point.
    pub fn disarm(&mut self) {
        self.failpoint = None;
    }

    /// Takes the producer from another folder than the released one.
    pub fn use_binary_in(&mut self, folder: PathBuf) {
        self.bin = Some(folder);
    }

    /// Producers that are started from now on can be asked how they are, besides one that runs.
    pub fn watch_another(&mut self) -> anyhow::Result<()> {
        self.admin = free_port()?;
        self.set("ADMIN__LISTEN", format!("127.0.0.1:{}", self.admin));
        Ok(())
    }

    /// The stack.
    #[must_use]
    pub fn stack(&self) -> &Stack {
        &self.stack
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Starts a producer.
    pub fn produce(&self) -> anyhow::Result<Process> {
        let log = self.log("producer");
        let settings = self.environment.iter().map(|(key, value)| (format!("KSTREAM__{key}"), value.clone()));
        let failpoint = self.failpoint.iter().map(|point| ("KSTREAM_FAILPOINT".to_owned(), point.clone()));
        let without =
            self.without.iter().map(|guarantee| ("KSTREAM_WITHOUT".to_owned(), (*guarantee).to_owned()));
        let environment: Vec<_> = settings.chain(failpoint).chain(without).collect();
        match &self.bin {
            Some(folder) => Process::start_in(folder, "raw-producer", &environment, &log),
            None => Process::start("raw-producer", &environment, &log),
        }
    }

    /// Starts an aggregator of the topic, with windows of 10 s that advance by 1 s. Its group is called after the topic.
    pub fn aggregate(&self) -> anyhow::Result<Process> {
        let (stack, topic) = (&self.stack, &self.topic);
        let settings = [
            ("KAFKA__BOOTSTRAP_SERVERS", stack.kafka()?.bootstrap_servers),
            ("SCHEMA_REGISTRY__URL", stack.registry()?.url.to_string()),
            ("TOPICS__TRADES", topic.clone()),
            ("TOPICS__CANDLES", format!("{topic}.candles")),
            ("TOPICS__MOVING_AVERAGES", self.averages()),
            ("TOPICS__LATE", format!("{topic}.late")),
            ("TOPICS__DEAD_LETTER", format!("{topic}.dlq")),
            ("GROUP_ID", topic.clone()),
            ("WINDOW__SIZE", "10s".to_owned()),
            ("WINDOW__ADVANCE", "1s".to_owned()),
            ("ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
            ("TRACING__ZIPKIN_URL", String::new()),
        ];
        const SHARED: &str = "TOPICS__PARTITIONS";
        let shared = self.environment.get(SHARED).map(|value| (SHARED, value.clone()));
        let all = settings.into_iter().chain(shared);
        let environment: Vec<_> = all.map(|(key, value)| (format!("KSTREAM__{key}"), value)).collect();
        Process::start("agg-producer", &environment, &self.log("averages"))
    }

    /// The topic of that aggregator's averages.
    #[must_use]
    pub fn averages(&self) -> String {
        format!("{}.averages", self.topic)
    }

    fn log(&self, of: &str) -> PathBuf {
        std::env::temp_dir().join(format!("{}.{of}.log", self.topic))
    }

    /// The exchange goes away.
    pub async fn close_exchange(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        for (kind, times) in exchange.faults() {
            *self.faults.entry(kind).or_default() += times;
        }
        exchange.stop().await;
    }

    /// The exchange is back, where it was, with the same market and the plan anew.
    pub async fn open_exchange(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            match Simulator::start(&self.settings).await {
                Ok(exchange) => self.exchange = Some(exchange),
                // Connections that are not quite gone may hold the port for a moment.
                Err(_) if Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// How often each kind of fault was done.
    #[must_use]
    pub fn faults(&self) -> BTreeMap<Kind, u64> {
        let mut all = self.faults.clone();
        for (kind, times) in self.exchange.iter().flat_map(Simulator::faults) {
            *all.entry(kind).or_default() += times;
        }
        all
    }

    /// How often its producers have logged in at the exchange by key, and how often they have renewed a login.
    pub fn logins(&self) -> anyhow::Result<(u64, u64)> {
        Ok(self.exchange.as_ref().context("the exchange is away")?.logins())
    }

    /// The exchange's time.
    pub fn now(&self) -> anyhow::Result<Millis> {
        Ok(self.exchange.as_ref().context("the exchange is away")?.clock().now())
    }

    /// Ends a service as `make down` does; it commits what it has.
    pub fn stop(service: Process) -> anyhow::Result<()> {
        service.signal(Signal::SIGTERM)?;
        let ended = service.end(PATIENCE)?;
        ensure!(ended.status.success(), "{ended:?}");
        Ok(())
    }
}

fn start_from(start: Millis) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(start.0)).to_string()
}

fn environment(
    stack: &Stack,
    (topic, exchange, start, admin): (&str, SocketAddr, Millis, u16),
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    Ok(BTreeMap::from([
        ("KAFKA__BOOTSTRAP_SERVERS", stack.kafka()?.bootstrap_servers),
        ("SCHEMA_REGISTRY__URL", stack.registry()?.url.to_string()),
        ("DERIBIT__URL", format!("ws://{exchange}/ws/api/v2")),
        ("DERIBIT__CALLS_PER_SECOND", "200".to_owned()),
        ("DERIBIT__START_FROM", start_from(start)),
        ("TOPICS__TRADES", topic.to_owned()),
        ("TOPICS__DEAD_LETTER", format!("{topic}.dlq")),
        ("ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
        ("SEQUENCE__RECONCILE_INTERVAL", "2s".to_owned()),
        ("TRACING__ZIPKIN_URL", String::new()),
        ("LOG__FILTER", "info".to_owned()),
    ]))
}
