//! The kinds of failure of a service, and their exit codes.

use std::process::ExitCode;
use std::time::Duration;

/// Why a service ended, by what its operator can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration, or a resource that it names, is wrong. A restart does not help. Exit code 78.
    #[error("{0}")]
    Config(String),
    /// A server was not available in time. A later restart may help. Exit code 69.
    #[error("{what} was not available within startup_deadline = {}: {last}", humantime::format_duration(*deadline))]
    Unavailable {
        /// The server with its address.
        what: String,
        /// How long the service waited.
        deadline: Duration,
        /// The last error seen while waiting.
        last: String,
    },
    /// A bug: a panic, or a task that ended unasked. Exit code 70.
    #[error("internal error: {0}")]
    Internal(String),
    /// Any other error. Exit code 1.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code; 69, 70 and 78 are those of sysexits.h.
    #[must_use]
    pub fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 78,
            Self::Unavailable { .. } => 69,
            Self::Internal(_) => 70,
            Self::Other(_) => 1,
        }
    }
}

/// Prints a failure to standard error and returns its exit code.
///
/// It does not use the log, because configuration errors occur before the log exists.
#[expect(clippy::print_stderr, reason = "the log may not exist yet")]
pub fn report(service: &str, end: Result<(), Failure>) -> ExitCode {
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{service}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// From now on, a panic is logged and ends the process with exit code 70.
///
/// Nothing is drained: a bug may have corrupted the state, so it must not be written. Uncommitted work is done again after the restart.
pub fn exit_on_panic() {
    std::panic::set_hook(Box::new(|panic| {
        let failure = Failure::Internal(panic.to_string());
        tracing::error!(%failure, "panicked");
        #[expect(clippy::disallowed_methods, reason = "there is nothing left to drain")]
        std::process::exit(i32::from(failure.code()));
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_the_exit_code_that_operators_were_promised() {
        let unavailable = Failure::Unavailable {
            what: "kafka at 127.0.0.1:9092".into(),
            deadline: Duration::from_secs(60),
            last: "connection refused".into(),
        };
        assert_eq!(
            unavailable.to_string(),
            "kafka at 127.0.0.1:9092 was not available within startup_deadline = 1m: connection refused"
        );
        let codes = [
            Failure::Config("x".into()).code(),
            unavailable.code(),
            Failure::Internal("x".into()).code(),
            Failure::Other(anyhow::anyhow!("x")).code(),
        ];
        assert_eq!(codes, [78, 69, 70, 1]);
    }

    #[test]
    fn the_causes_of_an_error_are_part_of_its_message() {
        let error = anyhow::anyhow!("connection refused").context("cannot read the tail");
        assert_eq!(Failure::Other(error).to_string(), "cannot read the tail: connection refused");
    }
}
