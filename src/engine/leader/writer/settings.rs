//! The settings of the Writer.

use crate::{
    base::limits, data::command::AckLevel, data::counters::CounterLimits, data::counts::AdmissionLimits,
    storage::snapshot::SnapshotSettings,
};

/// The rules by which the Writer acknowledges and admits.
#[derive(Clone, Copy, Debug)]
pub struct WriterSettings {
    /// The level of a write that names none.
    pub ack: AckLevel,
    /// True if every write is synced before its answer, whatever its level.
    pub synced: bool,
    /// Time that an answer waits for replicas, in milliseconds.
    pub ack_timeout_ms: u64,
    /// Bounds of what is admitted.
    pub admission: AdmissionLimits,
    /// The rules by which increments of counters wait.
    pub counters: CounterLimits,
    /// The intervals of snapshots.
    pub snapshot: SnapshotSettings,
}

impl WriterSettings {
    /// The level a write that names none is acknowledged at.
    pub fn default_ack(&self) -> AckLevel {
        self.effective(self.ack)
    }

    /// The level that a request for this one is answered at.
    pub(super) fn effective(&self, level: AckLevel) -> AckLevel {
        if self.synced { level.synced() } else { level }
    }
}

impl Default for WriterSettings {
    fn default() -> Self {
        Self {
            ack: AckLevel::Leader,
            synced: false,
            ack_timeout_ms: limits::EXCHANGE_TIMEOUT_MS,
            admission: AdmissionLimits::default(),
            counters: CounterLimits::default(),
            snapshot: SnapshotSettings::default(),
        }
    }
}
