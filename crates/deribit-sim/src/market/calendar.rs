//! When contracts are listed and expire, by the exchange's calendar: 08:00 UTC, daily, weekly, monthly and quarterly.

use super::time::{MILLIS_PER_DAY, MarketTime};

/// Time of the day at which contracts expire, in milliseconds.
const EXPIRY_OF_DAY: u64 = 8 * 3_600_000;

/// The period of a contract. No day belongs to two terms, so a date names one contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Term {
    /// Any day but Friday.
    Daily,
    /// The first three Fridays of a month. (The exchange lists a fourth where a month has five Fridays.)
    Weekly,
    /// The last Friday of a month that does not end a quarter.
    Monthly,
    /// The last Friday of March, June, September and December.
    Quarterly,
}

/// One of the `of` contracts of a term that are listed at the same time. When one expires, its successor is listed, `of` expiries later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rotation {
    pub(crate) term: Term,
    /// How many contracts of the term are listed at a time.
    pub(crate) of: u64,
    /// Which of them this is, below `of`.
    pub(crate) place: u64,
}

/// The time from listing to expiry, half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) from: MarketTime,
    pub(crate) until: MarketTime,
}

impl Life {
    /// The intersection of both lives.
    pub(crate) fn shared_with(self, other: Self) -> Self {
        Self { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    pub(crate) fn holds(self, t: MarketTime) -> bool {
        self.from <= t && t < self.until
    }
}

impl Rotation {
    /// The life of the contract that holds this place at `t`.
    pub(crate) fn life(self, t: MarketTime) -> Life {
        let first_day = (t.0.saturating_sub(EXPIRY_OF_DAY)) / MILLIS_PER_DAY + 1;
        let next = self.term.ordinal_from(first_day);
        let ordinal = next + (self.place + self.of - next % self.of) % self.of;
        Life { from: self.term.expiry(ordinal - self.of), until: self.term.expiry(ordinal) }
    }
}

impl Term {
    /// The time of the N-th expiry since 1970.
    fn expiry(self, ordinal: u64) -> MarketTime {
        MarketTime(self.day(ordinal) * MILLIS_PER_DAY + EXPIRY_OF_DAY)
    }

    /// The day since 1970 of the N-th expiry.
    fn day(self, ordinal: u64) -> u64 {
        match self {
            // 1970-01-02 was a Friday.
            Self::Daily => 1 + ordinal / 6 * 7 + ordinal % 6 + 1,
            Self::Weekly => first_friday(ordinal / 3) + ordinal % 3 * 7,
            // Months 1, 2, 4, 5, 7, 8, 10 and 11.
            Self::Monthly => last_friday(ordinal / 2 * 3 + ordinal % 2),
            Self::Quarterly => last_friday(ordinal * 3 + 2),
        }
    }

    /// The number of the first expiry on or after that day.
    fn ordinal_from(self, day: u64) -> u64 {
        let month = month_of(day);
        let mut ordinal = match self {
            Self::Daily => (day - 1) / 7 * 6,
            Self::Weekly => month * 3,
            Self::Monthly => month / 3 * 2,
            Self::Quarterly => month / 3,
        };
        while self.day(ordinal) < day {
            ordinal += 1;
        }
        ordinal
    }
}

/// Months since January 1970.
fn month_of(day: u64) -> u64 {
    let (year, month, _) = civil(day);
    (year - 1970) * 12 + month - 1
}

/// The first day of a month; both count from 1970.
fn month_start(month: u64) -> u64 {
    // Howard Hinnant's `days_from_civil`, on years that begin in March.
    let (year, month) = (1970 + month / 12, month % 12 + 1);
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5;
    let (era, of_era) = (year / 400, year % 400);
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

fn last_friday(month: u64) -> u64 {
    let last = month_start(month + 1) - 1;
    last - (last + 6) % 7
}

fn first_friday(month: u64) -> u64 {
    let first = month_start(month);
    first + (8 - first % 7) % 7
}

/// Year, month and day of the month of a day since 1970: Howard Hinnant's `civil_from_days`.
fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, of_year - (153 * march_month + 2) / 5 + 1)
}

const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// An expiry as in instrument names: `17AUG26`.
pub(crate) fn date_name(expiry: MarketTime) -> String {
    let (year, month, day) = civil(expiry.0 / MILLIS_PER_DAY);
    let month = MONTHS.iter().zip(1..).find(|(_, number)| *number == month).map_or("", |(name, _)| *name);
    format!("{day}{month}{:02}", year % 100)
}

/// Parses a date in an instrument name.
pub(crate) fn date_of(name: &str) -> Option<MarketTime> {
    let digits = name.find(|c: char| !c.is_ascii_digit()).filter(|digits| (1..=2).contains(digits))?;
    let day: u64 = name.get(..digits)?.parse().ok()?;
    let month = name.get(digits..digits + 3)?;
    let month = MONTHS.iter().zip(0..).find(|(known, _)| **known == month).map(|(_, number)| number)?;
    let year = name.get(digits + 3..).filter(|year| year.len() == 2)?.parse::<u64>().ok()? + 2000;
    let start = month_start((year - 1970) * 12 + month);
    let expiry = MarketTime((start + day.checked_sub(1)?) * MILLIS_PER_DAY + EXPIRY_OF_DAY);
    (date_name(expiry) == name).then_some(expiry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    const TERMS: [Term; 4] = [Term::Daily, Term::Weekly, Term::Monthly, Term::Quarterly];

    fn at(date: &str) -> MarketTime {
        date_of(date).expect("a date")
    }

    #[test]
    fn the_listed_contracts_of_a_day_are_those_of_the_exchanges_calendar() {
        let now = MarketTime(1_786_911_707_538); // 2026-08-16, the day before BTC-17AUG26 expired
        let listed = |term, of| {
            let mut dates: Vec<_> =
                (0..of).map(|place| Rotation { term, of, place }.life(now).until).collect();
            dates.sort_unstable();
            dates.into_iter().map(date_name).collect::<Vec<_>>()
        };
        assert_eq!(listed(Term::Daily, 3), ["17AUG26", "18AUG26", "19AUG26"]);
        assert_eq!(listed(Term::Weekly, 2), ["21AUG26", "4SEP26"]);
        assert_eq!(listed(Term::Monthly, 2), ["28AUG26", "30OCT26"]);
        assert_eq!(listed(Term::Quarterly, 4), ["25SEP26", "25DEC26", "26MAR27", "25JUN27"]);
    }

    #[test]
    fn an_expiry_belongs_to_the_successor() {
        let rotation = Rotation { term: Term::Daily, of: 3, place: 0 };
        let first = rotation.life(MarketTime(1_786_911_707_538));
        let second = rotation.life(first.until);
        assert_eq!(second.from, first.until);
        assert!(first.holds(first.from) && !first.holds(first.until) && second.holds(first.until));
    }

    #[test]
    fn names_of_dates_are_read_back_and_others_are_not() {
        assert_eq!(at("17AUG26").0, 1_786_953_600_000);
        for wrong in
            ["", "AUG26", "17AUG", "17AUGUST26", "017AUG26", "32AUG26", "30FEB26", "PERPETUAL", "0AUG26"]
        {
            assert_eq!(date_of(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn whatever_the_time_each_term_has_its_number_of_different_dates_ahead(
            t in 1_700_000_000_000_u64..2_000_000_000_000, of in 1_u64..6,
        ) {
            for term in TERMS {
                let mut lives: Vec<_> = (0..of).map(|place| Rotation { term, of, place }.life(MarketTime(t))).collect();
                lives.sort_by_key(|life| life.until);
                lives.dedup_by_key(|life| life.until);
                prop_assert_eq!(lives.len() as u64, of);
                prop_assert!(lives.iter().all(|life| life.holds(MarketTime(t))));
                for life in lives {
                    prop_assert_eq!(date_of(&date_name(life.until)), Some(life.until));
                }
            }
        }

        #[test]
        fn no_day_belongs_to_two_terms(day in 19_000_u64..24_000) {
            let terms = TERMS.iter().filter(|term| term.day(term.ordinal_from(day)) == day).count();
            prop_assert!(terms <= 1);
        }
    }
}
