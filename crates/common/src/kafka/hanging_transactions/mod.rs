//! Transactions that Kafka leaves open, found and ended.
//!
//! A coordinator decides a transaction, then writes a marker into each of its partitions. A broker that stops at that moment can
//! skip a partition: the coordinator then holds the transaction complete, and the partition holds it open forever. Nobody reads
//! committed records behind it. Such a transaction is called *hanging* (KIP-664).
//!
//! Two parties end them. A [`TransactionGuard`] lets no producer begin a transaction while an earlier one of its id hangs; so the
//! coordinator's last decision for a producer id is always the one whose marker is missing. A [`TransactionMonitor`] does the same
//! for producers that are gone. docs/adr has the reasoning, and what remains.

mod guard;
mod inspector;
mod monitor;
mod state;

use std::sync::Arc;

use tokio::runtime::Handle;

use crate::admin::Component;
use crate::config::KafkaConfig;
use crate::metrics::Metrics;

pub use guard::TransactionGuard;
pub use inspector::SettleError;
pub use monitor::{TransactionMonitor, TransactionStatus};

use inspector::TransactionInspector;
use monitor::TransactionMetrics;

/// What one process needs against hanging transactions; clones are one and the same.
#[derive(Debug, Clone)]
pub struct Transactions {
    inspector: Arc<TransactionInspector>,
    metrics: TransactionMetrics,
    status: TransactionStatus,
    runtime: Handle,
}

impl Transactions {
    /// Looks after all partitions of `topics` and, for a group, after its committed offsets. Guards ask on `runtime`.
    #[must_use]
    pub fn new(
        kafka: &KafkaConfig,
        client_id: &str,
        topics: Vec<String>,
        group_id: Option<String>,
        metrics: &Metrics,
        runtime: Handle,
    ) -> Self {
        let metrics = TransactionMetrics::new(metrics);
        let inspector = TransactionInspector::new(kafka, client_id, topics, group_id, metrics.clone());
        Self { inspector: Arc::new(inspector), metrics, status: TransactionStatus::default(), runtime }
    }

    /// The guard of a producer.
    #[must_use]
    pub fn guard(&self, transactional_id: &str) -> TransactionGuard {
        TransactionGuard::new(transactional_id, Arc::clone(&self.inspector), self.runtime.clone())
    }

    /// The monitor, to be run once in a process. `part` is not ready while a hanging transaction cannot be ended.
    #[must_use]
    pub fn monitor(&self, part: Component) -> TransactionMonitor {
        TransactionMonitor::new(Arc::clone(&self.inspector), self.metrics.clone(), self.status.clone(), part)
    }

    /// What the monitor knows.
    #[must_use]
    pub fn status(&self) -> &TransactionStatus {
        &self.status
    }
}
