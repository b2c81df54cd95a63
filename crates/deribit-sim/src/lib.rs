//! A simulator of the Deribit exchange: public market data of a synthetic market, over websocket and HTTP.
//!
//! The market is a pure function of seed, options and time ([`market`]). So a restarted simulator continues where it would have been, and a
//! test in the same process knows what the clients must receive:
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
mod fault_injector;
pub mod faults;
mod feed;
mod limits;
pub mod market;
mod metrics;
mod protocol;
mod server;
mod session;
mod simulator;

pub use app::{App, SimArgs};
pub use clock::Clock;
pub use config::{AuthConfig, Config, FaultsConfig, LimitsConfig, MarketConfig};
pub use metrics::Metrics;
pub use simulator::Simulator;
