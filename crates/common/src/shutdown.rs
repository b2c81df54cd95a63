//! Shutdown: one request that all tasks see, supervision of tasks, and a deadline.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Failure;

/// A shutdown request; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(CancellationToken);

impl Shutdown {
    /// A shutdown that is not requested yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that SIGTERM and SIGINT request.
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

    /// Requests the shutdown; `why` goes to the log.
    pub fn request(&self, why: &str) {
        if !self.is_requested() {
            tracing::info!(why, "stopping");
        }
        self.0.cancel();
    }

    /// Whether the shutdown was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Resolves when the shutdown is requested.
    pub async fn requested(&self) {
        self.0.cancelled().await;
    }
}

/// Runs blocking work on a new thread of that name, in the context of the caller's runtime if there is one. The work starts at once. The
/// future resolves to its result.
///
/// It does not use the runtime's pool: at exit the runtime waits for its pool, and a call into librdkafka may take longer than that.
///
/// # Errors
/// [`Failure::Internal`] if the work panicked, [`Failure::Other`] if the thread cannot be started.
pub fn spawn_blocking_thread<T: Send + 'static>(
    name: impl Into<String>,
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, Failure>> + Send + 'static {
    let (name, runtime) = (name.into(), Handle::try_current().ok());
    let (done, result) = oneshot::channel();
    let run = move || {
        let _context = runtime.as_ref().map(Handle::enter);
        // A panic drops `done`, which ends the future. No receiver means that nobody waits for the result.
        done.send(work()).ok();
    };
    let spawned = std::thread::Builder::new().name(name.clone()).spawn(run);
    async move {
        spawned.map_err(|error| anyhow::anyhow!("cannot start the thread {name}: {error}"))?;
        result.await.map_err(|_| Failure::Internal(format!("{name} panicked")))
    }
}

/// The concurrent tasks of a service.
///
/// A task that ends unasked ends all others: a service that silently lacks a task is worse than one that is restarted.
#[derive(Debug)]
pub struct Tasks {
    shutdown: Shutdown,
    running: JoinSet<(Arc<str>, Result<(), Failure>)>,
}

impl Tasks {
    /// Creates an empty set of tasks.
    #[must_use]
    pub fn new(shutdown: Shutdown) -> Self {
        Self { shutdown, running: JoinSet::new() }
    }

    /// Adds a task that runs on the async runtime.
    pub fn spawn(
        &mut self,
        name: impl Into<Arc<str>>,
        task: impl Future<Output = Result<(), Failure>> + Send + 'static,
    ) {
        let name = name.into();
        self.running.spawn(async move { (name, task.await) });
    }

    /// Adds a task that blocks, on its own thread: calls into librdkafka wait, and a worker of the runtime must not.
    pub fn spawn_thread(
        &mut self,
        name: impl Into<Arc<str>>,
        task: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) {
        let name = name.into();
        let thread = spawn_blocking_thread(&*name, task);
        self.spawn(name, async move { thread.await? });
    }

    /// Runs until the shutdown is requested or a task ends. Then it waits for the other tasks, for `deadline` at most.
    ///
    /// # Errors
    /// The first failure; [`Failure::Internal`] for a task that panicked or ended unasked; [`Failure::Other`] for tasks that did not
    /// end within the deadline.
    pub async fn run_to_end(mut self, deadline: Duration) -> Result<(), Failure> {
        let mut end = Ok(());
        tokio::select! {
            () = self.shutdown.requested() => {}
            Some(ended) = self.running.join_next() => {
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
            while let Some(ended) = self.running.join_next().await {
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

type Ended = Result<(Arc<str>, Result<(), Failure>), tokio::task::JoinError>;

fn flatten(ended: Ended) -> (Arc<str>, Result<(), Failure>) {
    match ended {
        Ok((name, outcome)) => (name, outcome),
        Err(error) => ("a task".into(), Err(Failure::Internal(error.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn tasks_that_end_after_the_request_end_the_service_with_success() {
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
    async fn a_task_that_ends_unasked_stops_the_others() {
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
        tasks.spawn_thread("thread", || panic!("on purpose"));
        assert_eq!(
            tasks.run_to_end(DEADLINE).await.unwrap_err().to_string(),
            "internal error: thread panicked"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_left_behind_at_the_deadline() {
        let shutdown = Shutdown::new();
        let mut tasks = Tasks::new(shutdown.clone());
        tasks.spawn("hangs", std::future::pending());
        shutdown.request("test");
        let failure = tasks.run_to_end(DEADLINE).await.unwrap_err();
        assert_eq!(failure.to_string(), "did not stop within shutdown_deadline = 10s");
    }

    #[tokio::test]
    async fn blocking_work_runs_on_a_named_thread_in_the_runtimes_context() {
        let work = || (std::thread::current().name().map(str::to_owned), Handle::try_current().is_ok());
        let (name, has_runtime) = spawn_blocking_thread("worker", work).await.unwrap();
        assert_eq!((name.as_deref(), has_runtime), (Some("worker"), true));
    }

    #[tokio::test]
    async fn blocking_work_that_nobody_waits_for_goes_on() {
        let (begun, seen) = oneshot::channel();
        drop(spawn_blocking_thread("worker", move || begun.send("done")));
        assert_eq!(seen.await, Ok("done"));
        let failure = spawn_blocking_thread("worker", || panic!("on purpose")).await.unwrap_err();
        assert_eq!(failure.to_string(), "internal error: worker panicked");
    }
}
