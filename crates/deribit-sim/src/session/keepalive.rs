//! Whether a connection lives, as a state machine without I/O or clock.
//!
//! With heartbeats: at each interval a `heartbeat` and a `test_request` are sent, and a `test_request` that is not
//! answered in time ends the connection. Without: a connection on which nothing is said for long ends.

use std::time::{Duration, Instant};

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing before the next deadline.
    Nothing,
    /// A heartbeat and a test request.
    Heartbeat,
    /// The end: a test request was not answered.
    Unanswered,
    /// The end: nothing was said.
    Idle,
}

/// A connection's signs of life.
#[derive(Debug)]
pub(super) struct KeepAlive {
    answer_within: Duration,
    idle: Duration,
    /// Interval, and when the next heartbeat is due.
    heartbeat: Option<(Duration, Instant)>,
    /// When the oldest open test request ends the connection.
    unanswered: Option<Instant>,
    /// When something was last said, by either side.
    last: Instant,
}

impl KeepAlive {
    pub(super) fn new(answer_within: Duration, idle: Duration, now: Instant) -> Self {
        Self { answer_within, idle, heartbeat: None, unanswered: None, last: now }
    }

    pub(super) fn set_heartbeat(&mut self, interval: Option<Duration>, now: Instant) {
        self.heartbeat = interval.map(|interval| (interval, now + interval));
        self.unanswered = None;
    }

    /// Something was said, by either side.
    pub(super) fn said(&mut self, now: Instant) {
        self.last = now;
    }

    /// The client called `public/test`.
    pub(super) fn tested(&mut self) {
        self.unanswered = None;
    }

    /// When [`KeepAlive::due`] is to be asked next.
    pub(super) fn deadline(&self) -> Instant {
        let silence = if self.heartbeat.is_none() { Some(self.last + self.idle) } else { None };
        let next = self.heartbeat.map(|(_, next)| next);
        [silence, next, self.unanswered].into_iter().flatten().min().unwrap_or(self.last + self.idle)
    }

    /// What is due now; a heartbeat that is due counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        if self.unanswered.is_some_and(|end| end <= now) {
            return Due::Unanswered;
        }
        match &mut self.heartbeat {
            Some((interval, next)) if *next <= now => {
                *next = now + *interval;
                self.unanswered.get_or_insert(now + self.answer_within);
                Due::Heartbeat
            }
            None if self.last + self.idle <= now => Due::Idle,
            _ => Due::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn keep_alive(now: Instant) -> KeepAlive {
        KeepAlive::new(10 * SECOND, 60 * SECOND, now)
    }

    #[test]
    fn a_test_request_that_is_answered_keeps_the_connection() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        alive.set_heartbeat(Some(10 * SECOND), start);
        assert_eq!(alive.deadline(), start + 10 * SECOND);
        assert_eq!(alive.due(start + 9 * SECOND), Due::Nothing);
        assert_eq!(alive.due(start + 10 * SECOND), Due::Heartbeat);
        alive.tested();
        assert_eq!(alive.due(start + 20 * SECOND), Due::Heartbeat);
    }

    #[test]
    fn one_that_is_not_answered_ends_it_however_much_else_is_said() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        alive.set_heartbeat(Some(30 * SECOND), start);
        assert_eq!(alive.due(start + 30 * SECOND), Due::Heartbeat);
        alive.said(start + 39 * SECOND);
        assert_eq!(alive.deadline(), start + 40 * SECOND);
        assert_eq!(alive.due(start + 40 * SECOND), Due::Unanswered);
    }

    #[test]
    fn a_connection_without_heartbeats_lives_as_long_as_something_is_said() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        assert_eq!(alive.due(start + 59 * SECOND), Due::Nothing);
        alive.said(start + 59 * SECOND);
        assert_eq!(alive.deadline(), start + 119 * SECOND);
        assert_eq!(alive.due(start + 60 * SECOND), Due::Nothing);
        assert_eq!(alive.due(start + 119 * SECOND), Due::Idle);
    }

    #[test]
    fn heartbeats_can_be_switched_off_again() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        alive.set_heartbeat(Some(10 * SECOND), start);
        assert_eq!(alive.due(start + 10 * SECOND), Due::Heartbeat);
        alive.set_heartbeat(None, start + 11 * SECOND);
        assert_eq!(alive.due(start + 25 * SECOND), Due::Nothing);
    }
}
