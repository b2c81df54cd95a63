//! agg-producer: trades to candles and moving averages, each window once and exactly right.
//!
//! | room | what is in it |
//! |---|---|
//! | [`window`], [`weights`], [`exp`] | where windows lie on the axis of event time; what an old trade weighs |
//! | [`slice`], [`average`] | the sums, in their defined order |
//! | [`aggregator`] | one partition's state: trades in, closed windows out |
//! | [`checkpoint`], [`partition`] | what is committed with an offset; rebuilding state from it |

pub mod aggregator;
pub mod average;
pub mod checkpoint;
pub mod exp;
pub mod partition;
pub mod slice;
pub mod weights;
pub mod window;
