//! The configuration of the simulator. Defaults: `config/deribit-sim.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use common::config::{AdminConfig, Duration, Invalid, LogConfig, Service, ServiceConfig, TracingConfig};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::clock::Clock;
use crate::faults::Plan;
use crate::market::{MarketTime, Options};

/// All settings of the simulator.
#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    /// Where the exchange listens; port 0 is any free port.
    pub listen: SocketAddr,
    /// A key that all services have; nothing is waited for here.
    pub startup_deadline: Duration,
    /// How long connections may take to end at shutdown.
    pub shutdown_deadline: Duration,
    /// `[market]`: the synthetic market.
    pub market: MarketConfig,
    /// `[auth]`: the one key that may log in.
    pub auth: AuthConfig,
    /// `[limits]`: limits of each client.
    pub limits: LimitsConfig,
    /// `[faults]`: the faults to inject.
    #[serde(default)]
    pub faults: FaultsConfig,
    /// `[admin]`: the address of `/live`, `/ready` and `/metrics`.
    pub admin: AdminConfig,
    /// `[log]`: format and filter.
    pub log: LogConfig,
    /// `[tracing]`: where spans are sent.
    pub tracing: TracingConfig,
}

/// `[market]`: options and clock of the market.
#[derive(Debug, Clone, Deserialize)]
pub struct MarketConfig {
    /// Seed of the market; see [`Options`].
    pub seed: u64,
    /// Number of active instruments; see [`Options`].
    pub instruments: usize,
    /// Mean trades a second; see [`Options`].
    pub rate: f64,
    /// Exchange seconds for one second of the wall clock.
    pub speed: f64,
    /// When exchange time and wall clock agree, as RFC 3339 in UTC.
    pub origin: Option<String>,
}

/// `[auth]`: a key of a simulated exchange, so no secret.
#[derive(Debug, Clone, Deserialize)]
pub struct AuthConfig {
    /// The client id that `public/auth` accepts.
    pub client_id: String,
    /// The client secret that `public/auth` accepts.
    pub client_secret: String,
    /// How long a login lasts.
    pub expires_in: Duration,
}

/// `[limits]`: what a client may use.
#[derive(Debug, Clone, Deserialize)]
pub struct LimitsConfig {
    /// Whether requests cost credits.
    pub credits: bool,
    /// Open HTTP and websocket connections of one address.
    pub connections_per_ip: usize,
    /// Bytes of the send buffer of a connection.
    pub send_buffer: usize,
    /// The shortest interval that `public/set_heartbeat` accepts.
    pub heartbeat_interval: Duration,
    /// The client must answer a `test_request` within this time.
    pub heartbeat_answer: Duration,
    /// A connection without messages for this long is closed.
    pub idle: Duration,
}

/// `[faults]`: the plan of faults.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct FaultsConfig {
    /// The plan of faults; without one no faults are injected.
    pub file: Option<PathBuf>,
}

impl FaultsConfig {
    /// Reads the plan; without a file the plan is empty.
    ///
    /// # Errors
    /// A file that cannot be read or parsed.
    pub fn plan(&self) -> Result<Plan, Invalid> {
        let allowed = "a plan of faults, such as config/deribit-sim-faults.toml";
        let read = self.file.as_deref().map(Plan::read).transpose();
        Ok(read.map_err(|error| Invalid::new("faults.file", error, allowed))?.unwrap_or_default())
    }
}

impl ServiceConfig for Config {
    const SERVICE: Service = Service::DeribitSim;
    type Common = IgnoredAny;
    type Own = Self;

    fn new(_: IgnoredAny, own: Self) -> Self {
        own
    }

    fn admin(&self) -> &AdminConfig {
        &self.admin
    }

    fn check(&self) -> Vec<Invalid> {
        let mut invalid = self.market.check();
        invalid.extend(self.faults.plan().err());
        if self.limits.connections_per_ip == 0 {
            invalid.push(Invalid::new("limits.connections_per_ip", 0, "1 or more"));
        }
        for (key, value) in [
            ("limits.heartbeat_interval", self.limits.heartbeat_interval),
            ("limits.heartbeat_answer", self.limits.heartbeat_answer),
            ("limits.idle", self.limits.idle),
            ("auth.expires_in", self.auth.expires_in),
        ] {
            if value.is_zero() {
                invalid.push(Invalid::new(key, value, "a duration above 0s"));
            }
        }
        invalid
    }
}

