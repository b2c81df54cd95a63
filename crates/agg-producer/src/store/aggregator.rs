//! One partition's state: trades in, closed windows out. No I/O, no clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use common::model::EventTime;
use foldhash::fast::FixedState;

use crate::store::closed_slices::ClosedSlices;
use crate::window::average::Average;
use crate::window::instrument_slices::InstrumentSlices;
use crate::window::slice::{Slice, Tick};
use crate::window::time_windows::{SliceIndex, TimeWindows, Window};
use crate::window::weights::Weights;

/// The offset of a record, or of the next one where a position is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// The part of a trade that averages are made of.
#[derive(Debug, Clone, Copy)]
pub struct Trade<'a> {
    /// The record's place in its partition.
    pub offset: Offset,
    /// What was traded.
    pub instrument: &'a str,
    /// Event time.
    pub timestamp: EventTime,
    /// In the instrument's quote currency.
    pub price: f64,
    /// As the exchange counts it.
    pub amount: f64,
}

/// Where a trade went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Into this slice.
    InTime(SliceIndex),
    /// Nowhere: its slice had closed.
    Late(Late),
}

/// Why a trade is late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// The stream time that it found.
    pub stream_time: EventTime,
    /// The slice that it would have belonged to.
    pub slice: Window,
}

/// Where reading must begin for every slice to be rebuilt that a later window needs and that has no candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayPoint {
    /// The first record to read.
    pub offset: Offset,
    /// Stream time before that record; `None` before the partition's first.
    pub stream_time: Option<EventTime>,
}

/// Where a watermark made a trade late that would not have been late by the trades alone: whoever reads the trades again has to be
/// told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamTimeOverride {
    /// The trade.
    pub offset: Offset,
    /// The stream time that it met.
    pub stream_time: EventTime,
}

/// One instrument's window, closed; borrowed from the state that is about to move on.
#[derive(Debug)]
pub struct Closed<'a> {
    /// What was traded.
    pub instrument: &'a str,
    /// The window.
    pub window: Window,
    /// Its averages.
    pub average: Average,
    /// The slice that closes with it, where it holds a trade.
    pub slice: Option<(Window, &'a Slice)>,
    /// The trace of the first sampled trade of that slice: this is the first window that holds it.
    pub trace: Option<&'a str>,
}

/// The windows of all instruments of one partition.
///
/// Stream time is the highest timestamp seen, or a watermark where that is higher. A slice, and the window that ends with it, is *due* when stream time is `grace`
/// past its end; from then on a trade for it is late. Due windows are closed by [`Self::close_next`], one end at a time,
/// so that what has to be published at once never exceeds one window per instrument.
#[derive(Debug)]
pub struct Aggregator {
    windows: TimeWindows,
    weights: Arc<Weights>,
    stream_time: Option<EventTime>,
    /// What stream time would be for someone who reads again from the replay point, and knows of `jumps` but not of watermarks.
    replayed_time: Option<EventTime>,
    /// By offset; none unless the producer breaks its word.
    jumps: Vec<StreamTimeOverride>,
    /// Those with a slice that some later window needs; in the order of a fixed hash, so that equal input makes equal output.
    instruments: HashMap<Box<str>, InstrumentSlices, FixedState>,
    /// The last slice of the next window that holds a trade.
    next: Option<SliceIndex>,
    /// For every slice of `instruments` that has no candle, where its first trade is to be read.
    sources: BTreeMap<SliceIndex, ReplayPoint>,
    /// Sampled trades are few: they have their own place, so that the others carry nothing for them.
    traces: BTreeMap<SliceIndex, HashMap<Box<str>, String, FixedState>>,
    sealed: ClosedSlices,
}

impl Aggregator {
    /// As many as fit beside an offset. With so many, watermarks are passed over until some are out of date.
    pub const MOST_JUMPS: usize = 64;

    /// No trades yet; `stream_time` where earlier records have set it.
    #[must_use]
    pub fn new(windows: TimeWindows, weights: Arc<Weights>, stream_time: Option<EventTime>) -> Self {
        Self {
            windows,
            weights,
            stream_time,
            replayed_time: stream_time,
            jumps: Vec::new(),
            instruments: HashMap::default(),
            next: None,
            sources: BTreeMap::new(),
            traces: BTreeMap::new(),
            sealed: ClosedSlices::default(),
        }
    }

