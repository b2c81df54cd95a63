//! The raw producer between an exchange of the test's own, in this process, and the real Kafka; and what its topic must hold.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use common::avro::schema::{TRADE, WATERMARK};
use common::config::load_from;
use common::model::{Trade, Watermark};
use deribit_sim::Simulator;
use deribit_sim::faults::Kind;
use deribit_sim::market::Millis;

use crate::exchange::{Fields, contract_fields, topic_fields};
use crate::process::Process;
use crate::topic::{Record, Topic};
use crate::{Stack, free_port};

/// Longer than anything takes that happens at all, on any machine.
pub const PATIENCE: Duration = Duration::from_secs(240);

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
}

/// What a comparison found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Compared {
    /// Trades in the topic.
    pub trades: usize,
    /// Trades that the exchange has and the topic lacks.
    pub lost: usize,
    /// Records whose trade the topic has already.
    pub doubled: usize,
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
        })
    }

    /// Says something else to the producers that are started from now on.
    pub fn set(&mut self, key: &'static str, value: impl Into<String>) {
        self.environment.insert(key, value.into());
    }

    /// Producers that are started from now on end when they pass that point for so many times; they must be built with failpoints.
    pub fn arm(&mut self, point: &str, times: u64) {
        self.failpoint = Some(format!("{point}:{times}"));
    }

    /// Producers that are started from now on pass every point.
    pub fn disarm(&mut self) {
        self.failpoint = None;
    }

    /// Takes the producer from another folder than the released one.
    pub fn use_binary_in(&mut self, folder: PathBuf) {
        self.bin = Some(folder);
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
        let log = self.stack.root().join("target").join(format!("{}.log", self.topic));
        let settings = self.environment.iter().map(|(key, value)| (format!("KSTREAM__{key}"), value.clone()));
        let failpoint = self.failpoint.iter().map(|point| ("KSTREAM_FAILPOINT".to_owned(), point.clone()));
        let environment: Vec<_> = settings.chain(failpoint).collect();
        match &self.bin {
            Some(folder) => Process::start_in(folder, "raw-producer", &environment, &log),
            None => Process::start("raw-producer", &environment, &log),
        }
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

    /// The exchange's time.
    pub fn now(&self) -> anyhow::Result<Millis> {
        Ok(self.exchange.as_ref().context("the exchange is away")?.clock().now())
    }

    /// Waits until the producer has compared everything before the present time with history, or made it whole. Tells that time.
    pub async fn until_whole(&self) -> anyhow::Result<Millis> {
        let through = self.now()?;
        self.until_at_least("reconciled_through_seconds", through.0 as f64 / 1000.0).await?;
        Ok(through)
    }

    /// Waits until one of the producer's metrics is that high.
    pub async fn until_at_least(&self, name: &str, value: f64) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        while self.gauge(name).await.unwrap_or(0.0) < value {
            ensure!(Instant::now() < end, "{}: {name} is below {value}", self.topic);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Waits until each of these faults has been done so often in all.
    pub async fn until_done(&self, faults: &BTreeMap<Kind, u64>) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            let done = self.faults();
            if faults.iter().all(|(kind, times)| done.get(kind).is_some_and(|found| found >= times)) {
                return Ok(());
            }
            ensure!(Instant::now() < end, "{}: {done:?} of {faults:?} were done", self.topic);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// One of the producer's metrics.
    pub async fn gauge(&self, name: &str) -> anyhow::Result<f64> {
        let text = crate::get(format!("http://127.0.0.1:{}/metrics", self.admin)).await?.text().await?;
        let line = text.lines().find_map(|line| {
            let (found, value) = line.strip_prefix("raw_producer_")?.rsplit_once(' ')?;
            (found == name).then_some(value)
        });
        Ok(line.with_context(|| format!("no {name}"))?.parse()?)
    }

    /// Ends the producer as `make down` does; it commits what it has.
    pub fn stop(producer: Process) -> anyhow::Result<()> {
        producer.signal("TERM")?;
        let status = producer.end(PATIENCE)?;
        ensure!(status.success(), "the producer ended with {status}");
        Ok(())
    }

    /// Holds the topic against the exchange: of every instrument, the topic's trades are the exchange's from the start on, field by
    /// field, in order, once, at least through that time.
    pub async fn compare(&self, through: Millis) -> anyhow::Result<Compared> {
        let records = Topic::<Trade<'static>>::new(&self.stack, &self.topic, &TRADE).read().await?;
        ensure!(!records.is_empty(), "{} is empty", self.topic);
        let mut compared = Compared { trades: records.len(), ..Compared::default() };
        let newest = records.iter().map(|record| record.timestamp).max().unwrap_or(0);
        let mut expected = self.expected(Millis(u64::try_from(newest)?).max(through).plus(1))?;
        let mut wrong = Vec::new();
        for (name, found) in by_instrument(&records) {
            let of = expected.remove(&name).unwrap_or_default();
            if let Err(error) = hold_against(&found, &of, (through, &mut compared)) {
                wrong.push(format!("{name}: {error}"));
            }
        }
        let missing = expected.values().flatten().filter(|(time, _)| *time < through).count();
        compared.lost += missing;
        let whole = wrong.is_empty() && compared.lost == 0 && compared.doubled == 0;
        ensure!(whole, "{}: {compared:?}: {}", self.topic, wrong.join("; "));
        Ok(compared)
    }

    /// Holds every watermark against the topic: no trade of that time or before lies behind it.
    pub async fn check_watermarks(&self) -> anyhow::Result<usize> {
        let records = Topic::<Trade<'static>>::new(&self.stack, &self.topic, &TRADE).read().await?;
        let name = format!("{}.watermarks", self.topic);
        let marks = Topic::<Watermark>::new(&self.stack, name, &WATERMARK).read().await?;
        for mark in &marks {
            let Watermark { partition, complete_through, offset } = mark.value;
            ensure!(mark.partition == partition, "{mark:?} lies in another partition");
            let behind = records.iter().find(|record| {
                record.partition == partition
                    && record.timestamp <= complete_through
                    && record.offset >= offset
            });
            if let Some(behind) = behind {
                bail!("{mark:?}, and yet {behind:?}");
            }
        }
        Ok(marks.len())
    }

    /// What the exchange has from the topic's start to that time, by instrument and in order of numbers.
    fn expected(&self, until: Millis) -> anyhow::Result<BTreeMap<String, Vec<(Millis, Fields)>>> {
        let exchange = self.exchange.as_ref().context("the exchange is away")?;
        let mut trades = exchange.market().trades(self.start..until);
        trades.sort_by_key(|trade| trade.trade_seq);
        let mut expected: BTreeMap<String, Vec<(Millis, Fields)>> = BTreeMap::new();
        for trade in trades {
            let fields = contract_fields(serde_json::from_str(&trade.to_json())?);
            expected.entry(trade.instrument_name.to_string()).or_default().push((trade.timestamp, fields));
        }
        Ok(expected)
    }
}

fn by_instrument<'r>(records: &'r [Record<Trade<'static>>]) -> BTreeMap<String, Vec<&'r Trade<'static>>> {
    let mut all: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for record in records {
        all.entry(record.value.instrument_name.to_string()).or_default().push(&record.value);
    }
    all
}

/// The topic's trades of an instrument are the first ones of the exchange's, and no older one than `through` is left over.
fn hold_against(
    found: &[&Trade<'static>],
    expected: &[(Millis, Fields)],
    (through, compared): (Millis, &mut Compared),
) -> anyhow::Result<()> {
    let mut seqs: Vec<i64> = found.iter().map(|trade| trade.trade_seq).collect();
    seqs.sort_unstable();
    seqs.dedup();
    compared.doubled += found.len() - seqs.len();
    let due = expected.iter().filter(|(time, _)| *time < through).count();
    compared.lost += due.saturating_sub(seqs.len());
    for (found, (_, expected)) in found.iter().zip(expected) {
        let found = topic_fields(found);
        ensure!(found == *expected, "the topic has {found:?} where the exchange has {expected:?}");
    }
    ensure!(found.len() <= expected.len(), "{} more than the exchange has", found.len() - expected.len());
    Ok(())
}

fn environment(
    stack: &Stack,
    (topic, exchange, start, admin): (&str, SocketAddr, Millis, u16),
) -> anyhow::Result<BTreeMap<&'static str, String>> {
    let start = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(start.0));
    Ok(BTreeMap::from([
        ("KAFKA__BOOTSTRAP_SERVERS", stack.kafka()?.bootstrap_servers),
        ("SCHEMA_REGISTRY__URL", stack.registry()?.url.to_string()),
        ("DERIBIT__URL", format!("ws://{exchange}/ws/api/v2")),
        ("DERIBIT__CALLS_PER_SECOND", "200".to_owned()),
        ("DERIBIT__START_FROM", start.to_string()),
        ("TOPICS__TRADES", topic.to_owned()),
        ("TOPICS__DEAD_LETTER", format!("{topic}.dlq")),
        ("ADMIN__LISTEN", format!("127.0.0.1:{admin}")),
        ("SEQUENCE__RECONCILE_INTERVAL", "2s".to_owned()),
        ("TRACING__ZIPKIN_URL", String::new()),
        ("LOG__FILTER", "info".to_owned()),
    ]))
}

/// Chance for the tests that strike at random: another each time, and said, so that a run can be told from another.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded by the clock, or by `SEED`.
    #[must_use]
    pub fn new() -> Self {
        let given = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        Self(given.unwrap_or_else(clock))
    }

    /// What it was seeded by, at first.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.0
    }

    /// A number below `bound`: splitmix64.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound.max(1)
    }
}

impl Default for Dice {
    fn default() -> Self {
        Self::new()
    }
}
