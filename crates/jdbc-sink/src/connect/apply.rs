//! Creates a connector, or corrects its configuration.

use common::Failure;
use common::backoff::Retryable;

use super::api::{ConnectApi, ConnectApiError};
use super::responses::ConfigProblem;
use super::template::Connector;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ApplyOutcome {
    Unchanged,
    Created,
    /// The keys whose values differed, sorted.
    Updated(Vec<String>),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum ApplyError {
    #[error(transparent)]
    Connect(#[from] ConnectApiError),
    #[error(
        "connector {connector}: kafka connect has no plugin {class}, it has {installed}; install it below Connect's plugin.path"
    )]
    NoPlugin { connector: &'static str, class: String, installed: String },
    #[error("connector {connector}: kafka connect rejects its configuration: {}", list(problems))]
    Invalid { connector: &'static str, problems: Vec<ConfigProblem> },
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

fn list(problems: &[ConfigProblem]) -> String {
    let lines: Vec<_> = problems.iter().map(|found| format!("{}: {}", found.key, found.message)).collect();
    lines.join("; ")
}

/// Has Connect validate the configuration, then creates the connector, or updates it if a key differs.
///
/// # Errors
/// [`ApplyError`]; then nothing has changed.
pub(crate) async fn apply(api: &ConnectApi, connector: &Connector) -> Result<ApplyOutcome, ApplyError> {
    check(api, connector).await?;
    let found = api.config(connector.name).await?;
    let outcome = match &found {
        None => ApplyOutcome::Created,
        Some(found) => match connector.differences(found) {
            keys if keys.is_empty() => return Ok(ApplyOutcome::Unchanged),
            keys => ApplyOutcome::Updated(keys),
        },
    };
    api.put_config(connector).await?;
    log_outcome(connector.name, &outcome);
    Ok(outcome)
}

/// Logs keys only: a value that a user set by hand may be a secret.
fn log_outcome(connector: &str, outcome: &ApplyOutcome) {
    match outcome {
        ApplyOutcome::Unchanged => {}
        ApplyOutcome::Created => tracing::info!(connector, "connector created"),
        ApplyOutcome::Updated(keys) => tracing::info!(connector, keys = keys.join(", "), "connector updated"),
    }
}

async fn check(api: &ConnectApi, connector: &Connector) -> Result<(), ApplyError> {
    // For a class that it does not have, validation responds with 500, as for a temporary error.
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
        problems if problems.is_empty() => Ok(()),
        problems => Err(ApplyError::Invalid { connector: connector.name, problems }),
    }
}
