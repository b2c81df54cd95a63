//! raw-producer
