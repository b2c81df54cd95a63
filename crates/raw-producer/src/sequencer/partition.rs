//! Held trades of a partition: which are held, which gaps hold them, and what is released in order of time.

use std::collections::BTreeSet;
use std::collections::btree_map::Entry;
use std::ops::{Index, IndexMut, Range};

use super::buffer::Buffer;
use super::gap::Gap;
use super::{
    Disposition, GATE_OPEN, IncomingTrade, InstrumentId, InstrumentState, KnownTrade, Sequencer, TradeSource,
};
use crate::clock::ExchangeTime;

#[derive(Debug, Default)]
pub(super) struct PartitionState {
    /// Instruments with a buffer.
    pub(super) waiting: BTreeSet<InstrumentId>,
    /// Those of them with a gap.
    pub(super) gaps: BTreeSet<InstrumentId>,
    /// Whether a gap holds the whole partition.
    pub(super) holding: bool,
}

/// The partitions of the topic, at least one.
#[derive(Debug)]
pub(super) struct Partitions {
    states: Vec<PartitionState>,
    count: u32,
}

impl Partitions {
    pub(super) fn new(count: u32) -> Self {
        let count = count.max(1);
        Self { states: (0..count).map(|_| PartitionState::default()).collect(), count }
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    pub(super) fn indices(&self) -> Range<u32> {
        0..self.count
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &PartitionState> {
        self.states.iter()
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "partitions are numbered below `count`, by `partition_of` and by callers"
)]
impl Index<u32> for Partitions {
    type Output = PartitionState;

    fn index(&self, partition: u32) -> &PartitionState {
        &self.states[partition as usize]
    }
}

#[expect(
    clippy::indexing_slicing,
    reason = "partitions are numbered below `count`, by `partition_of` and by callers"
)]
impl IndexMut<u32> for Partitions {
    fn index_mut(&mut self, partition: u32) -> &mut PartitionState {
        &mut self.states[partition as usize]
    }
}

/// A trade that is about to be published, and the time that orders it.
struct ReadyTrade<T> {
    time: ExchangeTime,
    id: InstrumentId,
    trade: IncomingTrade<T>,
}

impl<T> Sequencer<T> {
    /// Adds a trade to its buffer, if there is room.
    pub(super) fn hold(
        &mut self,
        id: InstrumentId,
        trade: IncomingTrade<T>,
        source: TradeSource,
    ) -> Disposition {
        let instrument = &mut self.instruments[id];
        let seen = KnownTrade { seq: trade.seq, timestamp: trade.timestamp };
        let buffer = instrument.buffer.get_or_insert_with(|| Box::new(Buffer::new(seen, self.read_through)));
        buffer.saw(seen);
        let partition = &mut self.partitions[instrument.partition];
        partition.waiting.insert(id);
        let full = match source {
            // While history is read, the stream must not use the room that history needs.
            TradeSource::Live if self.gate != GATE_OPEN => self.held >= self.limits.max_buffered / 2,
            // History is read once, and reading on makes room. The reader bounds how much that is. Behind a gap it would stay for long.
            TradeSource::History if self.gate != GATE_OPEN && !partition.gaps.contains(&id) => false,
            _ => self.held >= self.limits.max_buffered,
        };
        let is_first = buffer.lowest_in_history.is_none_or(|first| seen.seq < first.seq);
        if instrument.next.is_none() && source == TradeSource::History && is_first {
            buffer.lowest_in_history = Some(seen);
        }
        // The next trade always fits: it releases others.
        if full && instrument.next != Some(seen.seq) {
            if buffer.trades.contains_key(&seen.seq) {
                return Disposition::Duplicate;
            }
            buffer.note_dropped(seen);
            let newest = self.dropped.entry(id).or_insert(seen.timestamp);
            *newest = seen.timestamp.max(*newest);
            return Disposition::Dropped;
        }
        match buffer.trades.entry(seen.seq) {
            Entry::Occupied(_) => Disposition::Duplicate,
            Entry::Vacant(place) => {
                place.insert(trade);
                self.held += 1;
                Disposition::Held
            }
        }
    }

    /// Updates gap and hold after a change to an instrument, and releases what can go.
    pub(super) fn settle(&mut self, id: InstrumentId, now: ExchangeTime) {
        let partition = self.instruments[id].partition;
        let was_holding = self.partitions[partition].holding;
        self.update_gap(id, now);
        if self.update_hold(partition, now) {
            return;
        }
        if was_holding {
            self.release(partition, now);
        } else if self.gate == GATE_OPEN {
            self.release_instruments(partition, vec![id], now);
        }
    }

    /// Releases all trades of the partition that can go, unless a gap holds it.
    pub(super) fn release(&mut self, partition: u32, now: ExchangeTime) {
        if self.update_hold(partition, now) {
            return;
        }
        let waiting = self.partitions[partition].waiting.iter().copied().collect();
        self.release_instruments(partition, waiting, now);
    }

