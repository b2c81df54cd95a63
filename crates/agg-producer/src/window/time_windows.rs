//! Where windows and slices lie on the axis of event time.

use std::time::Duration;

use common::model::EventTime;

/// A span of event time in milliseconds, half-open: `start` belongs to it, `end` does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    /// The first millisecond.
    pub start: EventTime,
    /// The first millisecond after it.
    pub end: EventTime,
}

/// A slice by its number: slice `n` is `[n·advance, (n+1)·advance)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SliceIndex(i64);

impl SliceIndex {
    /// The one `slices` further on, or back where that is negative.
    #[must_use]
    pub const fn plus(self, slices: i64) -> Self {
        Self(self.0.saturating_add(slices))
    }

    /// How many slices lie between the starts of `earlier` and this one.
    #[must_use]
    pub const fn distance_from(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Hopping windows, aligned to the epoch: one ends at every multiple of `advance`.
///
/// Each consists of whole slices, tumbling windows as long as `advance`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    slices_per_window: i64,
    advance: i64,
    grace: i64,
}

/// Why three durations make no windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WindowsError {
    /// Of `advance`.
    #[error("whole milliseconds, at least one")]
    Advance,
    /// Of `size`.
    #[error("a multiple of window.advance, at most {} of it", TimeWindows::MOST_SLICES)]
    Size,
    /// Of `grace`.
    #[error("whole milliseconds")]
    Grace,
}

impl TimeWindows {
    /// A window is merged from its slices each time it is published, and each slice has its state.
    pub const MOST_SLICES: i64 = 100_000;

    /// Windows as long as `size`, one every `advance`, that wait for late trades until stream time is `grace` past their end.
    ///
    /// # Errors
    /// Where a duration is not whole milliseconds, or `size` is not a multiple of `advance`.
    pub fn new(size: Duration, advance: Duration, grace: Duration) -> Result<Self, WindowsError> {
        let advance = millis(advance).filter(|advance| *advance > 0).ok_or(WindowsError::Advance)?;
        let size = millis(size).filter(|size| size % advance == 0).ok_or(WindowsError::Size)?;
        let slices_per_window = size / advance;
        if !(1..=Self::MOST_SLICES).contains(&slices_per_window) {
            return Err(WindowsError::Size);
        }
        let grace = millis(grace).ok_or(WindowsError::Grace)?;
        Ok(Self { slices_per_window, advance, grace })
    }

    /// Length of a window in milliseconds.
    #[must_use]
    pub const fn size(&self) -> i64 {
        self.slices_per_window.saturating_mul(self.advance)
    }

    /// From a window's start until it closes.
    #[must_use]
    pub const fn lifetime(&self) -> Duration {
        Duration::from_millis(self.size().saturating_add(self.grace).unsigned_abs())
    }

    /// Length of a slice, and the time from one window to the next, in milliseconds.
    #[must_use]
    pub const fn advance(&self) -> i64 {
        self.advance
    }

    /// How far stream time must be past a window's end for it to close, in milliseconds.
    #[must_use]
    pub const fn grace(&self) -> i64 {
        self.grace
    }

    /// `size / advance`.
    #[must_use]
    pub const fn slices_per_window(&self) -> i64 {
        self.slices_per_window
    }

    /// The slice that holds an instant.
    #[must_use]
    pub const fn slice_at(&self, time: EventTime) -> SliceIndex {
        SliceIndex(time.div_euclid(self.advance))
    }

    /// A slice's span.
    #[must_use]
    pub const fn slice(&self, index: SliceIndex) -> Window {
        let start = index.0.saturating_mul(self.advance);
        Window { start, end: start.saturating_add(self.advance) }
    }

    /// The span of the window whose last slice is `last`.
    #[must_use]
    pub const fn window_with_last(&self, last: SliceIndex) -> Window {
        let end = self.slice(last).end;
        Window { start: end.saturating_sub(self.size()), end }
    }

    /// The first slice of the window whose last slice is `last`.
    #[must_use]
    pub const fn first_of_window(&self, last: SliceIndex) -> SliceIndex {
        last.plus(1 - self.slices_per_window)
    }

