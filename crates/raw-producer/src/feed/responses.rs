//! Processes responses of the exchange.

use std::collections::HashSet;
use std::time::Instant;

use serde_json::value::RawValue;

use super::{FeedHandler, Phase, RequestKind};
use crate::backfill::BackfillRequest;
use crate::clock::{ExchangeClock, ExchangeTime};
use crate::deribit::history::{self, ListedInstrument, TradePage};
use crate::deribit::message::{ParsedTrade, RpcError, RpcErrorClass};
use crate::sequencer::{InstrumentId, TradeSource};

/// Summary of a page whose trades were accepted.
pub(super) struct AcceptedPage {
    pub(super) seqs: Vec<i64>,
    pub(super) newest: Option<ExchangeTime>,
}

impl FeedHandler {
    /// `received_at` is our clock in microseconds.
    pub(super) fn on_response(
        &mut self,
        id: u64,
        outcome: Result<&RawValue, RpcError>,
        received_at: i64,
        now: Instant,
    ) {
        let Some(kind) = self.requests.on_response(id) else { return };
        let result = match outcome {
            Ok(result) => result,
            Err(error) => return self.on_rejected(&kind, &error, now),
        };
        let page = || history::page(result, received_at);
        let parsed = match &kind {
            RequestKind::Clock => history::time(result).map(|time| self.on_clock(time, now)),
            RequestKind::Gap(id) => page().map(|page| self.on_gap_page(*id, page, now)),
            RequestKind::Backfill(BackfillRequest::Listing) => {
                history::instruments(result).map(|listed| self.on_listing(listed))
            }
            RequestKind::Backfill(BackfillRequest::Page { backfill, scope }) => {
                page().map(|page| self.on_history_page(*backfill, *scope, page, now))
            }
            RequestKind::Backfill(BackfillRequest::Instrument(name)) => {
                page().map(|page| self.on_instrument_page(name, page, now))
            }
        };
        if let Err(error) = parsed {
            self.dead_letter_unparsable("history", error.to_string(), result.get().as_bytes());
            self.on_request_failed(&kind, now);
        }
    }

    fn on_rejected(&mut self, kind: &RequestKind, error: &RpcError, now: Instant) {
        self.deps.metrics.requests_failed.inc();
        let class = error.class();
        if class == RpcErrorClass::Maintenance {
            self.on_maintenance(now);
        }
        // Whatever the reason, fewer requests help.
        self.requests.pause(now);
        if class != RpcErrorClass::Misconfigured {
            tracing::warn!(%error, request = ?kind, "request rejected by the exchange; will retry");
            // The clock is requested every second in any case.
            if *kind != RequestKind::Clock {
                self.on_request_failed(kind, now);
            }
            return;
        }
        tracing::error!(%error, request = ?kind, "request rejected by the exchange");
        match kind {
            // The exchange does not know the instrument any more; a retry changes nothing.
            RequestKind::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.on_gap_response(*id, &[], clock.now(now));
                }
            }
            RequestKind::Backfill(BackfillRequest::Instrument(name)) => {
                self.instrument_backfill.give_up(name);
            }
            // A rejection is no answer: this part of history must not count as read.
            RequestKind::Backfill(BackfillRequest::Page { .. } | BackfillRequest::Listing) => {
                self.on_request_failed(kind, now);
            }
            RequestKind::Clock => {}
        }
    }

    /// The request must be sent again.
    pub(super) fn on_request_failed(&mut self, kind: &RequestKind, now: Instant) {
        match kind {
            RequestKind::Clock => self.clock_requested_at = None,
            RequestKind::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.on_gap_request_failed(*id, clock.now(now));
                }
            }
            RequestKind::Backfill(BackfillRequest::Listing) => self.instrument_backfill.on_listing_failed(),
            RequestKind::Backfill(BackfillRequest::Instrument(name)) => {
                self.instrument_backfill.on_page_failed(name);
            }
            RequestKind::Backfill(BackfillRequest::Page { backfill, scope }) => {
                if let Some(running) = self.running_time_backfill(*backfill) {
                    running.on_request_failed(*scope);
                }
            }
        }
    }

    /// Accepts the trades of a page.
    pub(super) fn accept_page(
        &mut self,
        page: TradePage<'_>,
        source: TradeSource,
        now: Instant,
    ) -> AcceptedPage {
        let mut accepted = AcceptedPage { seqs: Vec::with_capacity(page.trades.len()), newest: None };
        for trade in page.trades {
            match trade {
                ParsedTrade::Readable(trade) => {
                    accepted.seqs.push(trade.trade_seq);
                    accepted.newest = accepted.newest.max(Some(trade.timestamp));
                    self.on_trade("history", &trade, source, now);
                }
                ParsedTrade::Unreadable { key, text, why } => {
                    accepted.seqs.extend(key.as_ref().map(|key| key.trade_seq));
                    self.on_unreadable_in_history(key, text, why, source, now);
                }
            }
        }
        accepted
    }

    fn on_gap_page(&mut self, id: InstrumentId, page: TradePage<'_>, now: Instant) {
        let accepted = self.accept_page(page, TradeSource::GapRequest, now);
        if let Some(clock) = self.clock {
            self.sequencer.on_gap_response(id, &accepted.seqs, clock.now(now));
        }
    }

    fn on_clock(&mut self, time: ExchangeTime, now: Instant) {
        self.clock = Some(ExchangeClock::new(time, now));
        self.publish_watermarks(time);
    }
    fn on_listing(&mut self, listed: Vec<ListedInstrument>) {
        let known: HashSet<String> =
            self.sequencer.last_published().map(|(name, ..)| name.to_string()).collect();
        let unknown = listed.into_iter().filter(|listed| !known.contains(&listed.instrument_name));
        self.instrument_backfill.on_listing(unknown.collect());
    }

    fn on_instrument_page(&mut self, name: &str, page: TradePage<'_>, now: Instant) {
        let has_more = page.has_more;
        let accepted = self.accept_page(page, TradeSource::History, now);
        let last = accepted.seqs.into_iter().max();
        self.instrument_backfill.on_page(name, last, accepted.newest, has_more);
        if let (Phase::BackfillByInstrument, Some(clock)) = (self.phase, self.clock) {
            let until = self.instrument_backfill.until();
            self.sequencer.move_gate(until, until, clock.now(now));
        }
    }
}
