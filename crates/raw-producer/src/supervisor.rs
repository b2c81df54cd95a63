//! One incarnation after another: fence, learn, connect, catch up, go live; and begin anew after a transaction has failed.

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
use common::failpoint::{failpoint, without};
use common::kafka::client::{self, Role};
use common::kafka::hanging_transactions::{SettleError, Transactions};
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use common::shutdown::Shutdown;
use common::telemetry::trace::Sampler;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::deribit::connection::ReconnectingConnection;
use crate::deribit::events;
use crate::deribit::rpc::RequestIds;
use crate::feed::{Deps, FeedHandler, FeedSettings, TradePayload};
use crate::metrics::{Metrics, gauged};
use crate::publish::classify::SchemaLookup;
use crate::publish::deliveries::DeliveryReports;
use crate::publish::recovery::{Recovered, RecoveryReader, UnrecognizedRecord, UnrecognizedRecords};
use crate::publish::snapshot_records::Owner;
use crate::publish::snapshots::{SnapshotWriter, TopicNames};
use crate::publish::writer::TransactionWriter;
use crate::publish::{DeadLetter, OutboundRecord};
use crate::sequencer::Sequencer;

/// Items between here and the writer.
pub const PUBLISH_QUEUE_CAPACITY: usize = 8_192;
/// How often time is told.
const TICK: Duration = Duration::from_millis(50);
/// How long a newer process has to say that it is there.
const NEWCOMER_SPEAKS_WITHIN: Duration = Duration::from_secs(3);
/// One attempt to fence.
const FENCE_WITHIN: Duration = Duration::from_secs(15);

/// What makes an incarnation.
pub(crate) struct Supervisor {
    /// Kafka.
    pub(crate) kafka: KafkaConfig,
    /// The client's name.
    pub(crate) service: &'static str,
    /// Topics.
    pub(crate) names: TopicNames,
    /// Looks up what trades were written by.
    pub(crate) registry: Registry,
    /// Ids of the schemas of trades and watermarks.
    pub(crate) schemas: (SchemaId, SchemaId),
    /// What the configuration says.
    pub(crate) settings: FeedSettings,
    pub(crate) request_ids: RequestIds,
    /// One trade in so many is traced.
    pub(crate) sample_one_in: u32,
    /// Makes the connections.
    pub(crate) sessions: Box<dyn Fn(events::EventSender) -> Vec<ReconnectingConnection> + Send + Sync>,
    /// Ready while there is a writer.
    pub(crate) kafka_part: Component,
    /// Keeps transactions from hanging.
    pub(crate) transactions: Transactions,
    /// Ready while live.
    pub(crate) part: Component,
    /// The loop's sign of life.
    pub(crate) heartbeat: Heartbeat,
    /// Metrics.
    pub(crate) metrics: Metrics,
    /// Who this process is.
    pub(crate) owner: Owner,
}

/// How an incarnation ended.
enum Exit {
    ShutdownRequested,
    Failed(Failure),
    /// With a transaction of unknown outcome, or before there was one.
    Restart(anyhow::Error),
    OwnershipUnknown(TransactionError),
}

impl From<TransactionError> for Exit {
    /// librdkafka calls a fence by many names: an aborted commit or a fatal send, if it hears of it at such a moment, and a commit that took
    /// too long, if the process was asleep. Who begins anew at once takes the topic back from the newer one, and that one ends instead.
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Unsettled(stuck @ SettleError::Stuck { .. }) => {
                Self::Failed(Failure::Other(stuck.into()))
            }
            // Nothing was begun.
            TransactionError::Unsettled(why) => Self::Restart(why.into()),
            error => Self::OwnershipUnknown(error),
        }
    }
}

/// Nothing can have taken over what was not had yet.
fn exit_before_fence(error: TransactionError) -> Exit {
    match error {
        TransactionError::Retriable(_) => Exit::Restart(error.into()),
        error => error.into(),
    }
}

type Opened = (TransactionWriter, Recovered);

