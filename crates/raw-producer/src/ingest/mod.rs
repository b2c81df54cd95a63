//! From what the exchange says to what is published: trades through the sequencer, questions to history, catching up. No I/O of its
//! own but handing questions to connections; time comes in from outside.
//!
//! Nothing is published before history has been read from where the topic was last found whole up to now; live trades wait
//! behind the sequencer's gate meanwhile. The same when a connection is lost and no other is up.

mod answers;
mod calls;
mod catchup;
mod deep;
pub mod engine;
mod trades;

use std::collections::BTreeMap;
use std::time::Instant;

use common::admin::Component;
use common::avro::trade_encoder::TradeEncoder;
use common::telemetry::trace::Sampler;
use tokio::sync::mpsc;

use crate::clock::ExchangeClock;
use crate::deribit::events::Event;
use crate::deribit::history::Call;
use crate::deribit::scope::Scope;
use crate::metrics::{FeedMetrics, SequenceMetrics, gauged};
use crate::publish::state::Topic;
use crate::publish::{Body, DeadLetter, Instrument, Item};
use crate::scan::Scan;
use crate::sequence::{Id, Limits, Millis, Out, Sequencer};
use calls::{Calls, Purpose};
use deep::Deep;

/// What the exchange's clock is asked this often; watermarks come of the answers.
const TIME_EVERY: Millis = 1_000;

/// What there is to a trade besides its number and time.
#[derive(Debug)]
pub enum Payload {
    /// It can be published.
    Trade(Body),
    /// It cannot.
    Unusable(DeadLetter),
}

/// What the configuration says of it.
#[derive(Debug, Clone)]
pub struct Settings {
    /// What history belongs to the channels.
    pub scopes: Vec<Scope>,
    /// Of the trades' topic.
    pub partitions: u32,
    /// Where a topic starts that has no start yet; `None`: now.
    pub start_from: Option<Millis>,
    /// History is compared this often, in milliseconds.
    pub reconcile_interval: Millis,
    /// Calls a second.
    pub calls_per_second: u32,
    /// Of the sequencer.
    pub limits: Limits,
}

/// What it works with.
pub struct Tools {
    /// Makes records' values.
    pub encoder: TradeEncoder,
    /// Chooses the trades that are traced.
    pub sampler: Sampler,
    /// Trades.
    pub feed: FeedMetrics,
    /// Sequences.
    pub metrics: SequenceMetrics,
    /// Ready while live.
    pub part: Component,
}

/// A connection that is up.
#[derive(Debug)]
struct Line {
    questions: mpsc::Sender<String>,
    heard_at: Instant,
    /// Channels that the exchange does not know.
    missing: usize,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is no connection, or its clock is not known.
    Waiting,
    /// Older history is read, instrument by instrument.
    Deep,
    /// History is read by time.
    CatchingUp,
    /// What comes is published.
    Live,
}

/// Everything between the connections and the writer.
pub struct Ingest {
    settings: Settings,
    tools: Tools,
    sequencer: Sequencer<Payload>,
    topic: Option<Topic>,
    clock: Option<ExchangeClock>,
    lines: BTreeMap<usize, Line>,
    calls: Calls,
    phase: Phase,
    scan: Option<Scan>,
    scans: u32,
    deep: Deep,
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
    items: Vec<Item>,
    scratch: Vec<u8>,
    /// When the present reading of history began.
    begun: Instant,
}

