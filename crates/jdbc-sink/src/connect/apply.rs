//! Makes a connector what it ought to be.

use common::Failure;
use common::backoff::Retryable;

use super::api::{ConnectApi, ConnectError};
use super::responses::Complaint;
use super::template::Connector;

/// What was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// It was as it ought to be.
    Unchanged,
    /// There was none of its name.
    Made,
    /// These keys were otherwise.
    Changed(Vec<String>),
}

/// Why a connector could not be made what it ought to be.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Connect does not answer, or refuses.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A plugin is missing.
    #[error(
        "connector {connector}: kafka connect has no plugin {class}, it has {installed}; install it below Connect's plugin.path"
    )]
    NoPlugin {
        /// The connector's name.
        connector: &'static str,
        /// The plugin's class.
        class: String,
        /// What is there.
        installed: String,
    },
    /// Connect finds the configuration wrong.
    #[error("connector {connector}: kafka connect refuses its configuration: {}", list(complaints))]
    Invalid {
        /// The connector's name.
        connector: &'static str,
        /// What it finds.
        complaints: Vec<Complaint>,
    },
}

impl Retryable for ApplyError {
    fn is_retryable(&self) -> bool {
        matches!(self, Self::Connect(error) if error.is_retryable())
    }
}

impl From<ApplyError> for Failure {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Connect(error) => error.into(),
            _ => Self::Config(error.to_string()),
        }
    }
}

fn list(complaints: &[Complaint]) -> String {
    let lines: Vec<_> = complaints.iter().map(|found| format!("{}: {}", found.key, found.message)).collect();
    lines.join("; ")
}

/// Checks the connector's configuration by Connect's own judgement, and makes or changes the connector where it differs.
///
/// # Errors
/// [`ApplyError`]; nothing has changed then.
pub async fn apply(api: &ConnectApi, connector: &Connector) -> Result<Applied, ApplyError> {
    check(api, connector).await?;
    let found = api.config(connector.name).await?;
    let applied = match &found {
        None => Applied::Made,
        Some(found) => match connector.differences(found) {
            keys if keys.is_empty() => return Ok(Applied::Unchanged),
            keys => Applied::Changed(keys),
        },
    };
    api.put_config(connector).await?;
    tell(connector.name, &applied);
    Ok(applied)
}

/// Keys only: a value that somebody put there by hand may be a secret.
fn tell(connector: &str, applied: &Applied) {
    match applied {
        Applied::Unchanged => {}
        Applied::Made => tracing::info!(connector, "connector made"),
        Applied::Changed(keys) => tracing::info!(connector, keys = keys.join(", "), "connector changed"),
    }
}

async fn check(api: &ConnectApi, connector: &Connector) -> Result<(), ApplyError> {
    // Asked for a class that it does not have, its validation answers 500, as for something passing.
    let installed = api.plugins().await?;
    if !installed.iter().any(|plugin| plugin.class == connector.class()) {
        let classes: Vec<_> = installed.into_iter().map(|plugin| plugin.class).collect();
        let installed = if classes.is_empty() { "none".into() } else { classes.join(", ") };
        return Err(ApplyError::NoPlugin {
            connector: connector.name,
            class: connector.class().into(),
            installed,
        });
    }
    match api.validate(connector).await? {
        complaints if complaints.is_empty() => Ok(()),
        complaints => Err(ApplyError::Invalid { connector: connector.name, complaints }),
    }
}
