//! Lets no transaction of an id begin while an earlier one hangs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::inspector::{SettleError, TransactionInspector};
use crate::kafka::client_log::disconnects;
use crate::kafka::protocol::BrokerRequestError;

/// Time between two questions whether a coordinator has completed a transaction.
const PENDING_POLL: Duration = Duration::from_millis(50);

/// The guard of one transactional id. It asks Kafka before the producer is fenced, after it, and before the first transaction behind
/// a lost connection: only a broker that stops leaves a marker out. Otherwise it costs an atomic read.
#[derive(Debug, Clone)]
pub struct TransactionGuard {
    transactional_id: String,
    inspector: Option<(Arc<TransactionInspector>, Handle)>,
    /// Lost connections that have been looked into.
    checked: u64,
}

impl TransactionGuard {
    /// Guards `transactional_id`; asks on `runtime`, from threads outside of it.
    pub(super) fn new(transactional_id: &str, inspector: Arc<TransactionInspector>, runtime: Handle) -> Self {
        Self {
            transactional_id: transactional_id.to_owned(),
            inspector: Some((inspector, runtime)),
            checked: 0,
        }
    }

    /// Asks nobody: for a broker that keeps no transactions, as librdkafka's mock cluster.
    #[must_use]
    pub fn disabled() -> Self {
        Self { transactional_id: String::new(), inspector: None, checked: 0 }
    }

    /// Ends what an earlier transaction left open, if a connection was lost since the last call. Blocks then.
    ///
    /// # Errors
    /// [`SettleError`]: begin later.
    pub(crate) fn check_after_disconnect(&mut self) -> Result<(), SettleError> {
        let lost = disconnects();
        if lost == self.checked {
            return Ok(());
        }
        self.check()?;
        self.checked = lost;
        Ok(())
    }

    /// Ends what an earlier producer left open. An ongoing transaction is no obstacle: the fence makes the coordinator abort it.
    pub(crate) fn check_before_fence(&self, end: Instant) -> Result<(), SettleError> {
        self.repeat_until(
            end,
            |error| matches!(error, SettleError::Pending { state, .. } if state == "Ongoing"),
        )
    }

    /// Ends what the fence itself may have left open. The first transaction needs no check of its own then.
    pub(crate) fn check_after_fence(&mut self, end: Instant) -> Result<(), SettleError> {
        let lost = disconnects();
        self.repeat_until(end, |_| false)?;
        self.checked = lost;
        Ok(())
    }

    /// [`Self::check`], again and again until `end` while Kafka does not answer, or still completes an earlier transaction: after a
    /// restart it needs seconds to load its coordinators.
    fn repeat_until(
        &self,
        end: Instant,
        is_no_obstacle: impl Fn(&SettleError) -> bool,
    ) -> Result<(), SettleError> {
        loop {
            match self.check() {
                Err(error) if is_no_obstacle(&error) => return Ok(()),
                Err(SettleError::Pending { .. } | SettleError::Unknown(_)) if Instant::now() < end => {
                    self.pause();
                }
                outcome => return outcome,
            }
        }
    }

    fn pause(&self) {
        if let Some((_, runtime)) = &self.inspector {
            runtime.block_on(tokio::time::sleep(PENDING_POLL));
        }
    }

    /// Ends what an earlier transaction left open. Blocks.
    ///
    /// # Errors
    /// [`SettleError`].
    fn check(&self) -> Result<(), SettleError> {
        let Some((inspector, runtime)) = &self.inspector else { return Ok(()) };
        match runtime.block_on(inspector.settle(&self.transactional_id)) {
            // Nothing can be known, now or later: the monitor reports it.
            Err(SettleError::Unknown(
                BrokerRequestError::Unsupported(_) | BrokerRequestError::Denied { .. },
            )) => Ok(()),
            outcome => outcome,
        }
    }
}
