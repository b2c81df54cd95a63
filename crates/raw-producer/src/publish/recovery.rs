//! Recovers what was published: all snapshots, and the trades after the newest round of them.
//!
//! It reads behind a fence, so nothing of an older process can arrive any more. An open transaction would hide committed records after it.
//! So the reader first waits until the committed end has reached the real end.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use common::config::KafkaConfig;
use common::failpoint::failpoint;
use common::kafka::client::{self, Role};
use common::kafka::hanging_transactions::TransactionGuard;
use common::kafka::transaction::{TransactionError, TransactionalProducer};
use common::model::Trade;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::classify::{Classifier, RecordKind, SchemaLookup};
use super::snapshot_records::{InstrumentSnapshot, OWNER, Owner, TOPIC, TopicState};
use super::snapshots::SnapshotWriter;
use super::writer::TransactionWriter;
use crate::sequencer::Holes;

/// Bound for the fence of earlier producers.
const FENCE_TIMEOUT: Duration = Duration::from_secs(15);
/// Bound for one request to the broker.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Without progress for this long, recovery fails and the supervisor restarts it.
const STALLED: Duration = Duration::from_secs(30);

/// The `covered` of an instrument with trades after its last snapshot.
pub(crate) const UNCOVERED: i64 = -1;

/// Why [`open`] failed.
#[derive(Debug)]
pub(crate) enum OpenError {
    /// Before this process owned the topic.
    Fence(TransactionError),
    /// While it wrote its owner record.
    Transaction(TransactionError),
    /// While it read what was published.
    Read(anyhow::Error),
}

/// Fences earlier producers, writes the owner record, and reads what was published. Blocks.
pub(crate) fn open(
    reader: &RecoveryReader<'_>,
    transactional_id: String,
    guard: TransactionGuard,
    snapshots: SnapshotWriter,
    owner: &Owner,
) -> Result<(TransactionWriter, Recovered), OpenError> {
    let role = Role::TransactionalProducer { transactional_id };
    let settings = client::config(reader.kafka, reader.client_id, &role);
    let deliveries = snapshots.deliveries().clone();
    failpoint("before-fence");
    let producer = TransactionalProducer::fence(&settings, deliveries, guard, FENCE_TIMEOUT)
        .map_err(OpenError::Fence)?;
    failpoint("fenced");
    let mut writer = TransactionWriter::start(producer, snapshots, owner).map_err(OpenError::Transaction)?;
    let mut recovered = reader.read().map_err(OpenError::Read)?;
    recovered.unrecognized.log(reader.trades);
    let snapshots = writer.snapshots();
    snapshots.metrics().unrecognized.inc_by(recovered.unrecognized.count);
    snapshots.restore_state(&recovered.instruments, std::mem::take(&mut recovered.next_offsets));
    tracing::info!(
        instruments = recovered.instruments.len(),
        trades_after_snapshots = recovered.trades_after_snapshots,
        "read what was published"
    );
    Ok((writer, recovered))
}

/// What earlier processes have published.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    pub(crate) instruments: HashMap<String, InstrumentSnapshot>,
    /// `None` if nothing was ever published.
    pub(crate) topic: Option<TopicState>,
    owner: Option<Owner>,
    /// For each partition of the trades topic, the offset after the last trade.
    next_offsets: Vec<i64>,
    /// Number of trades after the snapshots.
    trades_after_snapshots: u64,
    unrecognized: UnrecognizedRecords,
}

/// Records in the trades topic that are not trades of this producer.
#[derive(Debug, Default)]
struct UnrecognizedRecords {
    count: u64,
    first: Option<UnrecognizedRecord>,
}

#[derive(Debug)]
struct UnrecognizedRecord {
    partition: i32,
    offset: i64,
    why: String,
}

impl UnrecognizedRecords {
    fn add(&mut self, record: &BorrowedMessage<'_>, why: String) {
        self.count += 1;
        let (partition, offset) = (record.partition(), record.offset());
        self.first.get_or_insert(UnrecognizedRecord { partition, offset, why });
    }

    /// Logs once for all records: a program that writes there may write many.
    fn log(&self, topic: &str) {
        let Some(UnrecognizedRecord { partition, offset, why }) = &self.first else { return };
        let records = self.count;
        tracing::warn!(
            topic,
            partition,
            offset,
            why,
            records,
            "skipped records in the trades topic that this producer did not write"
        );
    }
}

impl Recovered {
    fn add(&mut self, trade: Trade<'_>, partition: i32) {
        let unknown =
            || InstrumentSnapshot { last: 0, timestamp: 0, partition, covered: 0, holes: Holes::default() };
        let known = self.instruments.entry(trade.instrument_name.into_owned()).or_insert_with(unknown);
        known.last = known.last.max(trade.trade_seq);
        known.timestamp = known.timestamp.max(trade.timestamp);
        known.covered = UNCOVERED;
    }
}

/// Reads the topics of snapshots and trades. Its methods block.
pub(crate) struct RecoveryReader<'a> {
    pub(crate) kafka: &'a KafkaConfig,
    pub(crate) client_id: &'a str,
    pub(crate) trades: &'a str,
    pub(crate) sequences: &'a str,
    /// Number of partitions of the trades topic.
    pub(crate) partitions: u32,
    pub(crate) lookup: SchemaLookup<'a>,
}

