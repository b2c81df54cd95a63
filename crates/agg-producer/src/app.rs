//! How the parts are put together, and run.

use std::sync::Arc;
use std::time::Duration;

use common::admin::{Admin, Health};
use common::avro::registry::Registry;
use common::avro::schema::{CANDLE, Contract, MOVING_AVERAGE, TRADE, WATERMARK};
use common::config::ServiceConfig as _;
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::hanging_transactions::Transactions;
use common::metrics::Metrics;
use common::shutdown::{Shutdown, Tasks};
use common::{Failure, backoff};
use tokio::runtime::Handle;

use crate::Config;
use crate::group::unassigned_partitions::UnassignedPartitions;
use crate::metrics::AggregatorMetrics;
use crate::stream_thread::{SchemaIds, ThreadBuilder};

/// The service, built and not yet running.
pub struct App {
    pairs: ThreadBuilder,
    admin: Admin,
    health: Health,
    metrics: Metrics,
}

impl App {
    /// Finds everything that the service needs, Kafka's topics and the registry's schemas among it. Nothing runs yet.
    ///
    /// # Errors
    /// [`Failure::Config`], or [`Failure::Unavailable`] if Kafka or the registry does not come within `startup_deadline`.
    pub async fn build(config: Config, shutdown: Shutdown) -> Result<Self, Failure> {
        let (metrics, health) = (Metrics::new("agg_producer"), Health::new());
        let admin = Admin::bind(&config.admin).await?;
        let (windowing, fingerprint) =
            config.windowing().map_err(|invalid| Failure::Config(format!("bad configuration: {invalid}")))?;
        let topics = &config.topics;
        let mut specs = vec![
            TopicSpec::trades(topics),
            TopicSpec::candles(topics),
            TopicSpec::moving_averages(topics),
            TopicSpec::late(topics),
            TopicSpec::dead_letter(topics),
        ];
        specs.extend(config.window.watermarks.then(|| TopicSpec::watermarks(topics)));
        ensure_topics(&config.kafka, Config::SERVICE.name(), &specs, *config.startup_deadline).await?;
        let registry = Registry::new(&config.schema_registry)?;
        let schemas = register(&config, &registry).await?;
        let transactions = Transactions::new(
            &config.kafka,
            Config::SERVICE.name(),
            specs.into_iter().map(|spec| spec.name).collect(),
            Some(config.group_id.clone()),
            &metrics,
            Handle::current(),
        );
        let pairs = ThreadBuilder {
            config: Arc::new(config),
            windowing,
            fingerprint,
            schemas,
            registry,
            runtime: Handle::current(),
            metrics: AggregatorMetrics::new(&metrics),
            transactions,
            health: health.clone(),
            shutdown,
        };
        Ok(Self { pairs, admin, health, metrics })
    }

    /// Runs until asked to stop, or until one of the pairs fails.
    ///
    /// # Errors
    /// The pair's.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let Self { pairs, admin, health, metrics } = self;
        // Before anybody can ask whether they are ready.
        let seats = pairs.members();
        let members = seats.iter().map(|seat| (seat.member.clone(), seat.rejoin.clone())).collect();
        let owners = UnassignedPartitions::new(&pairs.config, members, &health, &pairs.metrics)?;
        let monitor = pairs.transactions.monitor(health.component("transactions"));
        let _serving = admin.serve(health, metrics, shutdown.clone());
        let mut tasks = Tasks::new(shutdown.clone());
        let runtime = pairs.runtime.clone();
        tasks.spawn("transactions", monitor.run(shutdown.clone()));
        tasks.spawn_thread("group", move || owners.run(&runtime, &shutdown));
        for seat in seats {
            let pairs = pairs.clone();
            tasks.spawn_thread(seat.name, move || pairs.make(seat)?.run());
        }
        let deadline: Duration = *pairs.config.shutdown_deadline;
        tasks.run_to_end(deadline).await
    }
}

/// The ids of what is written, and of watermarks. Late trades are registered too, so that their topic can be read by its subject.
async fn register(config: &Config, registry: &Registry) -> Result<SchemaIds, Failure> {
    let what = format!("schema registry at {}", config.schema_registry.url);
    let register = async |topic: &str, contract: &Contract| {
        backoff::until_deadline(&what, *config.startup_deadline, async || {
            registry.register(topic, contract).await
        })
        .await
    };
    register(&config.topics.late, &TRADE).await?;
    let watermarks = TopicSpec::watermarks(&config.topics).name;
    Ok(SchemaIds {
        candles: register(&config.topics.candles, &CANDLE).await?,
        averages: register(&config.topics.moving_averages, &MOVING_AVERAGE).await?,
        watermarks: if config.window.watermarks {
            Some(register(&watermarks, &WATERMARK).await?)
        } else {
            None
        },
    })
}
