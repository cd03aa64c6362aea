//! The numbers of the writes that a follower passes on.

use super::{FOLLOWERS, MetricRegistrar};
use prometheus::{IntCounter, IntGauge};

/// Numbers of forwarded writes.
#[derive(Clone)]
pub struct ForwardTotals {
    /// Writes that the leader has answered by way of this node.
    pub answered: IntCounter,
    /// Tries behind the first of a write.
    pub retried: IntCounter,
    /// Writes that wait for a leader now.
    pub waiting: IntGauge,
    /// Reads that other nodes have answered.
    pub reads: IntCounter,
}

impl ForwardTotals {
    pub(super) fn new(of: &MetricRegistrar) -> Self {
        Self {
            answered: of.counter(
                FOLLOWERS,
                "memdb_forwarded_total",
                "Writes that the leader has answered by way of this node.",
            ),
            retried: of.counter(
                FOLLOWERS,
                "memdb_forward_retries_total",
                "Tries of forwarded writes behind the first of each.",
            ),
            waiting: of.gauge(FOLLOWERS, "memdb_forward_waiting", "Forwarded writes that wait for a leader."),
            reads: of.counter(
                FOLLOWERS,
                "memdb_fallback_reads_total",
                "Reads that other nodes have answered while this one was not ready.",
            ),
        }
    }
}
