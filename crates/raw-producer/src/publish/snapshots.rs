//! The records that transactions contain besides trades: snapshots, watermarks, the topic's state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::avro::codec::Encoder;
use common::clock::now_millis;
use common::failpoint::failpoint;
use common::kafka::transaction::{Transaction, TransactionError};
use common::model::Watermark;
use common::telemetry::trace::{self, TRACEPARENT};
use foldhash::fast::RandomState;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::BaseRecord;

use super::deliveries::{DeliveryReports, PendingDelivery};
use super::recovery::UNCOVERED;
use super::snapshot_records::{InstrumentSnapshot, OWNER, Owner, TOPIC};
use super::{DeadLetter, EncodedTrade, InstrumentRef, OutboundRecord};
use crate::clock::ExchangeTime;
use crate::metrics::WriterMetrics;
use crate::sequencer::{Holes, InstrumentId};

type Tx<'p> = Transaction<'p, DeliveryReports>;
type SendResult = Result<(), TransactionError>;

/// A start reads at most this many trades, because snapshots follow so many.
const TRADES_PER_ROUND: u64 = 50_000;
/// A start reads no trades older than this, because snapshots follow so soon.
const ROUND_INTERVAL_MAX: Duration = Duration::from_secs(30);
/// New holes are written after this time: a restart must not request them again.
const ROUND_INTERVAL_AFTER_HOLES: Duration = Duration::from_secs(1);

/// The topics that this service writes.
#[derive(Debug, Clone)]
pub(crate) struct TopicNames {
    pub(crate) trades: String,
    pub(crate) sequences: String,
    pub(crate) watermarks: String,
    pub(crate) dead_letter: String,
}

/// How far an instrument was published.
#[derive(Debug, Clone, Copy)]
struct PublishedThrough {
    last: i64,
    timestamp: ExchangeTime,
    partition: i32,
}

/// Sends records, and keeps the state that snapshots contain.
pub(crate) struct SnapshotWriter {
    names: TopicNames,
    watermark: Encoder,
    deliveries: DeliveryReports,
    metrics: WriterMetrics,
    /// Committed changes since the last round.
    dirty: HashMap<Arc<str>, PublishedThrough, RandomState>,
    /// Changes in the open transaction.
    uncommitted: HashMap<InstrumentId, (Arc<str>, PublishedThrough), RandomState>,
    holes: HashMap<Arc<str>, Holes>,
    /// In the open transaction.
    reconciled_through: Option<ExchangeTime>,
    /// Watermarks by partition. Their offsets are known once the open transaction is committed.
    watermarks: BTreeMap<i32, ExchangeTime>,
    trades_since_round: u64,
    last_round: Instant,
    has_new_holes: bool,
    /// The open transaction contains a round.
    round_sent: bool,
}

impl SnapshotWriter {
    pub(crate) fn new(
        names: TopicNames,
        watermark: Encoder,
        deliveries: DeliveryReports,
        metrics: WriterMetrics,
    ) -> Self {
        Self {
            names,
            watermark,
            deliveries,
            metrics,
            dirty: HashMap::default(),
            uncommitted: HashMap::default(),
            holes: HashMap::new(),
            reconciled_through: None,
            watermarks: BTreeMap::new(),
            trades_since_round: 0,
            last_round: Instant::now(),
            has_new_holes: false,
            round_sent: false,
        }
    }

    pub(super) fn deliveries(&self) -> &DeliveryReports {
        &self.deliveries
    }

    pub(super) fn metrics(&self) -> &WriterMetrics {
        &self.metrics
    }

    /// Restores what was found at the start. Instruments without a current snapshot are part of the next round.
    pub(super) fn restore_state(
        &mut self,
        instruments: &HashMap<String, InstrumentSnapshot>,
        next_offsets: Vec<i64>,
    ) {
        for (name, snapshot) in instruments {
            if !snapshot.holes.is_empty() {
                self.holes.insert(name.as_str().into(), snapshot.holes.clone());
            }
            if snapshot.covered == UNCOVERED {
                let InstrumentSnapshot { last, timestamp, partition, .. } = *snapshot;
                self.dirty.insert(name.as_str().into(), PublishedThrough { last, timestamp, partition });
            }
        }
        self.deliveries.set_next_offsets(next_offsets);
    }

