//! A line in the log for each request, at level `debug`. The words that were asked for, which the query holds, are not
//! in it.

use std::time::Duration;
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
