//! Making pairs of consumer and producer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Failure;
use common::admin::{Component, Health};
use common::avro::codec::SchemaId;
use common::avro::registry::Registry;
use common::backoff::Backoff;
use common::config::ServiceConfig as _;
use common::failpoint::without;
use common::kafka::admin::client_refused;
use common::kafka::batch_consumer::BatchConsumer;
use common::kafka::client::{self, Role};
use common::kafka::hanging_transactions::Transactions;
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use common::shutdown::Shutdown;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::runtime::Handle;

use super::producer::{Fenced, ProducerHandle};
use super::{CommitDeadline, Identity, RETRY, StreamThread};
use crate::Config;
use crate::group::rebalance::{Deliveries, Rebalances};
use crate::group::unassigned_partitions::RejoinRequest;
use crate::metrics::AggregatorMetrics;
use crate::records::decode::{Schemas, TradeDecoder};
use crate::records::encode::Publisher;
use crate::records::watermark_reader::WatermarkReader;
use crate::restore::Restore;
use crate::restore::candles::Candles;
use crate::restore::start_offset::StartOffsetFinder;
use crate::store::checkpoint::Fingerprint;
use crate::store::partition::Windowing;

/// A loop that is silent for longer is wedged: a transaction may take ten seconds, and its abort as long again.
const LONGEST_SILENCE: Duration = Duration::from_secs(60);

/// What all pairs of a process have in common.
#[derive(Clone)]
pub struct ThreadBuilder {
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
    /// Keeps transactions from hanging.
    pub transactions: Transactions,
    /// Where each pair has a part and a heartbeat.
    pub health: Health,
    /// The request to stop.
    pub shutdown: Shutdown,
}

/// What the registry calls our schemas.
#[derive(Debug, Clone, Copy)]
pub struct SchemaIds {
    /// Written, and read back.
    pub candles: SchemaId,
    /// Written.
    pub averages: SchemaId,
    /// Read; `None` if they are not to be.
    pub watermarks: Option<SchemaId>,
}

/// A pair's place in the process.
#[derive(Debug)]
pub struct Member {
    /// For people.
    pub name: &'static str,
    /// Its `group.instance.id`.
    pub member: String,
    /// Asked of it from outside.
    pub rejoin: RejoinRequest,
    part: Component,
}

impl ThreadBuilder {
    /// A place for each pair, none of them ready.
    #[must_use]
    pub fn members(&self) -> Vec<Member> {
        let seat = |thread| {
            // As many as there are threads, once in the life of the process.
            let name: &'static str = format!("pair {thread}").leak();
            let member = format!("{}-{thread}", self.config.instance);
            Member { name, member, rejoin: RejoinRequest::default(), part: self.health.component(name) }
        };
        (0..self.config.threads).map(seat).collect()
    }

    /// Makes one pair and joins the group, after older producers of its name are fenced off. Blocks until Kafka has
    /// answered.
    ///
    /// # Errors
    /// [`Failure::Unavailable`] if it does not within `startup_deadline`; [`Failure::Config`] for settings that librdkafka refuses.
    pub fn make(&self, seat: Member) -> Result<StreamThread, Failure> {
        let config = &self.config;
        let Member { name, member, rejoin, part } = seat;
        let fenced = self.fenced(&member)?;
        let consumer = Arc::new(self.consumer(&member)?);
        let committer =
            if without("fence") { Arc::new(self.observer_consumer()?) } else { Arc::clone(&consumer) };
        let writer = ProducerHandle::new(fenced, committer);
        let ids = self.schemas;
        let schemas = Schemas::new(self.registry.clone(), self.runtime.clone());
        let watermarks =
            ids.watermarks.map(|id| WatermarkReader::new(config, id, schemas.clone())).transpose()?;
        let now = Instant::now();
        Ok(StreamThread {
            records: BatchConsumer::new(&consumer, &config.topics.trades),
            consumer,
            writer,
            watermarks,
            candles: Candles::new(config, ids.candles, schemas.clone()),
            decoder: TradeDecoder::new(schemas),
            publisher: Publisher::new(
                config.topics.clone(),
                config.group_id.clone(),
                (ids.candles, ids.averages),
            ),
            restore: Restore {
                topic: config.topics.trades.clone(),
                candles: config.topics.candles.clone(),
                windowing: self.windowing.clone(),
                fingerprint: self.fingerprint.clone(),
                origin: StartOffsetFinder::new(config, self.windowing.windows),
                partitions: config.topics.partitions,
            },
            slots: BTreeMap::new(),
            identity: Identity {
                group_id: config.group_id.clone(),
                member,
                how_to_reset: reset_instructions(config),
            },
            metrics: self.metrics.clone(),
            heartbeat: self.health.heartbeat(name, LONGEST_SILENCE),
            part,
            rejoin,
            shutdown: self.shutdown.clone(),
            commit_interval: *config.commit_interval,
            process_span: format!("{} process", config.topics.trades),
            urgency: CommitDeadline::Interval,
            processed: 0,
            aborting: false,
            transactions: self.transactions.status().clone(),
            producer_wanted_since: now,
            held: None,
            next_commit: now,
            settled: now,
            next_report: now,
            next_start: now,
            next_look: now,
            retry: Backoff::new(RETRY.0, RETRY.1),
            joined: false,
            started: now,
        })
    }

