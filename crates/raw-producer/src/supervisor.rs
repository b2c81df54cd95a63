//! Runs the service: fence, recover, connect, catch up, go live. After a failed transaction it restarts from the last committed one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apache_avro::Schema;
use common::Failure;
use common::admin::{Component, Heartbeat};
use common::avro::codec::{Encoder, SchemaId};
use common::avro::registry::{Registry, RegistryError};
use common::avro::schema::{TRADE, WATERMARK};
use common::avro::trade_encoder::TradeEncoder;
use common::backoff::Backoff;
use common::config::KafkaConfig;
use common::kafka::hanging_transactions::{SettleError, Transactions};
use common::kafka::transaction::TransactionError;
use common::shutdown::{Shutdown, spawn_blocking_thread};
use common::telemetry::trace::Sampler;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};

use crate::deribit::connection::ReconnectingConnection;
use crate::deribit::events::{self, EventSender};
use crate::deribit::rpc::RequestIds;
use crate::feed::{Deps, FeedHandler, FeedSettings, TradePayload};
use crate::metrics::Metrics;
use crate::publish::classify::SchemaLookup;
use crate::publish::deliveries::DeliveryReports;
use crate::publish::recovery::{self, OpenError, Recovered, RecoveryReader};
use crate::publish::snapshot_records::Owner;
use crate::publish::snapshots::{SnapshotWriter, TopicNames};
use crate::publish::writer::TransactionWriter;
use crate::sequencer::Sequencer;

/// The most records between the feed and the writer.
pub const PUBLISH_QUEUE_CAPACITY: usize = 8_192;
/// Bounds of the pause before a restart.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(500);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
/// After a run of this length, the pause is the shortest again.
const STABLE_AFTER: Duration = Duration::from_secs(60);
/// Time for a newer process to write its owner record.
const OWNER_RECORD_DELAY: Duration = Duration::from_secs(3);

/// Makes all connections to the exchange.
pub(crate) type MakeConnections = Box<dyn Fn(EventSender) -> Vec<ReconnectingConnection> + Send + Sync>;

/// The registry's ids for this service's schemas.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RegisteredSchemas {
    pub(crate) trade: SchemaId,
    pub(crate) watermark: SchemaId,
}

/// Owns everything that outlives a restart.
pub(crate) struct Supervisor {
    pub(crate) kafka: KafkaConfig,
    pub(crate) client_id: &'static str,
    pub(crate) names: TopicNames,
    pub(crate) registry: Registry,
    pub(crate) schemas: RegisteredSchemas,
    pub(crate) settings: FeedSettings,
    pub(crate) request_ids: RequestIds,
    /// One trade of this many is traced; 0 for none.
    pub(crate) sample_one_in: u32,
    pub(crate) connections: MakeConnections,
    pub(crate) transactions: Transactions,
    pub(crate) writer_health: Component,
    pub(crate) feed_health: Component,
    pub(crate) heartbeat: Heartbeat,
    pub(crate) metrics: Metrics,
    pub(crate) owner: Owner,
}

/// Runs that failed one after another, none of them stable.
#[derive(Debug, Default)]
struct FailureStreak {
    since: Option<Instant>,
}

impl FailureStreak {
    /// Adds a run that failed `now` after this time. Returns when the streak began: a stable run before it does not count.
    fn add(&mut self, ran_for: Duration, now: Instant) -> Instant {
        if ran_for > STABLE_AFTER {
            self.since = None;
        }
        *self.since.get_or_insert(now)
    }
}

/// Why a run ended.
enum Exit {
    ShutdownRequested,
    Failed(Failure),
    /// Nothing was committed wrongly; another run can start.
    Restart(anyhow::Error),
    /// Another process may own the topic now; only the owner record can tell. librdkafka reports a fence by many errors: an aborted commit, a
    /// fatal send, or a commit that took too long, if the process was stopped. A restart without a check would take the topic back.
    OwnershipUnknown(TransactionError),
}

/// The exit after an error of a producer that may have been fenced.
fn exit_after(error: TransactionError) -> Exit {
    match error {
        TransactionError::Unsettled(stuck @ SettleError::Stuck { .. }) => {
            Exit::Failed(Failure::Other(stuck.into()))
        }
        // No transaction has begun.
        TransactionError::Unsettled(why) => Exit::Restart(why.into()),
        error => Exit::OwnershipUnknown(error),
    }
}

