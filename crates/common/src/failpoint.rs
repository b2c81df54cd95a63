//! Named points at which a crash test ends or stops the process, where no signal from outside could hit so well; and guarantees that a test
//! takes out to see that they are missed.
//!
//! Without the feature `failpoints`, which no released binary has, passing a point is nothing and every guarantee is there. With it,
//! `KSTREAM_FAILPOINT=<name>:<n>` ends the process when it passes the point of that name for the n-th time: at once, as `kill -9` does;
//! `KSTREAM_FAILPOINT=<name>:<n>:stop` stops it there, as SIGSTOP does; `KSTREAM_WITHOUT=<guarantee>` takes that one out.

/// Passes the point of that name.
#[inline]
pub fn failpoint(name: &'static str) {
    #[cfg(feature = "failpoints")]
    armed::pass(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

/// Whether a test has taken the guarantee of that name out.
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
    use std::process::Command;
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    struct Armed {
        name: String,
        /// Times that the point may still be passed.
        left: AtomicU64,
        what: What,
    }

    enum What {
        End,
        Stop,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("KSTREAM_FAILPOINT").ok()?;
        let mut parts = text.split(':');
        let (name, times) = (parts.next()?.to_owned(), parts.next()?.parse::<u64>().ok()?);
        let what = if parts.next() == Some("stop") { What::Stop } else { What::End };
        Some(Armed { name, left: times.checked_sub(1)?.into(), what })
    });

    static WITHOUT: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("KSTREAM_WITHOUT").ok());

    pub(super) fn pass(name: &'static str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
        let one_less = |left: u64| left.checked_sub(1);
        if armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok() {
            return;
        }
        match armed.what {
            What::End => std::process::abort(),
            What::Stop => stop(),
        }
    }

    /// Once: whoever goes on passes the point no more.
    fn stop() {
        static STOPPED: AtomicBool = AtomicBool::new(false);
        if !STOPPED.swap(true, Ordering::Relaxed) {
            Command::new("kill").args(["-STOP", &std::process::id().to_string()]).status().ok();
        }
    }

    pub(super) fn without(guarantee: &str) -> bool {
        WITHOUT.as_deref() == Some(guarantee)
    }
}