    /// Releases in order of time, and each instrument in order of its numbers.
    fn release_instruments(&mut self, partition: u32, ids: Vec<InstrumentId>, now: ExchangeTime) {
        let mut ready = Vec::new();
        let bound = ids.iter().filter_map(|id| self.time_before_next_gap(*id, now)).min();
        for id in &ids {
            self.take_ready(*id, now, bound.unwrap_or(GATE_OPEN), &mut ready);
        }
        self.held -= ready.len();
        ready.sort_by_key(|ready| ready.time);
        for ReadyTrade { id, trade, .. } in ready {
            self.instruments[id].publish(id, trade, &mut self.released);
        }
        for id in ids {
            let instrument = &mut self.instruments[id];
            let done = instrument.buffer.as_ref().is_none_or(|buffer| {
                buffer.trades.is_empty() && instrument.next.is_some_and(|next| buffer.highest.seq < next)
            });
            if done {
                instrument.buffer = None;
                self.dropped.remove(&id);
                let partition = &mut self.partitions[partition];
                partition.waiting.remove(&id);
                partition.gaps.remove(&id);
            } else {
                self.update_gap(id, now);
            }
        }
        self.update_hold(partition, now);
    }

    /// The time of the last trade before the instrument's next gap, if that gap is to hold the partition too. No trade of another
    /// instrument may be published before the gap is known.
    fn time_before_next_gap(&self, id: InstrumentId, now: ExchangeTime) -> Option<ExchangeTime> {
        let instrument = &self.instruments[id];
        let (mut next, mut time, buffer) =
            (instrument.next?, instrument.timestamp, instrument.buffer.as_ref()?);
        let held_long_enough = buffer.gap.as_ref().is_some_and(|gap| now - gap.since >= self.limits.hold_max);
        let before_gate = |trade: &&IncomingTrade<T>| trade.timestamp < self.gate || trade.unpublishable;
        for trade in buffer.trades.values().take_while(before_gate) {
            if trade.seq != next {
                return (!held_long_enough).then_some(time);
            }
            next += 1;
            time = time.max(trade.effective_time(now));
        }
        // The next trade may be known to exist although it was dropped.
        let missing =
            buffer.first_known_after_gap(Some(next)).is_some_and(|known| known.timestamp < self.gate);
        (missing && !held_long_enough).then_some(time)
    }

    /// Takes the instrument's next trades out of its buffer, those before the gate and not after `bound`.
    fn take_ready(
        &mut self,
        id: InstrumentId,
        now: ExchangeTime,
        bound: ExchangeTime,
        ready: &mut Vec<ReadyTrade<T>>,
    ) {
        let gate = self.gate;
        let InstrumentState { next: Some(next), buffer: Some(buffer), .. } = &mut self.instruments[id] else {
            return;
        };
        let mut time = ExchangeTime::MIN;
        while let Some(entry) = buffer.trades.first_entry() {
            let trade = entry.get();
            let effective = trade.effective_time(now);
            let passes =
                trade.seq == *next && (effective < gate || trade.unpublishable) && effective <= bound;
            if !passes {
                break;
            }
            time = time.max(effective);
            *next += 1;
            ready.push(ReadyTrade { time, id, trade: entry.remove() });
        }
    }

    /// Opens a gap if the instrument's next trade is missing although history was read past it; otherwise closes it.
    pub(super) fn update_gap(&mut self, id: InstrumentId, now: ExchangeTime) {
        let instrument = &mut self.instruments[id];
        let Some(buffer) = instrument.buffer.as_mut() else { return };
        let partition = &mut self.partitions[instrument.partition];
        let known = buffer.first_known_after_gap(instrument.next);
        if known.is_some_and(|known| known.timestamp < self.gate) {
            buffer.gap.get_or_insert_with(|| Gap::new(now));
            partition.gaps.insert(id);
        } else {
            // `buffer.gap` stays: a gap behind a filled one holds the partition no longer than the first one would have.
            partition.gaps.remove(&id);
        }
    }

    /// Whether a gap younger than `hold_max` holds the partition.
    fn update_hold(&mut self, partition: u32, now: ExchangeTime) -> bool {
        let young = |id: &InstrumentId| {
            let gap = self.instruments[*id].buffer.as_ref().and_then(|buffer| buffer.gap.as_ref());
            gap.is_some_and(|gap| now - gap.since < self.limits.hold_max)
        };
        let holding = self.partitions[partition].gaps.iter().any(young);
        self.partitions[partition].holding = holding;
        holding
    }

    /// The instrument's trades start with that number.
    pub(super) fn start_at(&mut self, id: InstrumentId, first: i64, now: ExchangeTime) {
        self.set_next(id, first);
        self.settle(id, now);
    }

    /// Held trades with lower numbers do not belong to the topic and are dropped.
    pub(super) fn set_next(&mut self, id: InstrumentId, next: i64) {
        let instrument = &mut self.instruments[id];
        instrument.next = Some(next);
        if let Some(buffer) = instrument.buffer.as_mut() {
            let kept = buffer.trades.split_off(&next);
            self.held -= buffer.trades.len();
            buffer.trades = kept;
            buffer.gap = None;
        }
    }

    /// Starts an instrument at its lowest known number if history has not shown its first trade for `give_up_after`.
    pub(super) fn give_up_first_trades(&mut self, partition: u32, now: ExchangeTime) {
        for id in self.partitions[partition].gaps.iter().copied().collect::<Vec<_>>() {
            let instrument = &self.instruments[id];
            let Some(buffer) = instrument.buffer.as_ref().filter(|_| instrument.next.is_none()) else {
                continue;
            };
            let over = buffer.gap.as_ref().is_some_and(|gap| now - gap.since >= self.limits.give_up_after);
            if over {
                let first = buffer.lowest.seq;
                self.set_next(id, first);
                self.update_gap(id, now);
                self.partitions[partition].holding = true;
            }
        }
    }
}