    /// The same, for trades that are read once more.
    #[must_use]
    pub fn meeting(self, jumps: Vec<StreamTimeOverride>) -> Self {
        Self { jumps, ..self }
    }

    /// The same, where slices have closed before: trades of those that stand in the candles are passed over, and the candles are to be
    /// [put back](Self::put_back).
    #[must_use]
    pub fn beside(self, sealed: ClosedSlices) -> Self {
        Self { sealed, ..self }
    }

    /// Puts a slice back as its candle has it. Tells whether it was not there already.
    pub fn restore_candle(&mut self, instrument: &str, index: SliceIndex, slice: Slice) -> bool {
        let Self { instruments, windows, .. } = self;
        let new = match instruments.get_mut(instrument) {
            Some(slices) => slices.restore_candle(index, slice, windows),
            None => instruments.insert(instrument.into(), InstrumentSlices::of_one(index, slice)).is_none(),
        };
        if new {
            self.sealed.add(index, 1);
            // The windows up to the newest candle's are published.
            let next = self.sealed.through().map_or(index, |through| through.plus(1));
            self.next = Some(self.next.map_or(next, |earlier| earlier.min(next)));
        }
        new
    }

    /// Moves stream time, and adds the trade to its slice unless that has closed.
    ///
    /// The cost does not depend on how many slices make a window.
    pub fn add(&mut self, trade: &Trade<'_>) -> Placement {
        let jump = self.jumps.iter().find(|jump| jump.offset == trade.offset).map(|jump| jump.stream_time);
        let before = self.stream_time.max(jump);
        let stream_time = before.map_or(trade.timestamp, |time| time.max(trade.timestamp));
        self.stream_time = Some(stream_time);
        self.replayed_time = self.replayed_time.max(jump).max(Some(trade.timestamp));
        let index = self.windows.slice_at(trade.timestamp);
        let span = self.windows.slice(index);
        let closes_at = self.windows.closes_at(index);
        if closes_at <= stream_time {
            if self.replayed_time < Some(closes_at) {
                self.jumps.push(StreamTimeOverride { offset: trade.offset, stream_time });
                self.replayed_time = Some(stream_time);
            }
            return Placement::Late(Late { stream_time, slice: span });
        }
        if self.sealed.holds(index) {
            return Placement::InTime(index);
        }
        self.sources.entry(index).or_insert(ReplayPoint { offset: trade.offset, stream_time: before });
        self.next = Some(self.next.map_or(index, |next| next.min(index)));
        let weight = self.weights.of_trade(span.end - trade.timestamp);
        let tick = Tick { price: trade.price, amount: trade.amount, weight };
        if let Some(slices) = self.instruments.get_mut(trade.instrument) {
            slices.add(index, tick, &self.windows);
        } else {
            let slices = InstrumentSlices::of_one(index, Slice::starting_with(tick));
            self.instruments.insert(trade.instrument.into(), slices);
        }
        Placement::InTime(index)
    }

    /// Moves stream time to a watermark, if that is higher. Afterwards windows may be due.
    pub fn watermark(&mut self, time: EventTime) {
        if self.jumps.len() < Self::MOST_JUMPS {
            self.resume_at(time);
        }
    }

    /// Moves stream time to where it was before a restart.
    pub fn resume_at(&mut self, time: EventTime) {
        self.stream_time = self.stream_time.max(Some(time));
    }

    /// Remembers the trace of a sampled trade in `slice` until the average that closes with it, unless an earlier one is there.
    pub fn remember_trace(&mut self, slice: SliceIndex, instrument: &str, trace: String) {
        self.traces.entry(slice).or_default().entry(instrument.into()).or_insert(trace);
    }

    /// The end of the window that [`Self::close_next`] would close.
    #[must_use]
    pub fn due(&self) -> Option<EventTime> {
        self.due_slice().map(|slice| self.windows.slice(slice).end)
    }

