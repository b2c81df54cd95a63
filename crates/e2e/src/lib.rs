//! What the tests over the real servers share: where the servers are, and how to read what is in them.
//!
//! The servers are started by the project's own scripts; their ports stand in the state folder that `KSTREAM_STATE` names.

#![expect(clippy::missing_errors_doc, reason = "an error here is a test that fails, and says why itself")]

pub mod exchange;
pub mod faults;
pub mod group;
pub mod ingest;
pub mod metrics;
pub mod names;
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

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

pub use stack::Stack;

/// A port of this machine that nobody has at present, and that nobody is given who asks for any: it is another process's to take, later.
pub fn free_port() -> anyhow::Result<u16> {
    /// Below those that the system gives, and above those of the servers.
    const PORTS: std::ops::Range<u32> = 30_000..32_700;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id();
    for _ in PORTS {
        let next = first.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(PORTS.start + next % (PORTS.end - PORTS.start))?;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no port of {PORTS:?} is free")
}

/// The client that the services use too. It keeps no connection: those of one test would end with its runtime.
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
