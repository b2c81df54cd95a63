//! A stand-in for the Deribit exchange: its public market data over websocket and HTTP, of a synthetic market.
//!
//! The market is a pure function of seed, options and time ([`market`]), so a simulator that is started again stands where it
//! would have stood, and a test in the same process can ask it what its clients must have got:
//!
//! ```no_run
//! # async fn example(config: deribit_sim::Config) -> Result<(), common::Failure> {
//! let simulator = deribit_sim::Simulator::start(&config).await?;
//! println!("ws://{}/ws/api/v2", simulator.addr());
//! let now = simulator.clock().now();
//! let expected = simulator.market().trades(now.minus(1_000)..now);
//! # drop(expected);
//! simulator.stop().await;
//! # Ok(())
//! # }
//! ```

mod app;
mod clock;
mod config;
mod exchange;
pub mod faults;
mod feed;
mod limits;
pub mod market;
mod metrics;
mod protocol;
mod server;
mod session;
mod simulator;
mod trouble;

pub use app::{App, Flags};
pub use clock::Clock;
pub use config::{AuthConfig, Config, FaultsConfig, LimitsConfig, MarketConfig};
pub use metrics::Meters;
pub use simulator::Simulator;
