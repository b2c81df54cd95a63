//! What becomes of a frame.

use std::time::Instant;

use common::model::Trade;
use common::telemetry::trace::{self, Kind};

use super::{FeedHandler, Phase, TradePayload};
use crate::clock::Millis;
use crate::deribit::message::{Frame, ParsedTrade, TradeBundle, parse};
use crate::publish::{DeadLetter, EncodedTrade, OutboundRecord, TradeSpans};
use crate::sequencer::{Disposition, IncomingTrade, InstrumentId, TradeSource};

impl FeedHandler {
    pub(super) fn frame(&mut self, connection: usize, text: &str, (received_at, now): (i64, Instant)) {
        match parse(text, received_at) {
            Ok(Frame::Trades(bundle)) => {
                if let Some(line) = self.lines.get_mut(&connection) {
                    line.heard_at = now;
                }
                self.bundle(bundle, now);
            }
            Ok(Frame::Maintenance) => self.maintenance(now),
            Ok(Frame::Response { id: Some(id), outcome }) => self.answer(id, outcome, (received_at, now)),
            Ok(_) => {}
            Err(error) => self.unreadable("", error.to_string(), text.as_bytes()),
        }
    }

    fn bundle(&mut self, bundle: TradeBundle<'_>, now: Instant) {
        // Before anything is known of the exchange's clock, history will have it all.
        if self.clock.is_none() || self.phase == Phase::Disconnected {
            return;
        }
        self.tools.feed.received(&bundle.channel, bundle.trades.len());
        for trade in bundle.trades {
            match trade {
                ParsedTrade::Trade(trade) => self.trade(&bundle.channel, &trade, (TradeSource::Live, now)),
                // Its number is missing now, and history is asked for it.
                ParsedTrade::No { text, why, .. } => self.unreadable(&bundle.channel, why, text.as_bytes()),
            }
        }
    }

    /// Takes a trade in, unless it is an old one.
    pub(super) fn trade(&mut self, channel: &str, trade: &Trade<'_>, (source, now): (TradeSource, Instant)) {
        let Some(clock) = self.clock.map(|clock| clock.now(now)) else { return };
        let dead_lettered = self.sequencer.is_too_far_ahead(trade.timestamp, clock);
        let id = self.sequencer.id(&trade.instrument_name);
        let body = if dead_lettered {
            let text = serde_json::to_vec(trade).unwrap_or_default();
            let why = format!("{} ms ahead of the exchange's clock", trade.timestamp - clock);
            TradePayload::Unusable(DeadLetter::new(channel, why, &text))
        } else {
            TradePayload::Trade(self.body(id, trade, (channel, source)))
        };
        let arrival = IncomingTrade {
            seq: trade.trade_seq,
            timestamp: trade.timestamp,
            unpublishable: dead_lettered,
            payload: body,
        };
        self.arrival(id, arrival, (source, clock));
    }

    /// A trade of history that cannot be read; if its number can, then that is all that is ever known of it.
    pub(super) fn unreadable_history(
        &mut self,
        number: Option<(String, i64)>,
        (text, why): (&str, String),
        (source, now): (TradeSource, Instant),
    ) {
        let Some((name, seq)) = number else { return self.unreadable("history", why, text.as_bytes()) };
        let Some(clock) = self.clock.map(|clock| clock.now(now)) else { return };
        let id = self.sequencer.id(&name);
        if self.sequencer.is_new(id, seq) {
            let body = TradePayload::Unusable(DeadLetter::new("history", why, text.as_bytes()));
            // Its time is not known; it holds nothing up.
            let arrival =
                IncomingTrade { seq, timestamp: self.last_scan_until, unpublishable: true, payload: body };
            self.arrival(id, arrival, (source, clock));
        }
    }

    fn arrival(
        &mut self,
        id: InstrumentId,
        arrival: IncomingTrade<TradePayload>,
        (source, clock): (TradeSource, Millis),
    ) {
        let seq = arrival.seq;
        let metrics = &self.tools.metrics;
        match self.sequencer.accept(id, arrival, source, clock) {
            Disposition::Published | Disposition::Held => match source {
                TradeSource::Live => {}
                TradeSource::GapRequest => drop(metrics.backfilled.inc()),
                TradeSource::History => {
                    metrics.backfilled.inc();
                    self.found_by_scan += 1;
                }
            },
            // A scan reads again what the stream has brought; that says nothing.
            Disposition::Duplicate if source != TradeSource::Live => {}
            Disposition::BeforeStart => {}
            Disposition::Duplicate => drop(metrics.duplicates.inc()),
            Disposition::Dropped => drop(metrics.dropped.inc()),
            Disposition::AfterGivenUp if source == TradeSource::Live => {
                metrics.after_given_up.inc();
                let name = self.sequencer.name(id);
                tracing::warn!(%name, seq, "a trade turned up after its number had been given up");
            }
            Disposition::AfterGivenUp => {}
        }
    }

    fn body(
        &mut self,
        id: InstrumentId,
        trade: &Trade<'_>,
        (channel, source): (&str, TradeSource),
    ) -> EncodedTrade {
        let encoded = if self.sequencer.is_new(id, trade.trade_seq) {
            self.tools.encoder.encode(trade, &mut self.scratch);
            self.scratch.as_slice()
        } else {
            &[]
        };
        let traced = (source == TradeSource::Live && !encoded.is_empty() && self.tools.sampler.take())
            .then(|| Box::new(begin_trace(channel, &trade.instrument_name)));
        EncodedTrade { value: encoded.into(), received_at: trade.received_at, traced }
    }

    /// Something that cannot be used at all.
    pub(super) fn unreadable(&mut self, channel: &str, why: String, bytes: &[u8]) {
        self.tools.feed.parse_errors.inc();
        tracing::warn!(channel, why, "cannot read what the exchange sent");
        self.items.push(OutboundRecord::DeadLetter(DeadLetter::new(channel, why, bytes)));
    }
}

/// The trace of one trade: from the socket until Kafka has it, and below it the writing to Kafka.
fn begin_trace(channel: &str, instrument: &str) -> TradeSpans {
    let received = trace::root("websocket receive", Kind::Consumer);
    trace::tag(&received, "deribit.channel", channel.to_owned());
    trace::tag(&received, "deribit.instrument", instrument.to_owned());
    TradeSpans::new(received)
}
