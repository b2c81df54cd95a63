//! The database: its address, a connection to it, its tables, and what its errors mean.

pub mod migrations;
pub mod retention;
pub mod said;
pub mod session;
pub mod shape;
pub mod url;
