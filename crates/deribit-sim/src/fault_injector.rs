//! Injects the faults of the plan. All connections share one injector, because its counters span all of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::faults::{FaultKind, FaultSchedule, InjectedFault, Occasion, Plan};
use crate::metrics::Metrics;

/// A fault schedule with its clock and metrics.
#[derive(Debug)]
pub(crate) struct FaultInjector {
    faults: Mutex<FaultSchedule>,
    began: Instant,
    metrics: Metrics,
}

impl FaultInjector {
    pub(crate) fn new(plan: &Plan, metrics: Metrics) -> Self {
        Self { faults: Mutex::new(FaultSchedule::new(plan)), began: Instant::now(), metrics }
    }

    /// The fault to inject at that occasion, if any.
    pub(crate) fn at(&self, occasion: Occasion) -> Option<InjectedFault> {
        let injected = self.faults().inject(occasion, self.began.elapsed())?;
        if injected.begins {
            self.metrics.fault(injected.kind);
            tracing::info!(kind = %injected.kind, "fault injected");
        }
        Some(injected)
    }

    /// Number of injected faults by kind.
    pub(crate) fn counts(&self) -> BTreeMap<FaultKind, u64> {
        self.faults().counts()
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, FaultSchedule> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
