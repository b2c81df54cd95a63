//! From what the exchange says to what is published: trades through the sequencer, questions to history, catching up. No I/O of its
//! own but handing questions to connections; time comes in from outside.
//!
//! Nothing is published before history has been read from where the topic was last found whole up to now; live trades wait
//! behind the sequencer's gate meanwhile. The same when a connection is lost and no other is up.

mod backfill;
mod responses;
mod trades;

use std::collections::BTreeMap;
use std::time::Instant;

use common::admin::Part;
use common::avro::trade_encoder::TradeEncoder;
use common::telemetry::trace::Sampler;
use tokio::sync::mpsc;

use crate::backfill::by_instrument::InstrumentBackfill;
use crate::backfill::by_time::TimeBackfill;
use crate::clock::ExchangeClock;
use crate::clock::Millis;
use crate::deribit::events::ConnectionEvent;
use crate::deribit::history::Query;
use crate::deribit::history_scope::HistoryScope;
use crate::deribit::requests::{RequestKind, Requests};
use crate::metrics::{FeedMetrics, SequencerMetrics, gauged};
use crate::publish::snapshot_records::TopicState;
use crate::publish::{DeadLetter, EncodedTrade, InstrumentRef, OutboundRecord};
use crate::sequencer::{InstrumentId, Limits, Released, SearchBy, Sequencer};

/// What the exchange's clock is asked this often; watermarks come of the answers.
const TIME_EVERY: Millis = 1_000;

/// What there is to a trade besides its number and time.
#[derive(Debug)]
pub(crate) enum TradePayload {
    /// It can be published.
    Trade(EncodedTrade),
    /// It cannot.
    Unusable(DeadLetter),
}

/// What the configuration says of it.
#[derive(Debug, Clone)]
pub(crate) struct FeedSettings {
    /// What history belongs to the channels.
    pub(crate) scopes: Vec<HistoryScope>,
    /// Of the trades' topic.
    pub(crate) partitions: u32,
    /// Where a topic starts that has no start yet; `None`: now.
    pub(crate) start_from: Option<Millis>,
    /// History is compared this often, in milliseconds.
    pub(crate) reconcile_interval: Millis,
    /// Requests a second.
    pub(crate) requests_per_second: u32,
    /// Of the sequencer.
    pub(crate) limits: Limits,
}

/// What it works with.
pub(crate) struct Deps {
    /// Makes records' values.
    pub(crate) encoder: TradeEncoder,
    /// Chooses the trades that are traced.
    pub(crate) sampler: Sampler,
    /// Trades.
    pub(crate) feed: FeedMetrics,
    /// Sequences.
    pub(crate) metrics: SequencerMetrics,
    /// Ready while live.
    pub(crate) part: Part,
}

/// A connection that is up.
#[derive(Debug)]
struct ConnectionState {
    questions: mpsc::Sender<String>,
    heard_at: Instant,
    /// Channels that the exchange does not know.
    missing: usize,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection, or its clock is not known.
    Disconnected,
    /// Older history is read, instrument by instrument.
    BackfillByInstrument,
    /// History is read by time.
    CatchingUp,
    /// What comes is published.
    Live,
}

/// Everything between the connections and the writer.
pub(crate) struct FeedHandler {
    settings: FeedSettings,
    tools: Deps,
    sequencer: Sequencer<TradePayload>,
    topic: Option<TopicState>,
    clock: Option<ExchangeClock>,
    lines: BTreeMap<usize, ConnectionState>,
    calls: Requests,
    phase: Phase,
    scan: Option<TimeBackfill>,
    scans: u32,
    deep: InstrumentBackfill,
    /// Up to where this process has read history; what waits of it is known to this process only.
    compared_through: Millis,
    /// Up to where the last scan has read history.
    last_scan_until: Millis,
    /// When the last scan ended, by the exchange's clock.
    last_scan_at: Millis,
    /// Trades that a scan found and the stream did not bring.
    found_by_scan: u64,
    /// Since then history has been read without overlap, in pursuit of a fast stream: to be read once more before anything is called whole.
    pursued_from: Option<Millis>,
    /// Since the stream began history has been read a second time.
    confirmed: bool,
    /// Trades up to this time may have been withheld from the stream.
    maintained_until: Millis,
    time_asked: Option<Instant>,
    complete_through: Millis,
    items: Vec<OutboundRecord>,
    scratch: Vec<u8>,
    /// When the present reading of history began.
    begun: Instant,
}

