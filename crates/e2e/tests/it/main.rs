//! The tests over the real servers, one module a suite.
//!
//! `make test` starts the servers and runs the modules in this order:
//! [`parallel`], whose suites have topics of their own and run side by side; [`exclusive`], whose suites kill servers and run one after
//! another; and those over the pipeline of `make run FEED=sim`. Without the feature `real-servers` only what needs no server is left.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]
#![cfg_attr(
    feature = "real-servers",
    expect(clippy::indexing_slicing, clippy::print_stdout, reason = "likewise")
)]

mod compose_environment;

#[cfg(feature = "real-servers")]
mod aggregators;
#[cfg(feature = "real-servers")]
mod exclusive;
#[cfg(feature = "real-servers")]
mod parallel;
#[cfg(feature = "real-servers")]
mod pipeline_paused;
#[cfg(feature = "real-servers")]
mod pipeline_running;
#[cfg(feature = "real-servers")]
mod pipeline_verify;
#[cfg(feature = "real-servers")]
mod reference;
