//! The life cycle of a service: build, run until shutdown, flush spans.

use crate::Failure;
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;

/// Builds a service and runs it until it ends; SIGTERM and SIGINT request its shutdown.
///
/// Building may wait a minute for a server. A shutdown request ends it at once.
///
/// # Errors
/// The failure of `build` or `run`.
pub async fn run<A>(
    telemetry: Telemetry,
    build: impl AsyncFnOnce(Shutdown) -> Result<A, Failure>,
    run: impl AsyncFnOnce(A, Shutdown) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let end = run_until(Shutdown::on_signals()?, build, run).await;
    telemetry.stop().await;
    end
}

async fn run_until<A>(
    shutdown: Shutdown,
    build: impl AsyncFnOnce(Shutdown) -> Result<A, Failure>,
    run: impl AsyncFnOnce(A, Shutdown) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let built = tokio::select! {
        built = build(shutdown.clone()) => built?,
        () = shutdown.requested() => return Ok(()),
    };
    run(built, shutdown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shutdown_request_while_a_service_is_built_ends_it_with_success() {
        let shutdown = Shutdown::new();
        let build = async |asked: Shutdown| {
            asked.request("a test");
            std::future::pending::<Result<(), Failure>>().await
        };
        let end = run_until(shutdown, build, async |(), _| Err(Failure::Internal("it ran".into()))).await;
        assert!(end.is_ok(), "{end:?}");
    }

    #[tokio::test]
    async fn a_failure_to_build_is_the_end_of_the_service() {
        let build = async |_| Err::<(), _>(Failure::Config("topics.trades".into()));
        let end = run_until(Shutdown::new(), build, async |(), _| Ok(())).await;
        assert!(matches!(end, Err(Failure::Config(_))), "{end:?}");
    }
}
