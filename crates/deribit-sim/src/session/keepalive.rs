//! Whether a connection is alive: a state machine without I/O or clock.
//!
//! With heartbeats, each interval sends a `heartbeat` and a `test_request`; an unanswered `test_request` ends the connection. Without
//! heartbeats, a connection without messages ends after the idle time.

use std::time::{Duration, Instant};

/// What the session must do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeepAliveAction {
    /// Nothing before the next deadline.
    Nothing,
    /// Send a heartbeat and a test request.
    Heartbeat,
    /// End the session: a test request was not answered.
    Unanswered,
    /// End the session: no messages for too long.
    Idle,
}

/// The signs of life of a connection.
#[derive(Debug)]
pub(super) struct KeepAlive {
    answer_within: Duration,
    idle: Duration,
    /// Interval, and when the next heartbeat is due.
    heartbeat: Option<(Duration, Instant)>,
    /// When the oldest open test request ends the connection.
    unanswered: Option<Instant>,
    /// The time of the last message in either direction.
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

    /// A message was sent or received.
    pub(super) fn on_message(&mut self, now: Instant) {
        self.last = now;
    }

    /// The client called `public/test`.
    pub(super) fn on_test_answered(&mut self) {
        self.unanswered = None;
    }

    /// When [`KeepAlive::due`] must be called next.
    pub(super) fn deadline(&self) -> Instant {
        let silence = if self.heartbeat.is_none() { Some(self.last + self.idle) } else { None };
        let next = self.heartbeat.map(|(_, next)| next);
        [silence, next, self.unanswered].into_iter().flatten().min().unwrap_or(self.last + self.idle)
    }

    /// What is due now. A heartbeat that is due counts as sent.
    pub(super) fn due(&mut self, now: Instant) -> KeepAliveAction {
        if self.unanswered.is_some_and(|end| end <= now) {
            return KeepAliveAction::Unanswered;
        }
        match &mut self.heartbeat {
            Some((interval, next)) if *next <= now => {
                *next = now + *interval;
                self.unanswered.get_or_insert(now + self.answer_within);
                KeepAliveAction::Heartbeat
            }
            None if self.last + self.idle <= now => KeepAliveAction::Idle,
            _ => KeepAliveAction::Nothing,
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
        assert_eq!(alive.due(start + 9 * SECOND), KeepAliveAction::Nothing);
        assert_eq!(alive.due(start + 10 * SECOND), KeepAliveAction::Heartbeat);
        alive.on_test_answered();
        assert_eq!(alive.due(start + 20 * SECOND), KeepAliveAction::Heartbeat);
    }

    #[test]
    fn a_test_request_without_answer_ends_it_whatever_other_messages_come() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        alive.set_heartbeat(Some(30 * SECOND), start);
        assert_eq!(alive.due(start + 30 * SECOND), KeepAliveAction::Heartbeat);
        alive.on_message(start + 39 * SECOND);
        assert_eq!(alive.deadline(), start + 40 * SECOND);
        assert_eq!(alive.due(start + 40 * SECOND), KeepAliveAction::Unanswered);
    }

    #[test]
    fn a_connection_without_heartbeats_lives_as_long_as_messages_come() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        assert_eq!(alive.due(start + 59 * SECOND), KeepAliveAction::Nothing);
        alive.on_message(start + 59 * SECOND);
        assert_eq!(alive.deadline(), start + 119 * SECOND);
        assert_eq!(alive.due(start + 60 * SECOND), KeepAliveAction::Nothing);
        assert_eq!(alive.due(start + 119 * SECOND), KeepAliveAction::Idle);
    }

    #[test]
    fn heartbeats_can_be_switched_off_again() {
        let start = Instant::now();
        let mut alive = keep_alive(start);
        alive.set_heartbeat(Some(10 * SECOND), start);
        assert_eq!(alive.due(start + 10 * SECOND), KeepAliveAction::Heartbeat);
        alive.set_heartbeat(None, start + 11 * SECOND);
        assert_eq!(alive.due(start + 25 * SECOND), KeepAliveAction::Nothing);
    }
}
