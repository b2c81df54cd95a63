//! Code that the services of kstream-agg share.
//!
//! | module | purpose |
//! |---|---|
//! | [`config`], [`cli`] | layered configuration and its errors, the command line |
//! | [`failure`] | kinds of failure and their exit codes |
//! | [`telemetry`], [`metrics`], [`admin`] | logs and traces, Prometheus metrics, `/live` `/ready` `/metrics` |
//! | [`service`], [`shutdown`], [`backoff`] | a service's life, stopping within a deadline, waiting with jitter |
//! | [`failpoint`] | where crash tests end a process |
//! | [`kafka`] | client settings by role, topics, groups, batches, transactions |
//! | [`avro`], [`model`] | the contract: schemas, codec, registry, and the records as Rust types |

pub mod admin;
pub mod avro;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod failpoint;
pub mod failure;
pub mod http;
pub mod kafka;
pub mod metrics;
pub mod model;
pub mod service;
pub mod shutdown;
pub mod telemetry;

pub use failure::Failure;
