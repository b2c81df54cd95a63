//! Rows of the tables.

use anyhow::Context as _;
use tokio_postgres::{Client, NoTls};

use crate::Stack;

/// A connection to the stack's database.
pub async fn connect(stack: &Stack) -> anyhow::Result<Client> {
    connect_to(stack, "kstream").await
}

/// A connection to another database of its server.
pub async fn connect_to(stack: &Stack, database: &str) -> anyhow::Result<Client> {
    let password = std::fs::read_to_string(stack.root().join("secrets/postgres_password"))
        .context("no password file")?;
    let mut settings = tokio_postgres::Config::new();
    settings
        .host("127.0.0.1")
        .port(stack.port("POSTGRES_PORT")?)
        .user("kstream")
        .dbname(database)
        .password(password.trim());
    let (client, connection) = settings.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}
