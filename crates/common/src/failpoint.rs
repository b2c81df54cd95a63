//! Named points at which a crash test kills or stops the process, more exactly than a signal from outside could; and guarantees that a test
//! disables to show that it would notice.
//!
//! The feature `failpoints` is off in released binaries: then failpoints do nothing and no guarantee can be disabled. With the feature,
//! - `KSTREAM_FAILPOINT=<name>:<n>` kills the process when it passes that point for the n-th time, as `kill -9` does;
//! - `KSTREAM_FAILPOINT=<name>:<n>:stop` stops the process there, as SIGSTOP does;
//! - `KSTREAM_DISABLE_GUARANTEE=<guarantee>` disables a guarantee.

/// Passes the point of that name.
#[inline]
pub fn failpoint(name: &'static str) {
    #[cfg(feature = "failpoints")]
    armed::pass(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Whether a test has disabled the guarantee of that name.
#[must_use]
#[inline]
pub fn without(guarantee: &str) -> bool {
    #[cfg(feature = "failpoints")]
    return armed::without(guarantee);
    #[cfg(not(feature = "failpoints"))]
    {
        let _ = guarantee;
        false
    }
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    struct Failpoint {
        name: String,
        /// How often the point may still be passed.
        left: AtomicU64,
        action: Action,
    }

    enum Action {
        Kill,
        Stop,
    }

    static ARMED: LazyLock<Option<Failpoint>> = LazyLock::new(|| {
        let text = std::env::var("KSTREAM_FAILPOINT").ok()?;
        let mut parts = text.split(':');
        let (name, times) = (parts.next()?.to_owned(), parts.next()?.parse::<u64>().ok()?);
        let action = if parts.next() == Some("stop") { Action::Stop } else { Action::Kill };
        Some(Failpoint { name, left: times.checked_sub(1)?.into(), action })
    });

    static DISABLED: LazyLock<Option<String>> =
        LazyLock::new(|| std::env::var("KSTREAM_DISABLE_GUARANTEE").ok());

    pub(super) fn pass(name: &'static str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
        let one_less = |left: u64| left.checked_sub(1);
        if armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return;
        }
        match armed.action {
            Action::Kill => std::process::abort(),
            Action::Stop => stop(),
        }
    }

    /// Stops the process, once: after SIGCONT the point does nothing.
    #[expect(unsafe_code, reason = "libc has no safe `raise`")]
    fn stop() {
        static STOPPED: AtomicBool = AtomicBool::new(false);
        if !STOPPED.swap(true, Ordering::Relaxed) {
            // SAFETY: `raise` takes any signal and touches no memory of ours.
            unsafe { libc::raise(libc::SIGSTOP) };
        }
    }

    pub(super) fn without(guarantee: &str) -> bool {
        DISABLED.as_deref() == Some(guarantee)
    }
}
