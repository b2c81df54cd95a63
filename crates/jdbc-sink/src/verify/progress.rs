//! Says on standard error how far a long run is; standard output belongs to the report.

use std::io::Write as _;
use std::time::{Duration, Instant};

const EVERY: Duration = Duration::from_secs(5);

/// Counts, and speaks up every few seconds.
pub(super) struct Ticker {
    doing: String,
    of: Option<i64>,
    done: i64,
    last: Instant,
}

impl Ticker {
    /// Counts to about `of`, if that is known.
    #[must_use]
    pub(super) fn new(doing: String, of: Option<i64>) -> Self {
        Self { doing, of, done: 0, last: Instant::now() }
    }

    /// One more.
    pub(super) fn tick(&mut self) {
        self.done += 1;
        // The clock is not asked for each of a billion records.
        if self.done % 1024 == 0 && self.last.elapsed() >= EVERY {
            self.last = Instant::now();
            say(&match self.of {
                Some(of) => format!("{}: {} of about {of}", self.doing, self.done),
                None => format!("{}: {}", self.doing, self.done),
            });
        }
    }
}

/// A line of progress. Nobody listening is no reason to stop.
pub(super) fn say(line: &str) {
    writeln!(std::io::stderr(), "jdbc-sink verify: {line}").ok();
}