    /// Fenced off before the group is joined: what an older incarnation has in flight must be decided before its offsets are read.
    fn fenced(&self, member: &str) -> Result<Fenced, Failure> {
        let config = &self.config;
        let mut transactional_id = format!("{}-{member}", config.group_id);
        if without("fence") {
            transactional_id = format!("{transactional_id}-{}", std::process::id());
        }
        let role = Role::TransformingProducer { transactional_id: transactional_id.clone() };
        let mut settings = client::config(&config.kafka, Config::SERVICE.name(), &role);
        if without("fence") {
            // Nothing but the fence is to end the transaction of a process that sleeps.
            settings.set("transaction.timeout.ms", "600000");
        }
        let deadline = *config.startup_deadline;
        let guard = self.transactions.guard(&transactional_id);
        let fenced = TransactionalProducer::fence(&settings, Deliveries, guard.clone(), deadline);
        let producer = fenced.map_err(|error| match error {
            TransactionError::Retriable(_) | TransactionError::Unsettled(_) => Failure::Unavailable {
                what: format!("the transaction coordinator of kafka at {}", config.kafka.bootstrap_servers),
                deadline,
                last: error.to_string(),
            },
            other => Failure::Other(anyhow::Error::from(other).context("cannot open transactions")),
        })?;
        Ok(Fenced { producer, settings, guard })
    }

    fn consumer(&self, member: &str) -> Result<BaseConsumer<Rebalances>, Failure> {
        let config = &self.config;
        let (group_id, topic) = (config.group_id.clone(), &config.topics.trades);
        let role = Role::GroupConsumer { group_id, group_instance_id: member.to_owned() };
        let consumer = self.client(&role)?;
        consumer.subscribe(&[topic]).map_err(anyhow::Error::from)?;
        Ok(consumer)
    }

    /// One that knows the group and is no member of it: the broker does not ask whether a partition is its own.
    fn observer_consumer(&self) -> Result<BaseConsumer<Rebalances>, Failure> {
        self.client(&Role::GroupObserver { group_id: self.config.group_id.clone() })
    }

    fn client(&self, role: &Role) -> Result<BaseConsumer<Rebalances>, Failure> {
        let context = Rebalances::new(&self.config.topics.trades, self.metrics.clone());
        client::config(&self.config.kafka, Config::SERVICE.name(), role)
            .create_with_context(context)
            .map_err(|error| client_refused(&error))
    }
}

fn reset_instructions(config: &Config) -> String {
    let (group, topics) = (&config.group_id, &config.topics);
    format!(
        "to reset, either set a new group_id, topics.candles, topics.moving_averages and topics.late, or stop the \
         group, delete its offsets (kafka-consumer-groups --bootstrap-server {} --delete-offsets --group {group} --topic {}) and delete \
         {}, {} and {}, which are then created again",
        config.kafka.bootstrap_servers, topics.trades, topics.candles, topics.moving_averages, topics.late
    )
}
