//! What waits, partition by partition: held, found to be missing, released in order of time.

use std::collections::BTreeSet;

use super::{
    Buffer, Disposition, Gap, IncomingTrade, InstrumentId, InstrumentState, Millis, OPEN, Sequencer,
    TradeSource,
};

/// Of one partition.
#[derive(Debug, Default)]
pub(super) struct PartitionState {
    /// Instruments of which something waits.
    pub(super) waiting: BTreeSet<u32>,
    /// Those of them that have a gap.
    pub(super) gaps: BTreeSet<u32>,
    /// Whether a gap holds all of it back.
    pub(super) holding: bool,
}

impl<T> Sequencer<T> {
    /// Puts a trade with those that wait, if there is room.
    pub(super) fn hold(&mut self, id: u32, arrival: IncomingTrade<T>, source: TradeSource) -> Disposition {
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return Disposition::Dropped };
        let (seen, read_through) = ((arrival.seq, arrival.timestamp), self.read_through);
        let wait = instrument.wait.get_or_insert_with(|| Box::new(Buffer::new(seen, read_through)));
        wait.saw(arrival.seq, arrival.timestamp);
        let partition = self.partitions.get_mut(instrument.partition as usize);
        let has_gap = partition.is_some_and(|partition| {
            partition.waiting.insert(id);
            partition.gaps.contains(&id)
        });
        let full = match source {
            // While history is read, the stream must not take the room that history needs.
            TradeSource::Live if self.gate != OPEN => self.held >= self.limits.max_buffered / 2,
            // What was read makes room by itself as the reading goes on, and is read once only. Whoever reads sees to it that it is not
            // too much; what stays behind a gap would stay for long.
            TradeSource::History if self.gate != OPEN && !has_gap => false,
            _ => self.held >= self.limits.max_buffered,
        };
        let unknown = instrument.next.is_none();
        if unknown && source == TradeSource::History && wait.base.is_none_or(|(seq, _)| arrival.seq < seq) {
            wait.base = Some((arrival.seq, arrival.timestamp));
        }
        // The one that everything waits for always fits: with it, others leave.
        if full && instrument.next != Some(arrival.seq) {
            if wait.trades.contains_key(&arrival.seq) {
                return Disposition::Duplicate;
            }
            wait.dropped(arrival.seq, arrival.timestamp);
            let newest = self.dropped.entry(id).or_insert(arrival.timestamp);
            *newest = arrival.timestamp.max(*newest);
            return Disposition::Dropped;
        }
        match wait.trades.entry(arrival.seq) {
            std::collections::btree_map::Entry::Occupied(_) => Disposition::Duplicate,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(arrival);
                self.held += 1;
                Disposition::Held
            }
        }
    }

    /// After something has changed for an instrument: is something missing, and what can go?
    pub(super) fn settle(&mut self, id: u32, now: Millis) {
        let Some(partition) = self.instruments.get(id as usize).map(|found| found.partition as usize) else {
            return;
        };
        let was_holding = self.partitions.get(partition).is_some_and(|found| found.holding);
        self.find_gap(id, now);
        let holding = self.hold_on(partition, now);
        if holding {
            return;
        }
        if was_holding {
            self.release(partition, now);
        } else if self.gate == OPEN {
            self.release_these(partition, vec![id], now);
        }
    }

    /// Lets go what of the partition's can go, unless a gap holds it.
    pub(super) fn release(&mut self, partition: usize, now: Millis) {
        if self.hold_on(partition, now) {
            return;
        }
        let waiting: Vec<u32> =
            self.partitions.get(partition).map(|p| p.waiting.iter().copied().collect()).unwrap_or_default();
        self.release_these(partition, waiting, now);
    }

    /// In order of time, and of each instrument in order of its numbers.
    fn release_these(&mut self, partition: usize, ids: Vec<u32>, now: Millis) {
        let mut ready = Vec::new();
        let bound = ids.iter().filter_map(|id| self.gap_behind(*id, now)).min().unwrap_or(OPEN);
        for id in &ids {
            self.take_ready(*id, (now, bound), &mut ready);
        }
        self.held -= ready.len();
        ready.sort_by_key(|(time, ..)| *time);
        for (_, id, arrival) in ready {
            if let Some(instrument) = self.instruments.get_mut(id as usize) {
                instrument.publish(InstrumentId(id), arrival, &mut self.out);
            }
        }
        for id in ids {
            let Some(instrument) = self.instruments.get_mut(id as usize) else { continue };
            let done = instrument.wait.as_ref().is_none_or(|wait| {
                wait.trades.is_empty() && instrument.next.is_some_and(|next| wait.horizon.0 < next)
            });
            if done {
                instrument.wait = None;
                self.dropped.remove(&id);
                if let Some(partition) = self.partitions.get_mut(partition) {
                    partition.waiting.remove(&id);
                    partition.gaps.remove(&id);
                }
            } else {
                self.find_gap(id, now);
            }
        }
        self.hold_on(partition, now);
    }

    /// If there is another gap behind the trades that come next, and it is to hold the partition too: the time of the last one before it. No
    /// trade of another instrument may overtake that.
    fn gap_behind(&self, id: u32, now: Millis) -> Option<Millis> {
        let instrument = self.instruments.get(id as usize)?;
        let (mut next, mut time, wait) = (instrument.next?, instrument.timestamp, instrument.wait.as_ref()?);
        let old = wait.gap.as_ref().is_some_and(|gap| now - gap.since >= self.limits.hold_max);
        for arrival in
            wait.trades.values().take_while(|arrival| arrival.timestamp < self.gate || arrival.dead_lettered)
        {
            if arrival.seq != next {
                return (!old).then_some(time);
            }
            next += 1;
            time = time.max(arrival.effective(now));
        }
        // What comes next is known to exist, and was dropped for lack of room.
        let witnessed = wait.first_known_after_gap(Some(next)).is_some_and(|(_, at)| at < self.gate);
        (witnessed && !old).then_some(time)
    }

    /// Takes the trades that come next out of those that wait, up to the gate and no later than `bound`.
    fn take_ready(
        &mut self,
        id: u32,
        (now, bound): (Millis, Millis),
        ready: &mut Vec<(Millis, u32, IncomingTrade<T>)>,
    ) {
        let gate = self.gate;
        let Some(InstrumentState { next: Some(next), wait: Some(wait), .. }) =
            self.instruments.get_mut(id as usize)
        else {
            return;
        };
        let mut time = Millis::MIN;
        while let Some(entry) = wait.trades.first_entry() {
            let arrival = entry.get();
            let effective = arrival.effective(now);
            let passes =
                arrival.seq == *next && (effective < gate || arrival.dead_lettered) && effective <= bound;
            if !passes {
                break;
            }
            time = time.max(effective);
            *next += 1;
            ready.push((time, id, entry.remove()));
        }
    }

    /// Notes whether the instrument's next trade is missing, though history has been read up to behind it.
    pub(super) fn find_gap(&mut self, id: u32, now: Millis) {
        let gate = self.gate;
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return };
        let Some(wait) = instrument.wait.as_mut() else { return };
        let Some(partition) = self.partitions.get_mut(instrument.partition as usize) else { return };
        let first_known_after_gap = wait.first_known_after_gap(instrument.next);
        if first_known_after_gap.is_some_and(|(_, time)| time < gate) {
            wait.gap.get_or_insert_with(|| Gap::new(now, now));
            partition.gaps.insert(id);
        } else {
            // What was learned stays: the gap behind a filled one holds its partition no longer than the first would have.
            partition.gaps.remove(&id);
        }
    }

    /// Whether a gap that is young enough holds the partition.
    fn hold_on(&mut self, partition: usize, now: Millis) -> bool {
        let Some(found) = self.partitions.get(partition) else { return false };
        let young = |id: &u32| {
            let gap = self.wait_of(*id).and_then(|wait| wait.gap.as_ref());
            gap.is_some_and(|gap| now - gap.since < self.limits.hold_max)
        };
        let holding = found.gaps.iter().any(young);
        if let Some(found) = self.partitions.get_mut(partition) {
            found.holding = holding;
        }
        holding
    }

    /// The instrument's trades begin with that number.
    pub(super) fn begin_at(&mut self, id: u32, first: i64, now: Millis) {
        self.set_next(id, first);
        self.settle(id, now);
    }

    /// Those that wait and come before it are not the topic's.
    pub(super) fn set_next(&mut self, id: u32, next: i64) {
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return };
        instrument.next = Some(next);
        if let Some(wait) = instrument.wait.as_mut() {
            let kept = wait.trades.split_off(&next);
            self.held -= wait.trades.len();
            wait.trades = kept;
            wait.gap = None;
        }
    }

    /// An instrument's first trade that no scan ever shows is the first that there is.
    pub(super) fn give_up_first_trades(&mut self, partition: usize, now: Millis) {
        let ids: Vec<u32> =
            self.partitions.get(partition).map(|p| p.gaps.iter().copied().collect()).unwrap_or_default();
        for id in ids {
            let nothing_yet = self.instruments.get(id as usize).is_some_and(|found| found.next.is_none());
            let Some(wait) = self.wait_of(id).filter(|_| nothing_yet) else { continue };
            let over = wait.gap.as_ref().is_some_and(|gap| now - gap.since >= self.limits.patience);
            if over {
                let first = wait.lowest.0;
                self.set_next(id, first);
                self.find_gap(id, now);
                if let Some(found) = self.partitions.get_mut(partition) {
                    found.holding = true;
                }
            }
        }
    }
}
