//! Kafka: client settings by role, topics, groups, records, transactions, troubles.

pub mod admin;
pub mod client;
pub mod group;
pub mod hanging_transactions;
pub mod offsets;
pub mod protocol;
pub mod records;
pub mod transaction;
pub mod trouble;
