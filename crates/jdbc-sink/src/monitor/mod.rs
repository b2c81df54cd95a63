//! Watches the connectors, restores what failed, is missing or was changed, and reports what no restart can fix.

mod diagnosis;
mod failed_task;
mod restart_policy;
pub mod status;
mod watcher;

pub use diagnosis::{Obstacle, Probe};
pub use failed_task::Failed;
pub use restart_policy::{Action, Seen, Track, Verdict};
pub use watcher::Watcher;
