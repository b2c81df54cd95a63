//! One pair of consumer and producer on a thread of its own: consume, process, produce, commit.
//!
//! A transaction is open only while it is filled and committed, never across a poll. So nothing half-written is at stake when
//! partitions come and go between two records: one that goes takes its state with it, and the others do not notice.

mod commit;
mod fence;
mod pair;
mod record;
mod slot;
mod start;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use common::Failure;
use common::admin::{Heartbeat, Part};
use common::backoff::Backoff;
use common::kafka::records::Records;
use common::shutdown::Shutdown;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;

pub use pair::{Pairs, SchemaIds, Seat};

use crate::decode::TradeDecoder;
use crate::metrics::AggregatorMetrics;
use crate::publish::Publisher;
use crate::rebalance::Rebalances;
use crate::restore::Restore;
use crate::watermarks::Watermarks;
use fence::Writer;
use slot::{Running, Slot};

/// How long a window that is due may wait for others while records flow.
const LINGER: Duration = Duration::from_millis(10);
/// The longest that the loop waits for a record: how soon it notices that it is to stop.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// The same while the group is joined, or a partition cannot be sought yet.
const WAIT_TO_SEEK: Duration = Duration::from_millis(10);
/// How soon the group's changes and watermarks are noticed while records flow: a look costs as much as several records.
const LOOK: Duration = Duration::from_millis(1);
/// Waiting for the coordinator or the registry.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// A consumer, its producer, and the state between them.
pub struct Runner {
    records: Records<Rebalances>,
    consumer: Arc<BaseConsumer<Rebalances>>,
    writer: Writer,
    watermarks: Option<Watermarks>,
    decoder: TradeDecoder,
    publisher: Publisher,
    restore: Restore,
    slots: BTreeMap<i32, Slot>,
    identity: Identity,
    metrics: AggregatorMetrics,
    part: Part,
    heartbeat: Heartbeat,
    shutdown: Shutdown,
    commit_interval: Duration,
    process_span: String,
    urgency: Urgency,
    /// An abort is still to be answered.
    aborting: bool,
    next_commit: Instant,
    next_report: Instant,
    next_start: Instant,
    next_look: Instant,
    retry: Backoff,
    joined: bool,
}

/// How soon there must be a commit.
#[derive(Debug, Clone, Copy)]
enum Urgency {
    /// When the interval is over.
    Interval,
    /// When there is nothing more to read, or so long after a window has become due that it is well in time all the same: whoever
    /// catches up on hours would commit thousands of times otherwise.
    SoonAfter(Instant),
    /// Before the next batch.
    Now,
}

impl Urgency {
    /// A window is due.
    fn due(&mut self) {
        if matches!(self, Self::Interval) {
            *self = Self::SoonAfter(Instant::now());
        }
    }
}

/// Whether there was more to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Supply {
    Flowing,
    Dry,
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

impl Runner {
    /// Runs until asked to stop; then commits what is processed.
    ///
    /// # Errors
    /// [`Failure::Config`] where going on would give wrong numbers, and for what Kafka refuses for good; [`Failure::Other`] if another
    /// process has taken this one's name.
    pub fn run(mut self) -> Result<(), Failure> {
        let mut batch = Vec::new();
        while !self.shutdown.is_requested() {
            if Instant::now() >= self.next_look {
                self.take_changes()?;
                self.take_watermarks();
                self.next_look = Instant::now() + LOOK;
            }
            self.records.fetch(self.wait(), &mut batch);
            let supply = if batch.is_empty() { Supply::Dry } else { Supply::Flowing };
            for record in batch.drain(..) {
                match record {
                    Ok(record) => self.process(&record)?,
                    Err(error) => self.judge(&error)?,
                }
            }
            self.turn(supply)?;
        }
        self.commit()
    }

    /// The group's changes and the client's errors. Partitions come and go here and nowhere else, so never within a batch.
    fn take_changes(&mut self) -> Result<(), Failure> {
        let consumer = Arc::clone(&self.consumer);
        loop {
            let polled = consumer.poll(Duration::ZERO);
            self.follow(consumer.context().take())?;
            match polled {
                None => return Ok(()),
                Some(Err(error)) => self.judge(&error)?,
                Some(Ok(record)) => {
                    let partition = record.partition();
                    return Err(Failure::Defect(format!(
                        "a record of partition {partition} came past its queue"
                    )));
                }
            }
        }
    }

    /// What is done between records: begin partitions, let paused ones go on, commit, report.
    fn turn(&mut self, supply: Supply) -> Result<(), Failure> {
        let now = Instant::now();
        self.make_producer()?;
        if now >= self.next_start && self.writer.is_ready() {
            self.start_partitions()?;
        }
        let urgent = match self.urgency {
            Urgency::Interval => false,
            Urgency::SoonAfter(due) => supply == Supply::Dry || now >= due + LINGER,
            Urgency::Now => true,
        };
        if urgent || now >= self.next_commit {
            self.commit()?;
            self.next_commit = now + self.commit_interval;
        }
        if now >= self.next_report {
            self.resume_paused(now);
            self.report();
            self.next_report = now + LONGEST_WAIT;
        }
        Ok(())
    }

    fn wait(&self) -> Duration {
        let longest = match self.urgency {
            // To find out whether there is more to read.
            Urgency::SoonAfter(_) | Urgency::Now => return Duration::ZERO,
            Urgency::Interval if self.joined && self.starting().next().is_none() => LONGEST_WAIT,
            Urgency::Interval => WAIT_TO_SEEK,
        };
        self.next_commit.saturating_duration_since(Instant::now()).min(longest)
    }

    fn running(&mut self) -> impl Iterator<Item = (i32, &mut Running)> {
        self.slots.iter_mut().filter_map(|(partition, slot)| Some((*partition, slot.running_mut()?)))
    }

    /// Lets watermarks count.
    fn take_watermarks(&mut self) {
        let Some(watermarks) = &mut self.watermarks else { return };
        while let Some((partition, watermark)) = watermarks.take() {
            let running = self.slots.get_mut(&partition).and_then(Slot::running_mut);
            if running.is_some_and(|running| running.watermark(watermark)) {
                self.urgency.due();
            }
        }
    }

    /// Shows how things stand.
    fn report(&mut self) {
        self.heartbeat.beat();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        let metrics = self.metrics.clone();
        let (mut restoring, mut records, mut paused) = (self.starting().count(), 0, 0);
        for (partition, running) in self.running() {
            metrics.standing(partition, &running.standing(now));
            if let Some(elapsed) = running.live_after() {
                metrics.live_after(elapsed);
                tracing::info!(partition, ?elapsed, "live");
            }
            restoring += usize::from(!running.is_live());
            records += running.to_restore();
            paused += usize::from(running.paused_until.is_some());
        }
        match restoring {
            _ if !self.joined => self.part.waiting("joining the group"),
            _ if !self.writer.is_ready() => self.part.waiting("the producer is made anew"),
            _ if paused > 0 => {
                self.part.waiting(format!("the schema registry is away, {paused} partitions wait for it"));
            }
            0 => self.part.ready(),
            _ => self.part.waiting(format!("restoring {restoring} partitions, {records} records to go")),
        }
    }
}
