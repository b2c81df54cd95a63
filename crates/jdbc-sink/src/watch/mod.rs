//! Watches the connectors, brings back what failed, is missing or was changed, and tells what no restart mends.

mod failed;
mod probe;
mod track;
mod watcher;

pub use failed::Failed;
pub use probe::{Obstacle, Probe};
pub use track::{Action, Seen, Track, Verdict};
pub use watcher::Watcher;
