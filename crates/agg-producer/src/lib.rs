//! Turns trades into candles and moving averages, each window once and exactly right.
//!
//! | module | content |
//! |---|---|
//! | [`config`], [`app`] | the service's configuration, and how its parts are put together |
//! | [`window`] | windows on the axis of event time, their slices, weights and averages |
//! | [`store`] | one partition's state, and the checkpoint that is committed with an offset |
//! | [`restore`] | from a committed offset, or from none, back to that state |
//! | [`records`] | records to trades and watermarks, windows to records |
//! | [`group`] | partitions that are assigned, revoked, or left without an owner |
//! | [`stream_thread`] | the loop that consumes, processes, produces and commits |
//! | [`metrics`] | what the service counts |

pub mod app;
pub mod config;
pub mod group;
pub mod metrics;
pub mod records;
pub mod restore;
pub mod store;
pub mod stream_thread;
pub mod window;

pub use app::App;
pub use config::Config;
