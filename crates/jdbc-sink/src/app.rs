//! Builds the parts of the service, and runs them.

use std::time::Duration;

use common::admin::{Admin, Component, Health, Heartbeat, Serving};
use common::config::{KafkaConfig, ServiceConfig as _};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::metrics::Metrics;
use common::shutdown::{Shutdown, Tasks};
use common::{Failure, backoff};

use crate::Config;
use crate::connect::api::ConnectApi;
use crate::connect::apply::apply;
use crate::connect::metrics::ConnectMetrics;
use crate::connect::settings::ConnectSettings;
use crate::connect::template::Connector;
use crate::dead_letters::DeadLetterProcessor;
use crate::dead_letters::metrics::DeadLetterMetrics;
use crate::monitor::metrics::MonitorMetrics;
use crate::monitor::{Diagnosis, Watcher};
use crate::postgres::connection::Database;
use crate::postgres::metrics::TableMetrics;
use crate::postgres::migrations::migrate;
use crate::postgres::retention::RetentionJob;
use crate::sink::Sink;

/// Longest poll of the connectors: a few requests of at most ten seconds each, and a diagnosis.
const MAX_POLL: Duration = Duration::from_secs(120);

/// Names of the threads that process dead letters, in the order of the sinks.
const PROCESSOR_NAMES: [&str; 2] = ["dead letters of trades", "dead letters of moving averages"];

/// The service, once tables, topics and connectors exist.
pub struct App {
    watcher: Watcher,
    processors: Vec<DeadLetterProcessor>,
    retention: RetentionJob,
    watch_interval: Duration,
    heartbeat: Heartbeat,
    serving: Serving,
    shutdown_deadline: Duration,
}

/// Creates what the watcher watches.
struct Startup {
    deadline: Duration,
    database: Database,
    tables_health: Component,
    table_metrics: TableMetrics,
    kafka: KafkaConfig,
    topics: Vec<TopicSpec>,
    api: ConnectApi,
    connectors: Vec<Connector>,
    connect_metrics: ConnectMetrics,
}

impl App {
    /// Creates or updates tables, topics and connectors. Meanwhile `/ready` shows what is missing; a request to stop ends the wait.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if Postgres, Kafka or Connect is not available within `startup_deadline`; [`Failure::Config`] if one of them
    /// rejects a request.
    pub async fn build(config: Config, shutdown: Shutdown) -> Result<Self, Failure> {
        let settings = ConnectSettings::new(&config.connect, &config.postgres, &config.schema_registry)
            .map_err(|invalid| Failure::Config(format!("bad configuration: {invalid}")))?;
        let database = Database::new(&config.postgres)?;
        let admin = Admin::bind(&config.admin).await?;
        let (registry, health, sinks) = (Metrics::new("jdbc_sink"), Health::new(), Sink::all(&config.topics));
        let connectors = sinks.each_ref().map(|sink| Connector::new(sink, &settings));
        let api = ConnectApi::new(&config.connect.url)?;
        let watch_interval = *config.connect.watch_interval;
        let connect_metrics = ConnectMetrics::new(&registry);
        let mut watcher = Watcher::new(
            api.clone(),
            watch_interval,
            connect_metrics.clone(),
            MonitorMetrics::new(&registry),
        );
        for (connector, sink) in connectors.iter().zip(&sinks) {
            let diagnosis =
                Diagnosis::new(sink.clone(), &config.kafka, &config.schema_registry, database.clone())?;
            watcher.watch(connector.clone(), health.component(connector.name), Some(diagnosis));
        }
        let table_metrics = TableMetrics::new(&registry);
        let retention = RetentionJob::new(database.clone(), config.retention.tables(), table_metrics.clone());
        let processors = processors(&config, &sinks, &database, &DeadLetterMetrics::new(&registry))?;
        let startup = Startup {
            deadline: *config.startup_deadline,
            database,
            tables_health: health.component("tables"),
            table_metrics,
            topics: sinks.iter().flat_map(|sink| sink.topic_specs(&config.topics)).collect(),
            kafka: config.kafka,
            api,
            connectors: connectors.into(),
            connect_metrics,
        };
        let serving = admin.serve(health.clone(), registry, shutdown.clone());
        // The startup may be cut short: a migration is rolled back, a request repeated at the next start.
        tokio::select! {
            () = shutdown.requested() => {}
            end = startup.run() => end?,
        }
        let heartbeat = health.heartbeat("watcher", watch_interval + MAX_POLL);
        let shutdown_deadline = *config.shutdown_deadline;
        Ok(Self { watcher, processors, retention, watch_interval, heartbeat, serving, shutdown_deadline })
    }

    /// Runs until it is requested to stop.
    ///
    /// # Errors
    /// The failure that ended the service.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let Self {
            mut watcher,
            processors,
            retention,
            watch_interval,
            heartbeat,
            serving,
            shutdown_deadline,
        } = self;
        let mut tasks = Tasks::new(shutdown.clone());
        for (name, mut processor) in PROCESSOR_NAMES.into_iter().zip(processors) {
            spawn_thread(&mut tasks, name, &shutdown, async move || processor.run(watch_interval).await);
        }
        spawn_thread(&mut tasks, "retention", &shutdown, async move || retention.run().await);
        spawn_thread(&mut tasks, "watcher", &shutdown, async move || watcher.run(&heartbeat).await);
        let end = tasks.run_to_end(shutdown_deadline).await;
        drop(serving);
        end
    }
}

/// Runs `work` on a thread of its own until shutdown: decoding thousands of records must not delay the health checks.
fn spawn_thread(
    tasks: &mut Tasks,
    name: &'static str,
    shutdown: &Shutdown,
    work: impl AsyncFnOnce() + Send + 'static,
) {
    let shutdown = shutdown.clone();
    tasks.spawn_thread(name, move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(anyhow::Error::from)?.block_on(async {
            tokio::select! {
                () = shutdown.requested() => {}
                () = work() => {}
            }
        });
        Ok(())
    });
}

fn processors(
    config: &Config,
    sinks: &[Sink],
    database: &Database,
    metrics: &DeadLetterMetrics,
) -> Result<Vec<DeadLetterProcessor>, Failure> {
    let processor = |sink: &Sink| {
        let (database, metrics) = (database.clone(), metrics.clone());
        DeadLetterProcessor::new(sink.clone(), &config.kafka, &config.schema_registry, database, metrics)
    };
    sinks.iter().map(processor).collect()
}

impl Startup {
    /// Tables and topics first: a connector without them fails.
    async fn run(&self) -> Result<(), Failure> {
        tokio::try_join!(self.create_tables(), self.create_topics(), self.await_connect())?;
        for connector in &self.connectors {
            let outcome = backoff::until_deadline(&self.api.to_string(), self.deadline, async || {
                apply(&self.api, connector).await
            })
            .await?;
            self.connect_metrics.count_update(connector.name, &outcome);
        }
        Ok(())
    }

    async fn create_tables(&self) -> Result<(), Failure> {
        migrate(&self.database, self.deadline).await?;
        self.tables_health.ready();
        self.table_metrics.ready.set(1);
        Ok(())
    }

    async fn create_topics(&self) -> Result<(), Failure> {
        ensure_topics(&self.kafka, Config::SERVICE.name(), &self.topics, self.deadline).await
    }

    async fn await_connect(&self) -> Result<(), Failure> {
        let what = self.api.to_string();
        backoff::until_deadline(&what, self.deadline, async || self.api.plugins().await).await?;
        Ok(())
    }
}