impl RecoveryReader<'_> {
    /// Reads all snapshots, and the trades after them.
    fn read(&self) -> anyhow::Result<Recovered> {
        let clients = self.clients()?;
        let mut recovered = self.snapshots(&clients)?;
        failpoint("snapshots-read");
        recovered.next_offsets = vec![0; self.partitions as usize];
        for snapshot in recovered.instruments.values() {
            let at = usize::try_from(snapshot.partition).ok();
            if let Some(next) = at.and_then(|at| recovered.next_offsets.get_mut(at)) {
                *next = snapshot.covered.max(*next);
            }
        }
        self.trades_after_snapshots(&clients, &mut recovered)?;
        failpoint("tail-read");
        Ok(recovered)
    }

    /// The process that wrote the topic last.
    pub(crate) fn owner(&self) -> anyhow::Result<Option<Owner>> {
        Ok(self.snapshots(&self.clients()?)?.owner)
    }

    /// The same two clients read both topics, because connecting takes longer than reading.
    fn clients(&self) -> anyhow::Result<Clients> {
        let mut settings = client::config(self.kafka, self.client_id, &Role::Reader);
        settings.set("enable.partition.eof", "true");
        // An answer without records shows the end. The broker would delay it by half a second, in case records arrive.
        settings.set("fetch.wait.max.ms", "10");
        let uncommitted = client::config(self.kafka, self.client_id, &Role::UncommittedReader);
        Ok(Clients { committed: settings.create()?, uncommitted: uncommitted.create()? })
    }

    fn snapshots(&self, clients: &Clients) -> anyhow::Result<Recovered> {
        let mut recovered = Recovered::default();
        clients.read(self.sequences, &[0], &mut |record| {
            let key = record.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
            let Some(value) = record.payload() else {
                recovered.instruments.remove(key);
                return Ok(());
            };
            let place = || format!("the record {key:?} at offset {} of {}", record.offset(), self.sequences);
            match key {
                OWNER => recovered.owner = Some(serde_json::from_slice(value).with_context(place)?),
                TOPIC => recovered.topic = Some(serde_json::from_slice(value).with_context(place)?),
                name => {
                    let snapshot = serde_json::from_slice(value).with_context(place)?;
                    recovered.instruments.insert(name.to_owned(), snapshot);
                }
            }
            Ok(())
        })?;
        Ok(recovered)
    }

    fn trades_after_snapshots(&self, clients: &Clients, recovered: &mut Recovered) -> anyhow::Result<()> {
        let mut classifier = Classifier::new(self.lookup);
        let from = recovered.next_offsets.clone();
        clients.read(self.trades, &from, &mut |record| {
            let place =
                || format!("partition {} offset {} of {}", record.partition(), record.offset(), self.trades);
            let trade = match classifier.classify(record).with_context(place)? {
                RecordKind::Trade(trade) => trade,
                RecordKind::Unrecognized(why) => {
                    recovered.unrecognized.add(record, why);
                    return Ok(());
                }
            };
            let partition = usize::try_from(record.partition())?;
            if let Some(next) = recovered.next_offsets.get_mut(partition) {
                *next = record.offset() + 1;
            }
            recovered.trades_after_snapshots += 1;
            recovered.add(trade, record.partition());
            Ok(())
        })
    }
}

/// One reader of committed records, and one that sees the real ends.
struct Clients {
    committed: BaseConsumer,
    uncommitted: BaseConsumer,
}

impl Clients {
    /// Reads each partition from an offset to its end.
    fn read(
        &self,
        topic: &str,
        from: &[i64],
        take: &mut dyn FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let Self { committed: reader, uncommitted } = self;
        let extents = (0..)
            .zip(from)
            .map(|(partition, _)| uncommitted.fetch_watermarks(topic, partition, ATTEMPT))
            .collect::<Result<Vec<_>, _>>()?;
        wait_until_readable(reader, topic, (0..).zip(extents.iter().map(|(_, end)| *end)).collect())?;
        let mut assignment = TopicPartitionList::new();
        for (partition, (from, (low, high))) in (0..).zip(from.iter().zip(extents)) {
            if *from.max(&low) < high {
                assignment.add_partition_offset(topic, partition, Offset::Offset(*from.max(&low)))?;
            }
        }
        each(reader, &assignment, take).with_context(|| format!("reading {topic}"))
    }
}

/// Reads each of these partitions to its end.
fn each(
    reader: &BaseConsumer,
    assignment: &TopicPartitionList,
    take: &mut dyn FnMut(&BorrowedMessage<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut open = assignment.count();
    reader.assign(assignment)?;
    let mut heard = Instant::now();
    while open > 0 {
        match reader.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                heard = Instant::now();
                take(&record)?;
            }
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error.into()),
            None if heard.elapsed() > STALLED => bail!("no progress for {STALLED:?}"),
            None => {}
        }
    }
    // Records of these partitions must not reach the next read.
    reader.unassign()?;
    Ok(())
}

/// Waits until no open transaction hides committed records before these ends.
fn wait_until_readable(reader: &BaseConsumer, topic: &str, ends: Vec<(i32, i64)>) -> anyhow::Result<()> {
    let (begun, mut hidden) = (Instant::now(), ends);
    loop {
        let mut still = Vec::new();
        for (partition, end) in hidden {
            if reader.fetch_watermarks(topic, partition, ATTEMPT)?.1 < end {
                still.push((partition, end));
            }
        }
        if still.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > STALLED {
            let partitions: Vec<i32> = still.into_iter().map(|(partition, _)| partition).collect();
            bail!("a transaction is open in partitions {partitions:?} of {topic}");
        }
        hidden = still;
        // Nothing is assigned: this poll only waits.
        reader.poll(Duration::from_millis(20));
    }
}
