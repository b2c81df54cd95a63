//! How the parts are put together, and run.

use std::time::Duration;

use common::admin::{Admin, Health};
use common::avro::codec::Encoder;
use common::avro::registry::Registry;
use common::avro::schema::TRADE;
use common::config::{ServiceConfig as _, read_secret};
use common::kafka::admin::{TopicSpec, ensure_topics};
use common::kafka::client::{self, Role};
use common::metrics::Metrics;
use common::shutdown::{Shutdown, Tasks};
use common::telemetry::trace::Sampler;
use common::{Failure, backoff};

use crate::Config;
use crate::deribit::conversation::Credentials;
use crate::deribit::session::Sessions;
use crate::feed::Feed;
use crate::metrics::{FeedMetrics, SessionMetrics};
use crate::publish::Publisher;

/// The service, built and not yet running.
pub struct App {
    sessions: Sessions,
    feed: Feed,
    admin: Admin,
    health: Health,
    metrics: Metrics,
    shutdown_deadline: Duration,
}

impl App {
    /// Finds everything that the service needs, Kafka's topics and the registry's schema among it. Nothing runs yet.
    ///
    /// # Errors
    /// [`Failure::Config`], or [`Failure::Unavailable`] if Kafka or the registry does not come within `startup_deadline`.
    pub async fn build(config: Config, shutdown: Shutdown) -> Result<Self, Failure> {
        let (metrics, health) = (Metrics::new("raw_producer"), Health::new());
        let admin = Admin::bind(&config.admin).await?;
        let credentials = credentials(&config)?;
        let feed_metrics = FeedMetrics::new(&metrics);
        let publisher = publisher(&config, feed_metrics.clone()).await?;
        let feed = Feed::new(publisher, Sampler::one_in(config.tracing.sample_one_in), feed_metrics);
        let sessions = Sessions {
            url: config.deribit.url,
            channels: config.deribit.channels,
            credentials,
            part: health.part("exchange"),
            metrics: SessionMetrics::new(&metrics),
            shutdown,
        };
        Ok(Self { sessions, feed, admin, health, metrics, shutdown_deadline: *config.shutdown_deadline })
    }

    /// Runs until asked to stop, then waits until Kafka has every trade that was taken.
    ///
    /// # Errors
    /// What ended the service unasked; trades that Kafka did not acknowledge in time.
    pub async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let Self { sessions, mut feed, admin, health, metrics, shutdown_deadline } = self;
        let _serving = admin.serve(health, metrics, shutdown.clone());
        let mut tasks = Tasks::new(shutdown);
        tasks.spawn("feed", async move {
            let end = sessions.run(&mut feed).await;
            // Even after a failure: what was taken is written if it can be.
            let flushed = feed.into_publisher().flush(shutdown_deadline.mul_f64(0.8)).await;
            end.and(flushed)
        });
        tasks.run_to_end(shutdown_deadline).await
    }
}

fn credentials(config: &Config) -> Result<Option<Credentials>, Failure> {
    let (Some(client_id), Some(file)) = (&config.deribit.client_id, &config.deribit.client_secret_file)
    else {
        return Ok(None);
    };
    let client_secret = read_secret("deribit.client_secret_file", file)?;
    Ok(Some(Credentials { client_id: client_id.clone(), client_secret }))
}

async fn publisher(config: &Config, metrics: FeedMetrics) -> Result<Publisher, Failure> {
    let (name, deadline) = (Config::SERVICE.name(), *config.startup_deadline);
    ensure_topics(&config.kafka, name, &[TopicSpec::trades(&config.topics)], deadline).await?;
    let registry = Registry::new(&config.schema_registry)?;
    let what = format!("schema registry at {}", config.schema_registry.url);
    let topic = &config.topics.trades;
    let id =
        backoff::until_deadline(&what, deadline, async || registry.register(topic, &TRADE).await).await?;
    let settings = client::config(&config.kafka, name, &Role::Producer);
    Publisher::new(&settings, topic, Encoder::new(&TRADE, id), metrics)
}
