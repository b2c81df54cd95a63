//! Metrics as a service shows them.

use anyhow::Context as _;
use common::metrics::SECONDS;

/// A service's metrics at one moment, in the text form of `/metrics`.
#[derive(Debug, Clone, Default)]
pub struct Scrape(pub String);

impl Scrape {
    /// The value of a metric, by its name with labels if it has any.
    pub fn get(&self, name: &str) -> anyhow::Result<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no metric {name}"))?.trim().parse()?)
    }

    /// The sum over all labels of a counter; 0 if it is not there.
    #[must_use]
    pub fn count(&self, name: &str) -> u64 {
        let of = |line: &str| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            if labels.is_empty() || labels.starts_with('{') { value.parse::<u64>().ok() } else { None }
        };
        self.0.lines().filter_map(of).sum()
    }

    /// A histogram.
    #[must_use]
    pub fn histogram(&self, name: &str) -> HistogramSnapshot {
        let bucket = |line: &str| {
            let (bound, count) =
                line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?.split_once("\"} ")?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, count.trim().parse().ok()?))
        };
        HistogramSnapshot(self.0.lines().filter_map(bucket).collect())
    }
}

/// The median of some rounds, in which a round that other work slowed down does not count.
#[must_use]
pub fn median(rounds: impl IntoIterator<Item = f64>) -> f64 {
    let mut rounds: Vec<f64> = rounds.into_iter().collect();
    rounds.sort_by(f64::total_cmp);
    rounds.get(rounds.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Counts of values up to each bound.
#[derive(Debug, Clone, PartialEq)]
pub struct HistogramSnapshot(Vec<(f64, f64)>);

impl HistogramSnapshot {
    /// Values in the services' own buckets, so that both are equally coarse.
    #[must_use]
    pub fn of(values: &[f64]) -> Self {
        let bounds = SECONDS.into_iter().chain([f64::INFINITY]);
        let at_most = |bound: f64| values.iter().filter(|value| **value <= bound).count() as f64;
        Self(bounds.map(|bound| (bound, at_most(bound))).collect())
    }

    /// The counts since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let pairs = self.0.iter().zip(&before.0);
        Self(pairs.map(|((bound, now), (_, then))| (*bound, now - then)).collect())
    }

    /// The value below which a share of all values lies; within a bucket they are taken to lie evenly.
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
        let scrape = Scrape("x_total{a=\"1\"} 2\nx_total{a=\"2\"} 3\nx_totals 9\ny 4.5\n".to_owned());
        assert_eq!(scrape.get("y").unwrap().to_bits(), 4.5_f64.to_bits());
        assert_eq!(scrape.get("x_total{a=\"2\"}").unwrap().to_bits(), 3.0_f64.to_bits());
        assert!(scrape.get("x_total").is_err());
        let counts = ["x_total", "x_totals", "z"].map(|name| scrape.count(name));
        assert_eq!(counts, [5, 9, 0]);
    }

    #[test]
    fn quantiles_lie_evenly_within_a_bucket() {
        let values: Vec<f64> = (1..=100).map(|n| f64::from(n) / 10_000.0).collect();
        let histogram = HistogramSnapshot::of(&values);
        assert!((histogram.quantile(0.99) - 0.0099).abs() < 1e-9);
        assert!((histogram.quantile(0.5) - 0.005).abs() < 1e-9);
        let text = "x_bucket{le=\"0.001\"} 10\nx_bucket{le=\"0.002\"} 20\nx_bucket{le=\"+Inf\"} 20\ny 3\n";
        let read = Scrape(text.to_owned()).histogram("x");
        assert!((read.quantile(0.75) - 0.0015).abs() < 1e-9);
        assert!(read.since(&read).quantile(0.5).is_nan());
    }
}
