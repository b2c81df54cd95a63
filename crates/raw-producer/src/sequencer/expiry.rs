//! When an instrument expires, by its name: `BTC-25JUN27`, `BTC-17AUG26-63000-P`, `BTC-FS-25JUN27_PERP`.

use super::Millis;

const DAY: Millis = 86_400_000;
const MONTHS: [&str; 12] =
    ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];

/// The end of the latest day in the name; `None` if there is none, as of perpetuals and spot.
pub(super) fn of_name(name: &str) -> Option<Millis> {
    name.split(['-', '_']).filter_map(end_of_day).max()
}

fn end_of_day(text: &str) -> Option<Millis> {
    let letters = text.find(|c: char| c.is_ascii_uppercase()).filter(|at| (1..=2).contains(at))?;
    let day: i64 = text.get(..letters)?.parse().ok()?;
    let month = MONTHS.iter().position(|month| text.get(letters..letters + 3) == Some(month))?;
    let year: i64 = text.get(letters + 3..).filter(|year| year.len() == 2)?.parse().ok()?;
    Some((days_since_epoch(2000 + year, i64::try_from(month).ok()? + 1, day) + 1) * DAY)
}

/// Of the proleptic Gregorian calendar, with years that begin in March.
fn days_since_epoch(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year.div_euclid(400) * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells_the_day() {
        let jun_2027 = 1_813_968_000_000; // 2027-06-26T00:00:00Z
        assert_eq!(of_name("BTC-25JUN27"), Some(jun_2027));
        assert_eq!(of_name("BTC-25JUN27-63000-P"), Some(jun_2027));
        assert_eq!(of_name("XRP_USDC-25JUN27-0d625-C"), Some(jun_2027));
        assert_eq!(of_name("BTC-FS-25JUN27_PERP"), Some(jun_2027));
        assert_eq!(of_name("ETH-FS-25JUN27_28MAR27"), Some(jun_2027));
        assert_eq!(of_name("BTC-1JAN70"), of_name("BTC-01JAN70"));
        for name in ["BTC-PERPETUAL", "BTC_USDC", "", "BTC-99", "BTC-1XXX27"] {
            assert_eq!(of_name(name), None, "{name}");
        }
    }
}
