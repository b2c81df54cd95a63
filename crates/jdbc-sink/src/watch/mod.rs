//! Watches the connectors, and brings back what failed or is missing.

mod track;
mod watcher;

pub use track::{Action, Seen, Track, Verdict};
pub use watcher::Watcher;
