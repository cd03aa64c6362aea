//! Decides when the snapshot on disk is renewed: every second, if anything changed.
//!
//! While a snapshot is quick and small, one is published each time. Once it is not, the synced log stands in until it
//! has outgrown the last snapshot.

use super::PublishedSnapshot;
use crate::{base::clock::Monotonic, base::limits, base::position::Sequence, storage::file_header::FileError};

/// The intervals of snapshots and background syncs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotSettings {
    /// Interval at which a snapshot is written, in milliseconds; 0: only at a stop.
    pub interval_ms: u64,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self { interval_ms: 1_000 }
    }
}

/// The work that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueWork {
    /// Nothing.
    Nothing,
    /// The log is to be synced.
    Sync,
    /// A snapshot is to be taken.
    Snapshot,
}

/// Decides, from how the last snapshot went, what is due.
#[derive(Clone, Debug)]
pub struct SnapshotSchedule {
    settings: SnapshotSettings,
    next: Monotonic,
    last: Sequence,
    last_ms: u64,
    last_bytes: u64,
    /// Bytes logged since the last snapshot was begun, and before it.
    log_bytes: u64,
    log_bytes_before: u64,
    /// Intervals to let pass after snapshots that failed: twice as many each time.
    pause: u32,
    paused: u32,
}

/// The most intervals that pass before a snapshot is tried again.
const LONGEST_PAUSE: u32 = 64;

impl SnapshotSchedule {
    /// A schedule for a database whose newest snapshot is a state at `last`.
    pub fn new(settings: SnapshotSettings, last: Sequence, now: Monotonic) -> Self {
        Self {
            settings,
            next: now.after_ms(settings.interval_ms),
            last,
            last_ms: 0,
            last_bytes: 0,
            log_bytes: 0,
            log_bytes_before: 0,
            pause: 0,
            paused: 0,
        }
    }

    /// A record of so many bytes was appended.
    pub fn appended(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// Gives the work that is due at `now`, `sequence` being the last record, `running` whether a snapshot is under
    /// way.
    pub fn due(&mut self, now: Monotonic, sequence: Sequence, running: bool) -> DueWork {
        if self.settings.interval_ms == 0 || now < self.next {
            return DueWork::Nothing;
        }
        self.next = now.after_ms(self.settings.interval_ms);
        // Nothing was written, so the newest snapshot has everything.
        if sequence == self.last {
            return DueWork::Nothing;
        }
        let quick = self.last_ms < limits::QUICK_SNAPSHOT_MS && self.last_bytes < limits::QUICK_SNAPSHOT_BYTES;
        // A start reads snapshot and log. So a snapshot is worth its writing once there is as much log behind the last
        // one; a small database would write one for every few records by that rule alone.
        let outgrown = self.log_bytes > self.last_bytes.max(limits::QUICK_SNAPSHOT_BYTES);
        // The syncs go on meanwhile: what keeps a snapshot from being written, a full disk mostly, need not keep the
        // log from it.
        if self.paused < self.pause {
            self.paused += 1;
            return DueWork::Sync;
        }
        if !running && (quick || outgrown) { DueWork::Snapshot } else { DueWork::Sync }
    }

    /// A snapshot is begun.
    pub fn started(&mut self) {
        self.log_bytes_before = std::mem::take(&mut self.log_bytes);
    }

    /// The snapshot that was begun has ended, after so long.
    pub fn ended(&mut self, result: &Result<PublishedSnapshot, FileError>, took_ms: u64) {
        match result {
            Ok(published) => self.published(published.position.sequence, took_ms, published.bytes),
            Err(_) => self.failed(),
        }
    }

    /// The snapshot that was begun failed: the next is tried after a pause, because what failed it may last.
    fn failed(&mut self) {
        // The log since the last snapshot that is there counts on, as if this one had not been tried.
        self.log_bytes += self.log_bytes_before;
        self.pause = (self.pause * 2).clamp(1, LONGEST_PAUSE);
        self.paused = 0;
    }

    /// A snapshot at `sequence` was published: it took so long and has so many bytes.
    fn published(&mut self, sequence: Sequence, took_ms: u64, bytes: u64) {
        (self.last, self.last_ms, self.last_bytes) = (sequence, took_ms, bytes);
        (self.pause, self.paused) = (0, 0);
    }

    /// The sequence the newest snapshot is a state at.
    pub fn last(&self) -> Sequence {
        self.last
    }

    /// Gives the time at which [`SnapshotSchedule::due`] is to be asked again; `None`: never.
    pub fn next(&self) -> Option<Monotonic> {
        (self.settings.interval_ms > 0).then_some(self.next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Monotonic {
        Monotonic::from_ms(ms)
    }

    fn schedule() -> SnapshotSchedule {
        SnapshotSchedule::new(SnapshotSettings { interval_ms: 1_000 }, 0, ms(0))
    }

    #[test]
    fn a_snapshot_is_not_due_before_the_interval_or_without_a_change() {
        let mut schedule = schedule();
        assert_eq!(schedule.due(ms(999), 5, false), DueWork::Nothing);
        assert_eq!(schedule.due(ms(1_000), 0, false), DueWork::Nothing);
        assert_eq!(schedule.due(ms(1_500), 5, false), DueWork::Nothing, "the interval begins anew");
        assert_eq!(schedule.due(ms(2_000), 5, false), DueWork::Snapshot);
    }

    #[test]
    fn quick_snapshots_come_every_time_and_slow_ones_when_the_log_has_outgrown_them() {
        let mut schedule = schedule();
        schedule.published(5, 99, 1_000);
        assert_eq!(schedule.due(ms(1_000), 6, false), DueWork::Snapshot);
        schedule.started();
        schedule.published(6, 100, 20 << 20);
        assert_eq!(schedule.due(ms(2_000), 7, false), DueWork::Sync);
        schedule.appended(20 << 20);
        assert_eq!(schedule.due(ms(3_000), 8, false), DueWork::Sync);
        schedule.appended(1);
        assert_eq!(schedule.due(ms(4_000), 9, true), DueWork::Sync, "one at a time");
        assert_eq!(schedule.due(ms(5_000), 9, false), DueWork::Snapshot);
    }

    #[test]
    fn a_failed_snapshot_is_tried_again_after_longer_and_longer_pauses() {
        let mut schedule = schedule();
        let mut tried = Vec::new();
        for second in 1..=40 {
            if schedule.due(ms(second * 1_000), second, false) == DueWork::Snapshot {
                tried.push(second);
                schedule.started();
                schedule.failed();
            }
        }
        assert_eq!(tried, [1, 3, 6, 11, 20, 37]);
        schedule.published(40, 1, 1);
        assert_eq!(schedule.due(ms(41_000), 41, false), DueWork::Snapshot);
    }

    #[test]
    fn an_interval_of_zero_is_never() {
        let mut schedule = SnapshotSchedule::new(SnapshotSettings { interval_ms: 0 }, 0, ms(0));
        assert_eq!((schedule.due(ms(9_999), 5, false), schedule.next()), (DueWork::Nothing, None));
    }
}
