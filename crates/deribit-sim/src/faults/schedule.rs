//! When each fault strikes: a state machine over occasions. Times count from the start of the exchange.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{PlannedFault, Trigger};
use super::{FaultKind, Occasion, Plan};
use crate::market::noise::Key;

/// A fault that strikes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InjectedFault {
    pub(crate) kind: FaultKind,
    /// Remaining time of a fault that lasts.
    pub(crate) lasts: Duration,
    /// Random bits for details of the fault.
    pub(crate) chance: u64,
    /// Whether the fault begins now; `false` while it lasts.
    pub(crate) begins: bool,
}

/// The state of every fault of a plan.
#[derive(Debug)]
pub(crate) struct FaultSchedule {
    faults: Vec<ScheduledFault>,
    /// Trades sent so far.
    trades: u64,
}

#[derive(Debug)]
struct ScheduledFault {
    fault: PlannedFault,
    key: Key,
    occasions: u64,
    injected: u64,
    /// Number of trades sent at which it is due next.
    due_trades: u64,
    due_at: Option<Duration>,
    /// When it stops lasting.
    until: Duration,
}

impl FaultSchedule {
    pub(crate) fn new(plan: &Plan) -> Self {
        let key = Key::new(plan.seed);
        let faults =
            (0_u64..).zip(&plan.faults).map(|(at, fault)| ScheduledFault::new(*fault, key.child(at)));
        Self { faults: faults.collect(), trades: 0 }
    }

    /// The fault that strikes at that occasion; of several, the first of the plan.
    pub(crate) fn inject(&mut self, occasion: Occasion, now: Duration) -> Option<InjectedFault> {
        if let Occasion::Notification(trades) = occasion {
            self.trades += trades;
        }
        let trades = self.trades;
        let mut able = self.faults.iter_mut().filter(|scheduled| scheduled.fault.kind.applies_to(occasion));
        able.find_map(|scheduled| scheduled.inject(trades, now))
    }

    /// Number of injected faults by kind.
    pub(crate) fn counts(&self) -> BTreeMap<FaultKind, u64> {
        let mut done = BTreeMap::new();
        for scheduled in &self.faults {
            *done.entry(scheduled.fault.kind).or_default() += scheduled.injected;
        }
        done
    }
}

impl ScheduledFault {
    fn new(fault: PlannedFault, key: Key) -> Self {
        let due_trades = if let Trigger::EveryTrades(n) = fault.trigger { n } else { 0 };
        let due_at = if let Trigger::At(at, _) = fault.trigger { Some(at) } else { None };
        Self { fault, key, occasions: 0, injected: 0, due_trades, due_at, until: Duration::ZERO }
    }

    fn inject(&mut self, trades: u64, now: Duration) -> Option<InjectedFault> {
        let PlannedFault { kind, lasts, .. } = self.fault;
        self.occasions += 1;
        let chance = self.key.at(self.occasions);
        if now < self.until {
            return Some(InjectedFault { kind, lasts: self.until - now, chance, begins: false });
        }
        if self.injected >= self.fault.times || !self.is_due(trades, now, chance) {
            return None;
        }
        self.injected += 1;
        if kind.affects_all_connections() {
            self.until = now + lasts;
        }
        Some(InjectedFault { kind, lasts, chance: self.key.child(1).at(self.occasions), begins: true })
    }

    fn is_due(&mut self, trades: u64, now: Duration, chance: u64) -> bool {
        match self.fault.trigger {
            Trigger::OneIn(n) => chance.is_multiple_of(n),
            Trigger::EveryTrades(n) => {
                let due = trades >= self.due_trades;
                if due {
                    self.due_trades = trades + n;
                }
                due
            }
            Trigger::At(_, every) => {
                let due = self.due_at.is_some_and(|at| now >= at);
                if due {
                    self.due_at = every.map(|every| now + every);
                }
                due
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTIFICATION: Occasion = Occasion::Notification(10);

    fn faults(text: &str) -> FaultSchedule {
        FaultSchedule::new(&Plan::parse(text).unwrap())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_a_plan_nothing_happens() {
        let mut faults = FaultSchedule::new(&Plan::default());
        for occasion in [NOTIFICATION, Occasion::Call, Occasion::History, Occasion::Connection] {
            assert_eq!(faults.inject(occasion, at(1)), None);
        }
    }

    #[test]
    fn one_in_n_strikes_about_that_often_and_repeats_with_the_seed() {
        let text = |seed| format!("seed = {seed}\n[[fault]]\nkind = \"drop\"\none_in = 10");
        let injected = |seed| {
            let mut faults = faults(&text(seed));
            (0..10_000).map(|_| faults.inject(NOTIFICATION, at(1)).is_some()).collect::<Vec<_>>()
        };
        let count = injected(1).iter().filter(|injected| **injected).count();
        assert!((900..1_100).contains(&count), "{count}");
        assert_eq!(injected(1), injected(1));
        assert_ne!(injected(1), injected(2));
    }

    #[test]
    fn trades_are_counted_over_notifications_and_the_fault_strikes_where_it_can() {
        let mut faults = faults("[[fault]]\nkind = \"truncate\"\nevery_trades = 25");
        let history = |faults: &mut FaultSchedule| faults.inject(Occasion::History, at(1)).is_some();
        for sent in [false, false, true] {
            faults.inject(NOTIFICATION, at(1));
            assert_eq!(history(&mut faults), sent);
        }
        assert!(!history(&mut faults));
        assert_eq!(faults.inject(Occasion::Call, at(1)), None);
    }

    #[test]
    fn times_bound_how_often_it_strikes_and_it_is_counted() {
        let mut faults = faults("[[fault]]\nkind = \"cut\"\none_in = 1\ntimes = 2");
        let injected = (0..10).filter(|_| faults.inject(NOTIFICATION, at(1)).is_some()).count();
        assert_eq!((injected, faults.counts()), (2, BTreeMap::from([(FaultKind::Cut, 2)])));
    }

    #[test]
    fn maintenance_lasts_for_everything_and_comes_again() {
        let text = "[[fault]]\nkind = \"maintenance\"\nat = \"10s\"\nevery = \"60s\"\nlasts = \"5s\"";
        let mut faults = faults(text);
        let mut kind =
            |occasion, seconds| faults.inject(occasion, at(seconds)).map(|injected| injected.begins);
        assert_eq!(kind(Occasion::Connection, 9), None);
        assert_eq!(kind(NOTIFICATION, 11), Some(true));
        assert_eq!(kind(Occasion::Connection, 12), Some(false));
        assert_eq!(kind(Occasion::Call, 15), Some(false));
        assert_eq!(kind(NOTIFICATION, 16), None);
        assert_eq!(kind(NOTIFICATION, 71), Some(true));
    }
}
