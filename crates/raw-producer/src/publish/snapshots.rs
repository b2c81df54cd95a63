//! What each transaction carries besides trades: snapshots, watermarks, the topic's own record.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::avro::codec::Encoder;
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
use crate::clock::Millis;
use crate::clock::now_micros;
use crate::metrics::WriterMetrics;
use crate::sequencer::{Holes, InstrumentId};

type Tx<'p> = Transaction<'p, DeliveryReports>;
type Sent = Result<(), TransactionError>;

/// So many trades at most have to be read at a start.
const ROUND_TRADES: u64 = 50_000;
/// And none that are older than this.
const ROUND_AGE: Duration = Duration::from_secs(30);
/// A round that somebody waits for comes no sooner than this after another.
const ROUND_PAUSE: Duration = Duration::from_secs(1);

/// Names of the topics that are written.
#[derive(Debug, Clone)]
pub(crate) struct TopicNames {
    /// Trades.
    pub(crate) trades: String,
    /// Snapshots.
    pub(crate) sequences: String,
    /// Watermarks.
    pub(crate) watermarks: String,
    /// What could not be used.
    pub(crate) dead_letter: String,
}

#[derive(Debug, Clone, Copy)]
struct InstrumentPosition {
    last: i64,
    timestamp: Millis,
    partition: i32,
}

/// Keeps account of what is committed, and writes it down now and then.
pub(crate) struct SnapshotWriter {
    names: TopicNames,
    watermark: Encoder,
    deliveries: DeliveryReports,
    metrics: WriterMetrics,
    /// What changed since the last round of snapshots, as far as it is committed.
    dirty: HashMap<Arc<str>, InstrumentPosition, RandomState>,
    /// What changed in the open transaction.
    fresh: HashMap<InstrumentId, (Arc<str>, InstrumentPosition), RandomState>,
    holes: HashMap<Arc<str>, Holes>,
    /// Up to when the topic is whole, as the open transaction says.
    reconciled_through: Option<Millis>,
    /// Watermarks whose offsets are not known before the open transaction is committed.
    complete_through: BTreeMap<i32, Millis>,
    trades: u64,
    round: (Instant, bool),
    round_sent: bool,
}

