//! Puts the trades of each instrument in order: a state machine without I/O and without a clock.
//!
//! Inputs are trades from the stream and from history, answers about gaps, and the exchange's time in milliseconds. Outputs are trades
//! in the order of publication, gaps to request, and gaps that were given up.
//!
//! An instrument's trades are numbered without gaps. `next` is the number to be published next. A lower number is a duplicate, that
//! number is published, a higher number is held. A held trade waits for one of:
//! - a *gap* to be filled or given up. A gap blocks its partition for at most `hold_max`. Without this, stream time would advance and the
//!   filled trades would be late.
//! - the *gate* to move past it. While history is read, trades at or after the gate are held until the reading has come that far.
//! - the *first trade* of its instrument, if nothing of the instrument was ever published.

mod buffer;
mod confirmed_holes;
mod expiry;
mod gap;
mod gap_requests;
mod instruments;
mod partition;
pub(crate) mod partitioner;
pub(crate) mod start_from;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use confirmed_holes::Holes;
use instruments::{InstrumentState, Instruments};
use partition::Partitions;
use types::KnownTrade;
pub(crate) use types::{
    Disposition, GATE_OPEN, GapRequest, IncomingTrade, InstrumentId, LastPublished, Limits, Released,
    SearchBy, TradeSource,
};

use crate::clock::ExchangeTime;

/// The sequences of all instruments.
#[derive(Debug)]
pub(crate) struct Sequencer<T> {
    limits: Limits,
    /// Older trades do not belong to the topic.
    start: ExchangeTime,
    instruments: Instruments<T>,
    partitions: Partitions,
    gate: ExchangeTime,
    /// All history up to this time was read.
    read_through: ExchangeTime,
    held: usize,
    /// Instruments with dropped trades, and the timestamp of the newest one.
    dropped: BTreeMap<InstrumentId, ExchangeTime>,
    released: Vec<Released<T>>,
}

impl<T> Sequencer<T> {
    /// A sequencer for a topic with this many partitions. Its gate is open.
    pub(crate) fn new(partitions: u32, limits: Limits) -> Self {
        Self {
            limits,
            start: ExchangeTime::MIN,
            instruments: Instruments::default(),
            partitions: Partitions::new(partitions),
            gate: GATE_OPEN,
            read_through: ExchangeTime::MIN,
            held: 0,
            dropped: BTreeMap::new(),
            released: Vec::new(),
        }
    }

    /// Sets the topic's start. Call it before any trade arrives.
    pub(crate) fn set_start(&mut self, start: ExchangeTime) {
        self.start = start;
    }

    /// Restores what was published by earlier processes. Call it before any trade arrives.
    pub(crate) fn restore(&mut self, name: &str, last: &LastPublished) {
        let id = self.id(name);
        let instrument = &mut self.instruments[id];
        instrument.next = Some(last.seq + 1);
        instrument.timestamp = last.timestamp;
        instrument.holes = (!last.holes.is_empty()).then(|| Box::new(last.holes.clone()));
    }

    /// The id of the instrument; an unknown name becomes a new instrument.
    pub(crate) fn id(&mut self, name: &str) -> InstrumentId {
        self.instruments.id(name, self.partitions.count())
    }

    pub(crate) fn name(&self, id: InstrumentId) -> Arc<str> {
        self.instruments[id].name.clone()
    }

    pub(crate) fn partition(&self, id: InstrumentId) -> u32 {
        self.instruments[id].partition
    }

    /// The highest timestamp of the instrument's published trades; 0 if there is none.
    pub(crate) fn timestamp(&self, id: InstrumentId) -> ExchangeTime {
        self.instruments[id].timestamp
    }

    pub(crate) fn holes(&self, id: InstrumentId) -> Holes {
        self.instruments[id].holes.as_deref().cloned().unwrap_or_default()
    }

    /// Whether that number is still to be published. If not, only [`Self::accept`] needs the trade, and only to classify it.
    pub(crate) fn is_new(&self, id: InstrumentId, seq: i64) -> bool {
        self.instruments[id].next.is_none_or(|next| seq >= next)
    }

    /// Name, last published number and timestamp of each instrument that has one.
    pub(crate) fn last_published(&self) -> impl Iterator<Item = (&Arc<str>, i64, ExchangeTime)> {
        self.instruments.iter().filter_map(|(_, found)| Some((&found.name, found.next? - 1, found.timestamp)))
    }

    /// Instruments that expired before that time and of which nothing is held or missing.
    pub(crate) fn expired(&self, before: ExchangeTime) -> Vec<InstrumentId> {
        let expired = |found: &InstrumentState<T>| {
            found.buffer.is_none()
                && found.next.is_some()
                && expiry::of_name(&found.name).is_some_and(|at| at < before)
        };
        self.instruments.iter().filter(|(_, found)| expired(found)).map(|(id, _)| id).collect()
    }

    /// Removes an instrument. If its name comes again, that is a new instrument.
    pub(crate) fn remove(&mut self, id: InstrumentId) {
        self.instruments.remove(id);
    }

    /// Takes the outputs since the last call, in order.
    pub(crate) fn take_released(&mut self) -> Vec<Released<T>> {
        std::mem::take(&mut self.released)
    }

    /// Number of held trades.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Number of instruments with dropped trades newer than that time. Instruments with older ones are no longer counted.
    pub(crate) fn dropped_after(&mut self, time: ExchangeTime) -> usize {
        self.dropped.retain(|_, newest| *newest > time);
        self.dropped.len()
    }

