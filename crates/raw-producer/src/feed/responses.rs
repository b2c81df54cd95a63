//! What becomes of an answer.

use std::time::Instant;

use serde_json::value::RawValue;

use super::{FeedHandler, RequestKind};
use crate::clock::ExchangeClock;
use crate::clock::Millis;
use crate::deribit::history::{self, TradePage};
use crate::deribit::message::{ParsedTrade, RpcError, RpcErrorClass};
use crate::sequencer::{InstrumentId, TradeSource};

impl FeedHandler {
    pub(super) fn answer(
        &mut self,
        id: u64,
        outcome: Result<&RawValue, RpcError>,
        (received_at, now): (i64, Instant),
    ) {
        let Some(purpose) = self.calls.answered(id) else { return };
        let result = match outcome {
            Ok(result) => result,
            Err(error) => return self.refused(&purpose, &error, now),
        };
        let read = match &purpose {
            RequestKind::Time => history::time(result).map(|time| self.time(time, now)),
            RequestKind::Listing => history::instruments(result).map(|listed| self.listed(listed)),
            RequestKind::TimeBackfill(number, part) => {
                history::page(result, received_at).map(|page| self.scan_page((*number, *part), page, now))
            }
            RequestKind::InstrumentBackfill(name) => {
                history::page(result, received_at).map(|page| self.deep_page(name, page, now))
            }
            RequestKind::Gap(id) => history::page(result, received_at).map(|page| self.gap(*id, page, now)),
        };
        if let Err(error) = read {
            self.unreadable("history", error.to_string(), result.get().as_bytes());
            self.not_answered(&purpose, now);
        }
    }

    /// An error instead of an answer.
    fn refused(&mut self, purpose: &RequestKind, error: &RpcError, now: Instant) {
        self.tools.metrics.requests_failed.inc();
        let remedy = error.remedy();
        if remedy == RpcErrorClass::Wait {
            self.maintenance(now);
        }
        if remedy != RpcErrorClass::Reconfigure {
            // Whatever it is that passes, asking less often helps it.
            self.calls.pause(now);
            tracing::warn!(%error, ?purpose, "the exchange refused a question for now");
            // The time is asked every second, whatever becomes of the last question.
            if *purpose != RequestKind::Time {
                self.not_answered(purpose, now);
            }
            return;
        }
        tracing::error!(%error, ?purpose, "the exchange refuses a question");
        self.calls.pause(now);
        match purpose {
            // There is no such instrument any more; asking again changes nothing.
            RequestKind::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.on_gap_response(*id, &[], clock.now(now));
                }
            }
            RequestKind::InstrumentBackfill(name) => self.deep.done(name),
            // A refusal is no answer: what was not read must not pass for read.
            RequestKind::TimeBackfill(..) | RequestKind::Listing => self.not_answered(purpose, now),
            RequestKind::Time => {}
        }
    }

    /// It will have to be asked again.
    pub(super) fn not_answered(&mut self, purpose: &RequestKind, now: Instant) {
        match purpose {
            RequestKind::Time => self.time_asked = None,
            RequestKind::Listing => self.deep.failed_listing(),
            RequestKind::InstrumentBackfill(name) => self.deep.failed(name),
            RequestKind::TimeBackfill(number, part) => {
                if let Some(scan) = self.scan_of(*number) {
                    scan.failed(*part);
                }
            }
            RequestKind::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.on_gap_request_failed(*id, clock.now(now));
                }
            }
        }
    }

    /// Takes a page's trades in: their numbers by instrument do not matter, the newest time does.
    pub(super) fn page(
        &mut self,
        page: TradePage<'_>,
        (source, now): (TradeSource, Instant),
    ) -> (Vec<i64>, Option<Millis>) {
        let (mut seqs, mut newest) = (Vec::with_capacity(page.trades.len()), None);
        for trade in page.trades {
            match trade {
                ParsedTrade::Trade(trade) => {
                    seqs.push(trade.trade_seq);
                    newest = newest.max(Some(trade.timestamp));
                    self.trade("history", &trade, (source, now));
                }
                ParsedTrade::No { number, text, why } => {
                    seqs.extend(number.as_ref().map(|(_, seq)| *seq));
                    self.unreadable_history(number, (text, why), (source, now));
                }
            }
        }
        (seqs, newest)
    }

    fn gap(&mut self, id: InstrumentId, page: TradePage<'_>, now: Instant) {
        let (seqs, _) = self.page(page, (TradeSource::GapRequest, now));
        if let Some(clock) = self.clock {
            self.sequencer.on_gap_response(id, &seqs, clock.now(now));
        }
    }

    fn time(&mut self, time: Millis, now: Instant) {
        self.clock = Some(ExchangeClock::new(time, now));
        self.complete_through(time);
    }
}
