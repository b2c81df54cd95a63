//! Builds the service from its configuration and runs it.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use common::admin::{Admin, Health};
use common::avro::codec::SchemaId;
use common::avro::registry::Registry;
use common::avro::schema::{Contract, TRADE, WATERMARK};
use common::clock::now_micros;
use common::config::{ServiceConfig as _, read_secret};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::hanging_transactions::Transactions;
use common::metrics::Metrics as MetricsRegistry;
use common::shutdown::{Shutdown, Tasks};
use common::{Failure, backoff};
use tokio::runtime::Handle;

use crate::Config;
use crate::clock::Millis;
use crate::config::SequenceConfig;
use crate::deribit::connection::ReconnectingConnection;
use crate::deribit::handshake::Credentials;
use crate::deribit::history_scope::HistoryScope;
use crate::deribit::rpc::RequestIds;
use crate::feed::FeedSettings;
use crate::metrics::{ConnectionMetrics, Metrics};
use crate::publish::snapshot_records::Owner;
use crate::publish::snapshots::TopicNames;
use crate::sequencer::Limits;
use crate::supervisor::{MakeConnections, RegisteredSchemas, Supervisor};

/// The feed may wait for Kafka this long before it counts as wedged.
const WEDGED_AFTER: Duration = Duration::from_secs(120);
/// Time between the two answers that confirm a hole.
const CONFIRM_HOLE_AFTER: Millis = 1_000;
/// Time after which a gap is given up if history answers nothing useful.
const GIVE_UP_GAP_AFTER: Millis = 300_000;

/// The service, built but not running.
pub struct App {
    supervisor: Supervisor,
    admin: Admin,
    health: Health,
    metrics: MetricsRegistry,
    shutdown_deadline: Duration,
}

impl App {
    /// Waits for Kafka and the registry, and creates topics and schemas. Nothing runs yet.
    ///
    /// # Errors
    /// [`Failure::Config`], or [`Failure::Unavailable`] if Kafka or the registry does not answer within `startup_deadline`.
    pub async fn build(config: Config) -> Result<Self, Failure> {
        let (metrics, health) = (MetricsRegistry::new("raw_producer"), Health::new());
        let common = &config.common;
        let admin = Admin::bind(&common.admin).await?;
        let request_ids = RequestIds::default();
        let connections = connections(&config, &health, &metrics, &request_ids)?;
        let topics = &common.topics;
        let specs = [
            TopicSpec::trades(topics),
            TopicSpec::watermarks(topics),
            TopicSpec::sequences(topics),
            TopicSpec::dead_letter(topics),
        ];
        let client_id = Config::SERVICE.name();
        ensure_topics(&common.kafka, client_id, &specs, *common.startup_deadline).await?;
        let registry = Registry::new(&common.schema_registry)?;
        let names = TopicNames {
            trades: topics.trades.clone(),
            watermarks: TopicSpec::watermarks(topics).name,
            sequences: TopicSpec::sequences(topics).name,
            dead_letter: topics.dead_letter.clone(),
        };
        let schemas = RegisteredSchemas {
            trade: register(&registry, &config, &names.trades, &TRADE).await?,
            watermark: register(&registry, &config, &names.watermarks, &WATERMARK).await?,
        };
        let names_of_all = specs.into_iter().map(|spec| spec.name).collect();
        let runtime = Handle::current();
        let supervisor = Supervisor {
            transactions: Transactions::new(&common.kafka, client_id, names_of_all, None, &metrics, runtime),
            kafka: common.kafka.clone(),
            client_id,
            names,
            registry,
            schemas,
            settings: settings(&config),
            request_ids,
            sample_one_in: common.tracing.sample_one_in,
            connections,
            writer_health: health.component("kafka"),
            feed_health: health.component("backfill"),
            heartbeat: health.heartbeat("feed", WEDGED_AFTER),
            metrics: Metrics::new(&metrics),
            owner: owner(),
        };
        Ok(Self { supervisor, admin, health, metrics, shutdown_deadline: *common.shutdown_deadline })
    }

    /// Runs until the shutdown is requested, then until Kafka has every accepted trade.
    ///
    /// # Errors
    /// The failure that ended the service.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let Self { supervisor, admin, health, metrics, shutdown_deadline } = self;
        let monitor = supervisor.transactions.monitor(health.component("transactions"));
        let _serving = admin.serve(health, metrics, shutdown.clone());
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("transactions", monitor.run(shutdown.clone()));
        tasks.spawn("feed", supervisor.run(shutdown));
        tasks.run_to_end(shutdown_deadline).await
    }
}

fn connections(
    config: &Config,
    health: &Health,
    metrics: &MetricsRegistry,
    request_ids: &RequestIds,
) -> Result<MakeConnections, Failure> {
    let (deribit, credentials) = (config.deribit.clone(), credentials(config)?);
    let (health, metrics) = (health.component("exchange"), ConnectionMetrics::new(metrics));
    let request_ids = request_ids.clone();
    Ok(Box::new(move |events| {
        let up = Arc::new(AtomicUsize::new(0));
        let connection = |connection| ReconnectingConnection {
            connection,
            url: deribit.url.clone(),
            channels: deribit.channels.clone(),
            credentials: credentials.clone(),
            request_ids: request_ids.clone(),
            health: health.clone(),
            metrics: metrics.clone(),
            up: up.clone(),
            events: events.clone(),
        };
        (0..deribit.connections).map(connection).collect()
    }))
}

fn settings(config: &Config) -> FeedSettings {
    let SequenceConfig { hold_max, max_buffered_trades, reconcile_interval, max_ahead } = config.sequence;
    let limits = Limits {
        hold_max: millis(*hold_max),
        max_buffered: max_buffered_trades,
        max_ahead: millis(*max_ahead),
        confirm_after: CONFIRM_HOLE_AFTER,
        give_up_after: GIVE_UP_GAP_AFTER,
    };
    FeedSettings {
        scopes: HistoryScope::of_channels(&config.deribit.channels),
        partitions: u32::try_from(config.common.topics.partitions).expect("checked: 1 or more"),
        start_from: config.deribit.start_from.map(|start| start.millis(SystemTime::now())),
        reconcile_interval: millis(*reconcile_interval),
        requests_per_second: config.deribit.requests_per_second,
        limits,
    }
}

/// A duration of more milliseconds than fit never ends in any case.
fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Unique for each process, even for two that start in the same microsecond on one machine.
fn owner() -> Owner {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let (pid, now) = (std::process::id(), now_micros());
    Owner { owner: format!("{} pid {pid} since {now}", host.trim()), since: now / 1000 }
}

fn credentials(config: &Config) -> Result<Option<Credentials>, Failure> {
    let (Some(client_id), Some(file)) = (&config.deribit.client_id, &config.deribit.client_secret_file)
    else {
        return Ok(None);
    };
    let client_secret = read_secret("deribit.client_secret_file", file)?;
    Ok(Some(Credentials { client_id: client_id.clone(), client_secret }))
}

async fn register(
    registry: &Registry,
    config: &Config,
    topic: &str,
    contract: &Contract,
) -> Result<SchemaId, Failure> {
    let what = format!("schema registry at {}", config.common.schema_registry.url);
    let deadline = *config.common.startup_deadline;
    backoff::until_deadline(&what, deadline, async || registry.register(topic, contract).await).await
}
