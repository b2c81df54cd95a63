//! One pair of consumer and producer on a thread of its own: consume, process, produce, commit.
//!
//! A transaction is open only while it is filled and committed, never across a poll. So nothing half-written is at stake when
//! partitions come and go between two records: one that goes takes its state with it, and the others do not notice.

mod assignment;
mod builder;
mod commit;
mod process;
mod producer;
mod restore;
mod task;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::Failure;
use common::admin::{Component, Heartbeat};
use common::backoff::Backoff;
use common::clock::now_millis;
use common::kafka::batch_consumer::BatchConsumer;
use common::kafka::hanging_transactions::TransactionStatus;
use common::shutdown::Shutdown;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;

pub use builder::{Member, SchemaIds, ThreadBuilder};

use crate::group::rebalance::Rebalances;
use crate::group::unassigned_partitions::RejoinRequest;
use crate::metrics::AggregatorMetrics;
use crate::records::decode::TradeDecoder;
use crate::records::encode::Publisher;
use crate::records::watermark_reader::WatermarkReader;
use crate::restore::Restore;
use crate::restore::candles::Candles;
use producer::{CommitHold, ProducerHandle};
use task::{Restoring, RunningTask, Task};

/// How long a window that is due waits at most for those of other partitions, which are due at about the same time.
const LINGER: Duration = Duration::from_millis(10);
/// Records within that time that only a partition's past has: then nobody waits for the window, and a transaction for each would be what
/// catching up takes longest for.
const FLOOD: u64 = 500;
/// How long it waits in such a flood at most: what is due waits in memory.
const FLOOD_LINGER: Duration = Duration::from_millis(100);
/// How long Kafka may take to write a transaction's markers. One that begins before is told to come back later, which takes longer.
const SETTLE: Duration = Duration::from_millis(5);
/// The longest that the loop waits for a record: how soon it notices that it is to stop.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// The same while the group is joined, or a partition cannot be sought yet.
const WAIT_TO_SEEK: Duration = Duration::from_millis(10);
/// The same while candles are read, of which the consumer knows nothing.
const WAIT_TO_RECALL: Duration = Duration::from_millis(1);
/// How soon the group's changes and watermarks are noticed while records flow: a look costs as much as several records.
const LOOK: Duration = Duration::from_millis(1);
/// Kafka completes a group without a member that hangs after this: `max.poll.interval.ms`.
const JOIN_ALLOWANCE: Duration = Duration::from_secs(300);
/// Waiting for the coordinator or the registry.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// A consumer, its producer, and the state between them.
pub struct StreamThread {
    records: BatchConsumer<Rebalances>,
    consumer: Arc<BaseConsumer<Rebalances>>,
    writer: ProducerHandle,
    watermarks: Option<WatermarkReader>,
    candles: Candles,
    decoder: TradeDecoder,
    publisher: Publisher,
    restore: Restore,
    slots: BTreeMap<i32, Task>,
    identity: Identity,
    metrics: AggregatorMetrics,
    part: Component,
    rejoin: RejoinRequest,
    heartbeat: Heartbeat,
    shutdown: Shutdown,
    commit_interval: Duration,
    process_span: String,
    urgency: CommitDeadline,
    /// Records since the start.
    processed: u64,
    /// An abort is still to be answered.
    aborting: bool,
    /// What the process knows of open transactions.
    transactions: TransactionStatus,
    /// There has been no producer since then, while there is none.
    producer_wanted_since: Instant,
    /// No transaction begins for now.
    held: Option<CommitHold>,
    next_commit: Instant,
    /// Kafka is done with the last transaction by then.
    settled: Instant,
    next_report: Instant,
    next_start: Instant,
    next_look: Instant,
    retry: Backoff,
    joined: bool,
    started: Instant,
}

/// How soon there must be a commit.
#[derive(Debug, Clone, Copy)]
enum CommitDeadline {
    /// When the interval is over.
    Interval,
    /// Soon after a window has become due.
    SoonAfter {
        /// When it became due.
        due: Instant,
        /// Records processed until then.
        processed: u64,
    },
    /// Before the next batch.
    Now,
}

/// Who this is, for messages.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The group.
    pub group_id: String,
    /// The process, with the thread.
    pub member: String,
    /// What to do where going on would give wrong numbers.
    pub how_to_reset: String,
}

impl StreamThread {
    /// Runs until asked to stop; then commits what is processed.
    ///
    /// # Errors
    /// [`Failure::Config`] where going on would give wrong numbers, and for what Kafka refuses for good; [`Failure::Other`] if another
    /// process has taken this one's name.
    pub fn run(mut self) -> Result<(), Failure> {
        let mut batch = Vec::new();
        while !self.shutdown.is_requested() {
            if Instant::now() >= self.next_look {
                self.handle_rebalances()?;
                self.take_watermarks();
                self.next_look = Instant::now() + LOOK;
            }
            self.records.fetch(self.wait(), &mut batch);
            self.processed += batch.len() as u64;
            for record in batch.drain(..) {
                match record {
                    Ok(record) => self.process(&record)?,
                    Err(error) => self.handle_client_error(&error)?,
                }
            }
            self.punctuate()?;
        }
        self.commit()
    }

