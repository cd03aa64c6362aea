//! The requests in the log: a line for each at level `debug`, and at `warn` for those that were slow. The words that
//! were asked for, which the query holds, are not in it.

use crate::base::metrics::MethodLabel;
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::Level;

/// Slow requests that get a line of their own in a second; of more, only the number is told.
const TOLD_A_SECOND: u32 = 10;

/// Returns whether requests are logged. If not, nothing is formatted for the log.
#[inline]
pub(super) fn is_on() -> bool {
    tracing::enabled!(target: "memdb::request", Level::DEBUG)
}

/// Logs a request that was answered.
#[cold]
pub(super) fn write(method: &str, path: &str, status: u16, took: Duration) {
    let duration_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    tracing::debug!(target: "memdb::request", method, path, status, duration_us, "request");
}

/// The log of requests. From many slow ones, as behind a disk that hangs, it takes a few lines a second.
#[derive(Debug)]
pub(super) struct RequestLog {
    /// Microseconds that a request may take; the greatest number logs none.
    bound_us: AtomicU64,
    told: Mutex<ToldRequests>,
}

/// What was told of slow requests within a second.
#[derive(Debug, Default)]
struct ToldRequests {
    since: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl RequestLog {
    pub(super) fn new(bound: Option<Duration>) -> Self {
        let log = Self { bound_us: AtomicU64::new(0), told: Mutex::default() };
        log.set_bound(bound);
        log
    }

    /// Sets another bound.
    pub(super) fn set_bound(&self, bound: Option<Duration>) {
        let bound_us = bound.and_then(|bound| u64::try_from(bound.as_micros()).ok()).unwrap_or(u64::MAX);
        self.bound_us.store(bound_us, Ordering::Relaxed);
    }

    /// Logs a request where it is to be logged; `route` is its label.
    #[inline]
    pub(super) fn answered(&self, route: &'static str, method: MethodLabel, path: &str, status: u16, took: Duration) {
        if took.as_micros() > u128::from(self.bound_us.load(Ordering::Relaxed)) {
            self.tell(route, method, status, took);
        }
        if is_on() {
            write(method.name(), path, status, took);
        }
    }

    #[cold]
    fn tell(&self, route: &'static str, method: MethodLabel, status: u16, took: Duration) {
        let Some(left_out) = self.told.lock().admit(Instant::now()) else { return };
        let (method, duration_ms) = (method.name(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        tracing::warn!(target: "memdb::slow", method, route, status, duration_ms, left_out, "slow request");
    }
}

impl ToldRequests {
    /// Returns how many were left out since the last line, if there is room for another.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.since.is_none_or(|since| now - since >= Duration::from_secs(1)) {
            (self.since, self.lines) = (Some(now), 0);
        }
        if self.lines == TOLD_A_SECOND {
            self.left_out += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_slow_requests_a_second_get_a_line_and_the_others_are_counted() {
        let (mut told, begun) = (ToldRequests::default(), Instant::now());
        let lines = (0..25).filter_map(|_| told.admit(begun)).collect::<Vec<_>>();
        assert_eq!(lines, [0; TOLD_A_SECOND as usize]);
        assert_eq!(told.admit(begun + Duration::from_secs(1)), Some(15));
        assert_eq!(told.admit(begun + Duration::from_secs(1)), Some(0));
    }
}
