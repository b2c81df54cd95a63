//! From the connections' events to records for the writer: trades go through the sequencer, gaps and history are requested. The only I/O is
//! handing requests to connections; the clock is handed in.
//!
//! Nothing is published before history was read from the time up to which the topic is complete. Live trades wait behind the sequencer's
//! gate meanwhile. The same happens when the last connection is lost.

mod backfill;
mod responses;
mod run;
mod trades;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use common::admin::Component;
use common::avro::trade_encoder::TradeEncoder;
use common::telemetry::trace::Sampler;
use tokio::sync::mpsc;

use crate::backfill::BackfillRequest;
use crate::backfill::by_instrument::InstrumentBackfill;
use crate::backfill::by_time::TimeBackfill;
use crate::clock::{ExchangeClock, ExchangeTime, Millis};
use crate::deribit::events::ConnectionEvent;
use crate::deribit::history::Query;
use crate::deribit::history_scope::HistoryScope;
use crate::deribit::requests::Requests;
use crate::deribit::rpc::RequestIds;
use crate::metrics::{FeedMetrics, SequencerMetrics, gauged};
use crate::publish::snapshot_records::TopicState;
use crate::publish::{DeadLetter, EncodedTrade, InstrumentRef, OutboundRecord};
use crate::sequencer::{InstrumentId, Limits, Released, SearchBy, Sequencer};

/// The exchange's clock is requested this often. Each answer moves the watermarks.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);

/// What the sequencer carries for a trade.
#[derive(Debug)]
pub(crate) enum TradePayload {
    Publishable(EncodedTrade),
    Unpublishable(DeadLetter),
}

/// The configuration of the feed.
#[derive(Debug, Clone)]
pub(crate) struct FeedSettings {
    /// History of the subscribed channels.
    pub(crate) scopes: Vec<HistoryScope>,
    /// Number of partitions of the trades topic.
    pub(crate) partitions: u32,
    /// Start of a new topic; `None` is now.
    pub(crate) start_from: Option<ExchangeTime>,
    pub(crate) reconcile_interval: Millis,
    pub(crate) requests_per_second: u32,
    pub(crate) limits: Limits,
}

/// What the feed works with.
pub(crate) struct Deps {
    pub(crate) encoder: TradeEncoder,
    pub(crate) sampler: Sampler,
    pub(crate) feed: FeedMetrics,
    pub(crate) metrics: SequencerMetrics,
    /// Ready while live.
    pub(crate) health: Component,
    pub(crate) request_ids: RequestIds,
}

/// A subscribed connection.
#[derive(Debug)]
struct ConnectionState {
    requests: mpsc::Sender<String>,
    /// When it brought trades last.
    active_at: Instant,
    unsubscribed_channels: usize,
}

/// What a response is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum RequestKind {
    Clock,
    Gap(InstrumentId),
    Backfill(BackfillRequest),
}

/// How far the feed has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection, or the exchange's clock is unknown.
    Disconnected,
    /// History older than a day is read.
    BackfillByInstrument,
    /// History is read by time.
    CatchUp,
    /// Trades are published as they arrive.
    Live,
}

/// Everything between the connections and the writer.
pub(crate) struct FeedHandler {
    settings: FeedSettings,
    deps: Deps,
    sequencer: Sequencer<TradePayload>,
    topic: Option<TopicState>,
    clock: Option<ExchangeClock>,
    clock_requested_at: Option<Instant>,
    connections: BTreeMap<usize, ConnectionState>,
    requests: Requests<RequestKind>,
    phase: Phase,
    /// Set while catching up, and while published trades are compared with history.
    time_backfill: Option<TimeBackfill>,
    /// Number of time backfills started.
    time_backfills: u32,
    instrument_backfill: InstrumentBackfill,
    /// When the running backfill has started.
    backfill_started_at: Instant,
    /// Up to this time history was read, and every trade of it is published or known to this process.
    compared_through: ExchangeTime,
    /// The end of the time range that was read last.
    last_read_until: ExchangeTime,
    /// When that reading ended, by the exchange's clock.
    last_read_at: ExchangeTime,
    /// Trades that the running comparison found and the stream did not bring.
    found_in_history: u64,
    /// Since this time history was read without overlap, to catch up with a fast stream. It must be read again before it counts as complete.
    pursued_from: Option<ExchangeTime>,
    /// History was read again since the feed went live.
    confirmed: bool,
    /// The stream may lack trades up to this time, because of maintenance.
    maintenance_until: ExchangeTime,
    /// The last published watermark.
    watermark: ExchangeTime,
    records: Vec<OutboundRecord>,
    scratch: Vec<u8>,
}