impl Ingest {
    /// Goes on from what was published before.
    #[must_use]
    pub fn new(
        settings: Settings,
        tools: Tools,
        sequencer: Sequencer<Payload>,
        (topic, now): (Option<Topic>, Instant),
    ) -> Self {
        let calls = Calls::new(settings.calls_per_second, now);
        Self {
            settings,
            tools,
            sequencer,
            topic,
            clock: None,
            lines: BTreeMap::new(),
            calls,
            phase: Phase::Waiting,
            scan: None,
            scans: 0,
            deep: Deep::default(),
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
    pub fn items(&mut self) -> std::vec::Drain<'_, Item> {
        self.items.drain(..)
    }

    /// Something came from a connection.
    pub fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Up { connection, questions } => {
                if self.lines.is_empty() {
                    // Ours may have stood still meanwhile, as it does while a machine sleeps.
                    self.clock = None;
                } else {
                    // Those that stayed may be as dead as this one was.
                    self.doubt();
                }
                self.lines.insert(connection, Line { questions, heard_at: now, missing: 0 });
                self.time_asked = None;
            }
            Event::Missing { connection, channels } => {
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.missing = channels;
                    self.doubt();
                }
            }
            Event::Called => self.calls.called(),
            Event::Down { connection } => self.down(connection, now),
            Event::Frame { connection, text, received_at } => {
                self.frame(connection, &text, (received_at, now));
            }
            Event::Garbage { bytes, why } => self.unreadable("", why, &bytes),
        }
        self.turn(now);
    }

    /// Time passes.
    pub fn tick(&mut self, now: Instant) {
        for (connection, purpose) in self.calls.overdue(now) {
            self.not_answered(&purpose, now);
            // A connection that answers no question is none.
            tracing::warn!(connection, ?purpose, "the exchange did not answer");
            self.down(connection, now);
        }
        if let Some(clock) = self.clock {
            self.sequencer.tick(clock.now(now));
        }
        self.turn(now);
    }

    /// What is to be done after anything has happened.
    fn turn(&mut self, now: Instant) {
        self.put_out();
        self.go_on(now);
        self.ask(now);
        self.put_out();
        let metrics = &self.tools.metrics;
        metrics.held.set(gauged(self.sequencer.held()));
        metrics.open_gaps.set(gauged(self.sequencer.gaps()));
        metrics.credits.set(gauged(self.calls.credits(now)));
    }

    /// The stream may have lacked something: nothing is called whole before history has been read.
    fn doubt(&mut self) {
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
        if due && self.calls.ask(line, (&Call::Time, Purpose::Time), now) {
            self.time_asked = Some(now);
        }
        let Some(clock) = self.clock else { return };
        let room = self.calls.room(now);
        for question in self.sequencer.questions(room, clock.now(now)) {
            let name = self.sequencer.name(question.id).to_string();
            let call = match question.by_time {
                true => Call::Instrument { name, times: question.times },
                false => Call::Numbers { name, seqs: question.seqs },
            };
            self.tools.metrics.gaps.inc();
            if !self.calls.ask(line, (&call, Purpose::Gap(question.id)), now) {
                self.sequencer.failed(question.id, clock.now(now));
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
    fn put_out(&mut self) {
        for out in self.sequencer.put_out() {
            match out {
                Out::Publish(id, arrival) => match arrival.body {
                    Payload::Trade(body) => self.items.push(Item::Trade {
                        of: self.instrument(id),
                        seq: arrival.seq,
                        timestamp: arrival.timestamp,
                        body,
                    }),
                    Payload::Unusable(letter) => self.set_aside(id, arrival.seq, letter),
                },
                Out::SetAside(id, arrival) => match arrival.body {
                    Payload::Unusable(letter) => self.set_aside(id, arrival.seq, letter),
                    Payload::Trade(body) => {
                        let letter = DeadLetter::new("", "set aside".into(), &body.value);
                        self.set_aside(id, arrival.seq, letter);
                    }
                },
                Out::Hole(id, first, last) => {
                    self.tools.metrics.confirmed_holes.inc_by(count(first, last));
                    let name = self.sequencer.name(id);
                    tracing::warn!(%name, first, last, "the exchange has no trades of these numbers");
                    self.given_up(id, last);
                }
                Out::Lost(id, first, last) => {
                    self.tools.metrics.lost.inc_by(count(first, last));
                    let name = self.sequencer.name(id);
                    tracing::error!(%name, first, last, "these trades cannot be had any more");
                    self.given_up(id, last);
                }
            }
        }
    }

    fn set_aside(&mut self, id: Id, seq: i64, letter: DeadLetter) {
        self.tools.metrics.set_aside.inc();
        let name = self.sequencer.name(id);
        tracing::error!(%name, seq, reason = letter.reason, "a trade is set aside");
        self.items.push(Item::DeadLetter(letter));
        self.given_up(id, seq);
    }

    fn given_up(&mut self, id: Id, last: i64) {
        let (timestamp, holes) = (self.sequencer.timestamp(id), self.sequencer.holes(id));
        self.items.push(Item::GivenUp { of: self.instrument(id), last, timestamp, holes });
    }

    fn instrument(&self, id: Id) -> Instrument {
        let partition = i32::try_from(self.sequencer.partition(id)).unwrap_or(0);
        Instrument { id, name: self.sequencer.name(id), partition }
    }
}

fn count(first: i64, last: i64) -> u64 {
    u64::try_from(last - first + 1).unwrap_or(0)
}

#[cfg(test)]
mod tests;
