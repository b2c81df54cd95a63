//! Connections to Postgres.

use anyhow::Context as _;
use tokio_postgres::{Client, NoTls};

use crate::Servers;

/// Connects to the database of `make run`.
pub async fn connect(servers: &Servers) -> anyhow::Result<Client> {
    connect_to(servers, "kstream").await
}

/// Connects to another database of the same server.
pub async fn connect_to(servers: &Servers, database: &str) -> anyhow::Result<Client> {
    let password = std::fs::read_to_string(servers.root().join("secrets/postgres_password"))
        .context("no password file")?;
    let mut settings = tokio_postgres::Config::new();
    settings
        .host("127.0.0.1")
        .port(servers.port("POSTGRES_PORT")?)
        .user("kstream")
        .dbname(database)
        .password(password.trim());
    let (client, connection) = settings.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
