//! Kafka: client settings by role, topics, records, transactions.

pub mod admin;
pub mod client;
pub mod offsets;
pub mod records;
pub mod transaction;
