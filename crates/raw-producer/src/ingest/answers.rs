//! What becomes of an answer.

use std::time::Instant;

use serde_json::value::RawValue;

use super::{Ingest, Purpose};
use crate::clock::ExchangeClock;
use crate::deribit::history::{self, Page};
use crate::deribit::message::{Readable, Remedy, RpcError};
use crate::sequence::{Id, Millis, Source};

impl Ingest {
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
            Purpose::Time => history::time(result).map(|time| self.time(time, now)),
            Purpose::Listing => history::instruments(result).map(|listed| self.listed(listed)),
            Purpose::Scan(number, part) => {
                history::page(result, received_at).map(|page| self.scan_page((*number, *part), page, now))
            }
            Purpose::Deep(name) => {
                history::page(result, received_at).map(|page| self.deep_page(name, page, now))
            }
            Purpose::Gap(id) => history::page(result, received_at).map(|page| self.gap(*id, page, now)),
        };
        if let Err(error) = read {
            self.unreadable("history", error.to_string(), result.get().as_bytes());
            self.not_answered(&purpose, now);
        }
    }

    /// An error instead of an answer.
    fn refused(&mut self, purpose: &Purpose, error: &RpcError, now: Instant) {
        self.tools.metrics.calls_failed.inc();
        let remedy = error.remedy();
        if remedy == Remedy::Wait {
            self.maintenance(now);
        }
        if remedy != Remedy::Reconfigure {
            // Whatever it is that passes, asking less often helps it.
            self.calls.pause(now);
            tracing::warn!(%error, ?purpose, "the exchange refused a question for now");
            // The time is asked every second, whatever becomes of the last question.
            if *purpose != Purpose::Time {
                self.not_answered(purpose, now);
            }
            return;
        }
        tracing::error!(%error, ?purpose, "the exchange refuses a question");
        self.calls.pause(now);
        match purpose {
            // There is no such instrument any more; asking again changes nothing.
            Purpose::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.answered(*id, &[], clock.now(now));
                }
            }
            Purpose::Deep(name) => self.deep.done(name),
            // A refusal is no answer: what was not read must not pass for read.
            Purpose::Scan(..) | Purpose::Listing => self.not_answered(purpose, now),
            Purpose::Time => {}
        }
    }

    /// It will have to be asked again.
    pub(super) fn not_answered(&mut self, purpose: &Purpose, now: Instant) {
        match purpose {
            Purpose::Time => self.time_asked = None,
            Purpose::Listing => self.deep.failed_listing(),
            Purpose::Deep(name) => self.deep.failed(name),
            Purpose::Scan(number, part) => {
                if let Some(scan) = self.scan_of(*number) {
                    scan.failed(*part);
                }
            }
            Purpose::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.failed(*id, clock.now(now));
                }
            }
        }
    }

    /// Takes a page's trades in: their numbers by instrument do not matter, the newest time does.
    pub(super) fn page(
        &mut self,
        page: Page<'_>,
        (source, now): (Source, Instant),
    ) -> (Vec<i64>, Option<Millis>) {
        let (mut seqs, mut newest) = (Vec::with_capacity(page.trades.len()), None);
        for trade in page.trades {
            match trade {
                Readable::Trade(trade) => {
                    seqs.push(trade.trade_seq);
                    newest = newest.max(Some(trade.timestamp));
                    self.trade("history", &trade, (source, now));
                }
                Readable::No { number, text, why } => {
                    seqs.extend(number.as_ref().map(|(_, seq)| *seq));
                    self.unreadable_history(number, (text, why), (source, now));
                }
            }
        }
        (seqs, newest)
    }

    fn gap(&mut self, id: Id, page: Page<'_>, now: Instant) {
        let (seqs, _) = self.page(page, (Source::Asked, now));
        if let Some(clock) = self.clock {
            self.sequencer.answered(id, &seqs, clock.now(now));
        }
    }

    fn time(&mut self, time: Millis, now: Instant) {
        self.clock = Some(ExchangeClock::new(time, now));
        self.complete_through(time);
    }
}
