//! Suites that leave the servers alone and have topics of their own.

mod crash_averages;
mod crash_ingest;
mod every_trade_once;
mod exchange_faults;
mod hanging_transactions;
mod rebalances;
mod start_offsets;
mod startup_errors;
