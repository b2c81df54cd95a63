//! The configuration of this service; its defaults stand in `config/agg-producer.toml`.

use std::sync::Arc;

use common::config::{
    AdminConfig, Duration, Invalid, KafkaConfig, LogConfig, SchemaRegistryConfig, Service, ServiceConfig,
    TopicsConfig, TracingConfig,
};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::store::checkpoint::Fingerprint;
use crate::store::partition::Windowing;
use crate::window::time_windows::{TimeWindows, WindowsError};
use crate::window::weights::{Tau, Weights};

/// Everything that can be configured.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// How long Kafka and the registry are waited for.
    pub startup_deadline: Duration,
    /// How long everything may take to end.
    pub shutdown_deadline: Duration,
    /// Pairs of consumer and producer.
    pub threads: usize,
    /// The consumer group; names all state and every fence.
    pub group_id: String,
    /// This process in its group.
    pub instance: String,
    /// The longest that processed records stay uncommitted.
    pub commit_interval: Duration,
    /// The windows.
    pub window: WindowConfig,
    /// Kafka.
    pub kafka: KafkaConfig,
    /// The schema registry.
    pub schema_registry: SchemaRegistryConfig,
    /// Names and shape of the topics.
    pub topics: TopicsConfig,
    /// The admin endpoints.
    pub admin: AdminConfig,
    /// The log.
    pub log: LogConfig,
    /// Traces.
    pub tracing: TracingConfig,
}

/// `[window]`
#[derive(Debug, Clone, Deserialize)]
pub struct WindowConfig {
    /// Length of a window.
    pub size: Duration,
    /// From one window to the next.
    pub advance: Duration,
    /// How far stream time must be past a window's end for it to close.
    pub grace: Duration,
    /// Time constant of the exponential moving average; half of `size` if not given.
    pub ema_tau: Option<Duration>,
    /// Whether the producer's watermarks move stream time as well.
    pub watermarks: bool,
}

impl WindowConfig {
    fn windows(&self) -> Result<TimeWindows, Invalid> {
        TimeWindows::new(*self.size, *self.advance, *self.grace).map_err(|error| {
            let (key, got) = match error {
                WindowsError::Advance => ("advance", self.advance),
                WindowsError::Size => ("size", self.size),
                WindowsError::Grace => ("grace", self.grace),
            };
            Invalid::new(format!("window.{key}"), got, error.to_string())
        })
    }

    fn tau(&self, windows: &TimeWindows) -> Result<Tau, Invalid> {
        let tau = self.ema_tau.map_or(*self.size / 2, |tau| *tau);
        let least = Duration(*self.size / 500);
        Tau::new(tau, windows).ok_or_else(|| {
            Invalid::new("window.ema_tau", Duration(tau), format!("window.size / 500 or more, here {least}"))
        })
    }

    /// Windows and τ as they are computed with.
    ///
    /// # Errors
    /// The key that does not fit.
    pub fn build(&self) -> Result<(TimeWindows, Tau), Invalid> {
        let windows = self.windows()?;
        Ok((windows, self.tau(&windows)?))
    }
}

impl Config {
    /// Windows with their weights, and what a checkpoint must agree with.
    ///
    /// # Errors
    /// The key that does not fit; none once the configuration has been checked.
    pub fn windowing(&self) -> Result<(Windowing, Fingerprint), Invalid> {
        let (windows, tau) = self.window.build()?;
        let fingerprint = Fingerprint::new(&windows, tau, &self.topics);
        Ok((Windowing { windows, weights: Arc::new(Weights::new(&windows, tau)) }, fingerprint))
    }

    fn check_names(&self) -> Vec<Invalid> {
        let legal = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        let mut invalid = Vec::new();
        if !(1..=240).contains(&self.instance.len()) || !legal(&self.instance) {
            let got = format!("{:?}", self.instance);
            invalid.push(Invalid::new("instance", got, "1 to 240 of a-z A-Z 0-9 . _ -"));
        }
        if self.group_id.trim().is_empty() {
            invalid.push(Invalid::new("group_id", format!("{:?}", self.group_id), "a name"));
        }
        invalid
    }

