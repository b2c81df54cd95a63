//! The configuration of this service; the defaults are in `config/raw-producer.toml`.

use std::path::PathBuf;

use common::config::{AdminConfig, CommonConfig, Duration, Invalid, Service, ServiceConfig, list};
use serde::Deserialize;
use url::Url;

use crate::sequencer::start_from::StartFrom;

/// All keys.
#[derive(Debug, Clone)]
pub struct Config {
    /// Keys that other services have too.
    pub common: CommonConfig,
    pub(crate) deribit: DeribitConfig,
    /// `[sequence]`
    pub sequence: SequenceConfig,
}

/// The keys that only this service has.
#[derive(Debug, Deserialize)]
pub struct RawProducerConfig {
    deribit: DeribitConfig,
    sequence: SequenceConfig,
}

/// `[deribit]`
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct DeribitConfig {
    pub(crate) url: Url,
    #[serde(deserialize_with = "list")]
    pub(crate) channels: Vec<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret_file: Option<PathBuf>,
    /// Number of connections, each with every channel.
    pub(crate) connections: usize,
    /// The exchange's limit, besides a burst.
    pub(crate) requests_per_second: u32,
    /// Start of a new topic; `None` is now.
    pub(crate) start_from: Option<StartFrom>,
}

/// `[sequence]`
#[derive(Debug, Clone, Deserialize)]
pub struct SequenceConfig {
    pub(crate) hold_max: Duration,
    /// The most trades buffered in memory, besides one page of history.
    pub max_buffered_trades: usize,
    pub(crate) reconcile_interval: Duration,
    pub(crate) max_ahead: Duration,
}

impl SequenceConfig {
    fn check(&self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if self.max_buffered_trades < 100 {
            invalid.push(Invalid::new(
                "sequence.max_buffered_trades",
                self.max_buffered_trades,
                "100 or more",
            ));
        }
        if *self.reconcile_interval < std::time::Duration::from_secs(1) {
            invalid.push(Invalid::new("sequence.reconcile_interval", self.reconcile_interval, "1s or more"));
        }
        if *self.max_ahead >= std::time::Duration::from_secs(3_600) {
            let allowed = "less than 1h: Kafka refuses records that are an hour ahead";
            invalid.push(Invalid::new("sequence.max_ahead", self.max_ahead, allowed));
        }
        invalid
    }
}

impl ServiceConfig for Config {
    const SERVICE: Service = Service::RawProducer;
    type Common = CommonConfig;
    type Own = RawProducerConfig;

    fn new(common: CommonConfig, own: RawProducerConfig) -> Self {
        Self { common, deribit: own.deribit, sequence: own.sequence }
    }

    fn admin(&self) -> &AdminConfig {
        &self.common.admin
    }

    fn check(&self) -> Vec<Invalid> {
        let start = self.deribit.start_from.iter().filter_map(|start| start.check(&self.common.topics));
        let own = self.deribit.check().into_iter().chain(self.sequence.check()).chain(start);
        self.common.check().into_iter().chain(own).collect()
    }
}

impl DeribitConfig {
    fn check(&self) -> Vec<Invalid> {
        let mut invalid = Vec::new();
        if !matches!(self.url.scheme(), "ws" | "wss") {
            invalid.push(Invalid::new("deribit.url", &self.url, "a ws:// or wss:// URL"));
        }
        if self.channels.is_empty() {
            invalid.push(Invalid::missing("deribit.channels", "one channel or more"));
        }
        let wrong = self.channels.iter().filter(|channel| !is_trade_channel(channel));
        invalid.extend(wrong.map(|channel| {
            let allowed = "trades.<instrument>.<interval> or trades.<kind>.<currency>.<interval>";
            Invalid::new("deribit.channels", format!("{channel:?}"), allowed)
        }));
        if !(1..=8).contains(&self.connections) {
            invalid.push(Invalid::new("deribit.connections", self.connections, "1 to 8"));
        }
        if self.requests_per_second == 0 {
            invalid.push(Invalid::new("deribit.requests_per_second", 0, "1 or more; the exchange allows 20"));
        }
        let key = self.client_id.is_some();
        if key != self.client_secret_file.is_some() {
            let (missing, given) =
                if key { ("client_secret_file", "client_id") } else { ("client_id", "client_secret_file") };
            let allowed = format!("a value, as deribit.{given} is given");
            invalid.push(Invalid::missing(format!("deribit.{missing}"), allowed));
        }
        let raw = self.channels.iter().find(|channel| channel.ends_with(".raw"));
        if let (false, Some(channel)) = (key, raw) {
            let allowed = "100ms or agg2 channels, or deribit.client_id and .client_secret_file too: raw ones need a key";
            invalid.push(Invalid::new("deribit.channels", format!("{channel:?}"), allowed));
        }
        invalid
    }
}

fn is_trade_channel(channel: &str) -> bool {
    let parts: Vec<_> = channel.split('.').collect();
    let interval = parts.last().is_some_and(|interval| ["100ms", "agg2", "raw"].contains(interval));
    interval
        && parts.first() == Some(&"trades")
        && (parts.len() == 3 || parts.len() == 4)
        && !parts.contains(&"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::config::load_from;

    fn load(environment: &[(&str, &str)]) -> Result<Config, common::Failure> {
        load_from(None, environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn the_defaults_subscribe_to_the_five_kinds_of_every_currency() {
        let config = load(&[]).unwrap();
        assert_eq!(config.deribit.channels.len(), 5);
        assert!(
            config.deribit.channels.iter().all(|c| c.starts_with("trades.") && c.ends_with(".any.100ms"))
        );
        assert_eq!(config.common.admin.listen.port(), 9101);
    }

    #[test]
    fn channels_come_from_the_environment_with_commas() {
        let config =
            load(&[("KSTREAM__DERIBIT__CHANNELS", "trades.BTC-PERPETUAL.100ms, trades.option.BTC.agg2")])
                .unwrap();
        assert_eq!(config.deribit.channels, ["trades.BTC-PERPETUAL.100ms", "trades.option.BTC.agg2"]);
    }

    #[test]
    fn an_invalid_value_is_rejected_with_key_value_and_what_is_allowed() {
        for (variable, value, expected) in [
            (
                "URL",
                "https://x/ws",
                "deribit.url: invalid value https://x/ws; expected a ws:// or wss:// URL",
            ),
            ("CHANNELS", "", "deribit.channels: no value; expected one channel or more"),
            (
                "CHANNELS",
                "book.BTC.100ms",
                "deribit.channels: invalid value \"book.BTC.100ms\"; expected trades.",
            ),
            ("CHANNELS", "trades.BTC-PERPETUAL.raw", "raw ones need a key"),
            ("CLIENT_ID", "abc", "deribit.client_secret_file: no value; expected a value"),
        ] {
            let rejected = load(&[(&format!("KSTREAM__DERIBIT__{variable}"), value)]).unwrap_err();
            assert_eq!(rejected.code(), 78);
            assert!(rejected.to_string().contains(expected), "{rejected}");
        }
    }
}
