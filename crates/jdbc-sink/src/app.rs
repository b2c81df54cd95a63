//! How the parts are put together, and run.

use std::time::Duration;

use common::admin::{Admin, Health, Heartbeat, Part, Serving};
use common::config::{KafkaConfig, ServiceConfig as _};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::metrics::Metrics;
use common::shutdown::{Shutdown, Tasks};
use common::{Failure, backoff};

use crate::Config;
use crate::connect::api::ConnectApi;
use crate::connect::apply::apply;
use crate::connect::settings::Surroundings;
use crate::connect::template::{Connector, connectors, topics};
use crate::dead_letters::Desk;
use crate::metrics::SinkMetrics;
use crate::monitor::{Probe, Watcher};
use crate::postgres::connection::Database;
use crate::postgres::migrations::migrate;
use crate::postgres::retention::Sweeper;
use crate::sink::Pair;

/// A look at the connectors is some requests, each of which takes ten seconds at most.
const LONGEST_LOOK: Duration = Duration::from_secs(120);

/// The service: tables, topics and connectors are in place, and the watching can begin.
pub struct App {
    watcher: Watcher,
    desks: Vec<(&'static str, Desk)>,
    sweeper: Sweeper,
    interval: Duration,
    heartbeat: Heartbeat,
    serving: Serving,
    shutdown_deadline: Duration,
}

/// What must be in place before there is anything to watch.
struct Start {
    deadline: Duration,
    database: Database,
    tables: Part,
    kafka: KafkaConfig,
    topics: Vec<TopicSpec>,
    api: ConnectApi,
    connectors: Vec<Connector>,
    metrics: SinkMetrics,
}

impl App {
    /// Makes tables, topics and connectors what they ought to be. `/ready` tells what is waited for meanwhile; a request to stop cuts
    /// it short.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if Postgres, Kafka or Connect does not come within `startup_deadline`; [`Failure::Config`] for what they
    /// refuse.
    pub async fn build(config: Config, shutdown: Shutdown) -> Result<Self, Failure> {
        let surroundings = Surroundings::of(&config)
            .map_err(|invalid| Failure::Config(format!("bad configuration: {invalid}")))?;
        let database = Database::new(&config.postgres)?;
        let admin = Admin::bind(&config.admin).await?;
        let (registry, health) = (Metrics::new("jdbc_sink"), Health::new());
        let metrics = SinkMetrics::new(&registry);
        let api = ConnectApi::new(&config.connect.url)?;
        let mut watcher = Watcher::new(api.clone(), *config.connect.watch_interval, metrics.clone());
        let connectors = connectors(&config.topics, &surroundings);
        for (connector, pair) in connectors.iter().zip(Pair::all(&config.topics)) {
            let probe = Probe::new(&config, pair)?;
            watcher.watch(connector.clone(), health.part(connector.name), Some(probe));
        }
        let sweeper = Sweeper::new(database.clone(), config.retention.kept(), metrics.clone());
        let desks = desks(&config, &metrics)?;
        let start = Start {
            deadline: *config.startup_deadline,
            database,
            tables: health.part("tables"),
            kafka: config.kafka,
            topics: topics(&config.topics),
            api,
            connectors,
            metrics,
        };
        let serving = admin.serve(health.clone(), registry, shutdown.clone());
        // Nothing of it must be finished: a migration is rolled back, a request made again.
        tokio::select! {
            () = shutdown.requested() => {}
            end = start.run() => end?,
        }
        let heartbeat = health.heartbeat("watcher", *config.connect.watch_interval + LONGEST_LOOK);
        let (interval, shutdown_deadline) = (*config.connect.watch_interval, *config.shutdown_deadline);
        Ok(Self { watcher, desks, sweeper, interval, heartbeat, serving, shutdown_deadline })
    }

    /// Watches the connectors until asked to stop.
    ///
    /// # Errors
    /// What ended the service unasked.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let Self { mut watcher, desks, sweeper, interval, heartbeat, serving, shutdown_deadline } = self;
        let mut tasks = Tasks::new(shutdown.clone());
        for (name, mut desk) in desks {
            spawn_alone(&mut tasks, (name, &shutdown), async move || desk.run(interval).await)?;
        }
        spawn_alone(&mut tasks, ("retention", &shutdown), async move || sweeper.run().await)?;
        spawn_alone(&mut tasks, ("watcher", &shutdown), async move || watcher.run(&heartbeat).await)?;
        let end = tasks.run_to_end(shutdown_deadline).await;
        drop(serving);
        end
    }
}

/// Runs `work` on a thread of its own until it is to stop: thousands of records to decode do not hold up the health checks.
fn spawn_alone(
    tasks: &mut Tasks,
    (name, shutdown): (&'static str, &Shutdown),
    work: impl AsyncFnOnce() + Send + 'static,
) -> Result<(), Failure> {
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
    })
}

fn desks(config: &Config, metrics: &SinkMetrics) -> Result<Vec<(&'static str, Desk)>, Failure> {
    let names = ["dead letters of trades", "dead letters of moving averages"];
    let pairs = names.into_iter().zip(Pair::all(&config.topics));
    pairs.map(|(name, pair)| Ok((name, Desk::new(config, pair, metrics.clone())?))).collect()
}

impl Start {
    /// Tables and topics first: a connector that finds none fails.
    async fn run(&self) -> Result<(), Failure> {
        tokio::try_join!(self.make_tables(), self.make_topics(), self.await_connect())?;
        for connector in &self.connectors {
            let applied = backoff::until_deadline(&self.connect(), self.deadline, async || {
                apply(&self.api, connector).await
            })
            .await?;
            self.metrics.applied(connector.name, &applied);
        }
        Ok(())
    }

    async fn make_tables(&self) -> Result<(), Failure> {
        migrate(&self.database, self.deadline).await?;
        self.tables.ready();
        self.metrics.tables_ready.set(1);
        Ok(())
    }

    async fn make_topics(&self) -> Result<(), Failure> {
        ensure_topics(&self.kafka, Config::SERVICE.name(), &self.topics, self.deadline).await
    }

    async fn await_connect(&self) -> Result<(), Failure> {
        backoff::until_deadline(&self.connect(), self.deadline, async || self.api.plugins().await).await?;
        Ok(())
    }

    fn connect(&self) -> String {
        format!("kafka connect at {}", self.api.base())
    }
}
