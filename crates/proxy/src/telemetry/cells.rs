//! The numbers themselves: cells with one writer (their worker) and any number of readers (the scraper).
//!
//! A cell is an atomic only so that another thread may read it. The owner adds with a plain load and store, so
//! counting costs no locked instruction and no cache line travels between workers.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning worker may call it.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Adds one. Only the owning worker may call it.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds `n`, which may be negative. Only the owning worker may call it.
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets in thousandths of the unit: Envoy's default histogram bounds.
pub const BOUNDS_THOUSANDTHS: [u64; 19] = [
    500,
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    1_800_000_000,
    3_600_000_000,
];

/// The same bounds as they are written in the `le` label.
pub const BOUNDS_TEXT: [&str; 19] = [
    "0.5", "1", "5", "10", "25", "50", "100", "250", "500", "1000", "2500", "5000", "10000", "30000",
    "60000", "300000", "600000", "1800000", "3600000",
];

/// A distribution over Envoy's default bounds.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; 20],
    sum: Counter,
}

impl Histogram {
    /// Counts one value given in thousandths of the histogram's unit (microseconds for a histogram in
    /// milliseconds). Only the owning worker may call it.
    pub fn observe_thousandths(&self, value: u64) {
        let bucket = BOUNDS_THOUSANDTHS.partition_point(|bound| value > *bound);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.increment();
        }
        self.sum.add(value);
    }

    /// Counts one value given in the histogram's unit. Only the owning worker may call it.
    pub fn observe(&self, value: u64) {
        self.observe_thousandths(value.saturating_mul(1_000));
    }

    /// Adds this distribution to a merged one.
    pub fn merge_into(&self, merged: &mut MergedHistogram) {
        for (cell, total) in self.buckets.iter().zip(merged.buckets.iter_mut()) {
            *total = total.wrapping_add(cell.get());
        }
        merged.sum_thousandths = merged.sum_thousandths.wrapping_add(self.sum.get());
    }
}

/// The sum of several workers' distributions, as plain numbers.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct MergedHistogram {
    /// Values per bucket (not cumulative); the last one is above every bound.
    pub buckets: [u64; 20],
    /// Sum of the values in thousandths of the unit.
    pub sum_thousandths: u64,
}

impl MergedHistogram {
    /// Adds another distribution.
    pub fn add(&mut self, other: &MergedHistogram) {
        for (total, more) in self.buckets.iter_mut().zip(other.buckets) {
            *total = total.wrapping_add(more);
        }
        self.sum_thousandths = self.sum_thousandths.wrapping_add(other.sum_thousandths);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, n| sum.wrapping_add(*n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_own_bucket_and_the_next_value_to_the_next() {
        let histogram = Histogram::default();
        histogram.observe_thousandths(500);
        histogram.observe_thousandths(501);
        histogram.observe(3_600_000);
        histogram.observe(3_600_001);
        let mut merged = MergedHistogram::default();
        histogram.merge_into(&mut merged);
        assert_eq!((merged.buckets[0], merged.buckets[1]), (1, 1));
        assert_eq!((merged.buckets[18], merged.buckets[19]), (1, 1));
        assert_eq!(merged.count(), 4);
        assert_eq!(merged.sum_thousandths, 500 + 501 + 3_600_000_000 + 3_600_001_000);
    }

    #[test]
    fn texts_and_numbers_of_the_bounds_agree() {
        for (text, number) in BOUNDS_TEXT.iter().zip(BOUNDS_THOUSANDTHS) {
            let parsed: f64 = text.parse().unwrap();
            assert_eq!((parsed * 1000.0) as u64, number);
        }
    }
}