    fn check_numbers(&self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if !(1..=MOST_THREADS).contains(&self.threads) {
            invalid.push(Invalid::new("threads", self.threads, format!("1 to {MOST_THREADS}")));
        }
        let (least, most) = COMMIT_INTERVALS;
        if !(least..=most).contains(&*self.commit_interval) {
            let allowed = format!("{} to {}", Duration(least), Duration(most));
            invalid.push(Invalid::new("commit_interval", self.commit_interval, allowed));
        }
        invalid
    }

    /// Candles are what windows are put together from after a restart.
    fn check_retention(&self) -> Option<Invalid> {
        let most = *self.topics.retention / 2;
        let windows = self.window.windows().ok()?;
        (windows.lifetime() > most).then(|| {
            let allowed = format!(
                "a size that is, with window.grace, at most half of topics.retention, {}",
                Duration(most)
            );
            Invalid::new("window.size", self.window.size, allowed)
        })
    }
}

const MOST_THREADS: usize = 256;

/// Below, a loop would do nothing but commit; above, consoles would show a lag that is none.
const COMMIT_INTERVALS: (std::time::Duration, std::time::Duration) =
    (std::time::Duration::from_millis(1), std::time::Duration::from_secs(10));

impl ServiceConfig for Config {
    const SERVICE: Service = Service::AggProducer;
    type Common = IgnoredAny;
    type Own = Self;

    fn new(_: IgnoredAny, own: Self) -> Self {
        own
    }

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn check(&self) -> Vec<Invalid> {
        let mut invalid = self.kafka.check();
        invalid.extend(self.topics.check());
        invalid.extend(self.window.build().err());
        invalid.extend(self.check_retention());
        invalid.extend(self.check_names());
        invalid.extend(self.check_numbers());
        invalid
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
        common::config::load_from(None, variables).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_defaults_are_good() {
        let config = load(&[]).unwrap();
        let (windows, tau) = config.window.build().unwrap();
        assert_eq!((windows.size(), windows.advance(), windows.grace()), (300_000, 10_000, 2_000));
        assert_eq!(tau.millis(), 150_000.0);
    }

    #[test]
    fn tau_follows_the_size_in_force_unless_it_is_given() {
        let tau = |variables: &[_]| load(variables).unwrap().window.build().unwrap().1.millis();
        assert_eq!(tau(&[("WINDOW__SIZE", "1m")]), 30_000.0);
        assert_eq!(tau(&[("WINDOW__SIZE", "1m"), ("WINDOW__EMA_TAU", "7s")]), 7_000.0);
    }

    #[test]
    fn what_is_refused_is_named_with_its_value_and_what_is_allowed() {
        let refusals = [
            ("WINDOW__SIZE", "15s", "window.size: invalid value 15s; expected a multiple of window.advance"),
            (
                "TOPICS__RETENTION",
                "10m",
                "window.size: invalid value 5m; expected a size that is, with window.grace, at most half of topics.retention, 5m",
            ),
            (
                "WINDOW__ADVANCE",
                "0s",
                "window.advance: invalid value 0s; expected whole milliseconds, at least one",
            ),
            ("WINDOW__GRACE", "1us", "window.grace: invalid value 1us; expected whole milliseconds"),
            (
                "WINDOW__EMA_TAU",
                "599ms",
                "window.ema_tau: invalid value 599ms; expected window.size / 500 or more, here 600ms",
            ),
            ("THREADS", "0", "threads: invalid value 0; expected 1 to 256"),
            ("INSTANCE", "a b", "instance: invalid value \"a b\"; expected 1 to 240 of"),
            ("GROUP_ID", "", "group_id: invalid value \"\"; expected a name"),
            ("COMMIT_INTERVAL", "2m", "commit_interval: invalid value 2m; expected 1ms to 10s"),
        ];
        for (key, value, expected) in refusals {
            let message = load(&[(key, value)]).unwrap_err();
            assert!(message.contains(expected), "{message}");
        }
    }
}
