//! Watches the connectors, restores what failed, is missing or was changed, and reports what no restart can fix.

mod diagnosis;
mod failed_task;
pub(crate) mod metrics;
mod restart_policy;
pub(crate) mod status;
mod watcher;

pub(crate) use diagnosis::Diagnosis;
pub(crate) use watcher::Watcher;
