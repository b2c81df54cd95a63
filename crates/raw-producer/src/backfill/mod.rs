//! Reads the exchange's history: by time for all instruments at once, or instrument by instrument if it is older than that.

pub(crate) mod by_instrument;
pub(crate) mod by_time;

/// What a response with history is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum BackfillRequest {
    /// A page of one scope of the time backfill with this number.
    Page { backfill: u32, scope: usize },
    /// A page of one instrument.
    Instrument(String),
    /// The list of instruments.
    Listing,
}
