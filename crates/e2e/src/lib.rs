//! What the tests over the real servers share: where the servers are, and how to read what is in them.
//!
//! The servers are started by the project's own scripts; their ports stand in the state folder that `KSTREAM_STATE` names.

#![expect(clippy::missing_errors_doc, reason = "an error here is a test that fails, and says why itself")]

pub mod exchange;
pub mod faults;
pub mod group;
pub mod ingest;
pub mod metrics;
pub mod pipeline;
pub mod postgres;
pub mod process;
pub mod produce;
pub mod published;
pub mod queries;
pub mod sink;
pub mod stack;
pub mod topic;
pub mod unruly;
pub mod zipkin;

pub use stack::Stack;

/// A port of this machine that nobody has at present.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A GET, by the client that the services use too.
pub async fn get(url: String) -> anyhow::Result<reqwest::Response> {
    Ok(common::http::client()?.get(url).send().await?)
}
