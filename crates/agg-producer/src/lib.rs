//! agg-producer
