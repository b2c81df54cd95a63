//! Turns trades into candles and moving averages, each window once and exactly right.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`] | the service's configuration |
//! | [`window`], [`weights`], [`exp`] | where windows lie on the axis of event time; what an old trade weighs |
//! | [`slice`], [`average`] | the sums, in their defined order |
//! | [`watermark`] | when the producer's word counts that a partition is complete |
//! | [`aggregator`], [`partition`], `slices`, [`sealed`] | one partition's state: trades in, closed windows out; rebuilt after a restart |
//! | [`checkpoint`], [`restore`], [`origin`] | what is committed with an offset, and going on from it; where nothing is |
//! | [`decode`], [`publish`] | records to trades; windows to records |
//! | [`beside`], [`watermarks`], [`candles`] | what is read beside the trades |
//! | [`rebalance`], [`owners`] | partitions that come and go; those that nobody has |
//! | [`runner`] | the loop that consumes, produces and commits |
//! | [`app`] | how these are put together, and run |

pub mod aggregator;
pub mod app;
pub mod average;
pub mod beside;
pub mod candles;
pub mod checkpoint;
pub mod config;
pub mod decode;
pub mod exp;
pub mod metrics;
pub mod origin;
pub mod owners;
pub mod partition;
pub mod publish;
pub mod rebalance;
pub mod restore;
pub mod runner;
pub mod sealed;
pub mod slice;
mod slices;
pub mod watermark;
pub mod watermarks;
pub mod weights;
pub mod window;

pub use app::App;
pub use config::Config;