    /// Closes the earliest due window that holds a trade, for every instrument that traded in it, and drops what no later one needs.
    ///
    /// The cost goes with the instruments that traded within a window's length, however many were seen before; empty
    /// windows cost nothing, however many there are.
    ///
    /// # Errors
    /// The first one of `emit`, which is not called again then. The state is past the window all the same: it has to be restored.
    pub fn close_next<E>(&mut self, mut emit: impl FnMut(Closed<'_>) -> Result<(), E>) -> Result<(), E> {
        let Some(last) = self.due_slice() else { return Ok(()) };
        let (windows, weights, traces) = (self.windows, Arc::clone(&self.weights), self.traces.remove(&last));
        let (mut outcome, mut candles) = (Ok(()), 0);
        self.pass(last, |name, slices| {
            if outcome.is_ok()
                && let Some(average) = slices.average(last, &windows, &weights)
            {
                let slice = slices.get(last).map(|slice| (windows.slice(last), slice));
                candles += u64::from(slice.is_some());
                outcome = emit(Closed {
                    instrument: name,
                    window: windows.window_with_last(last),
                    average,
                    slice,
                    trace: traces.as_ref().and_then(|traces| traces.get(name)).map(String::as_str),
                });
            }
        });
        self.sealed.add(last, candles);
        self.sealed.forget_before(self.windows.first_of_window(last.plus(1)));
        self.forget_sources();
        outcome
    }

    /// As [`Self::close_next`], of a window that is not to be published, or has been.
    pub fn close_next_silently(&mut self) {
        let Some(last) = self.due_slice() else { return };
        self.traces.remove(&last);
        self.pass(last, |_, _| {});
        self.forget_sources();
    }

    /// Goes past a window: each instrument's slices are seen, and then those dropped that no later window needs.
    fn pass(&mut self, last: SliceIndex, mut see: impl FnMut(&str, &InstrumentSlices)) {
        let needed_from = self.windows.first_of_window(last.plus(1));
        let instruments = &mut self.instruments;
        let mut next = None;
        instruments.retain(|name, slices| {
            see(name, slices);
            let oldest = slices.forget_before(needed_from);
            next = next.into_iter().chain(oldest.map(|oldest| oldest.max(last.plus(1)))).min();
            oldest.is_some()
        });
        if instruments.len() < instruments.capacity() / 8 {
            instruments.shrink_to(instruments.len() * 2);
        }
        self.next = next;
        self.sources = self.sources.split_off(&needed_from);
    }

    /// What stands in the candles need not be read again, nor what only those trades would meet.
    fn forget_sources(&mut self) {
        let sealed = &self.sealed;
        self.sources.retain(|slice, _| !sealed.holds(*slice));
        let replay_from = self.replay_point().map(|point| point.offset);
        self.jumps.retain(|jump| replay_from.is_some_and(|from| from <= jump.offset));
    }

    /// Where the windows lie.
    #[must_use]
    pub const fn windows(&self) -> &TimeWindows {
        &self.windows
    }

    /// The highest timestamp or watermark seen.
    #[must_use]
    pub const fn stream_time(&self) -> Option<EventTime> {
        self.stream_time
    }

    /// The end of the newest window that is closed, and closed here: nothing that ends at or before it will come out again.
    #[must_use]
    pub fn emitted_through(&self) -> Option<EventTime> {
        let newest = self.due_slice().map(|due| due.plus(-1));
        let newest = newest.or_else(|| self.stream_time.map(|time| self.windows.newest_closed(time)));
        newest.map(|slice| self.windows.slice(slice).end)
    }

    /// Where a restart has to read from; `None` if nothing needs to be rebuilt.
    #[must_use]
    pub fn replay_point(&self) -> Option<ReplayPoint> {
        self.sources.values().min_by_key(|point| point.offset).copied()
    }

    /// What a restart has in the candles.
    #[must_use]
    pub const fn sealed(&self) -> &ClosedSlices {
        &self.sealed
    }

    /// What a restart has to be told besides.
    #[must_use]
    pub fn jumps(&self) -> &[StreamTimeOverride] {
        &self.jumps
    }

    /// Instruments that have state.
    #[must_use]
    pub fn instruments(&self) -> usize {
        self.instruments.len()
    }

    /// Slices that have not closed yet, counted once for all instruments.
    #[must_use]
    pub fn open_slices(&self) -> usize {
        let newest_closed = self.stream_time.map(|time| self.windows.newest_closed(time));
        self.sources.keys().rev().take_while(|slice| Some(**slice) > newest_closed).count()
    }

    fn due_slice(&self) -> Option<SliceIndex> {
        self.next.filter(|next| self.stream_time.is_some_and(|time| self.windows.closes_at(*next) <= time))
    }
}
