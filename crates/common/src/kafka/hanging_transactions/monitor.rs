//! Watches for transactions that stay open, and ends those that hang.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;

use super::inspector::{Inspected, SettleError, TransactionInspector};
use super::state::{Assessment, Outcome};
use crate::Failure;
use crate::admin::Component;
use crate::kafka::protocol::BrokerRequestError;
use crate::metrics::{Counter, FloatGauge, Gauge, Metrics};
use crate::shutdown::Shutdown;

/// Time between two inspections.
const INSPECTION_INTERVAL: Duration = Duration::from_secs(5);
/// Time that a hanging transaction is left to its owner's own guard: as long as Kafka lets an abandoned one be open.
const OWNER_FIRST: Duration = Duration::from_secs(10);
/// Bound of a wait that Kafka could end. Hanging transactions are ended within [`OWNER_FIRST`] and two inspections.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// The same behind a living owner: Kafka's default of `transaction.max.timeout.ms`, and a minute.
const LONGEST_LIVING_TRANSACTION: Duration = Duration::from_secs(16 * 60);

/// Labels of the ended transactions.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndedBy {
    outcome: &'static str,
}

/// Metrics of open transactions.
#[derive(Debug, Clone)]
pub(super) struct TransactionMetrics {
    oldest_open: FloatGauge,
    hanging: Gauge,
    ended: Family<EndedBy, Counter>,
    failed: Counter,
}

impl TransactionMetrics {
    /// Registers them, each at 0.
    #[must_use]
    pub(super) fn new(metrics: &Metrics) -> Self {
        let ended = metrics.family(
            "hanging_transactions_ended",
            "Transactions that Kafka left open and this service ended, by outcome",
        );
        for outcome in [Outcome::Commit, Outcome::Abort] {
            drop(ended.get_or_create(&EndedBy { outcome: outcome.label() }));
        }
        Self {
            oldest_open: metrics.float_gauge(
                "open_transaction_age_seconds",
                "Age of the oldest transaction that holds up read-committed readers; 0 if none",
            ),
            hanging: metrics.gauge(
                "hanging_transactions",
                "Open transactions that their coordinator holds complete, by the last inspection",
            ),
            ended,
            failed: metrics.counter(
                "transaction_inspections_failed",
                "Inspections of open transactions without an answer",
            ),
        }
    }

    pub(super) fn ended(&self, outcome: Outcome) {
        self.ended.get_or_create(&EndedBy { outcome: outcome.label() }).inc();
    }
}

/// What the monitor knows, for waits that need a bound; clones are one and the same.
#[derive(Debug, Clone, Default)]
pub struct TransactionStatus(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// `None`: the last inspection had no answer.
    answering_since: Option<Instant>,
    blocking: Vec<Blocking>,
}

/// A transaction that has been open for longer than an abandoned one may be.
#[derive(Debug, Clone)]
struct Blocking {
    description: String,
    may_be_live: bool,
}

impl TransactionStatus {
    /// The reason to give a wait up that began, or last saw progress, at `since`; `None` as long as it may go on.
    ///
    /// Only time in which Kafka answers counts: while it is unavailable, everything waits for as long as that takes. A living
    /// owner is waited for, as Kafka ends its transaction at last (`transaction.max.timeout.ms`).
    #[must_use]
    pub fn overdue(&self, since: Instant) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = since.elapsed().min(known.answering_since?.elapsed());
        let has_living_owner = known.blocking.iter().any(|one| one.may_be_live);
        let bound = if has_living_owner { LONGEST_LIVING_TRANSACTION } else { LONGEST_WAIT };
        if waited < bound {
            return None;
        }
        let seconds = waited.as_secs();
        Some(match known.blocking.as_slice() {
            [] => format!("no progress for {seconds} s although kafka answers, and no transaction is open"),
            open => {
                let open: Vec<&str> = open.iter().map(|one| one.description.as_str()).collect();
                format!("no progress for {seconds} s behind: {}", open.join("; "))
            }
        })
    }

    fn failed(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }

    fn answered(&self, blocking: Vec<Blocking>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.answering_since.get_or_insert_with(Instant::now);
        known.blocking = blocking;
    }
}

/// Inspects until the service stops.
pub struct TransactionMonitor {
    inspector: Arc<TransactionInspector>,
    metrics: TransactionMetrics,
    status: TransactionStatus,
    part: Component,
    /// Since when each open transaction is known, by what identifies it.
    seen: HashMap<Inspected, Instant>,
}

impl TransactionMonitor {
    pub(super) fn new(
        inspector: Arc<TransactionInspector>,
        metrics: TransactionMetrics,
        status: TransactionStatus,
        part: Component,
    ) -> Self {
        part.ready();
        Self { inspector, metrics, status, part, seen: HashMap::new() }
    }

