//! The requests in the log: a line for each at level `debug`, and at `warn` for those that were slow. The words that
//! were asked for, which the query holds, are not in it.

use crate::base::{limits::SLOW_LINES_PER_SECOND, line_budget::LineBudget, metrics::MethodLabel};
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::Instant;
use tracing::Level;

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
    begun: Instant,
    lines: Mutex<LineBudget>,
}

impl RequestLog {
    pub(super) fn new(bound: Option<Duration>) -> Self {
        let lines = Mutex::new(LineBudget::new(SLOW_LINES_PER_SECOND));
        let log = Self { bound_us: AtomicU64::new(0), begun: Instant::now(), lines };
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
        self.answered_together(route, method, status, (1, took));
        if is_on() {
            write(method.name(), path, status, took);
        }
    }

    /// Logs so many requests, each of which took so long, if that is slow.
    #[inline]
    pub(super) fn answered_together(
        &self,
        route: &'static str,
        method: MethodLabel,
        status: u16,
        (requests, each): (u64, Duration),
    ) {
        if each.as_micros() > u128::from(self.bound_us.load(Ordering::Relaxed)) {
            (0..requests).for_each(|_| self.tell(route, method, status, each));
        }
    }

    #[cold]
    fn tell(&self, route: &'static str, method: MethodLabel, status: u16, took: Duration) {
        let now_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let Some(left_out) = self.lines.lock().admit(now_ms) else { return };
        let (method, duration_ms) = (method.name(), u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        tracing::warn!(target: "memdb::slow", method, route, status, duration_ms, left_out, "slow request");
    }

    /// Tells the number of slow requests that have no line, of which no later line can tell.
    pub(super) fn tell_rest(&self) {
        let left_out = self.lines.lock().take_left_out();
        if left_out > 0 {
            tracing::warn!(target: "memdb::slow", left_out, "more slow requests, which have no line");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::log_capture::captured;

    #[test]
    fn some_slow_requests_a_second_get_a_line_and_the_others_are_counted_to_the_last() {
        let log = RequestLog::new(Some(Duration::from_secs(1)));
        let said = captured(|| {
            log.answered_together("wordcount", MethodLabel::Get, 200, (15, Duration::from_secs(2)));
            log.answered_together("wordcount", MethodLabel::Get, 200, (9, Duration::from_millis(900)));
            log.tell_rest();
            log.tell_rest();
        });
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len() as u64, SLOW_LINES_PER_SECOND + 1, "{said}");
        let first = "slow request method=\"GET\" route=\"wordcount\" status=200 duration_ms=2000 left_out=0";
        assert!(lines[0].contains(first), "{said}");
        assert!(lines[10].contains("more slow requests, which have no line left_out=5"), "{said}");
    }

    #[test]
    fn without_a_bound_nothing_is_slow() {
        let log = RequestLog::new(None);
        let said = captured(|| {
            log.answered_together("top", MethodLabel::Get, 200, (3, Duration::from_secs(1 << 40)));
            log.tell_rest();
        });
        assert_eq!(said, "");
    }
}
