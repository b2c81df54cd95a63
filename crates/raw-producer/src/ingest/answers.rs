//! What becomes of an answer.

use std::time::Instant;

use common::Failure;
use serde_json::value::RawValue;

use super::{Ingest, Purpose};
use crate::clock::ExchangeClock;
use crate::deribit::history::{self, Page};
use crate::deribit::message::{Readable, Remedy, RpcError};
use crate::sequence::{Id, Millis, Source};

/// The exchange takes no more questions for a while.
const TOO_MANY: [i64; 3] = [10_028, 10_047, 10_066];

impl Ingest {
    pub(super) fn answer(
        &mut self,
        id: u64,
        outcome: Result<&RawValue, RpcError>,
        (received_at, now): (i64, Instant),
    ) -> Result<(), Failure> {
        let Some(purpose) = self.calls.answered(id) else { return Ok(()) };
        let result = match outcome {
            Ok(result) => result,
            Err(error) => {
                self.refused(&purpose, &error, now);
                return Ok(());
            }
        };
        let read = match &purpose {
            Purpose::Time => history::time(result).map(|time| self.time(time, now)),
            Purpose::Listing => history::instruments(result).map(|listed| self.listed(listed)),
            Purpose::Scan(part) => match history::page(result, received_at) {
                Ok(page) => return self.scanned(*part, page, now),
                Err(error) => Err(error),
            },
            Purpose::Deep(name) => match history::page(result, received_at) {
                Ok(page) => return self.deep_page(name, page, now),
                Err(error) => Err(error),
            },
            Purpose::Gap(id) => match history::page(result, received_at) {
                Ok(page) => return self.gap(*id, page, now),
                Err(error) => Err(error),
            },
        };
        if let Err(error) = read {
            self.unreadable("history", error.to_string(), result.get().as_bytes());
            self.not_answered(&purpose, now);
        }
        Ok(())
    }

    /// An error instead of an answer.
    fn refused(&mut self, purpose: &Purpose, error: &RpcError, now: Instant) {
        self.tools.metrics.calls_failed.inc();
        if TOO_MANY.contains(&error.code) {
            self.calls.too_many(now);
        }
        if error.remedy() == Remedy::Retry {
            tracing::warn!(%error, ?purpose, "the exchange refused a question for now");
            return self.not_answered(purpose, now);
        }
        // Asking again changes nothing: there is no such history.
        tracing::error!(%error, ?purpose, "the exchange refuses a question");
        match purpose {
            Purpose::Gap(id) => {
                if let Some(clock) = self.clock {
                    self.sequencer.answered(*id, &[], clock.now(now));
                }
            }
            Purpose::Scan(part) => {
                if let Some(scan) = self.scan.as_mut() {
                    scan.answered(*part, (0, None), false);
                }
            }
            Purpose::Deep(name) => self.deep.done(name),
            Purpose::Time | Purpose::Listing => self.not_answered(purpose, now),
        }
    }

    /// It will have to be asked again.
    pub(super) fn not_answered(&mut self, purpose: &Purpose, now: Instant) {
        match purpose {
            Purpose::Time => self.time_asked = None,
            Purpose::Listing => self.deep.failed_listing(),
            Purpose::Deep(name) => self.deep.failed(name),
            Purpose::Scan(part) => {
                if let Some(scan) = self.scan.as_mut() {
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
    ) -> Result<(Vec<i64>, Option<Millis>), Failure> {
        let (mut seqs, mut newest) = (Vec::with_capacity(page.trades.len()), None);
        for trade in page.trades {
            match trade {
                Readable::Trade(trade) => {
                    seqs.push(trade.trade_seq);
                    newest = newest.max(Some(trade.timestamp));
                    self.trade("history", &trade, (source, now))?;
                }
                Readable::No { number, text, why } => {
                    seqs.extend(number.as_ref().map(|(_, seq)| *seq));
                    self.unreadable_history(number, (text, why), (source, now));
                }
            }
        }
        Ok((seqs, newest))
    }

    fn gap(&mut self, id: Id, page: Page<'_>, now: Instant) -> Result<(), Failure> {
        let (seqs, _) = self.page(page, (Source::Asked, now))?;
        if let Some(clock) = self.clock {
            self.sequencer.answered(id, &seqs, clock.now(now));
        }
        Ok(())
    }

    fn time(&mut self, time: Millis, now: Instant) {
        self.clock = Some(ExchangeClock::new(time, now));
        self.complete_through(time);
    }
}
