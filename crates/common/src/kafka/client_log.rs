//! Logs errors that librdkafka reports and handles itself, without flooding the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// While Kafka is unavailable, every client reports it several times a second.
const ALL_DOWN_EVERY: Duration = Duration::from_secs(10);

/// Connections that this process's clients have lost.
static DISCONNECTS: AtomicU64 = AtomicU64::new(0);

static ALL_DOWN: Mutex<RateLimit> = Mutex::new(RateLimit { next: None });

/// How many connections to brokers this process's clients have lost so far.
pub(crate) fn disconnects() -> u64 {
    DISCONNECTS.load(Ordering::Acquire)
}

/// Logs an error that librdkafka handles itself. Single broker connections are lost often, so that is logged at debug level. The loss of all
/// of them is a warning once in ten seconds.
pub fn log_client_error(error: &KafkaError, reason: &str) {
    let connection_lost = matches!(
        error.rdkafka_error_code(),
        Some(RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown)
    );
    if connection_lost {
        DISCONNECTS.fetch_add(1, Ordering::AcqRel);
    }
    let is_worth_a_warning = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure) => false,
        Some(RDKafkaErrorCode::AllBrokersDown) => {
            ALL_DOWN.lock().unwrap_or_else(PoisonError::into_inner).is_due(Instant::now())
        }
        _ => true,
    };
    if is_worth_a_warning {
        tracing::warn!(%error, reason, "kafka");
    } else {
        tracing::debug!(%error, reason, "kafka");
    }
}

/// Allows an event once in [`ALL_DOWN_EVERY`].
struct RateLimit {
    next: Option<Instant>,
}

impl RateLimit {
    fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_none_or(|next| next <= now);
        if due {
            self.next = Some(now + ALL_DOWN_EVERY);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_of_all_brokers_is_logged_every_ten_seconds() {
        let (mut limit, start) = (RateLimit { next: None }, Instant::now());
        let logged: Vec<u64> =
            (0..300).filter(|tenth| limit.is_due(start + Duration::from_millis(tenth * 100))).collect();
        assert_eq!(logged, [0, 100, 200]);
    }
}
