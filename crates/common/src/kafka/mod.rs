//! Kafka: client settings by role, topics, transactions.

pub mod admin;
pub mod client;
pub mod offsets;
pub mod transaction;
