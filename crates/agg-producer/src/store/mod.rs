//! The state of one partition: trades in, closed windows out, and what is committed of it. Pure.

pub mod aggregator;
pub mod checkpoint;
pub mod closed_slices;
pub mod partition;
pub mod watermark;
