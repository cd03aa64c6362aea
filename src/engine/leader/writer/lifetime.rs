//! The start of a Writer, and its end: by a stop, or for the next role of the process.

use super::{CommitGroup, PendingAcks, Writer, WriterSettings, queue_work::QueueWork};
use crate::{
    base::clock::{LoggedClock, Monotonic},
    base::position::Sequence,
    data::counts::quotas::SharedQuotas,
    data::store::Store,
    storage::manifest::Manifest,
    storage::recovery::{OpenFiles, RecoveredDatabase},
    storage::snapshot::SnapshotSchedule,
    storage::wal::{CheckSchedule, Log},
};

impl<T> Writer<T> {
    /// A Writer over what recovery has settled. `snapshot` is the sequence the newest snapshot is a state at, `clock`
    /// what records are stamped with from `now` on.
    ///
    /// # Panics
    /// If the clock reads less than what is logged already.
    pub fn new(
        store: Store,
        log: Log,
        settings: WriterSettings,
        snapshot: Sequence,
        clock: LoggedClock,
        now: Monotonic,
    ) -> Self {
        assert!(clock.read(now) >= store.time_ms(), "logged time never goes back");
        Self {
            settings,
            group: CommitGroup::new(&store, log.analyzer(), settings.counters),
            schedule: SnapshotSchedule::new(settings.snapshot, snapshot, now),
            store,
            log,
            members: Vec::new(),
            waiting: PendingAcks::new(settings.ack_timeout_ms),
            due: Vec::new(),
            wants_durable: false,
            stepped_down: false,
            syncing: false,
            snapshot_running: false,
            poisoned: false,
            file_checks: CheckSchedule::new(now),
            files_lost: false,
            disk_full_until: now,
            expiry_paused_until: now,
            expiry_ended: false,
            entries_written: 0,
            queue_work: QueueWork::new(&settings.counters, now),
            clock,
        }
    }

    /// Goes on with a schedule of snapshots that the role before has counted on.
    #[must_use]
    pub fn with_schedule(mut self, schedule: Option<SnapshotSchedule>) -> Self {
        self.schedule = schedule.unwrap_or(self.schedule);
        self
    }

    /// Has namespaces keep to these quotas.
    #[must_use]
    pub fn with_quotas(mut self, quotas: SharedQuotas) -> Self {
        self.group.set_quotas(quotas);
        self
    }

    /// Returns whether everything is answered, synced and at rest.
    pub fn is_at_rest(&self) -> bool {
        let synced = self.poisoned || self.log.synced_upto() == self.log.sequence();
        synced && !self.syncing && !self.snapshot_running && self.waiting.is_empty()
    }

    /// The state.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// State, log, and the sequence of the newest snapshot; `None` if writing has ended in failure.
    pub(in crate::engine::leader) fn into_parts(self) -> Option<(Store, Log, Sequence)> {
        (!self.poisoned).then(|| (self.store, self.log, self.schedule.last()))
    }

    /// Has a snapshot that is being written end soon, with an error: this role ends, and nobody is to wait for that.
    pub fn cancel_snapshot(&mut self) {
        if self.snapshot_running {
            self.log.end_live_work();
        }
    }

    /// What the next role of this process goes on with, of a Writer at rest; `None` if writing has ended in failure:
    /// what the files hold has to be read then. `manifest` is what the MANIFEST says.
    ///
    /// # Panics
    /// If the Writer is not at rest.
    pub fn hand_over(self, manifest: Manifest) -> Option<RecoveredDatabase> {
        assert!(self.is_at_rest(), "a role ends once everything is answered and synced");
        let Self { store, log, schedule, poisoned, .. } = self;
        (!poisoned).then(|| RecoveredDatabase::with_open_files(manifest, store, OpenFiles { log, schedule }))
    }
}
