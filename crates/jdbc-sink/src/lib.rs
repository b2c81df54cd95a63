//! Makes the tables and the Kafka Connect connectors that bring the topics into Postgres, and watches them.
//!
//! | room | what is in it |
//! |---|---|
//! | [`config`] | the service's configuration |
//! | [`postgres`] | the database: its address, a connection, the migrations |
//! | [`connect`] | Kafka Connect: its REST API, the connectors as they ought to be, what makes them so |
//! | [`pair`], [`record`], [`table`] | topic and table, records and what they are as rows |
//! | [`kafka`] | reading topics from end to end, and how far the connectors are |
//! | [`status`] | how the connectors are and how far, asked once |
//! | [`verify`] | the proof that a table holds what its topic holds |
//! | [`letters`] | dead letters, decided |
//! | [`watch`] | what is to be done when a connector fails or is gone, and the loop that does it |
//! | [`metrics`] | tables, connectors and tasks for Prometheus |
//! | [`cli`] | the command line |
//! | [`app`] | how these are put together, and run |

pub mod app;
pub mod cli;
pub mod config;
pub mod connect;
pub mod kafka;
pub mod letters;
pub mod metrics;
pub mod pair;
pub mod postgres;
pub mod record;
pub mod status;
pub mod table;
pub mod verify;
pub mod watch;

pub use app::App;
pub use config::Config;
