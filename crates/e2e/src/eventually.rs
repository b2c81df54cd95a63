//! Waiting.

use std::time::{Duration, Instant};

use anyhow::bail;

/// Longer than anything takes on any machine: only a test that hangs waits for so long.
pub const PATIENCE: Duration = Duration::from_secs(600);
/// From one attempt to the next.
const INTERVAL: Duration = Duration::from_millis(50);

/// Waits until `holds` returns true. An error counts as "not yet"; the last one is in the message.
pub async fn eventually(
    within: Duration,
    what: &str,
    mut holds: impl AsyncFnMut() -> anyhow::Result<bool>,
) -> anyhow::Result<()> {
    let end = Instant::now() + within;
    loop {
        let last = match holds().await {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if Instant::now() > end {
            match last {
                Some(error) => return Err(error.context(format!("not within {within:?}: {what}"))),
                None => bail!("not within {within:?}: {what}"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_as_soon_as_it_holds_and_names_what_it_waited_for_if_it_never_does() {
        let mut attempts = 0;
        let third = async || {
            attempts += 1;
            if attempts == 1 { Err(anyhow::anyhow!("away")) } else { Ok(attempts == 3) }
        };
        eventually(PATIENCE, "the third attempt", third).await.unwrap();
        let never = eventually(Duration::ZERO, "the end", async || bail!("away")).await.unwrap_err();
        assert_eq!(format!("{never:#}"), "not within 0ns: the end: away");
    }
}
