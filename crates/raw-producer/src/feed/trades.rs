//! Processes frames with trades.

use std::time::Instant;

use common::model::Trade;
use common::telemetry::trace::{self, SpanKind};

use super::{FeedHandler, Phase, TradePayload};
use crate::clock::ExchangeTime;
use crate::deribit::message::{Frame, ParsedTrade, TradeBundle, TradeKey, parse};
use crate::publish::{DeadLetter, EncodedTrade, OutboundRecord, TradeSpans};
use crate::sequencer::{Disposition, IncomingTrade, InstrumentId, TradeSource};

impl FeedHandler {
    /// `received_at` is our clock in microseconds.
    pub(super) fn on_frame(&mut self, connection: usize, text: &str, received_at: i64, now: Instant) {
        match parse(text, received_at) {
            Ok(Frame::Trades(bundle)) => {
                if let Some(connection) = self.connections.get_mut(&connection) {
                    connection.active_at = now;
                }
                self.on_bundle(bundle, now);
            }
            Ok(Frame::Maintenance) => self.on_maintenance(now),
            Ok(Frame::Response { id: Some(id), outcome }) => self.on_response(id, outcome, received_at, now),
            Ok(_) => {}
            Err(error) => self.dead_letter_unparsable("", error.to_string(), text.as_bytes()),
        }
    }

    fn on_bundle(&mut self, bundle: TradeBundle<'_>, now: Instant) {
        // As long as the exchange's clock is unknown, trades are ignored: history will have them.
        if self.clock.is_none() || self.phase == Phase::Disconnected {
            return;
        }
        self.deps.feed.received(&bundle.channel, bundle.trades.len());
        for trade in bundle.trades {
            match trade {
                ParsedTrade::Readable(trade) => {
                    self.on_trade(&bundle.channel, &trade, TradeSource::Live, now);
                }
                // Its number is missing now, so it is requested from history.
                ParsedTrade::Unreadable { text, why, .. } => {
                    self.dead_letter_unparsable(&bundle.channel, why, text.as_bytes());
                }
            }
        }
    }

    pub(super) fn on_trade(&mut self, channel: &str, trade: &Trade<'_>, source: TradeSource, now: Instant) {
        let Some(clock) = self.clock.map(|clock| clock.now(now)) else { return };
        let unpublishable = self.sequencer.is_too_far_ahead(trade.timestamp, clock);
        let id = self.sequencer.id(&trade.instrument_name);
        let payload = if unpublishable {
            let text = serde_json::to_vec(trade).unwrap_or_default();
            let why = format!("{} ms ahead of the exchange's clock", trade.timestamp - clock);
            TradePayload::Unpublishable(DeadLetter::new(channel, why, &text))
        } else {
            TradePayload::Publishable(self.encode(id, trade, channel, source))
        };
        let (seq, timestamp) = (trade.trade_seq, trade.timestamp);
        self.accept(id, IncomingTrade { seq, timestamp, unpublishable, payload }, source, clock);
    }

    /// An unreadable trade in history is final. If its number is readable, the trade goes to the dead-letter topic in its place.
    pub(super) fn on_unreadable_in_history(
        &mut self,
        key: Option<TradeKey>,
        text: &str,
        why: String,
        source: TradeSource,
        now: Instant,
    ) {
        let Some(key) = key else { return self.dead_letter_unparsable("history", why, text.as_bytes()) };
        let Some(clock) = self.clock.map(|clock| clock.now(now)) else { return };
        let id = self.sequencer.id(&key.instrument_name);
        if self.sequencer.is_new(id, key.trade_seq) {
            let payload = TradePayload::Unpublishable(DeadLetter::new("history", why, text.as_bytes()));
            // Its time is unknown. This one does not hold others back.
            let timestamp = self.last_read_until;
            let trade = IncomingTrade { seq: key.trade_seq, timestamp, unpublishable: true, payload };
            self.accept(id, trade, source, clock);
        }
    }

    fn accept(
        &mut self,
        id: InstrumentId,
        trade: IncomingTrade<TradePayload>,
        source: TradeSource,
        clock: ExchangeTime,
    ) {
        let seq = trade.seq;
        let metrics = &self.deps.metrics;
        match self.sequencer.accept(id, trade, source, clock) {
            Disposition::Published | Disposition::Held => match source {
                TradeSource::Live => {}
                TradeSource::GapRequest => drop(metrics.backfilled.inc()),
                TradeSource::History => {
                    metrics.backfilled.inc();
                    self.found_in_history += 1;
                }
            },
            // History contains what the stream has brought; that is no duplicate.
            Disposition::Duplicate if source != TradeSource::Live => {}
            Disposition::BeforeStart => {}
            Disposition::Duplicate => drop(metrics.duplicates.inc()),
            Disposition::Dropped => drop(metrics.dropped.inc()),
            Disposition::AfterGivenUp if source == TradeSource::Live => {
                metrics.after_given_up.inc();
                let name = self.sequencer.name(id);
                tracing::warn!(%name, seq, "late trade dropped: its sequence number was already given up");
            }
            Disposition::AfterGivenUp => {}
        }
    }

    /// Encodes a trade. One that is published already stays empty, because the sequencer drops it.
    fn encode(
        &mut self,
        id: InstrumentId,
        trade: &Trade<'_>,
        channel: &str,
        source: TradeSource,
    ) -> EncodedTrade {
        let is_new = self.sequencer.is_new(id, trade.trade_seq);
        let value = if is_new {
            self.deps.encoder.encode(trade, &mut self.scratch);
            self.scratch.as_slice()
        } else {
            &[]
        };
        let spans = (source == TradeSource::Live && is_new && self.deps.sampler.take())
            .then(|| Box::new(start_trace(channel, &trade.instrument_name)));
        EncodedTrade { value: value.into(), received_at: trade.received_at, spans }
    }

    /// Sends bytes to the dead-letter topic that have no number, so that nothing waits for them.
    pub(super) fn dead_letter_unparsable(&mut self, channel: &str, why: String, bytes: &[u8]) {
        self.deps.feed.parse_errors.inc();
        tracing::warn!(channel, why, "cannot parse data from the exchange");
        self.records.push(OutboundRecord::DeadLetter(DeadLetter::new(channel, why, bytes)));
    }
}

/// Starts the trace of one trade: from the socket to Kafka's acknowledgement.
fn start_trace(channel: &str, instrument: &str) -> TradeSpans {
    let received = trace::root("websocket receive", SpanKind::Consumer);
    trace::tag(&received, "deribit.channel", channel.to_owned());
    trace::tag(&received, "deribit.instrument", instrument.to_owned());
    TradeSpans::new(received)
}
