//! Named points at which a crash test ends the process, where no signal from outside could hit so well.
//!
//! Without the feature `failpoints`, which no released binary has, passing one is nothing. With it, `KSTREAM_FAILPOINT=<name>:<n>` ends the process when
//! it passes the point of that name for the n-th time: at once, as `kill -9` does.

/// Passes the point of that name.
#[inline]
pub fn failpoint(name: &'static str) {
    #[cfg(feature = "failpoints")]
    armed::pass(name);
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    struct Armed {
        name: String,
        /// Times that the point may still be passed.
        left: AtomicU64,
    }

    static ARMED: LazyLock<Option<Armed>> = LazyLock::new(|| {
        let text = std::env::var("KSTREAM_FAILPOINT").ok()?;
        let (name, times) = text.split_once(':')?;
        Some(Armed { name: name.to_owned(), left: times.parse::<u64>().ok()?.checked_sub(1)?.into() })
    });

    pub(super) fn pass(name: &'static str) {
        let Some(armed) = ARMED.as_ref().filter(|armed| armed.name == name) else { return };
        let one_less = |left: u64| left.checked_sub(1);
        if armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_err() {
            std::process::abort();
        }
    }
}
