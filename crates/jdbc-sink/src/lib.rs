//! Applies the SQL migrations and the Kafka Connect connectors of the Postgres sink, and restarts what fails.
//!
//! | module | content |
//! |---|---|
//! | `config` | all sections of the configuration; each section is defined by its module |
//! | `sink` | topic, table, connector, consumer group and dead-letter topic of each sink |
//! | `record`, `table` | decoded records, and their rows |
//! | `postgres` | address, connection, migrations, schema check, retention |
//! | `connect` | Kafka Connect's REST API, and the connector template |
//! | `kafka` | bounded reading of topics, and the lag of a connector |
//! | `monitor` | watcher, restart policy, diagnosis, and the command `status` |
//! | `dead_letters` | requeues dead letters; the command `skip` |
//! | `verify` | the command `verify`: proves that a table holds what its topic holds |
//! | `labels` | metric labels that several modules share |
//! | [`cli`], `app` | the command line, and the running service |

mod app;
pub mod cli;
mod config;
mod connect;
mod dead_letters;
mod kafka;
mod labels;
mod monitor;
mod postgres;
mod record;
mod sink;
mod table;
mod verify;

pub use app::App;
pub use config::Config;
