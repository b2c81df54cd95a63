//! Applies the migrations of `connect/migrations`, each once and in order.

use std::error::Error;
use std::time::Duration;

use common::{Failure, backoff};
use refinery::error::Kind;
use refinery::{Migration, Runner};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connection::{Database, DatabaseConnectError};
use super::errors::{connection_error, find_db_error};
use super::schema_check;
use crate::table::{MOVING_AVERAGES, TRADES};

/// Name and text of each migration file; a test compares them with the folder.
const MIGRATIONS: [(&str, &str); 5] = [
    (
        "V1__trades_and_moving_averages",
        include_str!("../../../../connect/migrations/V1__trades_and_moving_averages.sql"),
    ),
    ("V2__dead_letters", include_str!("../../../../connect/migrations/V2__dead_letters.sql")),
    (
        "V3__verifications_and_retention",
        include_str!("../../../../connect/migrations/V3__verifications_and_retention.sql"),
    ),
    ("V4__views", include_str!("../../../../connect/migrations/V4__views.sql")),
    ("V5__reader", include_str!("../../../../connect/migrations/V5__reader.sql")),
];

/// Two processes that start at once must not migrate at once. The number is arbitrary: "kstream" read as a number.
const LOCK_MIGRATIONS: &str = "SET lock_timeout = '10s'; SELECT pg_advisory_lock(30244766480687469)";

/// Applies what is missing; waits for the server at most for `deadline`.
///
/// # Errors
/// [`Failure::Unavailable`] without a server. [`Failure::Config`] if it rejects the login, or if the database was migrated by a newer
/// version or by other files.
pub(crate) async fn migrate(database: &Database, deadline: Duration) -> Result<(), Failure> {
    let what = database.to_string();
    let mut client = backoff::until_deadline(&what, deadline, async || connect(database).await).await?;
    let report = runner().run_async(&mut client).await.map_err(|error| explain(database, error.kind()))?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migration applied");
    }
    check_schema(&client, database).await?;
    tracing::info!(database = %database.url(), version = MIGRATIONS.len(), "tables are up to date");
    Ok(())
}

/// The history tells which migrations ran, not what was done to the tables since.
async fn check_schema(client: &Client, database: &Database) -> Result<(), Failure> {
    for table in [&TRADES, &MOVING_AVERAGES] {
        let changes = schema_check::changes(client, table).await.map_err(|error| connection_error(&error))?;
        if !changes.is_empty() {
            return Err(Failure::Config(format!(
                "table {} of {} was changed by hand: {}; restore it, or set postgres.url to another database",
                table.name,
                database.url(),
                changes.join("; ")
            )));
        }
    }
    Ok(())
}

/// A connection with the lock on migrations; closing it releases the lock.
async fn connect(database: &Database) -> Result<Client, DatabaseConnectError> {
    let client = database.connect().await?;
    let locked = client.batch_execute(LOCK_MIGRATIONS).await;
    locked.map_err(|error| DatabaseConnectError::Unavailable(format!("{:#}", anyhow::Error::from(error))))?;
    Ok(client)
}

fn runner() -> Runner {
    let migrations = MIGRATIONS.map(|(name, sql)| {
        Migration::unapplied(name, sql).expect("a test parses the name of each migration")
    });
    Runner::new(&migrations)
}

fn explain(database: &Database, kind: &Kind) -> Failure {
    let url = database.url();
    match kind {
        Kind::MissingVersion(migration) if migration.applied_on().is_some() => Failure::Config(format!(
            "the database {url} is newer than this version: it has migration {migration}, this version ends at V{}; start the \
             version that applied it, or a newer one, or set postgres.url to another database",
            MIGRATIONS.len()
        )),
        Kind::MissingVersion(migration) => Failure::Config(format!(
            "the database {url} lacks migration {migration} but has later ones: its table refinery_schema_history was changed by \
             hand; restore it, or set postgres.url to another database"
        )),
        Kind::DivergentVersion(applied, ours) => Failure::Config(format!(
            "the database {url} has migration {applied} with checksum {}, this version has {ours} with checksum {}: one of them was \
             changed by hand; restore it and add a new migration for the change, or set postgres.url to another database",
            applied.checksum(),
            ours.checksum()
        )),
        Kind::Connection(step, error) => explain_statement(database, step, error.as_ref()),
        other => Failure::Internal(other.to_string()),
    }
}

fn explain_statement(database: &Database, step: &str, error: &(dyn Error + 'static)) -> Failure {
    let url = database.url();
    let Some(db_error) = find_db_error(error) else {
        return Failure::Other(anyhow::anyhow!("{database}: {step}: {error}"));
    };
    match *db_error.code() {
        SqlState::INSUFFICIENT_PRIVILEGE => Failure::Config(format!(
            "{step} in {url}: {db_error}; GRANT CREATE ON SCHEMA public TO {}, or make it the database's owner; if it cannot create \
             roles, an administrator must run CREATE ROLE kstream_reader NOLOGIN",
            url.role
        )),
        SqlState::DUPLICATE_TABLE => Failure::Config(format!(
            "{step} in {url}: {db_error}, and no migration of this service created it; rename or drop it, or set postgres.url to \
             another database"
        )),
        _ => Failure::Other(anyhow::anyhow!("{step} in {url}: {db_error}")),
    }
}

#[cfg(test)]
#[path = "migrations_tests.rs"]
mod tests;
