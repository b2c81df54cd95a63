//! Every trade once and in order, whatever arrives: a state machine without I/O or clock.
//!
//! In go trades as they come, from the stream and from history; answers about gaps; and time, which is the exchange's clock in
//! milliseconds. Out come trades to publish, in the order in which they are to be published, gaps to ask about, and gaps given up.
//!
//! An instrument's trades are numbered without gaps, and its `next` is the number to be published next. A lower one is a duplicate;
//! that one is published; a higher one waits. What waits, waits for one of three things: a *gap* to be filled or given up, which holds
//! its whole partition for a while, so that event time does not run ahead of it; the *gate*, while history is being read: trades at
//! or after it are left until the reading has come so far; or, for an instrument of which nothing was ever published, its first trade.

mod expiry;
mod holes;
mod partition;
mod types;
mod wait;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

pub use holes::Holes;
use partition::Partition;
pub use types::{Arrival, Id, Known, Limits, Millis, OPEN, Out, Question, Source, Verdict};
use wait::{Finding, Gap, Wait};

use crate::partitioner::partition_of;

#[derive(Debug)]
struct Instrument<T> {
    name: Arc<str>,
    partition: u32,
    /// `None`: nothing was ever published.
    next: Option<i64>,
    timestamp: Millis,
    holes: Option<Box<Holes>>,
    wait: Option<Box<Wait<T>>>,
}

/// The sequences of all instruments.
#[derive(Debug)]
pub struct Sequencer<T> {
    limits: Limits,
    /// Trades before it do not belong to the topic.
    start: Millis,
    instruments: Vec<Instrument<T>>,
    ids: HashMap<Arc<str>, u32, RandomState>,
    partitions: Vec<Partition>,
    gate: Millis,
    /// History has been read up to then, all of it.
    read_through: Millis,
    held: usize,
    /// Instruments of which trades were dropped for lack of room, with the time of the newest one.
    dropped: BTreeMap<u32, Millis>,
    out: Vec<Out<T>>,
}

impl<T> Sequencer<T> {
    /// A sequencer for a topic of so many partitions; its gate is open.
    #[must_use]
    pub fn new(partitions: u32, limits: Limits) -> Self {
        Self {
            limits,
            start: Millis::MIN,
            instruments: Vec::new(),
            ids: HashMap::default(),
            partitions: (0..partitions.max(1)).map(|_| Partition::default()).collect(),
            gate: OPEN,
            read_through: Millis::MIN,
            held: 0,
            dropped: BTreeMap::new(),
            out: Vec::new(),
        }
    }

    /// Where the topic starts; to be told before anything arrives.
    pub fn begin(&mut self, start: Millis) {
        self.start = start;
    }

    /// The instrument of that name, which need not be known before.
    pub fn id(&mut self, name: &str) -> Id {
        if let Some(id) = self.ids.get(name) {
            return Id(*id);
        }
        let id = u32::try_from(self.instruments.len()).unwrap_or(u32::MAX);
        let partition = partition_of(name.as_bytes(), u32::try_from(self.partitions.len()).unwrap_or(1));
        let name: Arc<str> = name.into();
        self.ids.insert(name.clone(), id);
        self.instruments.push(Instrument {
            name,
            partition,
            next: None,
            timestamp: 0,
            holes: None,
            wait: None,
        });
        Id(id)
    }

    /// Whether that number is yet to be published; if not, there is no need to look at the trade any further than [`Self::take`] does.
    #[must_use]
    pub fn is_new(&self, id: Id, seq: i64) -> bool {
        let found = self.instruments.get(id.0 as usize);
        found.and_then(|found| found.next).is_none_or(|next| seq >= next)
    }

