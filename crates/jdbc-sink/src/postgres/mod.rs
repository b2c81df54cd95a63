//! The database: its address, a connection to it, its tables, and what its errors mean.

pub(crate) mod connection;
pub(crate) mod errors;
pub(crate) mod metrics;
pub(crate) mod migrations;
pub(crate) mod retention;
pub(crate) mod schema_check;
pub(crate) mod url;