impl FeedHandler {
    /// Goes on from what was published before.
    pub(crate) fn new(
        settings: FeedSettings,
        tools: Deps,
        sequencer: Sequencer<TradePayload>,
        (topic, now): (Option<TopicState>, Instant),
    ) -> Self {
        let calls = Requests::new(settings.requests_per_second, now);
        Self {
            settings,
            tools,
            sequencer,
            topic,
            clock: None,
            lines: BTreeMap::new(),
            calls,
            phase: Phase::Disconnected,
            scan: None,
            scans: 0,
            deep: InstrumentBackfill::default(),
            compared_through: Millis::MIN,
            last_scan_until: 0,
            last_scan_at: 0,
            found_by_scan: 0,
            pursued_from: None,
            confirmed: false,
            maintained_until: 0,
            time_asked: None,
            complete_through: 0,
            items: Vec::new(),
            scratch: Vec::new(),
            begun: now,
        }
    }

    /// What is to be written, in this order.
    pub(crate) fn items(&mut self) -> std::vec::Drain<'_, OutboundRecord> {
        self.items.drain(..)
    }

    /// Something came from a connection.
    pub(crate) fn event(&mut self, event: ConnectionEvent, now: Instant) {
        match event {
            ConnectionEvent::Up { connection, questions } => {
                if self.lines.is_empty() {
                    // Ours may have stood still meanwhile, as it does while a machine sleeps.
                    self.clock = None;
                } else {
                    // Those that stayed may be as dead as this one was.
                    self.invalidate_coverage();
                }
                self.lines.insert(connection, ConnectionState { questions, heard_at: now, missing: 0 });
                self.time_asked = None;
            }
            ConnectionEvent::Missing { connection, channels } => {
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.missing = channels;
                    self.invalidate_coverage();
                }
            }
            ConnectionEvent::Called => self.calls.called(),
            ConnectionEvent::Down { connection } => self.down(connection, now),
            ConnectionEvent::Frame { connection, text, received_at } => {
                self.frame(connection, &text, (received_at, now));
            }
            ConnectionEvent::Garbage { bytes, why } => self.unreadable("", why, &bytes),
        }
        self.on_idle(now);
    }

    /// Time passes.
    pub(crate) fn tick(&mut self, now: Instant) {
        for (connection, purpose) in self.calls.overdue(now) {
            self.not_answered(&purpose, now);
            // A connection that answers no question is none.
            tracing::warn!(connection, ?purpose, "the exchange did not answer");
            self.down(connection, now);
        }
        if let Some(clock) = self.clock {
            self.sequencer.tick(clock.now(now));
        }
        self.on_idle(now);
    }

    /// What is to be done after anything has happened.
    fn on_idle(&mut self, now: Instant) {
        self.publish_released();
        self.advance(now);
        self.ask(now);
        self.publish_released();
        let metrics = &self.tools.metrics;
        metrics.held.set(gauged(self.sequencer.held()));
        metrics.open_gaps.set(gauged(self.sequencer.gaps()));
        metrics.credits.set(gauged(self.calls.credits(now)));
    }

    /// The stream may have lacked something: nothing is called whole before history has been read.
    fn invalidate_coverage(&mut self) {
        if self.phase == Phase::Live {
            self.scan = None;
            self.confirmed = false;
        }
    }

    fn down(&mut self, connection: usize, now: Instant) {
        self.lines.remove(&connection);
        for purpose in self.calls.lost(connection) {
            self.not_answered(&purpose, now);
        }
        if self.lines.is_empty() {
            self.wait_for("a connection to the exchange", now);
        }
    }

    /// Asks what there is to ask, as far as the exchange takes questions.
    fn ask(&mut self, now: Instant) {
        let Some((connection, line)) = self.lines.iter().next() else { return };
        let (connection, questions) = (*connection, line.questions.clone());
        let line = (connection, &questions);
        let every = std::time::Duration::from_millis(u64::try_from(TIME_EVERY).unwrap_or(1_000));
        let due = self.time_asked.is_none_or(|asked| now.saturating_duration_since(asked) >= every);
        if due && self.calls.ask(line, (&Query::Time, RequestKind::Time), now) {
            self.time_asked = Some(now);
        }
        let Some(clock) = self.clock else { return };
        let room = self.calls.room(now);
        for question in self.sequencer.gap_requests(room, clock.now(now)) {
            let name = self.sequencer.name(question.id).to_string();
            let call = match question.by {
                SearchBy::Time => Query::Instrument { name, times: question.times },
                SearchBy::Sequence => Query::Numbers { name, seqs: question.seqs },
            };
            self.tools.metrics.gap_requests.inc();
            if !self.calls.ask(line, (&call, RequestKind::Gap(question.id)), now) {
                self.sequencer.on_gap_request_failed(question.id, clock.now(now));
            }
        }
        while self.calls.room(now) > 0 {
            let Some((call, purpose)) = self.next_reading() else { break };
            if !self.calls.ask(line, (&call, purpose.clone()), now) {
                self.not_answered(&purpose, now);
                break;
            }
        }
    }

    /// Turns what the sequencer puts out into what is to be written.
    fn publish_released(&mut self) {
        for out in self.sequencer.take_released() {
            match out {
                Released::Publish(id, arrival) => match arrival.payload {
                    TradePayload::Trade(body) => self.items.push(OutboundRecord::Trade {
                        of: self.instrument(id),
                        seq: arrival.seq,
                        timestamp: arrival.timestamp,
                        body,
                    }),
                    TradePayload::Unusable(letter) => self.dead_letter(id, arrival.seq, letter),
                },
                Released::DeadLetter(id, arrival) => match arrival.payload {
                    TradePayload::Unusable(letter) => self.dead_letter(id, arrival.seq, letter),
                    TradePayload::Trade(body) => {
                        let letter = DeadLetter::new("", "dead-lettered".into(), &body.value);
                        self.dead_letter(id, arrival.seq, letter);
                    }
                },
                Released::ConfirmedHole(id, seqs) => {
                    let (first, last) = (*seqs.start(), *seqs.end());
                    self.tools.metrics.confirmed_holes.inc_by(count(first, last));
                    let name = self.sequencer.name(id);
                    tracing::warn!(%name, first, last, "the exchange has no trades of these numbers");
                    self.given_up(id, last);
                }
                Released::Lost(id, seqs) => {
                    let (first, last) = (*seqs.start(), *seqs.end());
                    self.tools.metrics.lost.inc_by(count(first, last));
                    let name = self.sequencer.name(id);
                    tracing::error!(%name, first, last, "these trades cannot be had any more");
                    self.given_up(id, last);
                }
            }
        }
    }

    fn dead_letter(&mut self, id: InstrumentId, seq: i64, letter: DeadLetter) {
        self.tools.metrics.dead_lettered.inc();
        let name = self.sequencer.name(id);
        tracing::error!(%name, seq, reason = letter.reason, "a trade is dead-lettered");
        self.items.push(OutboundRecord::DeadLetter(letter));
        self.given_up(id, seq);
    }

    fn given_up(&mut self, id: InstrumentId, last: i64) {
        let (timestamp, holes) = (self.sequencer.timestamp(id), self.sequencer.holes(id));
        self.items.push(OutboundRecord::Skipped { of: self.instrument(id), last, timestamp, holes });
    }

    fn instrument(&self, id: InstrumentId) -> InstrumentRef {
        let partition = i32::try_from(self.sequencer.partition(id)).unwrap_or(0);
        InstrumentRef { id, name: self.sequencer.name(id), partition }
    }
}

fn count(first: i64, last: i64) -> u64 {
    u64::try_from(last - first + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
