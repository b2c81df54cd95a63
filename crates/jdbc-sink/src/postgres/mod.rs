//! The database: its address, a connection to it, its tables, and what its errors mean.

pub(crate) mod connection;
pub(crate) mod errors;
pub(crate) mod metrics;
pub(crate) mod migrations;
pub(crate) mod retention;
pub(crate) mod schema_check;
pub(crate) mod url;

use std::path::PathBuf;

use serde::Deserialize;

use self::url::PostgresUrl;

/// `[postgres]`
#[derive(Debug, Clone, Deserialize)]
pub struct PostgresConfig {
    /// Role, server and database.
    pub url: PostgresUrl,
    /// File with the role's password.
    pub password_file: PathBuf,
}
