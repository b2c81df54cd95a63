//! Exponential backoff with a cap and full jitter, so that many clients of a lost server do not return at the same moment.

use std::fmt::Display;
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, timeout};

use crate::Failure;

/// Delays below a ceiling that doubles from `min` to `max`. Each is uniform between zero and the ceiling ("full jitter").
#[derive(Debug)]
pub struct Backoff {
    schedule: ExponentialBuilder,
    ceilings: ExponentialBackoff,
    max: Duration,
}

impl Backoff {
    /// The first delay is at most `min`, later ones at most `max`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        let schedule = ExponentialBuilder::new().with_min_delay(min).with_max_delay(max).without_max_times();
        Self { ceilings: schedule.build(), schedule, max }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let ceiling = self.ceilings.next().unwrap_or(self.max).min(self.max);
        ceiling.mul_f64(fastrand::f64())
    }

    /// Starts again with `min`, after an attempt has succeeded.
    pub fn reset(&mut self) {
        self.ceilings = self.schedule.build();
    }
}

/// An error that knows whether another attempt may succeed.
pub trait Retryable {
    /// Whether the same attempt may succeed later.
    fn is_retryable(&self) -> bool;
}

/// Repeats `attempt` until it succeeds, fails with an error that is not retryable, or `deadline` has passed. `what` names the server.
///
/// # Errors
/// [`Failure::Unavailable`] with the last error after the deadline; the converted error if it is not retryable.
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
        tracing::warn!(what, error = last, retry_in = ?delay, "not available yet; retrying");
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
    async fn the_deadline_ends_a_hanging_attempt_with_the_last_error() {
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
