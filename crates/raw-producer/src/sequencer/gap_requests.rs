//! Requests for missing trades, and what their answers change.

use super::gap::GapStatus;
use super::{GapRequest, InstrumentId, Released, Sequencer};
use crate::clock::ExchangeTime;

impl<T> Sequencer<T> {
    /// The gaps to request now, at most `limit`. The caller reports each outcome by [`Self::on_gap_response`] or
    /// [`Self::on_gap_request_failed`].
    pub(crate) fn gap_requests(&mut self, limit: usize, now: ExchangeTime) -> Vec<GapRequest> {
        let gapped: Vec<_> = self.gapped().collect();
        gapped.into_iter().filter_map(|id| self.gap_request(id, now)).take(limit).collect()
    }

    fn gap_request(&mut self, id: InstrumentId, now: ExchangeTime) -> Option<GapRequest> {
        let instrument = &mut self.instruments[id];
        let (next, buffer) = (instrument.next?, instrument.buffer.as_mut()?);
        let known = buffer.first_known_after_gap(Some(next))?;
        let by = buffer.gap.as_mut()?.request(next, now)?;
        let times = instrument.timestamp.min(known.timestamp)..=known.timestamp;
        Some(GapRequest { id, by, seqs: next..=known.seq, times })
    }

    /// The request was not answered, or it was rejected for now.
    pub(crate) fn on_gap_request_failed(&mut self, id: InstrumentId, now: ExchangeTime) {
        let buffer = self.instruments[id].buffer.as_mut();
        if let Some(gap) = buffer.and_then(|buffer| buffer.gap.as_mut()) {
            gap.on_request_failed(now);
        }
    }

    /// The answer contained trades with these numbers. The caller has passed them to [`Self::accept`] before.
    pub(crate) fn on_gap_response(&mut self, id: InstrumentId, seqs: &[i64], now: ExchangeTime) {
        let instrument = &mut self.instruments[id];
        let (Some(next), Some(buffer)) = (instrument.next, instrument.buffer.as_mut()) else { return };
        let known = buffer.first_known_after_gap(Some(next));
        let Some(gap) = buffer.gap.as_mut() else { return };
        let Some(known) = known.filter(|_| !seqs.contains(&next)) else {
            // The trade is held, or was dropped for lack of room: the answer says nothing about the gap.
            return gap.on_request_failed(now);
        };
        let later = seqs.iter().copied().filter(|seq| *seq > next).min();
        let (confirmed, last) = match gap.on_response(next, later, now, &self.limits) {
            GapStatus::Pending => return,
            GapStatus::ConfirmedHole(last) => (true, last.min(known.seq - 1).max(next)),
            GapStatus::Unrecoverable => (false, (known.seq - 1).max(next)),
        };
        instrument.holes.get_or_insert_default().add(next, last);
        instrument.next = Some(last + 1);
        let seqs = next..=last;
        self.released.push(match confirmed {
            true => Released::ConfirmedHole(id, seqs),
            false => Released::Lost(id, seqs),
        });
        self.settle(id, now);
    }
}