    /// Whether watermarks wait for the next transaction.
    pub(super) fn has_watermarks(&self) -> bool {
        !self.watermarks.is_empty()
    }

    /// Whether a round of snapshots is due.
    pub(super) fn round_is_due(&self) -> bool {
        let age = self.last_round.elapsed();
        let due = self.trades_since_round >= TRADES_PER_ROUND
            || age >= ROUND_INTERVAL_MAX
            || (self.has_new_holes && age >= ROUND_INTERVAL_AFTER_HOLES);
        due && !self.dirty.is_empty()
    }

    /// Makes a round part of the next transaction, because it is the last one.
    pub(super) fn request_round(&mut self) {
        self.trades_since_round = TRADES_PER_ROUND;
    }

    /// Keeps a watermark for the start of the next transaction; `false` for any other record. Call it only if no trade was accepted before
    /// the watermark and is still unsent.
    pub(super) fn keep_watermark(&mut self, record: &OutboundRecord) -> bool {
        let OutboundRecord::Watermark { partition, complete_through } = record else { return false };
        self.watermarks.insert(*partition, *complete_through);
        true
    }

    /// Sends the records that a transaction starts with: they depend on earlier commits.
    pub(super) fn send_internal(&mut self, tx: &Tx<'_>) -> SendResult {
        let offsets = self.deliveries.next_offsets();
        for (partition, complete_through) in std::mem::take(&mut self.watermarks) {
            let offset = offset_of(partition, &offsets);
            self.send_watermark(tx, &Watermark { partition, complete_through, offset })?;
        }
        self.round_sent = self.round_is_due();
        if self.round_sent {
            for (name, through) in &self.dirty {
                let snapshot = InstrumentSnapshot {
                    last: through.last,
                    timestamp: through.timestamp,
                    partition: through.partition,
                    covered: offset_of(through.partition, &offsets),
                    holes: self.holes.get(name).cloned().unwrap_or_default(),
                };
                self.send_state(tx, name, &snapshot)?;
            }
            failpoint("snapshot-sent");
        }
        Ok(())
    }

    pub(super) fn send_owner(&self, tx: &Tx<'_>, owner: &Owner) -> SendResult {
        self.send_state(tx, OWNER, owner)
    }

    /// Sends a record, or keeps it until a commit.
    pub(super) fn send(&mut self, tx: &Tx<'_>, record: OutboundRecord) -> SendResult {
        match record {
            OutboundRecord::Trade { instrument, seq, timestamp, trade } => {
                self.send_trade(tx, instrument, seq, timestamp, trade)
            }
            OutboundRecord::Skipped { instrument, last, timestamp, holes } => {
                let InstrumentRef { id, name, partition } = instrument;
                let through = PublishedThrough { last, timestamp, partition };
                self.uncommitted.insert(id, (name.clone(), through));
                self.holes.insert(name, holes);
                self.has_new_holes = true;
                Ok(())
            }
            OutboundRecord::TopicState(topic) => {
                self.reconciled_through = Some(topic.reconciled_through);
                self.send_state(tx, TOPIC, &topic)
            }
            OutboundRecord::RemoveInstrument(name) => self.send_tombstone(tx, &name),
            OutboundRecord::Watermark { .. } => {
                self.keep_watermark(&record);
                Ok(())
            }
            OutboundRecord::DeadLetter(letter) => self.send_dead_letter(tx, &letter),
        }
    }

    /// The transaction is committed; `took` is its duration.
    pub(super) fn on_commit(&mut self, took: Duration) {
        if std::mem::take(&mut self.round_sent) {
            self.dirty.clear();
            self.trades_since_round = 0;
            (self.last_round, self.has_new_holes) = (Instant::now(), false);
            self.metrics.snapshots.inc();
            failpoint("snapshot-committed");
        }
        self.dirty.extend(self.uncommitted.drain().map(|(_, through)| through));
        if let Some(time) = self.reconciled_through.take() {
            self.metrics.reconciled_through.set(seconds(time));
        }
        self.metrics.transactions.inc();
        self.metrics.commit.observe(took.as_secs_f64());
    }