/// The exit after an error of the fence. Before it succeeds, no other process can have taken over.
fn exit_before_fence(error: TransactionError) -> Exit {
    match error {
        TransactionError::Retriable(_) => Exit::Restart(error.into()),
        error => exit_after(error),
    }
}

impl Supervisor {
    /// Runs until the shutdown is requested.
    ///
    /// # Errors
    /// Another process took over, the exchange rejects the configuration, or an internal error.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let supervisor = Arc::new(self);
        let mut backoff = Backoff::new(RESTART_DELAY_MIN, RESTART_DELAY_MAX);
        let mut failures = FailureStreak::default();
        loop {
            supervisor.heartbeat.beat();
            let begun = Instant::now();
            let why = match supervisor.run_once(&shutdown).await {
                Exit::ShutdownRequested => return Ok(()),
                Exit::Failed(failure) => return Err(failure),
                Exit::Restart(error) => error,
                Exit::OwnershipUnknown(error) => match supervisor.check_ownership(&shutdown).await {
                    Some(failure) => return Err(failure),
                    None => error.into(),
                },
            };
            if begun.elapsed() > STABLE_AFTER {
                backoff.reset();
            }
            let failing_since = failures.add(begun.elapsed(), Instant::now());
            if let Some(overdue) = supervisor.transactions.status().overdue(failing_since) {
                return Err(Failure::Other(why.context(overdue)));
            }
            let delay = backoff.next_delay();
            supervisor.metrics.writer.restarts.inc();
            supervisor.writer_health.waiting(format!("{why:#}"));
            let error = format!("{why:#}");
            tracing::warn!(error, retry_in = ?delay, "restarting from the last committed transaction");
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn run_once(self: &Arc<Self>, shutdown: &Shutdown) -> Exit {
        self.writer_health.waiting("reading what was published");
        let supervisor = self.clone();
        let opened = tokio::select! {
            () = shutdown.requested() => return Exit::ShutdownRequested,
            opened = spawn_blocking_thread("open", move || supervisor.open()) => opened,
        };
        let (writer, recovered) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(OpenError::Fence(error))) => return exit_before_fence(error),
            Ok(Err(OpenError::Transaction(error))) => return exit_after(error),
            Ok(Err(OpenError::Read(error))) => return Exit::Restart(error),
            Err(failure) => return Exit::Failed(failure),
        };
        self.writer_health.ready();
        let feed = self.feed_handler(&recovered);
        drop(recovered);
        self.run_connected(writer, feed, shutdown).await
    }

    /// Fences and recovers. Blocks.
    fn open(&self) -> Result<(TransactionWriter, Recovered), OpenError> {
        let transactional_id = self.transactional_id();
        let guard = self.transactions.guard(&transactional_id);
        let deliveries = DeliveryReports::new(self.metrics.feed.clone());
        let snapshots = SnapshotWriter::new(
            self.names.clone(),
            Encoder::new(&WATERMARK, self.schemas.watermark),
            deliveries,
            self.metrics.writer.clone(),
        );
        let lookup = |id| self.schema(id);
        recovery::open(&self.recovery_reader(&lookup), transactional_id, guard, snapshots, &self.owner)
    }

    /// All processes of a topic have the same transactional id. That makes each fence the earlier ones.
    fn transactional_id(&self) -> String {
        let shared = format!("{}.raw-producer", self.names.trades);
        #[cfg(feature = "failpoints")]
        let shared = crate::ablation::transactional_id(shared, &self.owner);
        shared
    }

    fn recovery_reader<'a>(&'a self, lookup: SchemaLookup<'a>) -> RecoveryReader<'a> {
        RecoveryReader {
            kafka: &self.kafka,
            client_id: self.client_id,
            trades: &self.names.trades,
            sequences: &self.names.sequences,
            partitions: self.settings.partitions,
            lookup,
        }
    }

    /// Blocks; for threads within the runtime's context.
    fn schema(&self, id: SchemaId) -> Result<Schema, RegistryError> {
        if id == self.schemas.trade {
            return Ok(TRADE.schema.clone());
        }
        Handle::current().block_on(self.registry.schema(id))
    }

    fn feed_handler(&self, recovered: &Recovered) -> FeedHandler {
        let mut sequencer = Sequencer::<TradePayload>::new(self.settings.partitions, self.settings.limits);
        for (name, snapshot) in &recovered.instruments {
            sequencer.restore(name, &snapshot.last_published());
        }
        let deps = Deps {
            encoder: TradeEncoder::new(self.schemas.trade),
            sampler: Sampler::one_in(self.sample_one_in),
            feed: self.metrics.feed.clone(),
            metrics: self.metrics.sequencer.clone(),
            health: self.feed_health.clone(),
            request_ids: self.request_ids.clone(),
        };
        FeedHandler::new(self.settings.clone(), deps, sequencer, recovered.topic, Instant::now())
    }

    /// Runs connections, feed and writer until one of them ends.
    async fn run_connected(&self, writer: TransactionWriter, feed: FeedHandler, shutdown: &Shutdown) -> Exit {
        let (records, to_write) = mpsc::channel(PUBLISH_QUEUE_CAPACITY);
        let runtime = Handle::current();
        let writing = spawn_blocking_thread("writer", move || writer.run(to_write, &runtime));
        let mut writing = std::pin::pin!(writing);
        let (sender, mut events) = events::queue(&self.metrics.queues);
        let mut connections = JoinSet::new();
        for connection in (self.connections)(sender) {
            connections.spawn(connection.run());
        }
        let end = tokio::select! {
            biased;
            end = &mut writing => exit_of_writer(end),
            Some(end) = connections.join_next() => exit_of_connection(end),
            () = feed.run(&mut events, records, &self.heartbeat, &self.metrics.queues, shutdown) => {
                // The writer commits the records that it has accepted.
                exit_of_writer(writing.await)
            }
        };
        drop(events);
        end
    }

    /// Whether another process owns the topic. Without an answer the topic may be another's, so this retries until it has one.
    async fn check_ownership(self: &Arc<Self>, shutdown: &Shutdown) -> Option<Failure> {
        self.writer_health.waiting("checking which producer owns the topic");
        loop {
            self.heartbeat.beat();
            let supervisor = self.clone();
            let read = async {
                tokio::time::sleep(OWNER_RECORD_DELAY).await;
                let read = move || supervisor.recovery_reader(&|id| supervisor.schema(id)).owner();
                spawn_blocking_thread("owner", read).await
            };
            let owner = tokio::select! {
                () = shutdown.requested() => return None,
                owner = read => owner,
            };
            match owner {
                Ok(Ok(owner)) => return owner.and_then(|owner| self.taken_over_by(&owner)),
                Ok(Err(error)) => tracing::warn!(%error, "cannot read the topic's owner record; retrying"),
                Err(failure) => return Some(failure),
            }
        }
    }

    fn taken_over_by(&self, owner: &Owner) -> Option<Failure> {
        (owner.owner != self.owner.owner).then(|| {
            Failure::Other(anyhow::anyhow!(
                "another raw-producer ({}) has taken over {}; one topic has one producer: stop one of them, or give each its own topics.trades",
                owner.owner, self.names.trades
            ))
        })
    }
}

fn exit_of_writer(end: Result<Result<(), TransactionError>, Failure>) -> Exit {
    match end {
        Ok(Ok(())) => Exit::ShutdownRequested,
        Ok(Err(error)) => exit_after(error),
        Err(failure) => Exit::Failed(failure),
    }
}

fn exit_of_connection(end: Result<Result<(), Failure>, JoinError>) -> Exit {
    Exit::Failed(match end {
        Ok(Ok(())) => Failure::Internal("a connection ended without being asked to".into()),
        Ok(Err(failure)) => failure,
        Err(panicked) => Failure::Internal(panicked.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_run_is_not_part_of_the_failures_that_follow_it() {
        let (mut failures, start) = (FailureStreak::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(failures.add(Duration::from_secs(86_400), at(0)), at(0), "its end begins a streak");
        assert_eq!(failures.add(Duration::from_secs(20), at(20)), at(0));
        assert_eq!(failures.add(STABLE_AFTER, at(80)), at(0));
        assert_eq!(failures.add(STABLE_AFTER + Duration::from_secs(1), at(141)), at(141));
    }
}
