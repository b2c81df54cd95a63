//! Makes the tables and the Kafka Connect connectors that bring the topics into Postgres, and watches them.
//!
//! | module | content |
//! |---|---|
//! | [`config`] | the service's configuration |
//! | [`sink`] | topic, table, connector and dead-letter topic of each sink |
//! | [`record`], [`table`] | decoded records, and their rows |
//! | [`postgres`] | address, connection, migrations, schema check, retention |
//! | [`connect`] | Kafka Connect's REST API, and the connector templates |
//! | [`kafka`] | bounded reading of topics, and the lag of a connector |
//! | [`monitor`] | the watcher: restart policy, diagnosis, `status` |
//! | [`dead_letters`] | requeues dead letters, and `skip` |
//! | [`verify`] | proves that a table holds what its topic holds |
//! | [`metrics`] | tables, connectors and tasks for Prometheus |
//! | [`cli`], [`app`] | command line, and the running service |

pub mod app;
pub mod cli;
pub mod config;
pub mod connect;
pub mod dead_letters;
pub mod kafka;
pub mod metrics;
pub mod monitor;
pub mod postgres;
pub mod record;
pub mod sink;
pub mod table;
pub mod verify;

pub use app::App;
pub use config::Config;