    fn send_trade(
        &mut self,
        tx: &Tx<'_>,
        instrument: InstrumentRef,
        seq: i64,
        timestamp: ExchangeTime,
        trade: EncodedTrade,
    ) -> SendResult {
        let headers =
            trade.spans.as_ref().and_then(|spans| trace::inject(&spans.publish)).map(|context| {
                OwnedHeaders::new().insert(Header { key: TRACEPARENT, value: Some(&context) })
            });
        let pending =
            PendingDelivery::Trade { timestamp, received_at: trade.received_at, spans: trade.spans };
        let mut record = BaseRecord::with_opaque_to(&self.names.trades, Box::new(pending))
            .key(instrument.name.as_bytes())
            .payload(&*trade.value)
            .partition(instrument.partition)
            .timestamp(timestamp);
        record.headers = headers;
        self.deliveries.on_send();
        tx.send(record)?;
        self.trades_since_round += 1;
        let InstrumentRef { id, name, partition } = instrument;
        self.uncommitted.insert(id, (name, PublishedThrough { last: seq, timestamp, partition }));
        Ok(())
    }

    fn send_watermark(&self, tx: &Tx<'_>, watermark: &Watermark) -> SendResult {
        let (mut value, key) = (Vec::new(), watermark.partition.to_string());
        self.watermark
            .encode(watermark, &mut value)
            .expect("the schema has these three numbers, as a test of the contract shows");
        tx.send(
            BaseRecord::with_opaque_to(&self.names.watermarks, Box::new(PendingDelivery::Internal))
                .key(key.as_bytes())
                .payload(value.as_slice())
                .partition(watermark.partition)
                .timestamp(watermark.complete_through),
        )
    }

    fn send_dead_letter(&self, tx: &Tx<'_>, letter: &DeadLetter) -> SendResult {
        let length = letter.length.to_string();
        let mut headers = OwnedHeaders::new()
            .insert(Header { key: "origin", value: Some("websocket") })
            .insert(Header { key: "channel", value: Some(&letter.channel) })
            .insert(Header { key: "reason", value: Some(&letter.reason) });
        if letter.length > letter.bytes.len() {
            headers = headers.insert(Header { key: "truncated_from", value: Some(&length) });
        }
        let record: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(&self.names.dead_letter, Box::new(PendingDelivery::Internal))
                .payload(&*letter.bytes)
                .timestamp(now_millis())
                .headers(headers);
        tx.send(record)
    }

    /// Deletes the instrument's snapshot.
    fn send_tombstone(&mut self, tx: &Tx<'_>, name: &Arc<str>) -> SendResult {
        self.holes.remove(name);
        self.dirty.remove(name);
        self.uncommitted.retain(|_, (uncommitted, _)| uncommitted != name);
        let record: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(&self.names.sequences, Box::new(PendingDelivery::Internal))
                .key(name.as_bytes())
                .partition(0)
                .timestamp(now_millis());
        tx.send(record)
    }

    fn send_state(&self, tx: &Tx<'_>, key: &str, value: &impl serde::Serialize) -> SendResult {
        let value = serde_json::to_vec(value).expect("plain numbers and text become JSON");
        tx.send(
            BaseRecord::with_opaque_to(&self.names.sequences, Box::new(PendingDelivery::Internal))
                .key(key.as_bytes())
                .payload(value.as_slice())
                .partition(0)
                .timestamp(now_millis()),
        )
    }
}

/// The offset after the partition's last trade; 0 for a partition that the topic does not have, as a snapshot of a topic that was recreated
/// may name one.
fn offset_of(partition: i32, offsets: &[i64]) -> i64 {
    usize::try_from(partition).ok().and_then(|at| offsets.get(at)).copied().unwrap_or(0)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge to the millisecond, which a double holds for millennia"
)]
fn seconds(millis: ExchangeTime) -> f64 {
    millis as f64 / 1000.0
}
