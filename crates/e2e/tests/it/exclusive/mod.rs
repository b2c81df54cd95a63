//! Suites that kill servers, or need Kafka Connect to themselves: one test at a time.

mod chaos_averages;
mod chaos_ingest;
mod chaos_sink;
