//! Makes the tables and the Kafka Connect connectors that bring the topics into Postgres, and watches them.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`] | the service's configuration |
//! | [`postgres`] | the database: its address, a connection, the migrations |
//! | [`connect`] | Kafka Connect: its REST API, the connectors as they ought to be, what makes them so |
//! | [`watch`] | what is to be done when a connector fails or is gone, and the loop that does it |
//! | [`metrics`] | tables, connectors and tasks for Prometheus |
//! | [`app`] | how these are put together, and run |

pub mod app;
pub mod config;
pub mod connect;
pub mod metrics;
pub mod postgres;
pub mod watch;

pub use app::App;
pub use config::Config;
