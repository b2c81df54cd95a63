//! Every trade once and in order, whatever arrives: a state machine without I/O or clock.
//!
//! In go trades as they come, from the stream and from history; answers about gaps; and time, which is the exchange's clock in
//! milliseconds. Released come trades to publish, in the order in which they are to be published, gaps to ask about, and gaps given up.
//!
//! An instrument's trades are numbered without gaps, and its `next` is the number to be published next. A lower one is a duplicate;
//! that one is published; a higher one waits. What waits, waits for one of three things: a *gap* to be filled or given up, which holds
//! its whole partition for a while, so that event time does not run ahead of it; the *gate*, while history is being read: trades at
//! or after it are left until the reading has come so far; or, for an instrument of which nothing was ever published, its first trade.

mod confirmed_holes;
mod expiry;
mod gap;
mod partition;
pub(crate) mod partitioner;
pub(crate) mod start_from;
mod types;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

pub(crate) use confirmed_holes::Holes;
use gap::{Buffer, Gap, GapStatus};
use partition::PartitionState;
pub(crate) use types::{
    Disposition, GapRequest, IncomingTrade, InstrumentId, LastPublished, Limits, Millis, OPEN, Released,
    TradeSource,
};

use crate::sequencer::partitioner::partition_of;

#[derive(Debug)]
struct InstrumentState<T> {
    name: Arc<str>,
    partition: u32,
    /// `None`: nothing was ever published.
    next: Option<i64>,
    timestamp: Millis,
    holes: Option<Box<Holes>>,
    wait: Option<Box<Buffer<T>>>,
}

/// The sequences of all instruments.
#[derive(Debug)]
pub(crate) struct Sequencer<T> {
    limits: Limits,
    /// Trades before it do not belong to the topic.
    start: Millis,
    instruments: Vec<InstrumentState<T>>,
    ids: HashMap<Arc<str>, u32, RandomState>,
    partitions: Vec<PartitionState>,
    gate: Millis,
    /// History has been read up to then, all of it.
    read_through: Millis,
    held: usize,
    /// Instruments of which trades were dropped for lack of room, with the time of the newest one.
    dropped: BTreeMap<u32, Millis>,
    out: Vec<Released<T>>,
}

impl<T> Sequencer<T> {
    /// A sequencer for a topic of so many partitions; its gate is open.
    pub(crate) fn new(partitions: u32, limits: Limits) -> Self {
        Self {
            limits,
            start: Millis::MIN,
            instruments: Vec::new(),
            ids: HashMap::default(),
            partitions: (0..partitions.max(1)).map(|_| PartitionState::default()).collect(),
            gate: OPEN,
            read_through: Millis::MIN,
            held: 0,
            dropped: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Where the topic starts; to be told before anything arrives.
    pub(crate) fn begin(&mut self, start: Millis) {
        self.start = start;
    }

    /// The instrument of that name, which need not be known before.
    pub(crate) fn id(&mut self, name: &str) -> InstrumentId {
        if let Some(id) = self.ids.get(name) {
            return InstrumentId(*id);
        }
        let id = u32::try_from(self.instruments.len()).unwrap_or(u32::MAX);
        let partition = partition_of(name.as_bytes(), u32::try_from(self.partitions.len()).unwrap_or(1));
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), id);
        self.instruments.push(InstrumentState {
            name,
            partition,
            next: None,
            timestamp: 0,
            holes: None,
            wait: None,
        });
        InstrumentId(id)
    }

    /// Whether that number is yet to be published; if not, there is no need to look at the trade any further than [`Self::take`] does.
    pub(crate) fn is_new(&self, id: InstrumentId, seq: i64) -> bool {
        let found = self.instruments.get(id.0 as usize);
        found.and_then(|found| found.next).is_none_or(|next| seq >= next)
    }