    /// What was published before; to be told before anything arrives.
    pub fn remember(&mut self, name: &str, known: &Known) {
        let Id(id) = self.id(name);
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return };
        instrument.next = Some(known.last + 1);
        instrument.timestamp = known.timestamp;
        instrument.holes = (!known.holes.is_empty()).then(|| Box::new(known.holes.clone()));
    }

    /// The instrument's name.
    #[must_use]
    pub fn name(&self, id: Id) -> Arc<str> {
        self.instruments.get(id.0 as usize).map_or_else(|| Arc::from(""), |found| found.name.clone())
    }

    /// The instrument's partition.
    #[must_use]
    pub fn partition(&self, id: Id) -> u32 {
        self.instruments.get(id.0 as usize).map_or(0, |found| found.partition)
    }

    /// The time of the instrument's last published trade; 0 if there is none.
    #[must_use]
    pub fn timestamp(&self, id: Id) -> Millis {
        self.instruments.get(id.0 as usize).map_or(0, |found| found.timestamp)
    }

    /// What was given up of the instrument.
    #[must_use]
    pub fn holes(&self, id: Id) -> Holes {
        let found = self.instruments.get(id.0 as usize).and_then(|found| found.holes.as_deref());
        found.cloned().unwrap_or_default()
    }

    /// The last number of each instrument that has one.
    pub fn lasts(&self) -> impl Iterator<Item = (&Arc<str>, i64, Millis)> {
        self.instruments.iter().filter_map(|i| Some((&i.name, i.next? - 1, i.timestamp)))
    }

    /// Instruments that expired before that time and wait for nothing.
    #[must_use]
    pub fn expired(&self, before: Millis) -> Vec<Id> {
        let ids = (0_u32..).zip(&self.instruments);
        let gone = ids.filter(|(_, i)| {
            i.wait.is_none() && i.next.is_some() && expiry::of_name(&i.name).is_some_and(|at| at < before)
        });
        gone.map(|(id, _)| Id(id)).collect()
    }

    /// Forgets an instrument; should it come back, it is a new one.
    pub fn forget(&mut self, id: Id) {
        if let Some(instrument) = self.instruments.get_mut(id.0 as usize) {
            self.ids.remove(&instrument.name);
            *instrument = Instrument {
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
    pub fn put_out(&mut self) -> Vec<Out<T>> {
        std::mem::take(&mut self.out)
    }

    /// Trades that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }

    /// Instruments of which trades newer than that were dropped for lack of room and are still to be had; the others need not be known of any more.
    pub fn dropped_after(&mut self, time: Millis) -> usize {
        self.dropped.retain(|_, newest| *newest > time);
        self.dropped.len()
    }

    /// Lets go of every trade that waits, to have it again from history. What was learned about gaps stays, and so does the knowledge of
    /// what there is.
    pub fn let_go(&mut self) {
        for wait in self.instruments.iter_mut().filter_map(|instrument| instrument.wait.as_mut()) {
            wait.let_go();
        }
        self.held = 0;
        self.dropped.clear();
    }

    /// Whether a gap holds a partition back.
    #[must_use]
    pub fn is_holding(&self) -> bool {
        self.partitions.iter().any(|partition| partition.holding)
    }

    /// Gaps that are being asked about, and instruments whose first trade is not known yet.
    #[must_use]
    pub fn gaps(&self) -> usize {
        self.partitions.iter().map(|partition| partition.gaps.len()).sum()
    }

    /// Whether nothing of the partition's is missing.
    #[must_use]
    pub fn is_whole(&self, partition: u32) -> bool {
        self.partitions.get(partition as usize).is_some_and(|found| found.gaps.is_empty())
    }

    /// No trade that waits or is known to be missing is older: what is known of it goes with the process, so history is to be read from
    /// there by the next one. That is not when its gap was found: history may be hours old.
    #[must_use]
    pub fn oldest_waiting(&self) -> Option<Millis> {
        self.instruments.iter().filter_map(|found| found.oldest_waiting(self.start, self.gate)).min()
    }

    /// The same of instruments whose first trade is not known: no question by number finds that, only history read from before it.
    #[must_use]
    pub fn oldest_without_first(&self) -> Option<Millis> {
        let gapped = self.gapped().filter_map(|id| self.instruments.get(id as usize));
        let unknown = gapped.filter(|found| found.next.is_none());
        unknown.filter_map(|found| found.oldest_waiting(self.start, self.gate)).min()
    }

    /// Whether instruments wait for a scan of history to show their first trade.
    #[must_use]
    pub fn wants_scan(&self) -> bool {
        self.gapped().any(|id| self.instruments.get(id as usize).is_some_and(|found| found.next.is_none()))
    }

    /// Whether a trade of that time is so far ahead of the exchange's clock that it is to be set aside: it would close every window.
    #[must_use]
    pub fn is_ahead(&self, timestamp: Millis, now: Millis) -> bool {
        timestamp > now + self.limits.max_ahead
    }

    /// Takes a trade in.
    pub fn take(&mut self, Id(id): Id, arrival: Arrival<T>, (source, now): (Source, Millis)) -> Verdict {
        let start = self.start;
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return Verdict::Dropped };
        let before_start = arrival.timestamp < start && !arrival.aside;
        if before_start && instrument.next.is_none_or(|next| next <= arrival.seq) {
            self.begin_at(id, arrival.seq.saturating_add(1), now);
        } else if instrument.next.is_none() && arrival.seq <= 1 {
            self.begin_at(id, arrival.seq, now);
        }
        let gate = self.gate;
        let Some(instrument) = self.instruments.get_mut(id as usize) else { return Verdict::Dropped };
        let holding = self.partitions.get(instrument.partition as usize).is_some_and(|found| found.holding);
        match instrument.next {
            Some(next) if arrival.seq < next => {
                let given_up = instrument.holes.as_ref().is_some_and(|holes| holes.contains(arrival.seq));
                if given_up {
                    return Verdict::TooLate;
                }
                return if before_start { Verdict::BeforeStart } else { Verdict::Duplicate };
            }
            Some(next) if arrival.seq == next && gate == OPEN && !holding && instrument.wait.is_none() => {
                instrument.next = Some(next + 1);
                instrument.publish(Id(id), arrival, &mut self.out);
                return Verdict::Published;
            }
            _ => {}
        }
        let verdict = self.hold(id, arrival, source);
        self.settle(id, now);
        verdict
    }

    /// History has been read up to `scanned` (not included); trades from `gate` on wait, [`OPEN`] for none.
    pub fn advance(&mut self, scanned: Millis, gate: Millis, now: Millis) {
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
    pub fn tick(&mut self, now: Millis) {
        for partition in 0..self.partitions.len() {
            self.give_up_first_trades(partition, now);
            if self.partitions.get(partition).is_some_and(|found| found.holding) {
                self.release(partition, now);
            }
        }
    }

    /// All history up to that time has been taken in: what turns out to be missing from now on is newer.
    pub fn has_read(&mut self, through: Millis) {
        self.read_through = self.read_through.max(through);
    }

    /// What to ask history now; each question is to be [`Self::answered`] or [`Self::failed`].
    pub fn questions(&mut self, most: usize, now: Millis) -> Vec<Question> {
        let ids: Vec<u32> = self.gapped().collect();
        let mut questions = Vec::new();
        for id in ids {
            if questions.len() >= most {
                break;
            }
            let Some(instrument) = self.instruments.get_mut(id as usize) else { continue };
            let (Some(next), Some(wait)) = (instrument.next, instrument.wait.as_mut()) else { continue };
            let Some((seq, timestamp)) = wait.witness(Some(next)) else { continue };
            let Some(by_time) = wait.gap.as_mut().and_then(|gap| gap.ask(next, now)) else { continue };
            let times = (instrument.timestamp.min(timestamp), timestamp);
            questions.push(Question { id: Id(id), by_time, seqs: (next, seq), times });
        }
        questions
    }

    /// The question about that instrument was not answered.
    pub fn failed(&mut self, id: Id, now: Millis) {
        let wait = self.instruments.get_mut(id.0 as usize).and_then(|found| found.wait.as_mut());
        if let Some(gap) = wait.and_then(|wait| wait.gap.as_mut()) {
            gap.failed(now);
        }
    }

    /// The question was answered with trades of these numbers, which have been taken already.
    pub fn answered(&mut self, id: Id, seqs: &[i64], now: Millis) {
        let limits = self.limits;
        let Some(instrument) = self.instruments.get_mut(id.0 as usize) else { return };
        let (Some(next), Some(wait)) = (instrument.next, instrument.wait.as_mut()) else { return };
        let witness = wait.witness(Some(next));
        let Some(gap) = wait.gap.as_mut() else { return };
        let Some((witness, _)) = witness.filter(|_| !seqs.contains(&next)) else {
            // It did not fit in, or is held: nothing was learned about it.
            return gap.failed(now);
        };
        let later = seqs.iter().copied().filter(|seq| *seq > next).min();
        let (hole, last) = match gap.answered(next, later, (now, &limits)) {
            Finding::Unsure => return,
            Finding::Hole(last) => (true, last.min(witness - 1).max(next)),
            Finding::Lost => (false, (witness - 1).max(next)),
        };
        instrument.holes.get_or_insert_default().add(next, last);
        instrument.next = Some(last + 1);
        self.out.push(if hole { Out::Hole(id, next, last) } else { Out::Lost(id, next, last) });
        self.settle(id.0, now);
    }

    fn wait_of(&self, id: u32) -> Option<&Wait<T>> {
        self.instruments.get(id as usize)?.wait.as_deref()
    }

    fn gapped(&self) -> impl Iterator<Item = u32> {
        self.partitions.iter().flat_map(|partition| partition.gaps.iter().copied())
    }
}

impl<T> Instrument<T> {
    /// No trade of it that waits or is missing is older. A missing one's time is not known; but it comes after what was published last and
    /// after what had been read when the waiting began, and if a reading is still to show it, not before where that has come to.
    fn oldest_waiting(&self, start: Millis, gate: Millis) -> Option<Millis> {
        let wait = self.wait.as_deref()?;
        let missing = wait.witness(self.next).map(|(_, witnessed)| match self.next {
            None => wait.lowest.1.min(gate),
            Some(next) if witnessed < gate || wait.dropped.is_some_and(|(seq, _)| seq < next) => {
                self.timestamp.max(start).max(wait.read_through.saturating_add(1))
            }
            Some(_) => self.timestamp.max(gate),
        });
        wait.oldest().into_iter().chain(missing).min()
    }

    fn publish(&mut self, id: Id, arrival: Arrival<T>, out: &mut Vec<Out<T>>) {
        if arrival.aside {
            self.holes.get_or_insert_default().add(arrival.seq, arrival.seq);
            out.push(Out::SetAside(id, arrival));
        } else {
            self.timestamp = self.timestamp.max(arrival.timestamp);
            out.push(Out::Publish(id, arrival));
        }
    }
}

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;
