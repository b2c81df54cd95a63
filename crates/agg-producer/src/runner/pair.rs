//! Making pairs of consumer and producer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Failure;
use common::admin::{Health, Part};
use common::avro::codec::{Encoder, SchemaId};
use common::avro::registry::Registry;
use common::avro::schema::{CANDLE, MOVING_AVERAGE};
use common::backoff::Backoff;
use common::config::ServiceConfig as _;
use common::kafka::admin::client_refused;
use common::kafka::client::{self, Role};
use common::kafka::records::Records;
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use common::shutdown::Shutdown;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::runtime::Handle;

use super::fence::Writer;
use super::{Identity, RETRY, Runner, Urgency};
use crate::Config;
use crate::checkpoint::Fingerprint;
use crate::decode::{Schemas, TradeDecoder};
use crate::metrics::AggregatorMetrics;
use crate::origin::Origin;
use crate::partition::Windowing;
use crate::publish::Publisher;
use crate::rebalance::{Deliveries, Rebalances};
use crate::restore::Restore;
use crate::watermarks::Watermarks;

/// A loop that is silent for longer is wedged: a transaction may take ten seconds, and its abort as long again.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// What all pairs of a process have in common.
#[derive(Clone)]
pub struct Pairs {
    /// The configuration.
    pub config: Arc<Config>,
    /// The windows in force.
    pub windowing: Windowing,
    /// The settings in force.
    pub fingerprint: Fingerprint,
    /// The registry's ids.
    pub schemas: SchemaIds,
    /// Asked for the schemas of trades.
    pub registry: Registry,
    /// Where it is asked.
    pub runtime: Handle,
    /// Of all pairs together.
    pub metrics: AggregatorMetrics,
    /// Where each pair has a part and a heartbeat.
    pub health: Health,
    /// The request to stop.
    pub shutdown: Shutdown,
}

/// What the registry calls our schemas.
#[derive(Debug, Clone, Copy)]
pub struct SchemaIds {
    /// Written.
    pub candles: SchemaId,
    /// Written.
    pub averages: SchemaId,
    /// Read; `None` if they are not to be.
    pub watermarks: Option<SchemaId>,
}

/// A pair's place in the process.
#[derive(Debug)]
pub struct Seat {
    /// For people.
    pub name: &'static str,
    part: Part,
    thread: usize,
}

impl Pairs {
    /// A place for each pair, none of them ready.
    #[must_use]
    pub fn seats(&self) -> Vec<Seat> {
        let seat = |thread| {
            // As many as there are threads, once in the life of the process.
            let name: &'static str = format!("pair {thread}").leak();
            Seat { name, part: self.health.part(name), thread }
        };
        (0..self.config.threads).map(seat).collect()
    }

    /// Makes one pair and joins the group, after older producers of its name are fenced off. Blocks until Kafka has
    /// answered.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if it does not within `startup_deadline`; [`Failure::Config`] for settings that librdkafka refuses.
    pub fn make(&self, seat: Seat) -> Result<Runner, Failure> {
        let config = &self.config;
        let member = format!("{}-{}", config.instance, seat.thread);
        let writer = self.writer(&member)?;
        let consumer = Arc::new(self.consumer(&member)?);
        let ids = self.schemas;
        let encoders = (Encoder::new(&CANDLE, ids.candles), Encoder::new(&MOVING_AVERAGE, ids.averages));
        let schemas = Schemas::new(self.registry.clone(), self.runtime.clone());
        let watermarks = ids.watermarks.map(|id| Watermarks::new(config, id, schemas.clone())).transpose()?;
        let now = Instant::now();
        Ok(Runner {
            records: Records::new(&consumer, &config.topics.trades),
            consumer,
            writer,
            watermarks,
            decoder: TradeDecoder::new(schemas),
            publisher: Publisher::new(config.topics.clone(), config.group_id.clone(), encoders),
            restore: Restore {
                topic: config.topics.trades.clone(),
                windowing: self.windowing.clone(),
                fingerprint: self.fingerprint.clone(),
                origin: Origin::new(config, self.windowing.windows),
                partitions: config.topics.partitions,
            },
            slots: BTreeMap::new(),
            identity: Identity {
                group_id: config.group_id.clone(),
                member,
                how_to_reset: how_to_reset(config),
            },
            metrics: self.metrics.clone(),
            heartbeat: self.health.heartbeat(seat.name, LONGEST_SILENCE),
            part: seat.part,
            shutdown: self.shutdown.clone(),
            commit_interval: *config.commit_interval,
            process_span: format!("{} process", config.topics.trades),
            urgency: Urgency::Interval,
            aborting: false,
            next_commit: now,
            next_report: now,
            next_start: now,
            next_look: now,
            retry: Backoff::new(RETRY.0, RETRY.1),
            joined: false,
        })
    }

    /// Fenced off before the group is joined: what an older incarnation has in flight must be decided before its offsets are read.
    fn writer(&self, member: &str) -> Result<Writer, Failure> {
        let config = &self.config;
        let role = Role::TransactionalProducer { transactional_id: format!("{}-{member}", config.group_id) };
        let settings = client::config(&config.kafka, Config::SERVICE.name(), &role);
        let deadline = *config.startup_deadline;
        let fenced =
            TransactionalProducer::fence(&settings, Deliveries, deadline).map_err(|error| match error {
                TransactionError::Retriable(last) => Failure::Unavailable {
                    what: format!(
                        "the transaction coordinator of kafka at {}",
                        config.kafka.bootstrap_servers
                    ),
                    deadline,
                    last: last.to_string(),
                },
                other => Failure::Other(anyhow::Error::from(other).context("cannot open transactions")),
            });
        Ok(Writer::new(fenced?, settings))
    }

    fn consumer(&self, member: &str) -> Result<BaseConsumer<Rebalances>, Failure> {
        let config = &self.config;
        let (group_id, topic) = (config.group_id.clone(), &config.topics.trades);
        let role = Role::GroupConsumer { group_id, group_instance_id: member.to_owned() };
        let context = Rebalances::new(topic, self.metrics.clone());
        let consumer: BaseConsumer<Rebalances> = client::config(&config.kafka, Config::SERVICE.name(), &role)
            .create_with_context(context)
            .map_err(|error| client_refused(&error))?;
        consumer.subscribe(&[topic]).map_err(anyhow::Error::from)?;
        Ok(consumer)
    }
}

fn how_to_reset(config: &Config) -> String {
    let (group, topics) = (&config.group_id, &config.topics);
    format!(
        "to begin anew, either take a group_id, topics.candles, topics.moving_averages and topics.late that are not in use, or stop the \
         group, delete its offsets (kafka-consumer-groups --bootstrap-server {} --delete-offsets --group {group} --topic {}) and delete \
         {}, {} and {}, which are then made anew",
        config.kafka.bootstrap_servers, topics.trades, topics.candles, topics.moving_averages, topics.late
    )
}
