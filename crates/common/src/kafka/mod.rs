//! Kafka: client settings by role, topics, groups, batches of records, transactions.

pub mod admin;
pub mod batch_consumer;
pub mod client;
pub mod client_log;
pub mod group;
pub mod hanging_transactions;
pub mod offsets;
pub mod protocol;
pub mod topic_reader;
pub mod transaction;
