//! Numbers of values that are fetched from an origin.

use super::{LEADER, MetricRegistrar};
use prometheus::IntCounter;

/// Fetches of a leader since the process began.
pub struct OriginMetrics {
    /// Fetches.
    pub loads: IntCounter,
    /// Reads that waited for the fetch of another.
    pub deduplicated: IntCounter,
    /// Fetches that have failed; that the origin has no such value is no failure.
    pub errors: IntCounter,
}

impl OriginMetrics {
    pub(super) fn new(of: &MetricRegistrar) -> Self {
        let counter = |name, help| of.counter(LEADER, name, help);
        Self {
            loads: counter("memdb_origin_loads_total", "Fetches from the origin."),
            deduplicated: counter("memdb_origin_deduplicated_total", "Reads that waited for the fetch of another."),
            errors: counter("memdb_origin_errors_total", "Fetches that the origin has failed."),
        }
    }
}
