//! What librdkafka says of its own accord, passed on to the log as often as it helps.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

/// While Kafka is away every client notices it several times a second.
const ALL_DOWN_EVERY: Duration = Duration::from_secs(10);

static ALL_DOWN: Mutex<Rarely> = Mutex::new(Rarely { next: None });

/// Logs an error that librdkafka reports and deals with itself. One broker connection or another is lost all the time; that all are is
/// worth a line now and then.
pub fn log_client_error(error: &KafkaError, reason: &str) {
    let is_worth_a_line = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::BrokerTransportFailure) => false,
        Some(RDKafkaErrorCode::AllBrokersDown) => {
            ALL_DOWN.lock().unwrap_or_else(PoisonError::into_inner).is_due(Instant::now())
        }
        _ => true,
    };
    if is_worth_a_line {
        tracing::warn!(%error, reason, "kafka");
    } else {
        tracing::debug!(%error, reason, "kafka");
    }
}

/// Something that is said once in a while.
struct Rarely {
    next: Option<Instant>,
}

impl Rarely {
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
    fn that_kafka_is_away_is_said_at_once_and_then_once_in_a_while() {
        let (mut rarely, start) = (Rarely { next: None }, Instant::now());
        let said: Vec<u64> =
            (0..300).filter(|tenth| rarely.is_due(start + Duration::from_millis(tenth * 100))).collect();
        assert_eq!(said, [0, 100, 200]);
    }
}