    /// Drops every held trade; a backfill must bring them again. Knowledge about gaps and about which trades exist is kept.
    pub(crate) fn drop_buffered(&mut self) {
        for buffer in self.instruments.iter_mut().filter_map(|found| found.buffer.as_mut()) {
            buffer.drop_buffered();
        }
        self.held = 0;
        self.dropped.clear();
    }

    /// Whether a gap holds any partition.
    pub(crate) fn is_holding(&self) -> bool {
        self.partitions.iter().any(|partition| partition.holding)
    }

    /// Number of open gaps, including instruments whose first trade is not known yet.
    pub(crate) fn gaps(&self) -> usize {
        self.partitions.iter().map(|partition| partition.gaps.len()).sum()
    }

    pub(crate) fn has_no_gaps(&self, partition: u32) -> bool {
        self.partitions[partition].gaps.is_empty()
    }

    /// No trade that is held or known to be missing is older. Another process does not know of these trades, so it must read history from
    /// here. This is not the time at which a gap was found: history may be hours old.
    pub(crate) fn oldest_unpublished(&self) -> Option<ExchangeTime> {
        self.instruments.iter().filter_map(|(_, found)| found.oldest_unpublished(self.start, self.gate)).min()
    }

    /// As [`Self::oldest_unpublished`], of instruments whose first trade is unknown: no request by number finds that trade.
    pub(crate) fn oldest_without_first_trade(&self) -> Option<ExchangeTime> {
        let unknown = self.without_first_trade();
        unknown.filter_map(|found| found.oldest_unpublished(self.start, self.gate)).min()
    }

    /// Whether only a reading of history can show the first trade of some instrument.
    pub(crate) fn needs_history(&self) -> bool {
        self.without_first_trade().next().is_some()
    }

    fn without_first_trade(&self) -> impl Iterator<Item = &InstrumentState<T>> {
        self.gapped().map(|id| &self.instruments[id]).filter(|found| found.next.is_none())
    }

    fn gapped(&self) -> impl Iterator<Item = InstrumentId> {
        self.partitions.iter().flat_map(|partition| partition.gaps.iter().copied())
    }

    /// Whether a trade is so far ahead of the exchange's clock that publishing it would close every window.
    pub(crate) fn is_too_far_ahead(&self, timestamp: ExchangeTime, now: ExchangeTime) -> bool {
        timestamp > now + self.limits.max_ahead
    }

    /// Publishes a trade, holds it, or drops it.
    pub(crate) fn accept(
        &mut self,
        id: InstrumentId,
        trade: IncomingTrade<T>,
        source: TradeSource,
        now: ExchangeTime,
    ) -> Disposition {
        let next = self.instruments[id].next;
        let before_start = trade.timestamp < self.start && !trade.unpublishable;
        if before_start && next.is_none_or(|next| next <= trade.seq) {
            self.start_at(id, trade.seq.saturating_add(1), now);
        } else if next.is_none() && trade.seq <= 1 {
            self.start_at(id, trade.seq, now);
        }
        let instrument = &mut self.instruments[id];
        let holding = self.partitions[instrument.partition].holding;
        match instrument.next {
            Some(next) if trade.seq < next => {
                let given_up = instrument.holes.as_ref().is_some_and(|holes| holes.contains(trade.seq));
                return match (given_up, before_start) {
                    (true, _) => Disposition::AfterGivenUp,
                    (false, true) => Disposition::BeforeStart,
                    (false, false) => Disposition::Duplicate,
                };
            }
            Some(next)
                if trade.seq == next && self.gate == GATE_OPEN && !holding && instrument.buffer.is_none() =>
            {
                instrument.next = Some(next + 1);
                instrument.publish(id, trade, &mut self.released);
                return Disposition::Published;
            }
            _ => {}
        }
        let disposition = self.hold(id, trade, source);
        self.settle(id, now);
        disposition
    }

    /// Moves the gate: history was read up to `read_to`, which is excluded. Trades from `gate` on are held; [`GATE_OPEN`] holds none.
    pub(crate) fn move_gate(&mut self, read_to: ExchangeTime, gate: ExchangeTime, now: ExchangeTime) {
        self.gate = gate;
        for partition in self.partitions.indices() {
            for id in self.partitions[partition].waiting.iter().copied().collect::<Vec<_>>() {
                let instrument = &self.instruments[id];
                // If the stream has shown an older trade, history lags there. Then it may lack others too.
                let first = instrument.buffer.as_ref().and_then(|buffer| {
                    let first = buffer.lowest_in_history?;
                    (first.timestamp < read_to && first.seq <= buffer.lowest.seq).then_some(first.seq)
                });
                if let (Some(first), None) = (first, instrument.next) {
                    self.set_next(id, first);
                }
                self.update_gap(id, now);
            }
            self.release(partition, now);
        }
    }

    /// Time passes: partitions are held no longer than `hold_max`, and first trades are given up.
    pub(crate) fn tick(&mut self, now: ExchangeTime) {
        for partition in self.partitions.indices() {
            self.give_up_first_trades(partition, now);
            if self.partitions[partition].holding {
                self.release(partition, now);
            }
        }
    }

    /// All history up to that time was accepted: trades that turn out to be missing from now on are newer.
    pub(crate) fn set_read_through(&mut self, through: ExchangeTime) {
        self.read_through = self.read_through.max(through);
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
