//! The life of a service: built of its parts, run until it is asked to stop, its last spans sent.

use crate::Failure;
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;

/// Builds a service and runs it until it ends, which SIGTERM and SIGINT ask it to.
///
/// Building may mean to wait a minute for a server: asked to stop meanwhile, it is given up at once.
///
/// # Errors
/// What kept it from being built, or ended it.
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
    async fn one_that_is_asked_to_stop_while_it_waits_for_a_server_stops_well() {
        let shutdown = Shutdown::new();
        let build = async |asked: Shutdown| {
            asked.request("a test");
            std::future::pending::<Result<(), Failure>>().await
        };
        let end = run_until(shutdown, build, async |(), _| Err(Failure::Internal("it ran".into()))).await;
        assert!(end.is_ok(), "{end:?}");
    }

    #[tokio::test]
    async fn what_keeps_it_from_being_built_is_how_it_ends() {
        let build = async |_| Err::<(), _>(Failure::Config("topics.trades".into()));
        let end = run_until(Shutdown::new(), build, async |(), _| Ok(())).await;
        assert!(matches!(end, Err(Failure::Config(_))), "{end:?}");
    }
}