    /// What was published before; to be told before anything arrives.
    pub(crate) fn restore(&mut self, name: &str, known: &LastPublished) {
        let InstrumentId(id) = self.id(name);
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return };
        instrument.next = Some(known.last + 1);
        instrument.timestamp = known.timestamp;
        instrument.holes = (!known.holes.is_empty()).then(|| Box::new(known.holes.clone()));
    }

    /// The instrument's name.
    pub(crate) fn name(&self, id: InstrumentId) -> Arc<str> {
        self.instruments.get(id.0 as usize).map_or_else(|| Arc::from(""), |found| found.name.clone())
    }

    /// The instrument's partition.
    pub(crate) fn partition(&self, id: InstrumentId) -> u32 {
        self.instruments.get(id.0 as usize).map_or(0, |found| found.partition)
    }

    /// The time of the instrument's last published trade; 0 if there is none.
    pub(crate) fn timestamp(&self, id: InstrumentId) -> Millis {
        self.instruments.get(id.0 as usize).map_or(0, |found| found.timestamp)
    }

    /// What was given up of the instrument.
    pub(crate) fn holes(&self, id: InstrumentId) -> Holes {
        let found = self.instruments.get(id.0 as usize).and_then(|found| found.holes.as_deref());
        found.cloned().unwrap_or_default()
    }

    /// The last number of each instrument that has one.
    pub(crate) fn lasts(&self) -> impl Iterator<Item = (&Arc<str>, i64, Millis)> {
        self.instruments.iter().filter_map(|i| Some((&i.name, i.next? - 1, i.timestamp)))
    }

    /// Instruments that expired before that time and wait for nothing.
    pub(crate) fn expired(&self, before: Millis) -> Vec<InstrumentId> {
        let ids = (0_u32..).zip(&self.instruments);
        let gone = ids.filter(|(_, i)| {
            i.wait.is_none() && i.next.is_some() && expiry::of_name(&i.name).is_some_and(|at| at < before)
        });
        gone.map(|(id, _)| InstrumentId(id)).collect()
    }

    /// Forgets an instrument; should it come back, it is a new one.
    pub(crate) fn forget(&mut self, id: InstrumentId) {
        if let Some(instrument) = self.instruments.get_mut(id.0 as usize) {
            self.ids.remove(&instrument.name);
            *instrument = InstrumentState {
                name: "".into(),
                partition: 0,
                next: None,
                timestamp: 0,
                holes: None,
                wait: None,
            };
        }
    }

    /// What has come out since it was last asked, in order.
    pub(crate) fn publish_released(&mut self) -> Vec<Released<T>> {
        std::mem::take(&mut self.out)
    }

    /// Trades that wait.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Instruments of which trades newer than that were dropped for lack of room and are still to be had; the others need not be known of any more.
    pub(crate) fn dropped_after(&mut self, time: Millis) -> usize {
        self.dropped.retain(|_, newest| *newest > time);
        self.dropped.len()
    }

    /// Lets go of every trade that waits, to have it again from history. What was learned about gaps stays, and so does the knowledge of
    /// what there is.
    pub(crate) fn drop_buffered(&mut self) {
        for wait in self.instruments.iter_mut().filter_map(|instrument| instrument.wait.as_mut()) {
            wait.drop_buffered();
        }
        self.held = 0;
        self.dropped.clear();
    }

    /// Whether a gap holds a partition back.
    pub(crate) fn is_blocked(&self) -> bool {
        self.partitions.iter().any(|partition| partition.holding)
    }

    /// Gaps that are being asked about, and instruments whose first trade is not known yet.
    pub(crate) fn gaps(&self) -> usize {
        self.partitions.iter().map(|partition| partition.gaps.len()).sum()
    }

    /// Whether nothing of the partition's is missing.
    pub(crate) fn has_no_gaps(&self, partition: u32) -> bool {
        self.partitions.get(partition as usize).is_some_and(|found| found.gaps.is_empty())
    }

    /// No trade that waits or is known to be missing is older: what is known of it goes with the process, so history is to be read from
    /// there by the next one. That is not when its gap was found: history may be hours old.
    pub(crate) fn oldest_buffered(&self) -> Option<Millis> {
        self.instruments.iter().filter_map(|found| found.oldest_buffered(self.start, self.gate)).min()
    }

    /// The same of instruments whose first trade is not known: no question by number finds that, only history read from before it.
    pub(crate) fn oldest_without_start(&self) -> Option<Millis> {
        let gapped = self.gapped().filter_map(|id| self.instruments.get(id as usize));
        let unknown = gapped.filter(|found| found.next.is_none());
        unknown.filter_map(|found| found.oldest_buffered(self.start, self.gate)).min()
    }

    /// Whether instruments wait for a scan of history to show their first trade.
    pub(crate) fn needs_history(&self) -> bool {
        self.gapped().any(|id| self.instruments.get(id as usize).is_some_and(|found| found.next.is_none()))
    }

    /// Whether a trade of that time is so far ahead of the exchange's clock that it is to be dead-lettered: it would close every window.
    pub(crate) fn is_ahead(&self, timestamp: Millis, now: Millis) -> bool {
        timestamp > now + self.limits.max_ahead
    }

    /// Takes a trade in.
    pub(crate) fn take(
        &mut self,
        InstrumentId(id): InstrumentId,
        arrival: IncomingTrade<T>,
        (source, now): (TradeSource, Millis),
    ) -> Disposition {
        let start = self.start;
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return Disposition::Dropped };
        let before_start = arrival.timestamp < start && !arrival.dead_lettered;
        if before_start && instrument.next.is_none_or(|next| next <= arrival.seq) {
            self.begin_at(id, arrival.seq.saturating_add(1), now);
        } else if instrument.next.is_none() && arrival.seq <= 1 {
            self.begin_at(id, arrival.seq, now);
        }
        let gate = self.gate;
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return Disposition::Dropped };
        let holding = self.partitions.get(instrument.partition as usize).is_some_and(|found| found.holding);
        match instrument.next {
            Some(next) if arrival.seq < next => {
                let given_up = instrument.holes.as_ref().is_some_and(|holes| holes.contains(arrival.seq));
                if given_up {
                    return Disposition::TooLate;
                }
                return if before_start { Disposition::BeforeStart } else { Disposition::Duplicate };
            }
            Some(next) if arrival.seq == next && gate == OPEN && !holding && instrument.wait.is_none() => {
                instrument.next = Some(next + 1);
                instrument.publish(InstrumentId(id), arrival, &mut self.out);
                return Disposition::Published;
            }
            _ => {}
        }
        let verdict = self.hold(id, arrival, source);
        self.settle(id, now);
        verdict
    }

    /// History has been read up to `scanned` (not included); trades from `gate` on wait, [`OPEN`] for none.
    pub(crate) fn advance(&mut self, scanned: Millis, gate: Millis, now: Millis) {
        self.gate = gate;
        for partition in 0..self.partitions.len() {
            let waiting: Vec<u32> = self
                .partitions
                .get(partition)
                .map(|p| p.waiting.iter().copied().collect())
                .unwrap_or_default();
            for id in &waiting {
                // Were an older one known from the stream, history would lag, and might lack others too.
                let base = self
                    .wait_of(*id)
                    .and_then(|wait| Some((wait.base?, wait.lowest.0)))
                    .filter(|((seq, at), lowest)| *at < scanned && seq <= lowest)
                    .map(|(base, _)| base);
                if let (Some((seq, _)), Some(None)) =
                    (base, self.instruments.get(*id as usize).map(|i| i.next))
                {
                    self.set_next(*id, seq);
                }
                self.find_gap(*id, now);
            }
            self.release(partition, now);
        }
    }

    /// Time passes: holds end.
    pub(crate) fn tick(&mut self, now: Millis) {
        for partition in 0..self.partitions.len() {
            self.give_up_first_trades(partition, now);
            if self.partitions.get(partition).is_some_and(|found| found.holding) {
                self.release(partition, now);
            }
        }
    }

    /// All history up to that time has been taken in: what turns out to be missing from now on is newer.
    pub(crate) fn has_read(&mut self, through: Millis) {
        self.read_through = self.read_through.max(through);
    }

    /// What to ask history now; each question is to be [`Self::answered`] or [`Self::failed`].
    pub(crate) fn questions(&mut self, most: usize, now: Millis) -> Vec<GapRequest> {
        let ids: Vec<u32> = self.gapped().collect();
        let mut questions = Vec::new();
        for id in ids {
            if questions.len() >= most {
                break;
            }
            let Some(instrument) = self.instruments.get_mut(id as usize) else { continue };
            let (Some(next), Some(wait)) = (instrument.next, instrument.wait.as_mut()) else { continue };
            let Some((seq, timestamp)) = wait.first_known_after_gap(Some(next)) else { continue };
            let Some(by_time) = wait.gap.as_mut().and_then(|gap| gap.ask(next, now)) else { continue };
            let times = (instrument.timestamp.min(timestamp), timestamp);
            questions.push(GapRequest { id: InstrumentId(id), by_time, seqs: (next, seq), times });
        }
        questions
    }

    /// The question about that instrument was not answered.
    pub(crate) fn failed(&mut self, id: InstrumentId, now: Millis) {
        let wait = self.instruments.get_mut(id.0 as usize).and_then(|found| found.wait.as_mut());
        if let Some(gap) = wait.and_then(|wait| wait.gap.as_mut()) {
            gap.failed(now);
        }
    }

    /// The question was answered with trades of these numbers, which have been taken already.
    pub(crate) fn answered(&mut self, id: InstrumentId, seqs: &[i64], now: Millis) {
        let limits = self.limits;
        let Some(instrument) = self.instruments.get_mut(id.0 as usize) else { return };
        let (Some(next), Some(wait)) = (instrument.next, instrument.wait.as_mut()) else { return };
        let first_known_after_gap = wait.first_known_after_gap(Some(next));
        let Some(gap) = wait.gap.as_mut() else { return };
        let Some((first_known_after_gap, _)) = first_known_after_gap.filter(|_| !seqs.contains(&next)) else {
            // It did not fit in, or is held: nothing was learned about it.
            return gap.failed(now);
        };
        let later = seqs.iter().copied().filter(|seq| *seq > next).min();
        let (hole, last) = match gap.answered(next, later, (now, &limits)) {
            GapStatus::Pending => return,
            GapStatus::ConfirmedHole(last) => (true, last.min(first_known_after_gap - 1).max(next)),
            GapStatus::Unrecoverable => (false, (first_known_after_gap - 1).max(next)),
        };
        instrument.holes.get_or_insert_default().add(next, last);
        instrument.next = Some(last + 1);
        self.out.push(if hole {
            Released::ConfirmedHole(id, next, last)
        } else {
            Released::Lost(id, next, last)
        });
        self.settle(id.0, now);
    }

    fn wait_of(&self, id: u32) -> Option<&Buffer<T>> {
        self.instruments.get(id as usize)?.wait.as_deref()
    }

    fn gapped(&self) -> impl Iterator<Item = u32> {
        self.partitions.iter().flat_map(|partition| partition.gaps.iter().copied())
    }
}

impl<T> InstrumentState<T> {
    /// No trade of it that waits or is missing is older. A missing one's time is not known; but it comes after what was published last and
    /// after what had been read when the waiting began, and if a reading is still to show it, not before where that has come to.
    fn oldest_buffered(&self, start: Millis, gate: Millis) -> Option<Millis> {
        let wait = self.wait.as_deref()?;
        let missing = wait.first_known_after_gap(self.next).map(|(_, witnessed)| match self.next {
            None => wait.lowest.1.min(gate),
            Some(next) if witnessed < gate || wait.dropped.is_some_and(|(seq, _)| seq < next) => {
                self.timestamp.max(start).max(wait.read_through.saturating_add(1))
            }
            Some(_) => self.timestamp.max(gate),
        });
        wait.oldest().into_iter().chain(missing).min()
    }

    fn publish(&mut self, id: InstrumentId, arrival: IncomingTrade<T>, out: &mut Vec<Released<T>>) {
        if arrival.dead_lettered {
            self.holes.get_or_insert_default().add(arrival.seq, arrival.seq);
            out.push(Released::DeadLettered(id, arrival));
        } else {
            self.timestamp = self.timestamp.max(arrival.timestamp);
            out.push(Released::Publish(id, arrival));
        }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
