//! What the tests and benchmarks over the real servers share.
//!
//! The project's scripts start the servers; `KSTREAM_STATE` names the state folder that holds their ports.

#![expect(clippy::missing_errors_doc, reason = "an error here is a test that fails, and says why itself")]

pub mod chaos;
pub mod consumer_group;
pub mod eventually;
pub mod exchange;
pub mod fixtures;
pub mod harness;
pub mod ingest;
pub mod load;
pub mod metric_names;
pub mod metrics;
pub mod pipeline;
pub mod postgres;
pub mod produce;
pub mod query_plans;
pub mod servers;
pub mod service;
pub mod sink;
pub mod topic;
pub mod wire_producer;
pub mod zipkin;

use std::sync::LazyLock;

pub use eventually::{PATIENCE, eventually};
pub use harness::{Harness, Launch};
pub use nix::sys::signal::Signal;
pub use servers::{ServerFault, Servers};
pub use service::{Service, ServiceExit};

/// The client that the services use too. It keeps no connection open: one would end with the runtime of the test that opened it.
#[must_use]
pub fn http() -> &'static reqwest::Client {
    static CLIENT: LazyLock<reqwest::Client> = LazyLock::new(|| {
        common::http::builder().pool_max_idle_per_host(0).build().expect("the system has certificates")
    });
    &CLIENT
}

/// A GET by that client.
pub async fn get(url: String) -> anyhow::Result<reqwest::Response> {
    Ok(http().get(url).send().await?)
}