    /// Inspects every few seconds.
    ///
    /// # Errors
    /// None: an inspection without an answer is counted and repeated.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Failure> {
        let mut unsupported = false;
        loop {
            match self.inspect().await {
                Ok(()) => {}
                Err(SettleError::Unknown(
                    why @ (BrokerRequestError::Unsupported(_) | BrokerRequestError::Denied { .. }),
                )) if !unsupported => {
                    unsupported = true;
                    tracing::warn!(%why, "cannot check for hanging transactions");
                }
                Err(error @ SettleError::Stuck { .. }) => {
                    tracing::warn!(%error, "cannot end a hanging transaction; retrying");
                }
                Err(error) => tracing::debug!(%error, "inspection of open transactions failed"),
            }
            tokio::select! {
                () = shutdown.requested() => return Ok(()),
                () = tokio::time::sleep(INSPECTION_INTERVAL) => {}
            }
        }
    }

    async fn inspect(&mut self) -> Result<(), SettleError> {
        let found = match self.inspector.inspect().await {
            Ok(found) => found,
            Err(error) => {
                self.metrics.failed.inc();
                self.status.failed();
                return Err(error.into());
            }
        };
        let now = Instant::now();
        self.seen =
            found.iter().map(|one| (one.clone(), self.seen.get(one).copied().unwrap_or(now))).collect();
        let oldest = self.seen.values().min().map_or(Duration::ZERO, |since| now - *since);
        self.metrics.oldest_open.set(oldest.as_secs_f64());
        self.report(&found, now);
        let mut outcome = Ok(());
        for one in &found {
            let age = self.seen.get(one).map_or(Duration::ZERO, |since| now - *since);
            let Some(ended_by) = due(&one.assessment, age) else { continue };
            if let Err(error) = self.inspector.end_if_unchanged(one, ended_by).await {
                self.part.waiting(error.to_string());
                outcome = Err(error);
            }
        }
        if outcome.is_ok() {
            self.part.ready();
        }
        outcome
    }

    fn report(&self, found: &[Inspected], now: Instant) {
        let hanging = found.iter().filter(|one| matches!(one.assessment, Assessment::Hanging(_))).count();
        self.metrics.hanging.set(i64::try_from(hanging).unwrap_or(i64::MAX));
        let servers = self.inspector.bootstrap_servers();
        let blocks = |one: &&Inspected| self.seen.get(*one).is_some_and(|since| now - *since >= OWNER_FIRST);
        let described = found.iter().filter(blocks).map(|one| {
            let owner = one.transactional_id.as_deref().unwrap_or("unknown");
            let command = one.transaction.abort_command(servers);
            Blocking {
                description: format!(
                    "{} (transactional id {owner}; to abort it: {command})",
                    one.transaction
                ),
                may_be_live: !matches!(one.assessment, Assessment::Hanging(_)),
            }
        });
        self.status.answered(described.collect());
    }
}

/// How to end a transaction that has been open for `age`; `None` as long as somebody else may.
fn due(assessment: &Assessment, age: Duration) -> Option<Outcome> {
    match assessment {
        Assessment::Live { .. } => None,
        Assessment::Hanging(outcome) => (age >= OWNER_FIRST).then_some(*outcome),
        // A living one would have been ended by its coordinator.
        Assessment::OwnerUnknown => (age >= LONGEST_LIVING_TRANSACTION).then_some(Outcome::Abort),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_ended_when_nobody_else_can_end_it() {
        let seconds = Duration::from_secs;
        let live = Assessment::Live { state: "Ongoing".into() };
        assert_eq!(due(&live, seconds(100_000)), None);
        let hanging = Assessment::Hanging(Outcome::Commit);
        assert_eq!((due(&hanging, seconds(9)), due(&hanging, seconds(10))), (None, Some(Outcome::Commit)));
        let unknown = Assessment::OwnerUnknown;
        assert_eq!((due(&unknown, seconds(959)), due(&unknown, seconds(960))), (None, Some(Outcome::Abort)));
    }

    fn ago(seconds: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap()
    }

    fn status(answering_for: Option<u64>, blocking: &[bool]) -> TransactionStatus {
        let blocking = blocking
            .iter()
            .map(|may_be_live| Blocking { description: "T".into(), may_be_live: *may_be_live });
        let known = Known { answering_since: answering_for.map(ago), blocking: blocking.collect() };
        TransactionStatus(Arc::new(Mutex::new(known)))
    }

    #[test]
    fn a_wait_is_bounded_while_kafka_answers_and_not_while_it_is_unavailable() {
        assert_eq!(status(None, &[]).overdue(ago(5_000)), None);
        assert_eq!(status(Some(30), &[]).overdue(ago(5_000)), None, "it came back half a minute ago");
        assert_eq!(status(Some(5_000), &[]).overdue(ago(59)), None);
        assert!(status(Some(61), &[]).overdue(ago(61)).unwrap().starts_with("no progress for 61 s"));
    }

    #[test]
    fn a_living_owner_is_waited_for_until_kafka_must_have_ended_its_transaction() {
        assert_eq!(status(Some(5_000), &[false, true]).overdue(ago(900)), None);
        assert_eq!(
            status(Some(5_000), &[true]).overdue(ago(961)).unwrap(),
            "no progress for 961 s behind: T"
        );
        assert!(status(Some(5_000), &[false]).overdue(ago(61)).is_some());
    }

    #[test]
    fn an_inspection_without_an_answer_begins_the_time_again() {
        let status = status(Some(5_000), &[]);
        status.failed();
        status.answered(Vec::new());
        assert_eq!(status.overdue(ago(5_000)), None);
    }
}
