//! An instrument's expiry, read from its name: `BTC-25JUN27`, `BTC-17AUG26-63000-P`, `BTC-FS-25JUN27_PERP`.

use std::time::UNIX_EPOCH;

use crate::clock::{ExchangeTime, Millis};

const DAY: Millis = 86_400_000;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// The end of the latest day in the name. `None` if the name has no day, as for perpetuals and spot.
pub(super) fn of_name(name: &str) -> Option<ExchangeTime> {
    name.split(['-', '_']).filter_map(end_of_day).max()
}

fn end_of_day(text: &str) -> Option<ExchangeTime> {
    let letters = text.find(|c: char| c.is_ascii_uppercase()).filter(|at| (1..=2).contains(at))?;
    let day: u8 = text.get(..letters)?.parse().ok()?;
    let month = MONTHS.iter().position(|month| text.get(letters..letters + 3) == Some(month))? + 1;
    let year: u8 = text.get(letters + 3..).filter(|year| year.len() == 2)?.parse().ok()?;
    let start = humantime::parse_rfc3339(&format!("20{year:02}-{month:02}-{day:02}T00:00:00Z")).ok()?;
    let start = start.duration_since(UNIX_EPOCH).ok()?.as_millis();
    Some(ExchangeTime::try_from(start).ok()? + DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_shows_the_day() {
        let jun_2027 = 1_813_968_000_000; // 2027-06-26T00:00:00Z
        assert_eq!(of_name("BTC-25JUN27"), Some(jun_2027));
        assert_eq!(of_name("BTC-25JUN27-63000-P"), Some(jun_2027));
        assert_eq!(of_name("XRP_USDC-25JUN27-0d625-C"), Some(jun_2027));
        assert_eq!(of_name("BTC-FS-25JUN27_PERP"), Some(jun_2027));
        assert_eq!(of_name("ETH-FS-25JUN27_28MAR27"), Some(jun_2027));
        assert_eq!(of_name("BTC-1JAN70"), of_name("BTC-01JAN70"));
        assert_eq!(of_name("BTC-29FEB28"), Some(of_name("BTC-28FEB28").unwrap() + DAY));
        for name in ["BTC-PERPETUAL", "BTC_USDC", "", "BTC-99", "BTC-1XXX27", "BTC-29FEB27"] {
            assert_eq!(of_name(name), None, "{name}");
        }
    }
}
