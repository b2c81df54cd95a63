//! The database: its address, a connection to it, and its tables.

pub mod migrations;
pub mod session;
pub mod url;