    /// The stream time from which on a slice, and the window that ends with it, is closed.
    #[must_use]
    pub const fn closes_at(&self, index: SliceIndex) -> EventTime {
        self.slice(index).end.saturating_add(self.grace)
    }

    /// The newest slice that is closed at `stream_time`.
    #[must_use]
    pub const fn newest_closed(&self, stream_time: EventTime) -> SliceIndex {
        self.newest_ended(stream_time.saturating_sub(self.grace))
    }

    /// The newest slice that ends at or before `time`.
    #[must_use]
    pub const fn newest_ended(&self, time: EventTime) -> SliceIndex {
        self.slice_at(time).plus(-1)
    }
}

/// `None` for what is not whole milliseconds, or more of them than doubles count.
fn millis(duration: Duration) -> Option<i64> {
    let whole = duration.subsec_nanos().is_multiple_of(1_000_000);
    i64::try_from(duration.as_millis()).ok().filter(|&millis| whole && millis <= 1 << 53)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn windows(size: u32, advance: u32, grace: u32) -> Result<TimeWindows, WindowsError> {
        TimeWindows::new(MS * size, MS * advance, MS * grace)
    }

    #[test]
    fn a_slice_begins_with_its_first_millisecond_and_ends_before_the_next_ones() {
        let windows = windows(300_000, 10_000, 2_000).unwrap();
        let slice = windows.slice_at(20_000);
        assert_eq!(windows.slice(slice), Window { start: 20_000, end: 30_000 });
        assert_eq!(windows.slice_at(29_999), slice);
        assert_eq!(windows.slice_at(30_000), slice.plus(1));
    }

    #[test]
    fn slices_before_the_epoch_are_half_open_too() {
        let windows = windows(20, 10, 0).unwrap();
        assert_eq!(windows.slice(windows.slice_at(-1)), Window { start: -10, end: 0 });
        assert_eq!(windows.slice(windows.slice_at(-10)), Window { start: -10, end: 0 });
    }

    #[test]
    fn a_slice_closes_when_stream_time_reaches_its_end_plus_grace() {
        let windows = windows(300_000, 10_000, 2_000).unwrap();
        let slice = windows.slice_at(20_000);
        assert_eq!(windows.closes_at(slice), 32_000);
        assert_eq!(windows.newest_closed(31_999), slice.plus(-1));
        assert_eq!(windows.newest_closed(32_000), slice);
    }

    #[test]
    fn a_window_is_named_by_its_last_slice() {
        let windows = windows(300_000, 10_000, 0).unwrap();
        let last = windows.slice_at(599_999);
        assert_eq!(windows.window_with_last(last), Window { start: 300_000, end: 600_000 });
        assert_eq!(windows.slice(windows.first_of_window(last)).start, 300_000);
    }

    #[test]
    fn durations_that_make_no_windows_are_refused() {
        assert_eq!(windows(10, 0, 0), Err(WindowsError::Advance));
        assert_eq!(windows(15, 10, 0), Err(WindowsError::Size));
        assert_eq!(windows(0, 10, 0), Err(WindowsError::Size));
        assert_eq!(windows(100_001, 1, 0), Err(WindowsError::Size));
        assert_eq!(TimeWindows::new(MS, MS, MS / 2), Err(WindowsError::Grace));
        assert_eq!(TimeWindows::new(MS, MS / 2, MS), Err(WindowsError::Advance));
        assert_eq!(TimeWindows::new(Duration::MAX, MS, MS), Err(WindowsError::Size));
        assert!(windows(10, 10, 0).is_ok(), "tumbling windows");
    }

    proptest! {
        #[test]
        fn what_is_closed_is_said_the_same_way_by_both_questions(
            time in -1_000_000i64..1_000_000, stream_time in -1_000_000i64..1_000_000,
            slices in 1u32..50, advance in 1u32..20_000, grace in 0u32..50_000,
        ) {
            let windows = windows(slices * advance, advance, grace).unwrap();
            let slice = windows.slice_at(time);
            let span = windows.slice(slice);
            prop_assert!(span.start <= time && time < span.end);
            prop_assert_eq!(windows.closes_at(slice) <= stream_time, slice <= windows.newest_closed(stream_time));
        }
    }
}
