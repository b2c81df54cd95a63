//! The tables: the migrations of `connect/migrations`, each applied once and in order.

use std::error::Error;
use std::time::Duration;

use common::{Failure, backoff};
use refinery::error::Kind;
use refinery::{Migration, Runner};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::connection::{Database, SessionError};
use super::errors::{database_error, said};
use super::schema_check;
use crate::table::{MOVING_AVERAGES, TRADES};

/// Every migration by its file's name, which a test compares with the folder.
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

/// Two that start at once wait for each other. The number is any: "kstream" read as one.
const TAKE_TURNS: &str = "SET lock_timeout = '10s'; SELECT pg_advisory_lock(30244766480687469)";

/// Brings the database's tables up to date, waiting for the server at most for `deadline`.
///
/// # Errors
/// [`Failure::Unavailable`] without a server; [`Failure::Config`] if it refuses us, or if the database was migrated by a newer version or
/// by other files than ours.
pub async fn migrate(database: &Database, deadline: Duration) -> Result<(), Failure> {
    let what = format!("postgres at {}", database.url().address());
    let mut client = backoff::until_deadline(&what, deadline, async || connect(database).await).await?;
    let report = runner().run_async(&mut client).await.map_err(|error| explain(database, error.kind()))?;
    for migration in report.applied_migrations() {
        tracing::info!(%migration, "migration applied");
    }
    check_shape(&client, database).await?;
    tracing::info!(database = %database.url(), version = MIGRATIONS.len(), "tables are up to date");
    Ok(())
}

/// The history says what ran, not what somebody did to the tables since.
async fn check_shape(client: &Client, database: &Database) -> Result<(), Failure> {
    for table in [&TRADES, &MOVING_AVERAGES] {
        let changes = schema_check::changes(client, table).await;
        let changes =
            changes.map_err(|error| Failure::Other(anyhow::anyhow!("postgres: {}", said(&error))))?;
        if !changes.is_empty() {
            return Err(Failure::Config(format!(
                "table {} of {} was changed by hand: {}; put it back, or name another database by postgres.url",
                table.name,
                database.url(),
                changes.join("; ")
            )));
        }
    }
    Ok(())
}

/// A connection that nobody else migrates beside; closing it lets the next in.
async fn connect(database: &Database) -> Result<Client, SessionError> {
    let client = database.connect().await?;
    let turn = client.batch_execute(TAKE_TURNS).await;
    turn.map_err(|error| SessionError::Away(format!("{:#}", anyhow::Error::from(error))))?;
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
            "the database {url} is ahead: it has migration {migration}, this version ends at V{}; start the version that made \
             it, or a newer one, or name another database by postgres.url",
            MIGRATIONS.len()
        )),
        Kind::MissingVersion(migration) => Failure::Config(format!(
            "the database {url} lacks migration {migration} but has later ones: its table refinery_schema_history was changed by \
             hand; restore it, or name another database by postgres.url"
        )),
        Kind::DivergentVersion(applied, ours) => Failure::Config(format!(
            "the database {url} was migrated by another {applied} (checksum {}) than ours, {ours} (checksum {}): one of them was \
             changed by hand; put it back and make a new migration of the change, or name another database by postgres.url",
            applied.checksum(),
            ours.checksum()
        )),
        Kind::Connection(doing, error) => explain_refusal(database, doing, error.as_ref()),
        other => Failure::Defect(other.to_string()),
    }
}

fn explain_refusal(database: &Database, doing: &str, error: &(dyn Error + 'static)) -> Failure {
    let url = database.url();
    let Some(said) = database_error(error) else {
        return Failure::Other(anyhow::anyhow!("postgres at {}: {doing}: {error}", url.address()));
    };
    match *said.code() {
        SqlState::INSUFFICIENT_PRIVILEGE => Failure::Config(format!(
            "{doing} in {url}: {said}; GRANT CREATE ON SCHEMA public TO {}, or make it the database's owner; have an administrator \
             CREATE ROLE kstream_reader NOLOGIN if it may make no roles",
            url.role
        )),
        SqlState::DUPLICATE_TABLE => Failure::Config(format!(
            "{doing} in {url}: {said}, and no migration of ours made it; rename or drop it, or name another database by postgres.url"
        )),
        _ => Failure::Other(anyhow::anyhow!("{doing} in {url}: {said}")),
    }
}

#[cfg(test)]
#[path = "migrations_tests.rs"]
mod tests;
