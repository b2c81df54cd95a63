//! What was published, read back: all snapshots, and behind the newest round of them the trades themselves.
//!
//! To be read behind a fence: nothing of an older incarnation can land any more. An open transaction would hide committed records behind
//! it, so first the readable end has to reach the real one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use common::config::KafkaConfig;
use common::failpoint::failpoint;
use common::kafka::client::{self, Role};
use common::model::Trade;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::{Message as _, Offset, TopicPartitionList};

use super::classify::{AskRegistry, Classifier, RecordKind};
use super::snapshot_records::{InstrumentSnapshot, OWNER, Owner, TOPIC, TopicState};
use crate::sequencer::Holes;

/// One question to the broker.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Reading comes to an end, or is begun anew.
const STALLED: Duration = Duration::from_secs(30);

/// The `covered` of what only the tail told.
pub(crate) const UNCOVERED: i64 = -1;

/// What was published before.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// By name.
    pub(crate) instruments: HashMap<String, InstrumentSnapshot>,
    /// `None`: nothing was ever published.
    pub(crate) topic: Option<TopicState>,
    /// Who wrote last.
    pub(crate) owner: Option<Owner>,
    /// The offset behind the last trade of each partition.
    pub(crate) next_offsets: Vec<i64>,
    /// Trades that were read because no snapshot covered them.
    pub(crate) tail: u64,
    /// Records among them that are no trades.
    pub(crate) foreign: UnrecognizedRecords,
}

/// Records that are somebody else's.
#[derive(Debug, Default)]
pub(crate) struct UnrecognizedRecords {
    /// How many.
    pub(crate) records: u64,
    /// Where one of them lies, and why it is no trade.
    pub(crate) example: Option<(i32, i64, String)>,
}

impl UnrecognizedRecords {
    fn add(&mut self, record: &BorrowedMessage<'_>, why: String) {
        self.records += 1;
        self.example.get_or_insert_with(|| (record.partition(), record.offset(), why));
    }
}

impl Recovered {
    fn take(&mut self, trade: Trade<'_>, partition: i32) {
        let fresh =
            || InstrumentSnapshot { last: 0, timestamp: 0, partition, covered: 0, holes: Holes::default() };
        let known = self.instruments.entry(trade.instrument_name.into_owned()).or_insert_with(fresh);
        known.last = known.last.max(trade.trade_seq);
        known.timestamp = known.timestamp.max(trade.timestamp);
        known.covered = UNCOVERED;
    }
}

/// What readers need.
pub(crate) struct RecoveryReader<'a> {
    /// Kafka.
    pub(crate) kafka: &'a KafkaConfig,
    /// The client's name.
    pub(crate) service: &'a str,
    /// The trades' topic.
    pub(crate) trades: &'a str,
    /// The snapshots' topic.
    pub(crate) sequences: &'a str,
    /// Partitions of the trades' topic.
    pub(crate) partitions: i32,
    /// The registry.
    pub(crate) schema: AskRegistry<'a>,
}

impl RecoveryReader<'_> {
    /// Reads everything.
    ///
    /// # Errors
    /// If Kafka does not answer, or the topic holds what cannot be understood.
    pub(crate) fn learn(&self) -> anyhow::Result<Recovered> {
        let clients = self.clients()?;
        let mut learned = self.snapshots(&clients)?;
        failpoint("snapshots-read");
        let count = usize::try_from(self.partitions)?;
        learned.next_offsets = vec![0; count];
        for snapshot in learned.instruments.values() {
            let at = usize::try_from(snapshot.partition).ok();
            if let Some(next) = at.and_then(|at| learned.next_offsets.get_mut(at)) {
                *next = snapshot.covered.max(*next);
            }
        }
        self.tail(&clients, &mut learned)?;
        failpoint("tail-read");
        Ok(learned)
    }

    /// Who wrote the topic last.
    ///
    /// # Errors
    /// If Kafka does not answer.
    pub(crate) fn owner(&self) -> anyhow::Result<Option<Owner>> {
        Ok(self.snapshots(&self.clients()?)?.owner)
    }

    /// One pair for both topics: to connect takes longer than to read what is there.
    fn clients(&self) -> anyhow::Result<Clients> {
        let mut settings = client::config(self.kafka, self.service, &Role::Reader);
        settings.set("enable.partition.eof", "true");
        // The end is told by an answer without records; the broker would keep that back for half a second, in case that some come.
        settings.set("fetch.wait.max.ms", "10");
        let mut uncommitted = client::config(self.kafka, self.service, &Role::UncommittedReader);
        uncommitted.set("enable.partition.eof", "true");
        Ok(Clients { committed: settings.create()?, uncommitted: uncommitted.create()? })
    }

    fn snapshots(&self, clients: &Clients) -> anyhow::Result<Recovered> {
        let mut learned = Recovered::default();
        clients.read(self.sequences, &[0], &mut |record| {
            let key = record.key().and_then(|key| std::str::from_utf8(key).ok()).unwrap_or_default();
            let Some(value) = record.payload() else {
                learned.instruments.remove(key);
                return Ok(());
            };
            let place = || format!("the record {key:?} at offset {} of {}", record.offset(), self.sequences);
            match key {
                OWNER => learned.owner = Some(serde_json::from_slice(value).with_context(place)?),
                TOPIC => learned.topic = Some(serde_json::from_slice(value).with_context(place)?),
                name => {
                    let snapshot = serde_json::from_slice(value).with_context(place)?;
                    learned.instruments.insert(name.to_owned(), snapshot);
                }
            }
            Ok(())
        })?;
        Ok(learned)
    }

    /// The trades that no snapshot covers.
    fn tail(&self, clients: &Clients, learned: &mut Recovered) -> anyhow::Result<()> {
        let mut recognizer = Classifier::new(self.schema);
        let from = learned.next_offsets.clone();
        clients.read(self.trades, &from, &mut |record| {
            let place =
                || format!("partition {} offset {} of {}", record.partition(), record.offset(), self.trades);
            let trade = match recognizer.judge(record).with_context(place)? {
                RecordKind::Trade(trade) => trade,
                RecordKind::Unrecognized(why) => {
                    learned.foreign.add(record, why);
                    return Ok(());
                }
            };
            let partition = usize::try_from(record.partition())?;
            if let Some(next) = learned.next_offsets.get_mut(partition) {
                *next = record.offset() + 1;
            }
            learned.tail += 1;
            learned.take(trade, record.partition());
            Ok(())
        })
    }
}

/// What reads, and what knows the real ends.
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
            None if heard.elapsed() > STALLED => bail!("it does not get on"),
            None => {}
        }
    }
    // What is still on its way of these partitions is nothing to whoever reads next.
    reader.unassign()?;
    Ok(())
}

/// Waits until no open transaction hides what is committed before these ends.
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
        // Nothing is assigned: this only waits.
        reader.poll(Duration::from_millis(20));
    }
}