    /// The group's changes and the client's errors. Partitions come and go here and nowhere else, so never within a batch.
    fn handle_rebalances(&mut self) -> Result<(), Failure> {
        let consumer = Arc::clone(&self.consumer);
        loop {
            let polled = consumer.poll(Duration::ZERO);
            self.apply_changes(consumer.context().take())?;
            match polled {
                None => return Ok(()),
                Some(Err(error)) => self.handle_client_error(&error)?,
                Some(Ok(record)) => {
                    let partition = record.partition();
                    return Err(Failure::Internal(format!(
                        "a record of partition {partition} bypassed its partition queue"
                    )));
                }
            }
        }
    }

    /// What is done between records: begin partitions, let paused ones go on, commit, report.
    fn punctuate(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        self.recreate_producer()?;
        self.restore_candles()?;
        if now >= self.next_start && self.writer.is_ready() {
            self.start_partitions()?;
        }
        if now >= self.commit_at() {
            self.commit()?;
            self.settled = Instant::now() + SETTLE;
            self.next_commit = now + self.commit_interval;
        }
        if now >= self.next_report {
            if self.rejoin.take() {
                self.rejoin()?;
            }
            self.resume_paused(now);
            if !self.joined {
                let overdue_from = self.started + JOIN_ALLOWANCE;
                self.give_up_if_overdue(overdue_from, || "the group cannot be joined".to_owned())?;
            }
            self.report();
            self.next_report = now + LONGEST_WAIT;
        }
        Ok(())
    }

    /// When there has to be a commit, as things are.
    fn commit_at(&self) -> Instant {
        let due = match self.urgency {
            CommitDeadline::Interval => self.next_commit,
            CommitDeadline::SoonAfter { .. } if self.all_windows_due() => self.settled,
            CommitDeadline::SoonAfter { due, processed } => {
                let flood = self.processed - processed >= FLOOD;
                self.settled.max(due + if flood { FLOOD_LINGER } else { LINGER })
            }
            CommitDeadline::Now => Instant::now(),
        };
        self.held.map_or(due, |held| due.max(held.until))
    }

    /// A window is due.
    fn due(&mut self) {
        if matches!(self.urgency, CommitDeadline::Interval) {
            self.urgency = CommitDeadline::SoonAfter { due: Instant::now(), processed: self.processed };
        }
    }

    /// Whether no other partition's windows are worth waiting for.
    fn all_windows_due(&self) -> bool {
        self.slots.values().filter_map(Task::running).all(RunningTask::is_due_or_idle)
    }

    fn wait(&self) -> Duration {
        let all_begun = self.joined && self.starting().next().is_none();
        let longest = match all_begun {
            true => LONGEST_WAIT,
            false if self.candles.is_reading() => WAIT_TO_RECALL,
            false => WAIT_TO_SEEK,
        };
        self.commit_at().saturating_duration_since(Instant::now()).min(longest)
    }

    fn running(&mut self) -> impl Iterator<Item = (i32, &mut RunningTask)> {
        self.slots.iter_mut().filter_map(|(partition, slot)| Some((*partition, slot.running_mut()?)))
    }

    /// Lets watermarks count.
    fn take_watermarks(&mut self) {
        while let Some((partition, watermark)) = self.watermarks.as_mut().and_then(WatermarkReader::take) {
            let running = self.slots.get_mut(&partition).and_then(Task::running_mut);
            if running.is_some_and(|running| running.watermark(watermark)) {
                self.due();
            }
        }
    }

    /// Shows how things stand.
    fn report(&mut self) {
        self.heartbeat.beat();
        let now = now_millis();
        let metrics = self.metrics.clone();
        let (mut restoring, mut paused) = (self.starting().count(), 0);
        let records: u64 = self.slots.values().map(Task::to_restore).sum();
        for (partition, running) in self.running() {
            metrics.stats(partition, &running.stats(now));
            if let Some(Restoring { since, candles, records }) = running.restored() {
                let elapsed = since.elapsed();
                metrics.live_after(elapsed, records);
                tracing::info!(partition, ?elapsed, candles, records, "live");
            }
            restoring += usize::from(!running.is_live());
            paused += usize::from(running.paused_until.is_some());
        }
        match restoring {
            _ if !self.joined => self.part.waiting("joining the group"),
            _ if !self.writer.is_ready() => self.part.waiting("producer recreated"),
            _ if paused > 0 => {
                self.part
                    .waiting(format!("the schema registry is unavailable; {paused} partitions are paused"));
            }
            0 => self.part.ready(),
            _ => self.part.waiting(format!("restoring {restoring} partitions, {records} records to go")),
        }
    }
}