impl MarketConfig {
    /// With more instruments, trade ids would not fit into 63 bits until 2050.
    const MAX_INSTRUMENTS: usize = 20_000;
    /// Trades a second: the arrival process allows 255 trades in a millisecond of one instrument.
    const MAX_RATE: f64 = 100_000.0;

    fn check(&self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if !(1..=Self::MAX_INSTRUMENTS).contains(&self.instruments) {
            let allowed = format!("1 to {}", Self::MAX_INSTRUMENTS);
            invalid.push(Invalid::new("market.instruments", self.instruments, allowed));
        }
        if !(self.rate > 0.0 && self.rate <= Self::MAX_RATE) {
            let allowed = format!("trades a second, above 0, at most {}", Self::MAX_RATE);
            invalid.push(Invalid::new("market.rate", self.rate, allowed));
        }
        if !(0.001..=10_000.0).contains(&self.speed) {
            invalid.push(Invalid::new("market.speed", self.speed, "0.001 to 10000"));
        }
        match &self.origin {
            Some(text) if origin(text).is_none() => {
                let allowed = "an instant after 2024 such as 2026-01-01T00:00:00Z";
                invalid.push(Invalid::new("market.origin", format!("{text:?}"), allowed));
            }
            None if self.speed != 1.0 => {
                let allowed = format!(
                    "an instant at which exchange time and wall clock agree, as market.speed is {}: now, that would be {}",
                    self.speed,
                    humantime::format_rfc3339_seconds(SystemTime::now()),
                );
                invalid.push(Invalid::missing("market.origin", allowed));
            }
            _ => {}
        }
        invalid
    }

    /// The options of the market.
    #[must_use]
    pub fn options(&self) -> Options {
        Options { seed: self.seed, instruments: self.instruments, rate: self.rate }
    }

    /// The clock of the exchange.
    #[must_use]
    pub fn clock(&self) -> Clock {
        match self.origin.as_deref().and_then(origin) {
            Some(origin) => Clock::new(origin, self.speed),
            None => Clock::WALL,
        }
    }
}

fn origin(text: &str) -> Option<MarketTime> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    let origin = MarketTime(u64::try_from(since.as_millis()).ok()?);
    (origin >= MarketTime::GENESIS).then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    fn with(variables: &[(&str, &str)]) -> Result<Config, String> {
        let variables = variables.iter().map(|(key, value)| (format!("KSTREAM__{key}"), (*value).to_owned()));
        load_from(None, variables).map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_defaults_are_a_config() {
        let config = with(&[]).unwrap();
        assert_eq!(config.listen.port(), 8090);
        assert_eq!(config.market.options(), Options { seed: 1, instruments: 200, rate: 100.0 });
        assert_eq!(config.market.clock(), Clock::WALL);
    }

    #[test]
    fn another_speed_needs_an_origin() {
        let error = with(&[("MARKET__SPEED", "10")]).unwrap_err();
        assert!(error.contains("market.origin: no value"), "{error}");
        let config = with(&[("MARKET__SPEED", "10"), ("MARKET__ORIGIN", "2026-01-01T00:00:00Z")]).unwrap();
        assert_eq!(config.market.clock(), Clock::new(MarketTime(1_767_225_600_000), 10.0));
    }

    #[test]
    fn what_makes_no_market_is_refused_by_name() {
        for (variable, value, key) in [
            ("MARKET__INSTRUMENTS", "0", "market.instruments"),
            ("MARKET__INSTRUMENTS", "20001", "market.instruments"),
            ("MARKET__RATE", "0", "market.rate"),
            ("MARKET__RATE", "-3", "market.rate"),
            ("MARKET__RATE", "NaN", "market.rate"),
            ("MARKET__SPEED", "0", "market.speed"),
            ("MARKET__ORIGIN", "yesterday", "market.origin"),
            ("MARKET__ORIGIN", "1999-01-01T00:00:00Z", "market.origin"),
            ("LIMITS__CONNECTIONS_PER_IP", "0", "limits.connections_per_ip"),
            ("LIMITS__IDLE", "0s", "limits.idle"),
            ("FAULTS__FILE", "/nowhere", "faults.file"),
        ] {
            let error = with(&[(variable, value)]).unwrap_err();
            assert!(error.contains(key), "{variable}={value}: {error}");
        }
    }
}