impl SnapshotWriter {
    /// An empty book.
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
            fresh: HashMap::default(),
            holes: HashMap::new(),
            reconciled_through: None,
            complete_through: BTreeMap::new(),
            trades: 0,
            round: (Instant::now(), false),
            round_sent: false,
        }
    }

    /// What was found at the start: offsets, and of instruments their holes; what only the tail told is written at the next round.
    pub(crate) fn restore_state(
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
                self.dirty.insert(name.as_str().into(), InstrumentPosition { last, timestamp, partition });
            }
        }
        self.deliveries.begin_at(next_offsets);
    }

    /// Whether something waits for a transaction though nothing was handed in.
    pub(crate) fn has_more(&self) -> bool {
        !self.complete_through.is_empty()
    }

    /// Whether it is time for snapshots.
    pub(crate) fn snapshots_are_due(&self) -> bool {
        let (last, wanted) = self.round;
        let due = self.trades >= ROUND_TRADES
            || last.elapsed() >= ROUND_AGE
            || (wanted && last.elapsed() >= ROUND_PAUSE);
        due && !self.dirty.is_empty()
    }

    /// Keeps what goes into the next transaction's beginning; `false` for anything else. Not while trades wait that were handed in before it.
    pub(super) fn keeps(&mut self, item: &OutboundRecord) -> bool {
        let OutboundRecord::Watermark { partition, time } = item else { return false };
        self.complete_through.insert(*partition, *time);
        true
    }

    /// The next transaction is the last.
    pub(crate) fn request_snapshots(&mut self) {
        self.trades = ROUND_TRADES;
    }

    /// What a transaction begins with: what was learned by the commits before it.
    pub(super) fn send_own(&mut self, tx: &Tx<'_>) -> Sent {
        let offsets = self.deliveries.next_offsets();
        for (partition, time) in std::mem::take(&mut self.complete_through) {
            self.send_watermark(tx, (partition, time), &offsets)?;
        }
        self.round_sent = self.snapshots_are_due();
        if self.round_sent {
            for (name, reached) in &self.dirty {
                let at = usize::try_from(reached.partition).ok();
                let snapshot = InstrumentSnapshot {
                    last: reached.last,
                    timestamp: reached.timestamp,
                    partition: reached.partition,
                    covered: at.and_then(|at| offsets.get(at)).copied().unwrap_or(0),
                    holes: self.holes.get(name).cloned().unwrap_or_default(),
                };
                self.send_state(tx, name, &snapshot)?;
            }
            failpoint("snapshot-sent");
        }
        Ok(())
    }

    pub(super) fn send_owner(&self, tx: &Tx<'_>, owner: &Owner) -> Sent {
        self.send_state(tx, OWNER, owner)
    }

    /// Sends an item, or keeps it until what it is about is committed.
    pub(super) fn send(&mut self, tx: &Tx<'_>, item: OutboundRecord) -> Sent {
        match item {
            OutboundRecord::Trade { of, seq, timestamp, body } => {
                self.send_trade(tx, (of, seq, timestamp), body)
            }
            OutboundRecord::Skipped { of, last, timestamp, holes } => {
                let InstrumentRef { id, name, partition } = of;
                self.fresh.insert(id, (name.clone(), InstrumentPosition { last, timestamp, partition }));
                self.holes.insert(name, holes);
                self.round.1 = true;
                Ok(())
            }
            OutboundRecord::TopicState(topic) => {
                self.reconciled_through = Some(topic.reconciled_through);
                self.send_state(tx, TOPIC, &topic)
            }
            OutboundRecord::RemoveInstrument(name) => self.send_tombstone(tx, &name),
            OutboundRecord::Watermark { .. } => {
                self.keeps(&item);
                Ok(())
            }
            OutboundRecord::DeadLetter(letter) => self.send_dead_letter(tx, &letter),
        }
    }

    /// The transaction is committed.
    pub(super) fn committed(&mut self, took: Duration) {
        if std::mem::take(&mut self.round_sent) {
            self.dirty.clear();
            self.trades = 0;
            self.round = (Instant::now(), false);
            self.metrics.snapshots.inc();
            failpoint("snapshot-committed");
        }
        self.dirty.extend(self.fresh.drain().map(|(_, reached)| reached));
        if let Some(time) = self.reconciled_through.take() {
            self.metrics.reconciled_through.set(seconds(time));
        }
        self.metrics.transactions.inc();
        self.metrics.commit.observe(took.as_secs_f64());
    }

    fn send_trade(
        &mut self,
        tx: &Tx<'_>,
        (of, seq, timestamp): (InstrumentRef, i64, Millis),
        body: EncodedTrade,
    ) -> Sent {
        let headers =
            body.traced.as_ref().and_then(|traced| trace::inject(&traced.publish)).map(|context| {
                OwnedHeaders::new().insert(Header { key: TRACEPARENT, value: Some(&context) })
            });
        let in_flight =
            PendingDelivery::Trade { timestamp, received_at: body.received_at, traced: body.traced };
        let mut record = BaseRecord::with_opaque_to(&self.names.trades, Box::new(in_flight))
            .key(of.name.as_bytes())
            .payload(&*body.value)
            .partition(of.partition)
            .timestamp(timestamp);
        record.headers = headers;
        self.deliveries.sent();
        tx.send(record)?;
        self.trades += 1;
        let InstrumentRef { id, name, partition } = of;
        self.fresh.insert(id, (name, InstrumentPosition { last: seq, timestamp, partition }));
        Ok(())
    }

    fn send_watermark(&self, tx: &Tx<'_>, (partition, time): (i32, Millis), offsets: &[i64]) -> Sent {
        let at = usize::try_from(partition).ok();
        let offset = at.and_then(|at| offsets.get(at)).copied().unwrap_or(0);
        let (mut value, key) = (Vec::new(), partition.to_string());
        let watermark = Watermark { partition, complete_through: time, offset };
        self.watermark
            .encode(&watermark, &mut value)
            .expect("the schema has these three numbers, as a test of the contract shows");
        tx.send(
            BaseRecord::with_opaque_to(&self.names.watermarks, Box::new(PendingDelivery::State))
                .key(key.as_bytes())
                .payload(value.as_slice())
                .partition(partition)
                .timestamp(time),
        )
    }

    fn send_dead_letter(&self, tx: &Tx<'_>, letter: &DeadLetter) -> Sent {
        let length = letter.length.to_string();
        let mut headers = OwnedHeaders::new()
            .insert(Header { key: "origin", value: Some("websocket") })
            .insert(Header { key: "channel", value: Some(&letter.channel) })
            .insert(Header { key: "reason", value: Some(&letter.reason) });
        if letter.length > letter.bytes.len() {
            headers = headers.insert(Header { key: "truncated_from", value: Some(&length) });
        }
        let record: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(&self.names.dead_letter, Box::new(PendingDelivery::State))
                .payload(&*letter.bytes)
                .timestamp(now_micros() / 1000)
                .headers(headers);
        tx.send(record)
    }

    /// The name leaves the snapshots.
    fn send_tombstone(&mut self, tx: &Tx<'_>, name: &Arc<str>) -> Sent {
        self.holes.remove(name);
        self.dirty.remove(name);
        self.fresh.retain(|_, (fresh, _)| fresh != name);
        let record: BaseRecord<'_, [u8], [u8], _> =
            BaseRecord::with_opaque_to(&self.names.sequences, Box::new(PendingDelivery::State))
                .key(name.as_bytes())
                .partition(0)
                .timestamp(now_micros() / 1000);
        tx.send(record)
    }

    fn send_state(&self, tx: &Tx<'_>, key: &str, value: &impl serde::Serialize) -> Sent {
        let value = serde_json::to_vec(value).expect("plain numbers and text become JSON");
        tx.send(
            BaseRecord::with_opaque_to(&self.names.sequences, Box::new(PendingDelivery::State))
                .key(key.as_bytes())
                .payload(value.as_slice())
                .partition(0)
                .timestamp(now_micros() / 1000),
        )
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge to the millisecond, which a double holds for millennia"
)]
fn seconds(millis: Millis) -> f64 {
    millis as f64 / 1000.0
}
