//! The pace of the workers.

use super::CounterLimits;
use crate::base::clock::Monotonic;

/// Workers that are idle for long do not make up for more than so many milliseconds.
const LARGEST_LEAP_MS: u64 = 100;

/// The increments that the workers may add by now.
#[derive(Clone, Copy, Debug)]
pub struct WorkerPace {
    /// Increments of all workers in a second; `None`: any number.
    rate: Option<u64>,
    begun: Monotonic,
    /// The time of the next increment, in microseconds since `begun`.
    next_us: u64,
}

impl WorkerPace {
    /// The pace of the workers that the limits tell of, from `now` on.
    pub fn new(limits: &CounterLimits, now: Monotonic) -> Self {
        let rate = limits.worker_rate.map(|rate| u64::from(rate.max(1)) * u64::from(limits.workers.max(1)));
        Self { rate, begun: now, next_us: 0 }
    }

    /// Counts the increments that may be added at `now`.
    pub fn available(&self, now: Monotonic) -> u64 {
        // By elapsed time and not by ticks of the Writer: how often that looks must not change the rate.
        let Some(rate) = self.rate else { return u64::MAX };
        let late_us = (now.since_ms(self.begun) * 1_000).checked_sub(self.earliest_us(now));
        late_us.map_or(0, |late_us| 1 + late_us.saturating_mul(rate) / 1_000_000)
    }

    /// So many were added at `now`.
    pub fn spend(&mut self, increments: u64, now: Monotonic) {
        if let Some(rate) = self.rate {
            self.next_us = self.earliest_us(now) + increments.saturating_mul(1_000_000) / rate;
        }
    }

    /// Gives the time at which the next one may be added.
    pub fn next(&self) -> Monotonic {
        self.begun.after_ms(self.next_us.div_ceil(1_000))
    }

    fn earliest_us(&self, now: Monotonic) -> u64 {
        self.next_us.max(now.since_ms(self.begun).saturating_sub(LARGEST_LEAP_MS) * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added_in_a_second(worker_rate: Option<u32>, workers: u32) -> u64 {
        let at = Monotonic::from_ms;
        let limits = CounterLimits { worker_rate, workers, ..CounterLimits::default() };
        let mut pace = WorkerPace::new(&limits, at(5));
        let mut added = 0;
        for ms in 0..1_000 {
            let available = pace.available(at(5 + ms)).min(1_000_000);
            pace.spend(available, at(5 + ms));
            added += available;
            assert!(worker_rate.is_none() || pace.next() > at(5 + ms));
        }
        added
    }

    #[test]
    fn the_workers_together_add_as_many_as_their_rates() {
        assert_eq!(added_in_a_second(Some(8), 1), 8);
        assert_eq!(added_in_a_second(Some(8), 3), 24);
        let many = added_in_a_second(Some(100_000), 1);
        assert!((99_000..=101_000).contains(&many), "{many}");
        assert_eq!(added_in_a_second(None, 1), 1_000_000_000);
    }

    #[test]
    fn workers_that_were_idle_do_not_make_up_for_all_of_it() {
        let limits = CounterLimits { worker_rate: Some(100), ..CounterLimits::default() };
        let pace = WorkerPace::new(&limits, Monotonic::from_ms(0));
        assert_eq!(pace.available(Monotonic::from_ms(0)), 1);
        assert_eq!(pace.available(Monotonic::from_ms(3_600_000)), 11);
    }
}
