//! Partitions that the consumer group assigns, moves, or leaves unassigned.

pub mod rebalance;
pub mod unassigned_partitions;