impl FeedHandler {
    /// Continues from what was published before.
    pub(crate) fn new(
        settings: FeedSettings,
        deps: Deps,
        sequencer: Sequencer<TradePayload>,
        topic: Option<TopicState>,
        now: Instant,
    ) -> Self {
        let requests = Requests::new(deps.request_ids.clone(), settings.requests_per_second, now);
        Self {
            settings,
            deps,
            sequencer,
            topic,
            clock: None,
            clock_requested_at: None,
            connections: BTreeMap::new(),
            requests,
            phase: Phase::Disconnected,
            time_backfill: None,
            time_backfills: 0,
            instrument_backfill: InstrumentBackfill::default(),
            backfill_started_at: now,
            compared_through: ExchangeTime::MIN,
            last_read_until: 0,
            last_read_at: 0,
            found_in_history: 0,
            pursued_from: None,
            confirmed: false,
            maintenance_until: 0,
            watermark: 0,
            records: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Takes the records to write, in order.
    pub(crate) fn take_records(&mut self) -> std::vec::Drain<'_, OutboundRecord> {
        self.records.drain(..)
    }

    pub(crate) fn on_event(&mut self, event: ConnectionEvent, now: Instant) {
        match event {
            ConnectionEvent::Subscribed { connection, requests } => {
                self.on_subscribed(connection, requests, now);
            }
            ConnectionEvent::UnsubscribedChannels { connection, channels } => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.unsubscribed_channels = channels;
                    self.invalidate_coverage();
                }
            }
            ConnectionEvent::RequestSent => self.requests.on_connection_request(),
            ConnectionEvent::Disconnected { connection } => self.on_disconnect(connection, now),
            ConnectionEvent::Frame { connection, text, received_at } => {
                self.on_frame(connection, &text, received_at, now);
            }
            ConnectionEvent::Unparsable { bytes, why } => self.dead_letter_unparsable("", why, &bytes),
        }
        self.proceed(now);
    }

    /// Time passes.
    pub(crate) fn on_tick(&mut self, now: Instant) {
        for (connection, kind) in self.requests.take_timed_out(now) {
            self.on_request_failed(&kind, now);
            // Treat a connection that does not respond as dead.
            tracing::warn!(connection, request = ?kind, "request timed out; closing the connection");
            self.on_disconnect(connection, now);
        }
        if let Some(clock) = self.clock {
            self.sequencer.tick(clock.now(now));
        }
        self.proceed(now);
    }

    /// Does what the last input has made possible.
    fn proceed(&mut self, now: Instant) {
        self.publish_released();
        self.advance_backfill(now);
        self.send_requests(now);
        self.publish_released();
        let metrics = &self.deps.metrics;
        metrics.held.set(gauged(self.sequencer.held()));
        metrics.open_gaps.set(gauged(self.sequencer.gaps()));
        metrics.credits.set(gauged(self.requests.credits(now)));
    }

    fn on_subscribed(&mut self, connection: usize, requests: mpsc::Sender<String>, now: Instant) {
        if self.connections.is_empty() {
            // Our clock may have stood still, as it does while a machine sleeps.
            self.clock = None;
        } else {
            // The connections that stayed may have been as dead as this one.
            self.invalidate_coverage();
        }
        let state = ConnectionState { requests, active_at: now, unsubscribed_channels: 0 };
        self.connections.insert(connection, state);
        self.clock_requested_at = None;
    }

    fn on_disconnect(&mut self, connection: usize, now: Instant) {
        self.connections.remove(&connection);
        for kind in self.requests.on_disconnect(connection) {
            self.on_request_failed(&kind, now);
        }
        if self.connections.is_empty() {
            self.suspend("a connection to the exchange", now);
        }
    }

    /// Sends the requests that are due, as far as the exchange accepts them.
    fn send_requests(&mut self, now: Instant) {
        let Some((connection, state)) = self.connections.iter().next() else { return };
        let (connection, sender) = (*connection, state.requests.clone());
        let clock_is_due = self
            .clock_requested_at
            .is_none_or(|requested| now.saturating_duration_since(requested) >= CLOCK_INTERVAL);
        if clock_is_due
            && self.requests.send(connection, &sender, &Query::Time, RequestKind::Clock, now).is_ok()
        {
            self.clock_requested_at = Some(now);
        }
        let Some(clock) = self.clock else { return };
        let available = self.requests.available(now);
        for gap in self.sequencer.gap_requests(available, clock.now(now)) {
            let instrument = self.sequencer.name(gap.id).to_string();
            let query = match gap.by {
                SearchBy::Time => Query::TradesByTime { instrument, times: gap.times },
                SearchBy::Sequence => Query::TradesBySequence { instrument, seqs: gap.seqs },
            };
            self.deps.metrics.gap_requests.inc();
            if self.requests.send(connection, &sender, &query, RequestKind::Gap(gap.id), now).is_err() {
                self.sequencer.on_gap_request_failed(gap.id, clock.now(now));
            }
        }
        while self.requests.available(now) > 0 {
            let Some((query, request)) = self.next_history_query() else { break };
            let kind = RequestKind::Backfill(request);
            if let Err(kind) = self.requests.send(connection, &sender, &query, kind, now) {
                self.on_request_failed(&kind, now);
                break;
            }
        }
    }

    /// Turns the sequencer's outputs into records.
    fn publish_released(&mut self) {
        for released in self.sequencer.take_released() {
            match released {
                Released::Publish(id, trade) => match trade.payload {
                    TradePayload::Publishable(encoded) => self.records.push(OutboundRecord::Trade {
                        instrument: self.instrument(id),
                        seq: trade.seq,
                        timestamp: trade.timestamp,
                        trade: encoded,
                    }),
                    TradePayload::Unpublishable(letter) => self.dead_letter_trade(id, trade.seq, letter),
                },
                Released::DeadLetter(id, trade) => {
                    let letter = match trade.payload {
                        TradePayload::Unpublishable(letter) => letter,
                        TradePayload::Publishable(encoded) => {
                            DeadLetter::new("", "unpublishable".into(), &encoded.value)
                        }
                    };
                    self.dead_letter_trade(id, trade.seq, letter);
                }
                Released::ConfirmedHole(id, seqs) => {
                    let (first, last) = seqs.into_inner();
                    self.deps.metrics.confirmed_holes.inc_by(count(first, last));
                    let name = self.sequencer.name(id);
                    tracing::warn!(%name, first, last, "confirmed hole: the exchange has no trades with these numbers");
                    self.skip(id, last);
                }
                Released::Lost(id, seqs) => {
                    let (first, last) = seqs.into_inner();
                    self.deps.metrics.lost.inc_by(count(first, last));
                    let name = self.sequencer.name(id);
                    tracing::error!(%name, first, last, "trades lost: the exchange no longer has them");
                    self.skip(id, last);
                }
            }
        }
    }

    fn dead_letter_trade(&mut self, id: InstrumentId, seq: i64, letter: DeadLetter) {
        self.deps.metrics.dead_lettered.inc();
        let name = self.sequencer.name(id);
        tracing::error!(%name, seq, reason = letter.reason, "trade sent to the dead-letter topic");
        self.records.push(OutboundRecord::DeadLetter(letter));
        self.skip(id, seq);
    }

    /// The instrument continues after `last`, which was given up.
    fn skip(&mut self, id: InstrumentId, last: i64) {
        let (timestamp, holes) = (self.sequencer.timestamp(id), self.sequencer.holes(id));
        self.records.push(OutboundRecord::Skipped {
            instrument: self.instrument(id),
            last,
            timestamp,
            holes,
        });
    }

    fn instrument(&self, id: InstrumentId) -> InstrumentRef {
        let partition = kafka_partition(self.sequencer.partition(id));
        InstrumentRef { id, name: self.sequencer.name(id), partition }
    }
}

/// A partition as Kafka numbers it.
fn kafka_partition(partition: u32) -> i32 {
    i32::try_from(partition).expect("the number of partitions comes from an i32")
}

fn count(first: i64, last: i64) -> u64 {
    u64::try_from(last - first + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
