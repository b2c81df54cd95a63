//! Metrics as a service shows them.

use common::metrics::SECONDS;

/// A service's metrics at a moment, in the text form of `/metrics`.
#[derive(Debug, Clone, Default)]
pub struct Scrape(pub String);

impl Scrape {
    /// The value of the metric of that name, with its labels if it has any; `None` if it is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<f64> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// The sum over all labels of the counter of that name; one that is not there is 0.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        let of = |line: &str| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            if labels.is_empty() || labels.starts_with('{') { value.parse::<u64>().ok() } else { None }
        };
        self.0.lines().filter_map(of).sum()
    }
}

/// The one in the middle of some rounds: what other work did to single ones does not count.
#[must_use]
pub fn median(rounds: impl IntoIterator<Item = f64>) -> f64 {
    let mut rounds: Vec<f64> = rounds.into_iter().collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// How many values were at most so high, by bound.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// The histogram of that name in a service's metrics.
    #[must_use]
    pub fn read(text: &str, name: &str) -> Self {
        let bucket = |line: &str| {
            let (bound, count) =
                line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split_once("\"} ")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.trim().parse().ok()?))
        };
        Self(text.lines().filter_map(bucket).collect())
    }

    /// These values in the services' own buckets, so that both are equally coarse.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let bounds = SECONDS.into_iter().chain([f64::INFINITY]);
        let at_most = |bound: f64| values.iter().filter(|value| **value <= bound).count() as f64;
        Self(bounds.map(|bound| (bound, at_most(bound))).collect())
    }

    /// What was counted since then.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let pairs = self.0.iter().zip(&before.0);
        Self(pairs.map(|((bound, now), (_, then))| (*bound, now - then)).collect())
    }

    /// The value below which that share lies, evenly within a bucket.
    #[must_use]
    pub fn quantile(&self, share: f64) -> f64 {
        let due = share * self.0.last().map_or(0.0, |(_, all)| *all);
        let mut below = (0.0, 0.0);
        for (bound, count) in &self.0 {
            if *count >= due && *count > below.1 {
                return below.0 + (bound - below.0) * (due - below.1) / (count - below.1);
            }
            below = (*bound, *count);
        }
        f64::NAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_told_from_others_whose_names_begin_alike_and_added_up_over_its_labels() {
        let shown = Scrape("x_total{a=\"1\"} 2\nx_total{a=\"2\"} 3\nx_totals 9\ny 4\n".to_owned());
        assert_eq!((shown.get("y"), shown.get("x_total")), (Some(4.0), None));
        assert_eq!(shown.get("x_total{a=\"2\"}"), Some(3.0));
        let counts = ["x_total", "y", "z"].map(|name| shown.count(name));
        assert_eq!(counts, [5, 4, 0]);
    }

    #[test]
    fn quantiles_lie_evenly_within_a_bucket() {
        let values: Vec<f64> = (1..=100).map(|n| f64::from(n) / 10_000.0).collect();
        let histogram = Histogram::of(&values);
        assert!((histogram.quantile(0.99) - 0.0099).abs() < 1e-9);
        assert!((histogram.quantile(0.5) - 0.005).abs() < 1e-9);
        let text = "x_bucket{le=\"0.001\"} 10\nx_bucket{le=\"0.002\"} 20\nx_bucket{le=\"+Inf\"} 20\ny 3\n";
        let read = Histogram::read(text, "x");
        assert!((read.quantile(0.75) - 0.0015).abs() < 1e-9);
        assert!(read.since(&read).quantile(0.5).is_nan());
    }
}
