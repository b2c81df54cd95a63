//! When a fault strikes: a state machine over occasions. Time is what has passed since the exchange opened.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{Fault, When};
use super::{FaultKind, Occasion, Plan};
use crate::market::noise::Key;

/// A fault that strikes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Blow {
    pub(crate) kind: FaultKind,
    /// How long, for those that last.
    pub(crate) lasts: Duration,
    /// Decides what is left to chance.
    pub(crate) chance: u64,
    /// Whether it begins now, and is not one that lasts.
    pub(crate) begins: bool,
}

/// A plan under way.
#[derive(Debug)]
pub(crate) struct Faults {
    faults: Vec<Armed>,
    /// Trades that were sent.
    trades: u64,
}

#[derive(Debug)]
struct Armed {
    fault: Fault,
    key: Key,
    occasions: u64,
    struck: u64,
    /// Trades, at which it is due next.
    due_trades: u64,
    due_at: Option<Duration>,
    /// Until then it lasts.
    until: Duration,
}

impl Faults {
    pub(crate) fn new(plan: &Plan) -> Self {
        let key = Key::new(plan.seed);
        let faults = (0_u64..).zip(&plan.faults).map(|(at, fault)| Armed::new(*fault, key.child(at)));
        Self { faults: faults.collect(), trades: 0 }
    }

    /// What strikes at that occasion: of several, the first of the plan.
    pub(crate) fn strike(&mut self, occasion: Occasion, now: Duration) -> Option<Blow> {
        if let Occasion::Notification(trades) = occasion {
            self.trades += trades;
        }
        let trades = self.trades;
        let mut able = self.faults.iter_mut().filter(|armed| armed.fault.kind.strikes_at(occasion));
        able.find_map(|armed| armed.strike(trades, now))
    }

    /// How often each kind has struck.
    pub(crate) fn done(&self) -> BTreeMap<FaultKind, u64> {
        let mut done = BTreeMap::new();
        for armed in &self.faults {
            *done.entry(armed.fault.kind).or_default() += armed.struck;
        }
        done
    }
}

impl Armed {
    fn new(fault: Fault, key: Key) -> Self {
        let due_trades = if let When::EveryTrades(n) = fault.when { n } else { 0 };
        let due_at = if let When::At(at, _) = fault.when { Some(at) } else { None };
        Self { fault, key, occasions: 0, struck: 0, due_trades, due_at, until: Duration::ZERO }
    }

    fn strike(&mut self, trades: u64, now: Duration) -> Option<Blow> {
        let Fault { kind, lasts, .. } = self.fault;
        self.occasions += 1;
        let chance = self.key.at(self.occasions);
        if now < self.until {
            return Some(Blow { kind, lasts: self.until - now, chance, begins: false });
        }
        if self.struck >= self.fault.times || !self.is_due(trades, now, chance) {
            return None;
        }
        self.struck += 1;
        if kind.is_the_exchanges() {
            self.until = now + lasts;
        }
        Some(Blow { kind, lasts, chance: self.key.child(1).at(self.occasions), begins: true })
    }

    fn is_due(&mut self, trades: u64, now: Duration, chance: u64) -> bool {
        match self.fault.when {
            When::OneIn(n) => chance.is_multiple_of(n),
            When::EveryTrades(n) => {
                let due = trades >= self.due_trades;
                if due {
                    self.due_trades = trades + n;
                }
                due
            }
            When::At(_, every) => {
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

    fn faults(text: &str) -> Faults {
        Faults::new(&Plan::parse(text).unwrap())
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn without_a_plan_nothing_happens() {
        let mut faults = Faults::new(&Plan::default());
        for occasion in [NOTIFICATION, Occasion::Call, Occasion::History, Occasion::Connection] {
            assert_eq!(faults.strike(occasion, at(1)), None);
        }
    }

    #[test]
    fn a_chance_is_met_about_as_often_as_it_says_and_the_same_for_the_same_seed() {
        let text = |seed| format!("seed = {seed}\n[[fault]]\nkind = \"drop\"\none_in = 10");
        let struck = |seed| {
            let mut faults = faults(&text(seed));
            (0..10_000).map(|_| faults.strike(NOTIFICATION, at(1)).is_some()).collect::<Vec<_>>()
        };
        let count = struck(1).iter().filter(|struck| **struck).count();
        assert!((900..1_100).contains(&count), "{count}");
        assert_eq!(struck(1), struck(1));
        assert_ne!(struck(1), struck(2));
    }

    #[test]
    fn trades_are_counted_over_notifications_and_the_fault_strikes_where_it_can() {
        let mut faults = faults("[[fault]]\nkind = \"truncate\"\nevery_trades = 25");
        let history = |faults: &mut Faults| faults.strike(Occasion::History, at(1)).is_some();
        for sent in [false, false, true] {
            faults.strike(NOTIFICATION, at(1));
            assert_eq!(history(&mut faults), sent);
        }
        assert!(!history(&mut faults));
        assert_eq!(faults.strike(Occasion::Call, at(1)), None);
    }

    #[test]
    fn times_bound_how_often_it_strikes_and_it_is_counted() {
        let mut faults = faults("[[fault]]\nkind = \"cut\"\none_in = 1\ntimes = 2");
        let struck = (0..10).filter(|_| faults.strike(NOTIFICATION, at(1)).is_some()).count();
        assert_eq!((struck, faults.done()), (2, BTreeMap::from([(FaultKind::Cut, 2)])));
    }

    #[test]
    fn maintenance_lasts_for_everything_and_comes_again() {
        let text = "[[fault]]\nkind = \"maintenance\"\nat = \"10s\"\nevery = \"60s\"\nlasts = \"5s\"";
        let mut faults = faults(text);
        let mut kind = |occasion, seconds| faults.strike(occasion, at(seconds)).map(|blow| blow.begins);
        assert_eq!(kind(Occasion::Connection, 9), None);
        assert_eq!(kind(NOTIFICATION, 11), Some(true));
        assert_eq!(kind(Occasion::Connection, 12), Some(false));
        assert_eq!(kind(Occasion::Call, 15), Some(false));
        assert_eq!(kind(NOTIFICATION, 16), None);
        assert_eq!(kind(NOTIFICATION, 71), Some(true));
    }
}
