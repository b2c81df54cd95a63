//! The plan of faults under way: one for all connections, since what it counts it counts over all of them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::faults::{Blow, FaultKind, Faults, Occasion, Plan};
use crate::metrics::Meters;

/// What strikes whom.
#[derive(Debug)]
pub(crate) struct Trouble {
    faults: Mutex<Faults>,
    began: Instant,
    meters: Meters,
}

impl Trouble {
    pub(crate) fn new(plan: &Plan, meters: Meters) -> Self {
        Self { faults: Mutex::new(Faults::new(plan)), began: Instant::now(), meters }
    }

    /// What strikes at that occasion.
    pub(crate) fn at(&self, occasion: Occasion) -> Option<Blow> {
        let blow = self.faults().strike(occasion, self.began.elapsed())?;
        if blow.begins {
            self.meters.fault(blow.kind);
            tracing::info!(kind = %blow.kind, "a fault of the plan");
        }
        Some(blow)
    }

    /// How often each kind has struck.
    pub(crate) fn done(&self) -> BTreeMap<FaultKind, u64> {
        self.faults().done()
    }

    fn faults(&self) -> std::sync::MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
