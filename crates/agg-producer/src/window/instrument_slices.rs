//! One instrument's slices.

use std::collections::VecDeque;

use crate::window::average::Average;
use crate::window::slice::{Slice, Tick};
use crate::window::time_windows::{SliceIndex, TimeWindows};
use crate::window::weights::Weights;

/// Slices that an instrument is given room for at once: a window may have a hundred thousand.
const MOST_ROOM: usize = 64;

/// The slices of one instrument that hold a trade, in time order.
#[derive(Debug)]
pub(crate) struct InstrumentSlices(VecDeque<(SliceIndex, Slice)>);

impl InstrumentSlices {
    pub(crate) fn of_one(index: SliceIndex, slice: Slice) -> Self {
        Self(VecDeque::from([(index, slice)]))
    }

    /// Adds a trade to its slice.
    pub(crate) fn add(&mut self, index: SliceIndex, tick: Tick, windows: &TimeWindows) {
        let behind = self.up_to(index);
        match behind.checked_sub(1).and_then(|at| self.0.get_mut(at)) {
            Some((at, slice)) if *at == index => slice.add(tick),
            _ => self.insert(behind, (index, Slice::starting_with(tick)), windows),
        }
    }

    /// Puts a whole slice in its place. Tells whether there was none.
    pub(crate) fn restore_candle(&mut self, index: SliceIndex, slice: Slice, windows: &TimeWindows) -> bool {
        let new = self.get(index).is_none();
        if new {
            self.insert(self.up_to(index), (index, slice), windows);
        }
        new
    }

    pub(crate) fn get(&self, index: SliceIndex) -> Option<&Slice> {
        let newest = self.up_to(index).checked_sub(1).and_then(|at| self.0.get(at));
        newest.filter(|(at, _)| *at == index).map(|(_, slice)| slice)
    }

    /// The average over the window that ends with `last`; slices in front of that window have been forgotten.
    pub(crate) fn average(
        &self,
        last: SliceIndex,
        windows: &TimeWindows,
        weights: &Weights,
    ) -> Option<Average> {
        let first = windows.first_of_window(last);
        let within = self.0.iter().skip_while(|(at, _)| *at < first).take_while(|(at, _)| *at <= last);
        Average::over(within.map(|(at, slice)| (slice, weights.of_slice(last.distance_from(*at)))))
    }

    /// Drops what is older than `first`; gives the oldest that is left.
    pub(crate) fn forget_before(&mut self, first: SliceIndex) -> Option<SliceIndex> {
        while self.0.front().is_some_and(|(at, _)| *at < first) {
            self.0.pop_front();
        }
        self.0.front().map(|(at, _)| *at)
    }

    /// How many there are up to `index`. Counted from the newest backwards: past it only as many are as are open at once, which is one
    /// but for the grace.
    fn up_to(&self, index: SliceIndex) -> usize {
        self.0.len() - self.0.iter().rev().take_while(|(at, _)| *at > index).count()
    }

    fn insert(&mut self, at: usize, slice: (SliceIndex, Slice), windows: &TimeWindows) {
        self.make_room(windows);
        self.0.insert(at, slice);
    }

    /// An instrument that trades now and then has room for a few slices; one that trades more has it for a whole window at once, with
    /// one slice that leaves it and one that is open. By doubling, what thousands of instruments outgrow at about the same time would
    /// stay with the allocator, as much again as they hold.
    fn make_room(&mut self, windows: &TimeWindows) {
        const FEW: usize = 4;
        if self.0.len() == self.0.capacity() {
            let whole = usize::try_from(windows.slices_per_window()).unwrap_or(usize::MAX).saturating_add(2);
            let room = if self.0.len() < FEW { FEW } else { whole };
            let most = MOST_ROOM.max(self.0.len() / 2);
            self.0.reserve_exact(room.saturating_sub(self.0.len()).clamp(1, most));
        }
    }
}
