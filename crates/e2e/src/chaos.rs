//! The two settings of a fault test that strikes at random: how long, and by which seed.

use std::time::Duration;

use anyhow::Context as _;
use fastrand::Rng;

/// How long a fault test runs, by `FOR` (such as `10m`); `None` if that is unset or empty: then it runs briefly.
pub fn requested_duration() -> anyhow::Result<Option<Duration>> {
    let Some(text) = std::env::var("FOR").ok().filter(|text| !text.is_empty()) else { return Ok(None) };
    let time =
        humantime::parse_duration(&text).with_context(|| format!("FOR is '{text}', not a time like 10m"))?;
    Ok(Some(time))
}

/// A generator with the seed `SEED`, or a random one. Prints the seed, so that a run can be repeated.
pub fn seeded_rng() -> anyhow::Result<Rng> {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().with_context(|| format!("SEED is '{seed}', not a number"))?,
        Err(_) => fastrand::u64(..),
    };
    #[expect(clippy::print_stdout, reason = "a failed run is repeated by it")]
    {
        println!("SEED={seed}");
    }
    Ok(Rng::with_seed(seed))
}
