//! The database: its address, a connection to it, its tables, and what its errors mean.

pub mod connection;
pub mod errors;
pub mod migrations;
pub mod retention;
pub mod schema_check;
pub mod url;
