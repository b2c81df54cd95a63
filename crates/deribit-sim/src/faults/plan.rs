//! The plan of faults: a TOML file with a seed and a list.

use std::path::Path;
use std::time::Duration;

use common::config;
use serde::Deserialize;

use super::FaultKind;
use crate::market::MarketHoles;

/// A parsed plan of faults.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    pub(super) seed: u64,
    pub(super) faults: Vec<PlannedFault>,
}

/// One `[[fault]]` of the plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct PlannedFault {
    pub(super) kind: FaultKind,
    pub(super) trigger: Trigger,
    /// How often it strikes at most.
    pub(super) times: u64,
    pub(super) lasts: Duration,
}

/// The condition under which a fault strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trigger {
    /// With a chance of one in N at each occasion.
    OneIn(u64),
    /// At the first occasion after every N trades sent.
    EveryTrades(u64),
    /// At the first occasion after that time since the start, then at the given interval, if any.
    At(Duration, Option<Duration>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    #[serde(default)]
    seed: u64,
    #[serde(default)]
    fault: Vec<FaultEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FaultEntry {
    kind: FaultKind,
    one_in: Option<u64>,
    every_trades: Option<u64>,
    at: Option<config::Duration>,
    every: Option<config::Duration>,
    times: Option<u64>,
    lasts: Option<config::Duration>,
}

impl Plan {
    /// Reads a plan file.
    ///
    /// # Errors
    /// A message with the path, and with the fault's number if one fault is invalid.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
        Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Parses the text of a plan.
    ///
    /// # Errors
    /// As [`Plan::read`].
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: PlanFile = toml::from_str(text).map_err(|error| error.to_string())?;
        let numbered = written.fault.into_iter().enumerate();
        let fault = |(at, fault): (usize, FaultEntry)| {
            let kind = fault.kind;
            fault.check().map_err(|allowed| format!("fault {} ({kind}) expects {allowed}", at + 1))
        };
        Ok(Self { seed: written.seed, faults: numbered.map(fault).collect::<Result<_, _>>()? })
    }

    /// The holes of the market, if the plan has any.
    pub(crate) fn holes(&self) -> Option<MarketHoles> {
        self.faults.iter().find_map(|fault| match fault {
            PlannedFault { kind: FaultKind::Hole, trigger: Trigger::OneIn(n), .. } => {
                Some(MarketHoles::new(self.seed, *n))
            }
            _ => None,
        })
    }
}

impl FaultEntry {
    fn check(self) -> Result<PlannedFault, &'static str> {
        let trigger = match (self.one_in, self.every_trades, self.at, self.every) {
            (Some(0), ..) | (_, Some(0), ..) => return Err("one_in and every_trades of 1 or more"),
            (Some(n), None, None, None) => Trigger::OneIn(n),
            (None, Some(n), None, None) => Trigger::EveryTrades(n),
            (None, None, Some(at), every) => Trigger::At(*at, every.map(|every| *every)),
            _ => return Err("one of one_in, every_trades and at; every goes with at"),
        };
        let is_hole = self.kind == FaultKind::Hole;
        if is_hole && (!matches!(trigger, Trigger::OneIn(_)) || self.times.is_some()) {
            return Err("one_in and nothing else: a number has no trade, whenever it is asked for");
        }
        let by_default = match self.kind {
            FaultKind::Stall | FaultKind::Lag => 2,
            FaultKind::Maintenance => 5,
            _ => 0,
        };
        let lasts = self.lasts.map_or(Duration::from_secs(by_default), |lasts| *lasts);
        Ok(PlannedFault { kind: self.kind, trigger, times: self.times.unwrap_or(u64::MAX), lasts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_names_its_faults_and_when_they_strike() {
        let plan = Plan::parse(
            r#"
            seed = 7
            [[fault]]
            kind = "half-open"
            one_in = 100
            [[fault]]
            kind = "maintenance"
            at = "10s"
            every = "1m"
            lasts = "20s"
            times = 3
            "#,
        );
        let second = Duration::from_secs;
        let faults = vec![
            PlannedFault {
                kind: FaultKind::HalfOpen,
                trigger: Trigger::OneIn(100),
                times: u64::MAX,
                lasts: second(0),
            },
            PlannedFault {
                kind: FaultKind::Maintenance,
                trigger: Trigger::At(second(10), Some(second(60))),
                times: 3,
                lasts: second(20),
            },
        ];
        assert_eq!(plan, Ok(Plan { seed: 7, faults }));
    }

    #[test]
    fn a_fault_that_cannot_strike_is_refused_by_its_number() {
        for (fault, expected) in [
            (r#"kind = "drop""#, "fault 1 (drop) expects one of one_in, every_trades and at"),
            ("kind = \"drop\"\none_in = 0", "of 1 or more"),
            ("kind = \"cut\"\none_in = 2\nat = \"1s\"", "one of one_in"),
            ("kind = \"hole\"\nevery_trades = 2", "fault 1 (hole) expects one_in and nothing else"),
            ("kind = \"flood\"\none_in = 2", "unknown variant `flood`"),
            ("kind = \"cut\"\none_in = 2\noften = 1", "unknown field `often`"),
        ] {
            let error = Plan::parse(&format!("[[fault]]\n{fault}")).unwrap_err();
            assert!(error.contains(expected), "{fault}: {error}");
        }
    }

    #[test]
    fn the_example_is_a_plan_with_every_kind() {
        let plan = Plan::parse(include_str!("../../../../config/deribit-sim-faults.toml")).unwrap();
        let missing: Vec<_> = FaultKind::ALL
            .iter()
            .filter(|kind| plan.faults.iter().all(|fault| fault.kind != **kind))
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
