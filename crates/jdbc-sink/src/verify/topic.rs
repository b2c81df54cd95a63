//! The topic's side of a comparison.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use common::Failure;
use common::avro::registry::Registry;
use common::config::{KafkaConfig, SchemaRegistryConfig};
use rdkafka::Message as _;
use rdkafka::message::BorrowedMessage;

use super::progress::ProgressLog;
use super::report::{SHOWN, UndecodableRecord};
use super::summary::Summary;
use crate::dead_letters::headers::origin;
use crate::kafka::reader::{OffsetRange, RangeReader};
use crate::record::{DecodedRecord, NoRowReason, RecordOutcome, RowDecoder};
use crate::sink::Sink;

/// Undecodable records that are looked up in the dead-letter topic: a topic of nothing else must not fill the memory.
const MAX_EXPECTED: usize = 100_000;

/// The last offset with a record in each partition.
pub(super) type LastOffsets = HashMap<i32, i64>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PartitionOffset {
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// The records without a row.
#[derive(Debug, Default)]
pub(super) struct UndecodableRecords {
    pub(super) by_reason: BTreeMap<NoRowReason, u64>,
    pub(super) first: Vec<UndecodableRecord>,
    /// These must be in the dead-letter topic.
    expected: BTreeMap<PartitionOffset, UndecodableRecord>,
}

impl UndecodableRecords {
    fn add(&mut self, at: PartitionOffset, reason: NoRowReason, detail: String) {
        let record = UndecodableRecord { partition: at.partition, offset: at.offset, reason, detail };
        *self.by_reason.entry(reason).or_default() += 1;
        if self.first.len() < SHOWN {
            self.first.push(record.clone());
        }
        if self.expected.len() < MAX_EXPECTED {
            self.expected.insert(at, record);
        }
    }
}

/// The result of one pass over a topic.
pub(super) struct TopicScan {
    pub(super) undecodable: UndecodableRecords,
    pub(super) last_offsets: LastOffsets,
}

pub(super) struct TopicScanner {
    pub(super) sink: Sink,
    reader: RangeReader,
    dead_letters: RangeReader,
    decoder: RowDecoder,
    registry_deadline: Duration,
    /// Records that are dead letters because Postgres rejects their rows.
    rejected: HashSet<PartitionOffset>,
    /// Retention may have deleted rows before this time; in microseconds since 1970.
    pub(super) cutoff: i64,
}

impl TopicScanner {
    pub(super) fn new(
        sink: &Sink,
        kafka: &KafkaConfig,
        registry: &SchemaRegistryConfig,
        registry_deadline: Duration,
        rejected: HashSet<PartitionOffset>,
        cutoff: i64,
    ) -> Result<Self, Failure> {
        Ok(Self {
            sink: sink.clone(),
            reader: RangeReader::new(kafka, sink.topic())?,
            dead_letters: RangeReader::new(kafka, &sink.dead_letter_topic())?,
            decoder: RowDecoder::new(sink, Registry::new(registry)?),
            registry_deadline,
            rejected,
            cutoff,
        })
    }

    pub(super) async fn ranges(&self) -> Result<Vec<OffsetRange>, Failure> {
        self.reader.ranges().await
    }

    /// Adds every record of `ranges` to the summary.
    pub(super) async fn scan(
        &mut self,
        ranges: &[OffsetRange],
        summary: &mut Summary,
    ) -> Result<TopicScan, Failure> {
        let (mut undecodable, mut last_offsets) = (UndecodableRecords::default(), HashMap::new());
        let total = ranges.iter().map(|range| (range.to - range.from).unsigned_abs()).sum();
        let mut progress = ProgressLog::new(format!("records of {}", self.sink.topic()), total);
        let (decoder, deadline, rejected) = (&mut self.decoder, self.registry_deadline, &self.rejected);
        let (table, cutoff) = (self.sink.table, self.cutoff);
        let mut each = async |message: &BorrowedMessage<'_>| {
            let at = PartitionOffset { partition: message.partition(), offset: message.offset() };
            last_offsets.insert(at.partition, at.offset);
            progress.advance();
            if rejected.contains(&at) {
                let detail = "postgres rejects the row".to_owned();
                undecodable.add(at, NoRowReason::RejectedByPostgres, detail);
                return Ok(());
            }
            match decoder.decode_within(message.payload(), deadline).await? {
                RecordOutcome::Decoded(record) => {
                    let row = record.row();
                    if row.time(table) < cutoff {
                        summary.skip_deleted();
                    } else {
                        let (sequence, fingerprint) = (row.sequence(table), row.fingerprint());
                        summary.add_record(row.instrument(), at.partition, sequence, fingerprint);
                    }
                }
                RecordOutcome::Undecodable(found) => undecodable.add(at, found.reason, found.detail),
            }
            Ok(())
        };
        for range in ranges {
            self.reader.read(*range, &mut each).await?;
        }
        Ok(TopicScan { undecodable, last_offsets })
    }

    /// Calls `each` with offset and record of every record of the range that must have a row.
    pub(super) async fn for_each(
        &mut self,
        range: OffsetRange,
        mut each: impl AsyncFnMut(i64, DecodedRecord) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let (decoder, deadline, rejected) = (&mut self.decoder, self.registry_deadline, &self.rejected);
        let (table, cutoff) = (self.sink.table, self.cutoff);
        let read = async |message: &BorrowedMessage<'_>| {
            let at = PartitionOffset { partition: message.partition(), offset: message.offset() };
            if let RecordOutcome::Decoded(record) = decoder.decode_within(message.payload(), deadline).await?
                && record.row().time(table) >= cutoff
                && !rejected.contains(&at)
            {
                each(at.offset, record).await?;
            }
            Ok(())
        };
        self.reader.read(range, read).await
    }

    /// The instruments of the records that have come after `ranges`.
    pub(super) async fn newer_instruments(
        &mut self,
        ranges: &[OffsetRange],
    ) -> Result<HashSet<String>, Failure> {
        let mut names = HashSet::new();
        for now in self.reader.ranges().await? {
            let before = ranges.iter().find(|range| range.partition == now.partition);
            let from = before.map_or(now.from, |before| before.to);
            self.for_each(OffsetRange { from, ..now }, async |_, record| {
                names.insert(record.row().instrument().to_owned());
                Ok(())
            })
            .await?;
        }
        Ok(names)
    }

    /// The undecodable records that are not in the dead-letter topic.
    pub(super) async fn missing_dead_letters(
        &self,
        undecodable: &UndecodableRecords,
    ) -> Result<Vec<UndecodableRecord>, Failure> {
        let mut missing = undecodable.expected.clone();
        if missing.is_empty() {
            return Ok(Vec::new());
        }
        for range in self.dead_letters.ranges().await? {
            let each = async |letter: &BorrowedMessage<'_>| {
                if let Some(origin) = origin(letter).filter(|origin| origin.topic == self.sink.topic()) {
                    missing.remove(&PartitionOffset { partition: origin.partition, offset: origin.offset });
                }
                Ok(())
            };
            self.dead_letters.read(range, each).await?;
        }
        Ok(missing.into_values().collect())
    }
}
