//! Stopping: one request that all parts see, a guard against parts that end unasked, a ceiling over the whole.

use std::future::Future;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// The request to stop; clones are one and the same request.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A request that nobody has made yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A request that SIGTERM and SIGINT make.
    ///
    /// # Errors
    /// If the signal handlers cannot be installed.
    pub fn on_signals() -> Result<Self, Failure> {
        let shutdown = Self::new();
        let install = |kind| signal(kind).map_err(|error| Failure::Other(anyhow::Error::from(error)));
        let (mut terminate, mut interrupt) =
            (install(SignalKind::terminate())?, install(SignalKind::interrupt())?);
        let request = shutdown.clone();
        tokio::spawn(async move {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            request.request(name);
        });
        Ok(shutdown)
    }

    /// Asks everything to stop.
    pub fn request(&self, why: &str) {
        if !self.is_requested() {
            tracing::info!(why, "stopping");
        }
        self.0.cancel();
    }

    /// Whether it was asked to stop.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Returns when it is asked to stop.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// The parts that a service runs side by side.
///
/// A part that ends before it was asked to takes all others with it: a service that has silently lost a part is worse than one
/// that its supervisor starts again.
#[derive(Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    parts: JoinSet<(&'static str, Result<(), Failure>)>,
}

impl Tasks {
    /// No parts yet.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, parts: JoinSet::new() }
    }

    /// Adds a part that runs on the async runtime.
    pub fn spawn(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) {
        self.parts.spawn(async move { (name, part.await) });
    }

    /// Adds a part that blocks, on a thread of its own: librdkafka's calls wait, and a runtime's worker must not.
    ///
    /// # Errors
    /// If the thread cannot be made.
    pub fn spawn_thread(
        &mut self,
        name: &'static str,
        part: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let (done, outcome) = tokio::sync::oneshot::channel();
        let thread = std::thread::Builder::new().name(name.to_owned());
        // Dropping `done` in a panic is what tells the runtime's side of it.
        thread.spawn(move || drop(done.send(part()))).map_err(anyhow::Error::from)?;
        self.spawn(name, async move {
            outcome.await.unwrap_or_else(|_| Err(Failure::Internal(format!("{name} panicked"))))
        });
        Ok(())
    }

    /// Runs until the shutdown is requested or a part ends, then lets the others end, at most for `deadline`.
    ///
    /// # Errors
    /// The first failure; [`Failure::Internal`] for a part that panicked or ended unasked; [`Failure::Other`] for parts that did not
    /// end within the deadline.
    pub async fn run_to_end(mut self, deadline: Duration) -> Result<(), Failure> {
        let mut end = Ok(());
        tokio::select! {
            () = self.shutdown.requested() => {}
            Some(ended) = self.parts.join_next() => {
                let unasked = !self.shutdown.is_requested();
                let (name, outcome) = flatten(ended);
                if unasked && outcome.is_ok() {
                    end = Err(Failure::Internal(format!("{name} ended without being asked to")));
                } else {
                    end = outcome;
                }
                self.shutdown.request(&format!("{name} ended"));
            }
        }
        let drain = async {
            while let Some(ended) = self.parts.join_next().await {
                let (_, outcome) = flatten(ended);
                if end.is_ok() {
                    end = outcome;
                }
            }
        };
        let drained = tokio::time::timeout(deadline, drain).await;
        if drained.is_err() && end.is_ok() {
            let deadline = humantime::format_duration(deadline);
            return Err(Failure::Other(anyhow::anyhow!(
                "did not stop within shutdown_deadline = {deadline}"
            )));
        }
        end
    }
}

type Ended = Result<(&'static str, Result<(), Failure>), tokio::task::JoinError>;

fn flatten(ended: Ended) -> (&'static str, Result<(), Failure>) {
    match ended {
        Ok((name, outcome)) => (name, outcome),
        Err(error) => ("a task", Err(Failure::Internal(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn parts_that_end_after_the_request_end_well() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        let seen = shutdown.clone();
        tasks.spawn("waits", async move {
            seen.requested().await;
            Ok(())
        });
        shutdown.request("test");
        tasks.run_to_end(DEADLINE).await.unwrap();
    }

    #[tokio::test]
    async fn a_part_that_ends_unasked_stops_the_others_and_is_an_internal_error() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("quits", async { Ok(()) });
        let seen = shutdown.clone();
        tasks.spawn("waits", async move {
            seen.requested().await;
            Ok(())
        });
        let failure = tasks.run_to_end(DEADLINE).await.unwrap_err();
        assert_eq!(failure.to_string(), "internal error: quits ended without being asked to");
    }

    #[tokio::test]
    async fn a_panicking_task_or_thread_is_an_internal_error() {
        let mut tasks = Tasks::new(Shutdown::new());
        tasks.spawn("task", async { panic!("on purpose") });
        assert_eq!(tasks.run_to_end(DEADLINE).await.unwrap_err().code(), 70);
        let mut tasks = Tasks::new(Shutdown::new());
        tasks.spawn_thread("thread", || panic!("on purpose")).unwrap();
        assert_eq!(
            tasks.run_to_end(DEADLINE).await.unwrap_err().to_string(),
            "internal error: thread panicked"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_does_not_end_is_left_behind_at_the_deadline() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("hangs", std::future::pending());
        shutdown.request("test");
        let failure = tasks.run_to_end(DEADLINE).await.unwrap_err();
        assert_eq!(failure.to_string(), "did not stop within shutdown_deadline = 10s");
    }
}
