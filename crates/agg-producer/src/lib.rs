//! Turns trades into candles and moving averages, each window once and exactly right.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`] | the service's configuration |
//! | [`window`], [`weights`], [`exp`] | where windows lie on the axis of event time; what an old trade weighs |
//! | [`slice`], [`average`] | the sums, in their defined order |
//! | [`watermark`] | when the producer's word counts that a partition is complete |
//! | [`aggregator`], [`partition`] | one partition's state: trades in, closed windows out; rebuilt after a restart |
//! | [`checkpoint`], [`restore`], [`origin`] | what is committed with an offset, and going on from it; where nothing is |
//! | [`decode`], [`watermarks`], [`publish`] | records to trades and watermarks; windows to records |
//! | [`rebalance`], [`runner`] | partitions that come and go; the loop that consumes, produces and commits |
//! | [`app`] | how these are put together, and run |

pub mod aggregator;
pub mod app;
pub mod average;
pub mod checkpoint;
pub mod config;
pub mod decode;
pub mod exp;
pub mod metrics;
pub mod origin;
pub mod partition;
pub mod publish;
pub mod rebalance;
pub mod restore;
pub mod runner;
pub mod slice;
pub mod watermark;
pub mod watermarks;
pub mod weights;
pub mod window;

pub use app::App;
pub use config::Config;
