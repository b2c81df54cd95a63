//! Waiting between attempts: exponential, capped, with full jitter, so that a fleet that lost one server does not come
//! back to it in step.

use std::fmt::Display;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, timeout};

use crate::Failure;

/// Delays that double from `min` to `max`; each is drawn evenly from zero to that ("full jitter").
#[derive(Debug)]
pub struct Backoff {
    schedule: ExponentialBuilder,
    ceilings: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// Delays between zero and `min`, then twice that, up to `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        let schedule = ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times();
        Self { ceilings: schedule.build(), schedule, max }
    }

    /// How long to wait before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceilings.next().unwrap_or(self.max).min(self.max);
        ceiling.mul_f64(fastrand::f64())
    }

    /// Begins again at the shortest delay; for when an attempt has proved itself.
    pub fn reset(&mut self) {
        self.ceilings = self.schedule.build();
    }
}

/// Says of an error whether another attempt can help.
pub trait Retryable {
    /// Whether the same attempt may succeed later.
    fn is_retryable(&self) -> bool;
}

/// Attempts `what` until it succeeds, fails for good, or `deadline` is over.
///
/// # Errors
/// [`Failure::Unavailable`] with the last error when the deadline is over; the error itself, as `E` turns into a
/// [`Failure`], when another attempt cannot help.
pub async fn until_deadline<T, E>(
    what: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T, E>,
) -> Result<T, Failure>
where
    E: Retryable + Display + Into<Failure>,
{
    let end = Instant::now() + deadline;
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(3));
    let mut last = "no answer".to_owned();
    loop {
        match timeout(end.saturating_duration_since(Instant::now()), attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) if !error.is_retryable() => return Err(error.into()),
            Ok(Err(error)) => last = error.to_string(),
            Err(_) => return Err(Failure::Unavailable { what: what.into(), deadline, last }),
        }
        let delay = backoff.next_delay();
        tracing::warn!(what, error = last, retry_in = ?delay, "not there yet");
        if Instant::now() + delay >= end {
            return Err(Failure::Unavailable { what: what.into(), deadline, last });
        }
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Refused(&'static str);

    impl Retryable for Refused {
        fn is_retryable(&self) -> bool {
            self.0 != "for good"
        }
    }

    impl From<Refused> for Failure {
        fn from(error: Refused) -> Self {
            Self::Config(error.to_string())
        }
    }

    #[test]
    fn delays_stay_below_a_ceiling_that_doubles_up_to_the_cap() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for ceiling in [100, 200, 400, 800, 1000, 1000, 1000] {
            assert!(backoff.next_delay() <= Duration::from_millis(ceiling));
        }
        backoff.reset();
        assert!(backoff.next_delay() <= Duration::from_millis(100));
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_late_but_in_time_is_waited_for() {
        let mut left = 5;
        let answer = until_deadline("it", Duration::from_secs(60), async || {
            left -= 1;
            if left == 0 { Ok(7) } else { Err(Refused("later")) }
        });
        assert_eq!(answer.await.unwrap(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_an_attempt_that_hangs_and_the_message_has_the_last_error() {
        let mut first = true;
        let end = until_deadline("kafka at x:1", Duration::from_secs(9), async || {
            if !std::mem::take(&mut first) {
                std::future::pending::<()>().await;
            }
            Err::<(), _>(Refused("connection refused"))
        });
        let failure = end.await.unwrap_err();
        assert_eq!(failure.code(), 69);
        assert!(failure.to_string().ends_with("startup_deadline = 9s: connection refused"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_for_good_is_not_tried_again() {
        let mut attempts = 0;
        let end = until_deadline("it", Duration::from_secs(9), async || {
            attempts += 1;
            Err::<(), _>(Refused("for good"))
        });
        assert_eq!(end.await.unwrap_err().code(), 78);
        assert_eq!(attempts, 1);
    }
}
