//! The numbers of the queues in which increments of counters wait.

use super::{LEADER, MetricRegistrar};
use prometheus::{IntCounterVec, Opts};

/// Increments that were set aside, by the queue that they wait in.
pub struct SidelinedTotals(IntCounterVec);

impl SidelinedTotals {
    pub(super) fn new(of: &MetricRegistrar) -> Self {
        let opts = Opts::new("memdb_increments_sidelined_total", "Increments set aside, by the queue they wait in.");
        Self(of.add(LEADER, IntCounterVec::new(opts, &["queue"])))
    }

    /// Counts increments that wait in `queue` from now on.
    pub fn add(&self, queue: &'static str, increments: u64) {
        self.0.with_label_values(&[queue]).inc_by(increments);
    }

    /// Gives the increments that were set aside to wait in `queue`.
    pub fn of(&self, queue: &'static str) -> u64 {
        self.0.with_label_values(&[queue]).get()
    }
}
