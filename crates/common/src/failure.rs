//! How a service may fail, and the exit code that tells a supervisor what to make of it.

use std::process::ExitCode;
use std::time::Duration;

/// Why a service ended, sorted by what the one who started it can do about it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Configuration, or the state that it points to, is wrong; starting again changes nothing. Exit code 78.
    #[error("{0}")]
    Config(String),
    /// Something needed at the start did not come in time; starting again later may help. Exit code 69.
    #[error("{what} was not available within startup_deadline = {}: {last}", humantime::format_duration(*deadline))]
    Unavailable {
        /// What was waited for, with its address.
        what: String,
        /// How long.
        deadline: Duration,
        /// The last error seen while waiting.
        last: String,
    },
    /// A bug: a panic, or a task that ended before it was asked to. Exit code 70.
    #[error("internal error: {0}")]
    Internal(String),
    /// Everything else. Exit code 1.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    /// The exit code, after sysexits.h where it has a fitting one.
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

/// Turns the end of a service into its exit code, and says why on standard error.
///
/// Standard error and not the log: a configuration mistake is found before there is a log.
#[expect(clippy::print_stderr, reason = "the last words of a process")]
pub fn report(service: &str, end: Result<(), Failure>) -> ExitCode {
    match end {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{service}: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

/// From now on a panic is logged and ends the process with the exit code for that.
///
/// Nothing is drained: state that a defect may have spoilt is not to be written. What was not committed is done again after the restart.
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
