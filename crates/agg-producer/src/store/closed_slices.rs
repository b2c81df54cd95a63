//! Which slices stand in the candles: a restart reads those back, and the trades of the others.

use std::collections::BTreeMap;

use crate::window::time_windows::SliceIndex;

/// The closed slices that a later window needs, by how many candles they have.
///
/// A slice that closed in silence, as its window is not to be published, has no candle: its trades are read again for as long as a window
/// needs it.
#[derive(Debug, Default)]
pub struct ClosedSlices {
    /// No slice up to this one has a candle.
    silent_through: Option<SliceIndex>,
    /// No slice behind this one has.
    through: Option<SliceIndex>,
    candles: BTreeMap<SliceIndex, u64>,
    total: u64,
}

impl ClosedSlices {
    /// No candles yet, though those of slices behind `silent_through` and up to `through` exist.
    #[must_use]
    pub fn between(silent_through: Option<SliceIndex>, through: Option<SliceIndex>) -> Self {
        Self { silent_through, through, ..Self::default() }
    }

    /// Whether a slice's trades are in its candles.
    #[must_use]
    pub fn holds(&self, slice: SliceIndex) -> bool {
        self.silent_through < Some(slice) && Some(slice) <= self.through
    }

    /// So many candles of a slice more: it is closed, and so are all before it.
    pub fn add(&mut self, slice: SliceIndex, candles: u64) {
        self.through = self.through.max(Some(slice));
        if candles > 0 {
            *self.candles.entry(slice).or_default() += candles;
            self.total += candles;
        }
    }

    /// No window needs what is older than `first`.
    pub fn forget_before(&mut self, first: SliceIndex) {
        while let Some(oldest) = self.candles.first_entry()
            && *oldest.key() < first
        {
            self.total -= oldest.remove();
        }
    }

    /// The newest slice that is closed.
    #[must_use]
    pub const fn through(&self) -> Option<SliceIndex> {
        self.through
    }

    /// The newest slice that closed in silence.
    #[must_use]
    pub const fn silent_through(&self) -> Option<SliceIndex> {
        self.silent_through
    }

    /// Candles of the slices that a later window needs.
    #[must_use]
    pub const fn candles(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::window::time_windows::TimeWindows;

    fn slice(number: i64) -> SliceIndex {
        let second = Duration::from_secs(1);
        TimeWindows::new(second * 5, second, second).unwrap().slice_at(number * 1_000)
    }

    #[test]
    fn a_slice_stands_in_the_candles_from_its_close_on_unless_that_was_silent() {
        let mut sealed = ClosedSlices::between(Some(slice(3)), None);
        assert!(!sealed.holds(slice(4)));
        sealed.add(slice(5), 2);
        assert_eq!([3, 4, 5, 6].map(|number| sealed.holds(slice(number))), [false, true, true, false]);
    }

    #[test]
    fn candles_count_for_as_long_as_a_window_needs_their_slice() {
        let mut sealed = ClosedSlices::default();
        sealed.add(slice(1), 2);
        sealed.add(slice(2), 0);
        sealed.add(slice(4), 3);
        sealed.add(slice(4), 1);
        assert_eq!(sealed.candles(), 6);
        sealed.forget_before(slice(2));
        assert_eq!(sealed.candles(), 4);
        sealed.forget_before(slice(9));
        assert_eq!((sealed.candles(), sealed.through()), (0, Some(slice(4))));
    }
}
