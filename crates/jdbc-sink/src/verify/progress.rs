//! Shows the progress of a long pass on standard error; standard output belongs to the report.
//!
//! On a terminal it is one line that is rewritten, elsewhere a line every few seconds.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

const LINE_INTERVAL: Duration = Duration::from_secs(5);
const REDRAW_INTERVAL: Duration = Duration::from_millis(200);
/// Advances between two looks at the clock, which would be too slow for each of a billion records.
const CLOCK_STRIDE: u64 = 1024;
/// Earlier estimates of the time left are worth nothing.
const ESTIMATE_AFTER: Duration = Duration::from_secs(2);

const ERASE_LINE: &str = "\r\x1b[2K";
/// A line longer than the terminal must not wrap: only the last of its rows could be erased.
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

pub(super) struct ProgressLog {
    label: String,
    /// An estimate; 0 if there is none.
    total: u64,
    done: u64,
    started: Instant,
    shown: Instant,
    is_terminal: bool,
}

impl ProgressLog {
    pub(super) fn new(label: String, total: u64) -> Self {
        let now = Instant::now();
        let is_terminal = std::io::stderr().is_terminal();
        Self { label, total, done: 0, started: now, shown: now, is_terminal }
    }

    pub(super) fn advance(&mut self) {
        self.done += 1;
        if self.done.is_multiple_of(CLOCK_STRIDE) {
            let interval = if self.is_terminal { REDRAW_INTERVAL } else { LINE_INTERVAL };
            if self.shown.elapsed() >= interval {
                self.shown = Instant::now();
                self.show();
            }
        }
    }

    fn show(&self) {
        let text = progress_text(&self.label, self.done, self.total, self.started.elapsed());
        if self.is_terminal {
            write(&format!("{ERASE_LINE}{WRAP_OFF}{text}{WRAP_ON}"));
        } else {
            note(&text);
        }
    }
}

impl Drop for ProgressLog {
    fn drop(&mut self) {
        if self.is_terminal && self.shown > self.started {
            write(ERASE_LINE);
        }
    }
}

/// Prints a line of its own. A closed standard error is no reason to stop.
pub(super) fn note(line: &str) {
    write(&format!("jdbc-sink verify: {line}\n"));
}

fn write(text: &str) {
    std::io::stderr().write_all(text.as_bytes()).ok();
}

/// Amount, rate and, once it can be estimated, the time left.
fn progress_text(label: &str, done: u64, total: u64, elapsed: Duration) -> String {
    let rate = u128::from(done) * 1000 / elapsed.as_millis().max(1);
    let left = total.saturating_sub(done);
    if left == 0 {
        return format!("{label}: {done}, {rate}/s");
    }
    let percent = u128::from(done) * 100 / u128::from(total);
    let amount = format!("{label}: {done} of about {total} ({percent} %), {rate}/s");
    if elapsed < ESTIMATE_AFTER || rate == 0 {
        return amount;
    }
    let seconds = u64::try_from(u128::from(left).div_ceil(rate)).unwrap_or(u64::MAX);
    format!("{amount}, {} left", humantime::format_duration(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_amount_rate_and_time_left() {
        let text = |done, total, seconds| progress_text("rows", done, total, Duration::from_secs(seconds));
        assert_eq!(text(250, 1_000, 10), "rows: 250 of about 1000 (25 %), 25/s, 30s left");
        assert_eq!(text(1_000, 100_000, 10), "rows: 1000 of about 100000 (1 %), 100/s, 16m 30s left");
    }

    #[test]
    fn there_is_no_time_left_before_it_can_be_estimated_or_after_the_total() {
        let text = |done, total, seconds| progress_text("rows", done, total, Duration::from_secs(seconds));
        assert_eq!(text(250, 1_000, 1), "rows: 250 of about 1000 (25 %), 250/s");
        assert_eq!(text(0, 1_000, 10), "rows: 0 of about 1000 (0 %), 0/s");
        assert_eq!(text(2_000, 1_000, 10), "rows: 2000, 200/s");
        assert_eq!(text(50, 0, 10), "rows: 50, 5/s");
        assert_eq!(text(0, 0, 0), "rows: 0, 0/s");
    }
}
