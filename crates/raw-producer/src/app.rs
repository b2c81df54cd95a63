//! How the parts are put together, and run.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use common::admin::{Admin, Health};
use common::avro::codec::SchemaId;
use common::avro::registry::Registry;
use common::avro::schema::{Contract, TRADE, WATERMARK};
use common::config::{ServiceConfig as _, read_secret};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::hanging_transactions::Transactions;
use common::metrics::Metrics as MetricsRegistry;
use common::shutdown::{Shutdown, Tasks};
use common::{Failure, backoff};
use tokio::runtime::Handle;

use crate::Config;
use crate::clock::Millis;
use crate::clock::now_micros;
use crate::config::SequenceConfig;
use crate::deribit::connection::ReconnectingConnection;
use crate::deribit::events;
use crate::deribit::handshake::Credentials;
use crate::deribit::history_scope::HistoryScope;
use crate::deribit::rpc::RequestIds;
use crate::feed::FeedSettings;
use crate::metrics::{ConnectionMetrics, Metrics};
use crate::publish::snapshot_records::Owner;
use crate::publish::snapshots::TopicNames;
use crate::sequencer::Limits;
use crate::supervisor::Supervisor;

/// The loop may wait this long for Kafka before it is taken to be wedged.
const WEDGED_AFTER: Duration = Duration::from_secs(120);
/// Between the two answers that make a hole.
const CONFIRM_AFTER: Millis = 1_000;
/// A gap of which history says nothing at all is given up after this time.
const GIVE_UP_GAP_AFTER: Millis = 300_000;

/// The service, built and not yet running.
pub struct App {
    supervisor: Supervisor,
    admin: Admin,
    health: Health,
    metrics: MetricsRegistry,
    shutdown_deadline: Duration,
}

impl App {
    /// Finds everything that the service needs, Kafka's topics and the registry's schemas among it. Nothing runs yet.
    ///
    /// # Errors
    /// [`Failure::Config`], or [`Failure::Unavailable`] if Kafka or the registry does not come within `startup_deadline`.
    pub async fn build(config: Config) -> Result<Self, Failure> {
        let (metrics, health) = (MetricsRegistry::new("raw_producer"), Health::new());
        let admin = Admin::bind(&config.admin).await?;
        let request_ids = RequestIds::default();
        let sessions = sessions(&config, &health, &metrics, &request_ids)?;
        let deadline = *config.startup_deadline;
        let topics = &config.topics;
        let specs = [
            TopicSpec::trades(topics),
            TopicSpec::watermarks(topics),
            TopicSpec::sequences(topics),
            TopicSpec::dead_letter(topics),
        ];
        ensure_topics(&config.kafka, Config::SERVICE.name(), &specs, deadline).await?;
        let registry = Registry::new(&config.schema_registry)?;
        let names = TopicNames {
            trades: topics.trades.clone(),
            watermarks: TopicSpec::watermarks(topics).name,
            sequences: TopicSpec::sequences(topics).name,
            dead_letter: topics.dead_letter.clone(),
        };
        let schemas = (
            register(&registry, &config, (&names.trades, &TRADE)).await?,
            register(&registry, &config, (&names.watermarks, &WATERMARK)).await?,
        );
        let supervisor = Supervisor {
            settings: settings(&config),
            request_ids: request_ids.clone(),
            service: Config::SERVICE.name(),
            names,
            registry,
            schemas,
            sample_one_in: config.tracing.sample_one_in,
            sessions,
            kafka_part: health.component("kafka"),
            transactions: Transactions::new(
                &config.kafka,
                Config::SERVICE.name(),
                specs.into_iter().map(|spec| spec.name).collect(),
                None,
                &metrics,
                Handle::current(),
            ),
            part: health.component("backfill"),
            heartbeat: health.heartbeat("feed", WEDGED_AFTER),
            metrics: Metrics::new(&metrics),
            owner: owner(),
            kafka: config.kafka,
        };
        Ok(Self { supervisor, admin, health, metrics, shutdown_deadline: *config.shutdown_deadline })
    }

    /// Runs until asked to stop, then until Kafka has every trade that was taken.
    ///
    /// # Errors
    /// What ended the service unasked.
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

type MakeSessions = Box<dyn Fn(events::EventSender) -> Vec<ReconnectingConnection> + Send + Sync>;

fn sessions(
    config: &Config,
    health: &Health,
    metrics: &MetricsRegistry,
    ids: &RequestIds,
) -> Result<MakeSessions, Failure> {
    let (deribit, credentials) = (config.deribit.clone(), credentials(config)?);
    let ids = ids.clone();
    let (part, metrics) = (health.component("exchange"), ConnectionMetrics::new(metrics));
    Ok(Box::new(move |events| {
        let up = Arc::new(AtomicUsize::new(0));
        let session = |connection| ReconnectingConnection {
            connection,
            url: deribit.url.clone(),
            channels: deribit.channels.clone(),
            credentials: credentials.clone(),
            request_ids: ids.clone(),
            health: part.clone(),
            metrics: metrics.clone(),
            up: up.clone(),
            events: events.clone(),
        };
        (0..deribit.connections).map(session).collect()
    }))
}

fn settings(config: &Config) -> FeedSettings {
    let SequenceConfig { hold_max, max_buffered_trades, reconcile_interval, max_ahead } = config.sequence;
    let limits = Limits {
        hold_max: millis(*hold_max),
        max_buffered: max_buffered_trades,
        max_ahead: millis(*max_ahead),
        confirm_after: CONFIRM_AFTER,
        give_up_after: GIVE_UP_GAP_AFTER,
    };
    FeedSettings {
        scopes: HistoryScope::of_channels(&config.deribit.channels),
        partitions: u32::try_from(config.topics.partitions).unwrap_or(1),
        start_from: config.deribit.start_from.map(|start| start.millis(SystemTime::now())),
        reconcile_interval: millis(*reconcile_interval),
        requests_per_second: config.deribit.requests_per_second,
        limits,
    }
}

fn millis(duration: Duration) -> Millis {
    Millis::try_from(duration.as_millis()).unwrap_or(Millis::MAX)
}

/// Different for each process, also for two that begin in the same microsecond on one machine.
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
    (topic, contract): (&str, &Contract),
) -> Result<SchemaId, Failure> {
    let what = format!("schema registry at {}", config.schema_registry.url);
    let deadline = *config.startup_deadline;
    backoff::until_deadline(&what, deadline, async || registry.register(topic, contract).await).await
}
