//! Summaries of many times, and of a few rounds.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Times in microseconds, up to an hour, to three digits.
#[derive(Debug, Clone)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are sane"))
    }
}

impl Times {
    /// Takes in one time.
    pub fn add(&mut self, time: Duration) {
        self.add_micros(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// Takes in one time of so many microseconds.
    pub fn add_micros(&mut self, micros: u64) {
        self.0.saturating_record(micros.max(1));
    }

    /// Takes in all of another.
    pub fn join(&mut self, other: &Self) {
        self.0 += &other.0;
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that `quantile` (0–1) of them did not exceed, in milliseconds.
    pub fn ms(&self, quantile: f64) -> f64 {
        self.0.value_at_quantile(quantile) as f64 / 1e3
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1e3
    }
}

/// Figures of which each is kept as it is: times whose differences matter, and differences, which may be less than nothing.
#[derive(Debug, Clone, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// Takes in one figure.
    pub fn add(&mut self, figure: f64) {
        self.0.push(figure);
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The figure that `quantile` (0–1) of them do not exceed; 0 for none.
    pub fn at(&mut self, quantile: f64) -> f64 {
        self.0.sort_by(f64::total_cmp);
        let rank = (quantile * self.0.len() as f64).ceil() as usize;
        self.0.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    }
}

/// Median, least and most of some figures; zeros for none.
pub fn spread(figures: &[f64]) -> (f64, f64, f64) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (sorted.first(), sorted.last()) else { return (0.0, 0.0, 0.0) };
    let middle = sorted.len() / 2;
    let median =
        if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 };
    (median, *least, *most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_one_of_the_figures() {
        let mut sample = Sample::default();
        assert_eq!(sample.at(0.5), 0.0);
        (-50..50).rev().for_each(|figure| sample.add(f64::from(figure)));
        let found = [0.0, 0.01, 0.5, 0.99, 1.0].map(|quantile| sample.at(quantile));
        assert_eq!((found, sample.count()), ([-50.0, -50.0, -1.0, 48.0, 49.0], 100));
    }
}