impl Supervisor {
    /// Runs until asked to stop.
    ///
    /// # Errors
    /// [`Failure`]: another process took over, the exchange refuses the configuration, or a defect.
    pub(crate) async fn run(self, shutdown: Shutdown) -> Result<(), Failure> {
        let supervisor = Arc::new(self);
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(5));
        let mut failing_since = Instant::now();
        loop {
            supervisor.heartbeat.beat();
            let begun = Instant::now();
            let why = match supervisor.incarnation(&shutdown).await {
                Exit::ShutdownRequested => return Ok(()),
                Exit::Failed(failure) => return Err(failure),
                Exit::Restart(error) => error,
                Exit::OwnershipUnknown(error) => match supervisor.check_ownership(&shutdown).await {
                    Some(failure) => return Err(failure),
                    None => error.into(),
                },
            };
            if begun.elapsed() > Duration::from_secs(60) {
                backoff.reset();
                failing_since = begun;
            }
            if let Some(overdue) = supervisor.transactions.status().overdue(failing_since) {
                return Err(Failure::Other(why.context(overdue)));
            }
            let delay = backoff.next_delay();
            supervisor.metrics.writer.restarts.inc();
            supervisor.kafka_part.waiting(format!("{why:#}"));
            tracing::warn!(error = format!("{why:#}"), retry_in = ?delay, "beginning anew from what is committed");
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(delay) => {}
            }
        }
    }

    async fn incarnation(self: &Arc<Self>, shutdown: &Shutdown) -> Exit {
        self.kafka_part.waiting("reading what was published");
        let supervisor = self.clone();
        let opened = tokio::select! {
            () = shutdown.requested() => return Exit::ShutdownRequested,
            opened = spawn_blocking_thread("open", move || supervisor.open()) => opened,
        };
        let (writer, learned) = match opened {
            Ok(Ok(opened)) => opened,
            Ok(Err(end)) => return end,
            Err(failure) => return Exit::Failed(failure),
        };
        self.kafka_part.ready();
        let ingest = self.feed_handler(&learned);
        drop(learned);
        self.connected(writer, ingest, shutdown).await
    }

    /// Fences, says whose the topic is now, and reads what was published. Blocks.
    fn open(&self) -> Result<Opened, Exit> {
        let transactional_id = self.transactional_id();
        let guard = self.transactions.guard(&transactional_id);
        let role = Role::TransactionalProducer { transactional_id };
        let deliveries = DeliveryReports::new(self.metrics.feed.clone());
        let settings = client::config(&self.kafka, self.service, &role);
        failpoint("before-fence");
        let producer = TransactionalProducer::fence(&settings, deliveries.clone(), guard, FENCE_WITHIN)
            .map_err(exit_before_fence)?;
        failpoint("fenced");
        let encoder = Encoder::new(&WATERMARK, self.schemas.1);
        let book = SnapshotWriter::new(self.names.clone(), encoder, deliveries, self.metrics.writer.clone());
        let mut writer = TransactionWriter::start(producer, book, &self.owner)?;
        let ask = |id| self.schema(id);
        let mut learned = self.readers(&ask).read().map_err(Exit::Restart)?;
        self.log_unrecognized(&learned.unrecognized);
        writer.snapshots().restore_state(&learned.instruments, std::mem::take(&mut learned.next_offsets));
        tracing::info!(
            instruments = learned.instruments.len(),
            trades_after_snapshots = learned.trades_after_snapshots,
            "read what was published"
        );
        Ok((writer, learned))
    }

    /// One for all incarnations: that is the fence.
    fn transactional_id(&self) -> String {
        let of_all = format!("{}.raw-producer", self.names.trades);
        if without("fence") { format!("{of_all}.{}", self.owner.owner) } else { of_all }
    }

    /// Once for all of them: whoever writes there may write many.
    fn log_unrecognized(&self, foreign: &UnrecognizedRecords) {
        let Some(UnrecognizedRecord { partition, offset, why }) = &foreign.first else { return };
        self.metrics.writer.unrecognized.inc_by(foreign.count);
        tracing::warn!(
            topic = self.names.trades,
            partition,
            offset,
            why,
            records = foreign.count,
            "somebody else writes into the trades' topic; what is no trade is passed over"
        );
    }

    fn readers<'a>(&'a self, schema: SchemaLookup<'a>) -> RecoveryReader<'a> {
        RecoveryReader {
            kafka: &self.kafka,
            service: self.service,
            trades: &self.names.trades,
            sequences: &self.names.sequences,
            partitions: self.settings.partitions,
            lookup: schema,
        }
    }

    fn schema(&self, id: SchemaId) -> Result<Schema, RegistryError> {
        if id == self.schemas.0 {
            return Ok(TRADE.schema.clone());
        }
        Handle::current().block_on(self.registry.schema(id))
    }

    fn feed_handler(&self, learned: &Recovered) -> FeedHandler {
        let mut sequencer = Sequencer::<TradePayload>::new(self.settings.partitions, self.settings.limits);
        for (name, snapshot) in &learned.instruments {
            sequencer.restore(name, &snapshot.last_published());
        }
        let tools = Deps {
            encoder: TradeEncoder::new(self.schemas.0),
            sampler: Sampler::one_in(self.sample_one_in),
            feed: self.metrics.feed.clone(),
            metrics: self.metrics.sequencer.clone(),
            health: self.part.clone(),
            request_ids: self.request_ids.clone(),
        };
        FeedHandler::new(self.settings.clone(), tools, sequencer, learned.topic, Instant::now())
    }

    /// From the first connection until the end.
    async fn connected(&self, writer: TransactionWriter, ingest: FeedHandler, shutdown: &Shutdown) -> Exit {
        let (items, to_write) = mpsc::channel(PUBLISH_QUEUE_CAPACITY);
        let runtime = Handle::current();
        let mut written =
            std::pin::pin!(spawn_blocking_thread("writer", move || writer.run(to_write, &runtime)));
        let (events, mut heard) = events::queue(&self.metrics.queues);
        let mut sessions = JoinSet::new();
        for session in (self.sessions)(events.clone()) {
            sessions.spawn(session.run());
        }
        drop(events);
        let end = tokio::select! {
            biased;
            end = &mut written => ended(end),
            Some(end) = sessions.join_next() => session_ended(end),
            end = self.feed(ingest, (&mut heard, items), shutdown) => match end {
                // Whatever was handed to the writer is committed, if it can be.
                None => ended(written.await),
                Some(failure) => Exit::Failed(failure),
            },
        };
        drop(heard);
        end
    }

    /// The loop. Returns when asked to stop, or when the writer takes nothing any more, or with a failure.
    async fn feed(
        &self,
        mut ingest: FeedHandler,
        (heard, items): (&mut events::EventReceiver, mpsc::Sender<OutboundRecord>),
        shutdown: &Shutdown,
    ) -> Option<Failure> {
        let end = self.turns(&mut ingest, (heard, &items), shutdown).await;
        // Before the connections' questions are dropped with it: they shall know that it is the end of all.
        heard.close();
        end
    }

    async fn turns(
        &self,
        ingest: &mut FeedHandler,
        (heard, items): (&mut events::EventReceiver, &mpsc::Sender<OutboundRecord>),
        shutdown: &Shutdown,
    ) -> Option<Failure> {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.metrics.queues.publish_capacity.set(gauged(items.max_capacity()));
        let letters = Arc::new(Semaphore::new(DeadLetter::MAX_QUEUED_BYTES));
        loop {
            tokio::select! {
                biased;
                () = shutdown.requested() => return None,
                _ = tick.tick() => ingest.on_tick(Instant::now()),
                event = heard.recv() => {
                    ingest.on_event(event?, Instant::now());
                }
            }
            self.heartbeat.beat();
            for item in ingest.take_records() {
                let item = match item {
                    letter @ OutboundRecord::DeadLetter(_) => letter,
                    other => match items.try_send(other) {
                        Err(mpsc::error::TrySendError::Full(back)) => back,
                        _ => continue,
                    },
                };
                // Kafka is slower than the exchange: nothing is read meanwhile.
                tokio::select! {
                    biased;
                    sent = send_with_permit(item, (items, &letters)) => if sent.is_err() {
                        return None;
                    },
                    () = shutdown.requested() => return None,
                }
            }
            self.metrics.queues.publish_length.set(gauged(items.max_capacity() - items.capacity()));
        }
    }

    /// A transaction that took too long and one that was fenced look alike; whoever owns the topic now tells them apart. Asks until it is
    /// told: no answer does not mean that it is ours.
    async fn check_ownership(self: &Arc<Self>, shutdown: &Shutdown) -> Option<Failure> {
        self.kafka_part.waiting("asking whose the topic is");
        loop {
            self.heartbeat.beat();
            let supervisor = self.clone();
            let ask = async {
                tokio::time::sleep(NEWCOMER_SPEAKS_WITHIN).await;
                spawn_blocking_thread("owner", move || {
                    supervisor.readers(&|id| supervisor.schema(id)).owner()
                })
                .await
            };
            let told = tokio::select! {
                () = shutdown.requested() => return None,
                told = ask => told,
            };
            match told {
                Ok(Ok(owner)) => return owner.and_then(|owner| self.taken_over_by(&owner)),
                Ok(Err(error)) => tracing::warn!(%error, "cannot tell whose the topic is"),
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

/// Runs what blocks on a thread of its own, inside the runtime's context. Not on the runtime's pool: that is waited for when the
/// process ends, and librdkafka's calls may take longer than that.
async fn spawn_blocking_thread<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (done, outcome) = oneshot::channel();
    let runtime = Handle::current();
    let run = move || {
        let _context = runtime.enter();
        // Dropping `done` in a panic is what tells of it.
        drop(done.send(work()));
    };
    std::thread::Builder::new().name(name.into()).spawn(run).map_err(anyhow::Error::from)?;
    outcome.await.map_err(|_| Failure::Internal(format!("{name} panicked")))
}

/// Waits until there is room for it.
async fn send_with_permit(
    item: OutboundRecord,
    (items, letters): (&mpsc::Sender<OutboundRecord>, &Arc<Semaphore>),
) -> Result<(), mpsc::error::SendError<OutboundRecord>> {
    let item = match item {
        OutboundRecord::DeadLetter(letter) => OutboundRecord::DeadLetter(letter.with_permit(letters).await),
        other => other,
    };
    items.send(item).await
}

fn ended(end: Result<Result<(), TransactionError>, Failure>) -> Exit {
    match end {
        Ok(Ok(())) => Exit::ShutdownRequested,
        Ok(Err(error)) => error.into(),
        Err(failure) => Exit::Failed(failure),
    }
}

fn session_ended(end: Result<Result<(), Failure>, tokio::task::JoinError>) -> Exit {
    match end {
        Ok(Ok(())) => Exit::Failed(Failure::Internal("a session ended without being asked to".into())),
        Ok(Err(failure)) => Exit::Failed(failure),
        Err(panicked) => Exit::Failed(Failure::Internal(panicked.to_string())),
    }
}
